//! ModelStreamInfer.

use tokio::sync::mpsc;
use tonic::Code;
use tonic::codegen::tokio_stream::wrappers::ReceiverStream;

use super::{QUEUED, connect, numbers, pb, rows, runtime, with};
use crate::gateway::{start, start_with};

fn named(id: &str, x: f32) -> pb::ModelInferRequest {
    pb::ModelInferRequest { id: id.to_owned(), ..rows(&[x]) }
}

#[test]
fn a_conversation_goes_on_after_an_error() {
    let gateway = start("", &["doubles"]);
    runtime().block_on(async {
        let mut client = connect(&gateway).await;
        let (send, requests) = mpsc::channel(1);
        let replies = client.model_stream_infer(ReceiverStream::new(requests)).await.unwrap();
        let mut replies = replies.into_inner();
        // Each is answered before the next is sent.
        for i in 0..100_u8 {
            send.send(named(&i.to_string(), f32::from(i))).await.unwrap();
            let reply = replies.message().await.unwrap().unwrap();
            let answer = reply.infer_response.unwrap();
            assert_eq!(answer.id, i.to_string());
            if i == 7 {
                assert!(reply.error_message.contains("x is 7"), "{}", reply.error_message);
                continue;
            }
            assert_eq!(reply.error_message, "");
            assert_eq!(numbers(&answer), [f32::from(i) * 2.0]);
        }
        drop(send);
        assert!(replies.message().await.unwrap().is_none());
    });
    gateway.app.stop();
}

#[test]
fn answers_keep_the_order_and_requests_their_limit() {
    let settings: Vec<_> = QUEUED.into_iter().chain([("grpc.stream_requests_max", "4")]).collect();
    let gateway = start_with("[batching]\nenabled = false\n", &["doubles"], &settings);
    runtime().block_on(async {
        let mut client = connect(&gateway).await;
        let (send, requests) = mpsc::channel(64);
        send.send(named("first", 100.0)).await.unwrap();
        for i in 0..20_u8 {
            send.send(named(&i.to_string(), f32::from(20 + i))).await.unwrap();
        }
        drop(send);
        let replies = client.model_stream_infer(ReceiverStream::new(requests)).await.unwrap();
        let mut replies = replies.into_inner();
        // One runs, three wait, and the rest is not read.
        gateway.wait_for_metric(r#"foreshadow_queue_rows{model="m",version="1"} 3"#).await;
        gateway.engine.gate.open();
        let mut ids = Vec::new();
        while let Some(reply) = replies.message().await.unwrap() {
            assert_eq!(reply.error_message, "");
            ids.push(reply.infer_response.unwrap().id);
        }
        let expected: Vec<String> =
            std::iter::once("first".to_owned()).chain((0..20).map(|i: u8| i.to_string())).collect();
        assert_eq!(ids, expected);
    });
    gateway.app.stop();
}

#[test]
fn a_stream_that_is_left_runs_nothing_more() {
    let gateway = start_with("", &["doubles"], &QUEUED);
    runtime().block_on(async {
        let held = super::hold(&gateway).await;
        let mut client = connect(&gateway).await;
        let (send, requests) = mpsc::channel(4);
        let replies = client.model_stream_infer(ReceiverStream::new(requests)).await.unwrap();
        send.send(named("a", 1.0)).await.unwrap();
        send.send(named("b", 2.0)).await.unwrap();
        gateway.wait_for_metric(r#"foreshadow_queue_rows{model="m",version="1"} 2"#).await;
        drop((send, replies));
        let left = r#"foreshadow_queue_left_total{model="m",reason="cancelled",version="1"} 2"#;
        gateway.wait_for_metric(left).await;
        gateway.engine.gate.open();
        assert_eq!(held.await.unwrap(), [200.0]);
    });
    gateway.app.stop();
}

#[test]
fn the_time_of_a_stream_ends_it() {
    let gateway = start_with("", &["doubles"], &QUEUED);
    runtime().block_on(async {
        let mut client = connect(&gateway).await;
        let (send, requests) = mpsc::channel(4);
        let requests = with(ReceiverStream::new(requests), &[("grpc-timeout", "50m")]);
        let mut replies = client.model_stream_infer(requests).await.unwrap().into_inner();
        // Idle, or busy with what does not end: both.
        send.send(named("a", 100.0)).await.unwrap();
        let status = loop {
            match replies.message().await {
                Ok(Some(_)) => {}
                Ok(None) => panic!("a stream whose time is over ended well"),
                Err(status) => break status,
            }
        };
        assert_eq!(status.code(), Code::DeadlineExceeded, "{status:?}");
        gateway.engine.gate.open();
    });
    gateway.app.stop();
}
