//! `golden.json`: requests with the answers that a version must give.

use serde::Deserialize;
use serde_json::Value;

use crate::registry::preflight::compare::{compare, rows_of};
use crate::registry::preflight::report::cut;
use crate::registry::preflight::{GoldenFailure, GoldenReport};
use crate::serving::LoadedVersion;
use crate::types::{Data, Datatype, Tensor, TensorSpec, element_count};

/// Rows of a case that are also run alone, to see that rows are independent.
const ROWS_ALONE_MAX: usize = 16;
/// Failed cases that are told one by one.
const FAILURES_MAX: usize = 20;

/// A version's golden cases.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Golden {
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

impl Golden {
    /// Reads a `golden.json`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let golden: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if !(golden.tolerance.is_finite() && golden.tolerance >= 0.0) {
            return Err(format!("tolerance: expected a number from 0, got {}", golden.tolerance));
        }
        Ok(golden)
    }

    /// The inputs of each case that fit the version: rows as they really come.
    pub(super) fn samples(&self, version: &LoadedVersion) -> Vec<Vec<Tensor>> {
        let inputs = |case: &Case| version.signature().arrange(tensors(&case.inputs).ok()?).ok();
        self.cases.iter().filter_map(inputs).collect()
    }

    /// Runs every case, whatever came of those before.
    pub(super) fn check(&self, version: &LoadedVersion) -> GoldenReport {
        let mut report = GoldenReport { cases: self.cases.len(), ..GoldenReport::default() };
        for (i, case) in self.cases.iter().enumerate() {
            match check_case(case, self.tolerance, version) {
                Ok((rows, difference)) => {
                    report.rows += rows;
                    report.difference_max = report.difference_max.max(difference);
                }
                Err(reason) if report.failures.len() < FAILURES_MAX => {
                    let reason = cut(&reason);
                    report.failures.push(GoldenFailure { case: i + 1, reason });
                }
                Err(_) => report.failures_more += 1,
            }
        }
        report
    }
}

impl GoldenReport {
    /// What failed, in a line; `None` if nothing did.
    pub(super) fn verdict(&self) -> Option<String> {
        let first = self.failures.first()?;
        let more = self.failures.len() - 1 + self.failures_more;
        let more = match more {
            0 => String::new(),
            1 => "; and 1 more case".to_owned(),
            more => format!("; and {more} more cases"),
        };
        Some(format!("golden.json case {}: {}{more}", first.case, first.reason))
    }
}

/// Runs a case; its rows and the largest difference.
fn check_case(
    case: &Case,
    tolerance: f64,
    version: &LoadedVersion,
) -> Result<(usize, f64), String> {
    let inputs = version
        .signature()
        .arrange(tensors(&case.inputs)?)
        .map_err(|error| error.message().to_owned())?;
    let expected = tensors(&case.outputs)?;
    let got = version.run(&inputs).map_err(|error| error.to_string())?;
    let mut difference = compare(&expected, &got, |_| tolerance)?;
    let rows = inputs.first().map_or(1, Tensor::rows);
    let batched = version.signature().inputs.iter().all(TensorSpec::is_batched)
        && inputs.iter().chain(&expected).all(|t| t.rows() == rows && !t.shape().is_empty());
    if batched && rows > 1 {
        for row in 0..rows.min(ROWS_ALONE_MAX) {
            let alone = check_row(&inputs, &expected, row, tolerance, version)
                .map_err(|why| format!("row {row} alone: {why}"))?;
            difference = difference.max(alone);
        }
    }
    Ok((rows, difference))
}

/// A row's answer alone must equal its answer in the batch.
fn check_row(
    inputs: &[Tensor],
    expected: &[Tensor],
    row: usize,
    tolerance: f64,
    version: &LoadedVersion,
) -> Result<f64, String> {
    let got = version.run(&rows_of(inputs, row, 1)?).map_err(|error| error.to_string())?;
    compare(&rows_of(expected, row, 1)?, &got, |_| tolerance)
}

fn tensors(raw: &[RawTensor]) -> Result<Vec<Tensor>, String> {
    raw.iter().map(tensor).collect()
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

    /// The largest difference, or what went wrong.
    fn check(text: &str, version: &LoadedVersion) -> Result<f64, String> {
        let report = Golden::parse(text)?.check(version);
        report.verdict().map_or(Ok(report.difference_max), Err)
    }

    #[test]
    fn right_answers_pass() {
        let version = doubler();
        for (x, y, difference) in [
            ("1", "2", 0.0),
            ("1, 2.5", "2, 5", 0.0),
            ("1", "2.00009", 9e-5),
            ("10000", "20001", 1.0),
            ("\"NaN\"", "\"NaN\"", 0.0),
            ("\"-Infinity\"", "\"-Infinity\"", 0.0),
        ] {
            let got = check(&golden(x, y), &version).unwrap();
            assert!((got - difference).abs() < 1e-6, "{x} → {y}: {got}");
        }
        let report = Golden::parse(&golden("1, 2", "2, 4")).unwrap().check(&version);
        assert_eq!((report.cases, report.rows), (1, 2));
    }

    #[test]
    fn every_case_that_fails_is_told_up_to_a_number() {
        let version = doubler();
        let case = r#"{"inputs": [{"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}],
            "outputs": [{"name": "y", "shape": [1, 1], "datatype": "FP32", "data": [Y]}]}"#;
        let cases = |answers: &[&str]| {
            let cases: Vec<_> = answers.iter().map(|y| case.replace('Y', y)).collect();
            let text = format!("{{\"cases\": [{}]}}", cases.join(","));
            Golden::parse(&text).unwrap().check(&version)
        };
        let report = cases(&["3", "2", "4"]);
        let failed: Vec<_> = report.failures.iter().map(|failure| failure.case).collect();
        assert_eq!((report.cases, failed), (3, vec![1, 3]));
        let verdict = report.verdict().unwrap();
        assert!(verdict.starts_with("golden.json case 1: output \"y\" at [0, 0]"), "{verdict}");
        assert!(verdict.ends_with("; and 1 more case"), "{verdict}");
        let report = cases(&["3"; 30]);
        assert_eq!((report.failures.len(), report.failures_more), (FAILURES_MAX, 10));
        assert!(report.verdict().unwrap().ends_with("; and 29 more cases"));
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
        assert_eq!(check_row(&inputs, &batch, 0, 1e-4, &version), Ok(0.0));
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
