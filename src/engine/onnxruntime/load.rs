//! From a file to an [`OrtModel`].

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;

use ort::AsPointer as _;
use ort::environment::Environment;
use ort::session::builder::{GraphOptimizationLevel, SessionBuilder};
use prost::Message as _;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{GraphProto, ModelProto, TypeProto, type_proto};

use super::error::{Doing, classify};
use super::session::Graph;
use super::value::check;
use super::{OrtModel, library, shapes};
use crate::engine::onnx::{external, file};
use crate::engine::tract::{operators, signature};
use crate::engine::{EngineError, EngineErrorKind, onnx_ml};
use crate::types::Signature;

/// Where the library looks for external data of a graph that comes from
/// memory.
const EXTERNAL_FOLDER: &str = "session.model_external_initializers_file_folder_path";

/// Loads the library if need be, then the file.
pub(super) fn load(library: Option<&Path>, artifact: &Path) -> Result<OrtModel, EngineError> {
    let environment = library::environment(library)?;
    let mut proto = file::decode(&file::read(artifact)?)?;
    let folder = artifact.parent();
    external::resolve(&mut proto, folder)?;
    let mut signature = signature::read(&proto)?;
    let operators = operators::count(&proto);
    // The library reads the file itself, unless it has to read another one.
    let bytes = take_out_zip_maps(&mut proto).then(|| proto.encode_to_vec());
    drop(proto);
    let source = bytes.map_or(Source::File(artifact), |bytes| Source::Memory { bytes, folder });
    let graph = guarded(|| session(&environment, &source, &signature))?;
    shapes::complete(&mut signature, &graph);
    let signature = Arc::new(signature);
    Ok(OrtModel { signature, operators, graph: Arc::new(graph) })
}

/// What the library makes its session of.
enum Source<'a> {
    File(&'a Path),
    Memory { bytes: Vec<u8>, folder: Option<&'a Path> },
}

fn session(
    environment: &Environment,
    source: &Source<'_>,
    signature: &Signature,
) -> Result<Graph, EngineError> {
    let session = options(environment).and_then(|mut options| match source {
        Source::File(path) => options.commit_from_file(path),
        Source::Memory { bytes, folder } => {
            let folder = folder.map_or(Cow::Borrowed("."), Path::to_string_lossy);
            options.with_config_entry(EXTERNAL_FOLDER, folder)?.commit_from_memory(bytes)
        }
    });
    let session = session.map_err(|error| classify(Doing::Loading, &error))?;
    Graph::new(session, signature)
}

/// One thread, which is the caller's. Nothing that grows with the shapes that
/// come: no memory patterns, which are kept for each of them, and no arena,
/// which never gives back, and whose lock all runs of a session would share.
fn options(environment: &Environment) -> ort::Result<SessionBuilder> {
    let mut options = ort::session::Session::builder(environment)?
        .with_optimization_level(GraphOptimizationLevel::All)?
        .with_intra_threads(1)?
        .with_inter_threads(1)?
        .with_parallel_execution(false)?
        .with_memory_pattern(false)?
        .with_no_environment_execution_providers()?;
    // SAFETY: the options live, and are ours alone.
    unsafe { check((ort::api().DisableCpuMemArena)(options.ptr_mut()))? };
    Ok(options)
}

/// Puts an Identity in the place of every ZipMap: its values are the tensor
/// that goes in, which is what we serve. Whether there was one.
fn take_out_zip_maps(proto: &mut ModelProto) -> bool {
    let Some(graph) = &mut proto.graph else { return false };
    let mut outputs = Vec::new();
    for node in &mut graph.node {
        if node.domain == onnx_ml::DOMAIN && node.op_type == "ZipMap" {
            outputs.append(&mut node.output.clone());
            node.domain.clear();
            "Identity".clone_into(&mut node.op_type);
            node.attribute.clear();
        }
    }
    if outputs.is_empty() {
        return false;
    }
    declare_as_tensors(graph, &outputs);
    let standard = |domain: &str| domain.is_empty() || domain == "ai.onnx";
    if !proto.opset_import.iter().any(|import| standard(&import.domain)) {
        let import = tract_onnx::pb::OperatorSetIdProto { domain: String::new(), version: 13 };
        proto.opset_import.push(import);
    }
    true
}

/// Gives outputs that were maps the type of what they are now.
fn declare_as_tensors(graph: &mut GraphProto, names: &[String]) {
    // Only hints, some of which do not survive decoding: the library infers.
    graph.value_info.clear();
    for output in graph.output.iter_mut().filter(|output| names.contains(&output.name)) {
        let tensor = type_proto::Tensor { elem_type: DataType::Float as i32, shape: None };
        let value = Some(type_proto::Value::TensorType(tensor));
        output.r#type = Some(TypeProto { value, ..TypeProto::default() });
    }
}

/// The crate panics where it thinks that a call cannot fail.
fn guarded<T>(work: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
        let message = "onnxruntime: reading the file panicked";
        Err(EngineError::new(EngineErrorKind::Panic, message))
    })
}
