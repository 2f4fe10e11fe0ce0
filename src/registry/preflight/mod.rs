//! Tries a candidate in a child process before it is loaded here.
//!
//! A loader that panics, loops or asks for 200 GB kills the child, not the
//! gateway. The child is this same binary under a hidden subcommand; it reads
//! a spec on its standard input and writes what it does and finds on its
//! standard output, a line of JSON at the start of each stage and one at the
//! end.

mod cache;
mod child;
mod compare;
mod costs;
mod golden;
mod inputs;
mod memory;
mod parent;
mod report;
mod rows;
mod running;
mod trial;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::EngineSettings;
use crate::types::thread::Class;
use crate::types::{Declared, Digest, ModelName, VersionId};

pub use child::child_main;
pub use parent::ChildPreflight;
pub use report::{
    BatchCost, DocsReport, GoldenFailure, GoldenReport, MemoryReport, OperatorReport,
    PropertyReport, Report, RowsReport, RowsVerdict, SignatureReport, TensorReport,
};

/// A version whose bytes are pinned, and which nobody has loaded yet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidate {
    /// The model.
    pub model: ModelName,
    /// The version.
    pub version: VersionId,
    /// The pinned artifact.
    pub artifact: PathBuf,
    /// Its digest.
    pub digest: Digest,
    /// The pinned `golden.json` and its digest, if there is one.
    pub golden: Option<(PathBuf, Digest)>,
    /// The engine that is to run it.
    pub engine: String,
    /// What its owner declares of its tensors.
    #[serde(default)]
    pub declared: Option<Declared>,
}

/// What a trial consists of, in its order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The child starts.
    #[default]
    Start,
    /// The engine loads and optimises the artifact.
    Load,
    /// It runs zeros.
    WarmUp,
    /// It answers the golden cases.
    Golden,
    /// Its rows are run alone and in batches.
    Rows,
    /// Its cost is measured.
    Cost,
    /// What it took is compared with what may be had.
    Memory,
}

impl Stage {
    /// What went on, for the end of a sentence.
    const fn while_it(self) -> &'static str {
        match self {
            Self::Start => "while it started",
            Self::Load => "while it was loaded",
            Self::WarmUp => "while it was warmed up",
            Self::Golden => "at its golden cases",
            Self::Rows => "while its rows were compared alone and in batches",
            Self::Cost => "while its cost was measured",
            Self::Memory => "at the end of its trial",
        }
    }
}

/// Why a candidate may not serve.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// How far it had come.
    pub stage: Stage,
    /// What happened, for people.
    pub reason: String,
    /// What was found out until then.
    pub report: Box<Report>,
}

impl Failure {
    /// A failure of which nothing but the reason is known.
    #[must_use]
    pub fn new(stage: Stage, reason: impl Into<String>) -> Self {
        Self { stage, reason: reason.into(), report: Box::default() }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reason)
    }
}

/// Tries candidates. Blocking: called on a control thread.
pub trait Preflight: Send + Sync {
    /// Tries one; the failure tells why it may not serve.
    fn try_candidate(&self, candidate: &Candidate) -> Result<Report, Failure>;

    /// Tries this one again when it comes again, though it passed: it was refused
    /// for what was measured.
    fn forget(&self, _candidate: &Candidate) {}

    /// Ends what is running and refuses what comes: the gateway stops.
    fn stop(&self) {}
}

/// What the child is told.
#[derive(Debug, Serialize, Deserialize)]
struct Spec {
    candidate: Candidate,
    engines: EngineSettings,
    limits: Limits,
    /// How urgently it runs.
    class: Class,
    /// The gateway's process, without which the child has no purpose.
    parent: u32,
}

/// What the child may take.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Limits {
    memory_bytes_max: u64,
    /// CPU time; and [`WALL_PER_CPU`] times as much of the clock, as the child
    /// gives way to everything else and may have to wait for a processor.
    time_max: Duration,
}

/// See [`Limits::time_max`].
const WALL_PER_CPU: u32 = 10;

impl Limits {
    /// Whether a child that used this much has had its time.
    fn passed(&self, cpu: Duration, wall: Duration) -> bool {
        cpu >= self.time_max || wall >= self.time_max.saturating_mul(WALL_PER_CPU)
    }
}

/// A line that the child writes.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Message {
    /// What begins now, or where it ended.
    stage: Stage,
    /// What was found out so far.
    report: Report,
    /// Only on the last line.
    end: Option<End>,
}

/// The end of a trial that came to one.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum End {
    Passed,
    Failed(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_that_waits_for_a_processor_has_more_time() {
        let time_max = Duration::from_secs(60);
        let limits = Limits { memory_bytes_max: 1, time_max };
        let second = Duration::from_secs(1);
        assert!(!limits.passed(second, time_max));
        assert!(limits.passed(time_max, time_max));
        assert!(limits.passed(second, time_max * 10));
        let forever = Limits { time_max: Duration::MAX, ..limits };
        assert!(!forever.passed(time_max, time_max));
    }
}
