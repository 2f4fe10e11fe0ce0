//! Odd rows, as they are shown.

use serde::Serialize;
use utoipa::ToSchema;

use crate::monitor::rounds::rfc3339;
use crate::monitor::view::DriftView;
use crate::telemetry::{OddRow, Watch};
use crate::types::{ModelName, VersionId, WhyOdd};

/// Which rows that a version answered are odd by its profile.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct AnomalyView {
    /// The model.
    #[schema(value_type = String)]
    pub model: ModelName,
    /// The version.
    #[schema(value_type = u64)]
    pub version: VersionId,
    /// The share of rows like the profile's that may be called odd, 0 to 1; `null` if its
    /// owner wants none looked for.
    pub level: Option<f64>,
    /// Whether rows are looked at: `counting`; else `learning` a profile, `off` by its
    /// owner's will, or `resting`: without a profile, or with one that cannot be used.
    pub standing: &'static str,
    /// What is wrong with its profile.
    pub problem: Option<String>,
    /// The least share that anything but a number beyond all of the profile's can have:
    /// where that is above `level`, only such numbers are odd. It takes a profile of more
    /// rows.
    pub least: Option<f64>,
    /// Rows that were looked at by the present profile at the present level.
    pub rows: u64,
    /// How many of them were odd.
    pub odd: u64,
    /// By what makes them so.
    pub reasons: Vec<OddTallyView>,
    /// The newest requests with odd rows, the newest first: 32 at most.
    pub newest: Vec<OddRowView>,
}

/// How many rows were odd for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct OddTallyView {
    /// `missing`, `nan`, `below` the lowest or `above` the highest value of the profile,
    /// `unseen` there, `rare`, or `missing_together`: inputs that do not lack their values
    /// together.
    pub why: &'static str,
    /// Rows.
    pub rows: u64,
}

/// A request with odd rows, by the oddest of them. Of its values nothing is told.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct OddRowView {
    /// When it was answered, RFC 3339.
    pub at: String,
    /// The reply's prediction id.
    pub prediction_id: String,
    /// How many of its rows are odd, of those that were looked at.
    pub odd: u64,
    /// The oddest one, from 0.
    pub row: usize,
    /// −log10 of the share of rows like the profile's that are as odd, at most: 3 is one
    /// in a thousand. 0 to 12, in steps of a half: more would tell a number.
    pub score: f64,
    /// What makes it odd.
    pub why: &'static str,
    /// The input that does, if it is one.
    pub input: Option<String>,
}

impl AnomalyView {
    /// With what drift says of the same version.
    pub(super) fn of(watch: &Watch, drift: &DriftView) -> Self {
        let (counts, newest) = watch.odd_rows().unwrap_or_default();
        let level = watch.odd_level();
        let reasons = WhyOdd::ALL.iter().zip(counts.by_why).filter(|(_, rows)| *rows > 0);
        Self {
            model: watch.model().clone(),
            version: watch.version(),
            level,
            standing: if level.is_some() { drift.standing } else { "off" },
            problem: drift.problem.clone(),
            least: watch.profile().map(|profile| profile.least_odd_share()),
            rows: counts.rows,
            odd: counts.odd(),
            reasons: reasons.map(|(why, rows)| OddTallyView { why: why.as_str(), rows }).collect(),
            newest: newest.into_iter().map(OddRowView::from).collect(),
        }
    }
}

impl From<OddRow> for OddRowView {
    fn from(OddRow { at, prediction_id, odd, row, score, why, input }: OddRow) -> Self {
        Self { at: rfc3339(at), prediction_id, odd, row, score, why: why.as_str(), input }
    }
}
