//! Foreshadow serves ONNX models and judges new versions on the real traffic.
#![cfg_attr(test, allow(clippy::unwrap_used, reason = "a test may"))]

pub mod admin;
pub mod app;
pub mod cli;
pub mod config;
pub mod engine;
pub mod error;
#[cfg(test)]
mod golden;
pub mod registry;
pub mod routing;
pub mod serving;
pub mod store;
pub mod telemetry;
pub mod types;
