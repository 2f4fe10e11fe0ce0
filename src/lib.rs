//! Foreshadow serves ONNX models and judges new versions on the real traffic.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may"))]

pub mod engine;
pub mod error;
pub mod protocol;
pub mod registry;
pub mod routing;
pub mod server;
pub mod serving;
pub mod store;
pub mod telemetry;
pub mod types;
