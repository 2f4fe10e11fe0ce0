//! Runs batches.

use std::sync::Arc;

use super::plans::{Plans, State};
use crate::engine::{EngineError, Session};
use crate::types::Tensor;

/// A model's session. Where there are several plans, each has states of its
/// own, which go with it.
pub(super) struct TractSession {
    plans: Arc<Plans>,
    state: Option<State>,
}

impl TractSession {
    pub(super) const fn new(plans: Arc<Plans>) -> Self {
        Self { plans, state: None }
    }
}

impl Session for TractSession {
    fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
        self.plans.run(&mut self.state, inputs)
    }

    fn run_known(&mut self, inputs: &[Tensor]) -> Result<Option<Vec<Tensor>>, EngineError> {
        self.plans.run_known(&mut self.state, inputs)
    }
}
