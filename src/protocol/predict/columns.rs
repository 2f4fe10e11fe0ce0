//! Inputs as columns: each a whole tensor of nested arrays.

use crate::error::{Error, Result};
use crate::protocol::json::{B64, Malformed, Reader, Size, fill, unescape};
use crate::protocol::message::{fault, malformed, names, short};
use crate::types::{Data, Datatype, Dim, Signature, Tensor, TensorSpec};

/// Reads `inputs`, all of it: an object by input name, or the value of the
/// only input.
pub(super) fn decode(
    body: &str,
    mut reader: Reader<'_>,
    signature: &Signature,
) -> Result<Vec<Tensor>> {
    let mut tensors: Vec<Tensor> = Vec::with_capacity(signature.inputs.len());
    if !is_bytes(&reader, &signature.inputs) && reader.take(b'{') {
        let mut first = true;
        while let Some(key) =
            reader.key(std::mem::take(&mut first)).map_err(|Malformed(at)| malformed(body, at))?
        {
            let spec = named(key, signature, &tensors)?;
            tensors.push(tensor(body, &mut reader, spec)?);
        }
    } else {
        let [spec] = &signature.inputs[..] else {
            return Err(Error::invalid(format!(
                "\"inputs\": expected an object with {}, got {}",
                names(&signature.inputs),
                reader.kind()
            )));
        };
        tensors.push(tensor(body, &mut reader, spec)?);
    }
    reader.end().map_err(|Malformed(at)| malformed(body, at))?;
    Ok(tensors)
}

/// Whether an object is the value of the only input, bytes, and does not name
/// it.
pub(super) fn is_bytes(reader: &Reader<'_>, inputs: &[TensorSpec]) -> bool {
    let [spec] = inputs else { return false };
    spec.datatype == Datatype::Bytes && spec.name != B64 && reader.is_base64()
}

/// The input that a key names, and that has not come yet.
fn named<'s>(key: &str, signature: &'s Signature, tensors: &[Tensor]) -> Result<&'s TensorSpec> {
    let name = unescape(key).map_err(Error::invalid)?;
    let spec = signature.input(&name).ok_or_else(|| {
        Error::invalid(format!(
            "input {:?} is unknown; this model takes {}",
            short(&name),
            names(&signature.inputs)
        ))
    })?;
    if tensors.iter().any(|tensor| tensor.name() == name) {
        return Err(Error::invalid(format!("input {name:?} is given twice")));
    }
    Ok(spec)
}

/// The sizes that a spec leaves open or fixes.
pub(super) fn sizes(dims: &[Dim]) -> Vec<Size> {
    let size = |dim: &Dim| match dim {
        Dim::Fixed(size) => Size::Fixed(*size),
        Dim::Symbol(_) | Dim::Any => Size::Open,
    };
    dims.iter().map(size).collect()
}

/// Elements of one entry of the first dimension, where all of it is known.
pub(super) fn row_elements(dims: &[Dim]) -> usize {
    let size = |dim: &Dim| if let Dim::Fixed(size) = dim { *size } else { 1 };
    dims.iter().map(size).fold(1, usize::saturating_mul)
}

fn tensor(body: &str, reader: &mut Reader<'_>, spec: &TensorSpec) -> Result<Tensor> {
    let room = reader.room(row_elements(&spec.shape), 1);
    let mut data = Data::with_capacity(spec.datatype, room);
    let mut sizes = sizes(&spec.shape);
    // A flat list will do where each row holds one value.
    let column = matches!(sizes[..], [_, Size::Fixed(1)]) && is_flat(reader, spec);
    let read = if column { &mut sizes[..1] } else { &mut sizes[..] };
    fill(reader, &mut data, read)
        .map_err(|found| fault(body, &spec.name, &spec.wire_shape(), &found))?;
    if data.is_empty() {
        return Err(Error::invalid(format!(
            "input {:?}: expected shape {:?}, got no values",
            spec.name,
            spec.wire_shape()
        )));
    }
    let shape = sizes.iter().map(|size| size.get().unwrap_or(0)).collect();
    Tensor::new(&spec.name, shape, data)
}

/// Whether this is an array of scalars.
fn is_flat(reader: &Reader<'_>, spec: &TensorSpec) -> bool {
    let mut ahead = reader.clone();
    ahead.take(b'[') && (is_scalar(&mut ahead, spec) && ahead.peek() != Some(b']'))
}

/// Whether what comes next looks like one value of an input.
pub(super) fn is_scalar(reader: &mut Reader<'_>, spec: &TensorSpec) -> bool {
    match reader.peek() {
        None | Some(b'[') => false,
        Some(b'{') => spec.datatype == Datatype::Bytes,
        Some(_) => true,
    }
}
