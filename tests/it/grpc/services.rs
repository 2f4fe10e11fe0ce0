//! What the server and its models are; health and reflection.

use tonic::Code;
use tonic::codec::CompressionEncoding;
use tonic::codegen::tokio_stream::once;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse};
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use tonic_reflection::pb::v1::{ServerReflectionRequest, ServerReflectionResponse};
use tonic_reflection::pb::v1alpha;

use super::{Client, channel, connect, pb, refused, runtime};
use crate::gateway::start;

const SERVICE: &str = "inference.GRPCInferenceService";

#[test]
fn the_server_and_its_models_are_described() {
    let gateway = start("", &["answers 1", "answers 2"]);
    runtime().block_on(async {
        let mut client = connect(&gateway).await;
        assert!(client.server_live(pb::ServerLiveRequest {}).await.unwrap().into_inner().live);
        assert!(client.server_ready(pb::ServerReadyRequest {}).await.unwrap().into_inner().ready);
        let server = client.server_metadata(pb::ServerMetadataRequest {}).await.unwrap();
        assert_eq!(server.into_inner().name, "foreshadow");
        let request = pb::ModelMetadataRequest { name: "m".to_owned(), version: String::new() };
        let model = client.model_metadata(request).await.unwrap().into_inner();
        assert_eq!((model.name.as_str(), model.platform.as_str()), ("m", "onnx_scripted"));
        assert_eq!(model.inputs[0].shape, [-1, 1]);
        assert_eq!(model.outputs[0].datatype, "FP32");
        let request = pb::ModelMetadataRequest { name: "z".to_owned(), version: String::new() };
        refused(client.model_metadata(request).await, Code::NotFound);
        ready_models(&mut client).await;
    });
    gateway.app.stop();
}

async fn ready_models(client: &mut Client) {
    for (name, version, ready) in [("m", "", true), ("m", "9", false), ("z", "", false)] {
        let request = pb::ModelReadyRequest { name: name.to_owned(), version: version.to_owned() };
        let got = client.model_ready(request).await.unwrap().into_inner().ready;
        assert_eq!(got, ready, "{name} {version}");
    }
}

/// A client's one channel may compress everything.
#[test]
fn health_and_reflection_take_what_is_compressed() {
    let gateway = start("", &["answers 1"]);
    runtime().block_on(async {
        for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Deflate] {
            let mut client = HealthClient::new(channel(&gateway).await).send_compressed(encoding);
            let ask = HealthCheckRequest { service: "m".to_owned() };
            let got = client.check(ask).await.unwrap().into_inner();
            assert_eq!(got.status(), ServingStatus::Serving);
            let client = ServerReflectionClient::new(channel(&gateway).await);
            let request = ServerReflectionRequest {
                message_request: Some(MessageRequest::ListServices(String::new())),
                ..ServerReflectionRequest::default()
            };
            let mut client = client.send_compressed(encoding);
            let replies = client.server_reflection_info(once(request)).await.unwrap();
            assert!(replies.into_inner().message().await.unwrap().is_some());
        }
    });
    gateway.app.stop();
}

#[test]
fn health_is_the_readiness() {
    let gateway = start("", &["answers 1"]);
    let runtime = runtime();
    let mut watch = runtime.block_on(async {
        let mut client = HealthClient::new(channel(&gateway).await);
        let ask = |service: &str| HealthCheckRequest { service: service.to_owned() };
        for service in ["", SERVICE, "m"] {
            let got = client.check(ask(service)).await.unwrap().into_inner();
            assert_eq!(got.status(), ServingStatus::Serving, "{service}");
        }
        refused(client.check(ask("nobody")).await, Code::NotFound);
        let watch = client.watch(ask("nobody")).await.unwrap().into_inner().message().await;
        assert_eq!(watch.unwrap().unwrap().status(), ServingStatus::ServiceUnknown);
        let mut watch = client.watch(ask("")).await.unwrap().into_inner();
        let first = watch.message().await.unwrap().unwrap();
        assert_eq!(first.status(), ServingStatus::Serving);
        watch
    });
    gateway.app.stop();
    // The end of the process ends it, told or not that it drains.
    let last = runtime.block_on(async {
        loop {
            match watch.message().await {
                Ok(Some(HealthCheckResponse { status })) => {
                    assert_eq!(status, ServingStatus::NotServing as i32);
                }
                Ok(None) => panic!("it ended well"),
                Err(status) => break status,
            }
        }
    });
    assert_eq!(last.code(), Code::Unavailable, "{last:?}");
}

#[test]
fn reflection_tells_every_method() {
    let gateway = start("", &["answers 1"]);
    runtime().block_on(async {
        let mut client = ServerReflectionClient::new(channel(&gateway).await);
        let mut ask = async |message_request: MessageRequest| {
            let host = String::new();
            let request = ServerReflectionRequest { host, message_request: Some(message_request) };
            let replies = client.server_reflection_info(once(request)).await.unwrap();
            let reply = replies.into_inner().message().await.unwrap();
            let ServerReflectionResponse { message_response, .. } = reply.unwrap();
            message_response.unwrap()
        };
        let MessageResponse::ListServicesResponse(services) =
            ask(MessageRequest::ListServices(String::new())).await
        else {
            panic!("no services")
        };
        let mut names: Vec<_> = services.service.into_iter().map(|service| service.name).collect();
        names.sort_unstable();
        assert!(names.contains(&SERVICE.to_owned()), "{names:?}");
        assert!(names.contains(&"grpc.health.v1.Health".to_owned()), "{names:?}");
        let MessageResponse::FileDescriptorResponse(files) =
            ask(MessageRequest::FileContainingSymbol(SERVICE.to_owned())).await
        else {
            panic!("no file")
        };
        let text = String::from_utf8_lossy(&files.file_descriptor_proto[0]).into_owned();
        for method in ["ModelInfer", "ModelStreamInfer", "RepositoryModelLoad"] {
            assert!(text.contains(method), "{method}");
        }
        // And in the form that older tools ask for.
        let mut old =
            v1alpha::server_reflection_client::ServerReflectionClient::new(channel(&gateway).await);
        let request = v1alpha::ServerReflectionRequest {
            host: String::new(),
            message_request: Some(
                v1alpha::server_reflection_request::MessageRequest::ListServices(String::new()),
            ),
        };
        let replies = old.server_reflection_info(once(request)).await.unwrap();
        assert!(replies.into_inner().message().await.unwrap().is_some());
    });
    gateway.app.stop();
}
