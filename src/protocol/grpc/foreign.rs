//! Services that tonic has.

use std::convert::Infallible;
use std::pin::Pin;

use http::{Request, Response};
use tonic::body::Body;
use tonic::codec::CompressionEncoding;
use tonic::codegen::Service as TonicService;

use crate::protocol::grpc::info::BYTES_MAX;
use crate::protocol::grpc::pb;

/// A reply under way.
pub(super) type Answer = Pin<Box<dyn Future<Output = Response<Body>> + Send>>;

/// A service that answers for itself.
pub(super) type Foreign = Box<dyn Fn(Request<Body>) -> Answer + Send + Sync>;

/// The services, by the beginning of their paths.
pub(super) struct Services([(&'static str, Foreign); 2]);

impl Services {
    pub(super) fn new() -> Self {
        // A channel that compresses asks them on the same connection.
        macro_rules! as_inference {
            ($service:expr) => {
                foreign(
                    $service
                        .accept_compressed(CompressionEncoding::Gzip)
                        .accept_compressed(CompressionEncoding::Deflate)
                        .max_decoding_message_size(BYTES_MAX),
                )
            };
        }
        let reflection = || {
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(pb::DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        };
        const VALID: &str = "the descriptors were made by the build";
        Self([
            ("/grpc.reflection.v1.", as_inference!(reflection().build_v1().expect(VALID))),
            (
                "/grpc.reflection.v1alpha.",
                as_inference!(reflection().build_v1alpha().expect(VALID)),
            ),
        ])
    }

    /// The service of a path.
    pub(super) fn find(&self, path: &str) -> Option<&Foreign> {
        let found = self.0.iter().find(|(prefix, _)| path.starts_with(prefix));
        found.map(|(_, service)| service)
    }
}

fn foreign<S>(service: S) -> Foreign
where
    S: TonicService<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + Sync
        + 'static,
    S::Future: Send + 'static,
{
    // Such a service is ready at any time.
    Box::new(move |request| {
        let answer = service.clone().call(request);
        Box::pin(async move {
            match answer.await {
                Ok(reply) => reply,
                Err(never) => match never {},
            }
        })
    })
}
