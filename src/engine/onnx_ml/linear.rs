//! `LinearClassifier` and `LinearRegressor`: x · Wᵀ + b, then a transform.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::attributes::Attributes;
use super::kernel::{Built, Fact, Kernel, built};
use super::labels::Labels;
use super::post_transform::{PostTransform, argmax, logistic};
use super::rows;

/// Weights of `targets` rows by `features` columns, and an intercept each.
#[derive(Debug)]
struct Linear {
    weights: Vec<f32>,
    intercepts: Vec<f32>,
    features: usize,
}

impl Linear {
    fn read(attributes: &Attributes, targets: usize) -> TractResult<Self> {
        let weights = attributes.floats("coefficients")?.to_vec();
        let mut intercepts = attributes.floats("intercepts")?.to_vec();
        if intercepts.is_empty() {
            intercepts = vec![0.0; targets.min(weights.len())];
        }
        ensure!(
            intercepts.len() == targets,
            "expected {targets} intercepts, got {}",
            intercepts.len()
        );
        ensure!(
            !weights.is_empty() && targets > 0 && weights.len().is_multiple_of(targets),
            "{} coefficients do not divide among {targets} targets",
            weights.len()
        );
        let features = weights.len() / targets;
        Ok(Self { weights, intercepts, features })
    }

    fn targets(&self) -> usize {
        self.intercepts.len()
    }

    /// Appends one row's scores to `scores`.
    fn score(&self, row: &[f32], scores: &mut Vec<f32>) {
        let weights = self.weights.chunks_exact(self.features);
        scores.extend(weights.zip(&self.intercepts).map(|(weights, intercept)| {
            weights.iter().zip(row).map(|(w, x)| w * x).sum::<f32>() + intercept
        }));
    }

    fn check_features(&self, features: usize) -> TractResult<()> {
        ensure!(features == self.features, "expected {} features, got {features}", self.features);
        Ok(())
    }

    /// Checks the input's fact and gives its rows.
    fn rows(&self, input: &Fact) -> TractResult<TDim> {
        let (rows, features) = rows::check(input)?;
        if let Ok(features) = features.to_usize() {
            self.check_features(features)?;
        }
        Ok(rows)
    }
}

#[derive(Debug)]
struct LinearClassifier {
    linear: Linear,
    labels: Labels,
    transform: PostTransform,
}

pub(super) fn build_classifier(_: &ParsingContext, node: &NodeProto) -> Built {
    let attributes = Attributes::new(
        node,
        &[
            "classlabels_ints",
            "classlabels_strings",
            "coefficients",
            "intercepts",
            "multi_class",
            "post_transform",
        ],
    )?;
    let labels = Labels::read(&attributes, "classlabels_ints", "classlabels_strings")?;
    // onnxruntime counts classes by intercepts and ignores `multi_class`.
    attributes.int("multi_class", 0)?;
    let targets = attributes.floats("intercepts")?.len();
    ensure!(targets > 0, "a LinearClassifier without intercepts is not supported");
    let binary = targets == 1 && labels.len() == 2;
    ensure!(
        binary || (targets == labels.len() && targets > 1),
        "{targets} intercepts for {} class labels",
        labels.len()
    );
    let transform = PostTransform::read(&attributes)?;
    ensure!(
        !(binary && transform == PostTransform::Probit),
        "PROBIT of a single score for two classes is undefined"
    );
    built(LinearClassifier { linear: Linear::read(&attributes, targets)?, labels, transform })
}

impl LinearClassifier {
    /// Two classes from one score: the second class has it.
    fn expand_binary(&self, score: f32) -> (usize, [f32; 2]) {
        let class = usize::from(score > 0.0);
        let second = match self.transform {
            PostTransform::Logistic => logistic(score),
            _ => score,
        };
        (class, [1.0 - second, second])
    }
}

impl Kernel for LinearClassifier {
    fn name(&self) -> &'static str {
        "ai.onnx.ml.LinearClassifier"
    }

    fn output_count(&self) -> usize {
        2
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let rows = self.linear.rows(&inputs[0])?;
        Ok(tvec![
            Fact::new(self.labels.datatype(), [rows.clone()]),
            Fact::new(DatumType::F32, [rows, self.labels.len().to_dim()]),
        ])
    }

    fn eval(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let (rows, features) = rows::dims(inputs[0])?;
        self.linear.check_features(features)?;
        let classes = self.labels.len();
        let mut winners = Vec::with_capacity(rows);
        let mut scores = Vec::with_capacity(rows * classes);
        for row in rows::floats(inputs[0])?.chunks_exact(features) {
            let start = scores.len();
            self.linear.score(row, &mut scores);
            if self.linear.targets() == 1 {
                let (winner, both) = self.expand_binary(scores[start]);
                winners.push(winner);
                scores.truncate(start);
                scores.extend(both);
            } else {
                winners.push(argmax(&scores[start..]));
                self.transform.apply(&mut scores[start..]);
            }
        }
        Ok(tvec![self.labels.pick(&winners)?, rows::matrix(rows, classes, &scores)?])
    }
}

#[derive(Debug)]
struct LinearRegressor {
    linear: Linear,
    transform: PostTransform,
}

pub(super) fn build_regressor(_: &ParsingContext, node: &NodeProto) -> Built {
    let attributes =
        Attributes::new(node, &["coefficients", "intercepts", "post_transform", "targets"])?;
    let targets = usize::try_from(attributes.int("targets", 1)?)
        .context("attribute \"targets\" is negative")?;
    let linear = Linear::read(&attributes, targets)?;
    built(LinearRegressor { linear, transform: PostTransform::read(&attributes)? })
}

impl Kernel for LinearRegressor {
    fn name(&self) -> &'static str {
        "ai.onnx.ml.LinearRegressor"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let datatype = inputs[0].datatype;
        ensure!(datatype == DatumType::F32, "expected FP32, got {datatype:?}");
        let rows = self.linear.rows(&inputs[0])?;
        Ok(tvec![Fact::new(DatumType::F32, [rows, self.linear.targets().to_dim()])])
    }

    fn eval(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let (rows, features) = rows::dims(inputs[0])?;
        self.linear.check_features(features)?;
        let targets = self.linear.targets();
        let mut scores = Vec::with_capacity(rows * targets);
        for row in rows::floats(inputs[0])?.chunks_exact(features) {
            let start = scores.len();
            self.linear.score(row, &mut scores);
            self.transform.apply(&mut scores[start..]);
        }
        Ok(tvec![rows::matrix(rows, targets, &scores)?])
    }
}
