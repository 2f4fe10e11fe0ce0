//! What can be told from the file alone, before anything is allocated for it:
//! broken references, sizes that do not fit the bytes, data kept elsewhere.

use std::collections::HashSet;
use std::ops::RangeInclusive;

use tract_onnx::Onnx;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, ModelProto, NodeProto, TensorProto};

use super::load::unsupported;
use super::{attributes, ignored, signature, values};
use crate::engine::onnx::external;
use crate::engine::{EngineError, onnx_ml};
use crate::types::{Dim, element_count};

/// How deep graphs may lie within graphs (bodies of If, Scan, …).
const GRAPH_DEPTH_MAX: usize = 8;

/// The largest tensor that a file may ask for without bringing its bytes.
pub(super) const DECLARED_BYTES_MAX: usize = 1 << 30;

/// IR versions that exist (as of onnxruntime 1.32).
const IR_VERSIONS: RangeInclusive<i64> = 3..=14;

/// Versions of the default operator set; [`super::legacy`] has brought 6 to 7.
const OPSETS: RangeInclusive<i64> = 7..=28;

/// Versions of the `ai.onnx.ml` operator set.
const ML_OPSETS: RangeInclusive<i64> = 1..=5;

/// Checks the whole file.
pub(super) fn check(proto: &ModelProto) -> Result<(), EngineError> {
    if !IR_VERSIONS.contains(&proto.ir_version) {
        return Err(unsupported(format!(
            "this is no ONNX file, or a too new one: IR version {}, expected {} to {}",
            proto.ir_version,
            IR_VERSIONS.start(),
            IR_VERSIONS.end()
        )));
    }
    let Some(graph) = &proto.graph else {
        return Err(unsupported("the file holds no graph"));
    };
    check_domains(proto, graph)?;
    check_graph(graph, 0)?;
    values::check(graph)?;
    check_declared_sizes(graph)
}

/// Refuses operators that the engine lacks, all of them in one message. For
/// the rewritten file.
pub(super) fn operators(onnx: &Onnx, proto: &ModelProto) -> Result<(), EngineError> {
    let mut missing = Vec::new();
    if let Some(graph) = &proto.graph {
        missing_operators(onnx, graph, &mut missing);
    }
    if missing.is_empty() {
        return Ok(());
    }
    const SHOWN_MAX: usize = 20;
    let rest = missing.len().saturating_sub(SHOWN_MAX);
    missing.truncate(SHOWN_MAX);
    let more = if rest > 0 { format!(", and {rest} more") } else { String::new() };
    Err(unsupported(format!("unsupported operators: {}{more}", missing.join(", "))))
}

fn missing_operators(onnx: &Onnx, graph: &GraphProto, missing: &mut Vec<String>) {
    for node in &graph.node {
        if !onnx.op_register.0.contains_key(&node.op_type) {
            missing.push(format!("{} (node {:?})", node.op_type, name_of(node)));
        }
        each_subgraph(node, &mut |graph| missing_operators(onnx, graph, missing));
    }
}

/// A node's name, or that of what it makes: names may be left out.
pub(super) fn name_of(node: &NodeProto) -> &str {
    let made = || node.output.first().map_or("", String::as_str);
    if node.name.is_empty() { made() } else { &node.name }
}

/// Calls `visit` with the graphs among a node's attributes.
pub(super) fn each_subgraph(node: &NodeProto, visit: &mut impl FnMut(&GraphProto)) {
    for attribute in &node.attribute {
        attribute.g.iter().chain(&attribute.graphs).for_each(&mut *visit);
    }
}

/// Like [`each_subgraph`], up to the first error.
pub(super) fn each_subgraph_checked(
    node: &NodeProto,
    mut check: impl FnMut(&GraphProto) -> Result<(), EngineError>,
) -> Result<(), EngineError> {
    let mut graphs = node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs));
    graphs.try_for_each(|graph| {
        check(graph)
            .map_err(|error| at(format!("in {} (node {:?})", node.op_type, name_of(node)), &error))
    })
}

/// Like [`each_subgraph`], to change them.
pub(super) fn each_subgraph_mut(node: &mut NodeProto, visit: &mut impl FnMut(&mut GraphProto)) {
    for attribute in &mut node.attribute {
        attribute.g.iter_mut().chain(&mut attribute.graphs).for_each(&mut *visit);
    }
}

/// Every domain in use must be imported, as the standard asks.
fn check_domains(proto: &ModelProto, graph: &GraphProto) -> Result<(), EngineError> {
    let imports = proto.opset_import.iter().map(|import| plain(&import.domain).to_owned());
    let imported = imports.collect::<HashSet<String>>();
    for import in &proto.opset_import {
        let versions = match &*import.domain {
            "" | "ai.onnx" => OPSETS,
            onnx_ml::DOMAIN => ML_OPSETS,
            _ => continue,
        };
        if !versions.contains(&import.version) {
            return Err(unsupported(format!(
                "the operator set {:?} has the version {}, expected {} to {}",
                import.domain,
                import.version,
                versions.start(),
                versions.end()
            )));
        }
    }
    check_imports(graph, &imported)
}

fn check_imports(graph: &GraphProto, imported: &HashSet<String>) -> Result<(), EngineError> {
    for node in &graph.node {
        if !imported.contains(plain(&node.domain)) {
            return Err(unsupported(format!(
                "node {:?} uses {} of the operator set {:?}, which the file does not import",
                name_of(node),
                node.op_type,
                node.domain
            )));
        }
        each_subgraph_checked(node, |graph| check_imports(graph, imported))?;
    }
    Ok(())
}

/// The default domain has two names.
fn plain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

/// Tensors and depth, in this graph and those within.
fn check_graph(graph: &GraphProto, depth: usize) -> Result<(), EngineError> {
    if depth > GRAPH_DEPTH_MAX {
        return Err(unsupported(format!("graphs within graphs beyond {GRAPH_DEPTH_MAX} levels")));
    }
    if !graph.sparse_initializer.is_empty() {
        return Err(unsupported("sparse initialisers are not supported"));
    }
    for tensor in &graph.initializer {
        check_tensor(tensor).map_err(|e| at(format!("initialiser {:?}", tensor.name), &e))?;
    }
    for node in &graph.node {
        check_node(node)
            .map_err(|e| at(format!("{} (node {:?})", node.op_type, name_of(node)), &e))?;
        each_subgraph_checked(node, |graph| check_graph(graph, depth + 1))?;
    }
    Ok(())
}

fn at(place: String, error: &EngineError) -> EngineError {
    EngineError::new(error.kind, format!("{place}: {error}"))
}

fn check_node(node: &NodeProto) -> Result<(), EngineError> {
    attributes::check(node)?;
    ignored::check(node)?;
    for attribute in &node.attribute {
        if !attribute.ref_attr_name.is_empty() {
            return Err(unsupported("an attribute of a function, outside of one"));
        }
        for tensor in attribute.t.iter().chain(&attribute.tensors) {
            check_tensor(tensor).map_err(|e| at(format!("attribute {:?}", attribute.name), &e))?;
        }
    }
    Ok(())
}

/// A tensor's shape must mean exactly as many elements as the file holds.
fn check_tensor(tensor: &TensorProto) -> Result<(), EngineError> {
    if tensor.segment.is_some() {
        return Err(unsupported("tensors in segments are not supported"));
    }
    let shape = tensor.dims.iter().map(|&d| usize::try_from(d)).collect::<Result<Vec<_>, _>>();
    let elements = shape
        .ok()
        .and_then(|shape| element_count(&shape))
        .ok_or_else(|| unsupported(format!("the shape {:?} is impossible", tensor.dims)))?;
    let Some(datatype) = signature::from_onnx(tensor.data_type) else {
        return Err(unsupported(format!("the element type {} is not supported", tensor.data_type)));
    };
    let raw = match tensor.raw_data.len() {
        0 if external::is_external(tensor) => external::byte_len(tensor).unwrap_or_default(),
        bytes => bytes as u64,
    };
    let held = if raw == 0 {
        typed_len(tensor)
    } else {
        let size = datatype.size().ok_or_else(|| unsupported("strings cannot be raw data"))?;
        let raw = usize::try_from(raw).ok().filter(|raw| raw.is_multiple_of(size));
        raw.ok_or_else(|| {
            unsupported(format!("its bytes are no whole number of {datatype} elements"))
        })? / size
    };
    if held != elements {
        return Err(unsupported(format!(
            "the shape {:?} means {elements} elements, the file holds {held}",
            tensor.dims
        )));
    }
    Ok(())
}

/// Elements in the field where the standard puts this element type.
fn typed_len(tensor: &TensorProto) -> usize {
    match DataType::try_from(tensor.data_type) {
        Ok(DataType::Float) => tensor.float_data.len(),
        Ok(DataType::Double) => tensor.double_data.len(),
        Ok(DataType::Int64) => tensor.int64_data.len(),
        Ok(DataType::Uint32 | DataType::Uint64) => tensor.uint64_data.len(),
        Ok(DataType::String) => tensor.string_data.len(),
        _ => tensor.int32_data.len(),
    }
}

/// Refuses shapes that would allocate far more than the file could justify,
/// where they stand in the file as numbers.
fn check_declared_sizes(graph: &GraphProto) -> Result<(), EngineError> {
    for value in signature::real_inputs(graph) {
        let spec = signature::input(graph, value)?;
        let fixed = spec.shape.iter().map(|dim| match dim {
            Dim::Fixed(n) => *n,
            Dim::Symbol(_) | Dim::Any => 1,
        });
        let bytes = fixed
            .chain([spec.datatype.size().unwrap_or(size_of::<String>())])
            .try_fold(1_usize, usize::checked_mul);
        if bytes.is_none_or(|bytes| bytes > DECLARED_BYTES_MAX) {
            return Err(unsupported(format!(
                "input {:?} of shape {:?} is larger than {DECLARED_BYTES_MAX} bytes",
                value.name,
                spec.wire_shape()
            )));
        }
    }
    check_constant_sizes(graph)
}

/// Sizes that operators take as constants, in this graph and those within.
pub(super) fn check_constant_sizes(graph: &GraphProto) -> Result<(), EngineError> {
    for node in &graph.node {
        check_growth(graph, node)?;
        check_reshape(graph, node)?;
        each_subgraph_checked(node, check_constant_sizes)?;
    }
    Ok(())
}

/// A constant target of Reshape may say "the rest" once and "the same", but
/// no other negative number; tract takes any.
fn check_reshape(graph: &GraphProto, node: &NodeProto) -> Result<(), EngineError> {
    if node.op_type != "Reshape" {
        return Ok(());
    }
    let Some(shape) = node.input.get(1).and_then(|name| constant(graph, name)) else {
        return Ok(());
    };
    if shape.dims.len() != 1 {
        return Err(unsupported(format!(
            "Reshape (node {:?}): expected a list of sizes, got a tensor of shape {:?}",
            node.name, shape.dims
        )));
    }
    let shape = int64s(shape);
    let rests = shape.iter().filter(|&&dim| dim == -1).count();
    if rests > 1 || shape.iter().any(|&dim| dim < -1) {
        return Err(unsupported(format!(
            "Reshape (node {:?}) to {shape:?}: expected sizes, with at most one -1",
            node.name
        )));
    }
    Ok(())
}

/// Operators that make a large tensor of a small one take its shape as a
/// constant as a rule.
fn check_growth(graph: &GraphProto, node: &NodeProto) -> Result<(), EngineError> {
    let input = |at: usize| {
        let tensor = node.input.get(at).and_then(|name| constant(graph, name))?;
        Some(numbers(tensor))
    };
    let first = |at: usize| input(at)?.first().copied();
    let sizes = |at: usize| Some(input(at)?.iter().map(|n| n.max(0.0)).product());
    let elements: Option<f64> = match &*node.op_type {
        "ConstantOfShape" | "BlackmanWindow" | "HammingWindow" | "HannWindow" => sizes(0),
        "DFT" | "Expand" | "OneHot" | "Tile" => sizes(1),
        "Resize" => sizes(3),
        "MelWeightMatrix" => first(0).zip(first(1)).map(|(bins, length)| bins * length / 2.0),
        "Range" => first(0)
            .zip(first(1))
            .zip(first(2))
            .filter(|&(_, step)| step != 0.0)
            .map(|((start, end), step)| ((end - start) / step).ceil()),
        _ => None,
    };
    #[expect(clippy::cast_precision_loss, reason = "a power of two")]
    let most = (DECLARED_BYTES_MAX / 4) as f64;
    match elements.filter(|&elements| elements > most) {
        None => Ok(()),
        Some(elements) => Err(unsupported(format!(
            "{} (node {:?}) asks for {elements} elements: more than {DECLARED_BYTES_MAX} bytes",
            node.op_type,
            name_of(node)
        ))),
    }
}

/// The constant called `name`, be it an initialiser or a Constant node.
fn constant<'a>(graph: &'a GraphProto, name: &str) -> Option<&'a TensorProto> {
    graph.initializer.iter().find(|tensor| tensor.name == name).or_else(|| {
        let node = graph.node.iter().find(|node| node.output.iter().any(|o| o == name))?;
        (node.op_type == "Constant")
            .then(|| node.attribute.iter().find_map(|attribute| attribute.t.as_ref()))?
    })
}

fn int64s(tensor: &TensorProto) -> Vec<i64> {
    if tensor.raw_data.is_empty() {
        return tensor.int64_data.clone();
    }
    let chunks = tensor.raw_data.as_chunks::<8>().0;
    chunks.iter().map(|bytes| i64::from_le_bytes(*bytes)).collect()
}

/// The numbers of a tensor of a type that sizes and bounds have.
#[expect(clippy::cast_precision_loss, reason = "compared with a bound far off")]
fn numbers(tensor: &TensorProto) -> Vec<f64> {
    let raw = &*tensor.raw_data;
    macro_rules! read {
        ($type:ty, $typed:ident) => {{
            let chunks = raw.as_chunks::<{ size_of::<$type>() }>().0.iter();
            let raw = chunks.map(|bytes| <$type>::from_le_bytes(*bytes) as f64);
            raw.chain(tensor.$typed.iter().map(|&x| x as f64)).collect()
        }};
    }
    match DataType::try_from(tensor.data_type) {
        Ok(DataType::Int64) => read!(i64, int64_data),
        Ok(DataType::Int32) => read!(i32, int32_data),
        Ok(DataType::Int16) => read!(i16, int32_data),
        Ok(DataType::Float) => read!(f32, float_data),
        Ok(DataType::Double) => read!(f64, double_data),
        _ => Vec::new(),
    }
}
