//! The counts under the names that Triton gives them, so that dashboards that
//! exist go on working. Made when somebody scrapes; nothing is counted twice.
//!
//! Left out is what would not be true: what waits is known in rows, not in
//! requests (`nv_inference_pending_request_count`), and there are no caches and
//! no GPUs.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::error::ErrorCode;
use crate::telemetry::{Metrics, ModelStatistics};
use crate::types::{ModelName, VersionId};

/// A counter of a version.
struct Family {
    name: &'static str,
    help: &'static str,
    value: fn(&ModelStatistics) -> u64,
}

const FAMILIES: [Family; 8] = [
    Family {
        name: "nv_inference_request_success",
        help: "Number of successful inference requests, all batch sizes",
        value: |of| of.success.count,
    },
    Family {
        name: "nv_inference_count",
        help: "Number of inferences performed",
        value: |of| of.inference_count,
    },
    Family {
        name: "nv_inference_exec_count",
        help: "Number of model executions performed",
        value: |of| of.execution_count,
    },
    Family {
        name: "nv_inference_request_duration_us",
        help: "Cumulative inference request duration in microseconds",
        value: |of| of.success.ns / 1000,
    },
    Family {
        name: "nv_inference_queue_duration_us",
        help: "Cumulative inference queuing duration in microseconds",
        value: |of| of.queue.ns / 1000,
    },
    Family {
        name: "nv_inference_compute_input_duration_us",
        help: "Cumulative compute input duration in microseconds",
        value: |of| of.compute_input.ns / 1000,
    },
    Family {
        name: "nv_inference_compute_infer_duration_us",
        help: "Cumulative compute inference duration in microseconds",
        value: |of| of.compute_infer.ns / 1000,
    },
    Family {
        name: "nv_inference_compute_output_duration_us",
        help: "Cumulative inference compute output duration in microseconds",
        value: |of| of.compute_output.ns / 1000,
    },
];

/// Failures stand apart: they have a reason.
const FAILURE: &str = "nv_inference_request_failure";
const REASONS: [&str; 4] = ["BACKEND", "CANCELED", "OTHER", "REJECTED"];

/// Triton's word for a failure.
const fn reason(code: ErrorCode) -> &'static str {
    match code {
        ErrorCode::Unavailable | ErrorCode::DeadlineExceeded => "REJECTED",
        ErrorCode::Cancelled => "CANCELED",
        ErrorCode::Internal => "BACKEND",
        _ => "OTHER",
    }
}

impl Metrics {
    /// The same, shown under Triton's names as well (`nv_inference_count` and the
    /// like) or not.
    #[must_use]
    pub fn with_triton_names(mut self, triton_names: bool) -> Self {
        self.triton_names = triton_names;
        self
    }

    /// Adds the text under Triton's names to `out`, if they are wanted.
    pub(super) fn render_triton(&self, out: &mut String) {
        if self.triton_names {
            render(self, out);
        }
    }
}

/// Writes what there is to `out`, in the text format.
fn render(metrics: &Metrics, out: &mut String) {
    let all = metrics.all_statistics();
    for Family { name, help, value } in &FAMILIES {
        head(out, name, help);
        for of in &all {
            let (model, version, value) = (&of.model, of.version, value(of));
            let _ = writeln!(out, "{name}{{model=\"{model}\",version=\"{version}\"}} {value}");
        }
    }
    head(out, FAILURE, "Number of failed inference requests, all batch sizes");
    for ((model, version), counts) in failures(metrics) {
        for (reason, count) in REASONS.iter().zip(counts) {
            let labels = format!("model=\"{model}\",reason=\"{reason}\",version=\"{version}\"");
            let _ = writeln!(out, "{FAILURE}{{{labels}}} {count}");
        }
    }
}

fn head(out: &mut String, name: &str, help: &str) {
    let _ = write!(out, "# HELP {name} {help}\n# TYPE {name} counter\n");
}

/// Of each version, in the order of the reasons.
fn failures(metrics: &Metrics) -> BTreeMap<(ModelName, VersionId), [u64; REASONS.len()]> {
    let mut all = BTreeMap::new();
    metrics.each_arm(|model, version, arm| {
        let counts: &mut [u64; REASONS.len()] = all.entry((model.clone(), version)).or_default();
        for (code, count) in arm.failures_by_code() {
            let places = REASONS.iter().zip(counts.iter_mut());
            places.filter(|(word, _)| **word == reason(code)).for_each(|(_, n)| *n += count);
        }
    });
    all
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::{Answered, ArmRole};

    #[test]
    fn they_are_shown_if_somebody_wants_them_and_gone_with_their_version() {
        let metrics = Metrics::new().with_triton_names(true);
        let (model, one) = (ModelName::new("churn").unwrap(), VersionId::new(1).unwrap());
        for role in [ArmRole::Champion, ArmRole::Pinned] {
            let arm = metrics.arm(&model, one, role);
            arm.ran(Duration::from_micros(2), Duration::from_micros(5));
            arm.answered(Answered::within(Duration::from_micros(10)));
            for code in [ErrorCode::InvalidArgument, ErrorCode::Internal, ErrorCode::Cancelled] {
                arm.failed(code, Duration::from_micros(1));
            }
        }
        metrics.arm(&model, one, ArmRole::Champion).failed(ErrorCode::Unavailable, Duration::ZERO);
        metrics.queue(&model, one).ran(3, 2);
        let text = metrics.render();
        let ours: Vec<_> = text.lines().filter(|line| line.contains("nv_inference")).collect();
        crate::golden::check("metrics_triton.txt", &(ours.join("\n") + "\n"));
        metrics.retire(&model, one);
        assert!(!metrics.render().contains("nv_inference_count{"));
        assert!(!Metrics::new().render().contains("nv_inference"));
    }

    #[test]
    fn every_failure_has_a_reason_of_the_list() {
        for code in ErrorCode::ALL {
            assert!(REASONS.contains(&reason(code)), "{code:?}");
        }
    }
}
