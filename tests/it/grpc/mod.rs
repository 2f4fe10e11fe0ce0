//! gRPC over real sockets, with tonic's client.

mod bad_input;
mod infer;
mod life;
mod limits;
mod repository;
mod services;
mod stream;

/// Messages and the client, made from `proto/`.
#[allow(clippy::all, dead_code, unreachable_pub, unused_qualifications, reason = "generated")]
pub(crate) mod pb {
    include!(concat!(env!("OUT_DIR"), "/client/inference.rs"));
}

use bytes::Bytes;
use http_body_util::Full;
use hyper::client::conn::http2::handshake;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Response, Status};

use crate::gateway::Gateway;
use pb::grpc_inference_service_client::GrpcInferenceServiceClient;
use pb::model_infer_request::InferInputTensor;

/// A client on a connection of its own.
pub(crate) type Client = GrpcInferenceServiceClient<Channel>;

/// Everything goes to the one engine thread.
const QUEUED: [(&str, &str); 2] = [("execution.inline_max", "0s"), ("execution.threads", "1")];

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

async fn channel(gateway: &Gateway) -> Channel {
    let address = gateway.app.grpc_address().expect("it listens");
    Endpoint::new(format!("http://{address}")).unwrap().connect().await.unwrap()
}

async fn connect(gateway: &Gateway) -> Client {
    GrpcInferenceServiceClient::new(channel(gateway).await)
}

/// Rows of one number for model `m`.
fn rows(numbers: &[f32]) -> pb::ModelInferRequest {
    let bytes: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
    pb::ModelInferRequest {
        model_name: "m".to_owned(),
        inputs: vec![InferInputTensor {
            name: "x".to_owned(),
            datatype: "FP32".to_owned(),
            shape: vec![i64::try_from(numbers.len()).unwrap(), 1],
            ..InferInputTensor::default()
        }],
        raw_input_contents: vec![Bytes::from(bytes)],
        ..pb::ModelInferRequest::default()
    }
}

/// The numbers of an answer.
fn numbers(reply: &pb::ModelInferResponse) -> Vec<f32> {
    let (chunks, rest) = reply.raw_output_contents[0].as_chunks();
    assert!(rest.is_empty());
    chunks.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// The parameter of an answer.
fn parameter<'a>(reply: &'a pb::ModelInferResponse, name: &str) -> &'a str {
    match &reply.parameters[name].parameter_choice {
        Some(pb::infer_parameter::ParameterChoice::StringParam(text)) => text,
        other => panic!("{name} is {other:?}"),
    }
}

/// Metadata of a reply, or nothing.
fn header<'a, T>(reply: &'a Response<T>, name: &str) -> &'a str {
    reply.metadata().get(name).map_or("", |value| value.to_str().unwrap())
}

fn with<T>(message: T, headers: &[(&'static str, &str)]) -> Request<T> {
    let mut request = Request::new(message);
    for (name, value) in headers {
        request.metadata_mut().insert(*name, value.parse().unwrap());
    }
    request
}

#[track_caller]
fn refused<T: std::fmt::Debug>(reply: Result<Response<T>, Status>, code: Code) -> String {
    let status = reply.unwrap_err();
    assert_eq!(status.code(), code, "{status:?}");
    status.message().to_owned()
}

/// Sends a message with a client that knows nothing but HTTP/2; the code and the
/// message of the error.
async fn unwatched(
    gateway: &Gateway,
    headers: &[(&str, &str)],
    message: &pb::ModelInferRequest,
) -> (String, String) {
    let address = gateway.app.grpc_address().unwrap();
    let stream = TokioIo::new(TcpStream::connect(address).await.unwrap());
    let (mut sender, connection) = handshake(TokioExecutor::new(), stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut frame = vec![0];
    frame.extend(u32::try_from(message.encoded_len()).unwrap().to_be_bytes());
    message.encode(&mut frame).unwrap();
    let uri = format!("http://{address}/inference.GRPCInferenceService/ModelInfer");
    let mut request = http::Request::post(uri).header("content-type", "application/grpc");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(frame))).unwrap();
    let reply = sender.send_request(request).await.unwrap();
    let told = |name: &str| reply.headers()[name].to_str().unwrap().to_owned();
    let told = (told("grpc-status"), told("grpc-message"));
    connection.abort();
    told
}

/// A run that holds the engine thread until the gate opens.
async fn hold(gateway: &Gateway) -> tokio::task::JoinHandle<Vec<f32>> {
    let mut client = connect(gateway).await;
    let held = tokio::spawn(async move {
        numbers(&client.model_infer(rows(&[100.0])).await.unwrap().into_inner())
    });
    let engine = gateway.engine.clone();
    tokio::task::spawn_blocking(move || engine.wait_until_run()).await.unwrap();
    held
}
