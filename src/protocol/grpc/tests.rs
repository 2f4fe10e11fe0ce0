//! Calls from body to body, without a socket; and beside the same over REST.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use prost::Message;

use crate::protocol::compression::Coding;
use crate::protocol::grpc::coding;
use crate::protocol::grpc::pb::infer_parameter::ParameterChoice;
use crate::protocol::grpc::pb::model_infer_request::{
    InferInputTensor, InferRequestedOutputTensor,
};
use crate::protocol::grpc::wire::{PREFIX_BYTES, set_prefix};
use crate::protocol::grpc::{Grpc, GrpcSettings, pb};
use crate::protocol::testing::{
    Bench, echo, echo_signature, golden, spec, sums, sums_signature, version,
};
use crate::types::{CaptureRule, Data, Datatype, ModelSettings, Share, TensorSpec};

/// A reply, read whole.
struct Got {
    headers: HeaderMap,
    /// Messages with their prefix.
    body: Bytes,
    trailers: HeaderMap,
}

impl Got {
    /// The code and the message of an error.
    fn error(&self) -> (i32, String) {
        let told =
            if self.headers.contains_key("grpc-status") { &self.headers } else { &self.trailers };
        let message = told.get("grpc-message").map_or("", |text| text.to_str().unwrap());
        let code = told["grpc-status"].to_str().unwrap().parse().unwrap();
        (code, message.replace("%25", "%"))
    }

    fn messages(&self) -> Vec<Bytes> {
        let (mut rest, mut messages) = (self.body.clone(), Vec::new());
        while !rest.is_empty() {
            let len = u32::from_be_bytes(rest[1..PREFIX_BYTES].try_into().unwrap()) as usize;
            assert_eq!(rest[0], 0, "not compressed");
            messages.push(rest.slice(PREFIX_BYTES..PREFIX_BYTES + len));
            rest = rest.slice(PREFIX_BYTES + len..);
        }
        messages
    }

    /// The only message of a success.
    fn message<M: Message + Default>(&self) -> M {
        assert_eq!(self.error(), (0, String::new()));
        let messages = self.messages();
        assert_eq!(messages.len(), 1);
        M::decode(messages[0].clone()).unwrap()
    }
}

fn frame(message: &impl Message) -> Vec<u8> {
    let mut frame = vec![0; PREFIX_BYTES];
    message.encode(&mut frame).unwrap();
    set_prefix(&mut frame, false);
    frame
}

fn grpc(bench: &Bench) -> Arc<Grpc> {
    Arc::new(Grpc::new(Arc::clone(&bench.service), GrpcSettings::default()))
}

async fn send(grpc: &Arc<Grpc>, method: &str, headers: &[(&str, &str)], body: Vec<u8>) -> Got {
    let path = format!("/inference.GRPCInferenceService/{method}");
    let mut request =
        Request::builder().method("POST").uri(path).header("content-type", "application/grpc");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let reply = grpc.handle(request.body(Full::new(Bytes::from(body))).unwrap()).await;
    assert_eq!(reply.status(), StatusCode::OK);
    let (parts, body) = reply.into_parts();
    let body = body.collect().await.unwrap();
    let trailers = body.trailers().cloned().unwrap_or_default();
    Got { headers: parts.headers, body: body.to_bytes(), trailers }
}

async fn infer(grpc: &Arc<Grpc>, request: &pb::ModelInferRequest) -> Got {
    send(grpc, "ModelInfer", &[], frame(request)).await
}

fn echo_bench(datatype: Datatype) -> Bench {
    let inputs: [TensorSpec; 1] = [spec("x", datatype, &[-1, 2])];
    let bench = Bench::new();
    bench.add(
        &ModelSettings::default(),
        &[version("echo", 1, echo_signature(&inputs), echo)],
        None,
    );
    bench
}

fn input(datatype: &str, shape: &[i64]) -> InferInputTensor {
    InferInputTensor {
        name: "x".to_owned(),
        datatype: datatype.to_owned(),
        shape: shape.to_vec(),
        ..InferInputTensor::default()
    }
}

fn raw(datatype: &str, shape: &[i64], bytes: &[u8]) -> pb::ModelInferRequest {
    pb::ModelInferRequest {
        model_name: "echo".to_owned(),
        inputs: vec![input(datatype, shape)],
        raw_input_contents: vec![Bytes::copy_from_slice(bytes)],
        ..pb::ModelInferRequest::default()
    }
}

fn fp32(numbers: &[f32]) -> Vec<u8> {
    numbers.iter().flat_map(|x| x.to_le_bytes()).collect()
}

/// A request that all is well with.
fn fine() -> pb::ModelInferRequest {
    raw("FP32", &[1, 2], &fp32(&[1.0, 2.0]))
}

fn parameter(choice: ParameterChoice) -> pb::InferParameter {
    pb::InferParameter { parameter_choice: Some(choice) }
}

#[tokio::test]
async fn replies_look_like_this() {
    let bench = Bench::new();
    let versions =
        [version("sums", 1, sums_signature(2), sums), version("sums", 2, sums_signature(2), sums)];
    bench.add(&ModelSettings::default(), &versions, None);
    let grpc = grpc(&bench);
    let request = pb::ModelInferRequest {
        model_name: "sums".to_owned(),
        id: "42".to_owned(),
        inputs: vec![InferInputTensor { name: "X".to_owned(), ..input("FP32", &[2, 2]) }],
        raw_input_contents: vec![fp32(&[1., 2., 3., 4.]).into()],
        ..pb::ModelInferRequest::default()
    };
    let got = infer(&grpc, &request).await;
    let id = got.headers["x-prediction-id"].to_str().unwrap().to_owned();
    for (name, value) in [("x-model-version", "1"), ("x-model-role", "champion")] {
        assert_eq!(got.headers[name], value);
    }
    let reply: pb::ModelInferResponse = got.message();
    golden("grpc_infer.txt", &format!("{reply:#?}").replace(&id, "ID"));
    let request = pb::ModelMetadataRequest { name: "sums".to_owned(), ..Default::default() };
    let got = send(&grpc, "ModelMetadata", &[], frame(&request)).await;
    golden("grpc_model.txt", &format!("{:#?}", got.message::<pb::ModelMetadataResponse>()));
    let got = send(&grpc, "ServerMetadata", &[], frame(&())).await;
    let server: pb::ServerMetadataResponse = got.message();
    let rest = bench.send("GET", "/v2", &[], "").await.text();
    let rest: serde_json::Value = serde_json::from_str(&rest).unwrap();
    assert_eq!(rest["extensions"], serde_json::json!(server.extensions));
    assert_eq!((&rest["name"], &rest["version"]), (&server.name.into(), &server.version.into()));
}

#[tokio::test]
async fn every_datatype_comes_back_as_it_was() {
    let strings = [&1_u32.to_le_bytes()[..], b"\xff", &0_u32.to_le_bytes()].concat();
    for datatype in Datatype::ALL {
        let grpc = grpc(&echo_bench(datatype));
        let bytes = match datatype.size() {
            Some(size) => vec![if datatype == Datatype::Bool { 1 } else { 0xff }; 2 * size],
            None => strings.clone(),
        };
        let request = raw(datatype.as_str(), &[1, 2], &bytes);
        let reply: pb::ModelInferResponse = infer(&grpc, &request).await.message();
        assert_eq!(reply.raw_output_contents, [Bytes::from(bytes)], "{datatype}");
        assert_eq!(reply.outputs[0].datatype, datatype.as_str());
        assert_eq!(reply.outputs[0].shape, [1, 2]);
        assert_eq!(reply.outputs[0].contents, None);
    }
}

#[tokio::test]
async fn elements_may_come_typed() {
    let none = pb::InferTensorContents::default;
    let cases = [
        (
            Data::Bool(vec![true, false]),
            pb::InferTensorContents { bool_contents: vec![true, false], ..none() },
        ),
        (Data::Int8(vec![-1, 2]), pb::InferTensorContents { int_contents: vec![-1, 2], ..none() }),
        (
            Data::Int64(vec![-1, 2]),
            pb::InferTensorContents { int64_contents: vec![-1, 2], ..none() },
        ),
        (Data::Uint16(vec![1, 2]), pb::InferTensorContents { uint_contents: vec![1, 2], ..none() }),
        (
            Data::Uint64(vec![1, 2]),
            pb::InferTensorContents { uint64_contents: vec![1, 2], ..none() },
        ),
        (
            Data::Fp32(vec![1., 2.]),
            pb::InferTensorContents { fp32_contents: vec![1., 2.], ..none() },
        ),
        (
            Data::Fp64(vec![1., 2.]),
            pb::InferTensorContents { fp64_contents: vec![1., 2.], ..none() },
        ),
        (
            Data::Bytes(vec![b"a".to_vec(), vec![]]),
            pb::InferTensorContents {
                bytes_contents: vec![Bytes::from_static(b"a"), Bytes::new()],
                ..none()
            },
        ),
    ];
    for (data, contents) in cases {
        let datatype = data.datatype();
        let grpc = grpc(&echo_bench(datatype));
        let mut request = raw(datatype.as_str(), &[1, 2], b"");
        request.raw_input_contents.clear();
        request.inputs[0].contents = Some(contents);
        let reply: pb::ModelInferResponse = infer(&grpc, &request).await.message();
        let mut expected = Vec::new();
        crate::protocol::v2::binary::encode(&data, &mut expected);
        assert_eq!(reply.raw_output_contents, [Bytes::from(expected)], "{datatype}");
    }
}

/// Every bad request means the same over both protocols, to the word.
#[tokio::test]
async fn both_protocols_refuse_in_the_same_words() {
    let bench = echo_bench(Datatype::Fp32);
    let grpc = grpc(&bench);
    let two = fp32(&[1.0, 2.0]);
    let twice = |mut request: pb::ModelInferRequest| {
        request.inputs.push(request.inputs[0].clone());
        request.raw_input_contents.push(request.raw_input_contents[0].clone());
        request
    };
    let with = |key: &str, choice: ParameterChoice| {
        let mut request = fine();
        request.parameters.insert(key.to_owned(), parameter(choice));
        request
    };
    let output = |name: &str| {
        let mut request = fine();
        let output = InferRequestedOutputTensor { name: name.to_owned(), ..Default::default() };
        request.outputs = vec![output];
        request
    };
    let mut unknown = fine();
    unknown.inputs[0].name = "y".to_owned();
    let mut missing = fine();
    missing.inputs.clear();
    missing.raw_input_contents.clear();
    let mut nobody = fine();
    nobody.model_version = "7".to_owned();
    let mut memory = fine();
    memory.inputs[0].parameters.insert(
        "shared_memory_region".to_owned(),
        parameter(ParameterChoice::StringParam("a".into())),
    );
    let text = |text: &str| ParameterChoice::StringParam(text.to_owned());
    let cases: Vec<(&str, pb::ModelInferRequest, &str)> = vec![
        ("short", raw("FP32", &[1, 2], &two[..7]), ""),
        ("long", raw("FP32", &[1, 2], &[&two[..], b"x"].concat()), ""),
        ("shape does not match", raw("FP32", &[2, 2], &two), ""),
        ("wrong width", raw("FP32", &[1, 3], &fp32(&[1., 2., 3.])), ""),
        ("huge", raw("FP32", &[i64::MAX, 9], &two), ""),
        ("huge but for the bytes", raw("FP32", &[i64::MAX, 2], &two), ""),
        ("negative", raw("FP32", &[-1, 2], &two), ""),
        ("empty", raw("FP32", &[0, 2], b""), ""),
        ("other rank", raw("FP32", &[1, 1, 2], &two), ""),
        ("unknown datatype", raw("FP8", &[1, 2], &two), ""),
        ("other datatype", raw("INT64", &[1, 2], &two), ""),
        ("unknown input", unknown, ""),
        ("missing input", missing, ""),
        ("twice", twice(fine()), ""),
        ("unknown output", output("z"), r#","outputs":[{"name":"z"}]"#),
        ("unknown version", nobody, ""),
        ("timeout", with("timeout", text("x")), r#","parameters":{"timeout":"x"}"#),
        (
            "negative timeout",
            with("timeout", ParameterChoice::Int64Param(-1)),
            r#","parameters":{"timeout":-1}"#,
        ),
        (
            "sequence",
            with("sequence_id", ParameterChoice::Uint64Param(7)),
            r#","parameters":{"sequence_id":7}"#,
        ),
        ("role", with("role", text("judge")), r#","parameters":{"role":"judge"}"#),
        ("shared memory", memory, r#"SHM"#),
    ];
    for (case, request, rest) in cases {
        let (code, message) = infer(&grpc, &request).await.error();
        // The same as JSON and raw tensors.
        let mut inputs = Vec::new();
        let mut tail = Vec::new();
        for (tensor, bytes) in request.inputs.iter().zip(&request.raw_input_contents) {
            let memory = if rest == "SHM" { r#""shared_memory_region":"a","# } else { "" };
            inputs.push(format!(
                r#"{{"name":{:?},"datatype":{:?},"shape":{:?},"parameters":{{{memory}"binary_data_size":{}}}}}"#,
                tensor.name, tensor.datatype, tensor.shape, bytes.len()
            ));
            tail.extend_from_slice(bytes);
        }
        let rest = rest.trim_start_matches("SHM");
        let json = format!(r#"{{"inputs":[{}]{rest}}}"#, inputs.join(","));
        let length = json.len().to_string();
        let path = match request.model_version.as_str() {
            "" => "/v2/models/echo/infer".to_owned(),
            version => format!("/v2/models/echo/versions/{version}/infer"),
        };
        let headers = [("Inference-Header-Content-Length", length.as_str())];
        let body = [json.as_bytes(), &tail].concat();
        let (status, expected) = bench.send("POST", &path, &headers, body).await.error();
        assert_eq!(message, expected, "{case}");
        let same = crate::error::ErrorCode::ALL
            .into_iter()
            .find(|c| c.http_status().as_u16() == status && c.grpc_code() as i32 == code);
        assert!(same.is_some(), "{case}: {status} and {code}");
    }
    let strings = echo_bench(Datatype::Bytes);
    let grpc = self::grpc(&strings);
    let overrun = [&9_u32.to_le_bytes()[..], b"ab", &0_u32.to_le_bytes()].concat();
    let got = infer(&grpc, &raw("BYTES", &[1, 2], &overrun)).await;
    assert_eq!(
        got.error(),
        (3, "input \"x\": element 0 says that it has 9 bytes, only 6 are left".to_owned())
    );
}

/// What only gRPC can say wrongly.
#[tokio::test]
async fn what_is_wrong_is_said() {
    let grpc = grpc(&echo_bench(Datatype::Fp32));
    let contents =
        || Some(pb::InferTensorContents { fp32_contents: vec![1., 2.], ..Default::default() });
    let mut both = fine();
    both.inputs[0].contents = contents();
    let mut neither = fine();
    neither.raw_input_contents.clear();
    let mut more = fine();
    more.raw_input_contents.push(Bytes::new());
    let mut wrong_field = neither.clone();
    wrong_field.inputs[0].contents =
        Some(pb::InferTensorContents { int_contents: vec![1, 2], ..Default::default() });
    let mut few = neither.clone();
    few.inputs[0].contents =
        Some(pb::InferTensorContents { fp32_contents: vec![1.], ..Default::default() });
    let mut typeless = fine();
    typeless.parameters.insert("p".to_owned(), pb::InferParameter::default());
    let mut many = fine();
    for i in 0..65 {
        many.parameters.insert(i.to_string(), parameter(ParameterChoice::BoolParam(true)));
    }
    let mut nobody = fine();
    nobody.model_name = "nobody".to_owned();
    let cases = [
        (both, 3, "input \"x\": both contents and raw_input_contents; send one of them"),
        (neither, 3, "input \"x\": contents or raw_input_contents is missing"),
        (more, 3, "2 raw_input_contents for 1 inputs; expected one for each, in their order"),
        (
            wrong_field,
            3,
            "input \"x\": elements stand in int_contents; those of FP32 belong in fp32_contents",
        ),
        (few, 3, "input \"x\": shape [1, 2] means 2 elements, got 1"),
        (
            typeless,
            3,
            "parameter \"p\": its value is of no known type; expected bool_param, int64_param, string_param, double_param or uint64_param",
        ),
        (many, 3, "65 parameters; at most 64"),
        (nobody, 5, "unknown model \"nobody\"; models: echo"),
    ];
    for (request, code, expected) in cases {
        assert_eq!(infer(&grpc, &request).await.error(), (code, expected.to_owned()));
    }
    // And bytes that are no message at all.
    let send =
        |headers: &'static [(&str, &str)], body: Vec<u8>| send(&grpc, "ModelInfer", headers, body);
    let mut garbage = vec![0; PREFIX_BYTES];
    garbage.extend(b"\x0a\xff\xff");
    set_prefix(&mut garbage, false);
    assert!(send(&[], garbage).await.error().1.starts_with("malformed protobuf: "));
    let cut = frame(&fine());
    let got = send(&[], cut[..cut.len() - 1].to_vec()).await.error();
    assert!(got.0 == 3 && got.1.starts_with("the body ends after"), "{got:?}");
    let mut marked = frame(&fine());
    marked[0] = 1;
    let got = send(&[], marked.clone()).await.error();
    assert_eq!(
        got,
        (3, "the message is marked as compressed, but no grpc-encoding says how".to_owned())
    );
    let got = send(&[("grpc-encoding", "gzip")], marked).await.error();
    assert!(got.0 == 3 && got.1.starts_with("the message is not gzip"), "{got:?}");
    let got = send(&[("grpc-encoding", "br")], frame(&fine())).await;
    assert_eq!(got.error().0, 12);
    assert_eq!(got.headers["grpc-accept-encoding"], "identity,deflate,gzip");
    let got = send(&[("grpc-timeout", "soon")], frame(&fine())).await.error();
    assert!(got.0 == 3 && got.1.starts_with("grpc-timeout"), "{got:?}");
    assert_eq!(send(&[("grpc-timeout", "0n")], frame(&fine())).await.error().0, 4);
    assert_eq!(send(&[], vec![0, 1, 0, 0, 1]).await.error().0, 8);
    // All is well still.
    assert_eq!(send(&[], frame(&fine())).await.error().0, 0);
}

/// A body that never comes.
struct Late;

impl hyper::body::Body for Late {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Pending
    }
}

/// The client's own time holds while its message is read, too, not thirty seconds.
#[tokio::test]
async fn a_message_that_does_not_come_ends_with_the_clients_time() {
    let grpc = grpc(&echo_bench(Datatype::Fp32));
    for method in [
        "inference.GRPCInferenceService/ModelInfer",
        "inference.GRPCInferenceService/ModelStatistics",
        "grpc.health.v1.Health/Check",
        "grpc.health.v1.Health/Watch",
    ] {
        let request = Request::post(format!("/{method}"))
            .header("content-type", "application/grpc")
            .header("grpc-timeout", "20m");
        let reply = grpc.handle(request.body(Late).unwrap()).await;
        assert_eq!(reply.headers()["grpc-status"], "4", "{method}");
        let message = reply.headers()["grpc-message"].to_str().unwrap();
        assert!(message.contains("20ms"), "{message}");
    }
}

#[tokio::test]
async fn compressed_messages_are_read_within_the_limit() {
    let bench = echo_bench(Datatype::Fp32);
    let grpc = grpc(&bench);
    let rows = vec![0.25; 2000];
    let request = raw("FP32", &[1000, 2], &fp32(&rows));
    for (coding, name) in [(Coding::Gzip, "gzip"), (Coding::Deflate, "deflate")] {
        let mut body = coding.compress(&frame(&request)[PREFIX_BYTES..], vec![0; PREFIX_BYTES]);
        set_prefix(&mut body, true);
        let headers = [("grpc-encoding", name), ("grpc-accept-encoding", "identity,gzip,deflate")];
        let got = send(&grpc, "ModelInfer", &headers, body).await;
        assert_eq!(got.error().0, 0, "{:?}", got.error());
        assert_eq!(got.headers["grpc-encoding"], name);
        assert_eq!(got.body[0], 1);
        let reply =
            coding::decompress(got.body.slice(PREFIX_BYTES..), Some(coding), 1 << 20).unwrap();
        let reply = pb::ModelInferResponse::decode(&reply[..]).unwrap();
        assert_eq!(reply.raw_output_contents[0], fp32(&rows));
    }
    let bomb = vec![0; grpc.settings.message_bytes_max + 1];
    let mut body = Coding::Gzip.compress(&bomb, vec![0; PREFIX_BYTES]);
    set_prefix(&mut body, true);
    let (code, message) =
        send(&grpc, "ModelInfer", &[("grpc-encoding", "gzip")], body).await.error();
    assert_eq!(code, 8);
    assert!(message.starts_with("the message, decompressed, is over the limit"), "{message}");
}

#[tokio::test]
async fn outputs_come_as_they_are_asked_for() {
    let bench = Bench::new();
    let inputs = [spec("a", Datatype::Int8, &[-1]), spec("b", Datatype::Int8, &[-1])];
    bench.add(
        &ModelSettings::default(),
        &[version("echo", 1, echo_signature(&inputs), echo)],
        None,
    );
    let tensor = |name: &str| InferInputTensor { name: name.to_owned(), ..input("INT8", &[1]) };
    let wanted =
        |name: &str| InferRequestedOutputTensor { name: name.to_owned(), ..Default::default() };
    let request = pb::ModelInferRequest {
        model_name: "echo".to_owned(),
        inputs: vec![tensor("b"), tensor("a")],
        outputs: vec![wanted("b_out"), wanted("a_out")],
        raw_input_contents: vec![Bytes::from_static(&[2]), Bytes::from_static(&[1])],
        ..pb::ModelInferRequest::default()
    };
    let reply: pb::ModelInferResponse = infer(&grpc(&bench), &request).await.message();
    assert_eq!(
        reply.outputs.iter().map(|o| o.name.as_str()).collect::<Vec<_>>(),
        ["b_out", "a_out"]
    );
    assert_eq!(reply.raw_output_contents, [&[2][..], &[1]]);
}

#[tokio::test]
async fn a_stream_answers_in_order_and_outlives_errors() {
    let bench = Bench::new();
    bench.add(&ModelSettings::default(), &[version("sums", 1, sums_signature(2), sums)], None);
    let grpc = grpc(&bench);
    let row = |id: &str, x: f32| pb::ModelInferRequest {
        model_name: "sums".to_owned(),
        id: id.to_owned(),
        inputs: vec![InferInputTensor { name: "X".to_owned(), ..input("FP32", &[1, 2]) }],
        raw_input_contents: vec![fp32(&[x, 0.5]).into()],
        ..pb::ModelInferRequest::default()
    };
    let mut garbage = vec![0; PREFIX_BYTES];
    garbage.extend(b"\xff");
    set_prefix(&mut garbage, false);
    let mut body = Vec::new();
    // 7 is an error of the model, 13 a panic.
    for (id, x) in [("a", 1.0), ("b", 7.0), ("c", 13.0)] {
        body.extend(frame(&row(id, x)));
    }
    body.extend(garbage);
    body.extend(frame(&row("d", 2.0)));
    let cut = frame(&row("e", 3.0));
    body.extend(&cut[..cut.len() - 1]);
    let got = send(&grpc, "ModelStreamInfer", &[], body).await;
    let replies: Vec<_> = got
        .messages()
        .into_iter()
        .map(|bytes| pb::ModelStreamInferResponse::decode(bytes).unwrap())
        .map(|reply| (reply.infer_response.unwrap(), reply.error_message))
        .collect();
    let ids: Vec<_> = replies.iter().map(|(reply, _)| reply.id.as_str()).collect();
    assert_eq!(ids, ["a", "b", "c", "", "d"]);
    let failed: Vec<_> = replies.iter().map(|(_, error)| !error.is_empty()).collect();
    assert_eq!(failed, [false, true, true, true, false]);
    assert_eq!(replies[4].0.raw_output_contents, [fp32(&[2.5])]);
    let code = |i: usize| replies[i].0.parameters["error_code"].parameter_choice.clone();
    assert_eq!(code(1), Some(ParameterChoice::StringParam("internal".to_owned())));
    assert_eq!(code(3), Some(ParameterChoice::StringParam("invalid_argument".to_owned())));
    // What stops in the middle ends it.
    let (status, message) = got.error();
    assert!(status == 3 && message.starts_with("the body ends after"), "{message}");
    let metrics = bench.metrics();
    assert!(
        metrics.contains(r#"foreshadow_rejected_total{reason="invalid_argument"} 2"#),
        "{metrics}"
    );
}

#[tokio::test]
async fn a_stored_request_has_the_id_of_its_calls_reply() {
    let bench = Bench::new();
    let metrics = bench.service.metrics();
    let queue = metrics.captures().open(10, 1 << 20).unwrap();
    let rule = CaptureRule { sample: Share::ALL, ..CaptureRule::default() };
    let settings = ModelSettings { capture: Some(Arc::new(rule)), ..ModelSettings::default() };
    let sums = version("sums", 1, sums_signature(2), sums);
    sums.watch().capture_by(metrics.captures().tap(sums.model(), &settings));
    bench.add(&settings, &[sums], None);
    let grpc = grpc(&bench);
    let row = frame(&pb::ModelInferRequest {
        model_name: "sums".to_owned(),
        inputs: vec![InferInputTensor { name: "X".to_owned(), ..input("FP32", &[1, 2]) }],
        raw_input_contents: vec![fp32(&[1.0, 0.5]).into()],
        ..pb::ModelInferRequest::default()
    });
    for (method, headers) in [
        ("ModelInfer", &[][..]),
        ("ModelInfer", &[("x-request-id", "mine")]),
        ("ModelStreamInfer", &[("x-request-id", "mine")]),
    ] {
        let got = send(&grpc, method, headers, row.clone()).await;
        assert_eq!(got.error(), (0, String::new()), "{method}");
        // It is offered behind the reply.
        tokio::task::yield_now().await;
        let record = queue.pop().unwrap();
        assert_eq!(&*record.request_id, got.headers["x-request-id"], "{method}");
    }
}

#[tokio::test]
async fn what_is_not_grpc_is_told_so() {
    let grpc = grpc(&echo_bench(Datatype::Fp32));
    let cases = [
        ("POST", "application/grpc+proto", 200),
        ("POST", "application/grpc;x", 200),
        ("POST", "application/grpc-web", 415),
        ("POST", "application/json", 415),
        ("GET", "application/grpc", 405),
    ];
    for (method, content_type, status) in cases {
        let request = Request::builder()
            .method(method)
            .uri("/inference.GRPCInferenceService/ServerLive")
            .header("content-type", content_type);
        let body = Full::new(Bytes::from(frame(&pb::ServerLiveRequest {})));
        let reply = grpc.handle(request.body(body).unwrap()).await;
        assert_eq!(reply.status(), status, "{method} {content_type}");
    }
    let got = send(&grpc, "TraceSetting", &[], frame(&())).await.error();
    assert!(got.0 == 12 && got.1.contains("is refused"), "{got:?}");
}

#[tokio::test]
async fn what_is_no_protobuf_is_the_callers_fault() {
    let grpc = grpc(&echo_bench(Datatype::Fp32));
    for path in ["grpc.health.v1.Health/Check", "grpc.health.v1.Health/Watch"] {
        for (body, code) in [
            (&[0, 0, 0, 0, 2, 0xff, 0xff][..], "3"),
            (&[0, 0, 0, 0, 2, 0xff], "3"),
            (&[7, 0, 0, 0, 0], "3"),
            (&[0, 0xff, 0, 0, 0], "8"),
        ] {
            let request =
                Request::post(format!("/{path}")).header("content-type", "application/grpc");
            let body = Full::new(Bytes::copy_from_slice(body));
            let reply = grpc.handle(request.body(body).unwrap()).await;
            assert_eq!(reply.headers()["grpc-status"], code, "{path}");
        }
    }
}

#[tokio::test]
async fn readiness_is_told() {
    let bench = echo_bench(Datatype::Fp32);
    let grpc = grpc(&bench);
    let ready = || async {
        send(&grpc, "ServerReady", &[], frame(&())).await.message::<pb::ServerReadyResponse>().ready
    };
    assert!(!ready().await);
    bench.readiness.set_ready();
    assert!(ready().await);
    for (name, version, expected) in
        [("echo", "", true), ("echo", "1", true), ("echo", "2", false), ("nobody", "", false)]
    {
        let request = pb::ModelReadyRequest { name: name.to_owned(), version: version.to_owned() };
        let got = send(&grpc, "ModelReady", &[], frame(&request)).await;
        assert_eq!(got.message::<pb::ModelReadyResponse>().ready, expected, "{name} {version}");
    }
    let request = pb::ModelReadyRequest { name: "echo".to_owned(), version: "one".to_owned() };
    assert_eq!(send(&grpc, "ModelReady", &[], frame(&request)).await.error().0, 3);
    assert!(!bench.metrics().contains("reason=\"not_found\""));
}

#[tokio::test]
async fn a_model_has_the_same_configuration_over_both_protocols() {
    let bench = Bench::new();
    bench.add(&ModelSettings::default(), &[version("sums", 1, sums_signature(2), sums)], None);
    let grpc = grpc(&bench);
    let ask = |name: &str| pb::ModelConfigRequest { name: name.to_owned(), version: String::new() };
    let got = send(&grpc, "ModelConfig", &[], frame(&ask("sums"))).await;
    let config = got.message::<pb::ModelConfigResponse>().config.unwrap();
    let rest = bench.send("GET", "/v2/models/sums/config", &[], "").await.text();
    let rest: serde_json::Value = serde_json::from_str(&rest).unwrap();
    assert_eq!(
        (&rest["name"], &rest["platform"]),
        (&"sums".into(), &config.platform.clone().into())
    );
    assert_eq!(rest["max_batch_size"], config.max_batch_size);
    assert_eq!(rest["input"][0]["data_type"], config.input[0].data_type().as_str_name());
    assert_eq!(rest["input"][0]["dims"], serde_json::json!(config.input[0].dims));
    assert_eq!(rest["output"][0]["name"], config.output[0].name);
    let all = pb::model_version_policy::PolicyChoice::All(pb::model_version_policy::All {});
    assert_eq!(config.version_policy.unwrap().policy_choice, Some(all));
    assert!(rest["version_policy"].get("all").is_some());
    let got = send(&grpc, "ModelConfig", &[], frame(&ask("nobody"))).await.error();
    assert_eq!(got, (5, "unknown model \"nobody\"; models: sums".to_owned()));
}
