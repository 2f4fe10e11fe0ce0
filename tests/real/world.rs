//! Real rows, drawn again and again, and what can happen to them.

use foreshadow::analysis::Quality;
use foreshadow::types::{
    Bins, Counts, Data, Datatype, Digest, Dim, Feature, ModelName, PlaceOf, ProfileBuilder,
    RowAnswer, Signature, Tensor, TensorSpec, Truth,
};

use crate::rng::Rng;

impl Rng {
    fn one_of(&mut self, rows: &[usize]) -> usize {
        rows[(self.uniform() * rows.len() as f64) as usize]
    }
}

/// How many groups a set has: a and b.
pub(crate) const GROUPS: usize = 2;

/// A file that `sets.py` has written.
pub(crate) struct Source {
    pub(crate) name: &'static str,
    csv: &'static str,
    /// The feature in which something is planted.
    planted: &'static str,
    /// The feature that rows are put into groups by.
    by: &'static str,
    /// Pixels: whole numbers, and no brighter than the brightest.
    pixels: bool,
}

pub(crate) const SOURCES: [Source; 4] = [
    Source {
        name: "cancer",
        csv: include_str!("cancer.csv"),
        planted: "mean_texture",
        by: "mean_fractal_dimension",
        pixels: false,
    },
    Source {
        name: "wine",
        csv: include_str!("wine.csv"),
        planted: "alcohol",
        by: "proanthocyanins",
        pixels: false,
    },
    Source {
        name: "diabetes",
        csv: include_str!("diabetes.csv"),
        planted: "bmi",
        by: "sex",
        pixels: false,
    },
    Source {
        name: "digits",
        csv: include_str!("digits.csv"),
        planted: "pixel_3_4",
        by: "pixel_4_4",
        pixels: true,
    },
];

/// What is planted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Planted {
    Nothing,
    /// In one feature, by so many standard deviations.
    Mean(f64),
    /// In one feature, times so much.
    Variance(f64),
    /// In one feature, so many more.
    Missing(f64),
    /// So many of the rows are of group b.
    Mix(f64),
    /// So many labels say the other class.
    Flips(f64),
    /// The same in one group alone.
    FlipsOf(usize, f64),
}

impl Planted {
    /// Each with its name.
    pub(crate) const ALL: [(Self, &'static str); 9] = [
        (Self::Nothing, "nothing"),
        (Self::Mean(0.25), "mean + 0.25 standard deviations"),
        (Self::Mean(0.5), "mean + 0.5 standard deviations"),
        (Self::Variance(2.0), "variance × 2"),
        (Self::Missing(0.05), "missing 0 → 5 %"),
        (Self::Mix(0.7), "group b half → 70 %"),
        (Self::Flips(0.2), "20 % of labels flipped"),
        (Self::FlipsOf(0, 0.3), "30 % of labels of group a flipped"),
        (Self::FlipsOf(1, 0.3), "30 % of labels of group b flipped"),
    ];
}

/// The rows of a set.
pub(crate) struct Set {
    /// Of the columns: the features, then the score.
    names: Vec<String>,
    /// By column and row.
    columns: Vec<Vec<f32>>,
    labels: Vec<u16>,
    answers: Vec<RowAnswer>,
    /// By row.
    groups: Vec<usize>,
    /// The rows of each group, and all.
    members: [Vec<usize>; GROUPS],
    all: Vec<usize>,
    planted: usize,
    by: usize,
    pixels: bool,
}

impl Set {
    pub(crate) fn read(source: &Source) -> Self {
        let mut lines = source.csv.lines().map(|line| line.split(',').collect::<Vec<_>>());
        let mut names: Vec<_> = lines.next().unwrap().into_iter().map(str::to_owned).collect();
        assert_eq!(names[names.len() - 3..], ["score", "label", "group"]);
        names.truncate(names.len() - 2);
        let at = |wanted| names.iter().position(|name| name == wanted).unwrap();
        let (planted, by) = (at(source.planted), at(source.by));
        let mut set = Self {
            columns: vec![Vec::new(); names.len()],
            names,
            labels: Vec::new(),
            answers: Vec::new(),
            groups: Vec::new(),
            members: Default::default(),
            all: Vec::new(),
            planted,
            by,
            pixels: source.pixels,
        };
        for (row, cells) in lines.enumerate() {
            for (column, cell) in set.columns.iter_mut().zip(&cells) {
                column.push(cell.parse().unwrap());
            }
            let [score, label, group] = cells[cells.len() - 3..] else { panic!("{cells:?}") };
            let score: f64 = score.parse().unwrap();
            let (class, scores) = (u16::from(score > 0.5), vec![1.0 - score, score]);
            set.answers.push(RowAnswer::Class { class, scores });
            set.labels.push(label.parse().unwrap());
            let group = usize::from(group == "b");
            set.groups.push(group);
            set.members[group].push(row);
            set.all.push(row);
        }
        set
    }

    /// The column that moves by what is planted.
    pub(crate) fn column_of(&self, planted: Planted) -> Option<usize> {
        match planted {
            Planted::Mean(_) | Planted::Variance(_) | Planted::Missing(_) => Some(self.planted),
            Planted::Mix(_) => Some(self.by),
            Planted::Nothing | Planted::Flips(_) | Planted::FlipsOf(..) => None,
        }
    }

    /// The share of rows that are answered wrongly.
    pub(crate) fn wrong_rate(&self) -> f64 {
        let wrong = self.all.iter().filter(|row| self.is_wrong(**row)).count();
        wrong as f64 / self.all.len() as f64
    }

    fn is_wrong(&self, row: usize) -> bool {
        !matches!(self.answers[row], RowAnswer::Class { class, .. } if class == self.labels[row])
    }

    /// Draws so many rows.
    pub(crate) fn window(&self, rng: &mut Rng, rows: usize, planted: Planted) -> Vec<Drawn> {
        let draw = |_| {
            let rows = match planted {
                Planted::Mix(of_b) => &self.members[usize::from(rng.chance(of_b))],
                _ => &self.all,
            };
            let row = rng.one_of(rows);
            Drawn {
                row,
                is_missing: matches!(planted, Planted::Missing(rate) if rng.chance(rate)),
                is_flipped: match planted {
                    Planted::Flips(rate) => rng.chance(rate),
                    Planted::FlipsOf(group, rate) => self.groups[row] == group && rng.chance(rate),
                    _ => false,
                },
                is_canary: rng.chance(0.5),
            }
        };
        (0..rows).map(draw).collect()
    }

    /// The planted column's values.
    fn shifted(&self, planted: Planted) -> Vec<f32> {
        let values = &self.columns[self.planted];
        let of = |values: &[f32]| {
            values.iter().map(|v| f64::from(*v)).sum::<f64>() / values.len() as f64
        };
        let mean = of(values);
        let squares: Vec<_> = values.iter().map(|v| (*v - mean as f32).powi(2)).collect();
        let deviation = of(&squares).sqrt();
        let highest = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let shift = |value: &f32| {
            let value = f64::from(*value);
            let shifted = match planted {
                Planted::Mean(by) => value + by * deviation,
                Planted::Variance(times) => mean + (value - mean) * times.sqrt(),
                _ => value,
            } as f32;
            if self.pixels { shifted.round().clamp(0.0, highest) } else { shifted }
        };
        values.iter().map(shift).collect()
    }

    /// Sums of the answers and labels of a window, by group.
    pub(crate) fn quality(&self, window: &[Drawn]) -> [Quality; GROUPS] {
        let mut groups = <[Quality; GROUPS]>::default();
        for drawn in window {
            let (quality, answer) = (&mut groups[self.groups[drawn.row]], &self.answers[drawn.row]);
            let label = self.labels[drawn.row];
            let truth = Truth::Class(if drawn.is_flipped { 1 - label } else { label });
            quality.predicted(answer);
            quality.labelled(answer, truth);
        }
        groups
    }

    /// The wrong answers of a rollout in a window, in their order: in which group, and
    /// whether the canary gave it. Only its labels are flipped.
    pub(crate) fn wrong(&self, window: &[Drawn]) -> impl Iterator<Item = (usize, bool)> {
        let is_flipped = |drawn: &Drawn| drawn.is_flipped && drawn.is_canary;
        let wrong = window.iter().filter(move |own| self.is_wrong(own.row) != is_flipped(own));
        wrong.map(|drawn| (self.groups[drawn.row], drawn.is_canary))
    }
}

/// One row of a window.
#[derive(Clone, Copy)]
pub(crate) struct Drawn {
    row: usize,
    is_missing: bool,
    is_flipped: bool,
    /// Which side of a rollout it is on.
    is_canary: bool,
}

/// A reference, of rows of a set.
pub(crate) struct Reference<'a> {
    set: &'a Set,
    /// By column and place.
    pub(crate) counts: Vec<Vec<u64>>,
    bins: Vec<Bins>,
    /// By column and row.
    places: Vec<Vec<PlaceOf>>,
}

impl<'a> Reference<'a> {
    /// Draws so many rows, and has the profile of them made as `foreshadow profile` does.
    pub(crate) fn new(set: &'a Set, rng: &mut Rng, rows: usize) -> Self {
        let drawn = set.window(rng, rows, Planted::Nothing);
        let (scores, features) = set.columns.split_last().unwrap();
        let inputs = drawn.iter().flat_map(|own| features.iter().map(|column| column[own.row]));
        let outputs = drawn.iter().map(|own| scores[own.row]);
        let many = || Dim::Symbol("N".into());
        let width = features.len();
        let spec = |name, shape| TensorSpec::new(name, Datatype::Fp32, shape);
        let signature = Signature::new(
            vec![spec("input", vec![many(), Dim::Fixed(width)])],
            vec![spec("score", vec![many()])],
        );
        let mut builder = ProfileBuilder::new(&signature, &set.names[..width], rows);
        let inputs = Tensor::new("input", vec![rows, width], Data::Fp32(inputs.collect()));
        let outputs = Tensor::new("score", vec![rows], Data::Fp32(outputs.collect()));
        assert_eq!(builder.add(&[inputs.unwrap()], &[outputs.unwrap()]), rows);
        let (model, artifact) = (ModelName::new("m").unwrap(), Digest::new([0; 32]));
        let profile = builder.finish(model, artifact, "drawn", "2026-01-01T00:00:00Z").unwrap();
        let features = profile.inputs.into_iter().chain(profile.outputs);
        let (bins, counts): (Vec<_>, _) =
            features.map(|Feature { bins, counts, .. }| (bins, counts.by_place())).unzip();
        let places = bins.iter().zip(&set.columns).map(|(bins, values)| places(bins, values));
        Self { set, counts, places: places.collect(), bins }
    }

    /// Whether a column's bins are values.
    pub(crate) fn by_value(&self, column: usize) -> bool {
        self.bins[column].are_values()
    }

    /// By column: the counts by place of a window.
    pub(crate) fn counts_of(&self, window: &[Drawn], planted: Planted) -> Vec<Vec<u64>> {
        let one = |(column, (bins, steady)): (usize, (&Bins, &Vec<PlaceOf>))| {
            let is_planted = column == self.set.planted;
            let shifted = is_planted.then(|| places(bins, &self.set.shifted(planted)));
            let places = shifted.as_ref().unwrap_or(steady);
            let mut counts = vec![0; Counts::APART + bins.len()];
            for drawn in window {
                // Without a value a number is NaN in a tensor.
                let is_missing = is_planted && drawn.is_missing;
                let PlaceOf(place) = if is_missing { PlaceOf::NAN } else { places[drawn.row] };
                counts[place] += 1;
            }
            counts
        };
        self.bins.iter().zip(&self.places).enumerate().map(one).collect()
    }
}

fn places(bins: &Bins, values: &[f32]) -> Vec<PlaceOf> {
    values.iter().map(|value| bins.place(f64::from(*value))).collect()
}
