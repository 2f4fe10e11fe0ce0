//! `Scaler`: (x − offset) · scale, per feature.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::attributes::Attributes;
use super::kernel::{Built, Fact, Kernel, built};
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
}

impl Kernel for Scaler {
    fn name(&self) -> &'static str {
        "ai.onnx.ml.Scaler"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let (_, features) = rows::check(&inputs[0])?;
        if let Ok(features) = features.to_usize() {
            self.check_features(features)?;
        }
        Ok(tvec![Fact::new(DatumType::F32, inputs[0].shape.iter().cloned())])
    }

    fn eval(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let (_, features) = rows::dims(inputs[0])?;
        self.check_features(features)?;
        let pairs = self.offset.iter().zip(&self.scale).cycle();
        let scaled: Vec<f32> = if inputs[0].datum_type() == DatumType::F64 {
            // Subtracting in single precision would lose what FP64 is sent for.
            #[expect(clippy::cast_possible_truncation, reason = "the output is FP32")]
            let scale =
                |(x, (&o, &s)): (&f64, (&f32, &f32))| ((x - f64::from(o)) * f64::from(s)) as f32;
            inputs[0].try_as_plain_ram()?.as_slice::<f64>()?.iter().zip(pairs).map(scale).collect()
        } else {
            rows::floats(inputs[0])?.iter().zip(pairs).map(|(x, (o, s))| (x - o) * s).collect()
        };
        Ok(tvec![Tensor::from_shape(inputs[0].shape(), &scaled)?])
    }
}
