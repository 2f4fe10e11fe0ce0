//! `Binarizer`: 1 above the threshold, else 0.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;

use super::attributes::Attributes;
use super::kernel::{BadValue, Built, Fact, Kernel, built};
use super::rows;

#[derive(Debug)]
struct Binarizer {
    threshold: f32,
}

pub(super) fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let attributes = Attributes::new(node, &["threshold"])?;
    built(Binarizer { threshold: attributes.float("threshold", 0.0)? })
}

impl Binarizer {
    fn binarize<X: Datum + Copy + PartialEq>(
        input: &Tensor,
        [zero, one]: [X; 2],
        is_above: impl Fn(X) -> bool,
    ) -> TractResult<Tensor> {
        let data = input.try_as_plain_ram()?.as_slice::<X>()?;
        #[expect(clippy::eq_op, reason = "NaN is what differs from itself")]
        if let Some(i) = data.iter().position(|x| x != x) {
            return Err(BadValue(format!("element {i} is NaN, which is on no side")).into());
        }
        let binary = data.iter().map(|&x| if is_above(x) { one } else { zero });
        Tensor::from_shape(input.shape(), &binary.collect::<Vec<X>>())
    }
}

impl Kernel for Binarizer {
    fn name(&self) -> &'static str {
        "ai.onnx.ml.Binarizer"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        rows::number(inputs[0].datatype)?;
        Ok(tvec![inputs[0].clone()])
    }

    #[expect(clippy::cast_precision_loss, reason = "the threshold has no more digits")]
    fn eval(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let (input, single, double) = (inputs[0], self.threshold, f64::from(self.threshold));
        Ok(tvec![match input.datum_type() {
            DatumType::F32 => Self::binarize(input, [0.0, 1.0], |x: f32| x > single)?,
            DatumType::F64 => Self::binarize(input, [0.0, 1.0], |x: f64| x > double)?,
            DatumType::I32 => Self::binarize(input, [0, 1], |x: i32| f64::from(x) > double)?,
            _ => Self::binarize(input, [0, 1], |x: i64| x as f64 > double)?,
        }])
    }
}
