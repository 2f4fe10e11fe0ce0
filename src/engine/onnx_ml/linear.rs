//! `LinearClassifier` and `LinearRegressor`: x · Wᵀ + b, then a transform.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::attributes::Attributes;
use super::dense::{self, Matrix, Measure};
use super::kernel::{BadShape, Built, Fact, Kernel, built};
use super::labels::Labels;
use super::post_transform::{PostTransform, argmax};
use super::rows;

/// Weights of `targets` rows by `features` columns, and an intercept each.
#[derive(Debug)]
struct Linear {
    weights: Matrix,
    intercepts: Vec<f32>,
}

impl Linear {
    fn new(weights: &[f32], intercepts: Vec<f32>) -> TractResult<Self> {
        let targets = intercepts.len();
        ensure!(
            !weights.is_empty() && targets > 0 && weights.len().is_multiple_of(targets),
            "{} coefficients do not divide among {targets} targets",
            weights.len()
        );
        Ok(Self { weights: Matrix::new(weights, weights.len() / targets), intercepts })
    }

    fn targets(&self) -> usize {
        self.intercepts.len()
    }

    /// The scores of all rows, one row after another.
    fn score(&self, rows: &[f32], scores: &mut [f32]) {
        self.weights.sums(Measure::Product, rows, scores);
        for row in scores.chunks_exact_mut(self.intercepts.len()) {
            row.iter_mut().zip(&self.intercepts).for_each(|(score, intercept)| *score += intercept);
        }
    }

    fn check_features(&self, features: usize) -> TractResult<()> {
        let expected = self.weights.features();
        ensure!(features == expected, "expected {expected} features, got {features}");
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
    /// Whether two scores are made of the one that there is.
    expands: bool,
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
    // onnxruntime counts classes by intercepts and ignores `multi_class`.
    attributes.int("multi_class", 0)?;
    let intercepts = attributes.floats("intercepts")?.to_vec();
    let targets = intercepts.len();
    ensure!(targets > 0, "a LinearClassifier without intercepts is not supported");
    let ints = attributes.ints("classlabels_ints")?;
    let strings = attributes.strings("classlabels_strings")?;
    let unnamed = targets == 1 && ints.is_empty() && strings.is_empty();
    let labels = if unnamed {
        Labels::Ints(vec![0, 1])
    } else {
        Labels::read(&attributes, "classlabels_ints", "classlabels_strings")?
    };
    let fits = if targets == 1 { labels.len() == 2 } else { labels.len() >= targets };
    ensure!(fits, "{targets} intercepts for {} class labels", labels.len());
    let transform = PostTransform::read(&attributes)?;
    ensure!(
        unnamed || targets > 1 || transform != PostTransform::Probit,
        "PROBIT of a single score for two classes is undefined"
    );
    let linear = Linear::new(attributes.floats("coefficients")?, intercepts)?;
    built(LinearClassifier { linear, labels, transform, expands: targets == 1 && !unnamed })
}

impl LinearClassifier {
    /// How many scores a row has.
    fn width(&self) -> usize {
        if self.expands { 2 } else { self.linear.targets() }
    }

    fn winners(&self, scores: &[f32]) -> Vec<usize> {
        match self.linear.targets() {
            1 => scores.iter().map(|&score| usize::from(score > 0.0)).collect(),
            targets => scores.chunks_exact(targets).map(argmax).collect(),
        }
    }

    /// Two scores from one: the second class has it.
    fn expand(&self, scores: &mut [f32], out: &mut [f32]) {
        if self.transform == PostTransform::Logistic {
            dense::logistic(scores);
        }
        for (out, &score) in out.as_chunks_mut::<2>().0.iter_mut().zip(&*scores) {
            *out = [1.0 - score, score];
        }
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
            Fact::new(DatumType::F32, [rows, self.width().to_dim()]),
        ])
    }

    fn eval(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let (rows, features) = rows::dims(inputs[0])?;
        self.linear.check_features(features).map_err(BadShape::of)?;
        let data = rows::floats(inputs[0])?;
        let mut winners = vec![];
        let scores = rows::filled(&[rows, self.width()], |out| {
            if self.expands {
                let mut scores = vec![0.0; rows];
                self.linear.score(&data, &mut scores);
                winners = self.winners(&scores);
                self.expand(&mut scores, out);
            } else {
                self.linear.score(&data, out);
                winners = self.winners(out);
                self.transform.apply_rows(out, self.width());
            }
            Ok(())
        })?;
        Ok(tvec![self.labels.pick(&winners)?, scores])
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
    let weights = attributes.floats("coefficients")?;
    let mut intercepts = attributes.floats("intercepts")?.to_vec();
    if intercepts.is_empty() {
        intercepts = vec![0.0; targets.min(weights.len())];
    }
    ensure!(intercepts.len() == targets, "expected {targets} intercepts, got {}", intercepts.len());
    let linear = Linear::new(weights, intercepts)?;
    built(LinearRegressor { linear, transform: PostTransform::read(&attributes)? })
}

impl Kernel for LinearRegressor {
    fn name(&self) -> &'static str {
        "ai.onnx.ml.LinearRegressor"
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let rows = self.linear.rows(&inputs[0])?;
        Ok(tvec![Fact::new(DatumType::F32, [rows, self.linear.targets().to_dim()])])
    }

    fn eval(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let (rows, features) = rows::dims(inputs[0])?;
        self.linear.check_features(features).map_err(BadShape::of)?;
        let data = rows::floats(inputs[0])?;
        let targets = self.linear.targets();
        let scores = rows::filled(&[rows, targets], |out| {
            self.linear.score(&data, out);
            self.transform.apply_rows(out, targets);
            Ok(())
        })?;
        Ok(tvec![scores])
    }
}
