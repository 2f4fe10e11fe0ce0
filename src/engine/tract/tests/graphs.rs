//! Builds small files for the tests.

use prost::Message;
use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension::Value as DimValue};
use tract_onnx::pb::*;

use super::super::{Tract, TractModel, load};
use crate::engine::EngineError;
use crate::types::{Data, Tensor};

/// A dimension: a size, or a name; an empty name is no name.
pub(in crate::engine) enum D {
    N(i64),
    S(&'static str),
}

pub(in crate::engine) fn value(name: &str, datatype: DataType, shape: &[D]) -> ValueInfoProto {
    let dim = |d: &D| Dimension {
        value: match d {
            D::N(n) => Some(DimValue::DimValue(*n)),
            D::S("") => None,
            D::S(name) => Some(DimValue::DimParam((*name).into())),
        },
        ..Dimension::default()
    };
    let shape = TensorShapeProto { dim: shape.iter().map(dim).collect() };
    let tensor = type_proto::Tensor { elem_type: datatype as i32, shape: Some(shape) };
    let value = Some(type_proto::Value::TensorType(tensor));
    ValueInfoProto {
        name: name.into(),
        r#type: Some(TypeProto { value, ..TypeProto::default() }),
        ..ValueInfoProto::default()
    }
}

pub(in crate::engine) fn node(
    domain: &str,
    op: &str,
    inputs: &[&str],
    outputs: &[&str],
) -> NodeProto {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    NodeProto {
        op_type: op.into(),
        domain: domain.into(),
        name: format!("{op}0"),
        input: names(inputs),
        output: names(outputs),
        ..NodeProto::default()
    }
}

pub(in crate::engine) fn int(name: &str, i: i64) -> AttributeProto {
    let r#type = AttributeType::Int as i32;
    AttributeProto { name: name.into(), r#type, i, ..AttributeProto::default() }
}

pub(in crate::engine) fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    let r#type = AttributeType::Ints as i32;
    AttributeProto { name: name.into(), r#type, ints: ints.to_vec(), ..AttributeProto::default() }
}

pub(in crate::engine) fn floats(name: &str, floats: &[f32]) -> AttributeProto {
    let r#type = AttributeType::Floats as i32;
    let floats = floats.to_vec();
    AttributeProto { name: name.into(), r#type, floats, ..AttributeProto::default() }
}

pub(in crate::engine) fn strings(name: &str, strings: &[&str]) -> AttributeProto {
    let r#type = AttributeType::Strings as i32;
    let strings = strings.iter().map(|text| text.as_bytes().to_vec()).collect();
    AttributeProto { name: name.into(), r#type, strings, ..AttributeProto::default() }
}

pub(in crate::engine) fn model(
    nodes: Vec<NodeProto>,
    input: Vec<ValueInfoProto>,
    output: Vec<ValueInfoProto>,
    initializer: Vec<TensorProto>,
) -> ModelProto {
    let opset = |domain: &str, version| OperatorSetIdProto { domain: domain.into(), version };
    let graph = GraphProto {
        node: nodes,
        name: "g".into(),
        input,
        output,
        initializer,
        ..GraphProto::default()
    };
    ModelProto {
        ir_version: 8,
        opset_import: vec![opset("", 17), opset("ai.onnx.ml", 3)],
        graph: Some(graph),
        ..ModelProto::default()
    }
}

/// `Y = op(X)` on rows of two FP32, with a symbolic batch.
pub(in crate::engine) fn unary(
    domain: &str,
    op: &str,
    attributes: Vec<AttributeProto>,
) -> ModelProto {
    let mut op = node(domain, op, &["X"], &["Y"]);
    op.attribute = attributes;
    let shape = || [D::S("N"), D::N(2)];
    let values = |name| vec![value(name, DataType::Float, &shape())];
    model(vec![op], values("X"), values("Y"), vec![])
}

pub(in crate::engine) fn load_proto(proto: &ModelProto) -> Result<TractModel, EngineError> {
    load::load_bytes(&Tract::new().onnx, &proto.encode_to_vec())
}

/// The message with which a file is refused.
pub(in crate::engine) fn refusal(proto: &ModelProto) -> String {
    load_proto(proto).err().expect("the file should be refused").message
}

pub(in crate::engine) fn fp32(name: &str, shape: &[usize], data: &[f32]) -> Tensor {
    Tensor::new(name, shape.to_vec(), Data::Fp32(data.to_vec())).unwrap()
}
