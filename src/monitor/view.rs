//! What the monitor shows.

use serde::Serialize;
use utoipa::ToSchema;

use crate::analysis::Rates;
use crate::types::{ModelName, VersionId};

/// Whether the rows that a version answers look like those that it was made for.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct DriftView {
    /// The model.
    #[schema(value_type = String)]
    pub model: ModelName,
    /// The version.
    #[schema(value_type = u64)]
    pub version: VersionId,
    /// `learning` a profile from its first rows, `counting`, `off` by its owner's will, or
    /// `resting`: without a profile, or with one that cannot be used.
    pub standing: &'static str,
    /// What is wrong with its profile.
    pub problem: Option<String>,
    /// What its rows are compared with.
    pub reference: Option<ReferenceView>,
    /// How far its profile is learnt.
    pub learnt: Option<LearntView>,
    /// Rows of the present window, which is judged when it is whole.
    pub window_rows: u64,
    /// Rows that make a window whole.
    pub window_rows_wanted: u64,
    /// The last whole window.
    pub last: Option<WindowView>,
    /// Rows that were not looked at, since the version is loaded: of requests with more
    /// than 64, or fewer where rows are wide, the others.
    pub rows_passed_over: u64,
    /// Requests of which nothing was learnt, since another one's rows were being taken.
    pub requests_passed_over: u64,
    /// Inputs, then outputs, as of the last whole window.
    pub columns: Vec<ColumnView>,
    /// Of a canary: how the rows that it answers differ from those that its champion does.
    pub against_champion: Option<AgainstView>,
}

/// Whether the rows that a canary answers look like those of its champion in the same time.
/// Both answer a share of the same traffic, so inputs should; outputs tell what would
/// change.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct AgainstView {
    /// The champion.
    #[schema(value_type = u64)]
    pub version: VersionId,
    /// Why they cannot be compared.
    pub problem: Option<String>,
    /// Rows of the canary's present window; it is judged when both have rows enough.
    pub window_rows: u64,
    /// Rows of the champion's.
    pub champion_window_rows: u64,
    /// The last whole window.
    pub last: Option<BothWindowView>,
    /// Inputs, then outputs, as of the last whole window, in the bins of the champion's
    /// profile. The reference is the champion.
    pub columns: Vec<ColumnView>,
    /// Columns of the champion's profile that are other ones in the canary.
    pub not_comparable: Vec<OtherColumnView>,
}

/// A window of both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct BothWindowView {
    /// The canary's rows.
    pub rows: u64,
    /// The champion's.
    pub champion_rows: u64,
    /// Its beginning, RFC 3339.
    pub from: String,
    /// Its end, RFC 3339.
    pub to: String,
}

/// A column that cannot be compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct OtherColumnView {
    /// `input` or `output`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// Why not.
    pub reason: String,
}

/// A profile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct ReferenceView {
    /// Where its rows came from.
    pub source: String,
    /// When it was made, RFC 3339.
    pub created: String,
    /// Its rows.
    pub rows: u64,
}

/// How far a profile is learnt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct LearntView {
    /// Rows that were taken.
    pub rows: u64,
    /// Rows that make it whole.
    pub rows_wanted: u64,
}

/// A window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct WindowView {
    /// Its rows.
    pub rows: u64,
    /// Its beginning, RFC 3339.
    pub from: String,
    /// Its end, RFC 3339.
    pub to: String,
}

/// One column.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct ColumnView {
    /// `input` or `output`.
    pub kind: &'static str,
    /// Its name.
    pub name: String,
    /// `waiting` for rows, `steady`, `moved` in the last window, or `drifting`: it moved
    /// in three windows in a row. Against a champion: `waiting`, `alike`, `apart` in the
    /// last window, or `different`: in three in a row.
    pub state: &'static str,
    /// Why it cannot be judged.
    pub reason: Option<String>,
    /// Population stability index.
    pub psi: Option<f64>,
    /// What the index must exceed.
    pub bound: Option<f64>,
    /// Jensen-Shannon divergence in bits, 0 to 1.
    pub js: Option<f64>,
    /// How often a difference as large comes by chance, without any drift.
    pub p_value: Option<f64>,
    /// Rates of the reference.
    pub reference: RatesView,
    /// Rates of the window.
    pub window: RatesView,
}

/// Shares of rows whose value has no bin, 0 to 1.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, ToSchema)]
pub struct RatesView {
    /// Without a value.
    pub missing: f64,
    /// NaN.
    pub nan: f64,
    /// Below the lowest or above the highest value of the reference.
    pub out_of_range: f64,
    /// A category that the reference has not.
    pub unseen: f64,
}

impl From<Rates> for RatesView {
    fn from(Rates { missing, nan, out_of_range, unseen }: Rates) -> Self {
        Self { missing, nan, out_of_range, unseen }
    }
}
