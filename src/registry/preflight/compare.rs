//! Compares tensors element by element, and cuts rows out of them.

use crate::for_each_datatype;
use crate::types::{Data, Tensor};

/// Compares every expected tensor with the one of its name; the largest
/// difference of a number, or the first difference that is too large.
pub(super) fn compare(
    expected: &[Tensor],
    got: &[Tensor],
    tolerance: impl Fn(&Tensor) -> f64,
) -> Result<f64, String> {
    let mut largest = 0.0_f64;
    for expected in expected {
        let name = expected.name();
        let got = got.iter().find(|tensor| tensor.name() == name).ok_or_else(|| {
            let names: Vec<_> = got.iter().map(Tensor::name).collect();
            format!("output {name:?} does not exist; outputs: {}", names.join(", "))
        })?;
        let form = |t: &Tensor| format!("{} {:?}", t.datatype(), t.shape());
        if form(expected) != form(got) {
            return Err(format!("output {name:?}: expected {}, got {}", form(expected), form(got)));
        }
        let tolerance = tolerance(expected);
        for i in 0..expected.data().len() {
            if !same(expected.data(), got.data(), i, tolerance) {
                return Err(difference(expected, got, i, tolerance));
            }
            largest = largest.max(distance(expected.data(), got.data(), i));
        }
    }
    Ok(largest)
}

fn difference(expected: &Tensor, got: &Tensor, i: usize, tolerance: f64) -> String {
    let (name, at) = (expected.name(), place(expected.shape(), i));
    let (a, b) = (element(expected.data(), i), element(got.data(), i));
    let within = match expected.datatype().is_float() {
        true => format!(" (tolerance {tolerance})"),
        false => String::new(),
    };
    format!("output {name:?} at {at:?}: expected {a}, got {b}{within}")
}

/// Floats may be off by the tolerance, absolute or relative; all else is equal.
fn same(expected: &Data, got: &Data, i: usize, tolerance: f64) -> bool {
    match (expected, got) {
        (Data::Bytes(a), Data::Bytes(b)) => a[i] == b[i],
        (Data::Int64(a), Data::Int64(b)) => a[i] == b[i],
        (Data::Uint64(a), Data::Uint64(b)) => a[i] == b[i],
        (a, b) => match (a.as_f64(i), b.as_f64(i)) {
            (Some(a), Some(b)) if expected.datatype().is_float() => {
                // From an infinity everything is infinitely far, and no part of it.
                let near = (a - b).abs() <= tolerance * a.abs().max(1.0);
                a == b || a.is_nan() && b.is_nan() || a.is_finite() && near
            }
            (a, b) => a == b,
        },
    }
}

/// How far two numbers are apart; 0 for what has no distance.
fn distance(a: &Data, b: &Data, i: usize) -> f64 {
    let distance = a.as_f64(i).zip(b.as_f64(i)).map_or(0.0, |(a, b)| (a - b).abs());
    if distance.is_finite() { distance } else { 0.0 }
}

/// The indices of element `i`.
fn place(shape: &[usize], mut i: usize) -> Vec<usize> {
    let mut at = vec![0; shape.len()];
    for (index, size) in at.iter_mut().zip(shape).rev() {
        *index = i % (*size).max(1);
        i /= (*size).max(1);
    }
    at
}

fn element(data: &Data, i: usize) -> String {
    match data {
        Data::Bytes(v) => format!("{:?}", String::from_utf8_lossy(&v[i])),
        other => for_each_datatype!(other, v => format!("{:?}", v[i])),
    }
}

/// Rows `first..first + count` of each tensor. Each must have so many.
pub(super) fn rows_of(
    tensors: &[Tensor],
    first: usize,
    count: usize,
) -> Result<Vec<Tensor>, String> {
    let cut = |tensor: &Tensor| {
        let width = tensor.data().len() / tensor.rows().max(1);
        let mut shape = tensor.shape().to_vec();
        let size = shape.first_mut().ok_or_else(|| format!("{:?} has no rows", tensor.name()))?;
        *size = count;
        let span = first * width..(first + count) * width;
        if span.end > tensor.data().len() {
            let (name, rows) = (tensor.name(), tensor.rows());
            return Err(format!("{name:?} has {rows} rows, expected {}", first + count));
        }
        let data = part(tensor.data(), span);
        Tensor::new(tensor.name(), shape, data).map_err(|error| error.message().to_owned())
    };
    tensors.iter().map(cut).collect()
}

fn part(data: &Data, span: std::ops::Range<usize>) -> Data {
    match data {
        Data::Bool(v) => Data::Bool(v[span].to_vec()),
        Data::Uint8(v) => Data::Uint8(v[span].to_vec()),
        Data::Uint16(v) => Data::Uint16(v[span].to_vec()),
        Data::Uint32(v) => Data::Uint32(v[span].to_vec()),
        Data::Uint64(v) => Data::Uint64(v[span].to_vec()),
        Data::Int8(v) => Data::Int8(v[span].to_vec()),
        Data::Int16(v) => Data::Int16(v[span].to_vec()),
        Data::Int32(v) => Data::Int32(v[span].to_vec()),
        Data::Int64(v) => Data::Int64(v[span].to_vec()),
        Data::Fp16(v) => Data::Fp16(v[span].to_vec()),
        Data::Fp32(v) => Data::Fp32(v[span].to_vec()),
        Data::Fp64(v) => Data::Fp64(v[span].to_vec()),
        Data::Bytes(v) => Data::Bytes(v[span].to_vec()),
    }
}

#[cfg(test)]
mod tests {
    use std::slice::from_ref;

    use super::*;
    use crate::types::Datatype;

    fn tensor(shape: &[usize], data: Data) -> Tensor {
        Tensor::new("y", shape.to_vec(), data).unwrap()
    }

    #[test]
    fn the_largest_difference_within_the_tolerance_is_told() {
        let a = tensor(&[3], Data::Fp64(vec![1.0, f64::NAN, 100.0]));
        let b = tensor(&[3], Data::Fp64(vec![1.25, f64::NAN, 101.0]));
        assert_eq!(compare(from_ref(&a), from_ref(&b), |_| 0.25), Ok(1.0));
        let why = compare(&[a], &[b], |_| 0.1).unwrap_err();
        assert_eq!(why, "output \"y\" at [0]: expected 1.0, got 1.25 (tolerance 0.1)");
    }

    #[test]
    fn an_infinity_equals_only_itself() {
        let of = |number| tensor(&[1], Data::Fp32(vec![number]));
        let infinite = of(f32::INFINITY);
        assert_eq!(compare(from_ref(&infinite), from_ref(&infinite), |_| 0.1), Ok(0.0));
        for other in [5.0, f32::NEG_INFINITY, f32::NAN] {
            assert!(compare(from_ref(&infinite), &[of(other)], |_| 0.1).is_err(), "{other}");
            assert!(compare(&[of(other)], from_ref(&infinite), |_| 0.1).is_err(), "{other}");
        }
    }

    #[test]
    fn large_integers_are_compared_exactly() {
        let a = tensor(&[1, 1], Data::Int64(vec![i64::MAX]));
        let b = tensor(&[1, 1], Data::Int64(vec![i64::MAX - 1]));
        let why = compare(from_ref(&a), &[b], |_| 1.0).unwrap_err();
        assert!(why.contains("at [0, 0]") && !why.contains("tolerance"), "{why}");
        assert_eq!(compare(from_ref(&a), from_ref(&a), |_| 0.0), Ok(0.0));
    }

    #[test]
    fn rows_are_cut_out_of_every_datatype() {
        for datatype in Datatype::ALL {
            let whole = tensor(&[4, 2], Data::zeros(datatype, 8));
            let rows = rows_of(&[whole], 1, 2).unwrap();
            assert_eq!((rows[0].shape(), rows[0].datatype()), (&[2, 2][..], datatype));
        }
        let whole = tensor(&[3, 2], Data::Int8(vec![1, 2, 3, 4, 5, 6]));
        assert_eq!(rows_of(from_ref(&whole), 1, 1).unwrap()[0].data(), &Data::Int8(vec![3, 4]));
        assert!(rows_of(&[whole], 3, 1).unwrap_err().contains("has 3 rows"));
        assert!(rows_of(&[tensor(&[], Data::Bool(vec![true]))], 0, 1).is_err());
    }
}
