//! The shadow lane: copies of answered requests, run on threads of their own
//! in the kernel's idle class.
//!
//! A request only pushes onto a lock-free queue and, if a lane thread sleeps,
//! wakes it. Lane threads hold no lock that a request could wait for. The
//! queue is bounded by count and by bytes; what does not fit is dropped and
//! counted.

mod lane;
mod run;
mod worst;

pub use lane::{Lane, LaneSettings};
pub use worst::{Disagreement, Worst};
