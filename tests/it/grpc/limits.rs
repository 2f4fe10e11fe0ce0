//! Sizes, counts and compression.

use bytes::Bytes;
use tonic::Code;
use tonic::codec::CompressionEncoding;

use super::{channel, connect, numbers, pb, refused, rows, runtime};
use crate::gateway::{start, start_with};
use pb::grpc_inference_service_client::GrpcInferenceServiceClient;

#[test]
fn messages_over_the_limit_are_refused_in_both_directions() {
    let gateway = start_with("", &["doubles"], &[("grpc.message_max", "1KiB")]);
    runtime().block_on(async {
        let mut client = connect(&gateway).await;
        let fits = vec![1.0; 200];
        client.model_infer(rows(&fits)).await.unwrap();
        let message =
            refused(client.model_infer(rows(&vec![1.0; 300])).await, Code::ResourceExhausted);
        assert!(message.contains("limit of 1029 bytes"), "{message}");
        // A reply is some bytes longer than its request.
        let message =
            refused(client.model_infer(rows(&vec![1.0; 242])).await, Code::ResourceExhausted);
        assert!(message.starts_with("the reply has"), "{message}");
        client.model_infer(rows(&fits)).await.unwrap();
    });
    gateway.app.stop();
}

#[test]
fn connections_over_the_limit_are_closed() {
    let gateway = start_with("", &["answers 1"], &[("server.connections_max", "1")]);
    runtime().block_on(async {
        let mut first = connect(&gateway).await;
        first.model_infer(rows(&[1.0])).await.unwrap();
        let address = gateway.app.grpc_address().unwrap();
        let second = tonic::transport::Endpoint::new(format!("http://{address}")).unwrap();
        let mut second = GrpcInferenceServiceClient::new(second.connect_lazy());
        assert!(second.model_infer(rows(&[1.0])).await.is_err());
        first.model_infer(rows(&[1.0])).await.unwrap();
    });
    gateway.app.stop();
}

#[test]
fn compression_goes_both_ways() {
    let gateway = start("", &["doubles"]);
    runtime().block_on(async {
        for encoding in [CompressionEncoding::Gzip, CompressionEncoding::Deflate] {
            let mut client = GrpcInferenceServiceClient::new(channel(&gateway).await)
                .send_compressed(encoding)
                .accept_compressed(encoding);
            for count in [1, 1000, 200_000] {
                let reply = client.model_infer(rows(&vec![1.5; count])).await.unwrap();
                let compressed = reply.metadata().get("grpc-encoding").is_some();
                assert_eq!(compressed, count >= 1000, "{count}");
                assert_eq!(numbers(&reply.into_inner()), vec![3.0; count]);
            }
        }
    });
    gateway.app.stop();
}

#[test]
fn a_bomb_is_refused() {
    let gateway = start_with("", &["doubles"], &[("grpc.message_max", "1MiB")]);
    runtime().block_on(async {
        let mut client = GrpcInferenceServiceClient::new(channel(&gateway).await)
            .send_compressed(CompressionEncoding::Gzip);
        let mut bomb = rows(&[1.0]);
        bomb.raw_input_contents[0] = Bytes::from(vec![0; 64 << 20]);
        let message = refused(client.model_infer(bomb).await, Code::ResourceExhausted);
        assert!(message.contains("decompressed"), "{message}");
    });
    gateway.app.stop();
}
