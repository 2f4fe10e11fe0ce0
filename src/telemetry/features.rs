//! What the rows of answered requests looked like, column by column, in a profile's
//! bins.
//!
//! Everything is an atomic addition; nothing is locked, nothing waits.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::error::{Error, Result};
use crate::types::{Bins, Counts, Data, Dim, Feature, Profile, Signature, Tensor, TensorSpec};

/// Rows of one request that are counted; of more, as many, evenly spread. So a large
/// batch does not hold up the thread that answers it.
const ROWS_MAX: usize = 64;

/// Counts of one version's answered requests.
pub struct FeatureCounts {
    inputs: Vec<Group>,
    outputs: Vec<Group>,
    rows: AtomicU64,
    passed_over: AtomicU64,
}

/// The columns of one tensor.
struct Group {
    /// The tensor's place in the signature.
    tensor: usize,
    columns: Vec<Column>,
}

struct Column {
    /// Which of the profile's features it is.
    feature: usize,
    at: usize,
    bins: Bins,
    places: Box<[AtomicU64]>,
}

/// What was counted so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeatureSnapshot {
    /// Rows that were counted.
    pub rows: u64,
    /// Rows that were not: of requests with more than 64.
    pub passed_over: u64,
    /// By the profile's inputs, and places ([`Counts::by_place`]).
    pub inputs: Vec<Vec<u64>>,
    /// By the profile's outputs.
    pub outputs: Vec<Vec<u64>>,
}

impl FeatureCounts {
    /// Counts in the bins of `profile`.
    ///
    /// # Errors
    /// The profile names a tensor or a column that the signature has not.
    pub fn new(profile: &Profile, signature: &Signature) -> Result<Self> {
        Ok(Self {
            inputs: groups("inputs", &profile.inputs, &signature.inputs)?,
            outputs: groups("outputs", &profile.outputs, &signature.outputs)?,
            rows: AtomicU64::new(0),
            passed_over: AtomicU64::new(0),
        })
    }

    /// Counts an answered request. The tensors are in the signature's order.
    pub fn count(&self, inputs: &[Tensor], outputs: &[Tensor]) {
        let rows = inputs.first().or(outputs.first()).map_or(0, Tensor::rows);
        let counted = rows.min(ROWS_MAX);
        let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        for (groups, tensors) in [(&self.inputs, inputs), (&self.outputs, outputs)] {
            for group in groups {
                if let Some(tensor) = tensors.get(group.tensor) {
                    group.count(tensor, rows, counted);
                }
            }
        }
        // Behind what they are rows of: a reader sees at most as many as are counted.
        self.rows.fetch_add(number(counted), Relaxed);
        if counted < rows {
            self.passed_over.fetch_add(number(rows - counted), Relaxed);
        }
    }

    /// The counts so far. What is counted meanwhile may be in some columns only.
    #[must_use]
    pub fn read(&self) -> FeatureSnapshot {
        FeatureSnapshot {
            rows: self.rows.load(Relaxed),
            passed_over: self.passed_over.load(Relaxed),
            inputs: read(&self.inputs),
            outputs: read(&self.outputs),
        }
    }
}

fn groups(kind: &str, features: &[Feature], specs: &[TensorSpec]) -> Result<Vec<Group>> {
    let mut groups: Vec<Group> = Vec::new();
    for (feature, it) in features.iter().enumerate() {
        let misfit = |why: String| {
            Error::invalid(format!(
                "{kind} {:?}: {why}; make the profile anew for this version",
                it.name
            ))
        };
        let tensor = specs.iter().position(|spec| spec.name == it.tensor);
        let tensor = tensor.ok_or_else(|| misfit(format!("it has no tensor {:?}", it.tensor)))?;
        let spec = &specs[tensor];
        let width = match spec.shape[..] {
            [_] => Some(1),
            [_, Dim::Fixed(width)] => Some(width),
            _ => None,
        };
        if width.is_none_or(|width| it.column >= width) {
            let shape = spec.wire_shape();
            return Err(misfit(format!(
                "tensor {:?} of shape {shape:?} has no column {}",
                it.tensor, it.column
            )));
        }
        let places = (0..Counts::APART + it.bins.len()).map(|_| AtomicU64::new(0)).collect();
        let column = Column { feature, at: it.column, bins: it.bins.clone(), places };
        match groups.iter_mut().find(|group| group.tensor == tensor) {
            Some(group) => group.columns.push(column),
            None => groups.push(Group { tensor, columns: vec![column] }),
        }
    }
    Ok(groups)
}

fn read(groups: &[Group]) -> Vec<Vec<u64>> {
    let columns = groups.iter().flat_map(|group| &group.columns);
    let mut features: Vec<_> = columns
        .map(|column| (column.feature, column.places.iter().map(|n| n.load(Relaxed)).collect()))
        .collect();
    features.sort_unstable_by_key(|(feature, _)| *feature);
    features.into_iter().map(|(_, places)| places).collect()
}

/// A number as the bins take it; beyond 2^53 it is the nearest that there is.
trait Number: Copy {
    fn number(self) -> f64;
}

macro_rules! numbers {
    ($($from:ty => $convert:expr),+ $(,)?) => {
        $(impl Number for $from {
            #[inline]
            fn number(self) -> f64 {
                let convert: fn($from) -> f64 = $convert;
                convert(self)
            }
        })+
    };
}

#[expect(clippy::cast_precision_loss, reason = "see `Number`")]
mod convert {
    pub(super) fn u64(n: u64) -> f64 {
        n as f64
    }
    pub(super) fn i64(n: i64) -> f64 {
        n as f64
    }
}

numbers! {
    bool => f64::from,
    u8 => f64::from,
    u16 => f64::from,
    u32 => f64::from,
    u64 => convert::u64,
    i8 => f64::from,
    i16 => f64::from,
    i32 => f64::from,
    i64 => convert::i64,
    half::f16 => f64::from,
    f32 => f64::from,
    f64 => |n| n,
}

impl Group {
    /// Counts `counted` of `rows` rows, evenly spread.
    fn count(&self, tensor: &Tensor, rows: usize, counted: usize) {
        // Each tensor may have rows of its own; a profile's have the same.
        if tensor.rows() != rows || rows == 0 {
            return;
        }
        let width = tensor.shape().iter().skip(1).product::<usize>();
        let picked = (0..counted).map(|i| i * rows / counted * width);
        match tensor.data() {
            Data::Bool(v) => self.numbers(v, picked),
            Data::Uint8(v) => self.numbers(v, picked),
            Data::Uint16(v) => self.numbers(v, picked),
            Data::Uint32(v) => self.numbers(v, picked),
            Data::Uint64(v) => self.numbers(v, picked),
            Data::Int8(v) => self.numbers(v, picked),
            Data::Int16(v) => self.numbers(v, picked),
            Data::Int32(v) => self.numbers(v, picked),
            Data::Int64(v) => self.numbers(v, picked),
            Data::Fp16(v) => self.numbers(v, picked),
            Data::Fp32(v) => self.numbers(v, picked),
            Data::Fp64(v) => self.numbers(v, picked),
            Data::Bytes(v) => self.texts(v, picked),
        }
    }

    fn numbers<T: Number>(&self, values: &[T], rows: impl Iterator<Item = usize>) {
        for start in rows {
            for column in &self.columns {
                if let Some(value) = values.get(start + column.at) {
                    column.add(column.bins.place(value.number()).0);
                }
            }
        }
    }

    fn texts(&self, values: &[Vec<u8>], rows: impl Iterator<Item = usize>) {
        for start in rows {
            for column in &self.columns {
                if let Some(text) = values.get(start + column.at) {
                    column.add(column.bins.place_text(text).0);
                }
            }
        }
    }
}

impl Column {
    fn add(&self, place: usize) {
        if let Some(count) = self.places.get(place) {
            count.fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Datatype, Digest, ModelName};

    fn signature() -> Signature {
        let rows = || Dim::Symbol("N".into());
        Signature::new(
            vec![
                TensorSpec::new("x", Datatype::Fp32, vec![rows(), Dim::Fixed(2)]),
                TensorSpec::new("plan", Datatype::Bytes, vec![rows()]),
            ],
            vec![TensorSpec::new("label", Datatype::Int64, vec![rows()])],
        )
    }

    fn feature(name: &str, tensor: &str, column: usize, bins: Bins) -> Feature {
        let counts = Counts { bins: vec![0; bins.len()], ..Counts::default() };
        Feature { name: name.into(), tensor: tensor.into(), column, bins, counts }
    }

    fn profile() -> Profile {
        Profile {
            schema: Profile::SCHEMA,
            model: ModelName::new("m").unwrap(),
            artifact: Digest::new([0; 32]),
            source: "train.csv".into(),
            created: "2026-01-01T00:00:00Z".into(),
            rows: 0,
            // Not in the tensors' order.
            inputs: vec![
                feature("plan", "plan", 0, Bins::Texts(vec!["basic".into(), "pro".into()])),
                feature("age", "x", 1, Bins::Bounds(vec![0.0, 50.0, 100.0])),
                feature("late", "x", 0, Bins::Integers(vec![0, 1])),
            ],
            outputs: vec![feature("label", "label", 0, Bins::Integers(vec![0, 1]))],
        }
    }

    fn tensors(rows: usize, x: &[f32], plans: &[&str]) -> Vec<Tensor> {
        let plans = plans.iter().map(|plan| plan.as_bytes().to_vec()).collect();
        vec![
            Tensor::new("x", vec![rows, 2], Data::Fp32(x.to_vec())).unwrap(),
            Tensor::new("plan", vec![rows], Data::Bytes(plans)).unwrap(),
        ]
    }

    fn labels(labels: &[i64]) -> Vec<Tensor> {
        vec![Tensor::new("label", vec![labels.len()], Data::Int64(labels.to_vec())).unwrap()]
    }

    #[test]
    fn each_column_counts_in_its_own_bins() {
        let counts = FeatureCounts::new(&profile(), &signature()).unwrap();
        let x = [0.0, 20.0, 1.0, f32::NAN, 7.0, 101.0];
        counts.count(&tensors(3, &x, &["pro", "", "gold"]), &labels(&[1, 1, 5]));
        counts.count(&tensors(1, &[1.0, 100.0], &["basic"]), &labels(&[0]));
        let read = counts.read();
        let counted = |places: &[u64]| Counts::from_places(places);
        assert_eq!((read.rows, read.passed_over), (4, 0));
        let plan = Counts { missing: 1, other: 1, bins: vec![1, 1], ..Counts::default() };
        assert_eq!(counted(&read.inputs[0]), plan);
        let age = Counts { nan: 1, above: 1, bins: vec![1, 1], ..Counts::default() };
        assert_eq!(counted(&read.inputs[1]), age);
        let late = Counts { other: 1, bins: vec![1, 2], ..Counts::default() };
        assert_eq!(counted(&read.inputs[2]), late);
        assert_eq!(
            counted(&read.outputs[0]),
            Counts { other: 1, bins: vec![1, 2], ..Counts::default() }
        );
    }

    #[test]
    fn of_a_large_batch_rows_are_taken_evenly_and_the_rest_is_told() {
        let counts = FeatureCounts::new(&profile(), &signature()).unwrap();
        // The first half is 0, the second 1.
        let x: Vec<_> = (0..200).flat_map(|i| [f32::from(i >= 100), 1.0]).collect();
        counts.count(&tensors(200, &x, &["pro"; 200]), &labels(&[0; 200]));
        let read = counts.read();
        assert_eq!((read.rows, read.passed_over), (64, 136));
        assert_eq!(Counts::from_places(&read.inputs[2]).bins, [32, 32]);
        assert_eq!(Counts::from_places(&read.inputs[0]).rows(), 64);
    }

    #[test]
    fn rows_that_are_not_there_count_nothing() {
        let counts = FeatureCounts::new(&profile(), &signature()).unwrap();
        counts.count(&tensors(0, &[], &[]), &labels(&[]));
        counts.count(&[], &[]);
        // Another number of labels than of rows.
        counts.count(&tensors(1, &[0.0, 1.0], &["pro"]), &labels(&[0, 1]));
        let read = counts.read();
        assert_eq!((read.rows, Counts::from_places(&read.outputs[0]).rows()), (1, 0));
    }

    #[test]
    fn a_profile_of_another_version_is_refused() {
        type Change = fn(&mut Profile);
        let cases: [(Change, &str); 2] = [
            (
                |p| p.inputs[1].tensor = "y".into(),
                "inputs \"age\": it has no tensor \"y\"; make the profile anew for this version",
            ),
            (
                |p| p.inputs[1].column = 2,
                "inputs \"age\": tensor \"x\" of shape [-1, 2] has no column 2; make the profile \
                 anew for this version",
            ),
        ];
        for (change, expected) in cases {
            let mut changed = profile();
            change(&mut changed);
            let error = FeatureCounts::new(&changed, &signature()).err().unwrap();
            assert_eq!(error.message(), expected);
        }
    }
}
