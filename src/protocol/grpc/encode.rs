//! An answer's bytes: a `ModelInferResponse`, straight from the tensors.
//!
//! The generated type would have each name copied into a string and each tensor
//! into a buffer of its own, only to be copied once more. What is written here is
//! read with that type in the tests.

use std::borrow::Cow;

use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use crate::error::Result;
use crate::protocol::call::Answered;
use crate::protocol::v2::classification::classify;
use crate::protocol::v2::{Chosen, binary};
use crate::types::Tensor;

/// Fields of `ModelInferResponse`.
const MODEL_NAME: u32 = 1;
const MODEL_VERSION: u32 = 2;
const ID: u32 = 3;
const PARAMETERS: u32 = 4;
const OUTPUTS: u32 = 5;
const RAW_OUTPUT_CONTENTS: u32 = 6;
/// Fields of an output.
const NAME: u32 = 1;
const DATATYPE: u32 = 2;
const SHAPE: u32 = 3;
/// Fields of a map's entry.
const KEY: u32 = 1;
const VALUE: u32 = 2;
/// The field of `InferParameter`.
const STRING_PARAM: u32 = 3;
/// The field of `ModelStreamInferResponse`.
const INFER_RESPONSE: u32 = 2;

/// Bytes of the fields before the tensors, about.
const HEAD_BYTES: usize = 256;
/// Bytes of a nested message, about.
const NESTED_BYTES: usize = 64;

/// An answer that is to be written. All its tensors are raw.
pub(super) struct Encoding<'a> {
    /// All fields but the raw contents, written.
    head: Vec<u8>,
    outputs: Vec<(Cow<'a, Tensor>, usize)>,
}

impl<'a> Encoding<'a> {
    pub(super) fn new(
        answered: &Answered<'a>,
        id: Option<&str>,
        chosen: &[Chosen],
    ) -> Result<Self> {
        let version = answered.assignment.version();
        let (mut head, mut nested) =
            (Vec::with_capacity(HEAD_BYTES), Vec::with_capacity(NESTED_BYTES));
        field(MODEL_NAME, version.model().as_str().as_bytes(), &mut head);
        let (digits, start) = digits(version.id().get());
        field(MODEL_VERSION, &digits[start..], &mut head);
        if let Some(id) = id {
            field(ID, id.as_bytes(), &mut head);
        }
        parameter("prediction_id", answered.prediction_id, &mut nested, &mut head);
        parameter("role", answered.assignment.role(), &mut nested, &mut head);
        let mut outputs = Vec::with_capacity(chosen.len());
        let specs = &version.signature().outputs;
        for Chosen { place, classes, .. } in chosen {
            let tensor = &answered.outputs[*place];
            let tensor = match classes {
                0 => Cow::Borrowed(tensor),
                count => Cow::Owned(classify(&specs[*place], tensor, *count)?),
            };
            output(&tensor, &mut nested, &mut head);
            let len = binary::encoded_len(tensor.data());
            outputs.push((tensor, len));
        }
        Ok(Self { head, outputs })
    }

    /// Its bytes.
    pub(super) fn len(&self) -> usize {
        let raw = self.outputs.iter().map(|(_, len)| field_len(RAW_OUTPUT_CONTENTS, *len));
        self.head.len() + raw.sum::<usize>()
    }

    /// Appends it.
    pub(super) fn append(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.head);
        for (tensor, len) in &self.outputs {
            start(RAW_OUTPUT_CONTENTS, *len, out);
            binary::encode(tensor.data(), out);
        }
    }

    /// Its bytes as the answer within a stream's message.
    pub(super) fn len_within(&self) -> usize {
        field_len(INFER_RESPONSE, self.len())
    }

    /// Appends it as the answer within a stream's message.
    pub(super) fn append_within(&self, out: &mut Vec<u8>) {
        start(INFER_RESPONSE, self.len(), out);
        self.append(out);
    }
}

/// The beginning of a field of `len` bytes.
fn start(tag: u32, len: usize, out: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, out);
    encode_varint(len as u64, out);
}

fn field(tag: u32, bytes: &[u8], out: &mut Vec<u8>) {
    start(tag, bytes.len(), out);
    out.extend_from_slice(bytes);
}

/// Bytes of a field whose content has `len`.
const fn field_len(tag: u32, len: usize) -> usize {
    key_len(tag) + encoded_len_varint(len as u64) + len
}

/// An entry of `parameters`: a text.
fn parameter(key: &str, text: &str, nested: &mut Vec<u8>, out: &mut Vec<u8>) {
    nested.clear();
    field(KEY, key.as_bytes(), nested);
    start(VALUE, field_len(STRING_PARAM, text.len()), nested);
    field(STRING_PARAM, text.as_bytes(), nested);
    field(PARAMETERS, nested, out);
}

/// What a tensor is, without its elements.
fn output(tensor: &Tensor, nested: &mut Vec<u8>, out: &mut Vec<u8>) {
    nested.clear();
    field(NAME, tensor.name().as_bytes(), nested);
    field(DATATYPE, tensor.datatype().as_str().as_bytes(), nested);
    let sizes = tensor.shape();
    if !sizes.is_empty() {
        start(SHAPE, sizes.iter().map(|size| encoded_len_varint(*size as u64)).sum(), nested);
        sizes.iter().for_each(|size| encode_varint(*size as u64, nested));
    }
    field(OUTPUTS, nested, out);
}

/// A number's decimal digits, which begin at the index.
fn digits(mut number: u64) -> ([u8; 20], usize) {
    let (mut digits, mut start) = ([b'0'; 20], 20);
    loop {
        start -= 1;
        digits[start] = b'0' + u8::try_from(number % 10).unwrap_or(0);
        number /= 10;
        if number == 0 {
            return (digits, start);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_full() {
        for number in [0, 7, 10, 42, u64::MAX] {
            let (digits, start) = digits(number);
            assert_eq!(digits[start..], *number.to_string().as_bytes());
        }
    }
}
