//! Changes the file's graph into one that tract reads as the standard means
//! it: names under which operators are found, symbols, and numbers whose
//! storage tract misreads.

use std::collections::HashSet;

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as DimValue;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto, type_proto};

use super::check::each_subgraph_mut;
use super::load::unsupported;
use crate::engine::{EngineError, onnx_ml};

/// Rewrites the whole file. It has passed [`super::check::check`].
pub(super) fn rewrite(proto: &mut ModelProto) -> Result<(), EngineError> {
    let Some(graph) = &mut proto.graph else {
        return Err(unsupported("the file holds no graph"));
    };
    rewrite_graph(graph);
    separate_outputs(graph);
    name_dimensions(graph);
    Ok(())
}

/// The node that makes a ZipMap of `output`.
pub(super) fn zip_map<'a>(graph: &'a GraphProto, output: &str) -> Option<&'a NodeProto> {
    graph.node.iter().find(|node| {
        node.domain == onnx_ml::DOMAIN
            && node.op_type == "ZipMap"
            && node.output.iter().any(|name| name == output)
    })
}

/// Puts a node between an output and the input or initialiser that it is:
/// tract would forget the input's type.
fn separate_outputs(graph: &mut GraphProto) {
    let GraphProto { node, input, initializer, output, .. } = graph;
    for output in output {
        let is_input = input.iter().any(|value| value.name == output.name);
        if is_input || initializer.iter().any(|tensor| tensor.name == output.name) {
            let name = format!("{}#output", output.name);
            node.push(NodeProto {
                op_type: "Identity".into(),
                input: vec![std::mem::replace(&mut output.name, name.clone())],
                output: vec![name.clone()],
                name,
                ..NodeProto::default()
            });
        }
    }
}

fn rewrite_graph(graph: &mut GraphProto) {
    // tract makes nodes of inputs and initialisers as well.
    let inputs = graph.input.iter().map(|value| value.name.clone());
    let mut names: HashSet<String> =
        inputs.chain(graph.initializer.iter().map(|tensor| tensor.name.clone())).collect();
    for (i, node) in graph.node.iter_mut().enumerate() {
        unique_name(node, i, &mut names);
        qualify(node);
        for attribute in &mut node.attribute {
            attribute.t.iter_mut().chain(&mut attribute.tensors).for_each(as_raw);
        }
        each_subgraph_mut(node, &mut rewrite_graph);
    }
    graph.initializer.iter_mut().for_each(as_raw);
}

/// tract wants names, and different ones.
fn unique_name(node: &mut NodeProto, i: usize, names: &mut HashSet<String>) {
    if node.name.is_empty() {
        node.name = node.output.first().cloned().unwrap_or_default();
    }
    if node.name.is_empty() || !names.insert(node.name.clone()) {
        node.name = format!("{}#{i}", node.name);
        names.insert(node.name.clone());
    }
}

/// Gives an operator outside the default domain its full name, so that it is
/// not taken for tract's operator of the same short name.
fn qualify(node: &mut NodeProto) {
    if node.domain.is_empty() || node.domain == "ai.onnx" {
        return;
    }
    if node.domain == onnx_ml::DOMAIN {
        let count = onnx_ml::output_count(&node.op_type);
        for i in 0..count {
            if node.output.len() <= i {
                node.output.push(String::new());
            }
            if node.output[i].is_empty() {
                node.output[i] = format!("{}#unused{i}", node.name);
            }
        }
    }
    node.op_type = format!("{}.{}", node.domain, node.op_type);
}

/// Moves unsigned 32- and 64-bit numbers to `raw_data`: tract looks for them
/// in the wrong field.
fn as_raw(tensor: &mut TensorProto) {
    if !tensor.raw_data.is_empty() {
        return;
    }
    if tensor.data_type == DataType::Uint64 as i32 {
        let numbers = std::mem::take(&mut tensor.uint64_data);
        tensor.raw_data = numbers.iter().flat_map(|n| n.to_le_bytes()).collect();
    } else if tensor.data_type == DataType::Uint32 as i32 {
        let numbers = std::mem::take(&mut tensor.uint64_data);
        #[expect(clippy::cast_possible_truncation, reason = "the standard's storage of UINT32")]
        let bytes = numbers.iter().flat_map(|&n| (n as u32).to_le_bytes()).collect();
        tensor.raw_data = bytes;
    }
}

/// Gives every varying dimension of an input a plain symbol: the same for the
/// same name, one for all unnamed first dimensions (the batch), another for
/// each other unnamed one. tract reads names as expressions, and cannot
/// optimise what has no name.
fn name_dimensions(graph: &mut GraphProto) {
    let mut known: Vec<String> = Vec::new();
    let mut number = |name: String| {
        known.iter().position(|k| *k == name).unwrap_or_else(|| {
            known.push(name);
            known.len() - 1
        })
    };
    for (i, value) in graph.input.iter_mut().enumerate() {
        let Some(type_proto::Value::TensorType(tensor)) =
            value.r#type.as_mut().and_then(|t| t.value.as_mut())
        else {
            continue;
        };
        let dims = tensor.shape.iter_mut().flat_map(|shape| &mut shape.dim);
        for (axis, dim) in dims.enumerate() {
            let at = match &dim.value {
                Some(DimValue::DimValue(size)) if *size >= 0 => continue,
                Some(DimValue::DimParam(name)) if !name.is_empty() && name != "?" => {
                    number(format!("named {name}"))
                }
                _ if axis == 0 => number("batch".into()),
                _ => number(format!("input {i} axis {axis}")),
            };
            dim.value = Some(DimValue::DimParam(format!("dim{at}")));
        }
    }
}
