//! The generator against servers of this process, over real sockets.

#![allow(clippy::unwrap_used, reason = "outside #[test] functions too, all of this is tests")]

mod failures;
mod latency;
mod scenarios;
mod server;
