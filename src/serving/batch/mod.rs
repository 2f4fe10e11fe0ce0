//! Requests that run together: which (pure), how their tensors are joined and
//! the answers taken apart.

mod join;
mod policy;

pub(super) use join::{join, split};
pub(super) use policy::{Next, Waiting, decide};

use std::time::Duration;

/// What a batch of some model may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Limits {
    /// The most rows; a request that has more alone runs alone.
    pub(super) rows_max: usize,
    /// How long the oldest may wait for others, although a thread is free.
    pub(super) delay_max: Duration,
}
