//! `LabelEncoder`: replaces keys by values, of any two datatypes.
//!
//! Three generations of it: version 1 counts strings, version 2 has lists of
//! strings, INT64 and FP32, and version 4 adds tensors and NaN as a key.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::attributes::Attributes;
use super::kernel::{Built, Fact, Kernel, built};
use super::lookup::{Duplicates, Lookup};
use super::opset;

const ATTRIBUTES_1: &[&str] = &["classes_strings", "default_int64", "default_string"];
const ATTRIBUTES: &[&str] = &[
    "default_float",
    "default_int64",
    "default_string",
    "default_tensor",
    "keys_floats",
    "keys_int64s",
    "keys_strings",
    "keys_tensor",
    "values_floats",
    "values_int64s",
    "values_strings",
    "values_tensor",
];

/// From the first version with tensors on, NaN equals NaN.
const TENSORS_SINCE: i64 = 4;

#[derive(Debug)]
struct LabelEncoder {
    keys: Keys,
    /// The values in the keys' order, then the default.
    values: Tensor,
}

#[derive(Debug)]
struct Keys {
    datatype: DatumType,
    lookup: Lookup,
}

pub(super) fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    let version = opset(context);
    if version < 2 {
        return build_1(node);
    }
    let attributes = Attributes::new(node, ATTRIBUTES)?;
    let keys = list(&attributes, "keys")?;
    let values = list(&attributes, "values")?;
    ensure!(keys.len() == values.len(), "{} keys, but {} values", keys.len(), values.len());
    let default = default(&attributes, values.datum_type())?;
    let values = Tensor::stack_tensors(0, &[values, default])?;
    built(LabelEncoder { keys: Keys::new(&keys, version >= TENSORS_SINCE)?, values })
}

/// A list of attributes, whichever of its four forms is given.
fn list(attributes: &Attributes, role: &str) -> TractResult<Tensor> {
    let strings = attributes.strings(&format!("{role}_strings"))?;
    let ints = attributes.ints(&format!("{role}_int64s"))?;
    let floats = attributes.floats(&format!("{role}_floats"))?;
    let tensor = attributes.tensor(&format!("{role}_tensor"))?;
    match (strings.len(), ints.len(), floats.len(), tensor) {
        (1.., 0, 0, None) => {
            Ok(tensor1(&strings.into_iter().map(str::to_owned).collect::<Vec<_>>()))
        }
        (0, 1.., 0, None) => Ok(tensor1(ints)),
        (0, 0, 1.., None) => Ok(tensor1(floats)),
        (0, 0, 0, Some(tensor)) if tensor.len() > 0 => {
            let len = tensor.len();
            tensor.into_shape(&[len])
        }
        _ => bail!(
            "expected exactly one of {role}_strings, {role}_int64s, {role}_floats and \
             {role}_tensor, and not empty"
        ),
    }
}

/// The value for unknown keys, as a list of one.
fn default(attributes: &Attributes, datatype: DatumType) -> TractResult<Tensor> {
    if let Some(tensor) = attributes.tensor("default_tensor")? {
        ensure!(
            tensor.datum_type() == datatype && tensor.len() == 1,
            "\"default_tensor\" holds {} of {:?}, the values are of {datatype:?}",
            tensor.len(),
            tensor.datum_type()
        );
        return tensor.into_shape(&[1]);
    }
    Ok(match datatype {
        DatumType::String => tensor1(&[attributes.string("default_string", "_Unused")?.to_owned()]),
        DatumType::F32 => tensor1(&[attributes.float("default_float", -0.0)?]),
        DatumType::F64 => tensor1(&[f64::from(attributes.float("default_float", -0.0)?)]),
        DatumType::I64 => tensor1(&[attributes.int("default_int64", -1)?]),
        other => tensor1(&[attributes.int("default_int64", -1)?]).cast_to_dt(other)?.into_owned(),
    })
}

/// Version 1: a list of strings, to their numbers or back, by the input.
fn build_1(node: &NodeProto) -> Built {
    let attributes = Attributes::new(node, ATTRIBUTES_1)?;
    let classes = attributes.strings("classes_strings")?;
    ensure!(!classes.is_empty(), "\"classes_strings\" is missing");
    let default = attributes.string("default_string", "_Unused")?;
    let texts = classes.iter().copied().chain([default]).map(str::to_owned).collect::<Vec<_>>();
    let count = i64::try_from(classes.len())?;
    let default = attributes.int("default_int64", -1)?;
    let ints = (0..count).collect::<Vec<_>>();
    built(TwoWays {
        name: "ai.onnx.ml.LabelEncoder",
        to_int: LabelEncoder {
            keys: Keys {
                datatype: DatumType::String,
                lookup: Lookup::strings(classes, Duplicates::Last),
            },
            values: tensor1(&[&*ints, &[default]].concat()),
        },
        to_text: LabelEncoder {
            keys: Keys { datatype: DatumType::I64, lookup: Lookup::ints(&ints, Duplicates::Last) },
            values: tensor1(&texts),
        },
    })
}

/// `CategoryMapper`: pairs of a string and a number, to the number or back,
/// by the input.
pub(super) fn build_category_mapper(_: &ParsingContext, node: &NodeProto) -> Built {
    let known = ["cats_int64s", "cats_strings", "default_int64", "default_string"];
    let attributes = Attributes::new(node, &known)?;
    let (ints, texts) = (attributes.ints("cats_int64s")?, attributes.strings("cats_strings")?);
    ensure!(
        !ints.is_empty() && ints.len() == texts.len(),
        "\"cats_int64s\" has {} and \"cats_strings\" has {}; expected as many, and at least one",
        ints.len(),
        texts.len()
    );
    let default = attributes.string("default_string", "_Unused")?;
    let values = texts.iter().copied().chain([default]).map(str::to_owned).collect::<Vec<_>>();
    let default = attributes.int("default_int64", -1)?;
    built(TwoWays {
        name: "ai.onnx.ml.CategoryMapper",
        to_int: LabelEncoder {
            keys: Keys {
                datatype: DatumType::String,
                lookup: Lookup::strings(texts, Duplicates::Last),
            },
            values: tensor1(&[ints, &[default]].concat()),
        },
        to_text: LabelEncoder {
            keys: Keys { datatype: DatumType::I64, lookup: Lookup::ints(ints, Duplicates::Last) },
            values: tensor1(&values),
        },
    })
}

impl Keys {
    /// The first of equal keys counts, as in onnxruntime.
    fn new(keys: &Tensor, nan: bool) -> TractResult<Self> {
        let datatype = keys.datum_type();
        let view = keys.try_as_plain_ram()?;
        let lookup = match datatype {
            DatumType::String => {
                let keys = view.as_slice::<String>()?.iter().map(String::as_str);
                Lookup::strings(keys, Duplicates::First)
            }
            DatumType::F32 | DatumType::F64 => {
                let keys = keys.cast_to::<f64>()?;
                let keys = keys.try_as_plain_ram()?.as_slice::<f64>()?;
                Lookup::floats(keys, Duplicates::First, nan)
            }
            DatumType::Bool => {
                let keys = view.as_slice::<bool>()?.iter().map(|&key| i64::from(key));
                Lookup::ints(&keys.collect::<Vec<_>>(), Duplicates::First)
            }
            DatumType::I8
            | DatumType::I16
            | DatumType::I32
            | DatumType::I64
            | DatumType::U8
            | DatumType::U16
            | DatumType::U32 => {
                let keys = keys.cast_to::<i64>()?;
                let keys = keys.try_as_plain_ram()?.as_slice::<i64>()?;
                Lookup::ints(keys, Duplicates::First)
            }
            other => bail!("keys of {other:?} are not supported"),
        };
        Ok(Self { datatype, lookup })
    }
}

impl LabelEncoder {
    /// The value of each element; unknown keys get the default.
    fn pick<T: Datum>(&self, input: &Tensor) -> TractResult<Tensor> {
        let values = self.values.try_as_plain_ram()?.as_slice::<T>()?;
        let default = values.len() - 1;
        let mut picked = Vec::with_capacity(input.len());
        self.keys.lookup.positions(input, |at| {
            picked.push(values[at.unwrap_or(default)].clone());
        })?;
        tensor1(&picked).into_shape(input.shape())
    }
}

impl Kernel for LabelEncoder {
    fn name(&self) -> &'static str {
        "ai.onnx.ml.LabelEncoder"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let (expected, got) = (self.keys.datatype, inputs[0].datatype);
        ensure!(got == expected, "the keys are of {expected:?}, the input is of {got:?}");
        Ok(tvec![Fact::new(self.values.datum_type(), inputs[0].shape.iter().cloned())])
    }

    fn eval(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        Ok(tvec![dispatch_datum!(Self::pick(self.values.datum_type())(self, inputs[0]))?])
    }
}

/// Strings to numbers or numbers to strings: the input's datatype decides.
#[derive(Debug)]
struct TwoWays {
    name: &'static str,
    to_int: LabelEncoder,
    to_text: LabelEncoder,
}

impl TwoWays {
    fn way(&self, datatype: DatumType) -> TractResult<&LabelEncoder> {
        match datatype {
            DatumType::String => Ok(&self.to_int),
            DatumType::I64 => Ok(&self.to_text),
            other => bail!("expected strings or INT64, got {other:?}"),
        }
    }
}

impl Kernel for TwoWays {
    fn name(&self) -> &'static str {
        self.name
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        self.way(inputs[0].datatype)?.facts(inputs)
    }

    fn eval(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        self.way(inputs[0].datum_type())?.eval(inputs)
    }
}
