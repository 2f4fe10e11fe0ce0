//! `golden.json`: requests with the answers that a version must give.

use serde::Deserialize;
use serde_json::Value;

use crate::for_each_datatype;
use crate::serving::LoadedVersion;
use crate::types::{Data, Datatype, Tensor, TensorSpec, element_count};

/// Rows of a case that are also run alone, to see that rows are independent.
const ROWS_ALONE_MAX: usize = 16;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Golden {
    #[serde(default = "tolerance")]
    tolerance: f64,
    cases: Vec<Case>,
}

const fn tolerance() -> f64 {
    1e-4
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    inputs: Vec<RawTensor>,
    outputs: Vec<RawTensor>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTensor {
    name: String,
    shape: Vec<usize>,
    datatype: String,
    data: Vec<Value>,
}

/// Runs every case; returns how many there are, or the first difference.
pub(super) fn check(text: &str, version: &LoadedVersion) -> Result<usize, String> {
    let golden: Golden = serde_json::from_str(text).map_err(|error| error.to_string())?;
    if !(golden.tolerance.is_finite() && golden.tolerance >= 0.0) {
        return Err(format!("tolerance: expected a number from 0, got {}", golden.tolerance));
    }
    for (i, case) in golden.cases.iter().enumerate() {
        check_case(case, golden.tolerance, version)
            .map_err(|why| format!("case {}: {why}", i + 1))?;
    }
    Ok(golden.cases.len())
}

fn check_case(case: &Case, tolerance: f64, version: &LoadedVersion) -> Result<(), String> {
    let tensors = |raw: &[RawTensor]| raw.iter().map(tensor).collect::<Result<Vec<_>, _>>();
    let inputs = version
        .signature()
        .arrange(tensors(&case.inputs)?)
        .map_err(|error| error.message().to_owned())?;
    let expected = tensors(&case.outputs)?;
    let got = version.run(&inputs).map_err(|error| error.to_string())?;
    compare(&expected, &got, tolerance)?;
    let rows = inputs.first().map_or(1, Tensor::rows);
    let batched = version.signature().inputs.iter().all(TensorSpec::is_batched)
        && inputs.iter().chain(&expected).all(|t| t.rows() == rows && !t.shape().is_empty());
    if batched && rows > 1 {
        for row in 0..rows.min(ROWS_ALONE_MAX) {
            check_row(&inputs, &expected, row, tolerance, version)
                .map_err(|why| format!("row {row} alone: {why}"))?;
        }
    }
    Ok(())
}

/// A row's answer alone must equal its answer in the batch.
fn check_row(
    inputs: &[Tensor],
    expected: &[Tensor],
    row: usize,
    tolerance: f64,
    version: &LoadedVersion,
) -> Result<(), String> {
    let rows = |tensors: &[Tensor]| -> Result<Vec<Tensor>, String> {
        tensors.iter().map(|tensor| slice(tensor, row)).collect()
    };
    let got = version.run(&rows(inputs)?).map_err(|error| error.to_string())?;
    compare(&rows(expected)?, &got, tolerance)
}

/// One row of a tensor, as a tensor of one row.
fn slice(tensor: &Tensor, row: usize) -> Result<Tensor, String> {
    let width = tensor.data().len() / tensor.rows().max(1);
    let mut shape = tensor.shape().to_vec();
    shape[0] = 1;
    let span = row * width..(row + 1) * width;
    let mut data = tensor.data().clone();
    for_each_datatype!(&mut data, v => { v.truncate(span.end); v.drain(..span.start); });
    Tensor::new(tensor.name(), shape, data).map_err(|error| error.message().to_owned())
}

fn compare(expected: &[Tensor], got: &[Tensor], tolerance: f64) -> Result<(), String> {
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
        for i in 0..expected.data().len() {
            if !same(expected.data(), got.data(), i, tolerance) {
                return Err(difference(expected, got, i, tolerance));
            }
        }
    }
    Ok(())
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
                a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= tolerance * a.abs().max(1.0)
            }
            (a, b) => a == b,
        },
    }
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

fn tensor(raw: &RawTensor) -> Result<Tensor, String> {
    let fail = |why: String| format!("tensor {:?}: {why}", raw.name);
    let datatype: Datatype =
        raw.datatype.parse().map_err(|e: crate::error::Error| fail(e.message().to_owned()))?;
    let mut data = Data::with_capacity(datatype, raw.data.len());
    if element_count(&raw.shape) != Some(raw.data.len()) {
        let (shape, len) = (&raw.shape, raw.data.len());
        return Err(fail(format!("shape {shape:?} does not fit its {len} elements")));
    }
    for (i, value) in raw.data.iter().enumerate() {
        push(&mut data, value)
            .ok_or_else(|| fail(format!("data[{i}]: expected {datatype}, got {value}")))?;
    }
    Tensor::new(&raw.name, raw.shape.clone(), data).map_err(|e| e.message().to_owned())
}

/// Appends a JSON value; `None` if it does not fit the datatype.
fn push(data: &mut Data, value: &Value) -> Option<()> {
    match data {
        Data::Bool(v) => v.push(value.as_bool()?),
        Data::Uint8(v) => v.push(value.as_u64()?.try_into().ok()?),
        Data::Uint16(v) => v.push(value.as_u64()?.try_into().ok()?),
        Data::Uint32(v) => v.push(value.as_u64()?.try_into().ok()?),
        Data::Uint64(v) => v.push(value.as_u64()?),
        Data::Int8(v) => v.push(value.as_i64()?.try_into().ok()?),
        Data::Int16(v) => v.push(value.as_i64()?.try_into().ok()?),
        Data::Int32(v) => v.push(value.as_i64()?.try_into().ok()?),
        Data::Int64(v) => v.push(value.as_i64()?),
        Data::Fp16(v) => v.push(half::f16::from_f64(float(value)?)),
        #[expect(clippy::cast_possible_truncation, reason = "FP32 is what the model takes")]
        Data::Fp32(v) => v.push(float(value)? as f32),
        Data::Fp64(v) => v.push(float(value)?),
        Data::Bytes(v) => v.push(value.as_str()?.as_bytes().to_vec()),
    }
    Some(())
}

/// JSON has no word for numbers that are not finite; these are spelled out.
fn float(value: &Value) -> Option<f64> {
    match value.as_str() {
        Some("NaN") => Some(f64::NAN),
        Some("Infinity") => Some(f64::INFINITY),
        Some("-Infinity") => Some(f64::NEG_INFINITY),
        Some(_) => None,
        None => value.as_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry::testing::version as doubler;

    /// One case for a version that doubles its input `x` into `y`.
    fn golden(x: &str, y: &str) -> String {
        let rows = x.split(',').count();
        format!(
            r#"{{"tolerance": 1e-4, "cases": [
                {{"inputs": [], "outputs": []}},
                {{"inputs": [{{"name": "x", "shape": [{rows}, 1], "datatype": "FP32", "data": [{x}]}}],
                  "outputs": [{{"name": "y", "shape": [{rows}, 1], "datatype": "FP32", "data": [{y}]}}]}}]}}"#
        )
        .replace(r#"{"inputs": [], "outputs": []},"#, "")
    }

    #[test]
    fn right_answers_pass() {
        let version = doubler();
        for (x, y) in [
            ("1", "2"),
            ("1, 2.5", "2, 5"),
            ("1", "2.00009"),
            ("10000", "20001"),
            ("\"NaN\"", "\"NaN\""),
            ("\"-Infinity\"", "\"-Infinity\""),
        ] {
            assert_eq!(check(&golden(x, y), &version), Ok(1), "{x} → {y}");
        }
    }

    #[test]
    fn a_wrong_answer_is_named() {
        let version = doubler();
        let cases = [
            (
                "1, 2",
                "2, 5",
                "case 1: output \"y\" at [1, 0]: expected 5.0, got 4.0 (tolerance 0.0001)",
            ),
            ("1", "\"NaN\"", "expected NaN, got 2.0"),
            ("13", "26", "thirteen"),
            ("true", "2", "data[0]: expected FP32, got true"),
        ];
        for (x, y, expected) in cases {
            let why = check(&golden(x, y), &version).unwrap_err();
            assert!(why.contains(expected), "{why}");
        }
        let why = check(&golden("1", "2").replace("\"y\"", "\"z\""), &version).unwrap_err();
        assert!(why.contains("\"z\" does not exist; outputs: y"), "{why}");
        let why = check(&golden("1", "2").replace("\"x\"", "\"w\""), &version).unwrap_err();
        assert!(why.contains("input \"x\" is missing"), "{why}");
        let why = check("{\"cases\": [], \"more\": 1}", &version).unwrap_err();
        assert!(why.contains("more") && why.contains("line 1"), "{why}");
    }

    #[test]
    fn rows_that_depend_on_each_other_are_found() {
        let tensor = |name: &str, x: &[f32]| {
            Tensor::new(name, vec![x.len(), 1], Data::Fp32(x.to_vec())).unwrap()
        };
        let version = doubler();
        let inputs = [tensor("x", &[1.0, 2.0])];
        // As if the batch had made 5 of the second row, which alone gives 4.
        let batch = [tensor("y", &[2.0, 5.0])];
        assert_eq!(check_row(&inputs, &batch, 0, 1e-4, &version), Ok(()));
        let why = check_row(&inputs, &batch, 1, 1e-4, &version).unwrap_err();
        assert!(why.contains("expected 5.0, got 4.0"), "{why}");
    }

    #[test]
    fn every_datatype_is_read() {
        for datatype in Datatype::ALL {
            let data = match datatype {
                Datatype::Bool => "true",
                Datatype::Bytes => "\"a\"",
                _ => "1",
            };
            let text = format!(
                r#"{{"name": "t", "shape": [1], "datatype": "{datatype}", "data": [{data}]}}"#
            );
            let raw: RawTensor = serde_json::from_str(&text).unwrap();
            assert_eq!(tensor(&raw).unwrap().datatype(), datatype);
        }
    }
}
