//! What control shows of itself: plain values for the admin API and the CLI.

use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};

use crate::registry::Lineage;
use crate::registry::preflight::Report;
use crate::telemetry::{ArmSnapshot, ShadowSnapshot};
use crate::types::{RolloutPolicy, Share, VersionId};

/// Where a version is on its way; states only move forward (a failed version
/// stays failed until its folder is replaced by a new number, but for one that
/// the gate refused and would let pass now: it begins anew).
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, utoipa::ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Its folder is there; we wait until it is whole.
    Discovered,
    /// Its bytes are pinned; a child process tries them.
    Checking,
    /// It is loaded and optimised in this process.
    Loading,
    /// It runs zeros.
    WarmingUp,
    /// It may serve.
    Ready,
    /// It will not serve; the reason stands beside it.
    Failed,
    /// Its folder is gone and no plan names it; requests may still finish on it.
    Retiring,
    /// Its memory is free.
    Retired,
    /// Its folder is there, and somebody had it unloaded.
    Unloaded,
}

impl State {
    /// The word used in metric labels, JSON and logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Discovered => "discovered",
            Self::Checking => "checking",
            Self::Loading => "loading",
            Self::WarmingUp => "warming_up",
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Retiring => "retiring",
            Self::Retired => "retired",
            Self::Unloaded => "unloaded",
        }
    }
}

/// One model.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ModelView {
    /// Its name.
    pub name: String,
    /// How a rollout brings in its versions.
    #[serde(skip)]
    pub rollout: Arc<RolloutPolicy>,
    /// Who owns it.
    pub owner: Option<String>,
    /// What it is.
    pub description: Option<String>,
    /// Names of the columns of a row.
    pub features: Vec<String>,
    /// The request field that serves as routing key.
    pub routing_key: Option<String>,
    /// What is wrong with its folder or its settings.
    pub problems: Vec<String>,
    /// What its `config.pbtxt` says and is not taken, with the reason.
    pub not_taken: Vec<String>,
    /// Who answers.
    pub plan: PlanView,
    /// All versions, by number.
    pub versions: Vec<VersionView>,
}

/// Who answers for a model.
#[derive(Clone, Debug, Default, PartialEq, Serialize, utoipa::ToSchema)]
pub struct PlanView {
    /// Counts publishes, from 1.
    pub generation: u64,
    /// Answers what the canary does not.
    pub champion: Option<ArmView>,
    /// Answers its weight's share.
    pub canary: Option<CanaryView>,
    /// Run on copies.
    pub shadows: Vec<ShadowView>,
    /// What a rollback would make champion again.
    #[schema(value_type = Option<u64>)]
    pub previous_champion: Option<VersionId>,
}

impl std::fmt::Display for PlanView {
    /// `champion 1, canary 2 at 10%, shadow 3 at 100%`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(champion) = &self.champion else { return f.write_str("nobody answers") };
        write!(f, "champion {}", champion.version)?;
        if let Some(canary) = &self.canary {
            let role = if canary.holdback { "control" } else { "canary" };
            write!(f, ", {role} {} at {}", canary.version, canary.weight)?;
        }
        self.shadows
            .iter()
            .try_for_each(|shadow| write!(f, ", shadow {} at {}", shadow.version, shadow.sample))
    }
}

/// A version in a plan.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ArmView {
    /// Its number.
    #[schema(value_type = u64)]
    pub version: VersionId,
}

/// The canary in a plan.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct CanaryView {
    /// Its number.
    #[schema(value_type = u64)]
    pub version: VersionId,
    /// Its share of the requests, as a percentage (`"5%"`).
    #[schema(value_type = String)]
    pub weight: Share,
    /// Whether it is the former champion, kept as a control.
    pub holdback: bool,
}

/// A shadow in a plan.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct ShadowView {
    /// Its number.
    #[schema(value_type = u64)]
    pub version: VersionId,
    /// The share of the champion's requests that are copied (`"100%"`).
    #[schema(value_type = String)]
    pub sample: Share,
}

/// One version.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct VersionView {
    /// Its number.
    #[schema(value_type = u64)]
    pub version: VersionId,
    /// Where it is on its way.
    pub state: State,
    /// Why it failed, or what it waits for.
    pub reason: Option<String>,
    /// `sha256:…` of its artifact, once pinned.
    pub digest: Option<String>,
    /// The engine that runs it, once loaded.
    pub engine: Option<&'static str>,
    /// Where it comes from.
    pub lineage: Lineage,
    /// What it takes, once loaded.
    pub inputs: Vec<TensorSpecView>,
    /// What it gives, once loaded.
    pub outputs: Vec<TensorSpecView>,
    /// Seconds that one row takes, measured at warm-up.
    pub cost_seconds: Option<f64>,
    /// What its trial found out, once it has ended; not in the list of all
    /// models.
    #[serde(serialize_with = "inner")]
    #[schema(value_type = Option<Report>)]
    pub report: Option<Arc<Report>>,
    /// When it came into its state, RFC 3339.
    pub since: String,
}

fn inner<S: Serializer>(report: &Option<Arc<Report>>, to: S) -> Result<S::Ok, S::Error> {
    report.as_deref().serialize(to)
}

/// An input or output.
#[derive(Clone, Debug, PartialEq, Serialize, utoipa::ToSchema)]
pub struct TensorSpecView {
    /// Its name.
    pub name: String,
    /// Its element type, as in the Open Inference Protocol.
    pub datatype: &'static str,
    /// Its dimensions; −1 may vary.
    pub shape: Vec<i64>,
}

/// Champion, canary and shadows side by side.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct Comparison {
    /// The model.
    pub model: String,
    /// The plan that is in force.
    pub plan: PlanView,
    /// The champion's figures.
    pub champion: Option<ComparisonArm>,
    /// The canary's figures.
    pub canary: Option<ComparisonArm>,
    /// Each shadow's figures.
    pub shadows: Vec<ComparisonShadow>,
}

/// Figures of a version that answers.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ComparisonArm {
    /// Its number.
    #[schema(value_type = u64)]
    pub version: VersionId,
    /// Its share of the requests.
    #[schema(value_type = String)]
    pub share: Share,
    /// The counts in this role since the process started.
    #[serde(flatten)]
    pub figures: ArmSnapshot,
}

/// Figures of a version that runs on copies.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct ComparisonShadow {
    /// Its number.
    #[schema(value_type = u64)]
    pub version: VersionId,
    /// The share of the champion's requests that are copied.
    #[schema(value_type = String)]
    pub sample: Share,
    /// The counts since the process started.
    #[serde(flatten)]
    pub figures: ShadowSnapshot,
}

/// One of the worst disagreements between champion and shadow.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct DisagreementView {
    /// The reply's prediction id.
    pub prediction_id: String,
    /// Rows in the request.
    pub rows: usize,
    /// Rows that disagree.
    pub rows_disagreed: usize,
    /// Largest absolute difference.
    pub difference_max: f64,
    /// Names of the input's columns, where the model declares them.
    pub features: Vec<String>,
    /// What was sent.
    pub inputs: Vec<TensorView>,
    /// The champion's answer.
    pub champion: Vec<TensorView>,
    /// The shadow's answer.
    pub shadow: Vec<TensorView>,
}

/// A tensor for people.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
pub struct TensorView {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub datatype: &'static str,
    /// Its dimensions.
    pub shape: Vec<usize>,
    /// Its elements, flat; strings as UTF-8 (lossy), non-finite numbers as null.
    pub data: Vec<serde_json::Value>,
}
