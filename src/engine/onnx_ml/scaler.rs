//! `Scaler`: (x − offset) · scale, per feature.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::attributes::Attributes;
use super::kernel::{BadShape, Built, Fact, Kernel, built};
use super::rows;

#[derive(Debug)]
struct Scaler {
    offset: Vec<f32>,
    scale: Vec<f32>,
}

pub(super) fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let attributes = Attributes::new(node, &["offset", "scale"])?;
    let offset = attributes.floats("offset")?.to_vec();
    let scale = attributes.floats("scale")?.to_vec();
    ensure!(
        !offset.is_empty() && offset.len() == scale.len(),
        "\"offset\" has {} numbers and \"scale\" has {}; expected as many, and at least one",
        offset.len(),
        scale.len()
    );
    built(Scaler { offset, scale })
}

impl Scaler {
    fn check_features(&self, features: usize) -> TractResult<()> {
        let fits = self.offset.len() == 1 || self.offset.len() == features;
        ensure!(fits, "Scaler of {} features got {features}", self.offset.len());
        Ok(())
    }

    /// Scales rows; or all elements alike, where there is one scale.
    fn scale<X: Copy>(&self, data: &[X], out: &mut [f32], one: impl Fn(X, f32, f32) -> f32) {
        if let ([offset], [scale]) = (&*self.offset, &*self.scale) {
            out.iter_mut().zip(data).for_each(|(out, &x)| *out = one(x, *offset, *scale));
            return;
        }
        let features = self.offset.len();
        for (row, out) in data.chunks_exact(features).zip(out.chunks_exact_mut(features)) {
            let pairs = self.offset.iter().zip(&self.scale);
            for ((out, &x), (&offset, &scale)) in out.iter_mut().zip(row).zip(pairs) {
                *out = one(x, offset, scale);
            }
        }
    }
}

impl Kernel for Scaler {
    fn name(&self) -> &'static str {
        "ai.onnx.ml.Scaler"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        rows::number(inputs[0].datatype)?;
        ensure!(!inputs[0].shape.is_empty(), "expected rows, got a scalar");
        if self.offset.len() > 1 {
            let (_, features) = rows::check(&inputs[0])?;
            if let Ok(features) = features.to_usize() {
                self.check_features(features)?;
            }
        }
        Ok(tvec![Fact::new(DatumType::F32, inputs[0].shape.iter().cloned())])
    }

    fn eval(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        if self.offset.len() > 1 {
            let (_, features) = rows::dims(inputs[0])?;
            self.check_features(features).map_err(BadShape::of)?;
        }
        let scaled = rows::filled(inputs[0].shape(), |out| {
            if inputs[0].datum_type() == DatumType::F64 {
                // Subtracting in single precision would lose what FP64 is sent for.
                #[expect(clippy::cast_possible_truncation, reason = "the output is FP32")]
                let one = |x: f64, o: f32, s: f32| ((x - f64::from(o)) * f64::from(s)) as f32;
                self.scale(inputs[0].try_as_plain_ram()?.as_slice::<f64>()?, out, one);
            } else {
                self.scale(&rows::floats(inputs[0])?, out, |x: f32, o, s| (x - o) * s);
            }
            Ok(())
        })?;
        Ok(tvec![scaled])
    }
}
