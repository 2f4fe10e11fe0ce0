//! Answers equal onnxruntime's (`make.py` and its neighbours in
//! `tests/data/engine` made them).

use serde_json::Value;

use super::super::{Tract, load};
use crate::engine::Model;
use crate::for_each_datatype;
use crate::types::{Data, Datatype, Tensor};

const CASES: [&str; 3] = [
    include_str!("../../../../tests/data/engine/cases.jsonl"),
    include_str!("../../../../tests/data/engine/trees.jsonl"),
    include_str!("../../../../tests/data/engine/ml.jsonl"),
];

struct Case {
    name: String,
    model: Vec<u8>,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
    /// Whether the first dimension is none of rows.
    whole: bool,
}

fn cases() -> Vec<Case> {
    let lines = CASES.iter().flat_map(|cases| cases.lines());
    lines.map(|line| read_case(&serde_json::from_str(line).unwrap())).collect()
}

/// The files of the cases with these names.
pub(super) fn models(names: &[&str]) -> Vec<Vec<u8>> {
    let all = cases();
    let find = |name: &&str| all.iter().find(|case| case.name == **name).unwrap().model.clone();
    names.iter().map(find).collect()
}

fn read_case(case: &Value) -> Case {
    let tensors = |key: &str| case[key].as_array().unwrap().iter().map(read_tensor).collect();
    Case {
        name: case["name"].as_str().unwrap().to_owned(),
        model: read_bytes(&case["model"]),
        inputs: tensors("inputs"),
        outputs: tensors("outputs"),
        whole: case["whole"] == true,
    }
}

/// Bytes in hexadecimal.
pub(super) fn read_bytes(text: &Value) -> Vec<u8> {
    let hex = text.as_str().unwrap();
    let byte = |i: usize| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap();
    (0..hex.len() / 2).map(byte).collect()
}

pub(super) fn read_tensor(tensor: &Value) -> Tensor {
    let datatype: Datatype = tensor["datatype"].as_str().unwrap().parse().unwrap();
    let items = tensor["data"].as_array().unwrap();
    let float = |item: &Value| match item {
        Value::Null => f64::NAN,
        Value::String(text) => text.parse().unwrap(),
        other => other.as_f64().unwrap(),
    };
    let int = |item: &Value| item.as_i64().unwrap();
    let data = match datatype {
        Datatype::Bytes => {
            Data::Bytes(items.iter().map(|i| i.as_str().unwrap().as_bytes().to_vec()).collect())
        }
        Datatype::Fp32 => Data::Fp32(items.iter().map(|i| float(i) as f32).collect()),
        Datatype::Fp64 => Data::Fp64(items.iter().map(float).collect()),
        Datatype::Fp16 => Data::Fp16(items.iter().map(|i| half::f16::from_f64(float(i))).collect()),
        Datatype::Bool => Data::Bool(items.iter().map(|i| int(i) != 0).collect()),
        Datatype::Int64 => Data::Int64(items.iter().map(int).collect()),
        Datatype::Int32 => Data::Int32(items.iter().map(|i| int(i) as i32).collect()),
        Datatype::Int16 => Data::Int16(items.iter().map(|i| int(i) as i16).collect()),
        Datatype::Int8 => Data::Int8(items.iter().map(|i| int(i) as i8).collect()),
        Datatype::Uint64 => Data::Uint64(items.iter().map(|i| int(i) as u64).collect()),
        Datatype::Uint32 => Data::Uint32(items.iter().map(|i| int(i) as u32).collect()),
        Datatype::Uint16 => Data::Uint16(items.iter().map(|i| int(i) as u16).collect()),
        Datatype::Uint8 => Data::Uint8(items.iter().map(|i| int(i) as u8).collect()),
    };
    let dims = tensor["shape"].as_array().unwrap();
    let shape = dims.iter().map(|d| d.as_u64().unwrap() as usize).collect();
    Tensor::new(tensor["name"].as_str().unwrap(), shape, data).unwrap()
}

/// The rows from `from` to `to` of a tensor.
fn slice(tensor: &Tensor, from: usize, to: usize) -> Tensor {
    let width = tensor.shape()[1..].iter().product::<usize>();
    let mut shape = tensor.shape().to_vec();
    shape[0] = to - from;
    let mut data = tensor.data().clone();
    for_each_datatype!(&mut data, v => *v = v[from * width..to * width].to_vec());
    Tensor::new(tensor.name(), shape, data).unwrap()
}

pub(super) fn difference(got: &Tensor, expected: &Tensor) -> Option<String> {
    if (got.name(), got.shape(), got.datatype())
        != (expected.name(), expected.shape(), expected.datatype())
    {
        return Some(format!("got {got:?}, expected {expected:?}"));
    }
    for i in 0..got.data().len() {
        let close = match (got.data().as_f64(i), expected.data().as_f64(i)) {
            (Some(a), Some(b)) if matches!(got.datatype(), Datatype::Fp32 | Datatype::Fp64) => {
                (a.is_nan() && b.is_nan()) || a == b || (a - b).abs() <= 1e-5 * b.abs().max(1.0)
            }
            _ => slice_of(got.data(), i) == slice_of(expected.data(), i),
        };
        if !close {
            return Some(format!("element {i}: got {got:?}, expected {expected:?}"));
        }
    }
    None
}

fn slice_of(data: &Data, i: usize) -> Data {
    let mut one = data.clone();
    for_each_datatype!(&mut one, v => *v = v[i..=i].to_vec());
    one
}

#[test]
fn answers_equal_onnxruntimes_at_every_batch_size() {
    let engine = Tract::new();
    let mut wrong = Vec::new();
    let cases = cases();
    for case in &cases {
        let model = match load::load_bytes(&engine.onnx, &case.model) {
            Ok(model) => model,
            Err(error) => {
                wrong.push(format!("{}: {error}", case.name));
                continue;
            }
        };
        for (spec, output) in model.signature().outputs.iter().zip(&case.outputs) {
            if let Err(error) = spec.check(output) {
                wrong.push(format!("{}: {}", case.name, error.message()));
            }
        }
        let mut session = model.session().unwrap();
        let rows = case.inputs[0].rows();
        // `shape` answers about the batch and not about its rows.
        let split = !case.whole && case.name != "shape";
        let batches = [(0, rows), (0, 1), (rows - 1, rows), (0, rows.div_ceil(2)), (0, rows)];
        for (from, to) in batches.into_iter().filter(|batch| split || *batch == (0, rows)) {
            let part = |t: &Tensor| if split { slice(t, from, to) } else { t.clone() };
            let inputs = case.inputs.iter().map(part).collect::<Vec<_>>();
            match session.run(&inputs) {
                Err(error) => wrong.push(format!("{} [{from}..{to}]: {error}", case.name)),
                Ok(outputs) => {
                    for (got, all) in outputs.iter().zip(&case.outputs) {
                        let expected = if split { slice(all, from, to) } else { all.clone() };
                        let differs = difference(got, &expected);
                        wrong.extend(differs.map(|d| format!("{} [{from}..{to}]: {d}", case.name)));
                    }
                    assert_eq!(outputs.len(), case.outputs.len(), "{}", case.name);
                }
            }
        }
    }
    assert!(cases.len() > 100);
    assert!(wrong.is_empty(), "{} wrong:\n{}", wrong.len(), wrong.join("\n"));
}
