//! The parts of the admin API's replies that commands show. Unknown fields
//! are ignored, so that an older client reads a newer gateway.

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::registry::preflight::Report;

#[derive(Debug, Deserialize)]
pub(super) struct Models {
    pub(super) models: Vec<Model>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Model {
    pub(super) name: String,
    pub(super) owner: Option<String>,
    pub(super) description: Option<String>,
    pub(super) problems: Vec<String>,
    #[serde(default)]
    pub(super) not_taken: Vec<String>,
    pub(super) plan: Plan,
    pub(super) versions: Vec<Version>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Plan {
    pub(super) generation: u64,
    pub(super) champion: Option<Arm>,
    pub(super) canary: Option<Canary>,
    pub(super) shadows: Vec<Shadow>,
    pub(super) previous_champion: Option<u64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Drifts {
    pub(super) versions: Vec<DriftVersion>,
}

#[derive(Debug, Deserialize)]
pub(super) struct DriftVersion {
    pub(super) version: u64,
    pub(super) standing: String,
    pub(super) problem: Option<String>,
    pub(super) reference: Option<DriftReference>,
    pub(super) learnt: Option<DriftLearnt>,
    pub(super) window_rows: u64,
    pub(super) window_rows_wanted: u64,
    pub(super) last: Option<DriftWindow>,
    pub(super) rows_passed_over: u64,
    pub(super) columns: Vec<DriftColumn>,
    pub(super) against_champion: Option<DriftAgainst>,
}

#[derive(Debug, Deserialize)]
pub(super) struct DriftAgainst {
    pub(super) version: u64,
    pub(super) problem: Option<String>,
    pub(super) window_rows: u64,
    pub(super) champion_window_rows: u64,
    pub(super) last: Option<DriftOfBoth>,
    pub(super) columns: Vec<DriftColumn>,
    pub(super) not_comparable: Vec<DriftOther>,
}

#[derive(Debug, Deserialize)]
pub(super) struct DriftOfBoth {
    pub(super) rows: u64,
    pub(super) champion_rows: u64,
    pub(super) from: String,
    pub(super) to: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct DriftOther {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) reason: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct DriftReference {
    pub(super) source: String,
    pub(super) created: String,
    pub(super) rows: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct DriftLearnt {
    pub(super) rows: u64,
    pub(super) rows_wanted: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct DriftWindow {
    pub(super) rows: u64,
    pub(super) from: String,
    pub(super) to: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct DriftColumn {
    pub(super) kind: String,
    pub(super) name: String,
    pub(super) state: String,
    pub(super) reason: Option<String>,
    pub(super) psi: Option<f64>,
    pub(super) bound: Option<f64>,
    pub(super) js: Option<f64>,
    pub(super) p_value: Option<f64>,
    pub(super) reference: DriftRates,
    pub(super) window: DriftRates,
}

#[derive(Debug, Deserialize)]
pub(super) struct DriftRates {
    pub(super) missing: f64,
    pub(super) nan: f64,
    pub(super) out_of_range: f64,
    pub(super) unseen: f64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Anomalies {
    pub(super) versions: Vec<AnomalyVersion>,
}

#[derive(Debug, Deserialize)]
pub(super) struct AnomalyVersion {
    pub(super) version: u64,
    pub(super) level: Option<f64>,
    pub(super) standing: String,
    pub(super) problem: Option<String>,
    pub(super) least: Option<f64>,
    pub(super) rows: u64,
    pub(super) odd: u64,
    pub(super) reasons: Vec<OddTally>,
    pub(super) newest: Vec<OddRow>,
}

#[derive(Debug, Deserialize)]
pub(super) struct OddTally {
    pub(super) why: String,
    pub(super) rows: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct OddRow {
    pub(super) at: String,
    pub(super) prediction_id: String,
    pub(super) odd: u64,
    pub(super) row: u64,
    pub(super) score: f64,
    pub(super) why: String,
    pub(super) input: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Alerts {
    pub(super) alerts: Vec<Alert>,
    pub(super) passed_over: u64,
    pub(super) unrecorded: u64,
    pub(super) dropped: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Alert {
    pub(super) alert: String,
    pub(super) model: Option<String>,
    pub(super) version: Option<u64>,
    pub(super) state: String,
    pub(super) says: String,
    pub(super) since: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Arm {
    pub(super) version: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Canary {
    pub(super) version: u64,
    pub(super) weight: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Shadow {
    pub(super) version: u64,
    pub(super) sample: String,
}

impl Plan {
    /// What a version does, in words; empty when it has no role.
    pub(super) fn role(&self, version: u64) -> String {
        if self.champion.as_ref().is_some_and(|arm| arm.version == version) {
            return "champion".into();
        }
        if let Some(canary) = self.canary.as_ref().filter(|canary| canary.version == version) {
            return format!("canary {}", canary.weight);
        }
        let shadow = self.shadows.iter().find(|shadow| shadow.version == version);
        shadow.map_or_else(String::new, |shadow| format!("shadow {}", shadow.sample))
    }

    /// Who answers, in a line.
    pub(super) fn in_words(&self) -> String {
        let champion = self.champion.as_ref().map(|arm| format!("champion {}", arm.version));
        let canary = self.canary.as_ref();
        let canary = canary.map(|canary| format!("canary {} at {}", canary.version, canary.weight));
        let shadows = self.shadows.iter();
        let shadows =
            shadows.map(|shadow| format!("shadow {} at {}", shadow.version, shadow.sample));
        let parts: Vec<_> = champion.into_iter().chain(canary).chain(shadows).collect();
        if parts.is_empty() { "nobody answers".into() } else { parts.join(", ") }
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct Version {
    pub(super) version: u64,
    pub(super) state: String,
    pub(super) reason: Option<String>,
    pub(super) digest: Option<String>,
    pub(super) engine: Option<String>,
    pub(super) lineage: Lineage,
    pub(super) inputs: Vec<TensorSpec>,
    pub(super) outputs: Vec<TensorSpec>,
    pub(super) cost_seconds: Option<f64>,
    #[serde(default)]
    pub(super) report: Option<Report>,
    pub(super) since: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Lineage {
    pub(super) code_commit: Option<String>,
    pub(super) data_digest: Option<String>,
    pub(super) seed: Option<i64>,
    pub(super) training_run: Option<String>,
    pub(super) author: Option<String>,
    pub(super) created: Option<String>,
    pub(super) notes: Option<String>,
    pub(super) metrics: BTreeMap<String, f64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct TensorSpec {
    pub(super) name: String,
    pub(super) datatype: String,
    pub(super) shape: Vec<i64>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Comparison {
    pub(super) model: String,
    pub(super) plan: Plan,
    pub(super) champion: Option<ArmFigures>,
    pub(super) canary: Option<ArmFigures>,
    pub(super) shadows: Vec<ShadowFigures>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ArmFigures {
    pub(super) version: u64,
    pub(super) share: String,
    pub(super) ok: u64,
    pub(super) failed: u64,
    pub(super) inference_p50_seconds: Option<f64>,
    pub(super) inference_p99_seconds: Option<f64>,
    pub(super) cpu_mean_seconds: Option<f64>,
    pub(super) nonfinite: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct ShadowFigures {
    pub(super) version: u64,
    pub(super) sample: String,
    pub(super) compared: u64,
    pub(super) rows: u64,
    pub(super) rows_disagreed: u64,
    pub(super) failures: BTreeMap<String, u64>,
    pub(super) dropped: BTreeMap<String, u64>,
    pub(super) difference_max: Option<f64>,
    pub(super) difference_mean: Option<f64>,
    pub(super) cpu_mean_seconds: Option<f64>,
    #[serde(default)]
    pub(super) noise: Option<NoiseFigures>,
}

#[derive(Debug, Deserialize)]
pub(super) struct NoiseFigures {
    pub(super) champion_compared: u64,
    pub(super) champion_disagreed: u64,
    pub(super) champion_failed: u64,
    pub(super) shadow_compared: u64,
    pub(super) shadow_disagreed: u64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Disagreements {
    pub(super) disagreements: Vec<Disagreement>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Disagreement {
    pub(super) prediction_id: String,
    pub(super) rows: u64,
    pub(super) rows_disagreed: u64,
    pub(super) difference_max: Option<f64>,
    pub(super) features: Vec<String>,
    pub(super) inputs: Vec<Tensor>,
    pub(super) champion: Vec<Tensor>,
    pub(super) shadow: Vec<Tensor>,
}

#[derive(Debug, PartialEq, Deserialize)]
pub(super) struct Tensor {
    pub(super) name: String,
    pub(super) data: Vec<serde_json::Value>,
}

#[derive(Debug, Deserialize)]
pub(super) struct History {
    pub(super) entries: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Entry {
    pub(super) number: u64,
    pub(super) time: String,
    pub(super) model: String,
    pub(super) actor: String,
    pub(super) action: String,
    pub(super) reason: Option<String>,
    pub(super) from: String,
    pub(super) to: String,
}

#[cfg(test)]
mod tests {
    use serde::Serialize;
    use serde::de::DeserializeOwned;

    use super::*;
    use crate::registry::{self, State};
    use crate::store::AuditEntry;
    use crate::telemetry::{ArmRole, Metrics};
    use crate::types::{ModelName, Share, VersionId};

    /// What the gateway writes, as a command reads it.
    fn read<T: DeserializeOwned>(written: impl Serialize) -> T {
        serde_json::from_str(&serde_json::to_string(&written).unwrap()).unwrap()
    }

    fn one() -> VersionId {
        VersionId::new(1).unwrap()
    }

    #[test]
    fn models_read_as_they_are_written() {
        let spec = registry::TensorSpecView { name: "x".into(), datatype: "FP32", shape: vec![-1] };
        let written = registry::VersionView {
            version: one(),
            state: State::WarmingUp,
            reason: Some("why".into()),
            digest: Some("sha256:ab".into()),
            engine: Some("tract"),
            lineage: registry::Lineage { seed: Some(7), ..registry::Lineage::default() },
            inputs: vec![spec.clone()],
            outputs: vec![spec],
            cost_seconds: Some(0.5),
            report: Some(std::sync::Arc::new(Report { engine: "e".into(), ..Report::default() })),
            since: "now".into(),
        };
        let version: Version = read(written);
        assert_eq!((version.state.as_str(), version.lineage.seed), ("warming_up", Some(7)));
        assert_eq!(version.inputs[0].shape, [-1]);
        assert_eq!(version.report.unwrap().engine, "e");
        let plan: Plan = read(registry::PlanView {
            generation: 2,
            champion: Some(registry::ArmView { version: one() }),
            canary: Some(registry::CanaryView {
                version: one(),
                weight: Share::ALL,
                holdback: false,
            }),
            shadows: vec![registry::ShadowView { version: one(), sample: Share::ALL }],
            previous_champion: Some(one()),
        });
        assert_eq!(plan.in_words(), "champion 1, canary 1 at 100%, shadow 1 at 100%");
        assert_eq!(plan.previous_champion, Some(1));
    }

    #[test]
    fn comparisons_read_as_they_are_written() {
        let (metrics, model) = (Metrics::new(), ModelName::new("churn").unwrap());
        let arm = metrics.arm(&model, one(), ArmRole::Champion);
        arm.answered(crate::telemetry::Answered::within(std::time::Duration::ZERO));
        let shadow = metrics.shadow(&model, one());
        shadow.compared(4, 1, f64::INFINITY, 0.5);
        let written = registry::Comparison {
            model: "churn".into(),
            plan: registry::PlanView::default(),
            champion: Some(registry::ComparisonArm {
                version: one(),
                share: Share::ALL,
                figures: arm.snapshot(),
            }),
            canary: None,
            shadows: vec![registry::ComparisonShadow {
                version: one(),
                sample: Share::ALL,
                figures: shadow.snapshot(),
            }],
        };
        let comparison: Comparison = read(written);
        assert_eq!(comparison.champion.unwrap().ok, 1);
        let shadow = &comparison.shadows[0];
        assert_eq!((shadow.rows, shadow.rows_disagreed, shadow.difference_max), (4, 1, None));
    }

    #[test]
    fn history_and_disagreements_read_as_they_are_written() {
        let entry: Entry = read(AuditEntry {
            number: 1,
            time: "now".into(),
            model: "churn".into(),
            actor: "eve".into(),
            action: "promote 1".into(),
            reason: None,
            from: "a".into(),
            to: "b".into(),
            evidence: None,
            hash: "sha256:0".into(),
        });
        assert_eq!((entry.actor.as_str(), entry.to.as_str()), ("eve", "b"));
        let tensor = registry::TensorView {
            name: "x".into(),
            datatype: "FP32",
            shape: vec![1],
            data: vec![serde_json::Value::Null],
        };
        let found: Disagreement = read(registry::DisagreementView {
            prediction_id: "p".into(),
            rows: 1,
            rows_disagreed: 1,
            difference_max: f64::INFINITY,
            features: vec!["age".into()],
            inputs: vec![tensor],
            champion: vec![],
            shadow: vec![],
        });
        assert_eq!((found.difference_max, found.inputs[0].data.len()), (None, 1));
    }
}
