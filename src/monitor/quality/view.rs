//! How good a model's answers were, as it is shown.

use serde::Serialize;
use utoipa::ToSchema;

use crate::analysis::{Disparity, Figures};
use crate::types::{ModelName, VersionId};

/// How good a model's answers were, by the labels that came for them.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct QualityView {
    /// The model.
    #[schema(value_type = String)]
    pub model: ModelName,
    /// The answers of so many days, today (UTC) among them.
    pub days: u32,
    /// Why nothing is known, or why what is known may be old.
    pub problem: Option<String>,
    /// Labels, of all models, that wait for an answer that nobody knows (yet).
    pub labels_waiting: u64,
    /// Each version in each of its roles; the lowest number first.
    pub versions: Vec<VersionQuality>,
}

/// A version in a role.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct VersionQuality {
    /// The version.
    #[schema(value_type = u64)]
    pub version: VersionId,
    /// `champion` or `canary`.
    pub role: String,
    /// Names of the classes, in their order; empty where they are whole numbers from 0, or
    /// there are none.
    pub classes: Vec<String>,
    /// Of all its rows.
    pub figures: Figures,
    /// The same by groups.
    pub groupings: Vec<GroupingView>,
}

/// Rows divided into groups.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct GroupingView {
    /// By what.
    pub grouping: String,
    /// Its groups.
    pub groups: Vec<GroupView>,
    /// How differently they are treated; of models with two classes.
    pub disparity: Option<Disparity>,
}

/// A group.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct GroupView {
    /// Its name; `(other)` for those that `model.toml` does not name.
    pub group: String,
    /// Of its rows.
    pub figures: Figures,
}
