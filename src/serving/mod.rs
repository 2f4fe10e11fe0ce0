//! A loaded version and how it is run: inline on the caller's thread when it
//! is cheap, on engine threads when it is not.
//!
//! Invariants: a panic of an engine is an error of that request; a session
//! that failed is never used again; a request whose caller left, or whose
//! deadline passed, runs nothing; the queue is bounded.

mod executor;
mod version;

pub use executor::{Completed, Executor, ExecutorSettings};
pub use version::{Cost, LoadedVersion, RunError};
