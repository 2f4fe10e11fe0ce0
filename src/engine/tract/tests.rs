//! The engine against onnxruntime's answers, and against broken files.

mod answers;
mod broken;
mod graphs;
mod ml;
mod plans;
