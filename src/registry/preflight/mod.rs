//! Tries a candidate in a child process before it is loaded here.
//!
//! A loader that panics, loops or asks for 200 GB kills the child, not the
//! gateway. The child is this same binary under a hidden subcommand; it reads
//! a spec on its standard input and writes an outcome on its standard output.

mod child;
mod golden;
mod memory;
mod parent;

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::engine::EngineSettings;
use crate::types::{Digest, ModelName, VersionId};

pub use child::child_main;
pub use parent::ChildPreflight;

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
}

/// What a candidate that passed has shown.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What it takes and gives, in words.
    pub signature: String,
    /// Seconds that one row took.
    pub cost_seconds: f64,
    /// Golden cases that it answered as expected.
    pub golden_cases: usize,
}

/// Tries candidates. Blocking: called on a control thread.
pub trait Preflight: Send + Sync {
    /// Tries one; the error is the reason why it may not serve.
    fn try_candidate(&self, candidate: &Candidate) -> Result<Report, String>;

    /// Ends what is running and refuses what comes: the gateway stops.
    fn stop(&self) {}
}

/// What the child is told.
#[derive(Debug, Serialize, Deserialize)]
struct Spec {
    candidate: Candidate,
    engines: EngineSettings,
    memory_bytes_max: u64,
    /// The gateway's process, without which the child has no purpose.
    parent: u32,
}

/// What the child answers.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Passed(Report),
    Failed(String),
}
