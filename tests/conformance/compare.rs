//! Whether the answers are the expected ones, and if not, the first that is
//! not.

use foreshadow::types::{Data, Datatype, Tensor};

use crate::suite::Rule;

/// One row of a hundred may be a tie.
const TIES_PER_ROW_MAX: f64 = 0.01;

/// Compares the answers to a case's data sets.
pub(crate) struct Comparison {
    rule: Rule,
    /// For each output the size of each column, over the rows of the first set.
    sizes: Vec<Vec<f64>>,
}

impl Comparison {
    /// For a case whose first (and largest) data set expects this.
    pub(crate) fn new(rule: Rule, first: &[Tensor]) -> Self {
        let sizes =
            if rule.column_size { first.iter().map(column_sizes).collect() } else { vec![] };
        Self { rule, sizes }
    }

    /// The first difference.
    pub(crate) fn difference(&self, got: &[Tensor], expected: &[Tensor]) -> Option<String> {
        if got.len() != expected.len() {
            return Some(format!("{} outputs, expected {}", got.len(), expected.len()));
        }
        let pairs = got.iter().zip(expected).enumerate();
        pairs.into_iter().find_map(|(i, (got, wanted))| {
            self.tensor(i, got, expected).map(|what| format!("{:?}: {what}", wanted.name()))
        })
    }

    fn tensor(&self, i: usize, got: &Tensor, all: &[Tensor]) -> Option<String> {
        let expected = &all[i];
        if got.datatype() != expected.datatype() {
            return Some(format!("{}, expected {}", got.datatype(), expected.datatype()));
        }
        if got.shape() != expected.shape() {
            return Some(format!("shape {:?}, expected {:?}", got.shape(), expected.shape()));
        }
        let floats = is_float(expected.datatype());
        let right = |at: usize| {
            if floats {
                self.close(i, got, expected, at)
            } else {
                same(got.data(), expected.data(), at)
            }
        };
        let wrong = (0..expected.data().len()).filter(|&at| !right(at)).collect::<Vec<_>>();
        let first = *wrong.first()?;
        if !floats && self.rule.label_ties && are_ties(&wrong, expected, all, self.rule) {
            return None;
        }
        Some(format!(
            "element {first} is {}, expected {} ({} of {} differ)",
            element(got.data(), first),
            element(expected.data(), first),
            wrong.len(),
            expected.data().len()
        ))
    }

    /// Whether element `at` of output `i` is near enough.
    fn close(&self, i: usize, got: &Tensor, expected: &Tensor, at: usize) -> bool {
        let (a, b) = (value(got.data(), at), value(expected.data(), at));
        let sizes = self.sizes.get(i).map_or(&[][..], Vec::as_slice);
        let size = sizes.get(at % sizes.len().max(1)).map_or(b.abs(), |size| size.max(b.abs()));
        // What is infinite has no size to be near to.
        let near = b.is_finite() && (a - b).abs() <= tolerance(size, self.rule);
        a == b || (a.is_nan() && b.is_nan()) || near
    }
}

fn is_float(datatype: Datatype) -> bool {
    matches!(datatype, Datatype::Fp16 | Datatype::Fp32 | Datatype::Fp64)
}

fn tolerance(size: f64, rule: Rule) -> f64 {
    rule.absolute + rule.relative * size
}

/// Element `i`, which is a number.
fn value(data: &Data, i: usize) -> f64 {
    data.as_f64(i).unwrap_or(f64::NAN)
}

/// The root mean square of each column's finite numbers; a column is one
/// position in the last dimension.
#[expect(clippy::cast_precision_loss, reason = "counts of rows")]
fn column_sizes(tensor: &Tensor) -> Vec<f64> {
    let width = if tensor.shape().len() > 1 { tensor.shape()[tensor.shape().len() - 1] } else { 1 };
    let mut sums = vec![(0.0, 0_usize); width];
    for i in 0..tensor.data().len() {
        let number = value(tensor.data(), i);
        if number.is_finite() {
            let (sum, count) = &mut sums[i % width];
            *sum += number * number;
            *count += 1;
        }
    }
    sums.iter().map(|&(sum, count)| (sum / count.max(1) as f64).sqrt()).collect()
}

/// Whether in all these rows, few enough, the two best scores are equal
/// within the tolerance.
#[expect(clippy::cast_precision_loss, reason = "counts of rows")]
fn are_ties(rows: &[usize], labels: &Tensor, all: &[Tensor], rule: Rule) -> bool {
    let count = labels.rows();
    if labels.data().len() != count || rows.len() as f64 > TIES_PER_ROW_MAX * count as f64 {
        return false;
    }
    let scores = |tensor: &&Tensor| {
        is_float(tensor.datatype()) && tensor.shape().len() == 2 && tensor.rows() == count
    };
    let Some(scores) = all.iter().find(scores) else { return false };
    let width = scores.shape()[1];
    rows.iter().all(|&row| {
        let mut row =
            (row * width..(row + 1) * width).map(|i| value(scores.data(), i)).collect::<Vec<_>>();
        row.sort_by(|a, b| b.total_cmp(a));
        match row[..] {
            [best, second, ..] => (best - second).abs() <= 2.0 * tolerance(best.abs(), rule),
            _ => false,
        }
    })
}

fn same(a: &Data, b: &Data, i: usize) -> bool {
    match (a, b) {
        (Data::Bytes(a), Data::Bytes(b)) => a[i] == b[i],
        (Data::Int64(a), Data::Int64(b)) => a[i] == b[i],
        (Data::Uint64(a), Data::Uint64(b)) => a[i] == b[i],
        _ => a.as_f64(i) == b.as_f64(i),
    }
}

fn element(data: &Data, i: usize) -> String {
    match data {
        Data::Bytes(texts) => format!("{:?}", String::from_utf8_lossy(&texts[i])),
        Data::Int64(numbers) => numbers[i].to_string(),
        Data::Uint64(numbers) => numbers[i].to_string(),
        other => value(other, i).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(got: &[Tensor], expected: &[Tensor], rule: Rule) -> Option<String> {
        Comparison::new(rule, expected).difference(got, expected)
    }

    const RULE: Rule = Rule { relative: 1e-5, absolute: 0.0, column_size: true, label_ties: true };

    fn floats(shape: &[usize], data: &[f32]) -> Tensor {
        Tensor::new("p", shape.to_vec(), Data::Fp32(data.to_vec())).unwrap()
    }

    fn labels(data: &[i64]) -> Tensor {
        Tensor::new("label", vec![data.len()], Data::Int64(data.to_vec())).unwrap()
    }

    #[test]
    fn numbers_are_as_exact_as_their_column() {
        let expected = floats(&[2, 2], &[1000.0, 1.0, 0.0, 2.0]);
        let near = floats(&[2, 2], &[1000.005, 1.0, 0.005, 2.0]);
        assert_eq!(difference(&[near], std::slice::from_ref(&expected), RULE), None);
        let far = floats(&[2, 2], &[1000.0, 1.0005, 0.0, 2.0]);
        let plain = Rule { column_size: false, ..RULE };
        for (got, rule) in [(far, RULE), (floats(&[2, 2], &[1000.0, 1.0, 1e-9, 2.0]), plain)] {
            let found = difference(&[got], std::slice::from_ref(&expected), rule).unwrap();
            assert!(found.contains("(1 of 4 differ)"), "{found}");
        }
    }

    #[test]
    fn nan_and_infinities_equal_themselves_only() {
        let odd = [f32::NAN, f32::INFINITY];
        assert_eq!(difference(&[floats(&[2], &odd)], &[floats(&[2], &odd)], RULE), None);
        for wrong in [[f32::NAN, f32::NEG_INFINITY], [0.0, f32::INFINITY], [f32::NAN, f32::NAN]] {
            assert!(difference(&[floats(&[2], &wrong)], &[floats(&[2], &odd)], RULE).is_some());
        }
    }

    #[test]
    fn a_label_may_differ_in_a_tie_and_nowhere_else() {
        let mut expected = vec![0; 200];
        let mut scores = [0.9, 0.1].repeat(200);
        scores[..2].copy_from_slice(&[0.5, 0.499_999_9]);
        let expected_scores = floats(&[200, 2], &scores);
        let all = [labels(&expected), expected_scores.clone()];
        expected[0] = 1;
        assert_eq!(difference(&[labels(&expected), expected_scores.clone()], &all, RULE), None);
        let strict = Rule { label_ties: false, ..RULE };
        assert!(difference(&[labels(&expected), expected_scores.clone()], &all, strict).is_some());
        expected[1] = 1;
        assert!(difference(&[labels(&expected), expected_scores], &all, RULE).is_some());
    }

    #[test]
    fn shape_and_datatype_count() {
        let expected = [floats(&[2, 1], &[1.0, 2.0])];
        for got in [floats(&[2], &[1.0, 2.0]), labels(&[1, 2])] {
            assert!(difference(&[got], &expected, RULE).is_some());
        }
        assert!(difference(&[], &expected, RULE).is_some());
    }
}
