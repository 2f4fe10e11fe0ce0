//! `TreeEnsembleClassifier`. The standard is silent on two classes that share
//! one score, and on a single class; what happens then is onnxruntime's.

use std::sync::Arc;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::attributes::Attributes;
use super::super::kernel::{Built, Fact, built};
use super::super::labels::Labels;
use super::super::post_transform::{PostTransform, logistic};
use super::super::rows;
use super::lists::{NODE_ATTRIBUTES, Numbers, read};
use super::operator::{Finish, TreeOperator};
use super::real::{Real, to_f32};
use super::sums::{Aggregate, Sums};
use super::transform::transform;
use super::trees::Trees;

#[derive(Debug)]
struct TreeEnsembleClassifier {
    classes: usize,
    labels: Labels,
    base_values: Vec<f64>,
    transform: PostTransform,
    /// Two classes, and all leaves speak of the same one.
    single_score: bool,
    /// No leaf has a negative weight: then scores are probabilities and the
    /// border between two classes is 0.5, else it is 0.
    all_positive: bool,
}

const ATTRIBUTES: [&str; 10] = [
    "base_values",
    "base_values_as_tensor",
    "class_ids",
    "class_nodeids",
    "class_treeids",
    "class_weights",
    "class_weights_as_tensor",
    "classlabels_int64s",
    "classlabels_strings",
    "post_transform",
];

pub(in super::super) fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    super::check_version(context)?;
    let attributes = Attributes::new(node, &[&ATTRIBUTES[..], &NODE_ATTRIBUTES].concat())?;
    let mut labels = Labels::read(&attributes, "classlabels_int64s", "classlabels_strings")?;
    let base_values = Numbers::read(&attributes, "base_values")?;
    let (classes, bases) = (labels.len(), base_values.values.len());
    ensure!(
        bases == 0 || bases == classes || (bases == 1 && classes == 2),
        "{bases} base values for {classes} classes"
    );
    let mut trees = read(&attributes, "class", classes)?;
    trees.double |= base_values.double;
    let weights = &trees.weights;
    let single_score =
        classes == 2 && weights.windows(2).all(|pair| pair[0].target == pair[1].target);
    let all_positive = weights.iter().all(|weight| weight.value >= 0.0);
    let transform = PostTransform::read(&attributes)?;
    check_two(&trees, bases, single_score, transform)?;
    if let Labels::Ints(labels) = &mut labels
        && (classes == 1 || (classes == 2 && !single_score))
    {
        // onnxruntime then answers 0 and 1, whatever the labels are.
        *labels = vec![0, 1];
    }
    let base_values = base_values.values;
    let finish = TreeEnsembleClassifier {
        classes,
        labels,
        base_values,
        transform,
        single_score,
        all_positive,
    };
    built(TreeOperator { trees, aggregate: Aggregate::Sum, finish: Arc::new(finish) })
}

/// Refuses what makes onnxruntime leave a score unwritten.
fn check_two(
    trees: &Trees,
    bases: usize,
    single_score: bool,
    transform: PostTransform,
) -> TractResult<()> {
    if trees.targets != 2 {
        return Ok(());
    }
    ensure!(
        single_score || bases != 1,
        "one base value for two classes with a score each is undefined"
    );
    // A row that only the first class has a score for gives one number.
    let lone = bases != 2 && trees.weights.iter().any(|weight| weight.target == 0);
    ensure!(
        !(lone && transform == PostTransform::Probit),
        "PROBIT of a single score for two classes is undefined"
    );
    Ok(())
}

impl TreeEnsembleClassifier {
    fn base<X: Real>(&self, class: usize) -> X {
        self.base_values.get(class).map_or(X::default(), |&base| X::of(base))
    }

    /// Appends one row's final scores, and gives the winner.
    fn finish_row<X: Real>(&self, scores: &mut [X], present: &[bool], to: &mut Vec<f32>) -> usize {
        match scores {
            [score] => self.finish_one(*score + self.base(0), to),
            [first, second] => self.finish_two([*first, *second], [present[0], present[1]], to),
            _ => self.finish_many(scores, present, to),
        }
    }

    /// A class of its own: onnxruntime answers whether its score is positive,
    /// which for a text would be a label that is not there.
    fn finish_one<X: Real>(&self, score: X, to: &mut Vec<f32>) -> usize {
        let transform_of_one = match self.transform {
            PostTransform::Probit => PostTransform::Probit,
            _ => PostTransform::None,
        };
        transform(transform_of_one, &[score], to);
        usize::from(score > X::default()).min(self.labels.len() - 1)
    }

    fn finish_many<X: Real>(&self, scores: &mut [X], present: &[bool], to: &mut Vec<f32>) -> usize {
        let based = !self.base_values.is_empty();
        let mut best = None;
        for k in 0..scores.len() {
            scores[k] += self.base(k);
            if (based || present[k]) && best.is_none_or(|b: usize| scores[k] > scores[b]) {
                best = Some(k);
            }
        }
        transform(self.transform, scores, to);
        best.unwrap_or(0)
    }

    fn finish_two<X: Real>(
        &self,
        mut scores: [X; 2],
        present: [bool; 2],
        to: &mut Vec<f32>,
    ) -> usize {
        let second = present[1];
        match self.base_values.len() {
            2 if second => {
                let score = self.base::<X>(1) + scores[0];
                scores = [if present[0] { -score } else { X::default() }, score];
            }
            2 => scores[0] += self.base(0),
            1 if present[0] => scores[0] += self.base(0),
            _ => {}
        }
        let decisive = scores[usize::from(second)];
        let border = X::from(if self.single_score && self.all_positive { 0.5 } else { 0.0 });
        if second || self.base_values.len() == 2 {
            transform(self.transform, &scores, to);
        } else {
            to.extend(self.expand(decisive));
        }
        usize::from(decisive > border)
    }

    /// Makes two scores of one.
    fn expand<X: Real>(&self, score: X) -> [f32; 2] {
        match self.transform {
            PostTransform::Logistic => [logistic(to_f32(-score)), logistic(to_f32(score))],
            _ if self.all_positive && self.single_score => {
                [to_f32(X::from(1.0) - score), to_f32(score)]
            }
            _ => [to_f32(-score), to_f32(score)],
        }
    }
}

impl Finish for TreeEnsembleClassifier {
    const NAME: &'static str = "ai.onnx.ml.TreeEnsembleClassifier";
    const OUTPUTS: usize = 2;
    const TAKES: &'static [DatumType] =
        &[DatumType::F32, DatumType::F64, DatumType::I32, DatumType::I64];

    fn facts(&self, _: DatumType, rows: TDim) -> TVec<Fact> {
        tvec![
            Fact::new(self.labels.datatype(), [rows.clone()]),
            Fact::new(DatumType::F32, [rows, self.classes.to_dim()]),
        ]
    }

    fn finish<X: Real>(&self, mut sums: Sums<X>, _: DatumType) -> TractResult<TVec<Tensor>> {
        let rows = sums.scores.len() / self.classes;
        let mut scores = Vec::with_capacity(sums.scores.len());
        let row = |(row, present): (&mut [X], &[bool])| self.finish_row(row, present, &mut scores);
        let winners = sums.rows().map(row).collect::<Vec<_>>();
        Ok(tvec![self.labels.pick(&winners)?, rows::matrix(rows, self.classes, &scores)?])
    }
}
