//! Paths to calls; pure.

use crate::error::{Error, ErrorCode, Result};
use crate::protocol::message::short;
use crate::types::Wish;

/// The service.
pub(super) const SERVICE: &str = "inference.GRPCInferenceService";

/// The standard health service.
const HEALTH: &str = "grpc.health.v1.Health";

/// What a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Call {
    /// `ServerLive`.
    Live,
    /// `ServerReady`.
    Ready,
    /// `ModelReady`.
    ModelReady,
    /// `ServerMetadata`.
    Server,
    /// `ModelMetadata`.
    Model,
    /// `ModelConfig`.
    Config,
    /// `ModelStatistics`.
    Statistics,
    /// `RepositoryIndex`.
    Index,
    /// `RepositoryModelLoad` and `RepositoryModelUnload`.
    Wish(Wish),
    /// `ModelInfer`.
    Infer,
    /// `ModelStreamInfer`.
    StreamInfer,
    /// `Check` of the health service.
    Check,
    /// `Watch` of the health service.
    Watch,
}

/// Finds the call.
pub(super) fn route(path: &str) -> Result<Call> {
    let of = |service| path.strip_prefix('/')?.strip_prefix(service)?.strip_prefix('/');
    match of(HEALTH) {
        Some("Check") => return Ok(Call::Check),
        Some("Watch") => return Ok(Call::Watch),
        _ => {}
    }
    let method = of(SERVICE);
    Ok(match method.unwrap_or_default() {
        "ServerLive" => Call::Live,
        "ServerReady" => Call::Ready,
        "ModelReady" => Call::ModelReady,
        "ServerMetadata" => Call::Server,
        "ModelMetadata" => Call::Model,
        "ModelConfig" => Call::Config,
        "ModelStatistics" => Call::Statistics,
        "RepositoryIndex" => Call::Index,
        "RepositoryModelLoad" => Call::Wish(Wish::Load),
        "RepositoryModelUnload" => Call::Wish(Wish::Unload),
        "ModelInfer" => Call::Infer,
        "ModelStreamInfer" => Call::StreamInfer,
        method => return Err(refused(method, path)),
    })
}

/// Why there is no such call.
fn refused(method: &str, path: &str) -> Error {
    let message = match method {
        "SystemSharedMemoryStatus"
        | "SystemSharedMemoryRegister"
        | "SystemSharedMemoryUnregister"
        | "CudaSharedMemoryStatus"
        | "CudaSharedMemoryRegister"
        | "CudaSharedMemoryUnregister" => format!(
            "{method} is refused: a client that changes memory while it is read could crash this \
             server; send tensors in raw_input_contents"
        ),
        "TraceSetting" => {
            format!("{method} is refused: requests are not traced at a client's wish")
        }
        "LogSettings" => {
            format!("{method} is refused: what is logged is a setting of the process ([log])")
        }
        _ => format!(
            "no such method: {:?}; there are those of {SERVICE}, which reflection tells",
            short(path)
        ),
    };
    Error::new(ErrorCode::Unsupported, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_says_why() {
        assert_eq!(route("/inference.GRPCInferenceService/ModelInfer").unwrap(), Call::Infer);
        assert_eq!(route("/grpc.health.v1.Health/Check").unwrap(), Call::Check);
        for (path, why) in [
            ("/inference.GRPCInferenceService/CudaSharedMemoryStatus", "could crash this server"),
            ("/inference.GRPCInferenceService/LogSettings", "a setting of the process"),
            ("/inference.GRPCInferenceService/Nothing", "no such method"),
            ("/inference.GRPCInferenceService", "no such method"),
            ("/other/ModelInfer", "no such method"),
            ("/inference.GRPCInferenceService/Check", "no such method"),
            ("/grpc.health.v1.Health/ModelInfer", "no such method"),
            ("", "no such method"),
        ] {
            let error = route(path).unwrap_err();
            assert_eq!(error.code(), ErrorCode::Unsupported);
            assert!(error.message().contains(why), "{error}");
        }
    }
}
