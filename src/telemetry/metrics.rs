//! Every metric, declared once.

mod bounds;

use std::collections::HashMap;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::{
    CounterVec, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, PullingGauge, Registry, TextEncoder,
};

use crate::error::ErrorCode;
use crate::telemetry::alerts::Alerts;
use crate::telemetry::arm::{ArmFamilies, ArmRole, ArmStats};
use crate::telemetry::capture::Captures;
use crate::telemetry::connections::Connections;
use crate::telemetry::drift::Drift;
use crate::telemetry::labels::Labels;
use crate::telemetry::metrics::bounds::{DIFFERENCE, REQUESTS, ROWS, SECONDS, SLOW_SECONDS};
use crate::telemetry::queue::{Left, QueueStats, Refusal, Split};
use crate::telemetry::rollouts::Rollouts;
use crate::telemetry::shadow::{AGAIN, DropReason, ShadowFailure, ShadowHandles, ShadowStats};
use crate::telemetry::store::StoreStanding;
use crate::telemetry::trials::Trials;
use crate::telemetry::webhooks::Webhooks;
use crate::types::{ModelName, PlanFigures, Role, Share, VersionId};

const ARM: &[&str] = &["model", "version", "role"];
const VERSION: &[&str] = &["model", "version"];
const REASON: &[&str] = &["model", "version", "reason"];

type ArmKey = (ModelName, VersionId, ArmRole);
type VersionKey = (ModelName, VersionId);

/// All metrics of the process. Handles for the request path are resolved
/// when a plan is published, and their series are removed when a version
/// retires.
pub struct Metrics {
    registry: Registry,
    /// Whether Triton's names are shown as well.
    pub(super) triton_names: bool,
    pub(super) arms: Mutex<HashMap<ArmKey, Arc<ArmStats>>>,
    shadows: Mutex<HashMap<VersionKey, Arc<ShadowStats>>>,
    pub(super) queues: Mutex<HashMap<VersionKey, Arc<QueueStats>>>,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
    queue_seconds: HistogramVec,
    inference_seconds: HistogramVec,
    batch_rows: HistogramVec,
    batch_requests: HistogramVec,
    batch_splits: IntCounterVec,
    refused: IntCounterVec,
    queue_left: IntCounterVec,
    queue_rows: IntGaugeVec,
    nonfinite: IntCounterVec,
    shadow_compared: IntCounterVec,
    shadow_disagreed: IntCounterVec,
    shadow_rows: IntCounterVec,
    shadow_rows_disagreed: IntCounterVec,
    shadow_failed: IntCounterVec,
    shadow_dropped: IntCounterVec,
    shadow_difference: HistogramVec,
    shadow_nonfinite: IntCounterVec,
    shadow_again: IntCounterVec,
    shadow_cpu: CounterVec,
    weight: GaugeVec,
    version_state: IntGaugeVec,
    plans: IntGaugeVec,
    plan_bytes: IntGaugeVec,
    plans_made: IntCounterVec,
    plans_evicted: IntCounterVec,
    load_seconds: Histogram,
    publish_seconds: Histogram,
    rejected: IntCounterVec,
    pub(super) rollouts: Rollouts,
    pub(super) drift: Drift,
    pub(super) labels: Labels,
    pub(super) alerts: Alerts,
    pub(super) captures: Captures,
    pub(super) trials: Trials,
    pub(super) connections: Connections,
    pub(super) store: StoreStanding,
    pub(super) webhooks: Webhooks,
}

/// Declares metrics on one registry.
pub(super) struct Declare<'a>(&'a Registry);

/// Names are constants below, so neither call can fail.
pub(super) const DECLARED: &str = "metric names are valid and declared once";

impl Declare<'_> {
    pub(super) fn add<C: prometheus::core::Collector + Clone + 'static>(&self, metric: C) -> C {
        self.0.register(Box::new(metric.clone())).expect(DECLARED);
        metric
    }

    pub(super) fn counters(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(IntCounterVec::new(Opts::new(name, help), labels).expect(DECLARED))
    }

    fn histograms(&self, name: &str, help: &str, labels: &[&str], bounds: &[f64]) -> HistogramVec {
        let opts = HistogramOpts::new(name, help).buckets(bounds.to_vec());
        self.add(HistogramVec::new(opts, labels).expect(DECLARED))
    }

    /// Gauges of a version.
    fn gauges(&self, name: &str, help: &str) -> IntGaugeVec {
        self.add(IntGaugeVec::new(Opts::new(name, help), VERSION).expect(DECLARED))
    }

    /// Gauges with fractions.
    pub(super) fn float_gauges(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.add(GaugeVec::new(Opts::new(name, help), labels).expect(DECLARED))
    }

    fn histogram(&self, name: &str, help: &str, bounds: &[f64]) -> Histogram {
        let opts = HistogramOpts::new(name, help).buckets(bounds.to_vec());
        self.add(Histogram::with_opts(opts).expect(DECLARED))
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Declares every metric on a registry of its own.
    #[must_use]
    pub fn new() -> Self {
        let registry = Registry::new();
        let d = Declare(&registry);
        let requests = d.counters(
            "foreshadow_requests_total",
            "Requests that got a version, by outcome.",
            &["model", "version", "role", "outcome"],
        );
        let request_seconds = d.histograms(
            "foreshadow_request_seconds",
            "From a request's arrival to its reply.",
            ARM,
            SECONDS,
        );
        let queue_seconds =
            d.histograms("foreshadow_queue_seconds", "Waiting for an engine thread.", ARM, SECONDS);
        let inference_seconds =
            d.histograms("foreshadow_inference_seconds", "Time in the engine.", ARM, SECONDS);
        let batch_rows = d.histograms("foreshadow_batch_rows", "Rows per run.", VERSION, ROWS);
        let batch_requests = d.histograms(
            "foreshadow_batch_requests",
            "Requests that were run as one.",
            VERSION,
            REQUESTS,
        );
        let batch_splits = d.counters(
            "foreshadow_batch_splits_total",
            "Batches whose requests were run again one by one, by reason.",
            REASON,
        );
        let refused = d.counters(
            "foreshadow_refused_total",
            "Requests that were not let into the queue (503), by reason.",
            REASON,
        );
        let queue_left = d.counters(
            "foreshadow_queue_left_total",
            "Requests that left the queue without a run, by reason.",
            REASON,
        );
        let queue_rows = d.gauges("foreshadow_queue_rows", "Rows that wait for an engine thread.");
        let nonfinite = d.counters(
            "foreshadow_nonfinite_outputs_total",
            "Answers with a NaN or an infinity in them.",
            ARM,
        );
        let shadow_compared = d.counters(
            "foreshadow_shadow_compared_total",
            "Requests whose shadow answer was compared with the champion's.",
            VERSION,
        );
        let shadow_disagreed = d.counters(
            "foreshadow_shadow_disagreed_total",
            "Compared requests with at least one row that disagrees.",
            VERSION,
        );
        let shadow_rows = d.counters("foreshadow_shadow_rows_total", "Rows compared.", VERSION);
        let shadow_rows_disagreed =
            d.counters("foreshadow_shadow_rows_disagreed_total", "Rows that disagree.", VERSION);
        let shadow_failed = d.counters(
            "foreshadow_shadow_failed_total",
            "Shadow runs that could not be compared, by reason.",
            REASON,
        );
        let shadow_dropped = d.counters(
            "foreshadow_shadow_dropped_total",
            "Copies that were not run, by reason.",
            REASON,
        );
        let shadow_difference = d.histograms(
            "foreshadow_shadow_output_difference",
            "Largest absolute difference of an answer's numbers, per compared request.",
            VERSION,
            DIFFERENCE,
        );
        let shadow_nonfinite = d.counters(
            "foreshadow_shadow_nonfinite_total",
            "Compared requests in which a number is finite on one side only.",
            VERSION,
        );
        let shadow_again = d.counters(
            "foreshadow_shadow_champion_again_total",
            "Copies that the champion ran once more, to see how often it differs from itself.",
            &["model", "version", "outcome"],
        );
        let cpu = Opts::new("foreshadow_shadow_cpu_seconds_total", "CPU time of shadow runs.");
        let shadow_cpu = d.add(CounterVec::new(cpu, VERSION).expect(DECLARED));
        let weight = Opts::new("foreshadow_weight", "Share of the requests, 0 to 1, by role.");
        let weight = d.add(GaugeVec::new(weight, ARM).expect(DECLARED));
        let state = Opts::new("foreshadow_version_state", "1 for the state a version is in.");
        let state_labels = &["model", "version", "state"];
        let version_state = d.add(IntGaugeVec::new(state, state_labels).expect(DECLARED));
        let plans = d.gauges("foreshadow_plans", "Plans held: graphs optimised for some shapes.");
        let plan_bytes = d.gauges("foreshadow_plan_bytes", "Memory of these plans, estimated.");
        let plans_made = d.counters("foreshadow_plans_made_total", "Plans made.", VERSION);
        let plans_evicted = d.counters(
            "foreshadow_plans_evicted_total",
            "Plans freed because of too many others, or because nobody needed them.",
            VERSION,
        );
        let load_seconds = d.histogram(
            "foreshadow_load_seconds",
            "From a whole version folder to a version that may serve.",
            SLOW_SECONDS,
        );
        let publish_seconds =
            d.histogram("foreshadow_publish_seconds", "Building and swapping a plan.", SECONDS);
        let rejected = d.counters(
            "foreshadow_rejected_total",
            "Requests refused before a version was chosen, by reason.",
            &["reason"],
        );
        let rollouts = Rollouts::declare(&d);
        let drift = Drift::declare(&d);
        let labels = Labels::declare(&d);
        let alerts = Alerts::declare(&d);
        let captures = Captures::declare(&d);
        let connections = Connections::declare(&d);
        let store = StoreStanding::declare(&d);
        let webhooks = Webhooks::declare(&d);
        let info = Opts::new("foreshadow_build_info", "1; the version is a label.")
            .const_label("version", env!("CARGO_PKG_VERSION"));
        d.add(IntGauge::with_opts(info).expect(DECLARED)).set(1);
        #[cfg(target_os = "linux")]
        registry
            .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
            .expect(DECLARED);
        Self {
            registry,
            triton_names: false,
            arms: Mutex::default(),
            shadows: Mutex::default(),
            queues: Mutex::default(),
            requests,
            request_seconds,
            queue_seconds,
            inference_seconds,
            batch_rows,
            batch_requests,
            batch_splits,
            refused,
            queue_left,
            queue_rows,
            nonfinite,
            shadow_compared,
            shadow_disagreed,
            shadow_rows,
            shadow_rows_disagreed,
            shadow_failed,
            shadow_dropped,
            shadow_difference,
            shadow_nonfinite,
            shadow_again,
            shadow_cpu,
            weight,
            version_state,
            plans,
            plan_bytes,
            plans_made,
            plans_evicted,
            load_seconds,
            publish_seconds,
            rejected,
            rollouts,
            drift,
            labels,
            alerts,
            captures,
            trials: Trials::default(),
            connections,
            store,
            webhooks,
        }
    }

    /// The handles of one version in one role; the same ones each time, so
    /// that counts go on over publishes.
    #[must_use]
    pub fn arm(&self, model: &ModelName, version: VersionId, role: ArmRole) -> Arc<ArmStats> {
        let mut arms = self.arms.lock().unwrap_or_else(PoisonError::into_inner);
        let arm = arms.entry((model.clone(), version, role)).or_insert_with(|| {
            let number = version.to_string();
            let labels = [model.as_str(), &number, role.as_str()];
            Arc::new(ArmStats::new(
                labels,
                ArmFamilies {
                    requests: &self.requests,
                    request_seconds: self.request_seconds.with_label_values(&labels),
                    queue_seconds: self.queue_seconds.with_label_values(&labels),
                    inference_seconds: self.inference_seconds.with_label_values(&labels),
                    nonfinite: self.nonfinite.with_label_values(&labels),
                },
            ))
        });
        Arc::clone(arm)
    }

    /// The handles of one shadow; the same ones each time.
    #[must_use]
    pub fn shadow(&self, model: &ModelName, version: VersionId) -> Arc<ShadowStats> {
        let mut shadows = self.shadows.lock().unwrap_or_else(PoisonError::into_inner);
        let shadow = shadows.entry((model.clone(), version)).or_insert_with(|| {
            let number = version.to_string();
            let labels = [model.as_str(), &number];
            let reason = |family: &IntCounterVec, reason: &str| {
                family.with_label_values(&[model.as_str(), &number, reason])
            };
            Arc::new(ShadowStats::new(ShadowHandles {
                compared: self.shadow_compared.with_label_values(&labels),
                disagreed: self.shadow_disagreed.with_label_values(&labels),
                rows: self.shadow_rows.with_label_values(&labels),
                rows_disagreed: self.shadow_rows_disagreed.with_label_values(&labels),
                failed: ShadowFailure::ALL.map(|f| reason(&self.shadow_failed, f.as_str())),
                dropped: DropReason::ALL.map(|r| reason(&self.shadow_dropped, r.as_str())),
                difference: self.shadow_difference.with_label_values(&labels),
                nonfinite: self.shadow_nonfinite.with_label_values(&labels),
                cpu_seconds: self.shadow_cpu.with_label_values(&labels),
                again: AGAIN.map(|outcome| reason(&self.shadow_again, outcome)),
            }))
        });
        Arc::clone(shadow)
    }

    /// The handles of one version's runs and queue; the same ones each time.
    #[must_use]
    pub fn queue(&self, model: &ModelName, version: VersionId) -> Arc<QueueStats> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = queues.entry((model.clone(), version)).or_insert_with(|| {
            let number = version.to_string();
            let labels = [model.as_str(), &number];
            let reason = |family: &IntCounterVec, reason: &str| {
                family.with_label_values(&[model.as_str(), &number, reason])
            };
            Arc::new(QueueStats {
                batch_rows: self.batch_rows.with_label_values(&labels),
                batch_requests: self.batch_requests.with_label_values(&labels),
                splits: Split::ALL.map(|s| reason(&self.batch_splits, s.as_str())),
                refused: Refusal::ALL.map(|r| reason(&self.refused, r.as_str())),
                left: Left::ALL.map(|l| reason(&self.queue_left, l.as_str())),
                rows: self.queue_rows.with_label_values(&labels),
                no_batch: AtomicBool::new(false),
            })
        });
        Arc::clone(queue)
    }

    /// Shows the shares of a published plan.
    pub fn set_weights(&self, model: &ModelName, shares: &[(VersionId, Role, Share)]) {
        self.remove(&self.weight, model.as_str(), None);
        for (version, role, share) in shares {
            let labels = [model.as_str(), &version.to_string(), role.as_str()];
            self.weight.with_label_values(&labels).set(share.fraction());
        }
    }

    /// Shows that a version went from one state to another.
    pub fn set_state(&self, model: &ModelName, version: VersionId, from: Option<&str>, to: &str) {
        let number = version.to_string();
        if let Some(from) = from {
            let _ = self.version_state.remove_label_values(&[model.as_str(), &number, from]);
        }
        self.version_state.with_label_values(&[model.as_str(), &number, to]).set(1);
    }

    /// Shows what was made of a version for the shapes that came.
    pub fn set_plans(&self, model: &ModelName, version: VersionId, figures: PlanFigures) {
        let labels = [model.as_str(), &version.to_string()];
        let number = |n: usize| i64::try_from(n).unwrap_or(i64::MAX);
        self.plans.with_label_values(&labels).set(number(figures.held));
        self.plan_bytes.with_label_values(&labels).set(number(figures.bytes));
        for (family, total) in
            [(&self.plans_made, figures.made), (&self.plans_evicted, figures.evicted)]
        {
            let counter = family.with_label_values(&labels);
            counter.inc_by(total.saturating_sub(counter.get()));
        }
    }

    /// Counts a finished load.
    pub fn loaded(&self, elapsed: Duration) {
        self.load_seconds.observe(elapsed.as_secs_f64());
    }

    /// Counts a publish.
    pub fn published(&self, elapsed: Duration) {
        self.publish_seconds.observe(elapsed.as_secs_f64());
    }

    /// Counts a request that was refused before it got a version.
    pub fn rejected(&self, code: ErrorCode) {
        self.rejected.with_label_values(&[code.as_str()]).inc();
    }

    /// Removes every series of a version that retired.
    pub fn retire(&self, model: &ModelName, version: VersionId) {
        let mut arms = self.arms.lock().unwrap_or_else(PoisonError::into_inner);
        arms.retain(|(m, v, _), _| m != model || *v != version);
        drop(arms);
        let mut shadows = self.shadows.lock().unwrap_or_else(PoisonError::into_inner);
        shadows.retain(|(m, v), _| m != model || *v != version);
        drop(shadows);
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.retain(|(m, v), _| m != model || *v != version);
        drop(queues);
        let (model, number) = (model.as_str(), version.to_string());
        let version = Some(number.as_str());
        for family in [
            &self.requests,
            &self.nonfinite,
            &self.shadow_compared,
            &self.shadow_disagreed,
            &self.shadow_rows,
            &self.shadow_rows_disagreed,
            &self.shadow_failed,
            &self.shadow_dropped,
            &self.shadow_nonfinite,
            &self.shadow_again,
            &self.plans_made,
            &self.plans_evicted,
            &self.batch_splits,
            &self.refused,
            &self.queue_left,
        ] {
            self.remove(family, model, version);
        }
        self.remove_kept(model, version);
        for family in [
            &self.request_seconds,
            &self.queue_seconds,
            &self.inference_seconds,
            &self.batch_rows,
            &self.batch_requests,
            &self.shadow_difference,
        ] {
            self.remove(family, model, version);
        }
        self.remove(&self.shadow_cpu, model, version);
        self.remove(&self.weight, model, version);
        for family in [&self.version_state, &self.plans, &self.plan_bytes, &self.queue_rows] {
            self.remove(family, model, version);
        }
    }

    /// Shows how many log lines were dropped. Called once.
    pub fn watch_log(&self, dropped: impl Fn() -> usize + Send + Sync + 'static) {
        #[expect(clippy::cast_precision_loss, reason = "a line count")]
        let value = Box::new(move || dropped() as f64);
        let help = "Log lines dropped because nobody read them.";
        let gauge = PullingGauge::new("foreshadow_log_lines_dropped", help, value);
        let registered = gauge.and_then(|gauge| self.registry.register(Box::new(gauge)));
        if let Err(error) = registered {
            tracing::error!(%error, "dropped log lines are not shown");
        }
    }

    /// The text that Prometheus scrapes.
    #[must_use]
    pub fn render(&self) -> String {
        let mut text = String::with_capacity(16 * 1024);
        if let Err(error) = TextEncoder::new().encode_utf8(&self.registry.gather(), &mut text) {
            tracing::error!(%error, "metrics could not be rendered");
        }
        self.render_triton(&mut text);
        text
    }

    /// Removes the series of a family whose labels name this model (and version).
    pub(super) fn remove<B: prometheus::core::MetricVecBuilder>(
        &self,
        family: &prometheus::core::MetricVec<B>,
        model: &str,
        version: Option<&str>,
    ) {
        use prometheus::core::Collector as _;
        for collected in family.collect() {
            for metric in collected.get_metric() {
                let labels: HashMap<&str, &str> =
                    metric.get_label().iter().map(|l| (l.name(), l.value())).collect();
                let hit = labels.get("model") == Some(&model)
                    && version.is_none_or(|v| labels.get("version") == Some(&v));
                if hit {
                    let _ = family.remove(&labels);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Answered;

    fn answered() -> Answered {
        Answered::within(Duration::ZERO)
    }

    #[test]
    fn a_retired_versions_series_are_gone_and_the_others_stay() {
        let metrics = Metrics::new();
        let model = ModelName::new("churn").unwrap();
        for number in [1, 2] {
            let version = VersionId::new(number).unwrap();
            let arm = metrics.arm(&model, version, ArmRole::Champion);
            arm.answered(answered());
            arm.failed(ErrorCode::Internal, Duration::from_millis(1));
            arm.ran(Duration::ZERO, Duration::from_millis(1));
            metrics.queue(&model, version).ran(3, 1);
            metrics.shadow(&model, version).compared(2, 1, 0.5, 0.1);
            metrics.set_state(&model, version, None, "ready");
            metrics.set_plans(&model, version, PlanFigures::default());
        }
        let two = VersionId::new(2).unwrap();
        let before = metrics.render();
        assert!(
            before.contains("outcome=\"internal\",role=\"champion\",version=\"2\"} 1"),
            "{before}"
        );
        metrics.retire(&model, two);
        let after = metrics.render();
        assert!(!after.contains("version=\"2\""), "{after}");
        assert!(
            after.contains("model=\"churn\",outcome=\"ok\",role=\"champion\",version=\"1\"} 1")
        );
        assert_eq!(metrics.arm(&model, two, ArmRole::Champion).snapshot().ok, 0);
    }

    /// Dashboards and alerts are built on these names.
    #[test]
    fn the_metrics_names_labels_and_bounds_are_golden() {
        let metrics = Metrics::new();
        let model = ModelName::new("m").unwrap();
        let one = VersionId::new(1).unwrap();
        metrics.arm(&model, one, ArmRole::Champion).answered(answered());
        metrics.arm(&model, one, ArmRole::Champion).ran(Duration::ZERO, Duration::ZERO);
        metrics.queue(&model, one).ran(1, 1);
        metrics.shadow(&model, one).compared(1, 0, 0.0, 0.0);
        metrics.set_weights(&model, &[(one, Role::Champion, Share::ALL)]);
        metrics.set_state(&model, one, None, "ready");
        metrics.set_plans(&model, one, PlanFigures { held: 2, bytes: 64, made: 3, evicted: 1 });
        metrics.rejected(ErrorCode::NotFound);
        metrics.loaded(Duration::ZERO);
        metrics.published(Duration::ZERO);
        metrics.captures().open(1, 1);
        let capture = Some(Arc::new(crate::types::CaptureRule::default()));
        let settings = crate::types::ModelSettings { capture, ..Default::default() };
        let _tap = metrics.captures().tap(&model, &settings).unwrap();
        let text = metrics.render();
        let ours = |line: &&str| !line.contains("process_") && !line.contains("build_info");
        let lines: Vec<_> = text.lines().filter(ours).collect();
        crate::golden::check("metrics.txt", &(lines.join("\n") + "\n"));
    }

    #[test]
    fn handles_go_on_counting_over_publishes() {
        let metrics = Metrics::new();
        let model = ModelName::new("churn").unwrap();
        let one = VersionId::new(1).unwrap();
        metrics.arm(&model, one, ArmRole::Canary).answered(answered());
        metrics.arm(&model, one, ArmRole::Canary).answered(answered());
        assert_eq!(metrics.arm(&model, one, ArmRole::Canary).snapshot().ok, 2);
    }
}
