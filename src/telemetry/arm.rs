//! Counts of one version in one role.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use prometheus::{Histogram, IntCounter, IntCounterVec};
use serde::Serialize;

use crate::error::ErrorCode;
use crate::telemetry::FineHistogram;

/// Resolved handles for one model, version and role: what a request touches.
pub struct ArmStats {
    labels: [String; 3],
    requests: IntCounterVec,
    ok: IntCounter,
    failed: [OnceLock<IntCounter>; ErrorCode::ALL.len()],
    request_seconds: Histogram,
    queue_seconds: Histogram,
    inference_seconds: Histogram,
    nonfinite: IntCounter,
    inference: FineHistogram,
    cpu_nanos: AtomicU64,
    cpu_count: AtomicU64,
}

/// The families that an [`ArmStats`] takes its handles from.
pub(super) struct ArmFamilies<'a> {
    pub(super) requests: &'a IntCounterVec,
    pub(super) request_seconds: Histogram,
    pub(super) queue_seconds: Histogram,
    pub(super) inference_seconds: Histogram,
    pub(super) nonfinite: IntCounter,
}

impl ArmStats {
    pub(super) fn new(labels: [&str; 3], families: ArmFamilies<'_>) -> Self {
        let [model, version, role] = labels;
        Self {
            labels: labels.map(str::to_owned),
            requests: families.requests.clone(),
            ok: families.requests.with_label_values(&[model, version, role, "ok"]),
            failed: [const { OnceLock::new() }; ErrorCode::ALL.len()],
            request_seconds: families.request_seconds,
            queue_seconds: families.queue_seconds,
            inference_seconds: families.inference_seconds,
            nonfinite: families.nonfinite,
            inference: FineHistogram::default(),
            cpu_nanos: AtomicU64::new(0),
            cpu_count: AtomicU64::new(0),
        }
    }

    /// Counts a finished request: its outcome (`None` is success) and the
    /// time from its arrival to its reply.
    pub fn finished(&self, failure: Option<ErrorCode>, elapsed: Duration) {
        match failure {
            None => self.ok.inc(),
            Some(code) => self.failed(code).inc(),
        }
        self.request_seconds.observe(elapsed.as_secs_f64());
    }

    /// Counts one request's run: time in the queue, and in the engine.
    pub fn ran(&self, queue: Duration, inference: Duration) {
        self.queue_seconds.observe(queue.as_secs_f64());
        self.inference_seconds.observe(inference.as_secs_f64());
        self.inference.record(inference);
    }

    /// Adds the CPU time of one run. Only runs that a shadow is compared
    /// with are measured: reading the clock costs a system call.
    pub fn used_cpu(&self, cpu: Duration) {
        self.cpu_nanos.fetch_add(u64::try_from(cpu.as_nanos()).unwrap_or(0), Relaxed);
        self.cpu_count.fetch_add(1, Relaxed);
    }

    /// Counts a reply with a NaN or an infinity in it.
    pub fn nonfinite(&self) {
        self.nonfinite.inc();
    }

    /// The counts so far.
    #[must_use]
    pub fn snapshot(&self) -> ArmSnapshot {
        let errors = ErrorCode::ALL.iter().zip(&self.failed);
        let errors: Vec<_> = errors
            .filter_map(|(code, counter)| Some((code.as_str(), counter.get()?.get())))
            .collect();
        ArmSnapshot {
            ok: self.ok.get(),
            failed: errors.iter().map(|(_, n)| n).sum(),
            failures: errors.into_iter().collect(),
            inference_p50_seconds: self.inference.quantile(0.5).map(|d| d.as_secs_f64()),
            inference_p99_seconds: self.inference.quantile(0.99).map(|d| d.as_secs_f64()),
            cpu_mean_seconds: mean_seconds(
                self.cpu_nanos.load(Relaxed),
                self.cpu_count.load(Relaxed),
            ),
            nonfinite: self.nonfinite.get(),
        }
    }

    /// Series of failures appear with the first of their kind.
    fn failed(&self, code: ErrorCode) -> &IntCounter {
        self.failed[code as usize].get_or_init(|| {
            let [model, version, role] = &self.labels;
            self.requests.with_label_values(&[model, version, role, &code.as_str().to_owned()])
        })
    }
}

/// Mean in seconds of `count` durations that sum to `nanos`.
#[expect(clippy::cast_precision_loss, reason = "a mean for people")]
pub(super) fn mean_seconds(nanos: u64, count: u64) -> Option<f64> {
    (count > 0).then(|| nanos as f64 / count as f64 / 1e9)
}

/// What one version in one role did so far.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ArmSnapshot {
    /// Requests answered.
    pub ok: u64,
    /// Requests that failed, of every kind.
    pub failed: u64,
    /// Failures by kind.
    pub failures: std::collections::BTreeMap<&'static str, u64>,
    /// Median time in the engine, in seconds.
    pub inference_p50_seconds: Option<f64>,
    /// 99th percentile of the time in the engine, in seconds.
    pub inference_p99_seconds: Option<f64>,
    /// Mean CPU time per run, in seconds, over the runs that were copied to a
    /// shadow.
    pub cpu_mean_seconds: Option<f64>,
    /// Replies with a NaN or an infinity in them.
    pub nonfinite: u64,
}
