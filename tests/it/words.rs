//! A scikit-learn pipeline over a table of words and numbers, through every
//! protocol: strings go in, a label and named probabilities come out.

use std::path::Path;

use serde_json::{Value, json};

use crate::http::{Client, Reply};
use crate::program::{Program, serve};

/// Models and onnxruntime's answers; `make_ml.py` wrote them.
const CASES: &str = include_str!("../data/engine/ml.jsonl");
const CLASSES: [&str; 2] = ["leaves", "stays"];

fn block_on<T>(f: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(f)
}

/// Strings are one-hot encoded, numbers imputed and scaled; unknown strings
/// are errors.
fn case() -> Value {
    let cases = CASES.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    cases.into_iter().find(|case| case["name"] == "pipeline_one_hot_strict_True").unwrap()
}

/// The model as version 1 of `m`.
fn serve_case(case: &Value, folder: &Path) -> Program {
    let hex = case["model"].as_str().unwrap();
    let byte = |i: usize| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap();
    let model = (0..hex.len() / 2).map(byte).collect::<Vec<u8>>();
    let version = folder.join("models/m/1");
    std::fs::create_dir_all(&version).unwrap();
    std::fs::write(version.join("model.onnx"), model).unwrap();
    serve(&folder.join("models"), &folder.join("state"), &[])
}

/// The rows without missing numbers, which JSON does not have.
fn whole_rows(case: &Value) -> Vec<usize> {
    let missing =
        |row: &usize| case["inputs"].as_array().unwrap().iter().any(|t| t["data"][*row].is_null());
    (0..9).filter(|row| !missing(row)).collect()
}

fn row(case: &Value, row: usize) -> Value {
    let inputs = case["inputs"].as_array().unwrap();
    inputs
        .iter()
        .map(|t| (t["name"].as_str().unwrap().to_owned(), t["data"][row].clone()))
        .collect()
}

/// What onnxruntime answered.
fn expected(case: &Value, row: usize) -> (&str, [f64; 2]) {
    let [labels, scores] = [0, 1].map(|i| &case["outputs"][i]["data"]);
    let score = |class: usize| scores[2 * row + class].as_f64().unwrap();
    (labels[row].as_str().unwrap(), [score(0), score(1)])
}

#[track_caller]
fn assert_answer(case: &Value, row: usize, label: &Value, scores: [&Value; 2]) {
    let (expected_label, expected_scores) = expected(case, row);
    assert_eq!(label, expected_label);
    for (got, expected) in scores.into_iter().zip(expected_scores) {
        assert!((got.as_f64().unwrap() - expected).abs() < 1e-6, "{got} {expected}");
    }
}

fn ok(reply: Reply) -> Value {
    assert_eq!(reply.status, 200, "{}", reply.text());
    reply.json()
}

#[test]
fn words_and_numbers_go_in_and_named_probabilities_come_out() {
    let case = case();
    let folder = tempfile::tempdir().unwrap();
    let mut program = serve_case(&case, folder.path());
    let ready = program.line("  m  ");
    assert!(ready.contains("champion 1"), "{ready}");
    block_on(async {
        let mut client = Client::connect(program.inference).await;
        metadata(&mut client).await;
        predict(&mut client, &case).await;
        infer_json(&mut client, &case).await;
        infer_binary(&mut client, &case).await;
    });
    program.signal("TERM");
    assert_eq!(program.wait().0, Some(0));
}

async fn metadata(client: &mut Client) {
    let metadata = ok(client.get("/v2/models/m").await);
    assert_eq!(
        metadata["outputs"][1],
        json!({
            "name": "output_probability", "datatype": "FP32", "shape": [-1, 2],
            "parameters": {"classes": CLASSES},
        })
    );
    assert_eq!(metadata["inputs"][0]["datatype"], "BYTES");
}

async fn predict(client: &mut Client, case: &Value) {
    let rows = whole_rows(case);
    let instances = rows.iter().map(|&i| row(case, i)).collect::<Vec<_>>();
    let body = json!({"instances": instances}).to_string();
    let reply = ok(client.post("/predict/m", body).await);
    for (prediction, &row) in reply["predictions"].as_array().unwrap().iter().zip(&rows) {
        let scores = &prediction["output_probability"];
        assert_eq!(scores.as_object().unwrap().len(), 2);
        let scores = CLASSES.map(|class| &scores[class]);
        assert_answer(case, row, &prediction["output_label"], scores);
    }
    let mut unknown = instances[0].clone();
    unknown["plan"] = json!("gold");
    let body = json!({"instances": [unknown]}).to_string();
    let error = client.post("/predict/m", body).await.error(400);
    assert!(error.ends_with("element 0: unknown category"), "{error}");
}

fn tensor(case: &Value, i: usize, rows: &[usize]) -> Value {
    let input = &case["inputs"][i];
    let data = rows.iter().map(|&row| input["data"][row].clone()).collect::<Vec<_>>();
    json!({"name": input["name"], "datatype": input["datatype"], "shape": [rows.len(), 1], "data": data})
}

async fn infer_json(client: &mut Client, case: &Value) {
    let rows = whole_rows(case);
    let inputs = (0..4).map(|i| tensor(case, i, &rows)).collect::<Vec<_>>();
    let body = json!({"inputs": inputs}).to_string();
    let reply = ok(client.post("/v2/models/m/infer", body).await);
    assert_eq!(reply["outputs"][1]["shape"], json!([rows.len(), 2]));
    let [labels, scores] = [0, 1].map(|i| &reply["outputs"][i]["data"]);
    for (i, &row) in rows.iter().enumerate() {
        assert_answer(case, row, &labels[i], [&scores[2 * i], &scores[2 * i + 1]]);
    }
}

/// Binary tensors may hold NaN: the imputer's part is seen here.
async fn infer_binary(client: &mut Client, case: &Value) {
    let rows = (0..9).collect::<Vec<_>>();
    let mut tail = Vec::new();
    let mut inputs = Vec::new();
    for i in 0..4 {
        let tensor = tensor(case, i, &rows);
        let before = tail.len();
        for value in tensor["data"].as_array().unwrap() {
            match value {
                Value::String(text) => {
                    tail.extend_from_slice(&(text.len() as u32).to_le_bytes());
                    tail.extend_from_slice(text.as_bytes());
                }
                number => {
                    let x = number.as_f64().map_or(f32::NAN, |x| x as f32);
                    tail.extend_from_slice(&x.to_le_bytes());
                }
            }
        }
        let size = tail.len() - before;
        inputs.push(json!({
            "name": tensor["name"], "datatype": tensor["datatype"], "shape": tensor["shape"],
            "parameters": {"binary_data_size": size},
        }));
    }
    let head = json!({"inputs": inputs}).to_string();
    let length = head.len().to_string();
    let headers = [("Inference-Header-Content-Length", length.as_str())];
    let body = [head.into_bytes(), tail].concat();
    let reply = ok(client.send("POST", "/v2/models/m/infer", &headers, body).await);
    let [labels, scores] = [0, 1].map(|i| &reply["outputs"][i]["data"]);
    for row in rows {
        assert_answer(case, row, &labels[row], [&scores[2 * row], &scores[2 * row + 1]]);
    }
}
