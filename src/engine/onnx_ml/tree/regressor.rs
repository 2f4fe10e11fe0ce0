//! `TreeEnsembleRegressor`, and what it shares with `TreeEnsemble`: one number
//! per target.

use std::sync::Arc;

use half::f16;
use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::attributes::Attributes;
use super::super::kernel::{Built, Fact, built};
use super::super::post_transform::PostTransform;
use super::super::rows;
use super::lists::{NODE_ATTRIBUTES, Numbers, read};
use super::operator::{Finish, TreeOperator};
use super::real::{Real, to_f32};
use super::sums::{Aggregate, Sums};
use super::transform::transform;

/// What becomes of each target's sum.
#[derive(Debug)]
pub(super) struct Targets {
    pub(super) count: usize,
    pub(super) base_values: Vec<f64>,
    pub(super) transform: PostTransform,
}

#[derive(Debug)]
struct TreeEnsembleRegressor(Targets);

/// More targets than this are a broken file.
const TARGETS_MAX: usize = 1 << 20;

/// Reads `n_targets`.
pub(super) fn count(attributes: &Attributes) -> TractResult<usize> {
    let targets = attributes.int("n_targets", 0)?;
    usize::try_from(targets)
        .ok()
        .filter(|targets| (1..=TARGETS_MAX).contains(targets))
        .with_context(|| format!("\"n_targets\" is {targets}, expected 1 to {TARGETS_MAX}"))
}

pub(in super::super) fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    super::check_version(context)?;
    let own = [
        "aggregate_function",
        "base_values",
        "base_values_as_tensor",
        "n_targets",
        "post_transform",
        "target_ids",
        "target_nodeids",
        "target_treeids",
        "target_weights",
        "target_weights_as_tensor",
    ];
    let attributes = Attributes::new(node, &[&own[..], &NODE_ATTRIBUTES].concat())?;
    let count = count(&attributes)?;
    let base_values = Numbers::read(&attributes, "base_values")?;
    let bases = base_values.values.len();
    ensure!(bases == 0 || bases == count, "{bases} base values for {count} targets");
    let aggregate = match attributes.string("aggregate_function", "SUM")? {
        "SUM" => Aggregate::Sum,
        "AVERAGE" => Aggregate::Average,
        "MIN" => Aggregate::Min,
        "MAX" => Aggregate::Max,
        other => bail!("attribute \"aggregate_function\": {other:?} is none of the four"),
    };
    let mut trees = read(&attributes, "target", count)?;
    trees.double |= base_values.double;
    let transform = PostTransform::read(&attributes)?;
    let targets = Targets { count, base_values: base_values.values, transform };
    built(TreeOperator { trees, aggregate, finish: Arc::new(TreeEnsembleRegressor(targets)) })
}

impl Targets {
    /// Adds the base values. Among several targets, one that no leaf speaks of
    /// stays 0.
    fn add_base_values<X: Real>(&self, sums: &mut Sums<X>) {
        if self.base_values.is_empty() {
            return;
        }
        for (scores, present) in sums.rows() {
            let sums = scores.iter_mut().zip(present);
            for ((score, &present), &base) in sums.zip(&self.base_values) {
                if present {
                    *score += X::of(base);
                }
            }
        }
    }

    /// onnxruntime transforms a lone target by PROBIT only.
    fn transforms(&self) -> bool {
        self.count > 1 || self.transform == PostTransform::Probit
    }

    /// A matrix of FP32.
    fn singles<X: Real>(&self, mut sums: Sums<X>) -> TractResult<(usize, Vec<f32>)> {
        self.add_base_values(&mut sums);
        let rows = sums.scores.len() / self.count;
        if self.transforms() {
            let mut scores = Vec::with_capacity(sums.scores.len());
            for row in sums.scores.chunks_exact(self.count) {
                transform(self.transform, row, &mut scores);
            }
            return Ok((rows, scores));
        }
        Ok((rows, sums.scores.iter().map(|&score| to_f32(score)).collect()))
    }

    /// A matrix of `datatype`.
    pub(super) fn matrix<X: Real>(
        &self,
        mut sums: Sums<X>,
        datatype: DatumType,
    ) -> TractResult<Tensor> {
        if datatype == DatumType::F64 && !self.transforms() {
            self.add_base_values(&mut sums);
            let shape = [sums.scores.len() / self.count, self.count];
            return Tensor::from_shape(&shape, &sums.scores);
        }
        let (rows, scores) = self.singles(sums)?;
        let shape = [rows, self.count];
        match datatype {
            DatumType::F64 => {
                Tensor::from_shape(&shape, &scores.into_iter().map(f64::from).collect::<Vec<_>>())
            }
            DatumType::F16 => {
                let halves = scores.into_iter().map(f16::from_f32).collect::<Vec<_>>();
                Tensor::from_shape(&shape, &halves)
            }
            _ => rows::matrix(rows, self.count, &scores),
        }
    }
}

impl Finish for TreeEnsembleRegressor {
    const NAME: &'static str = "ai.onnx.ml.TreeEnsembleRegressor";
    const OUTPUTS: usize = 1;
    const TAKES: &'static [DatumType] =
        &[DatumType::F32, DatumType::F64, DatumType::I32, DatumType::I64];

    fn facts(&self, _: DatumType, rows: TDim) -> TVec<Fact> {
        tvec![Fact::new(DatumType::F32, [rows, self.0.count.to_dim()])]
    }

    fn finish<X: Real>(&self, sums: Sums<X>, _: DatumType) -> TractResult<TVec<Tensor>> {
        Ok(tvec![self.0.matrix(sums, DatumType::F32)?])
    }
}
