//! Runs batches: one state of tract's per plan, reused from run to run.

use std::sync::Arc;

use tract_onnx::prelude::*;
use tract_onnx::tract_core::model::TypedSimpleState;

use super::convert;
use super::guard::guarded;
use super::plan::{Plan, Plans, SHAPES_MAX, Shapes};
use crate::engine::{EngineError, EngineErrorKind, Session};
use crate::types::{Dim, Signature, Tensor as Sent};

/// A model's session.
pub(super) struct TractSession {
    signature: Arc<Signature>,
    plans: Arc<Plans>,
    states: States,
}

/// The states: for a symbolic plan one, else one per shape, bounded like the
/// plans.
#[derive(Default)]
struct States(Vec<(Shapes, TypedSimpleState)>);

impl TractSession {
    pub(super) fn new(signature: Arc<Signature>, plans: Arc<Plans>) -> Result<Self, EngineError> {
        let mut states = States::default();
        if plans.is_symbolic() {
            let shapes = Shapes::default();
            let plan = plans.get(&shapes)?;
            states.add(shapes, &plan)?;
        }
        Ok(Self { signature, plans, states })
    }
}

impl Session for TractSession {
    fn run(&mut self, inputs: &[Sent]) -> Result<Vec<Sent>, EngineError> {
        run(&self.signature, &self.plans, &mut self.states, inputs)
    }
}

/// Runs once, on a state that is thrown away.
pub(super) fn run_once(
    signature: &Signature,
    plans: &Plans,
    inputs: &[Sent],
) -> Result<Vec<Sent>, EngineError> {
    run(signature, plans, &mut States::default(), inputs)
}

fn run(
    signature: &Signature,
    plans: &Plans,
    states: &mut States,
    inputs: &[Sent],
) -> Result<Vec<Sent>, EngineError> {
    if plans.is_symbolic() {
        check_batch(signature, inputs)?;
    }
    let at = states.get(plans, inputs)?;
    let outputs = run_state(signature, &mut states.0[at].1, inputs);
    if outputs.is_err() {
        // A failed run leaves symbols bound, and the next one would clash.
        states.0.swap_remove(at);
    }
    outputs
}

/// A symbolic plan takes unnamed first dimensions for one and the same.
fn check_batch(signature: &Signature, inputs: &[Sent]) -> Result<(), EngineError> {
    let unnamed = inputs
        .iter()
        .zip(&signature.inputs)
        .filter(|(_, spec)| spec.shape.first() == Some(&Dim::Any))
        .map(|(input, _)| input);
    let mut first: Option<&Sent> = None;
    for input in unnamed {
        let expected = *first.get_or_insert(input);
        if input.rows() != expected.rows() {
            return Err(EngineError::new(
                EngineErrorKind::BadInput,
                format!(
                    "input {:?} has {} rows and input {:?} has {}: expected as many",
                    expected.name(),
                    expected.rows(),
                    input.name(),
                    input.rows()
                ),
            ));
        }
    }
    Ok(())
}

impl States {
    /// The position of a state for these inputs.
    fn get(&mut self, plans: &Plans, inputs: &[Sent]) -> Result<usize, EngineError> {
        let shapes = if plans.is_symbolic() {
            Shapes::default()
        } else {
            inputs.iter().map(|input| input.shape().to_vec()).collect()
        };
        if let Some(at) = self.0.iter().position(|(known, _)| *known == shapes) {
            return Ok(at);
        }
        let plan = plans.get(&shapes).map_err(|error| match error.kind {
            // The file has proven itself; it is these shapes that do not fit.
            EngineErrorKind::Unsupported => EngineError::new(
                EngineErrorKind::BadInput,
                format!("inputs of shapes {shapes:?}: {error}"),
            ),
            _ => error,
        })?;
        self.add(shapes, &plan)
    }

    fn add(&mut self, shapes: Shapes, plan: &Plan) -> Result<usize, EngineError> {
        let state = guarded(EngineErrorKind::Internal, "preparing a session", || plan.spawn())?;
        if self.0.len() >= SHAPES_MAX {
            self.0.remove(0);
        }
        self.0.push((shapes, state));
        Ok(self.0.len() - 1)
    }
}

fn run_state(
    signature: &Signature,
    state: &mut TypedSimpleState,
    inputs: &[Sent],
) -> Result<Vec<Sent>, EngineError> {
    let given = inputs.iter().zip(&signature.inputs).map(|(input, spec)| {
        convert::to_tract(input.shape(), input.data()).map(Tensor::into_tvalue).map_err(|error| {
            EngineError::new(EngineErrorKind::BadInput, format!("input {:?}: {error:#}", spec.name))
        })
    });
    let given = given.collect::<Result<TVec<TValue>, _>>()?;
    let values = guarded(EngineErrorKind::Internal, "running the graph", || state.run(given))?;
    let outputs = values.iter().zip(&signature.outputs).map(|(value, spec)| {
        let data = convert::from_tract(value).map_err(|error| error.to_string())?;
        Sent::new(spec.name.clone(), value.shape().to_vec(), data)
            .map_err(|error| error.message().to_owned())
    });
    outputs.collect::<Result<_, String>>().map_err(|error| {
        EngineError::new(EngineErrorKind::Internal, format!("reading the outputs: {error}"))
    })
}
