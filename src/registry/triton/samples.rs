//! `model_warmup`, checked.

use crate::registry::triton::config::{WarmUp, WarmUpInput};
use crate::types::{WarmUpInput as Input, WarmUpSample, element_count};

/// Elements of one input.
const ELEMENTS_MAX: usize = 1 << 24;
/// Runs of one sample.
const RUNS_MAX: usize = 100;
/// Samples of a model.
const SAMPLES_MAX: usize = 32;

/// Takes the samples; what is run less often or not at all goes to
/// `not_taken`. The error says which sample is wrong.
pub(super) fn take(
    samples: Vec<WarmUp>,
    batched: Option<bool>,
    not_taken: &mut Vec<String>,
) -> Result<Vec<WarmUpSample>, String> {
    let mut taken = Vec::new();
    for (i, sample) in samples.into_iter().enumerate() {
        let label = if sample.name.is_empty() { i.to_string() } else { sample.name.clone() };
        if taken.len() == SAMPLES_MAX {
            not_taken.push(format!("model_warmup beyond the first {SAMPLES_MAX}"));
            break;
        }
        if sample.count > RUNS_MAX {
            let count = sample.count;
            not_taken.push(format!("model_warmup {label}: of {count} runs {RUNS_MAX} are done"));
        }
        let told = |why: String| format!("model_warmup {label}: {why}");
        let rows = match batched {
            Some(true) => Some(sample.batch_size.max(1)),
            Some(false) => None,
            None => Some(sample.batch_size).filter(|rows| *rows > 0),
        };
        let inputs = sample.inputs.into_iter().map(|input| one(input, rows));
        let inputs = inputs.collect::<Result<Vec<_>, _>>().map_err(told)?;
        let large = |input: &Input| element_count(&input.shape).is_none_or(|n| n > ELEMENTS_MAX);
        if let Some(input) = inputs.iter().find(|input| large(input)) {
            not_taken.push(format!(
                "model_warmup {label}: input {:?} has more than {ELEMENTS_MAX} elements",
                input.name
            ));
            continue;
        }
        taken.push(WarmUpSample { name: label, runs: sample.count.clamp(1, RUNS_MAX), inputs });
    }
    Ok(taken)
}

fn one(input: WarmUpInput, rows: Option<usize>) -> Result<Input, String> {
    let WarmUpInput { name, datatype, dims, random } = input;
    let datatype = datatype.ok_or_else(|| format!("input {name:?}: expected a data_type"))?;
    let sizes: Option<Vec<_>> = dims.iter().map(|dim| usize::try_from(*dim).ok()).collect();
    let sizes = sizes
        .ok_or_else(|| format!("input {name:?}: expected dims that do not vary, got {dims:?}"))?;
    let shape = rows.into_iter().chain(sizes).collect();
    Ok(Input { name, datatype, shape, random })
}
