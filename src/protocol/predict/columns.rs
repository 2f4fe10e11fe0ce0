//! Inputs as columns: each a whole tensor of nested arrays.

use crate::error::{Error, Result};
use crate::protocol::json::{Size, Token, Tokens, fill, unescape};
use crate::protocol::message::{fault, names, short};
use crate::types::{Data, Dim, Signature, Tensor, TensorSpec};

/// Reads `inputs`: an object by input name, or the value of the only input.
pub(super) fn decode(
    body: &str,
    mut tokens: Tokens<'_>,
    signature: &Signature,
) -> Result<Vec<Tensor>> {
    if tokens.peek() != Token::ObjectOpen {
        let [spec] = &signature.inputs[..] else {
            return Err(Error::invalid(format!(
                "\"inputs\": expected an object with {}, got {}",
                names(&signature.inputs),
                tokens.peek().kind()
            )));
        };
        return Ok(vec![tensor(body, &mut tokens, spec)?]);
    }
    tokens.next();
    let mut tensors: Vec<Tensor> = Vec::with_capacity(signature.inputs.len());
    while let Token::String(key) = tokens.next() {
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
        tensors.push(tensor(body, &mut tokens, spec)?);
    }
    Ok(tensors)
}

/// The sizes that a spec leaves open or fixes.
pub(super) fn sizes(dims: &[Dim]) -> Vec<Size> {
    let size = |dim: &Dim| match dim {
        Dim::Fixed(size) => Size::Fixed(*size),
        Dim::Symbol(_) | Dim::Any => Size::Open,
    };
    dims.iter().map(size).collect()
}

fn tensor(body: &str, tokens: &mut Tokens<'_>, spec: &TensorSpec) -> Result<Tensor> {
    let mut data = Data::with_capacity(spec.datatype, tokens.room());
    let mut sizes = sizes(&spec.shape);
    // A flat list will do where each row holds one value.
    let column = matches!(sizes[..], [_, Size::Fixed(1)]) && is_flat(tokens);
    let read = if column { &mut sizes[..1] } else { &mut sizes[..] };
    fill(tokens, &mut data, read)
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
fn is_flat(tokens: &Tokens<'_>) -> bool {
    let mut ahead = tokens.clone();
    ahead.next() == Token::ArrayOpen && matches!(ahead.next(), Token::Word(_) | Token::String(_))
}
