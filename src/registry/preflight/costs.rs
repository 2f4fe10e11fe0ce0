//! What a run costs, by batch size.

use std::time::{Duration, Instant};

use crate::registry::preflight::inputs::{Boldness, Source, draw};
use crate::registry::preflight::{BatchCost, Limits, memory};
use crate::serving::LoadedVersion;
use crate::types::{Tensor, TensorSpec, thread};

/// Batch sizes that are measured, as far as time and memory allow.
const BATCHES: [usize; 4] = [1, 8, 64, 512];
/// Runs of a batch size: at least, …
const RUNS_MIN: usize = 3;
/// … and at most, or until this much time was spent on it.
const RUNS_MAX: usize = 101;
const TIME_PER_SIZE: Duration = Duration::from_millis(50);
/// Part of the child's memory that a larger batch may be expected to take.
const MEMORY_PART: u64 = 2;

/// Measures, in about `budget`; and why it did not go on, if it did not.
pub(super) fn measure(
    version: &LoadedVersion,
    samples: &[Vec<Tensor>],
    budget: Duration,
    limits: Limits,
) -> (Vec<BatchCost>, Option<String>) {
    let started = Instant::now();
    let batched = version.signature().inputs.iter().all(TensorSpec::is_batched);
    let sizes = if batched { &BATCHES[..] } else { &BATCHES[..1] };
    let mut costs: Vec<BatchCost> = Vec::new();
    let mut before = memory::own().unwrap_or_default();
    for &rows in sizes {
        // What is drawn may be nothing that this model takes: no fault of it.
        let measured = inputs(version, samples, rows).and_then(|i| of(version, &i, rows));
        match measured {
            Ok(cost) => costs.push(cost),
            Err(why) => return (costs, Some(format!("{rows} rows were not measured: {why}"))),
        }
        let now = memory::own().unwrap_or_default();
        let Some(&next) = sizes.get(costs.len()) else { break };
        let left = budget.saturating_sub(started.elapsed());
        if let Some(why) =
            too_much(&costs, next, left, now.peak.saturating_sub(before.peak), now.resident, limits)
        {
            return (costs, Some(format!("{next} rows would take {why}")));
        }
        before = now;
    }
    (costs, None)
}

/// What of the next size would be too much; `None` if nothing is.
fn too_much(
    costs: &[BatchCost],
    next: usize,
    time_left: Duration,
    grown_bytes: u64,
    resident_bytes: u64,
    limits: Limits,
) -> Option<String> {
    let last = costs.last()?;
    let ratio = next.div_ceil(last.rows.max(1));
    let runs = u32::try_from((RUNS_MIN + 1) * ratio).unwrap_or(u32::MAX);
    let time = Duration::try_from_secs_f64(last.seconds).unwrap_or(Duration::MAX);
    if time.saturating_mul(runs) > time_left {
        return Some("too long to measure".to_owned());
    }
    let ratio = u64::try_from(ratio).unwrap_or(u64::MAX);
    let bytes = resident_bytes.saturating_add(grown_bytes.saturating_mul(ratio));
    (bytes > limits.memory_bytes_max / MEMORY_PART)
        .then(|| format!("about {}, too much memory to try", memory::in_words(bytes)))
}

/// The boldest inputs that the model takes.
fn inputs(
    version: &LoadedVersion,
    samples: &[Vec<Tensor>],
    rows: usize,
) -> Result<Vec<Tensor>, String> {
    let mut refused = String::new();
    for boldness in Boldness::ALL {
        // The first run pays for what is set up by batch size.
        let tried = draw(&Source::of(version, samples), rows, boldness)
            .and_then(|i| version.run(&i).map(|_| i).map_err(|error| error.to_string()));
        match tried {
            Ok(inputs) => return Ok(inputs),
            Err(why) => refused = why,
        }
    }
    Err(refused)
}

fn of(version: &LoadedVersion, inputs: &[Tensor], rows: usize) -> Result<BatchCost, String> {
    let started = Instant::now();
    let mut times = Vec::with_capacity(RUNS_MAX);
    while times.len() < RUNS_MIN || times.len() < RUNS_MAX && started.elapsed() < TIME_PER_SIZE {
        let (wall, cpu) = (Instant::now(), thread::process_cpu_time());
        version.run(inputs).map_err(|error| error.to_string())?;
        let cpu = thread::process_cpu_time().saturating_sub(cpu);
        // This process gives way to requests: without them the run would take
        // as long as it computed. With several threads it computes for longer
        // than it takes.
        times.push(wall.elapsed().min(cpu.max(Duration::from_nanos(1))));
    }
    times.sort_unstable();
    let seconds = times[times.len() / 2].as_secs_f64();
    let divisor = u32::try_from(rows).unwrap_or(u32::MAX);
    Ok(BatchCost {
        rows,
        runs: times.len(),
        seconds,
        seconds_per_row: seconds / f64::from(divisor),
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::{EngineError, EngineErrorKind, Model, Session};
    use crate::registry::testing::version;
    use crate::types::{Datatype, Digest, Dim, ModelName, Signature, VersionId};

    const LIMITS: Limits = Limits { memory_bytes_max: 1 << 40, time_max: Duration::from_secs(60) };

    #[test]
    fn every_size_is_measured_where_time_and_memory_allow() {
        let version = version();
        let minute = Duration::from_secs(60);
        let (costs, note) = measure(&version, &[], minute, LIMITS);
        assert_eq!(costs.iter().map(|cost| cost.rows).collect::<Vec<_>>(), BATCHES);
        assert_eq!(note, None);
        assert!(costs.iter().all(|cost| cost.seconds > 0.0 && cost.runs >= RUNS_MIN), "{costs:?}");
        let (costs, note) = measure(&version, &[], Duration::ZERO, LIMITS);
        assert_eq!(costs.len(), 1);
        assert_eq!(note.unwrap(), "8 rows would take too long to measure");
    }

    #[test]
    fn a_model_that_takes_nothing_that_is_drawn_is_not_measured() {
        struct Picky(Signature);
        struct Refuses;
        impl Model for Picky {
            fn signature(&self) -> &Signature {
                &self.0
            }
            fn session(&self) -> Result<Box<dyn Session>, EngineError> {
                Ok(Box::new(Refuses))
            }
        }
        impl Session for Refuses {
            fn run(&mut self, _: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
                Err(EngineError::new(EngineErrorKind::BadInput, "unknown category"))
            }
        }
        let word = TensorSpec::new("x", Datatype::Bytes, vec![Dim::Any]);
        let graph = Arc::new(Picky(Signature::new(vec![word], vec![])));
        let (name, id) = (ModelName::new("m").unwrap(), VersionId::new(1).unwrap());
        let version = LoadedVersion::new(name, id, Digest::new([0; 32]), "test", graph);
        let (costs, note) = measure(&version, &[], Duration::from_secs(60), LIMITS);
        assert_eq!(costs, []);
        assert_eq!(note.unwrap(), "1 rows were not measured: unknown category");
    }

    #[test]
    fn a_batch_that_would_not_fit_is_not_tried() {
        let cost = BatchCost { rows: 64, runs: 3, seconds: 1e-3, seconds_per_row: 1e-3 / 64.0 };
        let second = Duration::from_secs(1);
        let limits = Limits { memory_bytes_max: 2000, ..LIMITS };
        let too_much =
            |grown, left| too_much(std::slice::from_ref(&cost), 512, left, grown, 200, limits);
        assert_eq!(too_much(100, second), None);
        assert!(too_much(101, second).unwrap().contains("too much memory"));
        // Four runs of eight times the rows.
        assert_eq!(too_much(0, Duration::from_millis(32)), None);
        assert!(too_much(0, Duration::from_millis(31)).is_some());
    }
}
