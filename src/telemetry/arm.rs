//! Counts of one version in one role.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use prometheus::{Histogram, IntCounter, IntCounterVec};
use serde::Serialize;

use crate::error::ErrorCode;
use crate::telemetry::recorder::Event;
use crate::telemetry::{FineHistogram, ModelStatistics};

/// The `role` label of a request: how its version was chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ArmRole {
    /// The split chose the champion.
    Champion,
    /// The split chose the canary.
    Canary,
    /// The client chose: a pinned version or a forced role. Such requests
    /// say nothing about the split and are judged by nobody.
    Pinned,
}

impl ArmRole {
    /// The metric label.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Champion => "champion",
            Self::Canary => "canary",
            Self::Pinned => "pinned",
        }
    }
}

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
    service: FineHistogram,
    cpu_nanos: AtomicU64,
    cpu_count: AtomicU64,
    /// Nanoseconds of requests that failed.
    failed_nanos: AtomicU64,
    /// Nanoseconds that the inputs of answered requests took to be read.
    input_nanos: AtomicU64,
    /// Nanoseconds from the engine's end to a written answer.
    output_nanos: AtomicU64,
    /// When the newest answer was written: nanoseconds since `born`; 0 is never.
    last_nanos: AtomicU64,
    born: Instant,
    born_at: SystemTime,
}

/// What became of a request that was answered, and when.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    /// Its arrival.
    pub arrived: Instant,
    /// When its inputs were begun to be read.
    pub read: Instant,
    /// When they could be run.
    pub decoded: Instant,
    /// How long it waited and ran, together.
    pub ran: Duration,
    /// When its answer was written.
    pub written: Instant,
}

impl Answered {
    /// One that took this long, all in all, of which nothing more is known.
    #[must_use]
    pub fn within(elapsed: Duration) -> Self {
        let arrived = Instant::now();
        let written = arrived + elapsed;
        Self { arrived, read: arrived, decoded: arrived, ran: Duration::ZERO, written }
    }
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
            service: FineHistogram::default(),
            cpu_nanos: AtomicU64::new(0),
            cpu_count: AtomicU64::new(0),
            failed_nanos: AtomicU64::new(0),
            input_nanos: AtomicU64::new(0),
            output_nanos: AtomicU64::new(0),
            last_nanos: AtomicU64::new(0),
            born: Instant::now(),
            born_at: SystemTime::now(),
        }
    }

    /// Counts a request that was answered.
    pub fn answered(&self, times: Answered) {
        let Answered { arrived, read, decoded, ran, written } = times;
        self.ok.inc();
        self.service.record(ran);
        self.request_seconds.observe(written.saturating_duration_since(arrived).as_secs_f64());
        let output = written.saturating_duration_since(decoded).saturating_sub(ran);
        self.input_nanos.fetch_add(nanos(decoded.saturating_duration_since(read)), Relaxed);
        self.output_nanos.fetch_add(nanos(output), Relaxed);
        self.last_nanos.store(nanos(written.saturating_duration_since(self.born)).max(1), Relaxed);
    }

    /// How long it has been counted.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.born.elapsed()
    }

    /// Requests that came to an end.
    #[must_use]
    pub fn requests(&self) -> u64 {
        let failed = self.failures_by_code().map(|(_, count)| count);
        failed.fold(self.ok.get(), u64::saturating_add)
    }

    /// Requests that failed by a fault of the model or of the gateway.
    #[must_use]
    pub fn faults(&self) -> u64 {
        let faults =
            self.failures_by_code().filter(|(code, _)| Event::of(*code) == Some(Event::Error));
        faults.map(|(_, count)| count).sum()
    }

    /// Times in queue and engine of the answered requests.
    #[must_use]
    pub const fn service(&self) -> &FineHistogram {
        &self.service
    }

    /// Counts a request that failed: why, and the time from its arrival to that.
    pub fn failed(&self, code: ErrorCode, elapsed: Duration) {
        self.failures(code).inc();
        self.failed_nanos.fetch_add(nanos(elapsed), Relaxed);
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
        self.cpu_nanos.fetch_add(nanos(cpu), Relaxed);
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

    /// Failures of every kind that there were.
    pub(super) fn failures_by_code(&self) -> impl Iterator<Item = (ErrorCode, u64)> {
        let counters = ErrorCode::ALL.into_iter().zip(&self.failed);
        counters.filter_map(|(code, counter)| Some((code, counter.get()?.get())))
    }

    /// Adds what it counted to the statistics of its version.
    pub(super) fn add_to(&self, statistics: &mut ModelStatistics) {
        let failed = self.failed.iter().filter_map(OnceLock::get).map(IntCounter::get).sum();
        let failed_nanos = self.failed_nanos.load(Relaxed);
        let all_nanos = sum_nanos(&self.request_seconds);
        statistics.success.add(self.ok.get(), all_nanos.saturating_sub(failed_nanos));
        statistics.fail.add(failed, failed_nanos);
        let ran = self.queue_seconds.get_sample_count();
        statistics.queue.add(ran, sum_nanos(&self.queue_seconds));
        statistics.compute_infer.add(ran, sum_nanos(&self.inference_seconds));
        statistics.compute_input.add(self.ok.get(), self.input_nanos.load(Relaxed));
        statistics.compute_output.add(self.ok.get(), self.output_nanos.load(Relaxed));
        statistics.last_inference_ms = statistics.last_inference_ms.max(self.last_ms());
    }

    /// When the newest answer was written, in milliseconds since 1970; 0 is never.
    fn last_ms(&self) -> u64 {
        match self.last_nanos.load(Relaxed) {
            0 => 0,
            since => {
                let at = self.born_at + Duration::from_nanos(since);
                let since_1970 = at.duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(since_1970.as_millis()).unwrap_or(u64::MAX)
            }
        }
    }

    /// Series of failures appear with the first of their kind.
    fn failures(&self, code: ErrorCode) -> &IntCounter {
        self.failed[code as usize].get_or_init(|| {
            let [model, version, role] = &self.labels;
            self.requests.with_label_values(&[model, version, role, &code.as_str().to_owned()])
        })
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// All that a histogram of seconds was told, in nanoseconds.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a sum of durations")]
fn sum_nanos(seconds: &Histogram) -> u64 {
    (seconds.get_sample_sum() * 1e9).round() as u64
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
