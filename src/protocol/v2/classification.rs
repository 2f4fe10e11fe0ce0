//! The largest entries of an output, as text, in its place: the protocol's
//! classification extension.

use std::cmp::Ordering;

use crate::error::{Error, ErrorCode, Result};
use crate::types::{Data, Datatype, Tensor, TensorSpec};

/// Whether an output can be asked for by its largest entries.
///
/// # Errors
/// `InvalidArgument` for strings and booleans, which have no largest.
pub(in crate::protocol) fn check(spec: &TensorSpec) -> Result<()> {
    match spec.datatype {
        Datatype::Bytes | Datatype::Bool => Err(Error::new(
            ErrorCode::InvalidArgument,
            format!(
                "output {:?}: parameter \"classification\": {} has no largest entries; ask for it \
                 without",
                spec.name, spec.datatype
            ),
        )),
        _ => Ok(()),
    }
}

/// The `count` largest entries of each row, the largest first, as BYTES
/// `value:index` or, where the model names its classes, `value:index:label`. Of
/// equal ones the first comes first; NaN is the smallest. Its shape is [rows,
/// entries], or [entries] where the first dimension is no batch. Fractions have
/// six digits.
///
/// # Errors
/// As [`check`].
pub(in crate::protocol) fn classify(
    spec: &TensorSpec,
    tensor: &Tensor,
    count: usize,
) -> Result<Tensor> {
    check(spec)?;
    let rows = if spec.is_batched() { tensor.rows() } else { 1 };
    let width = tensor.data().len().checked_div(rows).unwrap_or(0);
    let labels = Some(&spec.classes[..]).filter(|labels| labels.len() == width);
    let rows = Rows { width, count: count.min(width), labels: labels.unwrap_or_default() };
    let fraction = |value: f64| match value {
        value if value.is_nan() => "nan".to_owned(),
        value => format!("{value:.6}"),
    };
    let text = match tensor.data() {
        Data::Uint8(v) => rows.text(v, |x| x.to_string()),
        Data::Uint16(v) => rows.text(v, |x| x.to_string()),
        Data::Uint32(v) => rows.text(v, |x| x.to_string()),
        Data::Uint64(v) => rows.text(v, |x| x.to_string()),
        Data::Int8(v) => rows.text(v, |x| x.to_string()),
        Data::Int16(v) => rows.text(v, |x| x.to_string()),
        Data::Int32(v) => rows.text(v, |x| x.to_string()),
        Data::Int64(v) => rows.text(v, |x| x.to_string()),
        Data::Fp16(v) => rows.text(v, |x| fraction(x.to_f64())),
        Data::Fp32(v) => rows.text(v, |x| fraction(x.into())),
        Data::Fp64(v) => rows.text(v, fraction),
        Data::Bool(_) | Data::Bytes(_) => Vec::new(),
    };
    let shape = match spec.is_batched() {
        true => vec![tensor.rows(), rows.count],
        false => vec![rows.count],
    };
    Tensor::new(tensor.name(), shape, Data::Bytes(text))
}

struct Rows<'a> {
    width: usize,
    count: usize,
    /// Of every entry, or none at all.
    labels: &'a [String],
}

impl Rows<'_> {
    fn text<T: PartialOrd + Copy>(
        &self,
        values: &[T],
        number: impl Fn(T) -> String,
    ) -> Vec<Vec<u8>> {
        if self.count == 0 {
            return Vec::new();
        }
        let mut texts = Vec::with_capacity(values.len() / self.width * self.count);
        let mut order: Vec<usize> = Vec::with_capacity(self.width);
        for row in values.chunks_exact(self.width) {
            let before = |a: &usize, b: &usize| larger(row[*a], row[*b]).then(a.cmp(b));
            order.clear();
            order.extend(0..self.width);
            if self.count < self.width {
                order.select_nth_unstable_by(self.count, before);
                order.truncate(self.count);
            }
            order.sort_unstable_by(before);
            texts.extend(order.iter().map(|at| self.entry(*at, &number(row[*at]))));
        }
        texts
    }

    fn entry(&self, at: usize, number: &str) -> Vec<u8> {
        let entry = match self.labels.get(at) {
            Some(label) => format!("{number}:{at}:{label}"),
            None => format!("{number}:{at}"),
        };
        entry.into_bytes()
    }
}

/// The larger first; what cannot be compared last.
fn larger<T: PartialOrd>(a: T, b: T) -> Ordering {
    b.partial_cmp(&a).unwrap_or_else(|| {
        let is_none = |x: &T| x.partial_cmp(x).is_none();
        is_none(&a).cmp(&is_none(&b))
    })
}

#[cfg(test)]
mod tests {
    use half::f16;
    use proptest::prelude::*;

    use super::*;
    use crate::types::Dim;

    fn spec(datatype: Datatype, batched: bool, classes: &[&str]) -> TensorSpec {
        let first = if batched { Dim::Symbol("N".into()) } else { Dim::Fixed(2) };
        let classes = classes.iter().map(|class| (*class).to_owned()).collect();
        TensorSpec { classes, ..TensorSpec::new("y", datatype, vec![first, Dim::Any]) }
    }

    /// Shape and texts.
    fn classes(
        spec: &TensorSpec,
        shape: &[usize],
        data: Data,
        count: usize,
    ) -> (Vec<usize>, String) {
        let tensor = Tensor::new("y", shape.to_vec(), data).unwrap();
        let got = classify(spec, &tensor, count).unwrap();
        let Data::Bytes(texts) = got.data() else { unreachable!("always") };
        let texts: Vec<_> = texts.iter().map(|text| String::from_utf8_lossy(text)).collect();
        (got.shape().to_vec(), texts.join(" "))
    }

    #[test]
    fn the_largest_of_each_row_come_first() {
        let fp32 = spec(Datatype::Fp32, true, &[]);
        let scores = || Data::Fp32(vec![0.1, 0.7, 0.2, 0.5, 0.5, -1e30]);
        assert_eq!(
            classes(&fp32, &[2, 3], scores(), 2),
            (vec![2, 2], "0.700000:1 0.200000:2 0.500000:0 0.500000:1".to_owned())
        );
        let named = spec(Datatype::Fp32, true, &["no", "yes", "so:so"]);
        assert_eq!(
            classes(&named, &[2, 3], scores(), 1),
            (vec![2, 1], "0.700000:1:yes 0.500000:0:no".to_owned())
        );
        // More than there are is all; names that do not fit are none.
        let (shape, text) = classes(&spec(Datatype::Fp32, true, &["a"]), &[2, 3], scores(), 99);
        assert_eq!(shape, [2, 3]);
        assert!(text.ends_with("-1000000015047466219876688855040.000000:2"), "{text}");
        // Without a batch, all of it is one row.
        let whole = spec(Datatype::Int64, false, &[]);
        let data = Data::Int64(vec![i64::MAX - 1, i64::MAX, -3, 4]);
        let expected = "9223372036854775807:1 9223372036854775806:0".to_owned();
        assert_eq!(classes(&whole, &[2, 2], data, 2), (vec![2], expected));
    }

    #[test]
    fn what_is_no_number_comes_last() {
        let fp64 = spec(Datatype::Fp64, true, &[]);
        let data = Data::Fp64(vec![f64::NAN, f64::NEG_INFINITY, 1.0, f64::INFINITY]);
        let expected = "inf:3 1.000000:2 -inf:1 nan:0".to_owned();
        assert_eq!(classes(&fp64, &[1, 4], data, 4), (vec![1, 4], expected));
        let fp16 = spec(Datatype::Fp16, true, &[]);
        let data = Data::Fp16(vec![f16::from_f32(0.5), f16::NAN]);
        assert_eq!(classes(&fp16, &[2, 1], data, 1), (vec![2, 1], "0.500000:0 nan:0".to_owned()));
        for (shape, rows) in [(&[0, 3], vec![0, 0]), (&[3, 0], vec![3, 0])] {
            let empty = Data::Fp64(vec![]);
            assert_eq!(classes(&fp64, shape, empty, 2), (rows, String::new()));
        }
    }

    #[test]
    fn strings_have_no_largest() {
        for datatype in [Datatype::Bytes, Datatype::Bool] {
            let error = check(&spec(datatype, true, &[])).unwrap_err();
            assert!(error.message().contains("has no largest entries"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn as_if_all_were_sorted(values in proptest::collection::vec(-3_i8..3, 1..40), count in 1_usize..9) {
            let mut sorted: Vec<_> = values.iter().enumerate().collect();
            sorted.sort_by_key(|(at, value)| (-**value, *at));
            let expected: Vec<_> =
                sorted.iter().take(count).map(|(at, value)| format!("{value}:{at}")).collect();
            let int8 = spec(Datatype::Int8, true, &[]);
            let shape = [1, values.len()];
            prop_assert_eq!(classes(&int8, &shape, Data::Int8(values), count).1, expected.join(" "));
        }
    }
}
