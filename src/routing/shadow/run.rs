//! One copy: run it, compare it, count it.

use std::borrow::Cow;
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
}

/// What a comparison found, and the outputs that it looked at.
pub(super) struct Compared {
    agreement: Agreement,
    outputs: Vec<Tensor>,
}

/// Runs and compares. Only the cost is counted: what came of it is counted by
/// [`count`], unless somebody else has counted it meanwhile.
pub(super) fn run(copy: &Copy, timeout: Duration) -> Result<Compared, ShadowFailure> {
    let Copy { shadow, original, .. } = copy;
    let inputs = inputs(shadow, original)?;
    let (started, cpu_before) = (Instant::now(), thread::cpu_time());
    let outputs = shadow.version.run(&inputs);
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
    Ok(Compared { agreement, outputs })
}

/// The champion's inputs as the shadow takes them: every check that a request
/// for the shadow itself would have to pass, and in the shadow's order.
fn inputs<'a>(shadow: &Shadow, original: &'a Original) -> Result<Cow<'a, [Tensor]>, ShadowFailure> {
    let signature = shadow.version.signature();
    if signature.check(&original.inputs).is_ok() {
        return Ok(Cow::Borrowed(&original.inputs));
    }
    let arranged = signature.arrange(original.inputs.clone());
    arranged.map(Cow::Owned).map_err(|_| ShadowFailure::InputMismatch)
}

/// Counts what came of a copy.
pub(super) fn count(copy: &Copy, outcome: Result<Compared, ShadowFailure>) {
    let Copy { shadow, original, .. } = copy;
    let Compared { agreement, outputs } = match outcome {
        Ok(compared) => compared,
        Err(failure) => return shadow.stats.failed(failure),
    };
    let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let (rows, disagreed) = (number(agreement.rows), number(agreement.disagreed));
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
