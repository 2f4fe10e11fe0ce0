//! ModelInfer: answers, roles, errors, deadlines.

use std::time::Duration;

use foreshadow::registry::Change;
use foreshadow::types::Share;
use tonic::Code;

use super::{
    QUEUED, connect, header, hold, numbers, parameter, pb, refused, rows, runtime, unwatched, with,
};
use crate::gateway::{start, start_with, version};
use crate::http;

#[test]
fn a_request_is_answered_and_the_answer_is_signed() {
    let gateway = start("", &["doubles"]);
    runtime().block_on(async {
        let mut client = connect(&gateway).await;
        let request = pb::ModelInferRequest { id: "42".to_owned(), ..rows(&[1.0, 2.5]) };
        let reply = client.model_infer(with(request, &[("x-request-id", "abc-1")])).await.unwrap();
        for (name, value) in
            [("x-request-id", "abc-1"), ("x-model-version", "1"), ("x-model-role", "champion")]
        {
            assert_eq!(header(&reply, name), value);
        }
        let prediction = header(&reply, "x-prediction-id").to_owned();
        assert_eq!(prediction.len(), 32);
        let reply = reply.into_inner();
        assert_eq!((reply.id.as_str(), reply.model_name.as_str()), ("42", "m"));
        assert_eq!(reply.model_version, "1");
        assert_eq!(parameter(&reply, "prediction_id"), prediction);
        assert_eq!(parameter(&reply, "role"), "champion");
        assert_eq!(reply.outputs[0].shape, [2, 1]);
        assert_eq!(numbers(&reply), [2.0, 5.0]);
        let line =
            r#"foreshadow_requests_total{model="m",outcome="ok",role="champion",version="1"} 1"#;
        gateway.wait_for_metric(line).await;
    });
    gateway.app.stop();
}

/// They are decoded and written on threads of their own.
#[test]
fn large_messages_are_answered_like_small_ones() {
    let gateway = start("", &["doubles"]);
    runtime().block_on(async {
        let mut client = connect(&gateway).await.max_decoding_message_size(usize::MAX);
        let many: Vec<f32> = (0..64_u8).cycle().take(1 << 20).map(|i| f32::from(i) + 0.5).collect();
        let reply = client.model_infer(rows(&many)).await.unwrap().into_inner();
        let doubled: Vec<f32> = many.iter().map(|x| x * 2.0).collect();
        assert!(numbers(&reply) == doubled);
    });
    gateway.app.stop();
}

#[test]
fn a_version_a_key_and_a_role_choose_as_over_rest() {
    let settings = "allow_forced_role = true\n[start]\nchampion = 1\n";
    let gateway = start(settings, &["answers 1", "answers 2"]);
    runtime().block_on(async {
        let half = Share::from_percent(50.0).unwrap();
        gateway.change(Change::SetCanary { version: version(2), weight: half }).await;
        let mut client = connect(&gateway).await;
        let mut rest = http::Client::connect(gateway.app.inference_address()).await;
        let body = r#"{"inputs":[{"name":"x","datatype":"FP32","shape":[1,1],"data":[0]}]}"#;
        let mut roles = std::collections::BTreeSet::new();
        for key in 0..32 {
            let key = format!("customer-{key}");
            let headers = [("x-routing-key", key.as_str())];
            let reply = client.model_infer(with(rows(&[0.0]), &headers)).await.unwrap();
            let same = rest.send("POST", "/v2/models/m/infer", &headers, body).await;
            assert_eq!(header(&reply, "x-model-version"), same.header("x-model-version"), "{key}");
            roles.insert(header(&reply, "x-model-role").to_owned());
        }
        assert_eq!(roles.into_iter().collect::<Vec<_>>(), ["canary", "champion"]);
        let pinned = pb::ModelInferRequest { model_version: "2".to_owned(), ..rows(&[0.0]) };
        let reply = client.model_infer(pinned).await.unwrap();
        assert_eq!(header(&reply, "x-model-role"), "pinned");
        assert_eq!(numbers(&reply.into_inner()), [2.0]);
        let forced = with(rows(&[0.0]), &[("x-foreshadow-role", "canary")]);
        assert_eq!(numbers(&client.model_infer(forced).await.unwrap().into_inner()), [2.0]);
    });
    gateway.app.stop();
}

/// The words are compared with REST's in the protocol's own tests.
#[test]
fn every_bad_request_is_refused_and_the_next_is_fine() {
    let gateway = start("", &["answers 1"]);
    runtime().block_on(async {
        let mut client = connect(&gateway).await;
        let change = |change: &dyn Fn(&mut pb::ModelInferRequest)| {
            let mut request = rows(&[1.0]);
            change(&mut request);
            request
        };
        let contents =
            || Some(pb::InferTensorContents { fp32_contents: vec![1.0], ..Default::default() });
        let output = |name: &str| pb::model_infer_request::InferRequestedOutputTensor {
            name: name.to_owned(),
            ..Default::default()
        };
        let cases = [
            (
                change(&|r| r.raw_input_contents[0] = vec![0; 3].into()),
                Code::InvalidArgument,
                "got 3 bytes",
            ),
            (
                change(&|r| r.raw_input_contents[0] = vec![0; 5].into()),
                Code::InvalidArgument,
                "got 5 bytes",
            ),
            (change(&|r| r.inputs[0].shape = vec![-1, 1]), Code::InvalidArgument, "sizes from 1"),
            (
                change(&|r| r.inputs[0].shape = vec![i64::MAX, i64::MAX]),
                Code::InvalidArgument,
                "too large",
            ),
            (
                change(&|r| r.inputs[0].shape = vec![1; 100_000]),
                Code::InvalidArgument,
                "expected shape [-1, 1]",
            ),
            (
                change(&|r| r.inputs[0].datatype = "BYTES".into()),
                Code::InvalidArgument,
                "expected datatype FP32",
            ),
            (
                change(&|r| r.inputs[0].contents = contents()),
                Code::InvalidArgument,
                "both contents and raw",
            ),
            (change(&|r| r.raw_input_contents.clear()), Code::InvalidArgument, "is missing"),
            (
                change(&|r| r.raw_input_contents.push(vec![0; 4].into())),
                Code::InvalidArgument,
                "2 raw_input_contents",
            ),
            (
                change(&|r| r.inputs.clear()),
                Code::InvalidArgument,
                "1 raw_input_contents for 0 inputs",
            ),
            (
                change(&|r| {
                    r.inputs.push(r.inputs[0].clone());
                    r.raw_input_contents.push(vec![0; 4].into())
                }),
                Code::InvalidArgument,
                "given twice",
            ),
            (change(&|r| r.inputs[0].name = "z".into()), Code::InvalidArgument, "\"z\" is unknown"),
            (change(&|r| r.outputs.push(output("z"))), Code::InvalidArgument, "\"z\" is unknown"),
            (
                change(&|r| {
                    r.parameters.insert("p".into(), pb::InferParameter::default());
                }),
                Code::InvalidArgument,
                "of no known type",
            ),
            (change(&|r| r.model_name = "nobody".into()), Code::NotFound, "nobody"),
            (change(&|r| r.model_version = "9".into()), Code::NotFound, "9"),
            (change(&|r| r.model_version = "zero".into()), Code::InvalidArgument, "zero"),
        ];
        for (request, code, expected) in cases {
            let message = refused(client.model_infer(request).await, code);
            assert!(message.contains(expected), "{expected:?} is not in {message:?}");
            assert_eq!(
                numbers(&client.model_infer(rows(&[1.0])).await.unwrap().into_inner()),
                [1.0]
            );
        }
    });
    gateway.app.stop();
}

#[test]
fn what_a_model_does_wrong_is_told() {
    for (script, expected) in [("errors", "it errors"), ("panics", "it panics")] {
        let gateway = start("", &[script]);
        runtime().block_on(async {
            let mut client = connect(&gateway).await;
            let status = client.model_infer(rows(&[1.0])).await.unwrap_err();
            assert_eq!(status.code(), Code::Internal, "{script}: {status:?}");
            // The details are for the log.
            assert!(!status.message().contains(expected), "{status:?}");
            assert!(!status.message().is_empty());
            assert_eq!(status.metadata().get("x-model-version").unwrap(), "1");
        });
        gateway.app.stop();
    }
}

#[test]
fn deadlines_and_leaving_take_requests_out_of_the_queue() {
    let gateway = start_with("", &["doubles"], &QUEUED);
    runtime().block_on(async {
        let held = hold(&gateway).await;
        let left = |reason: &str, count: usize| {
            format!("foreshadow_queue_left_total{{model=\"m\",reason=\"{reason}\",version=\"1\"}} {count}")
        };
        let waiting = |rows: usize| {
            format!("foreshadow_queue_rows{{model=\"m\",version=\"1\"}} {rows}")
        };
        let mut client = connect(&gateway).await;
        // By grpc-timeout. The client's own timer may be first, but the server's
        // says what became of the request.
        let mut hasty = with(rows(&[1.0]), &[]);
        hasty.set_timeout(Duration::from_millis(30));
        let status = client.model_infer(hasty).await.unwrap_err();
        assert!(matches!(status.code(), Code::DeadlineExceeded | Code::Cancelled), "{status:?}");
        gateway.wait_for_metric(&waiting(0)).await;
        // By the header, and by the parameter.
        let hasty = with(rows(&[1.0]), &[("x-foreshadow-timeout", "30ms")]);
        refused(client.model_infer(hasty).await, Code::DeadlineExceeded);
        let mut hasty = rows(&[1.0]);
        let micros = pb::infer_parameter::ParameterChoice::Int64Param(30_000);
        hasty.parameters.insert(
            "timeout".to_owned(),
            pb::InferParameter { parameter_choice: Some(micros) },
        );
        refused(client.model_infer(hasty).await, Code::DeadlineExceeded);
        gateway.wait_for_metric(&waiting(0)).await;
        // By leaving.
        let mut leaver = client.clone();
        let leaver = tokio::spawn(async move { leaver.model_infer(rows(&[1.0])).await });
        gateway.wait_for_metric(&waiting(1)).await;
        leaver.abort();
        gateway.wait_for_metric(&left("cancelled", 1)).await;
        gateway.wait_for_metric(&waiting(0)).await;
        gateway.engine.gate.open();
        assert_eq!(held.await.unwrap(), [200.0]);
        // Nothing else was run.
        gateway
            .wait_for_metric("foreshadow_batch_requests_count{model=\"m\",version=\"1\"} 1")
            .await;
    });
    gateway.app.stop();
}

/// A deadline that only the server watches: tonic's client would do so as well.
#[test]
fn the_clients_time_is_the_deadline() {
    let gateway = start_with("", &["doubles"], &QUEUED);
    runtime().block_on(async {
        let held = hold(&gateway).await;
        // Long enough that it waits in the queue before it passes.
        let headers = [("grpc-timeout", "2S")];
        let (code, message) = unwatched(&gateway, &headers, &rows(&[1.0])).await;
        assert_eq!((code.as_str(), message.as_str()), ("4", "the request's timeout passed"));
        let late = r#"foreshadow_queue_left_total{model="m",reason="late",version="1"} 1"#;
        gateway.wait_for_metric(late).await;
        gateway.engine.gate.open();
        held.await.unwrap();
    });
    gateway.app.stop();
}
