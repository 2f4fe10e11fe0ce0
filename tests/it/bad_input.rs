//! Bad input over a real socket: a clear error, and the next request is fine.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::gateway::{Gateway, HANG, start, start_with};
use crate::http::Client;

fn block_on<T>(f: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(f)
}

/// Sends bytes as they are; what comes back until the server closes.
async fn raw(gateway: &Gateway, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(gateway.app.inference_address()).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut reply = Vec::new();
    let read = stream.read_to_end(&mut reply);
    tokio::time::timeout(HANG, read).await.expect("the server closes").unwrap();
    String::from_utf8_lossy(&reply).into_owned()
}

#[test]
fn every_wrong_body_is_told_what_is_wrong_with_it() {
    let infer = "/v2/models/m/infer";
    let cases: &[(&str, &str, u16, &[&str])] = &[
        ("/predict/m", "", 400, &["body is empty", "JSON object"]),
        ("/predict/m", "{\"instances\": [[1],\n [2]", 400, &["line 2 column"]),
        ("/predict/m", r#"{"instances": [[NaN]]}"#, 400, &["NaN", "line 1 column 1"]),
        ("/predict/m", r#"{"instances": [[1e999]]}"#, 400, &["1e999", "FP32"]),
        ("/predict/m", r#"{"instances": [[1], [1, 2]]}"#, 400, &["\"x\"", "[-1, 1]", "instance 1"]),
        ("/predict/m", r#"{"instances": [["one"]]}"#, 400, &["instance 0", "FP32"]),
        ("/predict/m", r#"{"instances": []}"#, 400, &["instances"]),
        ("/predict/m", r#"{"rows": [[1]]}"#, 400, &["rows", "instances"]),
        ("/predict/m", r#"{"instances": [{"z": 1}]}"#, 400, &["z"]),
        ("/predict/nobody", r#"{"instances": [[1]]}"#, 404, &["nobody", "m"]),
        ("/predict", r#"{"model": "nobody", "instances": [[1]]}"#, 404, &["nobody"]),
        ("/predict/m", r#"{"version": 9, "instances": [[1]]}"#, 404, &["9", "1"]),
        ("/nowhere", "{}", 404, &["/nowhere", "/v2/openapi.json"]),
        (infer, r#"{"inputs": []}"#, 400, &["\"x\" is missing"]),
        (
            infer,
            r#"{"inputs": [{"name": "z", "shape": [1, 1], "datatype": "FP32", "data": [1]}]}"#,
            400,
            &["\"x\"", "\"z\""],
        ),
        (
            infer,
            r#"{"inputs": [{"name": "x", "shape": [1, 1], "datatype": "INT64", "data": [1]}]}"#,
            400,
            &["\"x\"", "FP32", "INT64"],
        ),
        (
            infer,
            r#"{"inputs": [{"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2, 3]}]}"#,
            400,
            &["\"x\"", "expected shape [-1, 1], got [1, 3]"],
        ),
        (
            infer,
            r#"{"inputs": [{"name": "x", "shape": [2, 1], "datatype": "FP32", "data": [1]}]}"#,
            400,
            &["\"x\"", "2", "1"],
        ),
        ("/v2/models/m/versions/zero/infer", "{}", 400, &["zero"]),
    ];
    let gateway = start("", &["answers 1"]);
    block_on(async {
        let mut client = Client::connect(gateway.app.inference_address()).await;
        for (path, body, status, expected) in cases {
            let message = client.post(path, *body).await.error(*status);
            for part in *expected {
                assert!(message.contains(part), "{path} {body}: {part:?} is not in {message:?}");
            }
            let fine = client.post("/predict/m", r#"{"instances": [[1]]}"#).await;
            assert_eq!(fine.status, 200, "after {path} {body}: {}", fine.text());
        }
    });
    gateway.app.stop();
}

#[test]
fn a_wrong_method_is_told_the_right_one() {
    let gateway = start("", &["answers 1"]);
    block_on(async {
        let mut client = Client::connect(gateway.app.inference_address()).await;
        let reply = client.get("/predict/m").await;
        assert_eq!((reply.status, reply.header("allow")), (405, "POST"));
        assert!(reply.error(405).contains("POST"));
        let reply = client.send("PATCH", "/v2/health/live", &[], "").await;
        assert_eq!(reply.status, 405);
    });
    gateway.app.stop();
}

#[test]
fn bodies_over_the_limit_are_refused_with_and_without_a_length() {
    let gateway = start_with("", &["answers 1"], &[("server.body_max", "1KiB")]);
    block_on(async {
        let mut client = Client::connect(gateway.app.inference_address()).await;
        let message = client.post("/predict/m", vec![b' '; 2000]).await.error(413);
        assert!(
            message.contains("1024") || message.contains("1KiB") || message.contains("1 KiB"),
            "{message}"
        );
        let head = "POST /predict/m HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunk = format!("{:x}\r\n{}\r\n", 600, " ".repeat(600));
        let body = format!("{head}{chunk}{chunk}0\r\n\r\n");
        let reply = raw(&gateway, body.as_bytes()).await;
        assert!(reply.starts_with("HTTP/1.1 413"), "{reply}");
    });
    gateway.app.stop();
}

#[test]
fn too_many_headers_and_broken_requests_are_refused() {
    let gateway = start_with("", &["answers 1"], &[("server.headers_max", "20")]);
    block_on(async {
        let many: String = (0..50).map(|i| format!("X-{i}: 1\r\n")).collect();
        let request = format!("GET /v2 HTTP/1.1\r\nHost: x\r\n{many}\r\n");
        let reply = raw(&gateway, request.as_bytes()).await;
        assert!(reply.starts_with("HTTP/1.1 431"), "{reply}");
        let reply = raw(&gateway, b"this is not HTTP\r\n\r\n").await;
        assert!(reply.starts_with("HTTP/1.1 400"), "{reply}");
    });
    gateway.app.stop();
}

#[test]
fn a_slow_client_is_not_waited_for_for_ever() {
    let timeouts = [("server.header_timeout", "50ms"), ("server.body_timeout", "50ms")];
    let gateway = start_with("", &["answers 1"], &timeouts);
    block_on(async {
        // Half a head: closed. Half a body: told so.
        raw(&gateway, b"POST /predict/m HTTP/1.1\r\nHost: x\r\n").await;
        let half = b"POST /predict/m HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{";
        let reply = raw(&gateway, half).await;
        assert!(reply.starts_with("HTTP/1.1 408"), "{reply}");
        let mut client = Client::connect(gateway.app.inference_address()).await;
        assert_eq!(client.post("/predict/m", r#"{"instances": [[1]]}"#).await.status, 200);
    });
    gateway.app.stop();
}

#[test]
fn ids_and_headers_come_back() {
    let gateway = start("", &["answers 1"]);
    block_on(async {
        let mut client = Client::connect(gateway.app.inference_address()).await;
        let body = r#"{"instances": [[1]]}"#;
        let kept = client.send("POST", "/predict/m", &[("x-request-id", "abc-1")], body).await;
        assert_eq!(kept.header("x-request-id"), "abc-1");
        let made = client.post("/predict/m", body).await;
        assert!(!made.header("x-request-id").is_empty());
        assert_ne!(kept.json()["prediction_id"], made.json()["prediction_id"]);
        assert_eq!(made.header("x-prediction-id"), made.json()["prediction_id"].as_str().unwrap());
        let failed = client.send("POST", "/predict/m", &[("x-request-id", "abc-2")], "{").await;
        assert_eq!((failed.status, failed.header("x-request-id")), (400, "abc-2"));
    });
    gateway.app.stop();
}

#[test]
fn what_is_in_flight_is_finished_and_readiness_goes_off() {
    let gateway =
        start_with("", &["sleeps"], &[("server.grace", "60s"), ("execution.inline_max", "0s")]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let address = gateway.app.inference_address();
    let asked = runtime.spawn(async move {
        let mut client = Client::connect(address).await;
        client.post("/predict/m", r#"{"instances": [[1]]}"#).await.status
    });
    gateway.engine.wait_until_run();
    let (engine, readiness) = (gateway.engine.clone(), gateway.app.readiness().clone());
    let stopping = std::thread::spawn(move || gateway.app.stop());
    while readiness.as_str() != "draining" {
        std::thread::yield_now();
    }
    engine.gate.open();
    assert_eq!(runtime.block_on(asked).unwrap(), 200);
    stopping.join().unwrap();
    let refused = runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(5), TcpStream::connect(address)).await
    });
    assert!(!matches!(refused, Ok(Ok(_))), "it still listens");
}
