//! `TreeEnsembleClassifier`. The standard is silent on two classes that share
//! one score; what happens then is onnxruntime's.

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::attributes::Attributes;
use super::super::kernel::{Built, Fact, Kernel, built};
use super::super::labels::Labels;
use super::super::post_transform::{PostTransform, logistic};
use super::super::rows;
use super::forest::{Feature, Forest, NODE_ATTRIBUTES};

#[derive(Debug)]
struct TreeEnsembleClassifier {
    forest: Forest,
    labels: Labels,
    base_values: Vec<f32>,
    transform: PostTransform,
    /// Two classes, and all leaves speak of the same one.
    single_score: bool,
    /// No leaf has a negative weight: then scores are probabilities and the
    /// border between two classes is 0.5, else it is 0.
    all_positive: bool,
}

pub(in super::super) fn build(context: &ParsingContext, node: &NodeProto) -> Built {
    super::check_version(context)?;
    let own = [
        "base_values",
        "class_ids",
        "class_nodeids",
        "class_treeids",
        "class_weights",
        "classlabels_int64s",
        "classlabels_strings",
        "post_transform",
    ];
    let attributes = Attributes::new(node, &[&own[..], &NODE_ATTRIBUTES].concat())?;
    let mut labels = Labels::read(&attributes, "classlabels_int64s", "classlabels_strings")?;
    let base_values = attributes.floats("base_values")?.to_vec();
    let (classes, bases) = (labels.len(), base_values.len());
    ensure!(classes >= 2, "a classifier of a single class is not supported");
    ensure!(
        bases == 0 || bases == classes || (bases == 1 && classes == 2),
        "{bases} base values for {classes} classes"
    );
    let forest = Forest::read(&attributes, "class", classes)?;
    let weights = forest.weights();
    let single_score =
        classes == 2 && weights.windows(2).all(|pair| pair[0].target == pair[1].target);
    let all_positive = weights.iter().all(|weight| weight.value >= 0.0);
    let transform = PostTransform::read(&attributes)?;
    ensure!(
        single_score || classes > 2 || bases != 1,
        "one base value for two classes with a score each is undefined"
    );
    // A row that only the first class has a score for gives one number.
    let lone = classes == 2 && bases != 2 && weights.iter().any(|weight| weight.target == 0);
    ensure!(
        !(lone && transform == PostTransform::Probit),
        "PROBIT of a single score for two classes is undefined"
    );
    if classes == 2
        && !single_score
        && let Labels::Ints(labels) = &mut labels
    {
        // onnxruntime then answers 0 and 1, whatever the labels are.
        *labels = vec![0, 1];
    }
    built(TreeEnsembleClassifier {
        forest,
        labels,
        base_values,
        transform,
        single_score,
        all_positive,
    })
}

/// One row's sums; a class that no reached leaf speaks of has none.
struct Sums {
    scores: Vec<f32>,
    present: Vec<bool>,
}

impl TreeEnsembleClassifier {
    fn classify<F: Feature>(&self, row: &[F], sums: &mut Sums) -> usize {
        sums.scores.fill(0.0);
        sums.present.fill(false);
        self.forest.visit(row, |weights| {
            for weight in weights {
                sums.scores[weight.target as usize] += weight.value;
                sums.present[weight.target as usize] = true;
            }
        });
        if self.labels.len() == 2 { self.finish_two(sums) } else { self.finish_many(sums) }
    }

    fn finish_many(&self, sums: &mut Sums) -> usize {
        for (k, base) in self.base_values.iter().enumerate() {
            sums.scores[k] += base;
            sums.present[k] = true;
        }
        let mut best = None;
        for (k, &score) in sums.scores.iter().enumerate() {
            if sums.present[k] && best.is_none_or(|b: usize| score > sums.scores[b]) {
                best = Some(k);
            }
        }
        self.transform.apply(&mut sums.scores);
        best.unwrap_or(0)
    }

    fn finish_two(&self, sums: &mut Sums) -> usize {
        let second = sums.present[1];
        match *self.base_values {
            [_, base] if second => {
                let score = base + sums.scores[0];
                sums.scores[0] = if sums.present[0] { -score } else { 0.0 };
                sums.scores[1] = score;
            }
            [base, _] => sums.scores[0] += base,
            [base] if sums.present[0] => sums.scores[0] += base,
            _ => {}
        }
        let decisive = sums.scores[usize::from(second)];
        let border = if self.single_score && self.all_positive { 0.5 } else { 0.0 };
        let winner = usize::from(decisive > border);
        if second || self.base_values.len() == 2 {
            self.transform.apply(&mut sums.scores);
        } else {
            self.expand(decisive, sums);
        }
        winner
    }

    /// Makes two scores of one.
    fn expand(&self, score: f32, sums: &mut Sums) {
        let (first, second) = match self.transform {
            PostTransform::Logistic => (logistic(-score), logistic(score)),
            _ if self.all_positive && self.single_score => (1.0 - score, score),
            _ => (-score, score),
        };
        sums.scores.copy_from_slice(&[first, second]);
    }

    fn run<F: Feature>(&self, data: &[F], features: usize) -> TractResult<TVec<Tensor>> {
        let classes = self.labels.len();
        let rows = data.len().checked_div(features).unwrap_or(0);
        let mut sums = Sums { scores: vec![0.0; classes], present: vec![false; classes] };
        let mut winners = Vec::with_capacity(rows);
        let mut scores = Vec::with_capacity(rows * classes);
        for row in data.chunks_exact(features.max(1)) {
            winners.push(self.classify(row, &mut sums));
            scores.extend_from_slice(&sums.scores);
        }
        Ok(tvec![self.labels.pick(&winners)?, rows::matrix(rows, classes, &scores)?])
    }
}

impl Kernel for TreeEnsembleClassifier {
    fn name(&self) -> &'static str {
        "ai.onnx.ml.TreeEnsembleClassifier"
    }

    fn output_count(&self) -> usize {
        2
    }

    fn facts(&self, inputs: &[Fact]) -> TractResult<TVec<Fact>> {
        let rows = super::check_rows(&self.forest, &inputs[0])?;
        Ok(tvec![
            Fact::new(self.labels.datatype(), [rows.clone()]),
            Fact::new(DatumType::F32, [rows, self.labels.len().to_dim()]),
        ])
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
