//! The Open Inference Protocol (V2) in its REST form: inference with JSON and
//! binary tensors, metadata and health.

mod binary;
pub(super) mod config;
mod json;
pub(super) mod metadata;
mod rest;

pub use rest::decode_infer;
pub(super) use rest::{InferForm, accept};

#[cfg(test)]
mod tests;
