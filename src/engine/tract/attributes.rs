//! Which attributes the commonest operators of the default domain have.
//!
//! tract ignores attributes that it does not know; the standard does not, and
//! an attribute that is misspelt or of the wrong kind would silently change
//! the answers. Operators that are not listed are left to tract.

use tract_onnx::pb::attribute_proto::AttributeType;
use tract_onnx::pb::{AttributeProto, NodeProto};

use super::load::unsupported;
use crate::engine::EngineError;

/// Operators without attributes since operator set 7.
const NONE: [&str; 40] = [
    "Abs",
    "Acos",
    "Add",
    "And",
    "Asin",
    "Atan",
    "Ceil",
    "Cos",
    "Cosh",
    "Div",
    "Equal",
    "Erf",
    "Exp",
    "Expand",
    "Floor",
    "Greater",
    "GreaterOrEqual",
    "Identity",
    "Less",
    "LessOrEqual",
    "Log",
    "MatMul",
    "Max",
    "Mean",
    "Min",
    "Mul",
    "Neg",
    "Not",
    "Or",
    "PRelu",
    "Pow",
    "Reciprocal",
    "Relu",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sqrt",
    "Sub",
    "Tanh",
    "Where",
];

/// The attributes of others.
const SOME: [(&str, &[&str]); 16] = [
    ("ArgMax", &["axis", "keepdims", "select_last_index"]),
    ("ArgMin", &["axis", "keepdims", "select_last_index"]),
    ("Concat", &["axis"]),
    ("Elu", &["alpha"]),
    ("Flatten", &["axis"]),
    ("Gather", &["axis"]),
    ("Gemm", &["alpha", "beta", "transA", "transB"]),
    ("LeakyRelu", &["alpha"]),
    ("LogSoftmax", &["axis"]),
    ("ReduceMax", &["axes", "keepdims", "noop_with_empty_axes"]),
    ("ReduceMean", &["axes", "keepdims", "noop_with_empty_axes"]),
    ("ReduceSum", &["axes", "keepdims", "noop_with_empty_axes"]),
    ("Reshape", &["allowzero"]),
    ("Softmax", &["axis"]),
    ("Transpose", &["perm"]),
    ("Unsqueeze", &["axes"]),
];

/// Refuses an attribute that the operator does not have, and one whose value
/// lies in another field than its kind says.
pub(super) fn check(node: &NodeProto) -> Result<(), EngineError> {
    let standard = node.domain.is_empty() || node.domain == "ai.onnx";
    let op_type = &*node.op_type;
    let known: Option<&[&str]> = match SOME.iter().find(|(name, _)| *name == op_type) {
        _ if !standard => None,
        Some((_, attributes)) => Some(attributes),
        None => NONE.contains(&op_type).then_some(&[]),
    };
    for attribute in &node.attribute {
        let name = &*attribute.name;
        if known.is_some_and(|known| !known.contains(&name)) {
            return Err(unsupported(format!("it has no attribute {name:?}")));
        }
        if !kind_fits(attribute) {
            return Err(unsupported(format!(
                "attribute {name:?}: its value is not of its kind, {}",
                attribute.r#type().as_str_name()
            )));
        }
    }
    Ok(())
}

/// Whether only the field that the kind names is filled. A zero number and an
/// empty text or list look like absent ones, and are right.
fn kind_fits(attribute: &AttributeProto) -> bool {
    let kind = attribute.r#type();
    let filled = [
        (AttributeType::Float, attribute.f != 0.0),
        (AttributeType::Int, attribute.i != 0),
        (AttributeType::String, !attribute.s.is_empty()),
        (AttributeType::Tensor, attribute.t.is_some()),
        (AttributeType::Graph, attribute.g.is_some()),
        (AttributeType::SparseTensor, attribute.sparse_tensor.is_some()),
        (AttributeType::Floats, !attribute.floats.is_empty()),
        (AttributeType::Ints, !attribute.ints.is_empty()),
        (AttributeType::Strings, !attribute.strings.is_empty()),
        (AttributeType::Tensors, !attribute.tensors.is_empty()),
        (AttributeType::Graphs, !attribute.graphs.is_empty()),
    ];
    kind != AttributeType::Undefined && filled.iter().all(|&(of, filled)| !filled || of == kind)
}
