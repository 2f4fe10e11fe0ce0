//! `Imputer`: puts another value in the place of a missing one.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::attributes::Attributes;
use super::kernel::{BadShape, Built, Fact, Kernel, built};

#[derive(Debug)]
enum Imputer {
    Floats(Values<f32>),
    Ints(Values<i64>),
}

/// What is replaced, and by what: one value, or one per feature.
#[derive(Debug)]
struct Values<T> {
    replaced: T,
    imputed: Vec<T>,
}

pub(super) fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let attributes = Attributes::new(
        node,
        &[
            "imputed_value_floats",
            "imputed_value_int64s",
            "replaced_value_float",
            "replaced_value_int64",
        ],
    )?;
    let floats = attributes.floats("imputed_value_floats")?.to_vec();
    let ints = attributes.ints("imputed_value_int64s")?.to_vec();
    built(match (floats.is_empty(), ints.is_empty()) {
        (false, true) => {
            let replaced = attributes.float("replaced_value_float", 0.0)?;
            Imputer::Floats(Values { replaced, imputed: floats })
        }
        (true, false) => {
            let replaced = attributes.int("replaced_value_int64", 0)?;
            Imputer::Ints(Values { replaced, imputed: ints })
        }
        _ => bail!("expected exactly one of imputed_value_floats and imputed_value_int64s"),
    })
}

impl Imputer {
    fn check_features(&self, shape: &[TDim]) -> TractResult<()> {
        let values = match self {
            Self::Floats(values) => values.imputed.len(),
            Self::Ints(values) => values.imputed.len(),
        };
        if values == 1 {
            return Ok(());
        }
        let features = match shape {
            [features] | [_, features] => features,
            other => bail!("{values} imputed values need [rows, features], got {other:?}"),
        };
        let fits = features.to_usize().map_or(true, |features| features == values);
        ensure!(fits, "{values} imputed values, but {features} features");
        Ok(())
    }
}

impl<T: PartialEq + Copy> Values<T> {
    fn impute<X: Datum + Copy>(
        &self,
        input: &Tensor,
        own: impl Fn(T) -> X,
        is_missing: impl Fn(X) -> bool,
    ) -> TractResult<Tensor> {
        let imputed = self.imputed.iter().map(|&value| own(value)).collect::<Vec<X>>();
        let mut output = input.clone();
        {
            let mut view = output.try_as_plain_ram_mut()?;
            for row in view.as_slice_mut::<X>()?.chunks_mut(imputed.len()) {
                for (x, &value) in row.iter_mut().zip(&imputed) {
                    *x = if is_missing(*x) { value } else { *x };
                }
            }
        }
        Ok(output)
    }
}

impl Kernel for Imputer {
    fn name(&self) -> &'static str {
        "ai.onnx.ml.Imputer"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let datatype = inputs[0].datatype;
        match self {
            Self::Floats(_) => ensure!(
                matches!(datatype, DatumType::F32 | DatumType::F64),
                "the imputed values are floats, the input is of {datatype:?}"
            ),
            Self::Ints(_) => ensure!(
                matches!(datatype, DatumType::I32 | DatumType::I64),
                "the imputed values are whole numbers, the input is of {datatype:?}"
            ),
        }
        self.check_features(&inputs[0].shape)?;
        Ok(tvec![inputs[0].clone()])
    }

    #[expect(clippy::cast_possible_truncation, reason = "INT32 is imputed in INT32")]
    fn eval(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let shape = inputs[0].shape().iter().map(ToDim::to_dim).collect::<TVec<TDim>>();
        self.check_features(&shape).map_err(BadShape::of)?;
        let output = match (self, inputs[0].datum_type()) {
            (Self::Floats(values), DatumType::F32) => {
                let missing = values.replaced;
                if missing.is_nan() {
                    values.impute(inputs[0], |x| x, f32::is_nan)?
                } else {
                    values.impute(inputs[0], |x| x, |x| x == missing)?
                }
            }
            (Self::Floats(values), _) => {
                let missing = f64::from(values.replaced);
                let is_missing = |x: f64| x == missing || x.is_nan() && missing.is_nan();
                values.impute(inputs[0], f64::from, is_missing)?
            }
            (Self::Ints(values), DatumType::I64) => {
                values.impute(inputs[0], |x| x, |x: i64| x == values.replaced)?
            }
            (Self::Ints(values), _) => {
                values.impute(inputs[0], |x| x as i32, |x: i32| i64::from(x) == values.replaced)?
            }
        };
        Ok(tvec![output])
    }
}
