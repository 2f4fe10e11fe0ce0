//! Figures of rollouts.

use prometheus::GaugeVec;

use crate::telemetry::Metrics;
use crate::telemetry::metrics::Declare;
use crate::types::{ModelName, VersionId};

const ROLLOUT: &[&str] = &["model", "version"];
const PHASE: &[&str] = &["model", "version", "phase"];
const EVIDENCE: &[&str] = &["model", "version", "guard", "verdict"];
const GUARD: &[&str] = &["model", "version", "guard"];

/// What is shown of a model's newest rollout.
#[derive(Clone, Debug, PartialEq)]
pub struct RolloutFigures {
    /// The version that it brings in.
    pub version: VersionId,
    /// How it stands.
    pub phase: &'static str,
    /// The present stage's place, from 0.
    pub stage: usize,
    /// Each guard.
    pub guards: Vec<GuardFigures>,
}

/// What is shown of a guard.
#[derive(Clone, Debug, PartialEq)]
pub struct GuardFigures {
    /// Its name.
    pub guard: &'static str,
    /// The largest ln E for "worse".
    pub worse_ln_e: Option<f64>,
    /// The largest ln E for "not worse".
    pub not_worse_ln_e: Option<f64>,
    /// The ratio, rate or distance.
    pub effect: Option<f64>,
}

/// All families.
pub(super) struct Rollouts {
    stage: GaugeVec,
    phase: GaugeVec,
    evidence: GaugeVec,
    effect: GaugeVec,
}

impl Rollouts {
    pub(super) fn declare(d: &Declare<'_>) -> Self {
        Self {
            stage: d.float_gauges(
                "foreshadow_rollout_stage",
                "The stage of a model's newest rollout, from 0.",
                ROLLOUT,
            ),
            phase: d.float_gauges(
                "foreshadow_rollout_phase",
                "How a model's newest rollout stands: 1 for its phase.",
                PHASE,
            ),
            evidence: d.float_gauges(
                "foreshadow_rollout_log_evidence",
                "The largest ln E of a guard for a verdict; ln(1/level) decides.",
                EVIDENCE,
            ),
            effect: d.float_gauges(
                "foreshadow_rollout_effect",
                "A guard's ratio of canary to champion, or its rate, or distance.",
                GUARD,
            ),
        }
    }
}

impl Metrics {
    /// Shows how a model's newest rollout stands, in place of what was shown.
    pub fn set_rollout(&self, model: &ModelName, figures: &RolloutFigures) {
        self.remove_rollout(model);
        let (model, version) = (model.as_str(), figures.version.to_string());
        let families = &self.rollouts;
        #[expect(clippy::cast_precision_loss, reason = "a handful of stages")]
        families.stage.with_label_values(&[model, &version]).set(figures.stage as f64);
        families.phase.with_label_values(&[model, &version, figures.phase]).set(1.0);
        for guard in &figures.guards {
            for (verdict, ln_e) in
                [("worse", guard.worse_ln_e), ("not_worse", guard.not_worse_ln_e)]
            {
                let labels = [model, &version, guard.guard, verdict];
                if let Some(ln_e) = ln_e {
                    families.evidence.with_label_values(&labels).set(ln_e);
                }
            }
            if let Some(effect) = guard.effect {
                families.effect.with_label_values(&[model, &version, guard.guard]).set(effect);
            }
        }
    }

    /// Shows no rollout of a model any more.
    pub fn remove_rollout(&self, model: &ModelName) {
        let families = &self.rollouts;
        for family in [&families.stage, &families.phase, &families.evidence, &families.effect] {
            self.remove(family, model.as_str(), None);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_state_takes_the_place_of_the_last() {
        let metrics = Metrics::new();
        let model = ModelName::new("m").unwrap();
        let figures = |phase, ln_e| RolloutFigures {
            version: VersionId::new(3).unwrap(),
            phase,
            stage: 1,
            guards: vec![GuardFigures {
                guard: "errors",
                worse_ln_e: Some(ln_e),
                not_worse_ln_e: None,
                effect: None,
            }],
        };
        metrics.set_rollout(&model, &figures("running", 0.5));
        metrics.set_rollout(&model, &figures("stopped", 1.5));
        let text = metrics.render();
        let line = "foreshadow_rollout_phase{model=\"m\",phase=\"stopped\",version=\"3\"} 1";
        assert!(text.contains(line), "{text}");
        assert!(!text.contains("phase=\"running\""));
        assert!(text.contains("verdict=\"worse\",version=\"3\"} 1.5"));
        metrics.remove_rollout(&model);
        assert!(!metrics.render().contains("foreshadow_rollout_phase{"));
    }
}
