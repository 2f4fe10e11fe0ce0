//! The parts of the admin API's replies that commands show. Unknown fields
//! are ignored, so that an older client reads a newer gateway.

use std::collections::BTreeMap;

use serde::Deserialize;

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
    pub(super) inputs: Vec<Tensor>,
    pub(super) champion: Vec<Tensor>,
    pub(super) shadow: Vec<Tensor>,
}

#[derive(Debug, Deserialize)]
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
