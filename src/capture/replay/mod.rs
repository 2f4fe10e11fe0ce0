//! Runs captured requests on a version, and compares its answers with those that were
//! given.

mod read;
mod run;

use std::path::PathBuf;

use serde::Serialize;

use crate::engine::Model;
use crate::types::ModelSettings;

/// What is to be run, and on what.
pub struct Replaying<'a> {
    /// The files, in this order.
    pub files: &'a [PathBuf],
    /// The version.
    pub graph: &'a dyn Model,
    /// What its model's owner settles: what it means to agree, and what it is called.
    pub settings: &'a ModelSettings,
    /// The most rows that differ which are shown.
    pub examples_max: usize,
}

/// What a replay found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Replay {
    /// The model whose requests they are.
    pub model: String,
    /// Requests that were run.
    pub requests: u64,
    /// Their rows.
    pub rows: u64,
    /// By the version that had answered, the lowest number first.
    pub versions: Vec<ReplayedVersion>,
    /// Why a request could not be run or compared: the first one's reason.
    pub failure: Option<String>,
    /// Mean time in the engine of a request, in seconds.
    pub inference_mean_seconds: Option<f64>,
    /// Its median.
    pub inference_p50_seconds: Option<f64>,
    /// Its 99th percentile.
    pub inference_p99_seconds: Option<f64>,
    /// The first rows that differ.
    pub examples: Vec<Example>,
}

/// How one version's answers compare with the new ones.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReplayedVersion {
    /// Its number.
    pub version: u64,
    /// Its content.
    pub digest: String,
    /// Requests that were compared.
    pub compared: u64,
    /// Of these, requests with at least one row that disagrees.
    pub disagreed: u64,
    /// `disagreed / compared`.
    pub disagreement: Option<f64>,
    /// Lower end of the 95 % interval for that.
    pub disagreement_lower: f64,
    /// Its upper end.
    pub disagreement_upper: f64,
    /// Rows compared.
    pub rows: u64,
    /// Rows that disagree.
    pub rows_disagreed: u64,
    /// Requests that could not be run or compared.
    pub failed: u64,
    /// Requests in which a number is finite on one side only; the mean difference leaves
    /// them out.
    pub nonfinite: u64,
    /// Largest absolute difference of any number; infinite (null in JSON) where one was
    /// finite on one side only.
    pub difference_max: Option<f64>,
    /// Mean over the requests of their mean absolute difference.
    pub difference_mean: Option<f64>,
}

/// A row on which the two versions differ.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Example {
    /// The request.
    pub request_id: String,
    /// The answer that was given.
    pub prediction_id: String,
    /// Which of the request's rows, from 0.
    pub row: usize,
    /// The version that had answered.
    pub version: u64,
    /// What was asked, column by column.
    pub inputs: Vec<ReplayValue>,
    /// What was answered.
    pub captured: Vec<ReplayValue>,
    /// What the version answers.
    pub replayed: Vec<ReplayValue>,
}

/// A column of an example.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReplayValue {
    /// What the owner calls it.
    pub name: String,
    /// Its value: a number, a text, or `null` for what is no finite number.
    pub value: serde_json::Value,
}

/// Runs the requests of all files. On the calling thread, whose stack should be
/// [`STACK_BYTES`](crate::types::thread::STACK_BYTES).
///
/// # Errors
/// A file is not whole, is no capture, was captured of another signature, or does not have
/// what the version takes; the message names the file.
pub fn replay(asked: &Replaying<'_>) -> Result<Replay, String> {
    run::run(asked)
}
