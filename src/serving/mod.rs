//! A loaded version and how it is run: inline on the thread that read the request
//! when it is cheap, on engine threads when it is not; and what waits as one batch,
//! either way.
//!
//! Invariants: a panic of an engine is an error of that request; a session
//! that failed is never used again; a request whose caller left, or whose
//! deadline passed, runs nothing; the queue is bounded, in rows and in time; a
//! request's answer does not depend on what it was batched with, nor its failure.

mod admission;
mod batch;
mod combine;
mod cost;
mod crowd;
mod executor;
mod job;
mod queue;
mod samples;
#[cfg(test)]
mod tests;
mod version;

pub use cost::Cost;
pub use executor::{Completed, Executor, ExecutorSettings, Request};
pub use version::{LoadedVersion, RunError};
