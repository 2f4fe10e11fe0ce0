//! The whole API over a manager that takes notes.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{Request, Response, StatusCode, header};
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::admin::testing::{catalog, churn, gateway, history, rollouts, version, view};
use crate::admin::{Access, Events, Tokens};
use crate::golden;
use crate::registry::{Change, Control, Provenance};
use crate::telemetry::Metrics;
use crate::types::{Readiness, Share};

fn request(method: &str, path: &str, body: &str) -> Request<Body> {
    let request = Request::builder().method(method).uri(path).header(header::HOST, "127.0.0.1:1");
    request.body(Body::from(body.to_owned())).unwrap()
}

async fn send(router: &Router, request: Request<Body>) -> Response<Body> {
    router.clone().oneshot(request).await.unwrap()
}

/// Sends a request; status and JSON of the reply.
async fn call(router: &Router, method: &str, path: &str, body: &str) -> (StatusCode, Value) {
    let response = send(router, request(method, path, body)).await;
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let shown = String::from_utf8_lossy(&body);
    (status, serde_json::from_slice(&body).unwrap_or_else(|_| panic!("no JSON: {shown}")))
}

#[test]
fn the_document_is_golden() {
    golden::check("openapi.json", &format!("{}\n", openapi().to_pretty_json().unwrap()));
}

#[tokio::test]
async fn models_comparison_and_history_are_read() {
    let (router, _) = gateway(None).await;
    let (status, list) = call(&router, "GET", "/v1/models", "").await;
    assert_eq!((status, &list["models"][0]["name"]), (StatusCode::OK, &json!("churn")));
    let (_, model) = call(&router, "GET", "/v1/models/churn", "").await;
    assert_eq!(model["plan"]["generation"], 0);
    let (status, compared) = call(&router, "GET", "/v1/models/churn/compare", "").await;
    assert_eq!((status, &compared["champion"]), (StatusCode::OK, &Value::Null));
    let (_, all) = call(&router, "GET", "/v1/history", "").await;
    assert_eq!(all["entries"].as_array().unwrap().len(), 2);
    let (_, mine) = call(&router, "GET", "/v1/models/churn/history?limit=1", "").await;
    assert_eq!(mine["entries"][0]["action"], "promote 2");
    assert_eq!(mine["entries"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn alerts_are_read_by_their_state() {
    let (router, _) = gateway(None).await;
    for path in ["/v1/alerts", "/v1/alerts?state=firing"] {
        let (status, list) = call(&router, "GET", path, "").await;
        let none = json!({"alerts": [], "passed_over": 0, "unrecorded": 0, "dropped": 0});
        assert_eq!((status, list), (StatusCode::OK, none));
    }
    let (status, error) = call(&router, "GET", "/v1/alerts?state=bad", "").await;
    assert_eq!(status, StatusCode::BAD_REQUEST);
    assert!(error["error"].as_str().unwrap().contains("`pending`, `firing`"), "{error}");
}

#[tokio::test]
async fn changes_reach_the_manager_with_who_and_why() {
    let (router, noted) = gateway(None).await;
    let five = "5%".parse::<Share>().unwrap();
    let cases = [
        (
            "PUT",
            "/v1/models/churn/canary",
            r#"{"version": 2, "weight": "5%", "actor": "eve", "reason": "r"}"#,
            Change::SetCanary { version: version(2), weight: five },
        ),
        ("DELETE", "/v1/models/churn/canary?actor=eve&reason=r", "", Change::RemoveCanary),
        (
            "PUT",
            "/v1/models/churn/shadows/3",
            r#"{"sample": "5%", "actor": "eve", "reason": "r"}"#,
            Change::SetShadow { version: version(3), sample: five },
        ),
        (
            "DELETE",
            "/v1/models/churn/shadows/3?actor=eve&reason=r",
            "",
            Change::RemoveShadow { version: version(3) },
        ),
        (
            "POST",
            "/v1/models/churn/promote",
            r#"{"version": 2, "actor": "eve", "reason": "r"}"#,
            Change::Promote { version: version(2) },
        ),
        (
            "POST",
            "/v1/models/churn/rollback",
            r#"{"actor": "eve", "reason": "r"}"#,
            Change::Rollback,
        ),
        (
            "POST",
            "/v1/models/churn/rollback",
            r#"{"entry": null, "actor": "eve", "reason": "r"}"#,
            Change::Rollback,
        ),
        (
            "POST",
            "/v1/models/churn/rollback",
            r#"{"entry": 17.0, "actor": "eve", "reason": "r"}"#,
            Change::Restore { entry: 17 },
        ),
    ];
    let by = Provenance { actor: "eve".into(), reason: Some("r".into()) };
    for (method, path, body, change) in cases {
        let (status, model) = call(&router, method, path, body).await;
        assert_eq!((status, &model["name"]), (StatusCode::OK, &json!("churn")), "{path}: {model}");
        assert_eq!(noted.lock().unwrap().pop(), Some((change, by.clone())), "{path}");
    }
}

#[tokio::test]
async fn a_body_may_be_left_out_where_nothing_in_it_is_required() {
    let (router, noted) = gateway(None).await;
    for (method, path) in
        [("PUT", "/v1/models/churn/shadows/3"), ("POST", "/v1/models/churn/rollback")]
    {
        assert_eq!(call(&router, method, path, "").await.0, StatusCode::OK, "{path}");
    }
    let noted = noted.lock().unwrap();
    assert_eq!(noted[0].0, Change::SetShadow { version: version(3), sample: Share::ALL });
    assert_eq!(noted[1].1, Provenance { actor: "unnamed".into(), reason: None });
}

#[tokio::test]
async fn what_is_wrong_is_told_as_json_and_reaches_nobody() {
    let (router, noted) = gateway(None).await;
    let large = format!("{{\"reason\": \"{}\"}}", "x".repeat(65 * 1024));
    let canary = "/v1/models/churn/canary";
    let cases = [
        ("GET", "/v1/models/fraud", "", 404, "unknown model \"fraud\"; models: churn"),
        ("GET", "/v1/models/fraud/history", "", 404, "unknown model"),
        ("GET", "/v1/models/a%20b", "", 400, "model name"),
        ("GET", "/v1/nothing", "", 404, "no such path: /v1/nothing"),
        ("GET", "/v1/models/churn/promote", "", 405, "does not take GET"),
        ("GET", "/v1/history?limit=0", "", 400, "expected 1 to 1000"),
        ("GET", "/v1/history?limt=5", "", 400, "limt"),
        ("GET", "/v1/models/churn/shadows/3/disagreements", "", 404, "no shadow 3"),
        ("PUT", canary, "", 400, "missing field `version`"),
        ("PUT", canary, "{\"version\": 2,\n \"weight\": 5%}", 400, "line 2 column"),
        ("PUT", canary, r#"{"version": 2, "weigth": "5%"}"#, 400, "unknown field `weigth`"),
        ("PUT", canary, r#"{"version": 2, "weight": "101%"}"#, 400, "0% to 100%"),
        ("PUT", canary, r#"{"version": 0, "weight": "1%"}"#, 400, "whole number from 1"),
        ("PUT", "/v1/models/churn/shadows/03", "", 400, "leading zeros"),
        ("DELETE", "/v1/models/churn/canary?why=x", "", 400, "why"),
        ("POST", "/v1/models/churn/rollback", r#"{"actor": "a\nb"}"#, 400, "control characters"),
        ("POST", "/v1/models/churn/rollback", r#"{"entry": 0}"#, 400, "a whole number from 1"),
        ("POST", "/v1/models/churn/rollback", r#"{"entry": -1}"#, 400, "a whole number from 1"),
        ("POST", "/v1/models/churn/rollback", r#"{"entry": "17"}"#, 400, "number"),
        ("POST", "/v1/models/churn/rollback", &large, 413, "over the limit of 65536 bytes"),
    ];
    for (method, path, body, status, expected) in cases {
        let (got, reply) = call(&router, method, path, body).await;
        assert_eq!(got.as_u16(), status, "{method} {path} {reply}");
        let error = reply["error"].as_str().unwrap();
        assert!(error.contains(expected), "{method} {path}: {expected:?} is not in {error:?}");
    }
    assert_eq!(noted.lock().unwrap().len(), 0);
}

#[tokio::test]
async fn a_wrong_method_is_told_the_right_ones() {
    let (router, _) = gateway(None).await;
    let response = send(&router, request("POST", "/v1/models/churn/canary", "")).await;
    assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(response.headers()[header::ALLOW], "PUT,DELETE");
}

#[tokio::test]
async fn a_refusal_has_the_managers_words() {
    let (router, _) = gateway(None).await;
    let refused = call(&router, "POST", "/v1/models/churn/promote", r#"{"version": 9}"#).await;
    assert_eq!(refused, (StatusCode::CONFLICT, json!({"error": "version 9 is not ready"})));
}

#[tokio::test]
async fn pages_have_their_content_types() {
    let (router, _) = gateway(None).await;
    for (path, kind, part) in [
        ("/", "text/plain; charset=utf-8", "/v1/models/{model}/compare"),
        ("/metrics", "text/plain; version=0.0.4; charset=utf-8", "foreshadow_build_info"),
        ("/healthz", "text/plain; charset=utf-8", "starting"),
        ("/v1/openapi.json", "application/json", "\"openapi\""),
    ] {
        let response = send(&router, request("GET", path, "")).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
        assert_eq!(response.headers()[CONTENT_TYPE], kind, "{path}");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(String::from_utf8_lossy(&body).contains(part), "{path}");
    }
}

#[tokio::test]
async fn the_index_lists_every_route_of_the_document() {
    let (router, _) = gateway(None).await;
    let response = send(&router, request("GET", "/", "")).await;
    let body = response.into_body().collect().await.unwrap().to_bytes();
    let index = String::from_utf8_lossy(&body).into_owned();
    for path in openapi().paths.paths.keys().filter(|path| *path != "/") {
        assert!(index.contains(&format!(" {path}")), "{path} is missing");
    }
}

#[tokio::test]
async fn the_guard_stands_before_every_route_and_before_none() {
    let (router, noted) = gateway(Some("0123456789abcdef")).await;
    let paths = ["/", "/metrics", "/v1/models", "/v1/openapi.json", "/nothing"];
    for path in paths {
        let response = send(&router, request("GET", path, "")).await;
        assert_eq!(response.status(), StatusCode::UNAUTHORIZED, "{path}");
        assert_eq!(response.headers()[header::WWW_AUTHENTICATE], "Bearer", "{path}");
    }
    let (status, _) = call(&router, "POST", "/v1/models/churn/rollback", "").await;
    assert_eq!((status, noted.lock().unwrap().len()), (StatusCode::UNAUTHORIZED, 0));
    let mut shown = request("GET", "/v1/models", "");
    let bearer = "Bearer 0123456789abcdef".parse().unwrap();
    shown.headers_mut().insert(header::AUTHORIZATION, bearer);
    assert_eq!(send(&router, shown).await.status(), StatusCode::OK);
    assert_eq!(send(&router, request("GET", "/healthz", "")).await.status(), StatusCode::OK);
    let mut foreign = request("GET", "/healthz", "");
    foreign.headers_mut().insert(header::HOST, "evil.example".parse().unwrap());
    assert_eq!(send(&router, foreign).await.status(), StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn a_manager_that_is_gone_is_unavailable() {
    let (control, board, commands) =
        Control::channel(catalog(), history().await, tokio::sync::mpsc::channel(1).1);
    board.store(Arc::new(BTreeMap::from([(churn(), Arc::new(view()))])));
    drop(commands);
    let router = router(AdminState {
        rollouts: rollouts(&control).await,
        control,
        monitor: crate::monitor::Monitor::default(),
        quality: crate::monitor::quality::Quality::idle(),
        capture: crate::capture::Capture::nowhere(Arc::new(Metrics::new())),
        metrics: Arc::new(Metrics::new()),
        readiness: Readiness::default(),
        access: Access::new(None, &[]),
        tokens: Arc::new(Tokens::new(history().await)),
        events: Events::new(history().await, tokio::sync::watch::channel(false).1),
    });
    let response = send(&router, request("POST", "/v1/models/churn/rollback", "")).await;
    assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(response.headers()[header::RETRY_AFTER], "1");
}
