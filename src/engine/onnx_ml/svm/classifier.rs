//! `SVMClassifier`: every two classes have a machine of their own, whose votes
//! choose the label; or each class has a linear score.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::attributes::Attributes;
use super::super::dense::dot;
use super::super::kernel::{Built, Fact, Kernel, built};
use super::super::labels::Labels;
use super::super::post_transform::{PostTransform, argmax, logistic};
use super::super::rows;
use super::Support;
use super::coupling::Coupling;

/// Classes that a machine may have; pairs grow with their square.
const CLASSES_MAX: usize = 4096;

#[derive(Debug)]
struct SvmClassifier {
    support: Support,
    labels: Labels,
    transform: PostTransform,
    scoring: Scoring,
}

#[derive(Debug)]
enum Scoring {
    /// A score for each class, all with this offset.
    Linear {
        rho: f32,
        all_positive: bool,
        has_probabilities: bool,
    },
    Pairs(Pairs),
}

/// The machines of each two classes.
#[derive(Debug)]
struct Pairs {
    /// For each class but one a row: per support vector, its coefficient
    /// against the other classes in order.
    coefficients: Vec<f32>,
    /// Where each class's support vectors begin, and where the last end.
    starts: Vec<usize>,
    /// Per pair.
    rho: Vec<f32>,
    /// Per pair the two parameters of its probability (J. Platt).
    platt: Option<Vec<(f32, f32)>>,
}

const ATTRIBUTES: &[&str] = &[
    "classlabels_ints",
    "classlabels_strings",
    "coefficients",
    "kernel_params",
    "kernel_type",
    "post_transform",
    "prob_a",
    "prob_b",
    "rho",
    "support_vectors",
    "vectors_per_class",
];

pub(in super::super) fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let attributes = Attributes::new(node, ATTRIBUTES)?;
    let labels = Labels::read(&attributes, "classlabels_ints", "classlabels_strings")?;
    let classes = labels.len();
    ensure!(classes <= CLASSES_MAX, "{classes} classes; up to {CLASSES_MAX} are supported");
    let transform = PostTransform::read(&attributes)?;
    let per_class = attributes.ints("vectors_per_class")?;
    let count = |&count: &i64| usize::try_from(count).context("\"vectors_per_class\" is negative");
    let per_class = per_class.iter().map(count).collect::<TractResult<Vec<usize>>>()?;
    let vectors = per_class.iter().try_fold(0_usize, |sum, &count| sum.checked_add(count));
    let vectors = vectors.context("\"vectors_per_class\" is impossibly large")?;
    let (support, scoring) = if vectors > 0 {
        let pairs = Pairs::read(&attributes, &per_class, classes)?;
        ensure!(
            transform != PostTransform::Probit || classes > 2 || pairs.platt.is_some(),
            "PROBIT of a single score for two classes is undefined"
        );
        (Support::read(&attributes, vectors)?, Scoring::Pairs(pairs))
    } else {
        let coefficients = attributes.floats("coefficients")?;
        let scoring = Scoring::Linear {
            rho: *attributes.floats("rho")?.first().context("\"rho\" is missing")?,
            all_positive: coefficients.iter().all(|&coefficient| coefficient >= 0.0),
            has_probabilities: !attributes.floats("prob_a")?.is_empty(),
        };
        (Support::linear(&attributes, classes)?, scoring)
    };
    built(SvmClassifier { support, labels, transform, scoring })
}

impl Pairs {
    fn read(attributes: &Attributes, per_class: &[usize], classes: usize) -> TractResult<Self> {
        ensure!(
            classes >= 2 && per_class.len() == classes,
            "\"vectors_per_class\" has {} for {classes} classes; expected as many, and two at \
             least",
            per_class.len()
        );
        let mut starts = vec![0];
        for (class, count) in per_class.iter().enumerate() {
            starts.push(starts[class] + count);
        }
        let (vectors, pairs) = (starts[classes], classes * (classes - 1) / 2);
        let enough = |name: &str, needed: usize| {
            let numbers = attributes.floats(name)?;
            let got = numbers.len();
            ensure!(got >= needed, "{name:?} has {got} numbers, expected {needed}");
            Ok(numbers[..needed].to_vec())
        };
        let needed = vectors.checked_mul(classes - 1).context("too many support vectors")?;
        let (a, b) = (attributes.floats("prob_a")?.len(), attributes.floats("prob_b")?.len());
        ensure!(a == b, "\"prob_a\" has {a} numbers and \"prob_b\" has {b}; expected as many");
        let platt = match a {
            0 => None,
            _ => Some(enough("prob_a", pairs)?.into_iter().zip(enough("prob_b", pairs)?).collect()),
        };
        Ok(Self {
            coefficients: enough("coefficients", needed)?,
            starts,
            rho: enough("rho", pairs)?,
            platt,
        })
    }

    fn classes(&self) -> usize {
        self.starts.len() - 1
    }

    /// One score per row and pair, or class.
    fn width(&self) -> usize {
        match (&self.platt, self.classes()) {
            (Some(_), classes) => classes,
            (None, 2) => 2,
            (None, _) => self.rho.len(),
        }
    }

    /// Every pair's score, above 0 for the first class; and the winner.
    #[expect(clippy::cast_possible_truncation, reason = "the output is FP32")]
    fn decide(&self, similarities: &[f32], scores: &mut [f32], votes: &mut [u32]) -> usize {
        votes.fill(0);
        let (classes, vectors) = (self.classes(), similarities.len());
        let own = |class: usize| self.starts[class]..self.starts[class + 1];
        let part = |row: usize, class: usize| {
            let coefficients = &self.coefficients[row * vectors..][..vectors];
            dot(&coefficients[own(class)], &similarities[own(class)])
        };
        let mut pair = 0;
        for i in 0..classes {
            for j in i + 1..classes {
                // Class i's row leaves class i out, so j − 1 is class j's.
                let sum = part(j - 1, i) + part(i, j) + f64::from(self.rho[pair]);
                scores[pair] = sum as f32;
                votes[if sum > 0.0 { i } else { j }] += 1;
                pair += 1;
            }
        }
        let most = votes.iter().copied().max();
        votes.iter().position(|&count| Some(count) == most).unwrap_or(0)
    }
}

/// What one row after another is computed in.
struct Scratch {
    pairs: Vec<f32>,
    votes: Vec<u32>,
    coupling: Coupling,
}

impl SvmClassifier {
    fn width(&self) -> usize {
        match &self.scoring {
            Scoring::Linear { .. } => self.labels.len(),
            Scoring::Pairs(pairs) => pairs.width(),
        }
    }

    /// Appends one row's scores; gives its class.
    fn classify(&self, row: &[f32], scratch: &mut Scratch, scores: &mut Vec<f32>) -> usize {
        let start = scores.len();
        match &self.scoring {
            Scoring::Linear { rho, .. } => {
                scores.extend(row.iter().map(|score| score + rho));
                let class = self.linear_winner(&scores[start..]);
                let width = scores.len() - start;
                self.transform.apply_rows(&mut scores[start..], width);
                class
            }
            Scoring::Pairs(pairs) => {
                let winner = pairs.decide(row, &mut scratch.pairs, &mut scratch.votes);
                if let Some(platt) = &pairs.platt {
                    probabilities(platt, &mut scratch.pairs);
                    scores.resize(start + self.labels.len(), 0.0);
                    scratch.coupling.solve(&scratch.pairs, &mut scores[start..]);
                    self.transform.apply(&mut scores[start..]);
                } else if let [score] = scratch.pairs[..] {
                    scores.extend(self.expand(score));
                } else {
                    scores.extend_from_slice(&scratch.pairs);
                    self.transform.apply(&mut scores[start..]);
                }
                winner
            }
        }
    }

    /// The best class; of two, the second as soon as any score is convincing,
    /// as onnxruntime has it.
    fn linear_winner(&self, scores: &[f32]) -> usize {
        let best = argmax(scores);
        let Scoring::Linear { all_positive, has_probabilities: false, .. } = self.scoring else {
            return best;
        };
        let convincing = if all_positive { scores[best] >= 0.5 } else { scores[best] > 0.0 };
        if scores.len() == 2 && convincing { 1 } else { best }
    }

    /// Makes two scores of the one of two classes. onnxruntime writes the
    /// decision's sign about, and transforms for LOGISTIC only.
    fn expand(&self, score: f32) -> [f32; 2] {
        match self.transform {
            PostTransform::None => [-score, score],
            PostTransform::Logistic => [1.0 - logistic(score), logistic(score)],
            _ => [1.0 - score, score],
        }
    }
}

/// Makes probabilities of the pairs' scores.
fn probabilities(platt: &[(f32, f32)], pairs: &mut [f32]) {
    const LEAST: f32 = 1e-7;
    for (score, (a, b)) in pairs.iter_mut().zip(platt) {
        let probability = 1.0 - logistic(*score * a + b);
        *score = probability.clamp(LEAST, 1.0 - LEAST);
    }
}

impl Kernel for SvmClassifier {
    fn name(&self) -> &'static str {
        "ai.onnx.ml.SVMClassifier"
    }

    fn output_count(&self) -> usize {
        2
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let rows = self.support.rows(&inputs[0])?;
        Ok(tvec![
            Fact::new(self.labels.datatype(), [rows.clone()]),
            Fact::new(DatumType::F32, [rows, self.width().to_dim()]),
        ])
    }

    fn eval(&self, inputs: &[&Tensor]) -> TractResult<TVec<Tensor>> {
        let (rows, _) = rows::dims(inputs[0])?;
        let classes = self.labels.len();
        let pairs = match &self.scoring {
            Scoring::Linear { .. } => 0,
            Scoring::Pairs(pairs) => pairs.rho.len(),
        };
        let mut scratch = Scratch {
            pairs: vec![0.0; pairs],
            votes: vec![0; classes],
            coupling: Coupling::new(if pairs == 0 { 0 } else { classes }),
        };
        let mut winners = Vec::with_capacity(rows);
        let mut scores = Vec::with_capacity(rows * self.width());
        self.support.for_each_row(inputs[0], |row| {
            winners.push(self.classify(row, &mut scratch, &mut scores));
        })?;
        Ok(tvec![self.labels.pick(&winners)?, rows::matrix(rows, self.width(), &scores)?])
    }
}
