//! Makes a profile from rows and their answers.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::types::profile::bins::{Numbers, Texts};
use crate::types::profile::together::{Gathered, LOOKED_AT_MAX};
use crate::types::{
    Data, Datatype, Digest, Dim, FEATURES_MAX, Feature, ModelName, Picker, Profile, Signature,
    Tensor, TensorSpec,
};

/// The most numbers that are held, of all columns: what quantiles need. 256 MiB.
const NUMBERS_MAX: usize = 32 << 20;
/// The most different texts that are remembered of a column,
const TEXTS_MAX: usize = 10_000;
/// and of all columns.
const TEXTS_OF_ALL_MAX: usize = 200_000;

/// Gathers rows, up to a bound, and makes a [`Profile`] of them. Pure.
#[derive(Debug)]
pub struct ProfileBuilder {
    inputs: Vec<Group>,
    outputs: Vec<Group>,
    rows: usize,
    rows_max: usize,
    skipped: Vec<String>,
    /// `None` once an input was left out, whose bits the others' would shift to.
    together: Option<Gathered>,
}

/// The columns of one tensor.
#[derive(Debug)]
struct Group {
    /// The tensor's place in the signature.
    place: usize,
    tensor: String,
    datatype: Datatype,
    width: usize,
    columns: Vec<Column>,
}

#[derive(Debug)]
struct Column {
    name: String,
    values: Values,
}

#[derive(Debug)]
enum Values {
    Numbers(Numbers),
    Texts(Texts),
}

impl ProfileBuilder {
    /// A builder for the rows of a model with this signature. `feature_names` are those
    /// of the columns of its one input; they are taken if they are as many. It takes
    /// `rows_max` rows at most, and fewer where there are so many columns that they
    /// would need more than 256 MiB.
    #[must_use]
    pub fn new(signature: &Signature, feature_names: &[String], rows_max: usize) -> Self {
        let mut plan = Plan::of(signature);
        // Outputs first: inputs may be as wide as a picture.
        let outputs = plan.groups("output", &signature.outputs, FEATURES_MAX / 2, |_| &[]);
        let left = FEATURES_MAX - width(&outputs);
        let one = signature.inputs.len() == 1;
        let names = if one { feature_names } else { &[] };
        let inputs = plan.groups("input", &signature.inputs, left, |width| {
            if names.len() == width { names } else { &[] }
        });
        let mut builder = Self {
            inputs,
            outputs,
            rows: 0,
            rows_max: 0,
            skipped: plan.skipped,
            together: Some(Gathered::default()),
        };
        builder.bound(rows_max);
        builder
    }

    fn columns(&mut self) -> impl Iterator<Item = &mut Values> {
        let groups = self.inputs.iter_mut().chain(&mut self.outputs);
        groups.flat_map(|group| &mut group.columns).map(|column| &mut column.values)
    }

    /// Shares out what may be held.
    fn bound(&mut self, rows_max: usize) {
        let texts = self.columns().filter(|values| matches!(values, Values::Texts(_))).count();
        let numbers = self.columns().count() - texts;
        self.rows_max = rows_max.min(NUMBERS_MAX / numbers.max(1));
        let known_max = TEXTS_MAX.min(TEXTS_OF_ALL_MAX / texts.max(1));
        for values in self.columns() {
            if let Values::Texts(texts) = values {
                *texts = Texts::new(known_max);
            }
        }
    }

    /// Takes the rows of one answered request, as many as there is room for, and returns
    /// how many. The tensors are in the signature's order. Of inputs with unequal numbers of
    /// rows, those with the most are rows. What turns out to have no row for each of theirs
    /// is left out from then on, and told by [`Self::skipped`].
    pub fn add(&mut self, inputs: &[Tensor], outputs: &[Tensor]) -> usize {
        let rows = self.rows_of(inputs, outputs);
        self.take(inputs, outputs, rows, 0..rows)
    }

    /// The same of those rows that the picker chooses; returns how many of the others were
    /// passed over.
    pub fn add_some(&mut self, inputs: &[Tensor], outputs: &[Tensor], picker: &Picker) -> usize {
        let rows = self.rows_of(inputs, outputs);
        self.take(inputs, outputs, rows, picker.pick(rows));
        rows - rows.min(picker.rows_max())
    }

    fn rows_of(&self, inputs: &[Tensor], outputs: &[Tensor]) -> usize {
        let places = |groups: &[Group]| groups.iter().map(|group| group.place).collect::<Vec<_>>();
        rows_of(inputs, &places(&self.inputs), outputs, &places(&self.outputs))
    }

    fn take(
        &mut self,
        inputs: &[Tensor],
        outputs: &[Tensor],
        rows: usize,
        picked: impl Iterator<Item = usize> + Clone,
    ) -> usize {
        let picked = picked.take(self.rows_max - self.rows);
        let taken = picked.clone().count();
        if taken == 0 {
            return 0;
        }
        let (skipped, inputs_before) = (&mut self.skipped, self.inputs.len());
        let sides = [("input", &mut self.inputs, inputs), ("output", &mut self.outputs, outputs)];
        for (kind, groups, tensors) in sides {
            groups.retain(|group| {
                let fits = group.fits(tensors, rows);
                if !fits {
                    let name = &group.tensor;
                    skipped.push(format!("{kind} {name:?}: it has no row for each input's"));
                }
                fits
            });
            groups.iter_mut().for_each(|group| group.add(&tensors[group.place], picked.clone()));
        }
        if self.inputs.len() < inputs_before && self.rows > 0 {
            self.together = None;
        }
        if let Some(together) = &mut self.together {
            picked.for_each(|row| together.add(without(&self.inputs, inputs, row)));
        }
        self.rows += taken;
        taken
    }

    /// How many columns it has, of inputs and outputs.
    #[must_use]
    pub fn columns_count(&self) -> usize {
        width(&self.inputs) + width(&self.outputs)
    }

    /// Rows that were taken.
    #[must_use]
    pub const fn rows(&self) -> usize {
        self.rows
    }

    /// The most rows that are taken.
    #[must_use]
    pub const fn rows_max(&self) -> usize {
        self.rows_max
    }

    /// Whether no more rows are taken.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        self.rows >= self.rows_max
    }

    /// The tensors and columns that the profile leaves out, and why.
    #[must_use]
    pub fn skipped(&self) -> &[String] {
        &self.skipped
    }

    /// The profile of the rows so far.
    ///
    /// # Errors
    /// It contradicts itself ([`Profile::check`]), which it does not.
    pub fn finish(
        self,
        model: ModelName,
        artifact: Digest,
        source: impl Into<String>,
        created: impl Into<String>,
    ) -> Result<Profile> {
        let inputs = features(self.inputs);
        let profile = Profile {
            schema: Profile::SCHEMA,
            model,
            artifact,
            source: source.into(),
            created: created.into(),
            rows: u64::try_from(self.rows).unwrap_or(u64::MAX),
            missing_together: self.together.map(|together| together.finish(&inputs)),
            inputs,
            outputs: features(self.outputs),
        };
        profile.check()?;
        Ok(profile)
    }
}

/// How many rows a request has: those of the longest of these inputs, or of these outputs
/// without one.
pub(crate) fn rows_of(
    inputs: &[Tensor],
    input_places: &[usize],
    outputs: &[Tensor],
    output_places: &[usize],
) -> usize {
    let most = |tensors: &[Tensor], places: &[usize]| {
        places.iter().filter_map(|place| Some(tensors.get(*place)?.rows())).max()
    };
    let most = match input_places {
        [] => most(outputs, output_places),
        _ => most(inputs, input_places),
    };
    most.unwrap_or(0)
}

/// The inputs without a value in a row, as bits: the lowest is the first column.
fn without(groups: &[Group], tensors: &[Tensor], row: usize) -> u64 {
    let elements = groups.iter().flat_map(|group| {
        let start = row * group.width;
        (0..group.columns.len()).map(move |at| (group.place, start + at))
    });
    let empty = |(place, element): (usize, usize)| {
        tensors.get(place).is_some_and(|tensor| match tensor.data() {
            Data::Bytes(texts) => texts.get(element).is_some_and(Vec::is_empty),
            numbers => numbers.as_f64(element).is_some_and(f64::is_nan),
        })
    };
    let bits = elements.take(LOOKED_AT_MAX).enumerate();
    bits.filter(|(_, at)| empty(*at)).fold(0, |mask, (bit, _)| mask | 1 << bit)
}

fn width(groups: &[Group]) -> usize {
    groups.iter().map(|group| group.columns.len()).sum()
}

fn features(groups: Vec<Group>) -> Vec<Feature> {
    let columns = groups.into_iter().flat_map(|group| {
        let tensor = group.tensor;
        let columns = group.columns.into_iter().enumerate();
        columns.map(move |(at, column)| (tensor.clone(), at, column))
    });
    columns
        .map(|(tensor, column, Column { name, values })| {
            let (bins, counts) = match values {
                Values::Numbers(numbers) => numbers.finish(),
                Values::Texts(texts) => texts.finish(),
            };
            Feature { name, tensor, column, bins, counts }
        })
        .collect()
}

impl Group {
    /// Whether its tensor is there, with so many rows.
    fn fits(&self, tensors: &[Tensor], rows: usize) -> bool {
        tensors.get(self.place).is_some_and(|tensor| {
            let width = tensor.shape().iter().skip(1).product::<usize>();
            tensor.datatype() == self.datatype && tensor.rows() == rows && width == self.width
        })
    }

    fn add(&mut self, tensor: &Tensor, rows: impl Iterator<Item = usize> + Clone) {
        let data = tensor.data();
        for (at, column) in self.columns.iter_mut().enumerate() {
            let elements = rows.clone().map(|row| row * self.width + at);
            match (&mut column.values, data) {
                (Values::Texts(texts), Data::Bytes(values)) => {
                    elements.filter_map(|i| values.get(i)).for_each(|text| texts.add(text));
                }
                (Values::Numbers(numbers), data) => {
                    elements.filter_map(|i| data.as_f64(i)).for_each(|n| numbers.add(n));
                }
                // Its datatype is another; see `fits`.
                (Values::Texts(_), _) => {}
            }
        }
    }
}

/// Finds the columns of tensors.
struct Plan {
    /// The model takes one row at a time.
    single: bool,
    skipped: Vec<String>,
}

impl Plan {
    fn of(signature: &Signature) -> Self {
        let single = |spec: &TensorSpec| spec.shape.first() == Some(&Dim::Fixed(1));
        Self { single: signature.inputs.iter().any(single), skipped: Vec::new() }
    }

    /// How many columns a tensor has, if its first dimension are the rows.
    fn width(&self, spec: &TensorSpec) -> Option<usize> {
        let rows = match spec.shape.first()? {
            Dim::Fixed(1) => self.single,
            Dim::Fixed(_) => false,
            Dim::Symbol(_) | Dim::Any => true,
        };
        match spec.shape[1..] {
            _ if !rows => None,
            [] => Some(1),
            [Dim::Fixed(width)] => Some(width),
            _ => None,
        }
    }

    /// The columns of these tensors, at most `columns_max`. `names` are those of the
    /// columns of an input of this width, or nothing.
    fn groups<'a>(
        &mut self,
        kind: &str,
        specs: &[TensorSpec],
        columns_max: usize,
        names: impl Fn(usize) -> &'a [String],
    ) -> Vec<Group> {
        let mut used = BTreeSet::new();
        let mut left = columns_max;
        let mut groups = Vec::new();
        for (place, spec) in specs.iter().enumerate() {
            let name = &spec.name;
            let Some(width) = self.width(spec) else {
                self.skipped.push(format!(
                    "{kind} {name:?}: expected a value or a row of a fixed width for each row, \
                     its shape is {:?}",
                    spec.wire_shape()
                ));
                continue;
            };
            let taken = width.min(left);
            if taken < width {
                self.skipped.push(format!(
                    "{kind} {name:?}: the columns from {taken} on, as a profile has at most \
                     {FEATURES_MAX}"
                ));
            }
            left -= taken;
            let mut columns = Vec::with_capacity(taken);
            for at in 0..taken {
                let name = unique(column_name(spec, names(width), width, at), &used);
                used.insert(name.clone());
                columns.push(Column { name, values: Values::of(spec.datatype) });
            }
            let (tensor, datatype) = (name.clone(), spec.datatype);
            groups.push(Group { place, tensor, datatype, width, columns });
        }
        groups.retain(|group| !group.columns.is_empty());
        groups
    }
}

impl Values {
    fn of(datatype: Datatype) -> Self {
        match datatype {
            Datatype::Bytes => Self::Texts(Texts::new(TEXTS_MAX)),
            _ => Self::Numbers(Numbers::default()),
        }
    }
}

/// What people call a column.
fn column_name(spec: &TensorSpec, names: &[String], width: usize, at: usize) -> String {
    let tensor = &spec.name;
    let class = spec.classes.get(at).filter(|_| spec.classes.len() == width);
    match (names.get(at), class) {
        (Some(name), _) => name.clone(),
        _ if width == 1 => tensor.clone(),
        (None, Some(class)) => format!("{tensor}[{class}]"),
        (None, None) => format!("{tensor}[{at}]"),
    }
}

/// The name, or one like it that nobody has.
fn unique(name: String, used: &BTreeSet<String>) -> String {
    if !used.contains(&name) {
        return name;
    }
    let others = (2_u32..).map(|i| format!("{name} ({i})"));
    others.into_iter().find(|other| !used.contains(other)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::types::{Bins, Counts};

    fn rows() -> Dim {
        Dim::Symbol("N".into())
    }

    fn spec(name: &str, datatype: Datatype, shape: &[Dim]) -> TensorSpec {
        TensorSpec::new(name, datatype, shape.to_vec())
    }

    fn churn() -> Signature {
        let mut scores = spec("scores", Datatype::Fp32, &[rows(), Dim::Fixed(2)]);
        scores.classes = ["no".to_owned(), "yes".to_owned()].into();
        let label = spec("label", Datatype::Int64, &[rows()]);
        let input = spec("input", Datatype::Fp32, &[rows(), Dim::Fixed(3)]);
        Signature::new(vec![input], vec![label, scores])
    }

    fn tensor(name: &str, shape: &[usize], data: Data) -> Tensor {
        Tensor::new(name, shape.to_vec(), data).unwrap()
    }

    fn answered(rows: usize) -> (Vec<Tensor>, Vec<Tensor>) {
        let input = tensor("input", &[rows, 3], Data::zeros(Datatype::Fp32, rows * 3));
        let label = tensor("label", &[rows], Data::zeros(Datatype::Int64, rows));
        let scores = tensor("scores", &[rows, 2], Data::zeros(Datatype::Fp32, rows * 2));
        (vec![input], vec![label, scores])
    }

    fn finished(builder: ProfileBuilder) -> Profile {
        let (model, artifact) = (ModelName::new("m").unwrap(), Digest::new([1; 32]));
        builder.finish(model, artifact, "train.csv", "2026-01-01T00:00:00Z").unwrap()
    }

    fn names(features: &[Feature]) -> Vec<(&str, &str, usize)> {
        features.iter().map(|f| (&*f.name, &*f.tensor, f.column)).collect()
    }

    #[test]
    fn columns_are_called_as_people_call_them() {
        let features = ["a", "b", "c"].map(str::to_owned);
        let profile = finished(ProfileBuilder::new(&churn(), &features, 10));
        assert_eq!(
            names(&profile.inputs),
            [("a", "input", 0), ("b", "input", 1), ("c", "input", 2)]
        );
        let outputs =
            [("label", "label", 0), ("scores[no]", "scores", 0), ("scores[yes]", "scores", 1)];
        assert_eq!(names(&profile.outputs), outputs);
        // Not as many names as columns.
        let profile = finished(ProfileBuilder::new(&churn(), &features[1..], 10));
        let inputs = [("input[0]", "input", 0), ("input[1]", "input", 1), ("input[2]", "input", 2)];
        assert_eq!(names(&profile.inputs), inputs);
        let mut twice = churn();
        twice.outputs[1].classes = ["no".to_owned(), "no".to_owned()].into();
        let profile = finished(ProfileBuilder::new(&twice, &[], 10));
        assert_eq!(profile.outputs[2].name, "scores[no] (2)");
    }

    #[test]
    fn what_has_no_columns_is_left_out_and_told() {
        let picture = [rows(), Dim::Fixed(3), Dim::Fixed(8), Dim::Fixed(8)];
        let signature = Signature::new(
            vec![spec("picture", Datatype::Fp32, &picture), spec("age", Datatype::Fp32, &[rows()])],
            vec![
                spec("any", Datatype::Fp32, &[rows(), Dim::Any]),
                spec("mean", Datatype::Fp32, &[Dim::Fixed(1)]),
                spec("wide", Datatype::Fp32, &[rows(), Dim::Fixed(300)]),
            ],
        );
        let builder = ProfileBuilder::new(&signature, &[], 10);
        let skipped = builder.skipped().join("\n");
        for expected in
            ["\"any\"", "\"mean\"", "[-1, 3, 8, 8]", "\"wide\": the columns from 256 on"]
        {
            assert!(skipped.contains(expected), "{expected} is not in {skipped}");
        }
        let profile = finished(builder);
        assert_eq!(names(&profile.inputs), [("age", "age", 0)]);
        assert_eq!(profile.outputs.len(), 256);
        let wide = Signature::new(
            vec![spec("pixels", Datatype::Uint8, &[rows(), Dim::Fixed(784)])],
            vec![spec("label", Datatype::Int64, &[rows()])],
        );
        let profile = finished(ProfileBuilder::new(&wide, &[], 10));
        assert_eq!((profile.inputs.len(), profile.outputs.len()), (FEATURES_MAX - 1, 1));
    }

    #[test]
    fn a_model_of_single_rows_has_columns() {
        let one = [Dim::Fixed(1), Dim::Fixed(2)];
        let signature = Signature::new(
            vec![spec("x", Datatype::Fp32, &one)],
            vec![spec("y", Datatype::Fp32, &[Dim::Fixed(1)])],
        );
        let mut builder = ProfileBuilder::new(&signature, &[], 10);
        let x = tensor("x", &[1, 2], Data::Fp32(vec![1.0, f32::NAN]));
        assert_eq!(builder.add(&[x], &[tensor("y", &[1], Data::Fp32(vec![0.5]))]), 1);
        let profile = finished(builder);
        assert_eq!(profile.inputs[0].bins, Bins::Integers(vec![1]));
        assert_eq!(profile.inputs[1].counts, Counts { nan: 1, ..Counts::default() });
        assert_eq!(profile.outputs[0].bins, Bins::Bounds(vec![0.5, 0.5]));
    }

    #[test]
    fn so_many_rows_are_taken_and_no_more() {
        let mut builder = ProfileBuilder::new(&churn(), &[], 10);
        let (inputs, outputs) = answered(6);
        assert_eq!((builder.add(&inputs, &outputs), builder.is_full()), (6, false));
        assert_eq!((builder.add(&inputs, &outputs), builder.is_full()), (4, true));
        assert_eq!((builder.add(&inputs, &outputs), builder.rows()), (0, 10));
        assert_eq!(finished(builder).inputs[0].counts.rows(), 10);
        // What is held has a bound, too.
        let builder = ProfileBuilder::new(&churn(), &[], usize::MAX);
        assert_eq!(builder.rows_max(), NUMBERS_MAX / 6);
        assert!(ProfileBuilder::new(&churn(), &[], 0).is_full());
    }

    #[test]
    fn what_has_other_rows_is_not_mixed_in() {
        let mut builder = ProfileBuilder::new(&churn(), &[], 10);
        let (inputs, mut outputs) = answered(2);
        assert_eq!(builder.add(&[], &outputs), 0);
        outputs[1] = tensor("scores", &[3, 2], Data::zeros(Datatype::Fp32, 6));
        assert_eq!(builder.add(&inputs, &outputs), 2);
        assert!(builder.skipped()[0].contains("output \"scores\""), "{:?}", builder.skipped());
        assert_eq!(names(&finished(builder).outputs), [("label", "label", 0)]);
    }

    #[test]
    fn inputs_that_are_no_rows_are_left_out() {
        let k = spec("k", Datatype::Int64, &[rows()]);
        let x = spec("x", Datatype::Fp32, &[rows()]);
        let signature = Signature::new(vec![k, x.clone()], vec![x]);
        let mut builder = ProfileBuilder::new(&signature, &[], 10);
        let k = tensor("k", &[1], Data::Int64(vec![5]));
        let x = tensor("x", &[3], Data::Fp32(vec![1.0, 2.0, 3.0]));
        assert_eq!(builder.add(&[k, x.clone()], &[x]), 3);
        assert!(builder.skipped()[0].contains("input \"k\""), "{:?}", builder.skipped());
        let profile = finished(builder);
        assert_eq!((names(&profile.inputs), profile.rows), (vec![("x", "x", 0)], 3));
    }

    #[test]
    fn some_rows_of_a_large_request_are_taken() {
        let mut builder = ProfileBuilder::new(&churn(), &[], 1000);
        let picker = Picker::new(builder.columns_count());
        let (inputs, outputs) = answered(200);
        assert_eq!((builder.add_some(&inputs, &outputs, &picker), builder.rows()), (136, 64));
        let (inputs, outputs) = answered(5);
        assert_eq!((builder.add_some(&inputs, &outputs, &picker), builder.rows()), (0, 69));
        assert_eq!(finished(builder).inputs[0].counts.rows(), 69);
    }

    proptest! {
        #[test]
        fn each_row_is_counted_where_its_bins_say(
            rows_of in prop::collection::vec((any::<f32>(), -3_i64..3, "[a-c]{0,2}"), 1..200),
            cut in 1_usize..50,
        ) {
            let signature = Signature::new(
                vec![
                    spec("x", Datatype::Fp32, &[rows(), Dim::Fixed(2)]),
                    spec("plan", Datatype::Bytes, &[rows(), Dim::Fixed(1)]),
                ],
                vec![spec("label", Datatype::Int64, &[rows()])],
            );
            let mut builder = ProfileBuilder::new(&signature, &[], 1000);
            for batch in rows_of.chunks(cut) {
                let n = batch.len();
                let x = batch.iter().flat_map(|row| [row.0, 0.5]).collect();
                let plans = batch.iter().map(|row| row.2.as_bytes().to_vec()).collect();
                let inputs = [tensor("x", &[n, 2], Data::Fp32(x)), tensor("plan", &[n, 1], Data::Bytes(plans))];
                let labels = batch.iter().map(|row| row.1).collect();
                prop_assert_eq!(builder.add(&inputs, &[tensor("label", &[n], Data::Int64(labels))]), n);
            }
            let profile = finished(builder);
            prop_assert_eq!(profile.rows, rows_of.len() as u64);
            let [x, constant, plan] = &profile.inputs[..] else { panic!() };
            let label = &profile.outputs[0];
            let count = |feature: &Feature, place: &dyn Fn(usize) -> usize| {
                let mut places = vec![0; Counts::APART + feature.bins.len()];
                (0..rows_of.len()).for_each(|row| places[place(row)] += 1);
                Counts::from_places(&places)
            };
            let number = |row: usize| f64::from(rows_of[row].0);
            prop_assert_eq!(&x.counts, &count(x, &|row| x.bins.place(number(row)).0));
            prop_assert_eq!(&constant.counts.bins, &vec![profile.rows]);
            let text = |row: usize| plan.bins.place_text(rows_of[row].2.as_bytes()).0;
            prop_assert_eq!(&plan.counts, &count(plan, &text));
            #[expect(clippy::cast_precision_loss, reason = "small")]
            let place = |row: usize| label.bins.place(rows_of[row].1 as f64).0;
            prop_assert_eq!(&label.counts, &count(label, &place));
        }
    }
}
