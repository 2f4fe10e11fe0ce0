//! The default engine: tract, in this process, in Rust.
//!
//! A file goes through these steps, and the first that fails says why:
//!
//! ```text
//! bytes → decode → inline functions → external data → check (sizes, names) →
//! rewrite (ai.onnx.ml names, symbols) → parse → type → optimise → plan
//! ```
//!
//! Invariants: no panic of tract leaves this module (each becomes
//! [`EngineErrorKind::Internal`]); tract's own five ML operators are never
//! reached; runs use no thread but the caller's, and take no global lock; the
//! signature comes from the file and not from tract's graph.

mod attributes;
mod check;
mod convert;
mod guard;
mod ignored;
mod inline;
mod legacy;
mod load;
pub(super) mod operators;
mod ops;
mod parameters;
mod plans;
mod recurrence;
mod rewrite;
mod session;
pub(super) mod signature;
#[cfg(test)]
mod tests;
mod values;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tract_onnx::Onnx;

use crate::engine::{Engine, EngineError, Model, Operator, Session};
use crate::types::{PlanFigures, Signature, Tensor};
use plans::Plans;

/// What tract enters under short names although the default domain has no such
/// operators: its own ML operators, and those of other domains.
const FOREIGN: [&str; 20] = [
    "ArrayFeatureExtractor",
    "BiasGelu",
    "CategoryMapper",
    "ConstantLike",
    "FastGelu",
    "GatherBlockQuantized",
    "GroupQueryAttention",
    "LinearClassifier",
    "LinearRegressor",
    "MatMulNBits",
    "MultiHeadAttention",
    "Normalizer",
    "ParametricSoftplus",
    "QuickGelu",
    "Rsqrt",
    "ScaledTanh",
    "SimplifiedLayerNormalization",
    "SkipLayerNormalization",
    "SkipSimplifiedLayerNormalization",
    "TreeEnsembleClassifier",
];

/// tract's version, which tract itself does not tell.
const VERSION: &str = "0.23.9";

/// The engine. Cheap to clone and to share.
#[derive(Clone)]
pub struct Tract {
    onnx: Arc<Onnx>,
}

impl Tract {
    /// Registers the operators.
    #[must_use]
    pub fn new() -> Self {
        let mut onnx = tract_onnx::onnx().with_ignore_value_info(true);
        for op_type in FOREIGN {
            onnx.op_register.0.remove(op_type);
        }
        super::onnx_ml::register(&mut onnx.op_register);
        ops::register(&mut onnx.op_register);
        Self { onnx: Arc::new(onnx) }
    }
}

impl Default for Tract {
    fn default() -> Self {
        Self::new()
    }
}

impl Engine for Tract {
    fn name(&self) -> &'static str {
        "tract"
    }

    fn version(&self) -> String {
        VERSION.to_owned()
    }

    fn load(&self, artifact: &Path) -> Result<Arc<dyn Model>, EngineError> {
        load::load(&self.onnx, artifact)
    }
}

/// A loaded graph: its operators and its plans.
struct TractModel {
    operators: Vec<Operator>,
    plans: Arc<Plans>,
}

impl Model for TractModel {
    fn signature(&self) -> &Signature {
        self.plans.signature()
    }

    fn operators(&self) -> &[Operator] {
        &self.operators
    }

    fn takes_new_shapes(&self) -> bool {
        self.plans.is_open()
    }

    fn run_time(&self, inputs: &[Tensor]) -> Option<Duration> {
        self.plans.run_time(inputs)
    }

    fn computed_rows(&self, inputs: &[Tensor], rows: usize) -> Option<usize> {
        self.plans.computed_rows(inputs, rows)
    }

    fn trim(&self, idle: Duration) {
        self.plans.trim(idle);
    }

    fn plans(&self) -> PlanFigures {
        self.plans.figures()
    }

    fn session(&self) -> Result<Box<dyn Session>, EngineError> {
        Ok(Box::new(session::TractSession::new(self.plans.clone())))
    }
}
