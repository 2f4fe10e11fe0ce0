//! `TreeEnsembleRegressor`.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::attributes::Attributes;
use super::super::kernel::{Built, Fact, Kernel, built};
use super::super::post_transform::PostTransform;
use super::super::rows;
use super::forest::{Feature, Forest, NODE_ATTRIBUTES};

/// How the trees' weights become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
}

#[derive(Debug)]
struct TreeEnsembleRegressor {
    forest: Forest,
    targets: usize,
    aggregate: Aggregate,
    base_values: Vec<f32>,
    transform: PostTransform,
}

/// More targets than this are a broken file.
const TARGETS_MAX: usize = 1 << 20;

pub(in super::super) fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    super::check_version(context)?;
    let own = [
        "aggregate_function",
        "base_values",
        "n_targets",
        "post_transform",
        "target_ids",
        "target_nodeids",
        "target_treeids",
        "target_weights",
    ];
    let attributes = Attributes::new(node, &[&own[..], &NODE_ATTRIBUTES].concat())?;
    let targets = attributes.int("n_targets", 0)?;
    let targets = usize::try_from(targets)
        .ok()
        .filter(|targets| (1..=TARGETS_MAX).contains(targets))
        .with_context(|| format!("\"n_targets\" is {targets}, expected 1 to {TARGETS_MAX}"))?;
    let base_values = attributes.floats("base_values")?.to_vec();
    ensure!(
        base_values.is_empty() || base_values.len() == targets,
        "{} base values for {targets} targets",
        base_values.len()
    );
    let aggregate = match attributes.string("aggregate_function", "SUM")? {
        "SUM" => Aggregate::Sum,
        "AVERAGE" => Aggregate::Average,
        "MIN" => Aggregate::Min,
        "MAX" => Aggregate::Max,
        other => bail!("attribute \"aggregate_function\": {other:?} is none of the four"),
    };
    built(TreeEnsembleRegressor {
        forest: Forest::read(&attributes, "target", targets)?,
        targets,
        aggregate,
        base_values,
        transform: PostTransform::read(&attributes)?,
    })
}

impl TreeEnsembleRegressor {
    /// Fills one row of scores; `present` is scratch of the same length.
    fn regress<F: Feature>(&self, row: &[F], scores: &mut [f32], present: &mut [bool]) {
        present.fill(false);
        let aggregate = self.aggregate;
        self.forest.visit(row, |weights| {
            for weight in weights {
                let score = &mut scores[weight.target as usize];
                let seen = std::mem::replace(&mut present[weight.target as usize], true);
                let value = weight.value;
                match aggregate {
                    Aggregate::Sum | Aggregate::Average => *score += value,
                    Aggregate::Min if !seen || value < *score => *score = value,
                    Aggregate::Max if !seen || value > *score => *score = value,
                    Aggregate::Min | Aggregate::Max => {}
                }
            }
        });
        if aggregate == Aggregate::Average {
            #[expect(clippy::cast_precision_loss, reason = "a count of trees")]
            let trees = self.forest.trees() as f32;
            scores.iter_mut().for_each(|score| *score /= trees);
        }
        for (k, base) in self.base_values.iter().enumerate() {
            // Among several targets, one that no leaf speaks of stays 0.
            if self.targets == 1 || present[k] {
                scores[k] += base;
            }
        }
        // onnxruntime transforms a lone target by PROBIT only.
        if self.targets > 1 || self.transform == PostTransform::Probit {
            self.transform.apply(scores);
        }
    }

    fn run<F: Feature>(&self, data: &[F], features: usize) -> TractResult<TVec<Tensor>> {
        let rows = data.len().checked_div(features).unwrap_or(0);
        let mut scores = vec![0.0; rows * self.targets];
        let mut present = vec![false; self.targets];
        let outputs = scores.chunks_exact_mut(self.targets);
        for (row, output) in data.chunks_exact(features.max(1)).zip(outputs) {
            self.regress(row, output, &mut present);
        }
        Ok(tvec![rows::matrix(rows, self.targets, &scores)?])
    }
}

impl Kernel for TreeEnsembleRegressor {
    fn name(&self) -> &'static str {
        "ai.onnx.ml.TreeEnsembleRegressor"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let datatype = inputs[0].datatype;
        ensure!(
            matches!(datatype, DatumType::F32 | DatumType::F64),
            "expected FP32 or FP64, got {datatype:?}"
        );
        let rows = super::check_rows(&self.forest, &inputs[0])?;
        Ok(tvec![Fact::new(DatumType::F32, [rows, self.targets.to_dim()])])
    }

    fn eval(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let features = super::check_features(&self.forest, inputs[0])?;
        if inputs[0].datum_type() == DatumType::F64 {
            self.run(inputs[0].try_as_plain_ram()?.as_slice::<f64>()?, features)
        } else {
            self.run(&rows::floats(inputs[0])?, features)
        }
    }
}
