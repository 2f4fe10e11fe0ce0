//! The second engine: ONNX Runtime, from a shared library that is found at
//! run time.
//!
//! ```text
//! bytes → decode → signature, operators → take ZipMap out → session
//! ```
//!
//! Invariants: nothing is loaded before a model asks for it, and in the
//! gateway only after a child process has shown that it can be; one library
//! per process, for good; an absent or broken one is an error of the versions
//! that want it and of nothing else; no thread but the caller's; the
//! signature is the one that the default engine would give.

mod error;
mod library;
mod load;
mod session;
mod shapes;
#[cfg(test)]
mod tests;
mod value;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::engine::{Engine, EngineError, Model, Operator, Session};
use crate::types::Signature;

/// The engine's name in settings and metadata.
pub(super) const NAME: &str = "onnxruntime";

/// The engine. Cheap: the library is loaded with the first model.
pub struct OnnxRuntime {
    path: Option<PathBuf>,
}

impl OnnxRuntime {
    /// The engine over this library, or over the system's for `None`.
    #[must_use]
    pub fn new(library: Option<PathBuf>) -> Self {
        Self { path: library }
    }
}

impl Engine for OnnxRuntime {
    fn name(&self) -> &'static str {
        NAME
    }

    fn identity(&self) -> String {
        library::identity(self.path.as_deref())
    }

    fn version(&self) -> String {
        library::version()
    }

    fn load(&self, artifact: &Path) -> Result<Arc<dyn Model>, EngineError> {
        Ok(Arc::new(load::load(self.path.as_deref(), artifact)?))
    }
}

/// A loaded graph. Its sessions share the weights.
struct OrtModel {
    signature: Arc<Signature>,
    operators: Vec<Operator>,
    graph: Arc<session::Graph>,
}

impl Model for OrtModel {
    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn operators(&self) -> &[Operator] {
        &self.operators
    }

    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(session::OrtSession::new(self.signature.clone(), self.graph.clone())))
    }
}
