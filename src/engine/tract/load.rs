//! From a file to a [`TractModel`].

use std::path::Path;
use std::sync::Arc;

use tract_onnx::Onnx;
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::*;

use super::guard::guarded;
use super::parameters::{self, Parametric, ParametricModel};
use super::plans::Plans;
use super::{TractModel, check, inline, legacy, operators, rewrite, signature};
use crate::engine::onnx::{external, file};
use crate::engine::{EngineError, EngineErrorKind, Model, Operator};
use crate::types::Signature;

/// Reads, checks and optimises `artifact`.
pub(super) fn load(onnx: &Arc<Onnx>, artifact: &Path) -> Result<Arc<dyn Model>, EngineError> {
    let mut checked = read(decode(&file::read(artifact)?)?, artifact.parent())?;
    let error = match optimise(onnx, &mut checked, artifact.parent()) {
        Ok(model) => return Ok(Arc::new(model)),
        Err(error) => error,
    };
    let Checked { proto, signature, operators } = checked;
    let parameters = parameters::find(&proto, &signature);
    if parameters.is_empty() || error.kind != EngineErrorKind::Unsupported {
        return Err(error);
    }
    // There may be no plan without the values, which come with the requests.
    check::operators(onnx, &proto)?;
    tracing::debug!(%error, "a plan for each value of the parameters");
    let model = Parametric::new(onnx.clone(), proto, signature, operators, parameters);
    Ok(Arc::new(ParametricModel(Arc::new(model))))
}

/// Loads a file that needs no other.
#[cfg(test)]
pub(super) fn load_bytes(onnx: &Onnx, bytes: &[u8]) -> Result<TractModel, EngineError> {
    optimise(onnx, &mut read(decode(bytes)?, None)?, None)
}

/// Decodes the file, without functions, and in terms of a newer operator set.
fn decode(bytes: &[u8]) -> Result<ModelProto, EngineError> {
    let mut proto = file::decode(bytes)?;
    inline::inline(&mut proto, bytes)?;
    legacy::modernise(&mut proto);
    Ok(proto)
}

/// A file that has passed the checks, rewritten for tract.
struct Checked {
    proto: ModelProto,
    signature: Signature,
    operators: Vec<Operator>,
}

/// Checks and rewrites a decoded file whose external data, if it has any, lie
/// in `folder`.
fn read(mut proto: ModelProto, folder: Option<&Path>) -> Result<Checked, EngineError> {
    external::resolve(&mut proto, folder)?;
    check::check(&proto)?;
    let signature = signature::read(&proto)?;
    let operators = operators::count(&proto);
    rewrite::rewrite(&mut proto)?;
    Ok(Checked { proto, signature, operators })
}

fn optimise(
    onnx: &Onnx,
    checked: &mut Checked,
    folder: Option<&Path>,
) -> Result<TractModel, EngineError> {
    let model = parse(onnx, &checked.proto, folder)?;
    if parameters::find(&checked.proto, &checked.signature).is_empty() {
        // The graph has the weights now; they need not be there twice.
        checked.proto = ModelProto::default();
    }
    let plans = Plans::build(model, checked.signature.clone())?;
    Ok(TractModel { operators: checked.operators.clone(), plans: Arc::new(plans) })
}

/// Lets tract parse the rewritten file, and refuses what it does not know.
pub(super) fn parse(
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
