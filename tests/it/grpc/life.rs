//! The end of the process, and of connections.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tonic::Code;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;

use super::{QUEUED, connect, numbers, pb, rows, runtime};
use crate::gateway::{HANG, start, start_with};

#[test]
fn what_is_in_flight_is_finished_and_streams_end() {
    let settings: Vec<_> = QUEUED.into_iter().chain([("server.grace", "60s")]).collect();
    let gateway = start_with("", &["sleeps"], &settings);
    let runtime = runtime();
    let address = gateway.app.grpc_address().unwrap();
    let (mut client, mut streaming) =
        runtime.block_on(async { (connect(&gateway).await, connect(&gateway).await) });
    let (send, requests) = mpsc::channel(4);
    // Two that run, and an idle stream.
    let asked = runtime.spawn(async move {
        numbers(&client.model_infer(rows(&[1.0])).await.unwrap().into_inner())
    });
    gateway.engine.wait_until_run();
    let stream = runtime.block_on(async {
        let replies = streaming.model_stream_infer(ReceiverStream::new(requests)).await;
        replies.unwrap().into_inner()
    });
    runtime.block_on(send.send(rows(&[1.0]))).unwrap();
    let (engine, readiness) = (gateway.engine.clone(), gateway.app.readiness().clone());
    let line = r#"foreshadow_queue_rows{model="m",version="1"} 1"#;
    runtime.block_on(gateway.wait_for_metric(line));
    let stopping = std::thread::spawn(move || gateway.app.stop());
    while readiness.as_str() != "draining" {
        std::thread::yield_now();
    }
    engine.gate.open();
    assert_eq!(runtime.block_on(asked).unwrap(), [1.0]);
    let mut stream = stream;
    runtime.block_on(async {
        let answer = stream.message().await.unwrap().unwrap();
        assert_eq!(numbers(&answer.infer_response.unwrap()), [1.0]);
        let status = stream.message().await.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    });
    stopping.join().unwrap();
    let again = runtime.block_on(TcpStream::connect(address));
    assert!(again.is_err(), "it still listens");
    drop(send);
}

#[test]
fn an_old_connection_is_replaced_and_nothing_fails() {
    let gateway = start_with("", &["answers 1"], &[("grpc.connection_age_max", "30ms")]);
    runtime().block_on(async {
        let mut client = connect(&gateway).await;
        // Idle: it goes, and the next request makes a new one.
        for _ in 0..3 {
            let reply = client.model_infer(rows(&[1.0])).await.unwrap();
            assert_eq!(numbers(&reply.into_inner()), [1.0]);
            gateway.wait_for_metric("foreshadow_connections 0").await;
        }
    });
    gateway.app.stop();
}

#[test]
fn a_stream_on_an_old_connection_has_its_grace() {
    let settings = [("grpc.connection_age_max", "20ms"), ("grpc.connection_age_grace", "50ms")];
    let gateway = start_with("", &["answers 1"], &settings);
    runtime().block_on(async {
        let mut client = connect(&gateway).await;
        let (send, requests) = mpsc::channel::<pb::ModelInferRequest>(4);
        let replies = client.model_stream_infer(ReceiverStream::new(requests)).await.unwrap();
        let mut replies = replies.into_inner();
        send.send(rows(&[1.0])).await.unwrap();
        assert!(replies.message().await.unwrap().is_some());
        assert!(replies.message().await.is_err(), "cut off after its grace");
    });
    gateway.app.stop();
}

/// The first frames of a client: its preface and empty settings.
const HELLO: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[test]
fn who_is_silent_or_gone_is_closed() {
    let settings = [
        ("server.header_timeout", "50ms"),
        ("grpc.keepalive_interval", "50ms"),
        ("grpc.keepalive_timeout", "50ms"),
    ];
    let gateway = start_with("", &["answers 1"], &settings);
    runtime().block_on(async {
        // Who answers pings stays.
        let mut client = connect(&gateway).await;
        client.model_infer(rows(&[1.0])).await.unwrap();
        for hello in [&b""[..], b"PRI *", HELLO, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"] {
            let address = gateway.app.grpc_address().unwrap();
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(hello).await.unwrap();
            // Pings come, and have no answer.
            let mut all = Vec::new();
            let end = tokio::time::timeout(HANG, stream.read_to_end(&mut all)).await;
            // A reset is an end, too.
            drop(end.expect("the server closes"));
        }
        gateway.wait_for_metric("foreshadow_connections 1").await;
    });
    gateway.app.stop();
}

#[test]
fn it_can_be_turned_off() {
    let gateway = start_with("", &["answers 1"], &[("grpc.listen", "off")]);
    assert_eq!(gateway.app.grpc_address(), None);
    gateway.app.stop();
    let gateway = start("", &["answers 1"]);
    assert!(gateway.app.grpc_address().is_some());
    gateway.app.stop();
}
