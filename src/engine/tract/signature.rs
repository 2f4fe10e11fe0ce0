//! The signature, from the file's own declarations.

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::dimension::Value as DimValue;
use tract_onnx::pb::{
    GraphProto, ModelProto, NodeProto, TensorShapeProto, ValueInfoProto, type_proto,
};

use super::load::unsupported;
use super::rewrite;
use crate::engine::{EngineError, onnx_ml};
use crate::types::{Datatype, Dim, Docs, Signature, TensorSpec};

/// Reads it. Initialisers that are listed as inputs are none; a ZipMap's
/// output is the tensor that goes into it, with the names of its classes.
///
/// An output without a declared shape gets an empty one here; tract's own
/// inference fills it in later.
pub(in crate::engine) fn read(proto: &ModelProto) -> Result<Signature, EngineError> {
    let graph = proto.graph.as_ref().ok_or_else(|| unsupported("the file holds no graph"))?;
    let inputs = real_inputs(graph).map(|value| input(graph, value));
    let inputs = inputs.collect::<Result<Vec<_>, _>>()?;
    let outputs = graph
        .output
        .iter()
        .map(|value| {
            let spec = match rewrite::zip_map(graph, &value.name) {
                Some(node) => scores(value, node, inputs.first()),
                None => output(value),
            };
            spec.map(|spec| TensorSpec { doc: value.doc_string.clone(), ..spec })
        })
        .collect::<Result<Vec<_>, _>>()?;
    if inputs.is_empty() || outputs.is_empty() {
        return Err(unsupported(format!(
            "expected at least one input and one output, the graph has {} and {}",
            inputs.len(),
            outputs.len()
        )));
    }
    Ok(Signature { inputs, outputs, docs: docs(proto, graph) })
}

/// What a ZipMap gives: for each row of the first input a score for each of
/// its classes.
fn scores(
    value: &ValueInfoProto,
    node: &NodeProto,
    input: Option<&TensorSpec>,
) -> Result<TensorSpec, EngineError> {
    let classes = onnx_ml::zip_map_classes(node)
        .map_err(|error| unsupported(format!("ZipMap (node {:?}): {error:#}", node.name)))?;
    let rows = match input.map(|spec| &*spec.shape) {
        Some([rows, _, ..]) => rows.clone(),
        _ => Dim::Any,
    };
    let shape = vec![rows, Dim::Fixed(classes.len())];
    Ok(TensorSpec { classes, ..TensorSpec::new(&*value.name, Datatype::Fp32, shape) })
}

fn docs(proto: &ModelProto, graph: &GraphProto) -> Docs {
    let description = [&proto.doc_string, &graph.doc_string].into_iter().find(|d| !d.is_empty());
    let producer = [&*proto.producer_name, &*proto.producer_version].join(" ");
    let properties = proto.metadata_props.iter();
    Docs {
        description: description.cloned().unwrap_or_default(),
        producer: producer.trim().to_owned(),
        properties: properties.map(|p| (p.key.clone(), p.value.clone())).collect(),
    }
}

/// The inputs that are no initialisers.
pub(super) fn real_inputs(graph: &GraphProto) -> impl Iterator<Item = &ValueInfoProto> {
    let initialised = |name: &str| graph.initializer.iter().any(|tensor| tensor.name == name);
    graph.input.iter().filter(move |value| !initialised(&value.name))
}

pub(super) fn input(graph: &GraphProto, value: &ValueInfoProto) -> Result<TensorSpec, EngineError> {
    let tensor = tensor_type("input", value).map_err(|error| of_maps(graph, value, error))?;
    let Some(shape) = &tensor.shape else {
        return Err(unsupported(format!(
            "input {:?} declares no shape, not even its number of dimensions",
            value.name
        )));
    };
    let datatype = datatype("input", &value.name, tensor.elem_type)?;
    let spec = TensorSpec::new(&*value.name, datatype, dims(shape));
    Ok(TensorSpec { doc: value.doc_string.clone(), ..spec })
}

/// Says more where an operator that takes maps is why the input is no tensor.
fn of_maps(graph: &GraphProto, value: &ValueInfoProto, error: EngineError) -> EngineError {
    let takes = |node: &&NodeProto| onnx_ml::takes_maps(node) && node.input.contains(&value.name);
    match graph.node.iter().find(takes) {
        Some(node) => unsupported(format!(
            "{error}: {} (node {:?}) takes a map; export the model without it, with a column for \
             each key",
            node.op_type, node.name
        )),
        None => error,
    }
}

fn output(value: &ValueInfoProto) -> Result<TensorSpec, EngineError> {
    let tensor = tensor_type("output", value)?;
    let shape = tensor.shape.as_ref().map(dims).unwrap_or_default();
    let datatype = datatype("output", &value.name, tensor.elem_type)?;
    Ok(TensorSpec::new(&*value.name, datatype, shape))
}

fn tensor_type<'a>(
    role: &str,
    value: &'a ValueInfoProto,
) -> Result<&'a type_proto::Tensor, EngineError> {
    match value.r#type.as_ref().and_then(|t| t.value.as_ref()) {
        Some(type_proto::Value::TensorType(tensor)) => Ok(tensor),
        None => Err(unsupported(format!(
            "{role} {:?} is no tensor; sequences and maps are not supported",
            value.name
        ))),
    }
}

fn datatype(role: &str, name: &str, elem_type: i32) -> Result<Datatype, EngineError> {
    from_onnx(elem_type).ok_or_else(|| {
        let what = DataType::try_from(elem_type)
            .map_or_else(|_| elem_type.to_string(), |t| t.as_str_name().to_owned());
        unsupported(format!("{role} {name:?} has the element type {what}, which is not supported"))
    })
}

/// The datatype of an ONNX element type.
pub(super) fn from_onnx(elem_type: i32) -> Option<Datatype> {
    Some(match DataType::try_from(elem_type).ok()? {
        DataType::Bool => Datatype::Bool,
        DataType::Uint8 => Datatype::Uint8,
        DataType::Uint16 => Datatype::Uint16,
        DataType::Uint32 => Datatype::Uint32,
        DataType::Uint64 => Datatype::Uint64,
        DataType::Int8 => Datatype::Int8,
        DataType::Int16 => Datatype::Int16,
        DataType::Int32 => Datatype::Int32,
        DataType::Int64 => Datatype::Int64,
        DataType::Float16 => Datatype::Fp16,
        DataType::Float => Datatype::Fp32,
        DataType::Double => Datatype::Fp64,
        DataType::String => Datatype::Bytes,
        _ => return None,
    })
}

/// The ONNX element type of a datatype.
pub(super) fn to_onnx(datatype: Datatype) -> DataType {
    match datatype {
        Datatype::Bool => DataType::Bool,
        Datatype::Uint8 => DataType::Uint8,
        Datatype::Uint16 => DataType::Uint16,
        Datatype::Uint32 => DataType::Uint32,
        Datatype::Uint64 => DataType::Uint64,
        Datatype::Int8 => DataType::Int8,
        Datatype::Int16 => DataType::Int16,
        Datatype::Int32 => DataType::Int32,
        Datatype::Int64 => DataType::Int64,
        Datatype::Fp16 => DataType::Float16,
        Datatype::Fp32 => DataType::Float,
        Datatype::Fp64 => DataType::Double,
        Datatype::Bytes => DataType::String,
    }
}

fn dims(shape: &TensorShapeProto) -> Vec<Dim> {
    let dim = |value: &Option<DimValue>| match value {
        // Some exporters write −1 for "any".
        Some(DimValue::DimValue(size)) => usize::try_from(*size).map_or(Dim::Any, Dim::Fixed),
        Some(DimValue::DimParam(name)) if !name.is_empty() && name != "?" => {
            Dim::Symbol(name.clone())
        }
        _ => Dim::Any,
    };
    shape.dim.iter().map(|d| dim(&d.value)).collect()
}
