//! `LabelEncoder`: replaces keys by values, between strings, INT64 and FP32.

use std::collections::HashMap;
use std::hash::Hash;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::attributes::Attributes;
use super::kernel::{Built, Fact, Kernel, built};

const ATTRIBUTES: &[&str] = &[
    "keys_strings",
    "keys_int64s",
    "keys_floats",
    "values_strings",
    "values_int64s",
    "values_floats",
    "default_string",
    "default_int64",
    "default_float",
];

#[derive(Debug)]
enum Keys {
    Strings(HashMap<String, usize>),
    Ints(HashMap<i64, usize>),
    /// By bit pattern, −0 as 0. NaN equals nothing, and is refused as a key.
    Floats(HashMap<u32, usize>),
}

/// The values in the keys' order, then the default.
#[derive(Debug)]
enum Values {
    Strings(Vec<String>),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
}

#[derive(Debug)]
struct LabelEncoder {
    keys: Keys,
    values: Values,
}

pub(super) fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let attributes = Attributes::new(node, ATTRIBUTES)?;
    let (count, keys) = read_keys(&attributes)?;
    let (values_count, values) = read_values(&attributes)?;
    ensure!(count == values_count, "{count} keys, but {values_count} values");
    built(LabelEncoder { keys, values })
}

fn read_keys(attributes: &Attributes) -> TractResult<(usize, Keys)> {
    let strings = attributes.strings("keys_strings")?;
    let ints = attributes.ints("keys_int64s")?;
    let floats = attributes.floats("keys_floats")?;
    ensure!(!floats.iter().any(|key| key.is_nan()), "NaN as a key is not supported");
    match (strings.len(), ints.len(), floats.len()) {
        (n @ 1.., 0, 0) => Ok((n, Keys::Strings(index(strings.into_iter().map(str::to_owned))))),
        (0, n @ 1.., 0) => Ok((n, Keys::Ints(index(ints.iter().copied())))),
        (0, 0, n @ 1..) => Ok((n, Keys::Floats(index(floats.iter().copied().map(bits))))),
        _ => bail!("expected exactly one of keys_strings, keys_int64s and keys_floats"),
    }
}

fn read_values(attributes: &Attributes) -> TractResult<(usize, Values)> {
    let strings = attributes.strings("values_strings")?;
    let ints = attributes.ints("values_int64s")?;
    let floats = attributes.floats("values_floats")?;
    match (strings.len(), ints.len(), floats.len()) {
        (n @ 1.., 0, 0) => {
            let default = attributes.string("default_string", "_Unused")?;
            let all = strings.into_iter().chain([default]).map(str::to_owned).collect();
            Ok((n, Values::Strings(all)))
        }
        (0, n @ 1.., 0) => {
            let default = attributes.int("default_int64", -1)?;
            Ok((n, Values::Ints([ints, &[default]].concat())))
        }
        (0, 0, n @ 1..) => {
            let default = attributes.float("default_float", -0.0)?;
            Ok((n, Values::Floats([floats, &[default]].concat())))
        }
        _ => bail!("expected exactly one of values_strings, values_int64s and values_floats"),
    }
}

/// The first of equal keys counts, as in onnxruntime.
fn index<K: Hash + Eq>(keys: impl Iterator<Item = K>) -> HashMap<K, usize> {
    let mut map = HashMap::new();
    for (i, key) in keys.enumerate() {
        map.entry(key).or_insert(i);
    }
    map
}

fn bits(x: f32) -> u32 {
    if x == 0.0 { 0 } else { x.to_bits() }
}

impl LabelEncoder {
    /// For each element the index of its value; unknown keys get the default's.
    fn positions(&self, input: &Tensor) -> TractResult<Vec<usize>> {
        let default = match &self.values {
            Values::Strings(values) => values.len() - 1,
            Values::Ints(values) => values.len() - 1,
            Values::Floats(values) => values.len() - 1,
        };
        let view = input.try_as_plain_ram()?;
        let or_default = |found: Option<&usize>| found.copied().unwrap_or(default);
        Ok(match &self.keys {
            Keys::Strings(keys) => {
                view.as_slice::<String>()?.iter().map(|k| or_default(keys.get(k))).collect()
            }
            Keys::Ints(keys) => {
                view.as_slice::<i64>()?.iter().map(|k| or_default(keys.get(k))).collect()
            }
            Keys::Floats(keys) => {
                view.as_slice::<f32>()?.iter().map(|&k| or_default(keys.get(&bits(k)))).collect()
            }
        })
    }
}

impl Kernel for LabelEncoder {
    fn name(&self) -> &'static str {
        "ai.onnx.ml.LabelEncoder"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let expected = match self.keys {
            Keys::Strings(_) => DatumType::String,
            Keys::Ints(_) => DatumType::I64,
            Keys::Floats(_) => DatumType::F32,
        };
        let got = inputs[0].datatype;
        ensure!(got == expected, "the keys are of {expected:?}, the input is of {got:?}");
        let datatype = match self.values {
            Values::Strings(_) => DatumType::String,
            Values::Ints(_) => DatumType::I64,
            Values::Floats(_) => DatumType::F32,
        };
        Ok(tvec![Fact::new(datatype, inputs[0].shape.iter().cloned())])
    }

    fn eval(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let at = self.positions(inputs[0])?;
        let flat = match &self.values {
            Values::Strings(v) => tensor1(&at.iter().map(|&i| v[i].clone()).collect::<Vec<_>>()),
            Values::Ints(v) => tensor1(&at.iter().map(|&i| v[i]).collect::<Vec<_>>()),
            Values::Floats(v) => tensor1(&at.iter().map(|&i| v[i]).collect::<Vec<_>>()),
        };
        Ok(tvec![flat.into_shape(inputs[0].shape())?])
    }
}
