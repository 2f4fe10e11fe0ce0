//! `Binarizer`: 1 above the threshold, else 0.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::attributes::Attributes;
use super::kernel::{Built, Fact, Kernel, built};

#[derive(Debug)]
struct Binarizer {
    threshold: f32,
}

pub(super) fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let attributes = Attributes::new(node, &["threshold"])?;
    built(Binarizer { threshold: attributes.float("threshold", 0.0)? })
}

impl Kernel for Binarizer {
    fn name(&self) -> &'static str {
        "ai.onnx.ml.Binarizer"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let datatype = inputs[0].datatype;
        ensure!(datatype == DatumType::F32, "expected FP32, got {datatype:?}");
        Ok(tvec![inputs[0].clone()])
    }

    fn eval(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let data = inputs[0].try_as_plain_ram()?;
        let binary = |&x: &f32| if x > self.threshold { 1.0 } else { 0.0 };
        let data = data.as_slice::<f32>()?.iter().map(binary).collect::<Vec<f32>>();
        Ok(tvec![Tensor::from_shape(inputs[0].shape(), &data)?])
    }
}
