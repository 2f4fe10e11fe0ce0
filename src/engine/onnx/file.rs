//! From a path to the decoded file.

use std::io::Read as _;
use std::path::Path;

use prost::Message as _;
use tract_onnx::pb::ModelProto;

use crate::engine::{EngineError, EngineErrorKind};

/// Protobuf itself ends at 2 GB.
const FILE_BYTES_MAX: u64 = 1 << 31;

/// Reads the whole file.
pub(in crate::engine) fn read(artifact: &Path) -> Result<Vec<u8>, EngineError> {
    let failed = |error: std::io::Error| {
        EngineError::new(EngineErrorKind::Internal, format!("{}: {error}", artifact.display()))
    };
    let file = std::fs::File::open(artifact).map_err(failed)?;
    let mut bytes = Vec::new();
    // Never more than the limit, even if the file grows meanwhile.
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(unsupported(format!(
            "{} is larger than {FILE_BYTES_MAX} bytes, the largest ONNX file there can be; keep \
             its weights in a file beside it (external data)",
            artifact.display()
        )));
    }
    Ok(bytes)
}

/// Decodes it.
pub(in crate::engine) fn decode(bytes: &[u8]) -> Result<ModelProto, EngineError> {
    ModelProto::decode(bytes).map_err(|error| unsupported(format!("this is no ONNX file: {error}")))
}

fn unsupported(message: impl Into<String>) -> EngineError {
    EngineError::new(EngineErrorKind::Unsupported, message)
}
