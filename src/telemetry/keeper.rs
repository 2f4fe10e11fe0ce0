//! Answers that are kept until their labels come: from the request path into a bounded
//! queue, which never waits.

use std::sync::Arc;
use std::time::SystemTime;

use prometheus::IntCounter;

use crate::telemetry::ArmRole;
use crate::types::{
    AnswerReader, Data, Digest, Dim, Full, GROUPINGS_MAX, GroupSource, Grouping, Inbox,
    KEPT_ROWS_MAX, LabelSettings, ModelName, ModelSettings, OTHER, PredictionId, RowAnswer, Share,
    Signature, Tensor, VersionId,
};

/// Requests that may wait to be stored.
const WAITING_MAX: usize = 200_000;
/// And their bytes.
const WAITING_BYTES_MAX: usize = 64 * 1024 * 1024;

/// The group of a row in each grouping.
pub type Groups = [u8; GROUPINGS_MAX];

/// Who answered: a version in a role, at a share that was fixed before.
#[derive(Clone, Debug, PartialEq)]
pub struct Answerer {
    /// The model.
    pub model: ModelName,
    /// The version.
    pub version: VersionId,
    /// Its content.
    pub digest: Digest,
    /// Champion or canary.
    pub role: ArmRole,
    /// The canary's share then, and the salt of the split; `None` without a canary.
    pub split: Option<([u8; 16], Share)>,
    /// How its labels are read.
    pub labels: Arc<LabelSettings>,
}

/// An answered request.
#[derive(Clone, Debug, PartialEq)]
pub struct Kept {
    /// Its id.
    pub id: PredictionId,
    /// When it was answered, in milliseconds since 1970.
    pub at: i64,
    /// By whom.
    pub answerer: Arc<Answerer>,
    /// Where its routing key lies in the split, if it has one and there is a canary.
    pub key: Option<u64>,
    /// Its rows.
    pub rows: Vec<KeptRow>,
}

/// What is known of a request beside its tensors.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// The answer's id.
    pub id: PredictionId,
    /// Where its routing key lies in the split, if it has one and there is a canary.
    pub key: Option<u64>,
    /// Its groups, as far as headers and parameters tell them.
    pub groups: Groups,
}

/// A row of it.
#[derive(Clone, Debug, PartialEq)]
pub struct KeptRow {
    /// What was answered; `None` if that is no class of the model's, or not a number.
    pub answer: Option<RowAnswer>,
    /// Its groups.
    pub groups: Groups,
}

/// Everything that waits to be stored.
pub type KeptInbox = Inbox<Kept>;

/// An empty queue.
pub(super) const fn inbox() -> KeptInbox {
    Inbox::new(WAITING_MAX, WAITING_BYTES_MAX)
}

/// Counters of what was kept and what was not, of one version.
#[derive(Clone, Debug)]
pub struct KeptCounters {
    /// Requests.
    pub kept: IntCounter,
    /// Requests that were not: too many waited.
    pub queue_count: IntCounter,
    /// Requests that were not: too many bytes waited.
    pub queue_bytes: IntCounter,
    /// Rows beyond 1,024 of a request.
    pub rows: IntCounter,
}

/// Keeps answers of one answerer.
pub struct Keeper {
    answerer: Arc<Answerer>,
    reader: AnswerReader,
    /// Where the value of a grouping by column is: tensor and column.
    columns: Vec<Option<(usize, usize)>>,
    inbox: Arc<KeptInbox>,
    counters: KeptCounters,
}

impl Keeper {
    /// Keeps what `answerer` answers.
    pub(super) fn new(
        answerer: Answerer,
        signature: &Signature,
        settings: &ModelSettings,
        inbox: Arc<KeptInbox>,
        counters: KeptCounters,
    ) -> Self {
        let groupings = answerer.labels.groupings.iter();
        let columns = groupings.map(|grouping| match &grouping.source {
            GroupSource::Column(name) => {
                let place = place_of(name, signature, &settings.features);
                if place.is_none() {
                    let (model, version) = (&answerer.model, answerer.version);
                    tracing::warn!(%model, %version, group = grouping.name, column = name,
                        "model.toml: no input has this column; all rows count as \"(other)\"");
                }
                place
            }
            GroupSource::Header(_) | GroupSource::Parameter(_) => None,
        });
        Self {
            columns: columns.collect(),
            reader: AnswerReader::new(signature, settings),
            answerer: Arc::new(answerer),
            inbox,
            counters,
        }
    }

    /// Keeps an answer, if its id is among the share that is kept.
    pub fn keep(&self, asked: Asked, inputs: &[Tensor], outputs: &[Tensor]) {
        let Asked { id, key, groups } = asked;
        if !id.is_among(self.answerer.labels.keep) {
            return;
        }
        let rows = outputs.first().map_or(0, Tensor::rows);
        let kept: Vec<_> = (0..rows.min(KEPT_ROWS_MAX))
            .map(|row| KeptRow {
                answer: self.reader.row(&self.answerer.labels, outputs, row),
                groups: self.groups(groups, inputs, row),
            })
            .collect();
        let bytes = size_of::<Kept>() + kept.iter().map(bytes).sum::<usize>();
        let answerer = Arc::clone(&self.answerer);
        match self.inbox.push(Kept { id, at: now(), answerer, key, rows: kept }, bytes) {
            Ok(()) => self.counters.kept.inc(),
            Err((_, Full::Count)) => self.counters.queue_count.inc(),
            Err((_, Full::Bytes)) => self.counters.queue_bytes.inc(),
        }
        if let Some(more) = rows.checked_sub(KEPT_ROWS_MAX).filter(|more| *more > 0) {
            self.counters.rows.inc_by(u64::try_from(more).unwrap_or(u64::MAX));
        }
    }

    fn groups(&self, mut groups: Groups, inputs: &[Tensor], row: usize) -> Groups {
        let groupings = &self.answerer.labels.groupings;
        for ((group, column), grouping) in groups.iter_mut().zip(&self.columns).zip(groupings) {
            let Some((tensor, column)) = column else { continue };
            *group = inputs.get(*tensor).map_or(OTHER, |tensor| {
                let width = tensor.data().len().checked_div(tensor.rows()).unwrap_or(0);
                group_of(grouping, tensor.data(), row * width + column)
            });
        }
        groups
    }
}

/// The group of a value, which is compared as people write it in its own datatype.
fn group_of(grouping: &Grouping, data: &Data, at: usize) -> u8 {
    let text = match data {
        Data::Bytes(texts) => return texts.get(at).map_or(OTHER, |text| grouping.group(text)),
        Data::Bool(truths) => truths.get(at).map(ToString::to_string),
        Data::Fp32(numbers) => numbers.get(at).map(ToString::to_string),
        Data::Fp16(numbers) => numbers.get(at).map(ToString::to_string),
        numbers => numbers.as_f64(at).map(|number| number.to_string()),
    };
    text.map_or(OTHER, |text| grouping.group(text.as_bytes()))
}

/// Where a column is: by its name among the features of the only input, or as an input of
/// its own.
fn place_of(name: &str, signature: &Signature, features: &[String]) -> Option<(usize, usize)> {
    if let ([_], Some(column)) = (&signature.inputs[..], features.iter().position(|f| f == name)) {
        return Some((0, column));
    }
    let tensor = signature.inputs.iter().position(|spec| spec.name == name)?;
    let narrow = signature.inputs[tensor].shape.iter().skip(1).all(|dim| *dim == Dim::Fixed(1));
    narrow.then_some((tensor, 0))
}

fn bytes(row: &KeptRow) -> usize {
    let scores = match &row.answer {
        Some(RowAnswer::Class { scores, .. }) => size_of_val(&scores[..]),
        _ => 0,
    };
    size_of::<KeptRow>() + scores
}

fn now() -> i64 {
    let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;
    use crate::types::{Datatype, TensorSpec};

    fn rows(name: &str, datatype: Datatype, width: Option<usize>) -> TensorSpec {
        let mut shape = vec![Dim::Symbol("N".into())];
        shape.extend(width.map(Dim::Fixed));
        TensorSpec::new(name, datatype, shape)
    }

    fn grouping(name: &str, source: GroupSource, values: &[&str]) -> Grouping {
        let values = values.iter().map(|value| (*value).to_owned()).collect();
        Grouping { name: name.into(), source, values }
    }

    fn keeper(metrics: &Metrics, keep: Share) -> Keeper {
        let labels = LabelSettings {
            keep,
            classes: vec![],
            wrong_beyond: None,
            wrong_max: None,
            groupings: vec![
                grouping("plan", GroupSource::Column("plan".into()), &["0", "1"]),
                grouping("land", GroupSource::Header("x-land".parse().unwrap()), &["de"]),
            ],
        };
        let settings = ModelSettings {
            features: vec!["age".into(), "plan".into()],
            labels: Some(Arc::new(labels)),
            ..ModelSettings::default()
        };
        let signature = Signature::new(
            vec![rows("x", Datatype::Fp32, Some(2))],
            vec![rows("label", Datatype::Int64, None)],
        );
        let (model, version) = (ModelName::new("m").unwrap(), VersionId::new(3).unwrap());
        let (digest, role) = (Digest::new([7; 32]), ArmRole::Champion);
        let labels = settings.labels.clone().unwrap();
        let answerer = Answerer { model, version, digest, role, split: None, labels };
        metrics.keeper(answerer, &signature, &settings)
    }

    const ID: PredictionId = PredictionId([1; 16]);

    fn answer(rows: usize, x: Vec<f32>, labels: Vec<i64>) -> [Vec<Tensor>; 2] {
        [
            vec![Tensor::new("x", vec![rows, 2], Data::Fp32(x)).unwrap()],
            vec![Tensor::new("label", vec![rows], Data::Int64(labels)).unwrap()],
        ]
    }

    #[test]
    fn an_answer_is_kept_with_its_groups() {
        let metrics = Metrics::new();
        let keeper = keeper(&metrics, Share::ALL);
        let [inputs, outputs] = answer(2, vec![30.0, 1.0, 40.0, 5.0], vec![1, 99]);
        let mut groups = [OTHER; GROUPINGS_MAX];
        groups[1] = 0;
        keeper.keep(Asked { id: ID, key: Some(7), groups }, &inputs, &outputs);
        let kept = metrics.kept().pop().unwrap();
        assert_eq!((kept.id, kept.answerer.version.get()), (ID, 3));
        assert_eq!(kept.key, Some(7));
        let [one, two] = &kept.rows[..] else { panic!("{kept:?}") };
        assert_eq!(one.answer, Some(RowAnswer::Class { class: 1, scores: vec![] }));
        assert_eq!((&one.groups[..2], &two.groups[..2]), (&[1, 0][..], &[OTHER, 0][..]));
        assert_eq!(two.answer, None, "99 is no class");
        assert!(metrics.kept().is_empty());
    }

    #[test]
    fn of_a_large_request_the_first_rows_are_kept_and_the_others_counted() {
        let metrics = Metrics::new();
        let [inputs, outputs] = answer(1500, vec![0.0; 3000], vec![0; 1500]);
        let asked = Asked { id: ID, key: None, groups: [OTHER; GROUPINGS_MAX] };
        keeper(&metrics, Share::ALL).keep(asked, &inputs, &outputs);
        assert_eq!(metrics.kept().pop().unwrap().rows.len(), 1024);
        let text = metrics.render();
        let line =
            "foreshadow_predictions_dropped_total{model=\"m\",reason=\"rows\",version=\"3\"} 476";
        assert!(text.contains(line), "{text}");
    }

    #[test]
    fn a_share_is_kept_by_id() {
        let metrics = Metrics::new();
        let keeper = keeper(&metrics, Share::from_percent(50.0).unwrap());
        let [inputs, outputs] = answer(1, vec![0.0; 2], vec![0]);
        for id in [PredictionId([0xff; 16]), ID] {
            let asked = Asked { id, key: None, groups: [OTHER; GROUPINGS_MAX] };
            keeper.keep(asked, &inputs, &outputs);
        }
        assert_eq!((metrics.kept().pop().unwrap().id, metrics.kept().len()), (ID, 0));
    }
}
