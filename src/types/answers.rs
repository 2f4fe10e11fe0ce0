//! What a version's outputs say of each row, found from its signature once. Pure.

use crate::types::{
    CLASSES_MAX, Data, Dim, LabelSettings, ModelSettings, RowAnswer, Signature, Task, Tensor,
    TensorSpec,
};

/// How far the scores of a row may be off 1 together, to be probabilities.
const SUM_TOLERANCE: f64 = 1e-3;
/// From this probability on, a single one says the second class.
const THRESHOLD: f64 = 0.5;

/// One label per row: not a float, and nothing wider than one per row.
#[must_use]
pub fn is_label(spec: &TensorSpec) -> bool {
    !spec.datatype.is_float() && is_narrow(spec)
}

/// Scores: floats, rows by at least two classes.
#[must_use]
pub fn is_scores(spec: &TensorSpec) -> bool {
    let several = !matches!(spec.shape.last(), Some(Dim::Fixed(0 | 1)));
    spec.datatype.is_float() && spec.shape.len() == 2 && several
}

fn is_narrow(spec: &TensorSpec) -> bool {
    spec.shape.iter().skip(1).all(|dim| *dim == Dim::Fixed(1))
}

/// Index of the largest number in a span, leaving NaN out; the first wins.
/// `None` where there is nothing but NaN: that is no class.
#[must_use]
pub fn argmax(data: &Data, span: std::ops::Range<usize>) -> Option<usize> {
    let start = span.start;
    let mut best: Option<(usize, f64)> = None;
    for i in span {
        let Some(x) = data.as_f64(i).filter(|x| !x.is_nan()) else { continue };
        if best.is_none_or(|(_, most)| x > most) {
            best = Some((i - start, x));
        }
    }
    best.map(|(i, _)| i)
}

/// Reads rows of a version's answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnswerReader {
    basis: Basis,
}

/// Outputs, by their place in the signature.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Basis {
    /// A class, and a score for each if there are any.
    Label(usize, Option<usize>),
    /// The class with the largest score.
    Scores(usize),
    /// The probability of the second of two classes.
    Probability(usize),
    Value(usize),
    /// Nothing of it can be joined with a label.
    Nothing,
}

impl AnswerReader {
    /// Finds the outputs: a label output if there is one, else scores, else (for
    /// `task = "classification"`) a probability; for a regression the first number.
    #[must_use]
    pub fn new(signature: &Signature, settings: &ModelSettings) -> Self {
        let find = |test: fn(&TensorSpec) -> bool| signature.outputs.iter().position(test);
        let number = || find(|spec| spec.datatype.is_float() && is_narrow(spec));
        let scores = || find(is_scores);
        let class = || find(is_label).map(|label| Basis::Label(label, scores()));
        let basis = match settings.task {
            Some(Task::Regression) => number().map(Basis::Value),
            Some(Task::Classification) => class()
                .or_else(|| scores().map(Basis::Scores))
                .or_else(|| number().map(Basis::Probability)),
            None => class()
                .or_else(|| scores().map(Basis::Scores))
                .or_else(|| number().map(Basis::Value)),
        };
        Self { basis: basis.unwrap_or(Basis::Nothing) }
    }

    /// One row of an answer; `None` where it is none: no class of the model's, not a number.
    #[must_use]
    pub fn row(&self, labels: &LabelSettings, outputs: &[Tensor], row: usize) -> Option<RowAnswer> {
        match self.basis {
            Basis::Label(label, scores) => {
                let class = labels.class_of(outputs.get(label)?.data(), row)?;
                let scores = scores.and_then(|at| probabilities(outputs.get(at)?, row));
                Some(RowAnswer::Class { class, scores: scores.unwrap_or_default() })
            }
            Basis::Scores(at) => {
                let tensor = outputs.get(at)?;
                let class = argmax(tensor.data(), span(tensor, row)?)?;
                let class = u16::try_from(class).ok().filter(|c| usize::from(*c) < CLASSES_MAX)?;
                let scores = probabilities(tensor, row).unwrap_or_default();
                Some(RowAnswer::Class { class, scores })
            }
            Basis::Probability(at) => {
                let p = number(outputs.get(at)?, row)?;
                let class = u16::from(p >= THRESHOLD);
                let scores = if (0.0..=1.0).contains(&p) { vec![1.0 - p, p] } else { vec![] };
                Some(RowAnswer::Class { class, scores })
            }
            Basis::Value(at) => number(outputs.get(at)?, row).map(RowAnswer::Value),
            Basis::Nothing => None,
        }
    }
}

fn span(tensor: &Tensor, row: usize) -> Option<std::ops::Range<usize>> {
    let width = tensor.data().len().checked_div(tensor.rows())?;
    (row < tensor.rows()).then(|| row * width..(row + 1) * width)
}

/// A row's only number, if it is finite.
fn number(tensor: &Tensor, row: usize) -> Option<f64> {
    let span = span(tensor, row)?;
    tensor.data().as_f64(span.start).filter(|value| value.is_finite() && span.len() == 1)
}

/// A row's scores, if they are probabilities of at most [`CLASSES_MAX`] classes.
fn probabilities(tensor: &Tensor, row: usize) -> Option<Vec<f64>> {
    let span = span(tensor, row).filter(|span| (2..=CLASSES_MAX).contains(&span.len()))?;
    let scores: Vec<_> = span.map_while(|i| tensor.data().as_f64(i)).collect();
    let within = scores.iter().all(|p| (0.0..=1.0 + SUM_TOLERANCE).contains(p));
    let sum: f64 = scores.iter().sum();
    (within && (sum - 1.0).abs() <= SUM_TOLERANCE).then_some(scores)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Datatype, Share};

    fn output(name: &str, datatype: Datatype, width: Option<usize>) -> TensorSpec {
        let mut shape = vec![Dim::Symbol("N".into())];
        shape.extend(width.map(Dim::Fixed));
        TensorSpec::new(name, datatype, shape)
    }

    fn reader(outputs: Vec<TensorSpec>, task: Option<Task>) -> AnswerReader {
        let settings = ModelSettings { task, ..ModelSettings::default() };
        AnswerReader::new(&Signature::new(vec![], outputs), &settings)
    }

    fn labels(classes: &[&str]) -> LabelSettings {
        let classes = classes.iter().map(|class| (*class).to_owned()).collect();
        LabelSettings {
            keep: Share::ALL,
            classes,
            wrong_beyond: None,
            wrong_max: None,
            groupings: vec![],
        }
    }

    fn class(class: u16, scores: &[f64]) -> Option<RowAnswer> {
        Some(RowAnswer::Class { class, scores: scores.to_vec() })
    }

    #[test]
    fn a_label_comes_with_its_probabilities() {
        let outputs =
            vec![output("label", Datatype::Int64, None), output("p", Datatype::Fp32, Some(2))];
        let reader = reader(outputs, None);
        let answer = [
            Tensor::new("label", vec![3], Data::Int64(vec![1, 0, 7])).unwrap(),
            Tensor::new("p", vec![3, 2], Data::Fp32(vec![0.25, 0.75, -1.0, 3.0, 0.5, 0.5]))
                .unwrap(),
        ];
        let row = |labels: &LabelSettings, row| reader.row(labels, &answer, row);
        assert_eq!(row(&labels(&[]), 0), class(1, &[0.25, 0.75]));
        assert_eq!(row(&labels(&[]), 1), class(0, &[]), "logits are no probabilities");
        assert_eq!(row(&labels(&["0", "1"]), 2), None, "7 is no class");
        assert_eq!(row(&labels(&[]), 3), None);
    }

    #[test]
    fn without_a_label_the_largest_score_says_it() {
        let reader = reader(vec![output("p", Datatype::Fp32, Some(3))], None);
        let scores = vec![0.5, 0.25, 0.25, f32::NAN, 0.1, 0.9, f32::NAN, f32::NAN, f32::NAN];
        let answer = [Tensor::new("p", vec![3, 3], Data::Fp32(scores)).unwrap()];
        let row = |row| reader.row(&labels(&[]), &answer, row);
        assert_eq!((row(0), row(1), row(2)), (class(0, &[0.5, 0.25, 0.25]), class(2, &[]), None));
    }

    #[test]
    fn a_number_is_a_value_or_a_probability() {
        let outputs = || vec![output("y", Datatype::Fp64, Some(1))];
        let answer = [Tensor::new("y", vec![3, 1], Data::Fp64(vec![0.75, 2.0, f64::NAN])).unwrap()];
        let rows = |task| {
            let reader = reader(outputs(), task);
            [0, 1, 2].map(|row| reader.row(&labels(&[]), &answer, row))
        };
        let values = [Some(RowAnswer::Value(0.75)), Some(RowAnswer::Value(2.0)), None];
        assert_eq!(rows(Some(Task::Regression)), values);
        assert_eq!(rows(None), values);
        assert_eq!(
            rows(Some(Task::Classification)),
            [class(1, &[0.25, 0.75]), class(1, &[]), None]
        );
    }

    #[test]
    fn what_is_wider_than_a_row_is_nothing() {
        let picture = TensorSpec::new(
            "y",
            Datatype::Fp32,
            vec![Dim::Symbol("N".into()), Dim::Fixed(2), Dim::Fixed(2)],
        );
        let reader = reader(vec![picture], None);
        let answer = [Tensor::new("y", vec![1, 2, 2], Data::Fp32(vec![0.0; 4])).unwrap()];
        assert_eq!(reader.row(&labels(&[]), &answer, 0), None);
    }
}
