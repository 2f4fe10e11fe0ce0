//! The inference API's replies are what its OpenAPI document says.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::http::{Client, Reply};
use crate::program::serve;
use crate::schema;

const ROW: &str = r#"{"instances": [[8, 39.25, 289.75, 24, 1, 1, 2.5, 3, 1, 4, 0, 29]]}"#;
const BOTH: &str = r#"{"instances": [[1]], "inputs": [[1]]}"#;
const TENSOR: &str = r#"{"id": "42", "inputs": [{"name": "input", "shape": [1, 12],
    "datatype": "FP32", "data": [8, 39.25, 289.75, 24, 1, 1, 2.5, 3, 1, 4, 0, 29]}],
    "outputs": [{"name": "probabilities"}]}"#;
const BINARY: &str = r#"{"parameters": {"binary_data_output": true}, "inputs": [{"name": "input",
    "shape": [1, 12], "datatype": "FP32", "data": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]}]}"#;

/// Method, path in the document, path, body, status. Right ones and wrong ones.
type Call = (&'static str, &'static str, &'static str, &'static str, u16);

const CALLS: &[Call] = &[
    ("GET", "/", "/", "", 200),
    ("POST", "/", "/", "", 405),
    ("POST", "/predict", "/predict", r#"{"model": "churn"}"#, 400),
    ("POST", "/predict", "/predict", BOTH, 400),
    ("POST", "/predict/{model}", "/predict/churn", ROW, 200),
    ("POST", "/predict/{model}", "/predict/fraud", ROW, 404),
    ("POST", "/predict/{model}", "/predict/a%20b", ROW, 404),
    ("GET", "/predict/{model}", "/predict/churn", "", 405),
    ("GET", "/v2", "/v2", "", 200),
    ("GET", "/v2/openapi.json", "/v2/openapi.json", "", 200),
    ("GET", "/v2/health/live", "/v2/health/live", "", 200),
    ("GET", "/v2/health/ready", "/v2/health/ready", "", 200),
    ("GET", "/v2/models/{model}", "/v2/models/churn", "", 200),
    ("GET", "/v2/models/{model}", "/v2/models/fraud", "", 404),
    ("GET", VERSION, "/v2/models/digits/versions/1", "", 200),
    ("GET", VERSION, "/v2/models/churn/versions/0", "", 400),
    ("GET", "/v2/models/{model}/ready", "/v2/models/churn/ready", "", 200),
    ("GET", "/v2/models/{model}/config", "/v2/models/churn/config", "", 200),
    (
        "GET",
        "/v2/models/{model}/versions/{version}/config",
        "/v2/models/digits/versions/1/config",
        "",
        200,
    ),
    (
        "GET",
        "/v2/models/{model}/versions/{version}/ready",
        "/v2/models/churn/versions/9/ready",
        "",
        404,
    ),
    (
        "GET",
        "/v2/models/{model}/versions/{version}/ready",
        "/v2/models/churn/versions/2/ready",
        "",
        200,
    ),
    ("GET", "/v2/models/stats", "/v2/models/stats", "", 200),
    ("GET", "/v2/models/{model}/stats", "/v2/models/churn/stats", "", 200),
    ("GET", "/v2/models/{model}/stats", "/v2/models/fraud/stats", "", 404),
    (
        "GET",
        "/v2/models/{model}/versions/{version}/stats",
        "/v2/models/churn/versions/2/stats",
        "",
        200,
    ),
    ("POST", "/v2/repository/index", "/v2/repository/index", "", 200),
    ("POST", "/v2/repository/index", "/v2/repository/index", "[]", 400),
    // Nobody may, unless a setting says so.
    ("POST", LOAD, "/v2/repository/models/churn/load", "{}", 403),
    ("POST", LOAD, "/v2/repository/models/churn/load", "{", 400),
    ("POST", UNLOAD, "/v2/repository/models/churn/unload", "", 403),
    ("POST", "/v2/models/{model}/infer", "/v2/models/churn/infer", TENSOR, 200),
    ("POST", "/v2/models/{model}/infer", "/v2/models/churn/infer", BINARY, 200),
    ("POST", "/v2/models/{model}/infer", "/v2/models/churn/infer", "{", 400),
    (
        "POST",
        "/v2/models/{model}/versions/{version}/infer",
        "/v2/models/churn/versions/2/infer",
        TENSOR,
        200,
    ),
    ("POST", "/v1/feedback", "/v1/feedback", LABEL, 200),
    ("POST", "/v1/feedback", "/v1/feedback", "{}", 400),
    ("GET", "/v1/models", "/v1/models", "", 200),
    ("GET", "/v2/models", "/v2/models", "", 200),
    ("GET", "/v1/models/{model}", "/v1/models/churn", "", 200),
    ("GET", "/v1/models/{model}/versions/{version}", "/v1/models/churn/versions/1", "", 200),
    ("GET", "/v1/models/{model}/versions/{version}", "/v1/models/churn/versions/9", "", 404),
    ("GET", "/v1/models/{model}/labels/{label}", "/v1/models/churn/labels/canary", "", 200),
    ("GET", "/v1/models/{model}/labels/{label}", "/v1/models/churn/labels/stable", "", 404),
    ("GET", "/v1/models/{model}/metadata", "/v1/models/digits/metadata", "", 200),
    (
        "GET",
        "/v1/models/{model}/versions/{version}/metadata",
        "/v1/models/churn/versions/1/metadata",
        "",
        200,
    ),
    (
        "GET",
        "/v1/models/{model}/labels/{label}/metadata",
        "/v1/models/churn/labels/champion/metadata",
        "",
        200,
    ),
    ("POST", "/v1/models/{model}:predict", "/v1/models/churn:predict", ROW, 200),
    (
        "POST",
        "/v1/models/{model}:predict",
        "/v1/models/churn:predict",
        r#"{"instances": [[1]]}"#,
        400,
    ),
    (
        "POST",
        "/v1/models/{model}/versions/{version}:predict",
        "/v1/models/churn/versions/2:predict",
        ROW,
        200,
    ),
    (
        "POST",
        "/v1/models/{model}/labels/{label}:predict",
        "/v1/models/churn/labels/canary:predict",
        ROW,
        200,
    ),
    (
        "POST",
        "/v1/models/{model}/labels/{label}:predict",
        "/v1/models/digits/labels/champion:predict",
        ROW,
        403,
    ),
];
const VERSION: &str = "/v2/models/{model}/versions/{version}";
const LABEL: &str = r#"{"prediction_id": "0123456789abcdef0123456789abcdef", "label": 1}"#;
const LOAD: &str = "/v2/repository/models/{model}/load";
const UNLOAD: &str = "/v2/repository/models/{model}/unload";

#[test]
fn every_reply_is_as_the_document_says() {
    let state = tempfile::tempdir().unwrap();
    let samples = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/models"));
    let mut program = serve(samples, state.path(), &[]);
    program.line("Try:");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut client = Client::connect(program.inference).await;
        let document = client.get("/v2/openapi.json").await.json();
        let mut called = BTreeSet::new();
        for (method, template, path, body, status) in CALLS.iter().copied() {
            // So that every header that a reply may have is there.
            let asks = [("x-foreshadow-anomaly", "1")];
            let reply = client.send(method, path, &asks, body).await;
            let at = format!("{method} {path} {body}: {} {}", reply.status, reply.text());
            assert_eq!(reply.status, status, "{at}");
            let item = document["paths"][template].as_object().unwrap_or_else(|| panic!("{at}"));
            let (documented, operation) = item.iter().next().unwrap();
            called.insert((template.to_owned(), documented.clone()));
            check(&document, operation, &reply, &at);
        }
        let paths = document["paths"].as_object().unwrap().iter();
        let documented = paths.flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(move |method| (path.clone(), method.clone()))
        });
        assert_eq!(called, documented.collect(), "every operation is tried");
    });
}

/// Fails where a reply is not documented, or not as it is documented.
fn check(document: &Value, operation: &Value, reply: &Reply, at: &str) {
    let response = &operation["responses"][reply.status.to_string()];
    assert!(response.is_object(), "not documented: {at}");
    let kind = reply.header("content-type");
    let content = &response["content"][kind];
    assert!(content.is_object(), "not documented as {kind}: {at}");
    for name in response["headers"].as_object().into_iter().flat_map(|headers| headers.keys()) {
        // The length of the JSON part is there if there is another part.
        let binary = name == "Inference-Header-Content-Length" && kind == "application/json";
        assert!(binary || !reply.header(name).is_empty(), "{name} is missing: {at}");
    }
    if kind != "application/json" {
        return;
    }
    if let Err(why) = schema::check(document, &content["schema"], &reply.json()) {
        panic!("{why}\n{at}");
    }
}

#[test]
fn what_does_not_fit_is_told_apart() {
    let document = foreshadow::protocol::document().to_json().unwrap();
    let document: Value = serde_json::from_str(&document).unwrap();
    for (name, value, fits) in [
        ("V1PredictReply", json!({"predictions": [[1.5, "a", null], {"b64": "aGk="}]}), true),
        ("V1PredictReply", json!({"outputs": {"x": [true]}}), true),
        ("V1PredictReply", json!({"predictions": [1], "outputs": [1]}), false),
        ("V1PredictReply", json!({"predictions": 1}), false),
        ("PredictRequest", json!({"instances": [1], "version": "2", "customer_id": 7}), true),
        ("PredictRequest", json!({"instances": []}), false),
        ("PredictRequest", json!({"instances": [1], "inputs": [1]}), false),
        ("PredictRequest", json!({"instances": [null]}), false),
        ("PredictRequest", json!({"instances": [1], "model": null}), false),
        (
            "InferRequest",
            json!({"inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [[1]]}]}),
            true,
        ),
        (
            "InferRequest",
            json!({"inputs": [{"name": "x", "shape": [0], "datatype": "FP32"}]}),
            false,
        ),
        (
            "InferRequest",
            json!({"inputs": [{"name": "x", "shape": [1], "datatype": "FP8"}]}),
            false,
        ),
        ("Failure", json!({"error": "no"}), true),
        ("Failure", json!({"error": ""}), false),
        ("Failure", json!({}), false),
    ] {
        let schema = json!({ "$ref": format!("#/components/schemas/{name}") });
        let checked = schema::check(&document, &schema, &value);
        assert_eq!(checked.is_ok(), fits, "{name} {value}: {checked:?}");
    }
}
