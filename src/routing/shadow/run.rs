//! One copy: run it, compare it, count it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::routing::shadow::Disagreement;
use crate::routing::{Agreement, Shadow};
use crate::serving::RunError;
use crate::telemetry::ShadowFailure;
use crate::types::{Tensor, thread};

/// What the shadows of one request share.
pub(super) struct Original {
    pub(super) inputs: Vec<Tensor>,
    pub(super) outputs: Vec<Tensor>,
    pub(super) prediction_id: String,
}

/// A copy for one shadow.
pub(super) struct Copy {
    pub(super) shadow: Shadow,
    pub(super) original: Arc<Original>,
    pub(super) bytes: usize,
}

/// Runs and compares; the caller counts a failure under its name.
pub(super) fn run(copy: &Copy, timeout: Duration) -> Result<(), ShadowFailure> {
    let Copy { shadow, original, .. } = copy;
    let signature = shadow.version.signature();
    let fits = signature.inputs.len() == original.inputs.len()
        && signature
            .inputs
            .iter()
            .zip(&original.inputs)
            .all(|(spec, tensor)| spec.name == tensor.name() && spec.check(tensor).is_ok());
    if !fits {
        return Err(ShadowFailure::InputMismatch);
    }
    let (started, cpu_before) = (Instant::now(), thread::cpu_time());
    let outputs = shadow.version.run(&original.inputs);
    let (wall, cpu) = (started.elapsed(), thread::cpu_time().saturating_sub(cpu_before));
    let outputs = outputs.map_err(|error| {
        tracing::debug!(model = %shadow.version.model(), version = %shadow.version.id(), %error, "shadow failed");
        match error {
            RunError::Panic(_) => ShadowFailure::Panic,
            RunError::Engine(_) => ShadowFailure::Error,
        }
    })?;
    shadow.stats.ran(wall, cpu);
    if wall > timeout {
        return Err(ShadowFailure::Timeout);
    }
    let agreement = compare(shadow, original, &outputs)?;
    let count = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let (rows, disagreed) = (count(agreement.rows), count(agreement.disagreed));
    shadow.stats.compared(rows, disagreed, agreement.max, agreement.mean);
    if agreement.disagreed > 0 {
        shadow.worst.consider(Disagreement {
            prediction_id: original.prediction_id.clone(),
            inputs: original.inputs.clone(),
            champion: original.outputs.clone(),
            shadow: outputs,
            agreement,
        });
    }
    Ok(())
}

fn compare(
    shadow: &Shadow,
    original: &Original,
    outputs: &[Tensor],
) -> Result<Agreement, ShadowFailure> {
    let ranged = shadow.judge.ranged_output().and_then(|i| original.outputs.get(i));
    let range = ranged.map_or(0.0, |tensor| shadow.worst.widen(tensor));
    shadow.judge.compare(&original.outputs, outputs, range).map_err(|mismatch| {
        tracing::debug!(model = %shadow.version.model(), version = %shadow.version.id(), reason = mismatch.0, "shadow cannot be compared");
        ShadowFailure::OutputMismatch
    })
}
