//! Error messages that several forms of request share.

use crate::error::Error;
use crate::protocol::json::{At, Fault, Unwritable, What};
use crate::types::TensorSpec;

/// Characters of a client's text that a message repeats.
const SHOWN_MAX: usize = 64;

/// The beginning of a text that a client sent, for a message.
pub(super) fn short(text: &str) -> String {
    text.chars().take(SHOWN_MAX).collect()
}

/// Quoted names of inputs or outputs.
pub(super) fn names(specs: &[TensorSpec]) -> String {
    let names: Vec<_> = specs.iter().map(|spec| format!("{:?}", spec.name)).collect();
    names.join(", ")
}

/// The error for a tensor that does not fit `shape`.
pub(super) fn fault(body: &str, name: &str, shape: &[i64], fault: &Fault) -> Error {
    let at = At::offset(body, fault.at);
    Error::invalid(match &fault.what {
        What::Length { axis, expected, got, fixed: true } => format!(
            "input {name:?}: expected shape {shape:?}; dimension {axis} has {got} values, \
             expected {expected} ({at})"
        ),
        What::Length { axis, expected, got, fixed: false } => format!(
            "input {name:?}: ragged: dimension {axis} has {got} values here and {expected} \
             before ({at})"
        ),
        What::NoArray(kind) => format!(
            "input {name:?}: expected shape {shape:?}; {kind} stands where an array must ({at})"
        ),
        What::Value(why) => format!("input {name:?}: {why} ({at})"),
        What::Malformed => return malformed(body, fault.at),
    })
}

/// The error for text that is no JSON, where serde_json does not say why.
pub(super) fn malformed(body: &str, at: usize) -> Error {
    Error::invalid(format!("malformed JSON at {}", At::offset(body, at)))
}

/// The error for an output that cannot stand in JSON.
pub(super) fn unwritable(name: &str, why: &Unwritable) -> Error {
    match why {
        Unwritable::NonFinite(at, number) => Error::internal(format!(
            "output {name:?}: element {at} is {number}, which JSON does not have; ask for binary \
             tensors (/v2), or set nonfinite_as_null in model.toml"
        )),
        // Bytes are as good an answer as text: it is their form that was asked for.
        Unwritable::NotText(at) => Error::invalid(format!(
            "output {name:?}: element {at} is not UTF-8; ask for binary tensors (/v2)"
        )),
    }
}
