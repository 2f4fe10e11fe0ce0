//! The admin API's replies are what its OpenAPI document says.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

use crate::http::Client;
use crate::program::serve;

const ROW: &str = r#"{"instances": [[8, 39.25, 289.75, 24, 1, 1, 2.5, 3, 1, 4, 0, 29]]}"#;

/// Method, path in the document, path, body. Right ones and wrong ones.
const CALLS: &[(&str, &str, &str, &str)] = &[
    ("GET", "/", "/", ""),
    ("GET", "/healthz", "/healthz", ""),
    ("GET", "/metrics", "/metrics", ""),
    ("GET", "/v1/models", "/v1/models", ""),
    ("GET", "/v1/models/{model}", "/v1/models/churn", ""),
    ("GET", "/v1/models/{model}", "/v1/models/fraud", ""),
    ("GET", "/v1/models/{model}", "/v1/models/a%20b", ""),
    ("GET", "/v1/models/{model}/compare", "/v1/models/churn/compare", ""),
    ("GET", "/v1/models/{model}/anomalies", "/v1/models/churn/anomalies", ""),
    ("GET", "/v1/models/{model}/anomalies", "/v1/models/fraud/anomalies", ""),
    ("GET", "/v1/models/{model}/drift", "/v1/models/churn/drift", ""),
    ("GET", "/v1/models/{model}/drift", "/v1/models/fraud/drift", ""),
    ("POST", RELEARN, "/v1/models/churn/drift/relearn", r#"{"version": 1}"#),
    ("POST", RELEARN, "/v1/models/churn/drift/relearn", r#"{"version": 9}"#),
    ("GET", "/v1/alerts", "/v1/alerts", ""),
    ("GET", "/v1/alerts", "/v1/alerts?state=firing", ""),
    ("GET", "/v1/alerts", "/v1/alerts?state=loud", ""),
    ("GET", "/v1/models/{model}/quality", "/v1/models/churn/quality?days=30", ""),
    ("GET", "/v1/models/{model}/quality", "/v1/models/churn/quality?days=0", ""),
    ("GET", "/v1/models/{model}/quality", "/v1/models/fraud/quality", ""),
    ("GET", ANSWERS, "/v1/models/churn/answers?labelled=false&limit=7", ""),
    ("GET", ANSWERS, "/v1/models/churn/answers?after=1000000", ""),
    ("GET", ANSWERS, "/v1/models/churn/answers?limit=0", ""),
    ("GET", ANSWERS, "/v1/models/churn/answers?after=-1", ""),
    ("GET", ANSWERS, "/v1/models/fraud/answers", ""),
    ("GET", "/v1/models/{model}/capture", "/v1/models/churn/capture", ""),
    ("GET", "/v1/models/{model}/capture", "/v1/models/fraud/capture", ""),
    ("GET", DISAGREEMENTS, "/v1/models/churn/shadows/3/disagreements", ""),
    ("GET", DISAGREEMENTS, "/v1/models/churn/shadows/2/disagreements", ""),
    ("PUT", CANARY, "/v1/models/churn/canary", r#"{"version": 2, "weight": "5%"}"#),
    ("PUT", CANARY, "/v1/models/churn/canary", r#"{"version": 1, "weight": "5%"}"#),
    ("PUT", CANARY, "/v1/models/churn/canary", r#"{"version": 2"#),
    ("PUT", SHADOW, "/v1/models/churn/shadows/3", r#"{"sample": "50%"}"#),
    ("DELETE", SHADOW, "/v1/models/churn/shadows/1", ""),
    ("DELETE", SHADOW, "/v1/models/churn/shadows/3", ""),
    ("DELETE", CANARY, "/v1/models/churn/canary", ""),
    ("POST", "/v1/models/{model}/promote", "/v1/models/churn/promote", r#"{"version": 2}"#),
    ("POST", "/v1/models/{model}/rollback", "/v1/models/churn/rollback", ""),
    ("POST", "/v1/models/{model}/rollback", "/v1/models/churn/rollback", r#"{"entry": 4}"#),
    ("POST", "/v1/models/{model}/rollback", "/v1/models/churn/rollback", r#"{"entry": 999}"#),
    ("GET", ROLLOUT, "/v1/models/churn/rollout", ""),
    ("POST", PLAN, "/v1/models/churn/rollout/plan", r#"{"version": 2}"#),
    ("POST", ROLLOUT, "/v1/models/churn/rollout", APPROVED),
    ("POST", ROLLOUT, "/v1/models/churn/rollout", r#"{"version": 2, "overrides": {"max": 1}}"#),
    ("POST", STEP.0, "/v1/models/churn/rollout/pause", r#"{"actor": "eve"}"#),
    ("POST", STEP.1, "/v1/models/churn/rollout/resume", ""),
    ("POST", STEP.2, "/v1/models/churn/rollout/skip", r#"{"reason": "no traffic"}"#),
    ("POST", STEP.3, "/v1/models/churn/rollout/comments", r#"{"text": "fine"}"#),
    ("POST", STEP.4, "/v1/models/churn/rollout/approve", r#"{"actor": "eve"}"#),
    ("POST", STEP.4, "/v1/models/churn/rollout/approve", r#"{"actor": "ann"}"#),
    ("POST", STEP.5, "/v1/models/churn/rollout/promote", r#"{"reason": "no traffic"}"#),
    ("GET", ROLLOUT, "/v1/models/churn/rollout", ""),
    ("POST", STEP.6, "/v1/models/churn/rollout/abort", ""),
    ("GET", "/v1/models/{model}/rollouts", "/v1/models/churn/rollouts", ""),
    ("GET", "/v1/rollouts/{id}/replay", "/v1/rollouts/1/replay", ""),
    ("GET", "/v1/models/{model}/history", "/v1/models/churn/history", ""),
    ("GET", "/v1/events", "/v1/events?after=0&follow=false", ""),
    ("GET", "/v1/events", "/v1/events?after=-1", ""),
    ("POST", "/v1/tokens", "/v1/tokens", r#"{"name": "eve", "role": "viewer", "expires": "1d"}"#),
    ("POST", "/v1/tokens", "/v1/tokens", r#"{"name": "eve", "role": "admin"}"#),
    ("POST", "/v1/tokens", "/v1/tokens", r#"{"name": "e e", "role": "admin"}"#),
    ("GET", "/v1/tokens", "/v1/tokens", ""),
    ("DELETE", "/v1/tokens/{name}", "/v1/tokens/eve", ""),
    ("DELETE", "/v1/tokens/{name}", "/v1/tokens/eve", ""),
];
const ROLLOUT: &str = "/v1/models/{model}/rollout";
const PLAN: &str = "/v1/models/{model}/rollout/plan";
const APPROVED: &str = r#"{"version": 2, "actor": "eve", "overrides": {"approval": true}}"#;
/// What may be asked of a rollout.
const STEP: (&str, &str, &str, &str, &str, &str, &str) = (
    "/v1/models/{model}/rollout/pause",
    "/v1/models/{model}/rollout/resume",
    "/v1/models/{model}/rollout/skip",
    "/v1/models/{model}/rollout/comments",
    "/v1/models/{model}/rollout/approve",
    "/v1/models/{model}/rollout/promote",
    "/v1/models/{model}/rollout/abort",
);
const RELEARN: &str = "/v1/models/{model}/drift/relearn";
const ANSWERS: &str = "/v1/models/{model}/answers";
const CANARY: &str = "/v1/models/{model}/canary";
const SHADOW: &str = "/v1/models/{model}/shadows/{version}";
const DISAGREEMENTS: &str = "/v1/models/{model}/shadows/{version}/disagreements";

#[test]
fn every_reply_is_as_the_document_says() {
    let state = tempfile::tempdir().unwrap();
    let samples = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/models"));
    let mut program = serve(samples, state.path(), &[]);
    program.line("Try:");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut inference = Client::connect(program.inference).await;
        for _ in 0..50 {
            assert_eq!(inference.post("/predict/churn", ROW).await.status, 200);
        }
        let mut admin = Client::connect(program.admin).await;
        let document = admin.get("/v1/openapi.json").await.json();
        let mut called = BTreeSet::new();
        let history = ("GET", "/v1/history", "/v1/history?limit=0", "");
        let whole = ("GET", "/v1/history", "/v1/history", "");
        for (method, template, path, body) in CALLS.iter().copied().chain([history, whole]) {
            let reply = admin.send(method, path, &[], body).await;
            let operation = &document["paths"][template][method.to_lowercase()];
            called.insert((template, method.to_lowercase()));
            let documented = &operation["responses"];
            let response = match &documented[reply.status.to_string()] {
                Value::Null => &documented["default"],
                response => response,
            };
            let at = format!("{method} {path} ({})", reply.status);
            let kind = reply.header("content-type").split(';').next().unwrap();
            let schema = &response["content"][kind]["schema"];
            assert!(schema.is_object(), "{at} is not documented as {kind}: {response:#}");
            if kind == "application/json" {
                check(&document, schema, &reply.json(), &at);
            }
        }
        let documented = document["paths"].as_object().unwrap().iter().flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(move |method| (path.as_str(), method.clone()))
        });
        assert_eq!(called, documented.collect(), "every operation is tried");
    });
}

/// Fails where a value has not the type, lacks a required key, or has a key
/// that the schema does not name.
fn check(document: &Value, schema: &Value, value: &Value, at: &str) {
    let schema = resolve(document, schema);
    if let Some(options) = schema["oneOf"].as_array() {
        // The only choice that the document has is between null and a type.
        let is_null = |option: &&Value| option["type"] == "null";
        let fits = options.iter().find(|option| is_null(option) == value.is_null());
        return check(document, fits.unwrap_or_else(|| panic!("{at}: {value}")), value, at);
    }
    if let Some(types) = Some(&schema["type"]).filter(|types| !types.is_null()) {
        let allowed = types.as_array().map_or_else(|| vec![types], |types| types.iter().collect());
        let found = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) => "array",
            Value::Object(_) => "object",
        };
        let fits = |name: &&Value| **name == found || found == "integer" && **name == "number";
        assert!(allowed.iter().any(fits), "{at}: {value} is no {types}");
    }
    if let Some(choices) = schema["enum"].as_array() {
        assert!(choices.contains(value), "{at}: {value} is none of {choices:?}");
    }
    if let Some(values) = value.as_array() {
        values.iter().for_each(|item| check(document, &schema["items"], item, at));
    }
    if let Some(fields) = value.as_object() {
        check_fields(document, schema, fields, at);
    }
}

fn check_fields(
    document: &Value,
    schema: &Value,
    fields: &serde_json::Map<String, Value>,
    at: &str,
) {
    let parts = parts(document, schema);
    for part in &parts {
        for name in part["required"].as_array().into_iter().flatten() {
            assert!(fields.contains_key(name.as_str().unwrap()), "{at}: lacks {name}");
        }
    }
    for (name, value) in fields {
        let known = parts.iter().find_map(|part| {
            let named = part["properties"].get(name);
            named.or_else(|| part.get("additionalProperties"))
        });
        let at = format!("{at}.{name}");
        let known = known.unwrap_or_else(|| panic!("{at} is not documented"));
        check(document, known, value, &at);
    }
}

/// A schema, or all of which it is made.
fn parts<'a>(document: &'a Value, schema: &'a Value) -> Vec<&'a Value> {
    let schema = resolve(document, schema);
    match schema["allOf"].as_array() {
        Some(all) => all.iter().flat_map(|part| parts(document, part)).collect(),
        None => vec![schema],
    }
}

fn resolve<'a>(document: &'a Value, schema: &'a Value) -> &'a Value {
    let Some(reference) = schema["$ref"].as_str() else { return schema };
    document
        .pointer(&reference[1..])
        .unwrap_or_else(|| panic!("{reference} is not in the document"))
}
