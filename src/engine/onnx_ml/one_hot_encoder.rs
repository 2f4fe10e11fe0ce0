//! `OneHotEncoder`: a one in the place of each element's category.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::attributes::Attributes;
use super::kernel::{BadValue, Built, Fact, Kernel, built};
use super::lookup::{Duplicates, Lookup};
use super::rows;

#[derive(Debug)]
struct OneHotEncoder {
    categories: Lookup,
    count: usize,
    /// Whether an unknown category is all zeros; else it is an error.
    zeros: bool,
}

pub(super) fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let attributes = Attributes::new(node, &["cats_int64s", "cats_strings", "zeros"])?;
    let ints = attributes.ints("cats_int64s")?;
    let strings = attributes.strings("cats_strings")?;
    let zeros = attributes.int("zeros", 1)? != 0;
    let (count, categories) = match (ints.len(), strings.len()) {
        (count @ 1.., 0) => (count, Lookup::ints(ints, Duplicates::Last)),
        (0, count @ 1..) => (count, Lookup::strings(strings, Duplicates::Last)),
        _ => bail!("expected exactly one of cats_int64s and cats_strings"),
    };
    built(OneHotEncoder { categories, count, zeros })
}

/// Cut off to a whole number, as onnxruntime's processors do it: what has none
/// becomes the smallest.
#[expect(clippy::cast_possible_truncation, reason = "what does not fit is handled before")]
fn whole(x: f64) -> i64 {
    const END: f64 = 9_223_372_036_854_775_808.0;
    if x > -END && x < END { x as i64 } else { i64::MIN }
}

impl OneHotEncoder {
    fn encode(
        &self,
        found: impl Iterator<Item = Option<usize>>,
        out: &mut [f32],
    ) -> TractResult<()> {
        for (i, (found, out)) in found.zip(out.chunks_exact_mut(self.count)).enumerate() {
            match found {
                Some(category) => out[category] = 1.0,
                None if self.zeros => {}
                None => return Err(BadValue(format!("element {i}: unknown category")).into()),
            }
        }
        Ok(())
    }
}

impl Kernel for OneHotEncoder {
    fn name(&self) -> &'static str {
        "ai.onnx.ml.OneHotEncoder"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let datatype = inputs[0].datatype;
        if self.categories.is_text() {
            ensure!(
                datatype == DatumType::String,
                "the categories are strings, the input is of {datatype:?}"
            );
        } else {
            rows::number(datatype)?;
        }
        let shape = inputs[0].shape.iter().cloned();
        Ok(tvec![Fact::new(DatumType::F32, shape.chain([self.count.to_dim()]))])
    }

    fn eval(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let view = inputs[0].try_as_plain_ram()?;
        let shape = [inputs[0].shape(), &[self.count]].concat();
        let encoded = rows::filled(&shape, |out| match inputs[0].datum_type() {
            DatumType::String => {
                let keys = view.as_slice::<String>()?.iter();
                self.encode(keys.map(|key| self.categories.string(key)), out)
            }
            DatumType::I32 => {
                let keys = view.as_slice::<i32>()?.iter();
                self.encode(keys.map(|&key| self.categories.int(key.into())), out)
            }
            DatumType::I64 => {
                let keys = view.as_slice::<i64>()?.iter();
                self.encode(keys.map(|&key| self.categories.int(key)), out)
            }
            DatumType::F32 => {
                let keys = view.as_slice::<f32>()?.iter();
                self.encode(keys.map(|&key| self.categories.int(whole(key.into()))), out)
            }
            _ => {
                let keys = view.as_slice::<f64>()?.iter();
                self.encode(keys.map(|&key| self.categories.int(whole(key))), out)
            }
        })?;
        Ok(tvec![encoded])
    }
}
