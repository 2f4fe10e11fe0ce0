//! Request by request: run, compare, count.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::analysis::{Level, Mean};
use crate::capture::captured::{Captured, told};
use crate::capture::layout::TensorOf;
use crate::capture::replay::read::Request;
use crate::capture::replay::{Example, Replay, ReplayValue, ReplayedVersion, Replaying};
use crate::engine::{Model, Session};
use crate::routing::{Agreement, Judge};
use crate::telemetry::FineHistogram;
use crate::types::{Data, Signature, Tensor};

/// Of the interval: it fails to hold the rate so often.
const ALPHA: f64 = 0.05;
/// The most values of an example that are shown, of inputs and of either answer.
const VALUES_MAX: usize = 64;

pub(super) fn run(asked: &Replaying<'_>) -> Result<Replay, String> {
    let signature = asked.graph.signature();
    // All are looked at before the first one is run. None stays open: there may be thousands.
    let mut models = BTreeSet::new();
    for path in asked.files {
        models.insert(open(path, signature)?.layout().model.to_string());
    }
    let judge = Judge::new(signature, asked.settings);
    let range = match judge.ranged_output() {
        Some(output) => range(asked.files, signature, &signature.outputs[output].name)?,
        None => 0.0,
    };
    let mut running = Running::new(asked, judge, range)?;
    for path in asked.files {
        let file = open(path, signature)?;
        each(path, &file, |request| running.take(&file, &request))?;
    }
    Ok(running.finish(models.into_iter().collect::<Vec<_>>().join(", ")))
}

/// Opens a file whose requests can be run on a version with this signature.
fn open(path: &Path, signature: &Signature) -> Result<Captured, String> {
    let at = |why: String| told(path, &why);
    let file = Captured::open(path).map_err(at)?;
    file.check(signature).map_err(at)?;
    Ok(file)
}

fn each(path: &Path, file: &Captured, mut take: impl FnMut(Request<'_>)) -> Result<(), String> {
    let at = |why: String| told(path, &why);
    for group in 0..file.groups() {
        let group = file.group(group).map_err(at)?;
        for request in group.requests() {
            take(request.map_err(at)?);
        }
    }
    Ok(())
}

/// Largest less smallest of the captured numbers of an output.
fn range(files: &[PathBuf], signature: &Signature, output: &str) -> Result<f64, String> {
    let mut ends: Option<(f64, f64)> = None;
    for path in files {
        each(path, &open(path, signature)?, |request| {
            let own = request.outputs.iter().filter(|tensor| tensor.name() == output);
            let data = own.map(Tensor::data);
            let numbers = data.flat_map(|data| (0..data.len()).filter_map(|i| data.as_f64(i)));
            for x in numbers.filter(|x| x.is_finite()) {
                let (low, high) = ends.unwrap_or((x, x));
                ends = Some((low.min(x), high.max(x)));
            }
        })?;
    }
    Ok(ends.map_or(0.0, |(low, high)| high - low))
}

/// What is counted of one captured version.
struct Tally {
    compared: u64,
    disagreed: u64,
    rows: u64,
    rows_disagreed: u64,
    failed: u64,
    nonfinite: u64,
    max: f64,
    /// Of the mean differences, and how many they are.
    sum: f64,
    finite: u64,
    disagreement: Mean,
}

struct Running<'a> {
    asked: &'a Replaying<'a>,
    judge: Judge,
    range: f64,
    alpha: Level,
    session: Option<Box<dyn Session>>,
    requests: u64,
    rows: u64,
    by_version: BTreeMap<(u64, String), Tally>,
    failure: Option<String>,
    times: FineHistogram,
    time: Duration,
    examples: Vec<Example>,
}

impl<'a> Running<'a> {
    fn new(asked: &'a Replaying<'a>, judge: Judge, range: f64) -> Result<Self, String> {
        let alpha = Level::new(ALPHA).map_err(|error| error.message().to_owned())?;
        Ok(Self {
            asked,
            judge,
            range,
            alpha,
            session: None,
            requests: 0,
            rows: 0,
            by_version: BTreeMap::new(),
            failure: None,
            times: FineHistogram::default(),
            time: Duration::ZERO,
            examples: Vec::new(),
        })
    }

    fn take(&mut self, file: &Captured, request: &Request<'_>) {
        let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        self.requests += 1;
        self.rows += number(request.inputs.first().map_or(0, Tensor::rows));
        let of = (request.version, request.digest.to_owned());
        let compared = self.answer(&request.inputs).and_then(|outputs| {
            let captured = ordered(&request.outputs, &outputs);
            let agreement = self.judge.compare(&captured, &outputs, self.range);
            // Its words are those of a champion and its shadow.
            let agreement = agreement.map_err(|_| mismatch(&captured, &outputs))?;
            Ok((captured, outputs, agreement))
        });
        let tally = self.by_version.entry(of).or_insert_with(|| Tally::new(self.alpha));
        match compared {
            Ok((captured, outputs, agreement)) => {
                tally.add(&agreement);
                if agreement.disagreed > 0 {
                    self.example(file, request, &captured, &outputs);
                }
            }
            Err(why) => {
                tally.failed += 1;
                self.failure.get_or_insert(why);
            }
        }
    }

    /// A session that failed is not used again.
    fn answer(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, String> {
        let graph: &dyn Model = self.asked.graph;
        let inputs = graph.signature().arrange(inputs.to_vec());
        let inputs = inputs.map_err(|error| error.message().to_owned())?;
        let session = self.session.take().map_or_else(|| graph.session(), Ok);
        let mut session = session.map_err(|error| error.to_string())?;
        let started = Instant::now();
        let outputs = session.run(&inputs).map_err(|error| error.to_string())?;
        let took = started.elapsed();
        self.times.record(took);
        self.time += took;
        self.session = Some(session);
        Ok(outputs)
    }

    /// Keeps the rows of a request that differ, while there is room.
    fn example(
        &mut self,
        file: &Captured,
        request: &Request<'_>,
        captured: &[Tensor],
        outputs: &[Tensor],
    ) {
        let left = self.asked.examples_max.saturating_sub(self.examples.len());
        let rows = self.judge.disagreeing(captured, outputs, self.range);
        let layout = file.layout();
        let inputs = layout.inputs.as_deref().unwrap_or_default();
        for row in rows.into_iter().take(left) {
            let outputs_of =
                |tensors: &[Tensor]| values(&layout.outputs, tensors, row, layout.whole_requests);
            self.examples.push(Example {
                request_id: request.request_id.to_owned(),
                prediction_id: request.prediction_id.to_owned(),
                row,
                version: request.version,
                inputs: values(inputs, &request.inputs, row, layout.whole_requests),
                captured: outputs_of(captured),
                replayed: outputs_of(outputs),
            });
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "a mean")]
    fn finish(self, model: String) -> Replay {
        let seconds = |q| self.times.quantile(q).map(|time| time.as_secs_f64());
        let runs = self.times.count();
        Replay {
            model,
            requests: self.requests,
            rows: self.rows,
            versions: self.by_version.into_iter().map(|(of, tally)| tally.finish(of)).collect(),
            failure: self.failure,
            inference_mean_seconds: (runs > 0).then(|| self.time.as_secs_f64() / runs as f64),
            inference_p50_seconds: seconds(0.5),
            inference_p99_seconds: seconds(0.99),
            examples: self.examples,
        }
    }
}

impl Tally {
    fn new(alpha: Level) -> Self {
        Self {
            compared: 0,
            disagreed: 0,
            rows: 0,
            rows_disagreed: 0,
            failed: 0,
            nonfinite: 0,
            max: 0.0,
            sum: 0.0,
            finite: 0,
            disagreement: Mean::new(alpha),
        }
    }

    fn add(&mut self, agreement: &Agreement) {
        let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let disagrees = agreement.disagreed > 0;
        self.compared += 1;
        self.disagreed += u64::from(disagrees);
        self.rows += number(agreement.rows);
        self.rows_disagreed += number(agreement.disagreed);
        self.max = self.max.max(agreement.max);
        // As a shadow's are counted, beside which these figures are read.
        if agreement.max.is_finite() {
            self.sum += agreement.mean;
            self.finite += 1;
        } else {
            self.nonfinite += 1;
        }
        self.disagreement.add(if disagrees { 1.0 } else { 0.0 });
    }

    #[expect(clippy::cast_precision_loss, reason = "rates and means")]
    fn finish(self, (version, digest): (u64, String)) -> ReplayedVersion {
        let interval = self.disagreement.interval();
        let any = self.compared > 0;
        ReplayedVersion {
            version,
            digest,
            compared: self.compared,
            disagreed: self.disagreed,
            disagreement: self.disagreement.mean(),
            disagreement_lower: interval.lower,
            disagreement_upper: interval.upper,
            rows: self.rows,
            rows_disagreed: self.rows_disagreed,
            failed: self.failed,
            nonfinite: self.nonfinite,
            difference_max: any.then_some(self.max),
            difference_mean: (self.finite > 0).then(|| self.sum / self.finite as f64),
        }
    }
}

/// Why two answers cannot be compared.
fn mismatch(captured: &[Tensor], outputs: &[Tensor]) -> String {
    let form = |tensors: &[Tensor]| {
        let one = |t: &Tensor| format!("{} {} {:?}", t.name(), t.datatype(), t.shape());
        tensors.iter().map(one).collect::<Vec<_>>().join(", ")
    };
    format!("captured was {}; the version answers {}", form(captured), form(outputs))
}

/// The captured tensors in the order of the others, where they have the same names. A
/// column knows no `[N]` from `[N, 1]`.
fn ordered(captured: &[Tensor], like: &[Tensor]) -> Vec<Tensor> {
    let of = |tensor: &Tensor| {
        let own = captured.iter().find(|own| own.name() == tensor.name())?;
        let ones = |tensor: &Tensor| tensor.shape().iter().skip(1).all(|dim| *dim == 1);
        if own.rows() == tensor.rows() && ones(own) && ones(tensor) {
            let (name, _, data) = own.clone().into_parts();
            return Tensor::new(name, tensor.shape().to_vec(), data).ok();
        }
        Some(own.clone())
    };
    like.iter().map(of).collect::<Option<Vec<_>>>().unwrap_or_else(|| captured.to_vec())
}

/// A row's values with the names of their columns; of many the first ones.
fn values(of: &[TensorOf], tensors: &[Tensor], row: usize, whole: bool) -> Vec<ReplayValue> {
    let mut values = Vec::new();
    for tensor in tensors {
        let Some(of) = of.iter().find(|of| of.name == tensor.name()) else { continue };
        let rows = if whole { 1 } else { tensor.rows().max(1) };
        let width = tensor.data().len() / rows;
        let row = if whole { 0 } else { row };
        for at in 0..width.min(VALUES_MAX.saturating_sub(values.len())) {
            let name = match of.columns.get(at).filter(|_| of.columns.len() == width) {
                Some(column) => column.name.clone(),
                None => format!("{}[{at}]", of.name),
            };
            values.push(ReplayValue { name, value: value(tensor.data(), row * width + at) });
        }
    }
    values
}

fn value(data: &Data, at: usize) -> serde_json::Value {
    use serde_json::Value;
    match data {
        Data::Bytes(v) => v.get(at).map(|x| String::from_utf8_lossy(x).into_owned()).into(),
        Data::Bool(v) => v.get(at).copied().into(),
        Data::Int64(v) => v.get(at).copied().into(),
        Data::Uint64(v) => v.get(at).copied().into(),
        // The shortest decimal that reads back as the same number.
        Data::Fp32(v) => {
            let x = v.get(at).filter(|x| x.is_finite());
            x.and_then(|x| x.to_string().parse::<f64>().ok()).map_or(Value::Null, Value::from)
        }
        other => other.as_f64(at).map_or(Value::Null, Value::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mean_leaves_out_what_is_finite_on_one_side_only() {
        let mut tally = Tally::new(Level::new(ALPHA).unwrap());
        let agreement = |max, mean| Agreement { rows: 1, disagreed: 0, max, mean };
        tally.add(&agreement(f64::INFINITY, 0.0));
        tally.add(&agreement(0.5, 0.25));
        let found = tally.finish((1, String::new()));
        assert_eq!((found.compared, found.nonfinite), (2, 1));
        assert_eq!(found.difference_mean, Some(0.25));
        assert_eq!(found.difference_max, Some(f64::INFINITY));
        let mut tally = Tally::new(Level::new(ALPHA).unwrap());
        tally.add(&agreement(f64::INFINITY, 0.0));
        assert_eq!(tally.finish((1, String::new())).difference_mean, None);
    }
}
