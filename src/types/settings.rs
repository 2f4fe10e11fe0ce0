//! What a model's owner settles in `model.toml` and `config.pbtxt`, checked.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::types::{LabelSettings, Share, Tensor, TritonSettings};

/// What kind of answer a model gives; it decides what "agreement" means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// A class per row: by label output, else by the largest score.
    Classification,
    /// A number per row: agreement within a tolerance.
    Regression,
}

/// How a model's requests are put together to batches, where its owner says
/// something of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Batching {
    /// Whether they may be at all.
    pub enabled: bool,
    /// The most rows of a batch; `None` takes what the gateway's settings say
    /// and the measured cost makes worthwhile.
    pub rows_max: Option<usize>,
    /// How long a request may wait for others, although a thread is free;
    /// `None` takes the gateway's setting.
    pub delay_max: Option<Duration>,
}

impl Batching {
    /// The most rows that a batch may be allowed: larger ones would find no plan
    /// of their size, and compute no row faster.
    pub const ROWS_LIMIT: usize = 1024;
}

impl Default for Batching {
    fn default() -> Self {
        Self { enabled: true, rows_max: None, delay_max: None }
    }
}

/// Which answered requests of a model are stored, and how.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CaptureRule {
    /// The share of the requests.
    pub sample: Share,
    /// Columns that are not stored, by name.
    pub drop: Vec<String>,
    /// Columns of which a keyed hash is stored instead, by name.
    pub hash: Vec<String>,
    /// Whether no inputs are stored at all.
    pub outputs_only: bool,
}

/// The part of these files that the data path needs. Immutable: a changed
/// file is published as a new plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ModelSettings {
    /// Column names of the single tabular input, in order; empty when rows
    /// are sent as arrays only.
    pub features: Vec<String>,
    /// The request field (a feature or a top-level key of `/predict`'s body)
    /// that serves as routing key when the header is absent.
    pub routing_key: Option<String>,
    /// Classification or regression; `None` lets the outputs tell.
    pub task: Option<Task>,
    /// A regressor's tolerance, absolute; `None` means 1 % of the champion's
    /// observed range.
    pub tolerance: Option<f64>,
    /// Whether a shadow's copies are shared with the champion, which shows how
    /// often it differs from itself.
    pub shadow_noise: bool,
    /// Whether its answers' rows are not compared with its profile.
    pub drift_off: bool,
    /// See [`Self::odd_rows`].
    pub odd_rows: Option<Share>,
    /// Whether no reply tells how odd its request's rows are.
    pub odd_untold: bool,
    /// What is kept of its answers for labels; nothing for `None`.
    pub labels: Option<Arc<LabelSettings>>,
    /// Which of its answered requests are stored, and how; `None` stores none.
    pub capture: Option<Arc<CaptureRule>>,
    /// Whether a header or parameter may force a role.
    pub allow_forced_role: bool,
    /// Whether a reply may carry `null` for a non-finite number, instead of
    /// being an error.
    pub nonfinite_as_null: bool,
    /// How its requests are batched.
    pub batching: Batching,
    /// The most rows of one request.
    pub rows_max: Option<usize>,
    /// What its `config.pbtxt` says, if it has one.
    pub triton: Option<Arc<TritonSettings>>,
}

impl ModelSettings {
    /// The share of rows like its profile's that may be called odd: 1 % if nobody says
    /// otherwise. With 0 % none is looked for.
    #[must_use]
    pub fn odd_rows(&self) -> Share {
        const USUAL: Share = Share::from_basis_points(100).expect("1 %");
        self.odd_rows.unwrap_or(USUAL)
    }

    /// Refuses a request of more rows than its owner allows.
    pub fn check_rows(&self, inputs: &[Tensor]) -> Result<()> {
        match (self.rows_max, inputs.first().map(Tensor::rows)) {
            (Some(max), Some(rows)) if rows > max => Err(Error::invalid(format!(
                "expected at most {max} rows (max_batch_size), got {rows}; send them in several \
                 requests"
            ))),
            _ => Ok(()),
        }
    }
}
