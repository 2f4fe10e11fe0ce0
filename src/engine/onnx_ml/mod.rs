//! The `ai.onnx.ml` operators, as tract operators: one file per family.
//!
//! tract finds operators by `op_type` alone, so the loader first renames
//! `Scaler` of the domain `ai.onnx.ml` to `ai.onnx.ml.Scaler`, and that is
//! the name under which [`register`] enters it. tract's own five are thereby
//! never reached. To add an operator: write a [`kernel::Kernel`], a `build`
//! function from the node, and a line in [`register`].
//!
//! Invariants: whatever indexes at run time has been checked at load time
//! (attributes) or at the start of a run (shapes); semantics follow
//! onnxruntime where the standard is silent.

mod array_feature_extractor;
mod attributes;
mod binarizer;
mod kernel;
mod label_encoder;
mod labels;
mod linear;
mod normalizer;
mod post_transform;
mod rows;
mod scaler;
mod tree;

use tract_onnx::model::OnnxOpRegister;

pub(super) use attributes::Attributes;
pub(super) use kernel::{Built, Fact, Kernel, built, typed};

/// The domain of these operators.
pub(super) const DOMAIN: &str = "ai.onnx.ml";

/// How many outputs an operator always computes, whether or not the graph
/// names them all; 1 for what is not listed.
pub(super) fn output_count(op_type: &str) -> usize {
    match op_type {
        "LinearClassifier" | "TreeEnsembleClassifier" => 2,
        _ => 1,
    }
}

/// Enters the operators under their domain-qualified names.
pub(super) fn register(register: &mut OnnxOpRegister) {
    register.insert("ai.onnx.ml.ArrayFeatureExtractor", array_feature_extractor::build);
    register.insert("ai.onnx.ml.Binarizer", binarizer::build);
    register.insert("ai.onnx.ml.LabelEncoder", label_encoder::build);
    register.insert("ai.onnx.ml.LinearClassifier", linear::build_classifier);
    register.insert("ai.onnx.ml.LinearRegressor", linear::build_regressor);
    register.insert("ai.onnx.ml.Normalizer", normalizer::build);
    register.insert("ai.onnx.ml.Scaler", scaler::build);
    register.insert("ai.onnx.ml.TreeEnsemble", tree::build_ensemble);
    register.insert("ai.onnx.ml.TreeEnsembleClassifier", tree::build_classifier);
    register.insert("ai.onnx.ml.TreeEnsembleRegressor", tree::build_regressor);
}
