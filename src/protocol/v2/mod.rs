//! The Open Inference Protocol (V2) in its REST form: inference with JSON and
//! binary tensors, metadata and health.

mod binary;
mod json;
pub(super) mod metadata;
mod rest;

#[cfg(test)]
mod tests;
