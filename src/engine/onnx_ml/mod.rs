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
mod dense;
mod feature_vectorizer;
mod imputer;
mod kernel;
mod label_encoder;
mod labels;
mod linear;
mod lookup;
mod normalizer;
mod one_hot_encoder;
mod post_transform;
mod rows;
mod scaler;
mod svm;
mod tree;
mod zip_map;

use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::pb::NodeProto;

pub(super) use attributes::Attributes;
pub(super) use kernel::{BadShape, BadValue, Built, Fact, Kernel, built, typed};
pub(super) use zip_map::classes as zip_map_classes;

/// The domain of these operators.
pub(super) const DOMAIN: &str = "ai.onnx.ml";

/// How many outputs an operator always computes, whether or not the graph
/// names them all; 1 for what is not listed.
pub(super) fn output_count(op_type: &str) -> usize {
    match op_type {
        "LinearClassifier" | "SVMClassifier" | "TreeEnsembleClassifier" => 2,
        _ => 1,
    }
}

/// Whether it is one of the two operators whose input is a map from keys to
/// values, which no protocol of the gateway carries.
pub(super) fn takes_maps(node: &NodeProto) -> bool {
    node.domain == DOMAIN && matches!(&*node.op_type, "CastMap" | "DictVectorizer")
}

/// Enters the operators under their domain-qualified names.
pub(super) fn register(register: &mut OnnxOpRegister) {
    register.insert("ai.onnx.ml.ArrayFeatureExtractor", array_feature_extractor::build);
    register.insert("ai.onnx.ml.Binarizer", binarizer::build);
    register.insert("ai.onnx.ml.CategoryMapper", label_encoder::build_category_mapper);
    register.insert("ai.onnx.ml.FeatureVectorizer", feature_vectorizer::build);
    register.insert("ai.onnx.ml.Imputer", imputer::build);
    register.insert("ai.onnx.ml.LabelEncoder", label_encoder::build);
    register.insert("ai.onnx.ml.LinearClassifier", linear::build_classifier);
    register.insert("ai.onnx.ml.LinearRegressor", linear::build_regressor);
    register.insert("ai.onnx.ml.Normalizer", normalizer::build);
    register.insert("ai.onnx.ml.OneHotEncoder", one_hot_encoder::build);
    register.insert("ai.onnx.ml.SVMClassifier", svm::build_classifier);
    register.insert("ai.onnx.ml.SVMRegressor", svm::build_regressor);
    register.insert("ai.onnx.ml.Scaler", scaler::build);
    register.insert("ai.onnx.ml.TreeEnsemble", tree::build_ensemble);
    register.insert("ai.onnx.ml.TreeEnsembleClassifier", tree::build_classifier);
    register.insert("ai.onnx.ml.TreeEnsembleRegressor", tree::build_regressor);
    register.insert("ai.onnx.ml.ZipMap", zip_map::build);
}

/// The version of the operators that the file asks for.
fn opset(context: &ParsingContext) -> i64 {
    let mut opsets = context.model.opset_import.iter();
    opsets.find(|opset| opset.domain == DOMAIN).map_or(1, |opset| opset.version)
}
