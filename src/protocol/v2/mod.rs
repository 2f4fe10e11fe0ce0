//! The Open Inference Protocol (V2) in its REST form: inference with JSON and
//! binary tensors, metadata and health.

pub(super) mod binary;
pub(super) mod classification;
pub(super) mod config;
mod json;
pub(super) mod metadata;
pub(super) mod parameters;
pub(super) mod repository;
mod rest;
pub(super) mod stats;

pub(super) use json::{Chosen, Elements, InferRequest, InputTensor, Payload, WantedOutput};
pub use rest::decode_infer;
pub(super) use rest::{Beside, Headed, InferForm, Request, accept};

#[cfg(test)]
mod tests;
