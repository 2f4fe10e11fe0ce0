//! What the rows of answered requests looked like, column by column, in a profile's
//! bins.
//!
//! Everything is an atomic addition; nothing is locked, nothing waits. On the way each
//! row's inputs are looked up in the profile, which tells how odd the row is.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::error::{Error, Result};
use crate::types::{
    Bins, Counts, Data, Datatype, Feature, PICKED_MAX, Picker, PlaceOf, Profile, Rarity, RowRarity,
    SeenRow, Signature, Tensor, TensorSpec, rows_of_request,
};

/// Counts of one version's answered requests.
pub struct FeatureCounts {
    inputs: Vec<Group>,
    outputs: Vec<Group>,
    /// The tensors' places in the signature.
    places: [Vec<usize>; 2],
    rows: AtomicU64,
    rarity: Rarity,
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
    /// Texts with their bins, ascending: to be found in a few steps.
    texts: Vec<(String, usize)>,
    places: Box<[AtomicU64]>,
}

/// What was counted so far.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeatureSnapshot {
    /// Rows that were counted.
    pub rows: u64,
    /// By the profile's inputs, and places ([`Counts::by_place`]).
    pub inputs: Vec<Vec<u64>>,
    /// By the profile's outputs.
    pub outputs: Vec<Vec<u64>>,
}

impl FeatureCounts {
    /// Counts in the bins of `profile`.
    ///
    /// # Errors
    /// The profile names a tensor or a column that the signature has not, or sorts texts as
    /// numbers, or numbers as texts.
    pub fn new(profile: &Profile, signature: &Signature) -> Result<Self> {
        let inputs = groups("inputs", &profile.inputs, &signature.inputs)?;
        let outputs = groups("outputs", &profile.outputs, &signature.outputs)?;
        let places = |groups: &[Group]| groups.iter().map(|group| group.tensor).collect();
        let places = [places(&inputs), places(&outputs)];
        let rarity = Rarity::new(profile);
        Ok(Self { inputs, outputs, places, rows: AtomicU64::new(0), rarity })
    }

    /// Counts those rows of an answered request that the picker chooses, and returns how
    /// many it passed over. The tensors are in the signature's order. One that has other
    /// rows than the longest input counts nothing. `judge` is told how odd each is, where
    /// there is one.
    pub fn count(
        &self,
        inputs: &[Tensor],
        outputs: &[Tensor],
        picker: &Picker,
        judge: Option<impl FnMut(usize, RowRarity)>,
    ) -> u64 {
        let rows = rows_of_request(inputs, &self.places[0], outputs, &self.places[1]);
        let picked = picker.pick(rows);
        match judge {
            Some(judge) => self.judge(inputs, rows, picked.clone(), judge, Column::add),
            None => each(&self.inputs, inputs, rows, &picked, |_, column, place, _| {
                column.add(place);
            }),
        }
        each(&self.outputs, outputs, rows, &picked, |_, column, place, _| column.add(place));
        let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        let counted = rows.min(picker.rows_max());
        self.rows.fetch_add(number(counted), Relaxed);
        number(rows - counted)
    }

    /// Tells how odd those rows are that the picker chooses, and returns how many there
    /// are. Nothing is counted.
    pub fn look(
        &self,
        inputs: &[Tensor],
        picker: &Picker,
        judge: impl FnMut(usize, RowRarity),
    ) -> usize {
        let rows = rows_of_request(inputs, &self.places[0], &[], &[]);
        self.judge(inputs, rows, picker.pick(rows), judge, |_, _| {});
        rows.min(picker.rows_max())
    }

    /// Judges these rows; `seen` is told where each of their values lies.
    fn judge(
        &self,
        inputs: &[Tensor],
        rows: usize,
        picked: impl Iterator<Item = usize> + Clone,
        mut judge: impl FnMut(usize, RowRarity),
        seen: impl Fn(&Column, PlaceOf),
    ) {
        let mut judged = [SeenRow::NEW; PICKED_MAX];
        each(&self.inputs, inputs, rows, &picked, |nth, column, place, number| {
            seen(column, place);
            if let Some(row) = judged.get_mut(nth) {
                self.rarity.see(row, column.feature, place, number);
            }
        });
        for (row, judged) in picked.zip(&judged) {
            judge(row, self.rarity.judge(judged));
        }
    }

    /// Those of the outputs alone, by the profile's outputs and places.
    #[must_use]
    pub fn read_outputs(&self) -> Vec<Vec<u64>> {
        read(&self.outputs)
    }

    /// The counts so far. What is counted meanwhile may be in some columns only.
    #[must_use]
    pub fn read(&self) -> FeatureSnapshot {
        FeatureSnapshot {
            rows: self.rows.load(Relaxed),
            inputs: read(&self.inputs),
            outputs: self.read_outputs(),
        }
    }
}

/// Visits these of so many rows: the row's place among them, the column, where its value
/// lies, and the value where it is a number.
fn each(
    groups: &[Group],
    tensors: &[Tensor],
    rows: usize,
    picked: &(impl Iterator<Item = usize> + Clone),
    mut visit: impl FnMut(usize, &Column, PlaceOf, f64),
) {
    for group in groups {
        if let Some(tensor) = tensors.get(group.tensor) {
            group.each(tensor, rows, picked.clone(), &mut visit);
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
        if spec.columns().is_none_or(|width| it.column >= width) {
            let shape = spec.wire_shape();
            return Err(misfit(format!(
                "tensor {:?} of shape {shape:?} has no column {}",
                it.tensor, it.column
            )));
        }
        let texts = spec.datatype == Datatype::Bytes;
        if texts != matches!(it.bins, Bins::Texts(_)) {
            let (tensor, datatype) = (&it.tensor, spec.datatype);
            let expected = if texts { "texts" } else { "bounds or integers" };
            return Err(misfit(format!(
                "tensor {tensor:?} has {datatype}: expected bins of {expected}"
            )));
        }
        let places = (0..Counts::APART + it.bins.len()).map(|_| AtomicU64::new(0)).collect();
        let (bins, texts) = (it.bins.clone(), sorted(&it.bins));
        let column = Column { feature, at: it.column, bins, texts, places };
        match groups.iter_mut().find(|group| group.tensor == tensor) {
            Some(group) => group.columns.push(column),
            None => groups.push(Group { tensor, columns: vec![column] }),
        }
    }
    Ok(groups)
}

/// Texts with their bins, ascending.
fn sorted(bins: &Bins) -> Vec<(String, usize)> {
    let Bins::Texts(texts) = bins else { return Vec::new() };
    let mut sorted: Vec<_> = texts.iter().cloned().zip(0..).collect();
    sorted.sort_unstable();
    sorted
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
    fn each(
        &self,
        tensor: &Tensor,
        rows: usize,
        picked: impl Iterator<Item = usize>,
        visit: &mut impl FnMut(usize, &Column, PlaceOf, f64),
    ) {
        // Each tensor may have rows of its own; a profile's have the same.
        if tensor.rows() != rows || rows == 0 {
            return;
        }
        let width = tensor.shape().iter().skip(1).product::<usize>();
        let picked = picked.map(|row| row * width).enumerate();
        match tensor.data() {
            Data::Bool(v) => self.numbers(v, picked, visit),
            Data::Uint8(v) => self.numbers(v, picked, visit),
            Data::Uint16(v) => self.numbers(v, picked, visit),
            Data::Uint32(v) => self.numbers(v, picked, visit),
            Data::Uint64(v) => self.numbers(v, picked, visit),
            Data::Int8(v) => self.numbers(v, picked, visit),
            Data::Int16(v) => self.numbers(v, picked, visit),
            Data::Int32(v) => self.numbers(v, picked, visit),
            Data::Int64(v) => self.numbers(v, picked, visit),
            Data::Fp16(v) => self.numbers(v, picked, visit),
            Data::Fp32(v) => self.numbers(v, picked, visit),
            Data::Fp64(v) => self.numbers(v, picked, visit),
            Data::Bytes(v) => self.texts(v, picked, visit),
        }
    }

    fn numbers<T: Number>(
        &self,
        values: &[T],
        rows: impl Iterator<Item = (usize, usize)>,
        visit: &mut impl FnMut(usize, &Column, PlaceOf, f64),
    ) {
        for (nth, start) in rows {
            for column in &self.columns {
                if let Some(value) = values.get(start + column.at) {
                    let number = value.number();
                    visit(nth, column, column.bins.place(number), number);
                }
            }
        }
    }

    fn texts(
        &self,
        values: &[Vec<u8>],
        rows: impl Iterator<Item = (usize, usize)>,
        visit: &mut impl FnMut(usize, &Column, PlaceOf, f64),
    ) {
        for (nth, start) in rows {
            for column in &self.columns {
                if let Some(text) = values.get(start + column.at) {
                    visit(nth, column, column.place_text(text), f64::NAN);
                }
            }
        }
    }
}

impl Column {
    /// What [`Bins::place_text`] says.
    fn place_text(&self, text: &[u8]) -> PlaceOf {
        if text.is_empty() {
            return PlaceOf::MISSING;
        }
        let found = self.texts.binary_search_by(|(known, _)| known.as_bytes().cmp(text));
        match found.ok().and_then(|at| self.texts.get(at)) {
            Some((_, bin)) => PlaceOf::bin(*bin),
            None => PlaceOf::OTHER,
        }
    }

    fn add(&self, place: PlaceOf) {
        if let Some(count) = self.places.get(place.0) {
            count.fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Datatype, Digest, Dim, ModelName};

    /// Asks how odd rows are.
    const NOBODY: Option<fn(usize, RowRarity)> = None;

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
            missing_together: None,
            outputs: vec![feature("label", "label", 0, Bins::Integers(vec![0, 1]))],
        }
    }

    fn picker() -> Picker {
        Picker::new(4)
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
        counts.count(&tensors(3, &x, &["pro", "", "gold"]), &labels(&[1, 1, 5]), &picker(), NOBODY);
        counts.count(&tensors(1, &[1.0, 100.0], &["basic"]), &labels(&[0]), &picker(), NOBODY);
        let read = counts.read();
        let counted = |places: &[u64]| Counts::from_places(places);
        assert_eq!(read.rows, 4);
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
        let passed_over =
            counts.count(&tensors(200, &x, &["pro"; 200]), &labels(&[0; 200]), &picker(), NOBODY);
        let read = counts.read();
        assert_eq!((read.rows, passed_over), (64, 136));
        assert_eq!(Counts::from_places(&read.inputs[2]).bins, [32, 32]);
        assert_eq!(Counts::from_places(&read.inputs[0]).rows(), 64);
    }

    #[test]
    fn each_row_is_judged_by_all_of_its_inputs() {
        let mut profile = profile();
        profile.rows = 1000;
        for feature in profile.inputs.iter_mut().chain(&mut profile.outputs) {
            feature.counts.bins = vec![500, 500];
        }
        let counts = FeatureCounts::new(&profile, &signature()).unwrap();
        let x = [0.0, 20.0, 1.0, 20.0, 1.0, 400.0];
        let inputs = tensors(3, &x, &["pro", "gold", "basic"]);
        let told = std::cell::RefCell::new(Vec::new());
        let judge = |row, judged: RowRarity| {
            told.borrow_mut().push((row, judged.why.as_str(), judged.input, judged.share < 0.01));
        };
        // As for who asks, and in the profile's order: plan, age, late.
        let expected = [
            (0, "rare", Some(0), false),
            (1, "unseen", Some(0), true),
            (2, "above", Some(1), true),
        ];
        assert_eq!(counts.look(&inputs, &picker(), judge), 3);
        assert_eq!(told.take(), expected);
        assert_eq!(counts.read().rows, 0);
        counts.count(&inputs, &labels(&[0; 3]), &picker(), Some(judge));
        assert_eq!(told.take(), expected);
        let read = counts.read();
        assert_eq!((read.rows, Counts::from_places(&read.inputs[1]).above), (3, 1));
    }

    #[test]
    fn rows_that_are_not_there_count_nothing() {
        let counts = FeatureCounts::new(&profile(), &signature()).unwrap();
        counts.count(&tensors(0, &[], &[]), &labels(&[]), &picker(), NOBODY);
        counts.count(&[], &[], &picker(), NOBODY);
        // Another number of labels than of rows.
        counts.count(&tensors(1, &[0.0, 1.0], &["pro"]), &labels(&[0, 1]), &picker(), NOBODY);
        let read = counts.read();
        assert_eq!((read.rows, Counts::from_places(&read.outputs[0]).rows()), (1, 0));
    }

    #[test]
    fn the_longest_input_has_the_rows() {
        let counts = FeatureCounts::new(&profile(), &signature()).unwrap();
        // Three rows, and one value that is of none.
        let mut inputs = tensors(3, &[0.0, 1.0, 0.0, 1.0, 0.0, 1.0], &["pro"; 3]);
        inputs[1] = Tensor::new("plan", vec![1], Data::Bytes(vec![b"pro".to_vec()])).unwrap();
        counts.count(&inputs, &labels(&[0; 3]), &picker(), NOBODY);
        let read = counts.read();
        let rows = |places: &[u64]| Counts::from_places(places).rows();
        assert_eq!((read.rows, rows(&read.inputs[0]), rows(&read.inputs[1])), (3, 0, 3));
        assert_eq!(rows(&read.outputs[0]), 3);
    }

    #[test]
    fn rows_that_come_in_turns_are_counted_in_turns() {
        let counts = FeatureCounts::new(&profile(), &signature()).unwrap();
        let x: Vec<_> = (0..128).flat_map(|i| [f32::from(i % 2 == 0), 1.0]).collect();
        for _ in 0..50 {
            counts.count(&tensors(128, &x, &["pro"; 128]), &labels(&[0; 128]), &picker(), NOBODY);
        }
        let counted = Counts::from_places(&counts.read().inputs[2]).bins;
        assert!((1400..1800).contains(&counted[0]), "{counted:?}");
    }

    #[test]
    fn a_profile_of_another_version_is_refused() {
        type Change = fn(&mut Profile);
        let cases: [(Change, &str); 4] = [
            (
                |p| p.inputs[1].tensor = "y".into(),
                "inputs \"age\": it has no tensor \"y\"; make the profile anew for this version",
            ),
            (
                |p| p.inputs[1].column = 2,
                "inputs \"age\": tensor \"x\" of shape [-1, 2] has no column 2; make the profile \
                 anew for this version",
            ),
            (
                |p| p.inputs[0].bins = Bins::Integers(vec![0, 1]),
                "inputs \"plan\": tensor \"plan\" has BYTES: expected bins of texts; make the \
                 profile anew for this version",
            ),
            (
                |p| p.outputs[0].bins = Bins::Texts(vec!["0".into()]),
                "outputs \"label\": tensor \"label\" has INT64: expected bins of bounds or \
                 integers; make the profile anew for this version",
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
