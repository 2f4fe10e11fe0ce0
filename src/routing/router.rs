//! The data path's door: model → plan → run → reply → copies.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorCode, Result};
use crate::routing::{Assignment, Catalog, Choice, Lane, Plan};
use crate::serving::{Executor, Request};
use crate::telemetry::ArmRole;
use crate::types::{ModelName, Tensor};

/// An answer, with the inputs that led to it.
pub struct Answer {
    /// In the signature's order.
    pub inputs: Vec<Tensor>,
    /// In the signature's order.
    pub outputs: Vec<Tensor>,
    /// Time spent waiting for an engine thread.
    pub queue: Duration,
    /// Time in the engine.
    pub inference: Duration,
}

/// Routes requests.
pub struct Router {
    catalog: Arc<Catalog>,
    executor: Executor,
    lane: Lane,
}

impl Router {
    /// A router over a catalog.
    #[must_use]
    pub const fn new(catalog: Arc<Catalog>, executor: Executor, lane: Lane) -> Self {
        Self { catalog, executor, lane }
    }

    /// The catalog.
    #[must_use]
    pub const fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// The present plan of a model: a request calls this once.
    pub fn plan(&self, model: &str) -> Result<Arc<Plan>> {
        let slot = self.catalog.slot(model).ok_or_else(|| self.unknown(model))?;
        Ok(slot.load())
    }

    /// The only model there is, for requests that name none.
    pub fn only_model(&self) -> Result<ModelName> {
        self.catalog.only().ok_or_else(|| {
            Error::invalid(format!("\"model\" is missing; models: {}", self.names()))
        })
    }

    /// Refuses a request for this version if that is all that could be done for
    /// it: to be asked before its inputs are decoded.
    pub fn check(&self, assignment: &Assignment, deadline: Option<Instant>) -> Result<()> {
        self.executor.check(assignment.version(), deadline)
    }

    /// Runs a request on the version it was assigned. `inputs` are in the
    /// signature's order and checked against it.
    pub async fn infer(
        &self,
        assignment: &Assignment,
        inputs: Vec<Tensor>,
        deadline: Option<Instant>,
    ) -> Result<Answer> {
        let arm = assignment.arm();
        let batching = assignment.plan().settings.batching;
        let measure_cpu = assignment.has_shadows();
        let request = Request { inputs, deadline, measure_cpu, batching };
        let done = self.executor.run(&arm.version, request).await?;
        arm.stats.ran(done.queue, done.inference);
        if let Some(cpu) = done.cpu {
            arm.stats.used_cpu(cpu);
        }
        Ok(Answer {
            inputs: done.inputs,
            outputs: done.outputs,
            queue: done.queue,
            inference: done.inference,
        })
    }

    /// Hands copies to the shadows. Called when the reply is written; never
    /// waits.
    pub fn copy_to_shadows(&self, assignment: &Assignment, answer: Answer, prediction_id: &str) {
        if assignment.has_shadows() && assignment.choice() == Choice::Split(ArmRole::Champion) {
            self.lane.offer(assignment, answer.inputs, answer.outputs, prediction_id);
        }
    }

    fn unknown(&self, model: &str) -> Error {
        let shown: String = model.chars().take(128).collect();
        let message = format!("unknown model {shown:?}; models: {}", self.names());
        Error::new(ErrorCode::NotFound, message)
    }

    fn names(&self) -> String {
        let names: Vec<_> = self.catalog.names().iter().map(ToString::to_string).collect();
        if names.is_empty() { "none".to_owned() } else { names.join(", ") }
    }
}
