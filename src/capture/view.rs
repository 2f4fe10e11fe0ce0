//! What is shown of what is stored.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;
use utoipa::ToSchema;

use crate::capture::folder::Kept;
use crate::capture::problems::{Problem, Whose};
use crate::capture::rfc3339;
use crate::telemetry::Tap;
use crate::types::{ModelName, Share};

/// What the thread that stores shows.
#[derive(Debug, Default)]
pub(super) struct Board {
    /// What is wrong.
    pub(super) problems: BTreeMap<Whose, Problem>,
    /// What is whole, by model.
    pub(super) files: BTreeMap<String, FilesView>,
}

/// Which answered requests of a model are stored, and what became of them.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
pub struct CaptureView {
    /// The model.
    #[schema(value_type = String)]
    pub model: ModelName,
    /// `off`, `on`, or `failing`: something is wrong, see `problem`.
    pub state: &'static str,
    /// What is wrong.
    pub problem: Option<String>,
    /// The share of the requests.
    #[schema(value_type = String)]
    pub sample: Share,
    /// Columns that are not stored.
    pub drop: Vec<String>,
    /// Columns of which a keyed hash is stored.
    pub hash: Vec<String>,
    /// Whether no inputs are stored.
    pub outputs_only: bool,
    /// Requests that were drawn, since the process started: those below, and those that are
    /// on their way into a file.
    pub sampled: u64,
    /// Requests in files that are whole, since the process started.
    pub requests: u64,
    /// Their rows.
    pub rows: u64,
    /// Requests of the sample that are not stored, by reason: `queue_count`,
    /// `queue_bytes`, `columns` (one that is to be dropped or hashed is not there), `text`
    /// (one is no UTF-8), `disk`.
    pub dropped: BTreeMap<String, u64>,
    /// The files that are there.
    pub files: FilesView,
    /// Where they are, on the gateway's machine.
    pub folder: String,
}

/// Files that are whole.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct FilesView {
    /// How many.
    pub count: u64,
    /// Their bytes together.
    pub bytes: u64,
    /// When the oldest was finished, RFC 3339.
    pub oldest: Option<String>,
    /// When the newest was.
    pub newest: Option<String>,
}

impl FilesView {
    /// Of files by age.
    pub(super) fn of(files: &[Kept]) -> Self {
        let time = |file: &Kept| rfc3339(file.time);
        Self {
            count: u64::try_from(files.len()).unwrap_or(u64::MAX),
            bytes: files.iter().map(|file| file.bytes).fold(0, u64::saturating_add),
            oldest: files.first().map(time),
            newest: files.last().map(time),
        }
    }
}

pub(super) fn view(
    model: &ModelName,
    tap: Option<&Tap>,
    board: &Board,
    folder: &Path,
) -> CaptureView {
    // What was wrong with a former rule is wrong no more.
    let problem = tap.and_then(|tap| {
        let present = |problem: &Problem| problem.tap.is_none_or(|own| own == tap.number());
        let mut problems = board.problems.iter();
        let own = problems.find(|((of, _), problem)| of == model && present(problem));
        own.map(|(_, problem)| problem.text.clone())
    });
    let state = match (tap, &problem) {
        (None, _) => "off",
        (Some(_), None) => "on",
        (Some(_), Some(_)) => "failing",
    };
    let rule = tap.map(|tap| tap.rule().clone()).unwrap_or_default();
    let counted = tap.map(|tap| tap.stats().snapshot()).unwrap_or_default();
    let dropped = counted.dropped.into_iter();
    CaptureView {
        model: model.clone(),
        state,
        problem,
        sample: rule.sample,
        drop: rule.drop,
        hash: rule.hash,
        outputs_only: rule.outputs_only,
        sampled: counted.sampled,
        requests: counted.requests,
        rows: counted.rows,
        dropped: dropped.map(|(reason, count)| (reason.to_owned(), count)).collect(),
        files: board.files.get(model.as_str()).cloned().unwrap_or_default(),
        folder: folder.join(model.as_str()).display().to_string(),
    }
}
