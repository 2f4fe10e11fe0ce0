//! `Normalizer`: each row divided by its norm.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::attributes::Attributes;
use super::kernel::{Built, Fact, Kernel, built};
use super::rows;

#[derive(Clone, Copy, Debug)]
enum Normalizer {
    /// By the largest element (not the largest magnitude: as onnxruntime).
    Max,
    L1,
    L2,
}

pub(super) fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    built(match Attributes::new(node, &["norm"])?.string("norm", "MAX")? {
        "MAX" => Normalizer::Max,
        "L1" => Normalizer::L1,
        "L2" => Normalizer::L2,
        other => bail!("attribute \"norm\": expected MAX, L1 or L2, got {other:?}"),
    })
}

impl Normalizer {
    fn norm(self, row: &[f32]) -> f32 {
        match self {
            Self::Max => row.iter().copied().fold(f32::MIN, f32::max),
            Self::L1 => row.iter().map(|x| x.abs()).sum(),
            Self::L2 => row.iter().map(|x| x * x).sum::<f32>().sqrt(),
        }
    }
}

impl Kernel for Normalizer {
    fn name(&self) -> &'static str {
        "ai.onnx.ml.Normalizer"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        rows::check(&inputs[0])?;
        Ok(tvec![Fact::new(DatumType::F32, inputs[0].shape.iter().cloned())])
    }

    fn eval(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let (_, features) = rows::dims(inputs[0])?;
        let mut data = rows::floats(inputs[0])?.into_owned();
        for row in data.chunks_exact_mut(features.max(1)) {
            let norm = self.norm(row);
            // A row of zeros stays as it is.
            if norm != 0.0 {
                row.iter_mut().for_each(|x| *x /= norm);
            }
        }
        Ok(tvec![Tensor::from_shape(inputs[0].shape(), &data)?])
    }
}
