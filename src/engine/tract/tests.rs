//! The engine against onnxruntime's answers, and against broken files.

mod answers;
mod broken;
pub(in crate::engine) mod graphs;
mod ml;
mod plans;
mod shapes;
