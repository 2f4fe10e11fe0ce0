//! Inference over gRPC: a request of the Open Inference Protocol as a message, and
//! a server that does nothing but gRPC.

use std::future::Future;

use bytes::{BufMut, Bytes, BytesMut};
use hyper::StatusCode;
use hyper::header::{HeaderMap, HeaderName};
use prost::Message;
use serde::Deserialize;
use serde_json::Value;
use tokio::net::TcpListener;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

use crate::error::Error;
use pb::grpc_inference_service_server::{GrpcInferenceService, GrpcInferenceServiceServer};
use pb::model_infer_request::InferInputTensor;
use pb::model_infer_response::InferOutputTensor;

#[allow(clippy::all, missing_docs, unreachable_pub, unused_qualifications, reason = "generated")]
mod pb {
    tonic::include_proto!("inference");
}

/// The method that requests go to.
pub const METHOD: &str = "/inference.GRPCInferenceService/ModelInfer";

/// How a call went.
const STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// The JSON of a request, without binary tensors.
#[derive(Deserialize)]
struct Infer {
    #[serde(default)]
    id: String,
    inputs: Vec<Input>,
}

#[derive(Deserialize)]
struct Input {
    name: String,
    datatype: String,
    shape: Vec<i64>,
    data: Value,
}

/// The model in a path such as `/v2/models/churn/infer`.
#[must_use]
pub fn model_in(path: &str) -> Option<&str> {
    path.strip_prefix("/v2/models/")?.strip_suffix("/infer").filter(|model| !model.contains('/'))
}

/// A request in JSON as a message with raw tensors, with its prefix.
///
/// # Errors
/// If it is no such request, or its elements are not of their datatype.
pub fn message(model: &str, json: &[u8]) -> Result<Bytes, Error> {
    let infer: Infer = serde_json::from_slice(json)
        .map_err(|error| Error::new(format!("the body is no inference request: {error}")))?;
    let mut request = pb::ModelInferRequest {
        model_name: model.to_owned(),
        id: infer.id,
        ..pb::ModelInferRequest::default()
    };
    for Input { name, datatype, shape, data } in infer.inputs {
        let mut raw = BytesMut::new();
        elements(&datatype, &data, &mut raw).map_err(|what| {
            Error::new(format!("input {name:?}: {what} is no element of datatype {datatype}"))
        })?;
        request.raw_input_contents.push(raw.freeze());
        request.inputs.push(InferInputTensor { name, datatype, shape, ..Default::default() });
    }
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(request.encoded_len()).map_err(|_| Error::new("too large"))?);
    request.encode(&mut frame).map_err(|error| Error::new(error.to_string()))?;
    Ok(frame.freeze())
}

/// Appends the elements, flat or nested; the error is the first that does not fit.
fn elements<'a>(datatype: &str, data: &'a Value, out: &mut BytesMut) -> Result<(), &'a Value> {
    if let Value::Array(items) = data {
        return items.iter().try_for_each(|item| elements(datatype, item, out));
    }
    let whole = || data.as_i64().ok_or(data);
    match datatype {
        #[expect(clippy::cast_possible_truncation, reason = "FP32 is what was asked for")]
        "FP32" => out.put_f32_le(data.as_f64().ok_or(data)? as f32),
        "FP64" => out.put_f64_le(data.as_f64().ok_or(data)?),
        "INT64" => out.put_i64_le(whole()?),
        "INT32" => out.put_i32_le(i32::try_from(whole()?).map_err(|_| data)?),
        "UINT8" => out.put_u8(u8::try_from(whole()?).map_err(|_| data)?),
        "BOOL" => out.put_u8(u8::from(data.as_bool().ok_or(data)?)),
        "BYTES" => {
            let text = data.as_str().ok_or(data)?;
            out.put_u32_le(u32::try_from(text.len()).map_err(|_| data)?);
            out.put_slice(text.as_bytes());
        }
        _ => return Err(data),
    }
    Ok(())
}

/// The HTTP status that means what a call's headers or trailers say; `None` where
/// they say nothing.
#[must_use]
pub fn status(headers: &HeaderMap) -> Option<StatusCode> {
    let code = headers.get(STATUS)?.to_str().unwrap_or_default();
    Some(match code {
        "0" => StatusCode::OK,
        "3" => StatusCode::BAD_REQUEST,
        "4" => StatusCode::GATEWAY_TIMEOUT,
        "5" => StatusCode::NOT_FOUND,
        "8" => StatusCode::PAYLOAD_TOO_LARGE,
        "12" => StatusCode::NOT_IMPLEMENTED,
        "14" => StatusCode::SERVICE_UNAVAILABLE,
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    })
}

/// Answers every request with its own tensors until `shutdown`.
///
/// # Errors
/// If the listener fails.
pub async fn serve(listener: TcpListener, shutdown: impl Future<Output = ()>) -> Result<(), Error> {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let echo = GrpcInferenceServiceServer::new(Echo);
    let served = Server::builder().add_service(echo);
    let ended = served.serve_with_incoming_shutdown(incoming, shutdown).await;
    ended.map_err(|error| Error::new(error.to_string()))
}

/// A model that is the identity, as a service that has nothing else.
struct Echo;

fn echo(request: pb::ModelInferRequest) -> pb::ModelInferResponse {
    let output = |input: InferInputTensor| InferOutputTensor {
        name: input.name,
        datatype: input.datatype,
        shape: input.shape,
        ..InferOutputTensor::default()
    };
    pb::ModelInferResponse {
        model_name: request.model_name,
        model_version: "1".to_owned(),
        id: request.id,
        outputs: request.inputs.into_iter().map(output).collect(),
        raw_output_contents: request.raw_input_contents,
        ..pb::ModelInferResponse::default()
    }
}

#[tonic::async_trait]
impl GrpcInferenceService for Echo {
    async fn model_infer(
        &self,
        request: Request<pb::ModelInferRequest>,
    ) -> Result<Response<pb::ModelInferResponse>, Status> {
        Ok(Response::new(echo(request.into_inner())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_becomes_a_message() {
        let json = br#"{"id":"7","inputs":[
            {"name":"x","datatype":"FP32","shape":[2,1],"data":[[1],[2.5]]},
            {"name":"s","datatype":"BYTES","shape":[1],"data":["ab"]}]}"#;
        let frame = message("m", json).unwrap();
        let (prefix, message) = frame.split_at(5);
        assert_eq!(prefix[1..], u32::try_from(message.len()).unwrap().to_be_bytes());
        let request = pb::ModelInferRequest::decode(message).unwrap();
        assert_eq!((request.model_name.as_str(), request.id.as_str()), ("m", "7"));
        assert_eq!(request.inputs[0].shape, [2, 1]);
        let numbers = [1_f32.to_le_bytes(), 2.5_f32.to_le_bytes()].concat();
        assert_eq!(request.raw_input_contents, [&numbers[..], b"\x02\0\0\0ab"]);
        assert_eq!(echo(request).raw_output_contents[0], numbers);
        for (wrong, why) in [
            (r#"{"inputs":[{"name":"x","datatype":"FP16","shape":[1],"data":[1]}]}"#, "FP16"),
            (r#"{"inputs":[{"name":"x","datatype":"UINT8","shape":[1],"data":[256]}]}"#, "256"),
            (r#"{"instances":[[1]]}"#, "inputs"),
        ] {
            let error = super::message("m", wrong.as_bytes()).unwrap_err().to_string();
            assert!(error.contains(why), "{error}");
        }
    }

    #[test]
    fn paths_name_models() {
        assert_eq!(model_in("/v2/models/churn/infer"), Some("churn"));
        for path in ["/v2/models/churn", "/predict/churn", "/v2/models/a/versions/1/infer"] {
            assert_eq!(model_in(path), None, "{path}");
        }
    }

    #[test]
    fn a_status_is_read() {
        let of = |code: &str| status(&HeaderMap::from_iter([(STATUS, code.parse().unwrap())]));
        assert_eq!(of("0"), Some(StatusCode::OK));
        assert_eq!(of("14"), Some(StatusCode::SERVICE_UNAVAILABLE));
        assert_eq!(status(&HeaderMap::new()), None);
    }
}
