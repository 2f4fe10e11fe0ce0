//! From a file to a [`TractModel`].

use std::io::Read;
use std::path::Path;
use std::sync::Arc;

use prost::Message;
use tract_onnx::Onnx;
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::*;

use super::guard::guarded;
use super::plans::Plans;
use super::{TractModel, check, operators, rewrite, signature};
use crate::engine::{EngineError, EngineErrorKind};

/// Protobuf itself ends at 2 GB.
const FILE_BYTES_MAX: u64 = 1 << 31;

/// Reads, checks and optimises `artifact`.
pub(super) fn load(onnx: &Onnx, artifact: &Path) -> Result<TractModel, EngineError> {
    load_bytes(onnx, &read(artifact)?)
}

pub(super) fn load_bytes(onnx: &Onnx, bytes: &[u8]) -> Result<TractModel, EngineError> {
    let mut proto = ModelProto::decode(bytes)
        .map_err(|error| unsupported(format!("this is no ONNX file: {error}")))?;
    check::check(&proto)?;
    let signature = signature::read(&proto)?;
    let operators = operators::count(&proto);
    rewrite::rewrite(&mut proto)?;
    let model = parse(onnx, &proto)?;
    let plans = Plans::build(model, signature)?;
    Ok(TractModel { operators, plans: Arc::new(plans) })
}

fn read(artifact: &Path) -> Result<Vec<u8>, EngineError> {
    let failed = |error: std::io::Error| {
        EngineError::new(EngineErrorKind::Internal, format!("{}: {error}", artifact.display()))
    };
    let file = std::fs::File::open(artifact).map_err(failed)?;
    let mut bytes = Vec::new();
    // Never more than the limit, even if the file grows meanwhile.
    file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(unsupported(format!(
            "{} is larger than {FILE_BYTES_MAX} bytes, the largest ONNX file there can be",
            artifact.display()
        )));
    }
    Ok(bytes)
}

/// Lets tract parse the rewritten file, and refuses what it does not know.
fn parse(onnx: &Onnx, proto: &ModelProto) -> Result<InferenceModel, EngineError> {
    check::operators(onnx, proto)?;
    let parsed =
        guarded(EngineErrorKind::Unsupported, "reading the graph", || onnx.parse(proto, None))?;
    if !parsed.unresolved_inputs.is_empty() {
        return Err(unsupported(format!(
            "nothing produces the values {:?}",
            parsed.unresolved_inputs
        )));
    }
    Ok(parsed.model)
}

/// The error for a broken or unsupported file.
pub(super) fn unsupported(message: impl Into<String>) -> EngineError {
    EngineError::new(EngineErrorKind::Unsupported, message)
}
