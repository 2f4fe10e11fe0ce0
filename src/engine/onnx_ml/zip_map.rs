//! `ZipMap`: names a classifier's scores. The gateway serves tensors, so the
//! scores stay one, and the names go into the signature
//! ([`TensorSpec::classes`](crate::types::TensorSpec)).

use std::collections::HashSet;
use std::sync::Arc;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::attributes::Attributes;
use super::kernel::{Built, Fact, Kernel, built};
use super::labels::Labels;
use super::rows;

#[derive(Debug)]
struct ZipMap {
    classes: usize,
}

/// The names of a ZipMap's classes, in the order of the scores.
pub(in crate::engine) fn classes(node: &NodeProto) -> TractResult<Arc<[String]>> {
    let attributes = Attributes::new(node, &["classlabels_int64s", "classlabels_strings"])?;
    let labels = Labels::read(&attributes, "classlabels_int64s", "classlabels_strings")?;
    let classes: Arc<[String]> = match labels {
        Labels::Ints(labels) => labels.iter().map(ToString::to_string).collect(),
        Labels::Strings(labels) => labels.into(),
    };
    let mut seen = HashSet::new();
    match classes.iter().find(|class| !seen.insert(&***class)) {
        Some(twice) => bail!("the class {twice:?} is named twice"),
        None => Ok(classes),
    }
}

pub(super) fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    built(ZipMap { classes: classes(node)?.len() })
}

impl ZipMap {
    fn check_classes(&self, scores: usize) -> TractResult<()> {
        ensure!(scores == self.classes, "{} classes, but {scores} scores", self.classes);
        Ok(())
    }
}

impl Kernel for ZipMap {
    fn name(&self) -> &'static str {
        "ai.onnx.ml.ZipMap"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let datatype = inputs[0].datatype;
        ensure!(datatype == DatumType::F32, "expected FP32, got {datatype:?}");
        let (rows, scores) = rows::check(&inputs[0])?;
        if let Ok(scores) = scores.to_usize() {
            self.check_classes(scores)?;
        }
        Ok(tvec![Fact::new(DatumType::F32, [rows, self.classes.to_dim()])])
    }

    fn eval(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let (rows, scores) = rows::dims(inputs[0])?;
        self.check_classes(scores)?;
        Ok(tvec![inputs[0].clone().into_shape(&[rows, scores])?])
    }
}
