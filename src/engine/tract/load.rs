//! From a file to a [`TractModel`].

use std::path::Path;
use std::sync::Arc;

use tract_onnx::Onnx;
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::*;

use super::guard::guarded;
use super::plans::Plans;
use super::{TractModel, check, inline, operators, rewrite, signature};
use crate::engine::onnx::{external, file};
use crate::engine::{EngineError, EngineErrorKind};

/// Reads, checks and optimises `artifact`.
pub(super) fn load(onnx: &Onnx, artifact: &Path) -> Result<TractModel, EngineError> {
    load_proto(onnx, decode(&file::read(artifact)?)?, artifact.parent())
}

/// Loads a file that needs no other.
#[cfg(test)]
pub(super) fn load_bytes(onnx: &Onnx, bytes: &[u8]) -> Result<TractModel, EngineError> {
    load_proto(onnx, decode(bytes)?, None)
}

/// Decodes the file, without functions.
fn decode(bytes: &[u8]) -> Result<ModelProto, EngineError> {
    let mut proto = file::decode(bytes)?;
    inline::inline(&mut proto, bytes)?;
    Ok(proto)
}

/// Loads a decoded file whose external data, if it has any, lie in `folder`.
fn load_proto(
    onnx: &Onnx,
    mut proto: ModelProto,
    folder: Option<&Path>,
) -> Result<TractModel, EngineError> {
    external::resolve(&mut proto, folder)?;
    check::check(&proto)?;
    let signature = signature::read(&proto)?;
    let operators = operators::count(&proto);
    rewrite::rewrite(&mut proto)?;
    let model = parse(onnx, &proto, folder)?;
    // The graph has the weights now; they need not be there twice.
    drop(proto);
    let plans = Plans::build(model, signature)?;
    Ok(TractModel { operators, plans: Arc::new(plans) })
}

/// Lets tract parse the rewritten file, and refuses what it does not know.
fn parse(
    onnx: &Onnx,
    proto: &ModelProto,
    folder: Option<&Path>,
) -> Result<InferenceModel, EngineError> {
    check::operators(onnx, proto)?;
    let folder = folder.map(|folder| folder.to_str().ok_or(folder)).transpose();
    let folder = folder
        .map_err(|folder| unsupported(format!("the folder {} is not UTF-8", folder.display())))?;
    let parsed =
        guarded(EngineErrorKind::Unsupported, "reading the graph", || onnx.parse(proto, folder))?;
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
