//! Runs graphs. An engine knows tensors; it knows nothing of requests,
//! plans, roles or protocols.
//!
//! Everything here is synchronous and may take long: who calls chooses the
//! thread.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::types::{PlanFigures, Signature, Tensor};

mod declared;
mod onnx;
mod onnx_ml;
mod onnxruntime;
mod set;
mod tract;

pub use declared::declare;
pub use onnx::{ExternalFile, external_files};
pub use onnxruntime::OnnxRuntime;
pub use set::{EngineSet, EngineSettings};
pub use tract::Tract;

/// Why an engine failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineErrorKind {
    /// The tensors do not fit the model.
    BadInput,
    /// The tensors fit the model, but a value in them is none that it takes.
    BadValue,
    /// The artifact is broken, or uses what this engine lacks.
    Unsupported,
    /// Not enough memory.
    OutOfMemory,
    /// A panic that the engine caught itself.
    Panic,
    /// Everything else.
    Internal,
}

/// A failure of an engine, with a message for people.
#[derive(Clone, Debug)]
pub struct EngineError {
    /// What kind.
    pub kind: EngineErrorKind,
    /// What happened, where (node and operator where known).
    pub message: String,
}

impl EngineError {
    /// An error of `kind`.
    #[must_use]
    pub fn new(kind: EngineErrorKind, message: impl Into<String>) -> Self {
        Self { kind, message: message.into() }
    }
}

impl fmt::Display for EngineError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for EngineError {}

/// What loads artifacts.
pub trait Engine: Send + Sync {
    /// The name in settings and metadata (`tract`).
    fn name(&self) -> &'static str;

    /// What it consists of besides this binary, such as a library that it
    /// loads: a candidate's trial holds for the same one only.
    fn identity(&self) -> String {
        String::new()
    }

    /// The version of what runs the graphs; empty where it cannot be told.
    fn version(&self) -> String {
        String::new()
    }

    /// Loads and optimises an ONNX file. Slow; a hostile file may panic,
    /// loop or eat memory, which is why candidates are first tried in a child
    /// process.
    fn load(&self, artifact: &Path) -> Result<Arc<dyn Model>, EngineError>;
}

/// An operator that a graph uses, and how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Operator {
    /// The domain; empty for the standard's own operators.
    pub domain: String,
    /// The type, `Gemm` for instance.
    pub op_type: String,
    /// Nodes of this type, those of inner graphs included.
    pub count: usize,
}

/// A loaded, immutable graph.
pub trait Model: Send + Sync {
    /// Names, datatypes and shapes, taken from the artifact.
    fn signature(&self) -> &Signature;

    /// The operators of the artifact by domain and type; empty where the
    /// engine cannot tell.
    fn operators(&self) -> &[Operator] {
        &[]
    }

    /// Whether a batch of a size that never came before costs no more than
    /// its rows do: no optimising, for instance.
    fn takes_new_shapes(&self) -> bool {
        true
    }

    /// What a run on `inputs` should take, where this was measured on earlier
    /// ones of their shapes.
    fn run_time(&self, _inputs: &[Tensor]) -> Option<Duration> {
        None
    }

    /// The rows that a run like `inputs`, but of `rows` rows, would compute: more
    /// than `rows` where they are padded. `None` where something would have to
    /// be made for just that number, so that such batches are not to be run.
    fn computed_rows(&self, _inputs: &[Tensor], rows: usize) -> Option<usize> {
        Some(rows)
    }

    /// Frees what was made for shapes that did not come for `idle`. Not for a
    /// request's thread.
    fn trim(&self, _idle: Duration) {}

    /// What was made for shapes, and is held.
    fn plans(&self) -> PlanFigures {
        PlanFigures::default()
    }

    /// A new session; costs memory, so sessions are pooled.
    fn session(&self) -> Result<Box<dyn Session>, EngineError>;
}

/// What runs one batch at a time, with its own buffers.
pub trait Session: Send {
    /// Runs a batch. `inputs` are in the signature's order and already
    /// checked against it; outputs come in the signature's order. After an
    /// error or a panic the caller drops the session.
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError>;

    /// The same, if nothing has to be made for these shapes first; else `None`,
    /// at once.
    fn run_known(&mut self, inputs: &[Tensor]) -> Result<Option<Vec<Tensor>>, EngineError> {
        self.run(inputs).map(Some)
    }
}
