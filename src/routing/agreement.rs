//! Whether two versions' answers to one request agree. Pure.

use crate::types::{
    Data, Datatype, ModelSettings, Signature, Task, Tensor, TensorSpec, argmax, is_label, is_scores,
};

/// The share of the champion's observed range that a regressor may be off by,
/// where `model.toml` states no tolerance.
const TOLERANCE_OF_RANGE: f64 = 0.01;

/// How two answers of a model are compared, found from its outputs once.
#[derive(Clone, Debug, PartialEq)]
pub struct Judge {
    basis: Basis,
}

#[derive(Clone, Debug, PartialEq)]
enum Basis {
    /// Rows agree when this output is equal.
    Label(usize),
    /// Rows agree when the same class scores highest in this output.
    Argmax(usize),
    /// Rows agree when this output is within a tolerance: absolute, or 1 % of
    /// the champion's range when `None`.
    Number(usize, Option<f64>),
}

/// What a comparison found.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Agreement {
    /// Rows compared.
    pub rows: usize,
    /// Rows that disagree.
    pub disagreed: usize,
    /// Largest absolute difference of any number; infinite where only one of
    /// the two is finite.
    pub max: f64,
    /// Mean absolute difference of the numbers that are finite on both sides.
    pub mean: f64,
}

/// The answers cannot be compared; why.
#[derive(Clone, Debug, PartialEq)]
pub struct Mismatch(pub String);

impl Judge {
    /// Finds the basis: a label output if there is one (integers, strings or
    /// booleans, one per row), else the scores' argmax, else numbers.
    #[must_use]
    pub fn new(signature: &Signature, settings: &ModelSettings) -> Self {
        let find = |test: fn(&TensorSpec) -> bool| signature.outputs.iter().position(test);
        let label = || find(is_label).map(Basis::Label);
        let argmax = || find(is_scores).map(Basis::Argmax);
        let number = find(|spec| spec.datatype.is_float()).unwrap_or(0);
        let number = Basis::Number(number, settings.tolerance);
        let basis = match settings.task {
            Some(Task::Regression) => number,
            Some(Task::Classification) | None => label().or_else(argmax).unwrap_or(number),
        };
        Self { basis }
    }

    /// The output, by its index, that the number basis looks at: its range is
    /// observed to find the tolerance.
    #[must_use]
    pub const fn ranged_output(&self) -> Option<usize> {
        match self.basis {
            Basis::Number(output, None) => Some(output),
            _ => None,
        }
    }

    /// Compares two answers; `range` is max − min of the champion's numbers
    /// seen so far.
    pub fn compare(
        &self,
        champion: &[Tensor],
        shadow: &[Tensor],
        range: f64,
    ) -> Result<Agreement, Mismatch> {
        same_form(champion, shadow)?;
        let index = self.output();
        let (Some(a), Some(b)) = (champion.get(index), shadow.get(index)) else {
            return Err(Mismatch(format!("there is no output {index} to compare")));
        };
        // Other outputs may have other rows, or none.
        let rows = a.rows();
        let disagreed = (0..rows).filter(|&row| !self.agrees(a, b, row, range)).count();
        let (max, mean) = differences(champion, shadow);
        Ok(Agreement { rows, disagreed, max, mean })
    }

    /// The rows that disagree, of two answers that can be compared.
    #[must_use]
    pub fn disagreeing(&self, champion: &[Tensor], shadow: &[Tensor], range: f64) -> Vec<usize> {
        let index = self.output();
        let (Some(a), Some(b)) = (champion.get(index), shadow.get(index)) else {
            return Vec::new();
        };
        (0..a.rows()).filter(|&row| !self.agrees(a, b, row, range)).collect()
    }

    /// The output that matters.
    const fn output(&self) -> usize {
        match self.basis {
            Basis::Label(i) | Basis::Argmax(i) | Basis::Number(i, _) => i,
        }
    }

    /// Whether one row of the output that matters agrees.
    fn agrees(&self, a: &Tensor, b: &Tensor, row: usize, range: f64) -> bool {
        let width = a.data().len() / a.rows().max(1);
        let span = row * width..(row + 1) * width;
        match self.basis {
            Basis::Label(_) => span.into_iter().all(|i| same_element(a.data(), b.data(), i)),
            Basis::Argmax(_) => argmax(a.data(), span.clone()) == argmax(b.data(), span),
            Basis::Number(_, tolerance) => {
                let tolerance = tolerance.unwrap_or(range * TOLERANCE_OF_RANGE);
                span.into_iter().all(|i| difference(a.data(), b.data(), i) <= tolerance)
            }
        }
    }
}

fn same_form(champion: &[Tensor], shadow: &[Tensor]) -> Result<(), Mismatch> {
    let form = |tensors: &[Tensor]| -> Vec<String> {
        let one = |t: &Tensor| format!("{} {} {:?}", t.name(), t.datatype(), t.shape());
        tensors.iter().map(one).collect()
    };
    let same = champion.len() == shadow.len()
        && champion.iter().zip(shadow).all(|(a, b)| {
            a.name() == b.name() && a.datatype() == b.datatype() && a.shape() == b.shape()
        });
    if same {
        return Ok(());
    }
    let (a, b) = (form(champion).join(", "), form(shadow).join(", "));
    Err(Mismatch(format!("the champion answered {a}; the shadow {b}")))
}

fn same_element(a: &Data, b: &Data, i: usize) -> bool {
    match (a, b) {
        (Data::Bytes(a), Data::Bytes(b)) => a.get(i) == b.get(i),
        (Data::Int64(a), Data::Int64(b)) => a.get(i) == b.get(i),
        (Data::Uint64(a), Data::Uint64(b)) => a.get(i) == b.get(i),
        (a, b) => a.as_f64(i) == b.as_f64(i),
    }
}

/// |a − b|; 0 when both are the same infinity or both NaN.
fn difference(a: &Data, b: &Data, i: usize) -> f64 {
    let (Some(a), Some(b)) = (a.as_f64(i), b.as_f64(i)) else { return 0.0 };
    if a.is_nan() && b.is_nan() || a == b {
        return 0.0;
    }
    let difference = (a - b).abs();
    if difference.is_nan() { f64::INFINITY } else { difference }
}

/// Largest and mean difference over all floating-point outputs; over all
/// numbers where no output is a float.
#[expect(clippy::cast_precision_loss, reason = "a mean")]
fn differences(champion: &[Tensor], shadow: &[Tensor]) -> (f64, f64) {
    let any_float = champion.iter().any(|t| t.datatype().is_float());
    let counts =
        |t: &Tensor| t.datatype().is_float() || !any_float && t.datatype() != Datatype::Bytes;
    let (mut max, mut sum, mut n) = (0.0_f64, 0.0, 0_u64);
    for (a, b) in champion.iter().zip(shadow).filter(|(a, _)| counts(a)) {
        for i in 0..a.data().len() {
            let difference = difference(a.data(), b.data(), i);
            max = max.max(difference);
            if difference.is_finite() {
                sum += difference;
                n += 1;
            }
        }
    }
    (max, if n == 0 { 0.0 } else { sum / n as f64 })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::Dim;

    fn spec(name: &str, datatype: Datatype, width: Option<usize>) -> TensorSpec {
        let mut shape = vec![Dim::Symbol("N".into())];
        shape.extend(width.map(Dim::Fixed));
        TensorSpec::new(name, datatype, shape)
    }

    fn judge(outputs: Vec<TensorSpec>, settings: &ModelSettings) -> Judge {
        Judge::new(&Signature::new(vec![], outputs), settings)
    }

    fn floats(name: &str, width: usize, x: &[f32]) -> Tensor {
        Tensor::new(name, vec![x.len() / width, width], Data::Fp32(x.to_vec())).unwrap()
    }

    fn labels(x: &[i64]) -> Tensor {
        Tensor::new("label", vec![x.len()], Data::Int64(x.to_vec())).unwrap()
    }

    #[test]
    fn labels_come_first() {
        let outputs =
            vec![spec("label", Datatype::Int64, None), spec("p", Datatype::Fp32, Some(2))];
        let judge = judge(outputs, &ModelSettings::default());
        let a = [labels(&[0, 1]), floats("p", 2, &[0.9, 0.1, 0.2, 0.8])];
        let b = [labels(&[0, 0]), floats("p", 2, &[0.8, 0.2, 0.6, 0.4])];
        let got = judge.compare(&a, &b, 0.0).unwrap();
        assert_eq!((got.rows, got.disagreed), (2, 1));
        assert_eq!(judge.disagreeing(&a, &b, 0.0), [1]);
        assert!((got.max - 0.4).abs() < 1e-6 && (got.mean - 0.25).abs() < 1e-6, "{got:?}");
    }

    /// As scikit-learn's classifiers come: strings, and probabilities with names.
    #[test]
    fn words_are_labels_and_named_scores_are_scores() {
        let scores = || TensorSpec {
            classes: ["no".to_owned(), "yes".to_owned()].into(),
            ..spec("output_probability", Datatype::Fp32, Some(2))
        };
        let label = spec("output_label", Datatype::Bytes, None);
        let settings = ModelSettings::default();
        assert_eq!(judge(vec![label.clone(), scores()], &settings).basis, Basis::Label(0));
        assert_eq!(judge(vec![scores(), label.clone()], &settings).basis, Basis::Label(1));
        assert_eq!(judge(vec![scores()], &settings).basis, Basis::Argmax(0));
        let words = |a: &[&str]| {
            let words = a.iter().map(|word| word.as_bytes().to_vec()).collect();
            [Tensor::new("output_label", vec![a.len()], Data::Bytes(words)).unwrap()]
        };
        let judge = judge(vec![label], &settings);
        let got = judge.compare(&words(&["no", "yes"]), &words(&["no", "no"]), 0.0).unwrap();
        assert_eq!((got.rows, got.disagreed), (2, 1));
    }

    #[test]
    fn scores_are_compared_by_their_largest() {
        let judge = judge(vec![spec("p", Datatype::Fp32, Some(3))], &ModelSettings::default());
        let a = [floats("p", 3, &[0.1, 0.5, 0.4])];
        assert_eq!(
            judge.compare(&a, &[floats("p", 3, &[0.3, 0.4, 0.3])], 0.0).unwrap().disagreed,
            0
        );
        assert_eq!(
            judge.compare(&a, &[floats("p", 3, &[0.1, 0.4, 0.5])], 0.0).unwrap().disagreed,
            1
        );
    }

    #[test]
    fn nothing_but_nan_is_no_class() {
        let judge = judge(vec![spec("p", Datatype::Fp32, Some(2))], &ModelSettings::default());
        let (first, nan) = ([floats("p", 2, &[0.9, 0.1])], [floats("p", 2, &[f32::NAN; 2])]);
        assert_eq!(judge.compare(&first, &nan, 0.0).unwrap().disagreed, 1);
        assert_eq!(judge.compare(&nan, &nan, 0.0).unwrap().disagreed, 0);
    }

    #[test]
    fn rows_are_those_of_the_output_that_matters() {
        // The first output is one number for all rows.
        let outputs =
            vec![spec("mean", Datatype::Fp32, None), spec("label", Datatype::Int64, None)];
        let judge = judge(outputs, &ModelSettings::default());
        let mean = || Tensor::new("mean", vec![1], Data::Fp32(vec![0.5])).unwrap();
        let got = judge.compare(&[mean(), labels(&[0, 1, 2])], &[mean(), labels(&[0, 2, 1])], 0.0);
        let got = got.unwrap();
        assert_eq!((got.rows, got.disagreed), (3, 2));
        let none = judge.compare(&[mean(), labels(&[])], &[mean(), labels(&[])], 0.0).unwrap();
        assert_eq!((none.rows, none.disagreed), (0, 0));
    }

    #[test]
    fn a_regressor_agrees_within_its_tolerance() {
        let outputs = || vec![spec("y", Datatype::Fp32, Some(1))];
        let relative = judge(outputs(), &ModelSettings::default());
        let (a, b) = ([floats("y", 1, &[10.0])], [floats("y", 1, &[10.5])]);
        assert_eq!(relative.ranged_output(), Some(0));
        assert_eq!(relative.compare(&a, &b, 100.0).unwrap().disagreed, 0);
        assert_eq!(relative.compare(&a, &b, 10.0).unwrap().disagreed, 1);
        let absolute = ModelSettings { tolerance: Some(0.6), ..ModelSettings::default() };
        assert_eq!(judge(outputs(), &absolute).compare(&a, &b, 0.0).unwrap().disagreed, 0);
    }

    #[test]
    fn another_form_is_a_mismatch_and_nan_is_a_difference() {
        let judge = judge(vec![spec("y", Datatype::Fp32, Some(1))], &ModelSettings::default());
        let one = [floats("y", 1, &[1.0])];
        for other in [vec![], vec![floats("z", 1, &[1.0])], vec![floats("y", 1, &[1.0, 2.0])]] {
            assert!(judge.compare(&one, &other, 1.0).is_err(), "{other:?}");
        }
        let nan = [floats("y", 1, &[f32::NAN])];
        let got = judge.compare(&one, &nan, 1.0).unwrap();
        assert_eq!((got.disagreed, got.max, got.mean), (1, f64::INFINITY, 0.0));
        assert_eq!(judge.compare(&nan, &nan, 1.0).unwrap().disagreed, 0);
    }
}
