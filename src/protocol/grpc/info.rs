//! Calls that are no inference.

use bytes::Bytes;
use http::Response;

use crate::error::{Error, ErrorCode, Result};
use crate::protocol::call::Failed;
use crate::protocol::grpc::Grpc;
use crate::protocol::grpc::answer::Writing;
use crate::protocol::grpc::body::GrpcBody;
use crate::protocol::grpc::infer::message;
use crate::protocol::grpc::pb;
use crate::protocol::grpc::pb::model_metadata_response::TensorMetadata;
use crate::protocol::grpc::route::Call;
use crate::protocol::v2::config::ModelConfig;
use crate::protocol::v2::metadata;

/// The most bytes of such a message: names, mostly.
pub(super) const BYTES_MAX: usize = 256 << 10;

/// The version that a message names; it may name none.
pub(super) fn named(version: &str) -> Option<&str> {
    Some(version).filter(|version| !version.is_empty())
}

impl Grpc {
    /// Answers a call whose message is `bytes`.
    pub(super) fn info(
        &self,
        call: Call,
        bytes: Bytes,
        writing: Writing,
    ) -> Result<Response<GrpcBody>, Failed> {
        let reply = match call {
            Call::Live => {
                message::<pb::ServerLiveRequest>(bytes)?;
                // Whoever can answer is alive.
                writing.reply(&pb::ServerLiveResponse { live: true })
            }
            Call::Ready => {
                message::<pb::ServerReadyRequest>(bytes)?;
                let ready = metadata::ready(&self.service.readiness).is_ok();
                writing.reply(&pb::ServerReadyResponse { ready })
            }
            Call::ModelReady => writing.reply(&self.model_ready(&message(bytes)?)?),
            Call::Server => {
                message::<pb::ServerMetadataRequest>(bytes)?;
                writing.reply(&server())
            }
            Call::Model => writing.reply(&self.model(&message(bytes)?)?),
            Call::Config => writing.reply(&self.config(&message(bytes)?)?),
            Call::Statistics => writing.reply(&self.statistics(&message(bytes)?)?),
            Call::Index => writing.reply(&self.index(&message(bytes)?)?),
            Call::Wish(_) | Call::Infer | Call::StreamInfer | Call::Check | Call::Watch => {
                Err(Error::internal("what takes its time has an answer of its own"))
            }
        };
        Ok(reply?)
    }

    /// A model or version that nobody knows is not ready, which is no error here.
    fn model_ready(&self, request: &pb::ModelReadyRequest) -> Result<pb::ModelReadyResponse> {
        let plan = self.service.router.plan(&request.name);
        let checked = plan.and_then(|plan| metadata::check_ready(&plan, named(&request.version)));
        match checked.as_ref().map_err(Error::code) {
            Err(ErrorCode::NotFound | ErrorCode::Unavailable) => {
                Ok(pb::ModelReadyResponse { ready: false })
            }
            _ => checked.map(|()| pb::ModelReadyResponse { ready: true }),
        }
    }

    fn model(&self, request: &pb::ModelMetadataRequest) -> Result<pb::ModelMetadataResponse> {
        let plan = self.service.router.plan(&request.name)?;
        let model = metadata::describe(&plan, named(&request.version))?;
        Ok(pb::ModelMetadataResponse {
            name: model.name.to_owned(),
            versions: model.versions,
            platform: model.platform,
            inputs: model.inputs.into_iter().map(tensor).collect(),
            outputs: model.outputs.into_iter().map(tensor).collect(),
        })
    }

    fn config(&self, request: &pb::ModelConfigRequest) -> Result<pb::ModelConfigResponse> {
        let plan = self.service.router.plan(&request.name)?;
        let config = ModelConfig::of(&plan, named(&request.version))?;
        Ok(pb::ModelConfigResponse { config: Some(config.into()) })
    }
}

fn server() -> pb::ServerMetadataResponse {
    pb::ServerMetadataResponse {
        name: metadata::NAME.to_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        extensions: metadata::EXTENSIONS.iter().map(|name| (*name).to_owned()).collect(),
    }
}

fn tensor(tensor: metadata::Tensor<'_>) -> TensorMetadata {
    TensorMetadata {
        name: tensor.name.to_owned(),
        datatype: tensor.datatype.to_owned(),
        shape: tensor.shape,
    }
}
