//! What a version did so far, as clients of the Open Inference Protocol ask
//! for it: the sums over its roles. What shadows run is none of it.

use std::sync::PoisonError;

use crate::telemetry::{ArmStats, Metrics, QueueStats};
use crate::types::{ModelName, VersionId};

/// So many requests, and the time that they took together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StatisticDuration {
    /// Requests.
    pub count: u64,
    /// Nanoseconds.
    pub ns: u64,
}

impl StatisticDuration {
    pub(super) const fn add(&mut self, count: u64, ns: u64) {
        self.count += count;
        self.ns = self.ns.saturating_add(ns);
    }
}

/// Counts of one version since it was loaded. They are read one after the other
/// while requests go on, and may differ by those in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ModelStatistics {
    /// The model.
    pub model: ModelName,
    /// The version.
    pub version: VersionId,
    /// When the newest answer was written, in milliseconds since 1970; 0 where
    /// there was none.
    pub last_inference_ms: u64,
    /// Inferences: rows where the model takes a batch, else requests.
    pub inference_count: u64,
    /// Runs of the engine: of a batch, one.
    pub execution_count: u64,
    /// Requests that were answered, from their arrival to the written answer.
    pub success: StatisticDuration,
    /// Requests that failed once the version was chosen: also those whose client
    /// left or whose deadline passed.
    pub fail: StatisticDuration,
    /// Waiting for an engine thread or for the others of a batch, of requests
    /// that ran.
    pub queue: StatisticDuration,
    /// From the whole body to tensors, of answered requests.
    pub compute_input: StatisticDuration,
    /// In the engine, of requests that ran; each of a batch counts all of it.
    pub compute_infer: StatisticDuration,
    /// From the engine's end to the written answer, of answered requests.
    pub compute_output: StatisticDuration,
}

impl ModelStatistics {
    /// Nothing yet.
    #[must_use]
    pub fn new(model: ModelName, version: VersionId) -> Self {
        let none = StatisticDuration::default();
        Self {
            model,
            version,
            last_inference_ms: 0,
            inference_count: 0,
            execution_count: 0,
            success: none,
            fail: none,
            queue: none,
            compute_input: none,
            compute_infer: none,
            compute_output: none,
        }
    }
}

impl Metrics {
    /// The statistics of one version; all zero where it never answered.
    #[must_use]
    pub fn statistics(&self, model: &ModelName, version: VersionId) -> ModelStatistics {
        let mut statistics = ModelStatistics::new(model.clone(), version);
        self.each_arm(|m, v, arm| {
            if m == model && v == version {
                arm.add_to(&mut statistics);
            }
        });
        self.each_queue(|m, v, queue| {
            if m == model && v == version {
                queue.add_to(&mut statistics);
            }
        });
        statistics
    }

    /// Looks at the handles of every version in every role.
    pub(super) fn each_arm(&self, mut look: impl FnMut(&ModelName, VersionId, &ArmStats)) {
        let arms = self.arms.lock().unwrap_or_else(PoisonError::into_inner);
        arms.iter().for_each(|((model, version, _), arm)| look(model, *version, arm));
    }

    /// Looks at the handles of every version's runs and queue.
    fn each_queue(&self, mut look: impl FnMut(&ModelName, VersionId, &QueueStats)) {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.iter().for_each(|((model, version), queue)| look(model, *version, queue));
    }

    /// The statistics of every version that is or was ready and has not retired,
    /// by model and version.
    #[must_use]
    pub fn all_statistics(&self) -> Vec<ModelStatistics> {
        let mut all = std::collections::BTreeMap::new();
        self.each_arm(|model, version, arm| {
            let new = || ModelStatistics::new(model.clone(), version);
            arm.add_to(all.entry((model.clone(), version)).or_insert_with(new));
        });
        self.each_queue(|model, version, queue| {
            if let Some(statistics) = all.get_mut(&(model.clone(), version)) {
                queue.add_to(statistics);
            }
        });
        all.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

    use super::*;
    use crate::error::ErrorCode;
    use crate::telemetry::{Answered, ArmRole};

    fn duration(count: u64, ns: u64) -> StatisticDuration {
        StatisticDuration { count, ns }
    }

    #[test]
    fn roles_are_added_up_and_the_parts_make_the_whole() {
        let metrics = Metrics::new();
        let (model, one) = (ModelName::new("churn").unwrap(), VersionId::new(1).unwrap());
        let ms = Duration::from_millis;
        let before = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
        for role in [ArmRole::Champion, ArmRole::Pinned] {
            let arm = metrics.arm(&model, one, role);
            let arrived = Instant::now();
            arm.ran(ms(2), ms(4));
            arm.answered(Answered {
                arrived,
                read: arrived + ms(1),
                decoded: arrived + ms(3),
                ran: ms(6),
                written: arrived + ms(10),
            });
            arm.failed(ErrorCode::Cancelled, ms(50));
        }
        metrics.queue(&model, one).ran(5, 2);
        let got = metrics.statistics(&model, one);
        assert!(got.last_inference_ms >= before && got.last_inference_ms < before + 600_000);
        let expected = ModelStatistics {
            last_inference_ms: got.last_inference_ms,
            inference_count: 5,
            execution_count: 1,
            success: duration(2, 20_000_000),
            fail: duration(2, 100_000_000),
            queue: duration(2, 4_000_000),
            compute_input: duration(2, 4_000_000),
            compute_infer: duration(2, 8_000_000),
            compute_output: duration(2, 2_000_000),
            ..ModelStatistics::new(model.clone(), one)
        };
        assert_eq!(got, expected);
        assert_eq!(metrics.all_statistics(), [expected]);
        metrics.retire(&model, one);
        assert_eq!(metrics.all_statistics(), []);
        assert_eq!(metrics.statistics(&model, one), ModelStatistics::new(model, one));
    }

    /// An image of three colours is one inference, not three.
    #[test]
    fn without_a_batch_a_request_is_an_inference() {
        let metrics = Metrics::new();
        let (model, one) = (ModelName::new("image").unwrap(), VersionId::new(1).unwrap());
        let _arm = metrics.arm(&model, one, ArmRole::Champion);
        let queue = metrics.queue(&model, one);
        queue.rows_are_no_batch();
        queue.ran(3, 1);
        queue.ran(3, 1);
        let got = metrics.statistics(&model, one);
        assert_eq!((got.inference_count, got.execution_count), (2, 2));
    }
}
