//! ONNX-ML operators with any attributes and inputs: an error, or an answer.
#![no_main]

use foreshadow_fuzz::{forget_caught_panics, load, run};
use libfuzzer_sys::arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use prost::Message as _;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value as DimValue};
use tract_onnx::pb::*;

/// Every operator, and the attributes that it may have (some have others'
/// names, which are to be refused).
const OPERATORS: [&str; 19] = [
    "TreeEnsembleClassifier", "TreeEnsembleRegressor", "TreeEnsemble", "LinearClassifier",
    "LinearRegressor", "SVMClassifier", "SVMRegressor", "Scaler", "Normalizer", "Imputer",
    "Binarizer", "OneHotEncoder", "LabelEncoder", "FeatureVectorizer", "ArrayFeatureExtractor",
    "CategoryMapper", "DictVectorizer", "CastMap", "ZipMap",
];
const INTS: [&str; 34] = [
    "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_truenodeids",
    "nodes_falsenodeids", "nodes_missing_value_tracks_true", "class_treeids", "class_nodeids",
    "class_ids", "target_treeids", "target_nodeids", "target_ids", "classlabels_int64s",
    "classlabels_ints", "vectors_per_class", "cats_int64s", "keys_int64s", "values_int64s",
    "inputdimensions", "int64_vocabulary", "imputed_value_int64s", "nodes_splits_ids",
    "leaf_targetids", "tree_roots", "nodes_trueleafs", "nodes_falseleafs", "n_targets",
    "multi_class", "one_class", "zeros", "targets", "aggregate_function", "default_int64",
    "replaced_value_int64",
];
const FLOATS: [&str; 22] = [
    "nodes_values", "nodes_hitrates", "class_weights", "target_weights", "base_values",
    "coefficients", "intercepts", "support_vectors", "rho", "prob_a", "prob_b", "kernel_params",
    "offset", "scale", "imputed_value_floats", "keys_floats", "values_floats", "leaf_weights",
    "threshold", "default_float", "replaced_value_float", "nodes_splits",
];
const STRINGS: [&str; 12] = [
    "nodes_modes", "classlabels_strings", "cats_strings", "keys_strings", "values_strings",
    "string_vocabulary", "post_transform", "kernel_type", "norm", "default_string", "aggregate",
    "cast_to",
];
const WORDS: [&str; 16] = [
    "BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ", "LEAF",
    "NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT", "RBF", "LINEAR", "POLY", "MAX",
];
const LIST_MAX: usize = 12;

fn attribute(bytes: &mut Unstructured) -> Result<AttributeProto> {
    let mut attribute = AttributeProto::default();
    let single = bytes.ratio(1, 4)?;
    let len = if bytes.ratio(1, 2)? { 3 } else { bytes.int_in_range(0..=LIST_MAX)? };
    match bytes.int_in_range(0..=2)? {
        0 => {
            attribute.name = (*bytes.choose(&INTS)?).into();
            let mut int = || -> Result<i64> {
                if bytes.ratio(7, 8)? { bytes.int_in_range(-1..=4) } else { bytes.arbitrary() }
            };
            if single {
                (attribute.i, attribute.r#type) = (int()?, AttributeType::Int as i32);
            } else {
                attribute.ints = (0..len).map(|_| int()).collect::<Result<_>>()?;
                attribute.r#type = AttributeType::Ints as i32;
            }
        }
        1 => {
            attribute.name = (*bytes.choose(&FLOATS)?).into();
            if single {
                (attribute.f, attribute.r#type) = (bytes.arbitrary()?, AttributeType::Float as i32);
            } else {
                attribute.floats = (0..len).map(|_| bytes.arbitrary()).collect::<Result<_>>()?;
                attribute.r#type = AttributeType::Floats as i32;
            }
        }
        _ => {
            attribute.name = (*bytes.choose(&STRINGS)?).into();
            let mut word = || Ok(bytes.choose(&WORDS)?.as_bytes().to_vec());
            if single {
                (attribute.s, attribute.r#type) = (word()?, AttributeType::String as i32);
            } else {
                attribute.strings = (0..len).map(|_| word()).collect::<Result<_>>()?;
                attribute.r#type = AttributeType::Strings as i32;
            }
        }
    }
    Ok(attribute)
}

fn value(name: &str, datatype: DataType, columns: Option<i64>) -> ValueInfoProto {
    let dim = |value| Dimension { value: Some(value), ..Dimension::default() };
    let batch = dim(DimValue::DimParam("N".into()));
    let shape = columns.map(|n| TensorShapeProto { dim: vec![batch, dim(DimValue::DimValue(n))] });
    let tensor = type_proto::Tensor { elem_type: datatype as i32, shape };
    let value = Some(type_proto::Value::TensorType(tensor));
    let r#type = Some(TypeProto { value, ..TypeProto::default() });
    ValueInfoProto { name: name.into(), r#type, ..ValueInfoProto::default() }
}

fn model(bytes: &mut Unstructured) -> Result<ModelProto> {
    const KINDS: [DataType; 4] =
        [DataType::Float, DataType::Int64, DataType::Double, DataType::String];
    let op_type = *bytes.choose(&OPERATORS)?;
    let mut attributes: Vec<AttributeProto> = Vec::new();
    for _ in 0..bytes.int_in_range(0..=16)? {
        let next = attribute(bytes)?;
        if attributes.iter().all(|known| known.name != next.name) {
            attributes.push(next);
        }
    }
    let outputs = bytes.int_in_range(1..=2)?;
    let names: Vec<String> = (0..outputs).map(|i| format!("Y{i}")).collect();
    let node = NodeProto {
        op_type: op_type.into(),
        domain: "ai.onnx.ml".into(),
        name: "op".into(),
        input: vec!["X".into()],
        output: names.clone(),
        attribute: attributes,
        ..NodeProto::default()
    };
    let columns = bytes.int_in_range(0..=6)?;
    let mut output = Vec::new();
    for name in &names {
        output.push(value(name, *bytes.choose(&KINDS)?, None));
    }
    let graph = GraphProto {
        node: vec![node],
        name: "g".into(),
        input: vec![value("X", *bytes.choose(&KINDS)?, Some(columns))],
        output,
        ..GraphProto::default()
    };
    let opset = |domain: &str, version| OperatorSetIdProto { domain: domain.into(), version };
    Ok(ModelProto {
        ir_version: 8,
        opset_import: vec![opset("", 17), opset("ai.onnx.ml", bytes.int_in_range(1..=5)?)],
        graph: Some(graph),
        ..ModelProto::default()
    })
}

fuzz_target!(init: forget_caught_panics(), |bytes: &[u8]| {
    let mut bytes = Unstructured::new(bytes);
    let Ok(file) = model(&mut bytes) else { return };
    if let Ok(loaded) = load(&file.encode_to_vec()) {
        let _ = run(&*loaded, &mut bytes);
    }
});
