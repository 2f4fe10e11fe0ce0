//! Copies of answered requests, on their way from the request path to the thread that
//! stores them.
//!
//! The id of its answer says whether a request is of the sample. If it is, its tensors go
//! onto a queue that is bounded by number and bytes, behind its reply ([`Drawn`]); that wakes
//! nobody and waits for nobody. What does not fit is dropped and counted.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::SystemTime;

use prometheus::{IntCounter, IntCounterVec};

use crate::telemetry::metrics::Declare;
use crate::telemetry::{ArmRole, Metrics, Watch};
use crate::types::{
    CaptureRule, Datatype, Dim, Full, Inbox, ModelName, ModelSettings, PredictionId, Signature,
    Tensor, TensorSpec,
};

/// What a record holds besides the elements of its tensors, about, in bytes.
const RECORD_BYTES: usize = 256;
/// What becomes of each of its rows in memory, besides their values, about, in bytes: a
/// time, ids and so on. A request of few bytes may have millions of rows.
const ROW_BYTES: usize = 256;
/// And what a value takes besides that is allocated by itself.
const VALUE_BYTES: usize = 96;

/// An answered request that is to be stored.
pub struct Record {
    /// How its model's owner wants it.
    pub tap: Arc<Tap>,
    /// The version that answered.
    pub version: Arc<Watch>,
    /// Why that one did.
    pub role: ArmRole,
    /// When it was answered.
    pub time: SystemTime,
    /// The reply's `X-Request-Id`.
    pub request_id: Box<str>,
    /// The reply's `X-Prediction-Id`.
    pub prediction_id: Box<str>,
    /// Its rows; `None` where its tensors do not have a row for each of them.
    pub rows: Option<usize>,
    /// In the signature's order; none where only outputs are stored.
    pub inputs: Vec<Tensor>,
    /// In the signature's order.
    pub outputs: Vec<Tensor>,
}

/// Why a drawn request is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CaptureDrop {
    /// Too many waited.
    QueueCount,
    /// Too many bytes waited.
    QueueBytes,
    /// `drop` or `hash` names a column that its version has not, or its outputs are not
    /// those that it says.
    Columns,
    /// A text that would be a value of a column is no UTF-8.
    Text,
    /// The file could not be written.
    Disk,
}

impl CaptureDrop {
    /// Every reason.
    pub const ALL: [Self; 5] =
        [Self::QueueCount, Self::QueueBytes, Self::Columns, Self::Text, Self::Disk];

    /// The metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueCount => "queue_count",
            Self::QueueBytes => "queue_bytes",
            Self::Columns => "columns",
            Self::Text => "text",
            Self::Disk => "disk",
        }
    }
}

/// What became of a model's drawn requests.
#[derive(Clone)]
pub struct CaptureStats {
    sampled: IntCounter,
    requests: IntCounter,
    rows: IntCounter,
    files: IntCounter,
    dropped: [IntCounter; CaptureDrop::ALL.len()],
}

impl CaptureStats {
    /// So many requests and rows are in a file that is whole.
    pub fn stored(&self, requests: u64, rows: u64) {
        self.requests.inc_by(requests);
        self.rows.inc_by(rows);
        self.files.inc();
    }

    /// So many requests are not stored.
    pub fn dropped(&self, reason: CaptureDrop, requests: u64) {
        let counters = CaptureDrop::ALL.iter().zip(&self.dropped);
        for (_, counter) in counters.filter(|(of, _)| **of == reason) {
            counter.inc_by(requests);
        }
    }

    /// The counts so far.
    #[must_use]
    pub fn snapshot(&self) -> CaptureSnapshot {
        let dropped = CaptureDrop::ALL.iter().zip(&self.dropped);
        CaptureSnapshot {
            sampled: self.sampled.get(),
            requests: self.requests.get(),
            rows: self.rows.get(),
            files: self.files.get(),
            dropped: dropped
                .map(|(reason, counter)| (reason.as_str(), counter.get()))
                .filter(|(_, count)| *count > 0)
                .collect(),
        }
    }
}

/// What was counted of a model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureSnapshot {
    /// Requests that were drawn: stored, dropped, or still on their way.
    pub sampled: u64,
    /// Requests in files that are whole.
    pub requests: u64,
    /// Rows in them.
    pub rows: u64,
    /// The files.
    pub files: u64,
    /// Requests that are not stored, by reason.
    pub dropped: BTreeMap<&'static str, u64>,
}

/// Takes a model's requests, as its owner wants them.
pub struct Tap {
    number: u64,
    model: ModelName,
    rule: CaptureRule,
    features: Vec<String>,
    stats: CaptureStats,
    queue: Arc<Inbox<Record>>,
}

impl Tap {
    /// Unlike that of any other.
    #[must_use]
    pub const fn number(&self) -> u64 {
        self.number
    }

    /// The model.
    #[must_use]
    pub const fn model(&self) -> &ModelName {
        &self.model
    }

    /// How its owner wants it.
    #[must_use]
    pub const fn rule(&self) -> &CaptureRule {
        &self.rule
    }

    /// What the columns of its input are called.
    #[must_use]
    pub fn features(&self) -> &[String] {
        &self.features
    }

    /// What became of its requests.
    #[must_use]
    pub const fn stats(&self) -> &CaptureStats {
        &self.stats
    }

    /// Whether a request that this version answered is of the sample, by the id of its
    /// answer: of the same share the same ones are kept for labels.
    pub(super) fn draw(
        self: &Arc<Self>,
        version: &Arc<Watch>,
        role: ArmRole,
        id: PredictionId,
    ) -> Option<Drawn> {
        if !id.is_among(self.rule.sample) {
            return None;
        }
        self.stats.sampled.inc();
        let (tap, version) = (Arc::clone(self), Arc::clone(version));
        Some(Drawn { tap, version, role, time: SystemTime::now() })
    }
}

/// An answered request that was drawn: it is to be offered once its reply is on its way.
#[must_use = "what was drawn is counted, and has to be offered"]
pub struct Drawn {
    tap: Arc<Tap>,
    version: Arc<Watch>,
    role: ArmRole,
    time: SystemTime,
}

impl Drawn {
    /// Offers what was asked and answered. Never waits. What is borrowed is cloned, unless
    /// there is no room for it.
    pub fn offer(self, offered: Offered<'_>) {
        let Self { tap, version, role, time } = self;
        let Offered { inputs, outputs, request_id, prediction_id } = offered;
        let none: &[Tensor] = &[];
        let inputs = if tap.rule.outputs_only { Cow::Borrowed(none) } else { inputs };
        let rows = rows_of(version.signature(), &inputs, &outputs);
        let bytes = bytes_of(&inputs, &outputs, rows, !tap.rule.hash.is_empty());
        let full = match tap.queue.full_for(bytes) {
            Some(full) => full,
            None => {
                let record = Record {
                    tap: Arc::clone(&tap),
                    version,
                    role,
                    time,
                    request_id: String::from_utf8_lossy(request_id).into(),
                    prediction_id: prediction_id.into(),
                    rows,
                    inputs: inputs.into_owned(),
                    outputs: outputs.into_owned(),
                };
                match tap.queue.push(record, bytes) {
                    Ok(()) => return,
                    Err((_, full)) => full,
                }
            }
        };
        let reason = match full {
            Full::Count => CaptureDrop::QueueCount,
            Full::Bytes => CaptureDrop::QueueBytes,
        };
        tap.stats.dropped(reason, 1);
    }
}

/// What is offered of an answered request.
pub struct Offered<'a> {
    /// In the signature's order.
    pub inputs: Cow<'a, [Tensor]>,
    /// In the signature's order.
    pub outputs: Cow<'a, [Tensor]>,
    /// The reply's `X-Request-Id`.
    pub request_id: &'a [u8],
    /// The reply's `X-Prediction-Id`.
    pub prediction_id: &'a str,
}

/// The rows of a request; `None` where its tensors do not have a row for each of them.
/// Without inputs, only outputs are stored of it.
fn rows_of(signature: &Signature, inputs: &[Tensor], outputs: &[Tensor]) -> Option<usize> {
    let rows = inputs.first().or(outputs.first()).map_or(0, Tensor::rows);
    let asked: &[TensorSpec] = if inputs.is_empty() { &[] } else { &signature.inputs };
    let may = |spec: &TensorSpec| spec.is_batched() || spec.shape.first() == Some(&Dim::Fixed(1));
    let is = |tensor: &Tensor| !tensor.shape().is_empty() && tensor.rows() == rows;
    let each =
        asked.iter().chain(&signature.outputs).all(may) && inputs.iter().chain(outputs).all(is);
    each.then_some(rows)
}

/// The memory that a request takes on its way into a file, about, in bytes.
fn bytes_of(inputs: &[Tensor], outputs: &[Tensor], rows: Option<usize>, hashes: bool) -> usize {
    // Halves, texts and hashes have an allocation for each.
    let apart =
        |tensor: &Tensor| hashes || matches!(tensor.datatype(), Datatype::Fp16 | Datatype::Bytes);
    let bytes = |tensor: &Tensor| match apart(tensor) {
        true => tensor.byte_len().saturating_add(tensor.data().len().saturating_mul(VALUE_BYTES)),
        false => tensor.byte_len(),
    };
    let tensors = inputs.iter().chain(outputs).map(bytes).fold(0, usize::saturating_add);
    let rows = rows.unwrap_or(1).saturating_mul(ROW_BYTES);
    tensors.saturating_add(rows).saturating_add(RECORD_BYTES)
}

/// All taps, the queue behind them, and their counts. It keeps no tap.
pub struct Captures {
    queue: OnceLock<Arc<Inbox<Record>>>,
    taps: Mutex<Vec<Weak<Tap>>>,
    made: AtomicU64,
    sampled: IntCounterVec,
    requests: IntCounterVec,
    rows: IntCounterVec,
    files: IntCounterVec,
    dropped: IntCounterVec,
}

impl Captures {
    pub(super) fn declare(d: &Declare<'_>) -> Self {
        Self {
            queue: OnceLock::new(),
            taps: Mutex::default(),
            made: AtomicU64::new(0),
            sampled: d.counters(
                "foreshadow_capture_sampled_total",
                "Requests of the sample: stored, dropped, or on their way into a file.",
                &["model"],
            ),
            requests: d.counters(
                "foreshadow_capture_requests_total",
                "Requests that were stored, in files that are whole.",
                &["model"],
            ),
            rows: d.counters(
                "foreshadow_capture_rows_total",
                "Rows that were stored, in files that are whole.",
                &["model"],
            ),
            files: d.counters(
                "foreshadow_capture_files_total",
                "Files of stored requests that were finished.",
                &["model"],
            ),
            dropped: d.counters(
                "foreshadow_capture_dropped_total",
                "Requests of the sample that were not stored, by reason.",
                &["model", "reason"],
            ),
        }
    }

    /// Opens the queue, for `count_max` requests and `bytes_max` bytes, and hands it to
    /// whoever empties it; `None` if that was done before.
    pub fn open(&self, count_max: usize, bytes_max: usize) -> Option<Arc<Inbox<Record>>> {
        let queue = Arc::new(Inbox::new(count_max, bytes_max));
        self.queue.set(Arc::clone(&queue)).ok().map(|()| queue)
    }

    /// The tap that a model's settings ask for: the present one if nothing has changed.
    /// `None` where they ask for none, or where nobody empties the queue.
    pub fn tap(&self, model: &ModelName, settings: &ModelSettings) -> Option<Arc<Tap>> {
        let (rule, queue) = (settings.capture.as_deref()?, self.queue.get()?);
        let mut taps = self.lock();
        let same = |tap: &Arc<Tap>| tap.rule == *rule && tap.features == settings.features;
        let newest = taps.iter().filter_map(Weak::upgrade).rfind(|tap| tap.model == *model);
        if let Some(present) = newest.filter(same) {
            return Some(present);
        }
        let number = self.made.fetch_add(1, Relaxed);
        let tap = Arc::new(Tap {
            number,
            model: model.clone(),
            rule: rule.clone(),
            features: settings.features.clone(),
            stats: self.stats(model),
            queue: Arc::clone(queue),
        });
        taps.push(Arc::downgrade(&tap));
        Some(tap)
    }

    /// How many taps were made so far.
    #[must_use]
    pub fn made(&self) -> u64 {
        self.made.load(Relaxed)
    }

    /// The taps that are in use; the newest of a model is the last.
    #[must_use]
    pub fn taps(&self) -> Vec<Arc<Tap>> {
        self.lock().iter().filter_map(Weak::upgrade).collect()
    }

    fn stats(&self, model: &ModelName) -> CaptureStats {
        let model = model.as_str();
        CaptureStats {
            sampled: self.sampled.with_label_values(&[model]),
            requests: self.requests.with_label_values(&[model]),
            rows: self.rows.with_label_values(&[model]),
            files: self.files.with_label_values(&[model]),
            dropped: CaptureDrop::ALL
                .map(|reason| self.dropped.with_label_values(&[model, reason.as_str()])),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Tap>>> {
        self.taps.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Metrics {
    /// Copies of answered requests, on their way to be stored.
    #[must_use]
    pub const fn captures(&self) -> &Captures {
        &self.captures
    }

    /// Removes the series of models that are not captured any more, and of those that are
    /// gone.
    pub fn sweep_captures(&self) {
        let captures = &self.captures;
        // A tap that is just made finds its series in place: it is made under this lock.
        let mut taps = captures.lock();
        taps.retain(|tap| tap.strong_count() > 0);
        let alive: Vec<_> = taps.iter().filter_map(Weak::upgrade).collect();
        use prometheus::core::Collector as _;
        let mut shown: Vec<String> = Vec::new();
        for family in captures.requests.collect() {
            let labels = family.get_metric().iter().flat_map(|metric| metric.get_label());
            shown.extend(labels.map(|label| label.value().to_owned()));
        }
        for model in shown {
            if alive.iter().any(|tap| tap.model.as_str() == model) {
                continue;
            }
            let Captures { sampled, requests, rows, files, dropped, .. } = captures;
            let families = [sampled, requests, rows, files, dropped];
            families.into_iter().for_each(|family| self.remove(family, &model, None));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Data, Digest, Share, VersionId};

    fn settings(percent: f64) -> ModelSettings {
        let sample = Share::from_percent(percent).unwrap();
        let rule = CaptureRule { sample, ..CaptureRule::default() };
        ModelSettings { capture: Some(Arc::new(rule)), ..ModelSettings::default() }
    }

    fn watch() -> Arc<Watch> {
        let spec = TensorSpec::new("x", Datatype::Fp32, vec![Dim::Symbol("N".into())]);
        let signature = Signature::new(vec![spec.clone()], vec![spec]);
        let (model, version) = (model("m"), VersionId::new(1).unwrap());
        Watch::new(model, version, Digest::new([7; 32]), signature)
    }

    fn model(name: &str) -> ModelName {
        ModelName::new(name).unwrap()
    }

    fn offer(watch: &Arc<Watch>, rows: usize) {
        let x = [Tensor::new("x", vec![rows], Data::Fp32(vec![1.0; rows])).unwrap()];
        let Some(drawn) = watch.draw(ArmRole::Champion, PredictionId([1; 16])) else { return };
        let (inputs, outputs) = ((&x).into(), (&x).into());
        drawn.offer(Offered { inputs, outputs, request_id: b"r-1", prediction_id: "p-1" });
    }

    #[test]
    fn the_sample_is_drawn_by_id() {
        let metrics = Metrics::new();
        let _queue = metrics.captures().open(2, 10_000).unwrap();
        let watch = watch();
        let tap = metrics.captures().tap(&model("m"), &settings(50.0)).unwrap();
        watch.capture_by(Some(Arc::clone(&tap)));
        let drawn = |id| watch.draw(ArmRole::Champion, PredictionId([id; 16])).is_some();
        assert_eq!([0, 0x7f, 0x80, 0xff].map(drawn), [true, true, false, false]);
        assert_eq!(tap.stats().snapshot().sampled, 2);
    }

    #[test]
    fn what_does_not_fit_is_dropped_and_counted() {
        let metrics = Metrics::new();
        assert!(metrics.captures().tap(&model("m"), &settings(100.0)).is_none(), "nobody empties");
        let queue = metrics.captures().open(2, 10_000).unwrap();
        assert!(metrics.captures().open(2, 10_000).is_none());
        let watch = watch();
        offer(&watch, 1);
        assert!(queue.is_empty(), "nobody asked for it");
        let tap = metrics.captures().tap(&model("m"), &settings(100.0)).unwrap();
        watch.capture_by(Some(Arc::clone(&tap)));
        // Of few bytes, but of many rows.
        offer(&watch, 38);
        [1, 2, 3].into_iter().for_each(|rows| offer(&watch, rows));
        let record = queue.pop().unwrap();
        assert_eq!((&*record.request_id, &*record.prediction_id), ("r-1", "p-1"));
        assert_eq!((record.inputs[0].rows(), record.outputs[0].rows()), (1, 1));
        let counted = tap.stats().snapshot();
        assert_eq!((record.rows, counted.sampled), (Some(1), 4));
        let dropped = counted.dropped;
        assert_eq!(dropped, BTreeMap::from([("queue_bytes", 1), ("queue_count", 1)]));
        let line = "foreshadow_capture_dropped_total{model=\"m\",reason=\"queue_bytes\"} 1";
        assert!(metrics.render().contains(line), "{}", metrics.render());
    }

    #[test]
    fn a_tap_stays_while_nothing_changes_and_its_series_go_with_the_last_one() {
        let metrics = Metrics::new();
        let captures = metrics.captures();
        captures.open(1, 1);
        let one = captures.tap(&model("m"), &settings(5.0)).unwrap();
        assert!(Arc::ptr_eq(&one, &captures.tap(&model("m"), &settings(5.0)).unwrap()));
        let two = captures.tap(&model("m"), &settings(6.0)).unwrap();
        let other = captures.tap(&model("other"), &settings(6.0)).unwrap();
        assert!(one.number() != two.number() && two.number() != other.number());
        drop(one);
        metrics.sweep_captures();
        assert!(metrics.render().contains("foreshadow_capture_rows_total{model=\"m\"} 0"));
        drop(two);
        metrics.sweep_captures();
        let shown = metrics.render();
        let of = |name: &str| {
            let label = format!("{{model=\"{name}\"");
            let lines = shown.lines().filter(|line| line.starts_with("foreshadow_capture_"));
            lines.filter(|line| line.contains(&label)).count()
        };
        assert_eq!((of("m"), of("other"), captures.taps().len()), (0, 9, 1));
    }
}
