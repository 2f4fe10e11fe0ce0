//! Whether a row's answer depends on the rows beside it: each is run alone
//! and in batches of several sizes.

use std::time::{Duration, Instant};

use crate::registry::preflight::compare::{compare, rows_of};
use crate::registry::preflight::inputs::{Boldness, Source, draw};
use crate::registry::preflight::{RowsReport, RowsVerdict};
use crate::serving::LoadedVersion;
use crate::types::{Datatype, Tensor};

/// Rows that are tried, the most first: so many as the time allows.
const ROWS: [usize; 4] = [64, 16, 4, 2];
/// Batch sizes that they are run in; an odd one meets the edges of kernels.
const BATCHES: [usize; 4] = [2, 3, 8, 64];
/// How often each row is run at most: alone, and in each batch size.
const RUNS_PER_ROW: u32 = 5;
/// Floats may differ by so much, absolute or relative: a product of larger
/// matrices adds up in another order.
const TOLERANCE: f64 = 1e-4;
/// The same for FP16, which has 11 bits.
const TOLERANCE_FP16: f64 = 1e-2;

/// Finds it out, in about `budget`. The version must have been warmed up.
pub(super) fn examine(
    version: &LoadedVersion,
    samples: &[Vec<Tensor>],
    budget: Duration,
) -> RowsReport {
    let not = |verdict, detail: String| RowsReport {
        verdict,
        detail: Some(detail),
        ..RowsReport::default()
    };
    let inputs = &version.signature().inputs;
    if let Some(fixed) = inputs.iter().find(|spec| !spec.is_batched()) {
        let why = format!("input {:?} has no first dimension that may vary", fixed.name);
        return not(RowsVerdict::NotApplicable, why);
    }
    let one = version.cost().of(1).saturating_mul(RUNS_PER_ROW);
    let affordable =
        |rows: &&usize| one.saturating_mul(u32::try_from(**rows).unwrap_or(1)) <= budget;
    let Some(&rows) = ROWS.iter().find(affordable) else {
        let time = humantime::format_duration(version.cost().of(1));
        return not(RowsVerdict::Unknown, format!("not tried: a row takes {time}"));
    };
    let mut refused = String::new();
    for boldness in Boldness::ALL {
        match run_alone(version, samples, rows, boldness) {
            Ok((inputs, alone)) => return in_batches(version, &inputs, &alone, budget),
            Err(why) => refused = why,
        }
    }
    not(RowsVerdict::Unknown, format!("not found out: {refused}"))
}

/// The rows, and the answer of each.
type Alone = (Vec<Tensor>, Vec<Vec<Tensor>>);

fn run_alone(
    version: &LoadedVersion,
    samples: &[Vec<Tensor>],
    rows: usize,
    boldness: Boldness,
) -> Result<Alone, String> {
    let inputs = draw(&Source::of(version, samples), rows, boldness)?;
    let run = |row| {
        let input = rows_of(&inputs, row, 1)?;
        version.run(&input).map_err(|error| error.to_string())
    };
    let alone = (0..rows).map(run).collect::<Result<_, _>>()?;
    Ok((inputs, alone))
}

/// Runs the rows in batches, until one differs.
fn in_batches(
    version: &LoadedVersion,
    inputs: &[Tensor],
    alone: &[Vec<Tensor>],
    budget: Duration,
) -> RowsReport {
    let started = Instant::now();
    let rows = alone.len();
    let mut report =
        RowsReport { verdict: RowsVerdict::Independent, rows, ..RowsReport::default() };
    for size in BATCHES.into_iter().filter(|size| *size <= rows) {
        for first in (0..=rows - size).step_by(size) {
            match in_batch(version, inputs, alone, first, size) {
                Ok(difference) => {
                    report.difference_max = report.difference_max.max(difference);
                }
                Err((verdict, why)) => {
                    let place = format!("rows {first} to {} as a batch: {why}", first + size - 1);
                    return RowsReport { verdict, detail: Some(place), ..report };
                }
            }
            // One batch of each size is run in any case.
            if started.elapsed() > budget {
                break;
            }
        }
    }
    report
}

/// The largest difference of a batch's answers from those of its rows alone.
fn in_batch(
    version: &LoadedVersion,
    inputs: &[Tensor],
    alone: &[Vec<Tensor>],
    first: usize,
    size: usize,
) -> Result<f64, (RowsVerdict, String)> {
    let unknown = |why: String| (RowsVerdict::Unknown, why);
    let batch = rows_of(inputs, first, size).map_err(unknown)?;
    let answers = version.run(&batch).map_err(|error| unknown(error.to_string()))?;
    let without = answers.iter().zip(&alone[first]).find(|(answer, alone)| {
        answer.shape().first() != Some(&size) || alone.shape().first() != Some(&1)
    });
    if let Some((answer, alone)) = without {
        let (name, many, one) = (answer.name(), answer.shape(), alone.shape());
        let why = format!("output {name:?} has the shape {many:?}, and {one:?} for a row alone");
        return Err((RowsVerdict::NotApplicable, why));
    }
    let mut largest = 0.0_f64;
    for row in 0..size {
        let in_batch = rows_of(&answers, row, 1).map_err(unknown)?;
        let difference = compare(&alone[first + row], &in_batch, tolerance)
            .map_err(|why| (RowsVerdict::Dependent, format!("row {}, {why}", first + row)))?;
        largest = largest.max(difference);
    }
    Ok(largest)
}

fn tolerance(tensor: &Tensor) -> f64 {
    if tensor.datatype() == Datatype::Fp16 { TOLERANCE_FP16 } else { TOLERANCE }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::engine::{EngineError, EngineErrorKind, Model, Session};
    use crate::types::{Data, Digest, Dim, ModelName, Signature, TensorSpec, VersionId};

    /// From the input's numbers and rows to the output's shape and numbers.
    type Answer = fn(&[f32], usize) -> Result<(Vec<usize>, Vec<f32>), EngineError>;

    struct Fake(Signature, Answer);

    struct FakeSession(Answer);

    impl Model for Fake {
        fn signature(&self) -> &Signature {
            &self.0
        }
        fn session(&self) -> Result<Box<dyn Session>, EngineError> {
            Ok(Box::new(FakeSession(self.1)))
        }
    }

    impl Session for FakeSession {
        fn run(&mut self, inputs: &[Tensor]) -> Result<Vec<Tensor>, EngineError> {
            let Data::Fp32(x) = inputs[0].data() else { unreachable!("checked") };
            let (shape, y) = (self.0)(x, inputs[0].rows())?;
            Ok(vec![Tensor::new("y", shape, Data::Fp32(y)).unwrap()])
        }
    }

    fn of(first: Dim, answer: Answer) -> RowsReport {
        let spec = |name: &str| TensorSpec::new(name, Datatype::Fp32, vec![first.clone()]);
        let graph = Arc::new(Fake(Signature::new(vec![spec("x")], vec![spec("y")]), answer));
        let (name, id) = (ModelName::new("m").unwrap(), VersionId::new(1).unwrap());
        let version = LoadedVersion::new(name, id, Digest::new([0; 32]), "test", graph);
        examine(&version, &[], Duration::from_secs(60))
    }

    #[test]
    fn rows_that_stand_alone_are_told_from_those_that_do_not() {
        let independent = of(Dim::Any, |x, rows| {
            // As the order of a sum may have it.
            let wobble = if rows > 8 { 1e-6 } else { 0.0 };
            Ok((vec![rows], x.iter().map(|x| x * 2.0 + wobble).collect()))
        });
        assert_eq!(independent.verdict, RowsVerdict::Independent, "{independent:?}");
        assert_eq!((independent.rows, independent.detail.as_deref()), (64, None));
        assert!(independent.difference_max < 1e-4, "{independent:?}");

        let sum = of(Dim::Any, |x, rows| Ok((vec![rows], vec![x.iter().sum(); rows])));
        assert_eq!(sum.verdict, RowsVerdict::Dependent);
        let detail = sum.detail.unwrap();
        assert!(
            detail.starts_with("rows 0 to 1 as a batch: row 0, output \"y\" at [0]"),
            "{detail}"
        );
        assert!(detail.contains("expected") && detail.contains("got"), "{detail}");
        // Only the last row of a large batch is another one.
        let edge = of(Dim::Any, |x, rows| {
            let mut y = x.to_vec();
            y[rows - 1] += if rows == 64 { 1.0 } else { 0.0 };
            Ok((vec![rows], y))
        });
        assert!(edge.detail.unwrap().starts_with("rows 0 to 63 as a batch: row 63"));
    }

    #[test]
    fn what_has_no_rows_is_told() {
        let fixed = of(Dim::Fixed(3), |_, _| unreachable!("nothing runs"));
        assert_eq!(fixed.verdict, RowsVerdict::NotApplicable);
        assert!(fixed.detail.unwrap().contains("input \"x\""));
        let total = of(Dim::Any, |x, _| Ok((vec![1], vec![x.iter().sum()])));
        assert_eq!(total.verdict, RowsVerdict::NotApplicable);
        assert!(total.detail.unwrap().contains("shape [1], and [1] for a row alone"));
    }

    #[test]
    fn a_model_that_takes_only_tame_numbers_is_examined_with_those() {
        let tame = of(Dim::Any, |x, rows| match x.iter().all(|x| (0.0..=1.0).contains(x)) {
            true => Ok((vec![rows], x.to_vec())),
            false => Err(EngineError::new(EngineErrorKind::BadInput, "too bold")),
        });
        assert_eq!(tame.verdict, RowsVerdict::Independent);
        let none = of(Dim::Any, |_, _| Err(EngineError::new(EngineErrorKind::BadInput, "no")));
        assert_eq!(none.detail.unwrap(), "not found out: no");
    }

    #[test]
    fn a_slow_model_is_not_tried() {
        let version = crate::registry::testing::version();
        version.warm_up().unwrap();
        let report = examine(&version, &[], Duration::ZERO);
        assert_eq!(report.verdict, RowsVerdict::Unknown);
        assert!(report.detail.unwrap().starts_with("not tried: a row takes "));
    }
}
