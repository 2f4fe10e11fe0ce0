//! One copy: run it, compare it, count it.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::routing::shadow::Disagreement;
use crate::routing::{Agreement, Shadow};
use crate::serving::{LoadedVersion, RunError};
use crate::telemetry::{Runs, ShadowFailure};
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
    /// What runs: the shadow's version, or the champion's once more.
    pub(super) version: Arc<LoadedVersion>,
    pub(super) runs: Runs,
    pub(super) original: Arc<Original>,
}

/// What a comparison found, and the outputs that it looked at.
pub(super) struct Compared {
    agreement: Agreement,
    outputs: Vec<Tensor>,
}

/// Runs and compares. Only the cost is counted: what came of it is counted by
/// [`count`], unless somebody else has counted it meanwhile.
/// `before` is what the thread had run and waited just before this.
pub(super) fn run(
    copy: &Copy,
    before: Option<thread::Scheduled>,
    timeout: Duration,
) -> Result<Compared, ShadowFailure> {
    let Copy { shadow, version, original, runs } = copy;
    let inputs = inputs(version, original)?;
    let (started, cpu_before) = (Instant::now(), thread::cpu_time());
    let outputs = match runs {
        // It makes no plan: whoever needs the champion's next would wait for us, who give
        // way to everybody.
        Runs::Champion => match version.run_known(&inputs) {
            Ok(Some(outputs)) => Ok(outputs),
            Ok(None) => return Err(ShadowFailure::Error),
            Err(error) => Err(error),
        },
        Runs::Shadow | Runs::ShadowByLot => version.run(&inputs),
    };
    let (wall, cpu) = (started.elapsed(), thread::cpu_time().saturating_sub(cpu_before));
    let outputs = outputs.map_err(|error| {
        tracing::debug!(model = %version.model(), version = %version.id(), %error, "shadow failed");
        match error {
            RunError::Panic(_) => ShadowFailure::Panic,
            RunError::Engine(_) => ShadowFailure::Error,
        }
    })?;
    if *runs != Runs::Champion {
        shadow.stats.ran(wall, cpu);
    }
    if wall > timeout && thread::by_itself(wall, before, thread::scheduled()) > timeout {
        return Err(ShadowFailure::Timeout);
    }
    let agreement = compare(shadow, original, &outputs)?;
    Ok(Compared { agreement, outputs })
}

/// The champion's inputs as the version takes them: every check that a request
/// for the version itself would have to pass, and in its order.
fn inputs<'a>(
    version: &LoadedVersion,
    original: &'a Original,
) -> Result<Cow<'a, [Tensor]>, ShadowFailure> {
    let signature = version.signature();
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
        Err(failure) => return failed(copy, failure),
    };
    if copy.runs == Runs::Champion {
        return shadow.stats.again(Some(agreement.disagreed > 0));
    }
    let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
    let (rows, disagreed) = (number(agreement.rows), number(agreement.disagreed));
    shadow.stats.compared_by(copy.runs, rows, disagreed, agreement.max, agreement.mean);
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

/// Counts a copy that could not be compared.
pub(super) fn failed(copy: &Copy, failure: ShadowFailure) {
    match copy.runs {
        Runs::Champion => copy.shadow.stats.again(None),
        Runs::Shadow | Runs::ShadowByLot => copy.shadow.stats.failed(failure),
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
