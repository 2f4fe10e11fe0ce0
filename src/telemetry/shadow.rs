//! Counts of one shadow: what was compared, what was dropped, and why.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prometheus::{Counter, Histogram, IntCounter};
use serde::Serialize;

use crate::telemetry::FineHistogram;
use crate::telemetry::arm::mean_seconds;

/// Why a copy was not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DropReason {
    /// The queue held as many copies as it may.
    QueueCount,
    /// The queue held as many bytes as it may.
    QueueBytes,
    /// The process is shutting down.
    Shutdown,
}

impl DropReason {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::QueueCount, Self::QueueBytes, Self::Shutdown];

    /// The metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::QueueCount => "queue_count",
            Self::QueueBytes => "queue_bytes",
            Self::Shutdown => "shutdown",
        }
    }
}

/// Why a copy that was run could not be compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShadowFailure {
    /// The shadow does not take the champion's inputs.
    InputMismatch,
    /// The engine returned an error.
    Error,
    /// The engine panicked.
    Panic,
    /// The outputs have other names, datatypes or shapes.
    OutputMismatch,
    /// It ran longer than it may; the thread is given up when it can be.
    Timeout,
}

impl ShadowFailure {
    /// Every failure.
    pub const ALL: [Self; 5] =
        [Self::InputMismatch, Self::Error, Self::Panic, Self::OutputMismatch, Self::Timeout];

    /// The metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::InputMismatch => "input_mismatch",
            Self::Error => "error",
            Self::Panic => "panic",
            Self::OutputMismatch => "output_mismatch",
            Self::Timeout => "timeout",
        }
    }
}

/// Who runs a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// The shadow, as it always does.
    Shadow,
    /// The shadow, drawn by lot from it and the champion.
    ShadowByLot,
    /// The champion once more, by the same lot.
    Champion,
}

/// How often the champion and a shadow differ from what the champion answered, of
/// copies that were given to either by lot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct NoiseSnapshot {
    /// Copies that the champion ran once more.
    pub champion_compared: u64,
    /// Of these, requests with at least one row that disagrees with its first answer.
    pub champion_disagreed: u64,
    /// Copies that it could not run once more, or not in time.
    pub champion_failed: u64,
    /// Copies that the shadow ran.
    pub shadow_compared: u64,
    /// Of these, requests with at least one row that disagrees.
    pub shadow_disagreed: u64,
}

/// Resolved handles for one shadow.
pub struct ShadowStats {
    compared: IntCounter,
    disagreed: IntCounter,
    rows: IntCounter,
    rows_disagreed: IntCounter,
    failed: [IntCounter; ShadowFailure::ALL.len()],
    dropped: [IntCounter; DropReason::ALL.len()],
    difference: Histogram,
    nonfinite: IntCounter,
    cpu_seconds: Counter,
    cpu_nanos: AtomicU64,
    runs: AtomicU64,
    inference: FineHistogram,
    differences: Mutex<Differences>,
    /// Numbers the lots.
    lots: AtomicU64,
    again: [IntCounter; AGAIN.len()],
}

/// What came of a copy that the champion ran once more, as metric labels.
pub(super) const AGAIN: [&str; 3] = ["agreed", "disagreed", "failed"];

/// Handles from the declared families, in the order of the fields.
pub(super) struct ShadowHandles {
    pub(super) compared: IntCounter,
    pub(super) disagreed: IntCounter,
    pub(super) rows: IntCounter,
    pub(super) rows_disagreed: IntCounter,
    pub(super) failed: [IntCounter; ShadowFailure::ALL.len()],
    pub(super) dropped: [IntCounter; DropReason::ALL.len()],
    pub(super) difference: Histogram,
    pub(super) nonfinite: IntCounter,
    pub(super) cpu_seconds: Counter,
    pub(super) again: [IntCounter; AGAIN.len()],
}

/// Touched by shadow threads and the admin API only, never by a request.
#[derive(Default)]
struct Differences {
    max: Option<f64>,
    mean_sum: f64,
    count: u64,
    noise: NoiseSnapshot,
}

impl ShadowStats {
    pub(super) fn new(handles: ShadowHandles) -> Self {
        Self {
            compared: handles.compared,
            disagreed: handles.disagreed,
            rows: handles.rows,
            rows_disagreed: handles.rows_disagreed,
            failed: handles.failed,
            dropped: handles.dropped,
            difference: handles.difference,
            nonfinite: handles.nonfinite,
            cpu_seconds: handles.cpu_seconds,
            cpu_nanos: AtomicU64::new(0),
            runs: AtomicU64::new(0),
            inference: FineHistogram::default(),
            differences: Mutex::default(),
            lots: AtomicU64::new(0),
            again: handles.again,
        }
    }

    /// The number of the next lot. Called by requests: one atomic addition.
    pub fn next_lot(&self) -> u64 {
        self.lots.fetch_add(1, Relaxed)
    }

    /// Counts a copy that the champion ran once more, and whether it disagreed with
    /// itself; `None` if it could not be compared.
    pub fn again(&self, disagreed: Option<bool>) {
        let mut sums = self.differences.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let noise = &mut sums.noise;
        noise.champion_compared += u64::from(disagreed.is_some());
        noise.champion_disagreed += u64::from(disagreed == Some(true));
        noise.champion_failed += u64::from(disagreed.is_none());
        let label = disagreed.map_or(2, usize::from);
        self.again[label].inc();
    }

    /// Counts a copy that was not run. Called by requests: one atomic addition.
    pub fn dropped(&self, reason: DropReason) {
        self.dropped[reason as usize].inc();
    }

    /// Counts a copy that could not be compared.
    pub fn failed(&self, failure: ShadowFailure) {
        self.failed[failure as usize].inc();
    }

    /// Counts the cost of a run. CPU time is what to compare by: the wall
    /// time of an idle-class thread includes its preemption.
    pub fn ran(&self, wall: Duration, cpu: Duration) {
        self.inference.record(wall);
        self.cpu_seconds.inc_by(cpu.as_secs_f64());
        self.cpu_nanos.fetch_add(u64::try_from(cpu.as_nanos()).unwrap_or(0), Relaxed);
        self.runs.fetch_add(1, Relaxed);
    }

    /// Counts a comparison of `rows` rows, of which `disagreed` differ in
    /// their label (or lie outside the tolerance); `max` and `mean` are the
    /// absolute differences over all the numbers, `max` being infinite where
    /// a number is finite on one side only. That is counted by itself: one
    /// infinity would spoil the sums for good.
    pub fn compared(&self, rows: u64, disagreed: u64, max: f64, mean: f64) {
        self.compared_by(Runs::Shadow, rows, disagreed, max, mean);
    }

    /// The same, of a copy that it may have been given by lot.
    pub fn compared_by(&self, by: Runs, rows: u64, disagreed: u64, max: f64, mean: f64) {
        // A snapshot has all of a comparison or nothing: the judge counts what disagreed
        // among what was compared.
        let mut sums = self.differences.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        self.compared.inc();
        self.rows.inc_by(rows);
        self.rows_disagreed.inc_by(disagreed);
        if disagreed > 0 {
            self.disagreed.inc();
        }
        if by == Runs::ShadowByLot {
            sums.noise.shadow_compared += 1;
            sums.noise.shadow_disagreed += u64::from(disagreed > 0);
        }
        sums.max = Some(sums.max.map_or(max, |most| most.max(max)));
        if max.is_finite() {
            self.difference.observe(max);
            sums.mean_sum += mean;
            sums.count += 1;
        } else {
            self.nonfinite.inc();
        }
    }

    /// The counts so far.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "figures for people")]
    pub fn snapshot(&self) -> ShadowSnapshot {
        let sums = self.differences.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (max, mean) = (sums.max, (sums.count > 0).then(|| sums.mean_sum / sums.count as f64));
        let noise = (sums.noise != NoiseSnapshot::default()).then_some(sums.noise);
        let (compared, disagreed) = (self.compared.get(), self.disagreed.get());
        let (rows, rows_disagreed) = (self.rows.get(), self.rows_disagreed.get());
        drop(sums);
        let named = |names: &[&'static str], counters: &[IntCounter]| {
            let pairs = names.iter().zip(counters).filter(|(_, c)| c.get() > 0);
            pairs.map(|(&name, c)| (name, c.get())).collect()
        };
        ShadowSnapshot {
            compared,
            disagreed,
            rows,
            rows_disagreed,
            disagreement_rate: (rows > 0).then(|| rows_disagreed as f64 / rows as f64),
            failures: named(&ShadowFailure::ALL.map(ShadowFailure::as_str), &self.failed),
            dropped: named(&DropReason::ALL.map(DropReason::as_str), &self.dropped),
            nonfinite: self.nonfinite.get(),
            difference_max: max,
            difference_mean: mean,
            cpu_mean_seconds: mean_seconds(self.cpu_nanos.load(Relaxed), self.runs.load(Relaxed)),
            inference_p50_seconds: self.inference.quantile(0.5).map(|d| d.as_secs_f64()),
            inference_p99_seconds: self.inference.quantile(0.99).map(|d| d.as_secs_f64()),
            noise,
        }
    }
}

/// What one shadow did so far.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ShadowSnapshot {
    /// Requests compared with the champion's answer.
    pub compared: u64,
    /// Of these, requests with at least one row that disagrees.
    pub disagreed: u64,
    /// Rows compared.
    pub rows: u64,
    /// Rows that disagree.
    pub rows_disagreed: u64,
    /// `rows_disagreed / rows`.
    pub disagreement_rate: Option<f64>,
    /// Copies that ran and could not be compared, by reason.
    pub failures: std::collections::BTreeMap<&'static str, u64>,
    /// Copies that did not run, by reason: they could bend the other figures.
    pub dropped: std::collections::BTreeMap<&'static str, u64>,
    /// Compared requests in which a number is finite on one side only; the
    /// mean difference leaves them out.
    pub nonfinite: u64,
    /// Largest absolute difference of any number; infinite (null in JSON, with
    /// `nonfinite` above 0) where one was finite on one side only.
    pub difference_max: Option<f64>,
    /// Mean over the requests of their mean absolute difference.
    pub difference_mean: Option<f64>,
    /// Mean CPU time per run, in seconds.
    pub cpu_mean_seconds: Option<f64>,
    /// Median wall time in the engine, in seconds; includes preemption.
    pub inference_p50_seconds: Option<f64>,
    /// 99th percentile of the wall time in the engine; includes preemption.
    pub inference_p99_seconds: Option<f64>,
    /// How often the champion differs from itself, where the guard `noise` is on.
    pub noise: Option<NoiseSnapshot>,
}

#[cfg(test)]
mod tests {
    use super::{NoiseSnapshot, Runs};
    use crate::telemetry::Metrics;
    use crate::types::{ModelName, VersionId};

    #[test]
    fn the_champions_noise_is_no_figure_of_the_shadows() {
        let metrics = Metrics::new();
        let (model, one) = (ModelName::new("m").unwrap(), VersionId::new(1).unwrap());
        let stats = metrics.shadow(&model, one);
        stats.compared(1, 1, 0.5, 0.5);
        assert_eq!(stats.snapshot().noise, None);
        stats.compared_by(Runs::ShadowByLot, 4, 2, 0.5, 0.5);
        for disagreed in [Some(true), Some(false), Some(false), None] {
            stats.again(disagreed);
        }
        let got = stats.snapshot();
        assert_eq!((got.compared, got.disagreed, got.rows), (2, 2, 5));
        let expected = NoiseSnapshot {
            champion_compared: 3,
            champion_disagreed: 1,
            champion_failed: 1,
            shadow_compared: 1,
            shadow_disagreed: 1,
        };
        assert_eq!(got.noise, Some(expected));
        let line = "foreshadow_shadow_champion_again_total{model=\"m\",outcome=\"agreed\",version=\"1\"} 2";
        assert!(metrics.render().contains(line), "{}", metrics.render());
    }

    #[test]
    fn an_infinite_difference_spoils_no_sum() {
        let metrics = Metrics::new();
        let (model, one) = (ModelName::new("m").unwrap(), VersionId::new(1).unwrap());
        let stats = metrics.shadow(&model, one);
        stats.compared(1, 0, 0.5, 0.25);
        stats.compared(1, 1, f64::INFINITY, 0.0);
        let got = stats.snapshot();
        assert_eq!((got.compared, got.disagreed, got.nonfinite), (2, 1, 1));
        assert_eq!((got.difference_max, got.difference_mean), (Some(f64::INFINITY), Some(0.25)));
        let sum = "foreshadow_shadow_output_difference_sum{model=\"m\",version=\"1\"} 0.5";
        assert!(metrics.render().contains(sum), "{}", metrics.render());
    }
}
