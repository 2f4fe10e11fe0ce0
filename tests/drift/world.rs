//! Columns as tables have them, independent of each other, and what can happen to them.

use foreshadow::types::{BINS_MAX, Bins, Counts, PlaceOf};

use crate::rng::Rng;

impl Rng {
    fn exponential(&mut self) -> f64 {
        -(1.0 - self.uniform()).ln()
    }

    fn normal(&mut self) -> f64 {
        (2.0 * self.exponential()).sqrt() * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// What a column has.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Kind {
    Normal,
    Exponential,
    LogNormal,
    Uniform,
    /// Extremes without end (Cauchy).
    Heavy,
    TwoPeaks,
    /// 40 % zeros, the others exponential.
    Zeros,
    /// Between 0 and 1, most of them small.
    Score,
    /// 0, 1, 2, …: geometric.
    Count,
    Truth,
    /// Five, of which the rarest has 5 %.
    Categories,
    /// So many, the k-th in proportion to 1/k.
    Zipf(usize),
    /// So many, all equally frequent.
    Equal(usize),
    /// Three that 95 % have, and fifty that a thousandth has, each.
    Rare,
    Constant,
}

impl Kind {
    /// How frequent each category is, before they are made to be 1 in all.
    fn weights(self) -> Vec<f64> {
        match self {
            Self::Zipf(many) => (1..=many).map(|k| 1.0 / k as f64).collect(),
            Self::Equal(many) => vec![1.0; many],
            Self::Rare => [&[0.4, 0.3, 0.25], &[0.001; 50][..]].concat(),
            _ => Vec::new(),
        }
    }
}

/// A column's kind, and its share of rows without a value.
pub(crate) type Column = (Kind, f64);

/// Each population of rows with its name, those of a table first.
pub(crate) const POPULATIONS: [(&str, &[Column]); 4] = [
    ("sixteen columns", &COLUMNS),
    ("3 big and 50 rare categories", &[(Kind::Rare, 0.0)]),
    ("60 categories by Zipf's law", &[(Kind::Zipf(60), 0.0)]),
    ("60 equal categories", &[(Kind::Equal(60), 0.0)]),
];

/// Sixteen of mixed kinds.
pub(crate) const COLUMNS: [Column; 16] = [
    (Kind::Normal, 0.0),
    (Kind::Normal, 0.02),
    (Kind::Exponential, 0.0),
    (Kind::LogNormal, 0.02),
    (Kind::Uniform, 0.0),
    (Kind::Heavy, 0.0),
    (Kind::TwoPeaks, 0.0),
    (Kind::Zeros, 0.02),
    (Kind::Score, 0.0),
    (Kind::Count, 0.0),
    (Kind::Truth, 0.0),
    (Kind::Categories, 0.0),
    (Kind::Zipf(20), 0.0),
    (Kind::Zipf(60), 0.02),
    // More than have a bin.
    (Kind::Zipf(200), 0.0),
    (Kind::Constant, 0.0),
];

/// What happens to a column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Shift {
    /// By so many standard deviations.
    Mean(f64),
    /// Times so much.
    Variance(f64),
    /// Ten points from the first category to others.
    Mix,
    /// From 2 % to so much.
    Missing(f64),
    /// A category that was not there.
    Unseen(f64),
    Nan(f64),
}

impl Shift {
    /// Each with its name, and the least part of windows of each size in which it must
    /// be found.
    pub(crate) const ALL: [(Self, &'static str, [f64; 3]); 7] = [
        (Self::Mean(0.25), "mean + 0.25 standard deviations", [0.0, 0.0, 0.0]),
        (Self::Mean(0.5), "mean + 0.5 standard deviations", [0.5, 0.95, 1.0]),
        (Self::Variance(1.5), "variance × 1.5", [0.0, 0.0, 0.0]),
        (Self::Mix, "categories 40:30:15:10:5 → 30:30:20:10:10", [0.0, 0.0, 0.0]),
        (Self::Missing(0.06), "missing 2 % → 6 %", [0.1, 0.9, 1.0]),
        (Self::Unseen(0.03), "3 % of an unseen category", [0.8, 0.95, 1.0]),
        (Self::Nan(0.03), "3 % NaN", [0.8, 0.95, 1.0]),
    ];
}

/// The column that it happens to.
pub(crate) fn column_of(shift: Shift) -> usize {
    match shift {
        Shift::Mean(_) | Shift::Variance(_) | Shift::Nan(_) => 0,
        Shift::Missing(_) => 1,
        Shift::Mix | Shift::Unseen(_) => 11,
    }
}

/// A reference of all columns.
pub(crate) struct Reference {
    columns: &'static [Column],
    /// By column and place.
    pub(crate) counts: Vec<Vec<u64>>,
    bins: Vec<Sorted>,
    /// The cumulated weights of the columns' categories.
    weights: Vec<Vec<f64>>,
}

/// How values are sorted into bins.
pub(crate) enum Sorted {
    Ranges(Bins),
    /// By category: its place. Those that the reference has most often come first, as a
    /// profile has texts.
    Values(Vec<usize>),
}

impl Sorted {
    fn place(&self, number: f64) -> usize {
        match self {
            Self::Ranges(bins) => bins.place(number).0,
            Self::Values(_) if number.is_nan() => PlaceOf::NAN.0,
            Self::Values(places) => {
                places.get(number as usize).copied().unwrap_or(PlaceOf::OTHER.0)
            }
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Ranges(bins) => bins.len(),
            Self::Values(places) => places.iter().filter(|p| **p != PlaceOf::OTHER.0).count(),
        }
    }
}

impl Reference {
    /// Draws so many rows, and makes bins of them: by tenths for numbers, the most
    /// frequent for categories.
    pub(crate) fn new(columns: &'static [Column], rng: &mut Rng, rows: usize) -> Self {
        let weights = columns.iter().map(|(kind, _)| cumulated(&kind.weights())).collect();
        let mut own = Self { columns, counts: Vec::new(), bins: Vec::new(), weights };
        for (column, (kind, _)) in columns.iter().enumerate() {
            let values: Vec<_> = (0..rows).map(|_| own.draw(column, rng, None)).collect();
            let known = values.iter().flatten().copied().collect();
            own.bins.push(if is_number(*kind) { tenths(known) } else { frequent(known) });
            own.counts.push(own.count(column, values.into_iter()));
        }
        own
    }

    /// Whether a column's bins are values.
    pub(crate) fn by_value(&self, column: usize) -> bool {
        matches!(self.bins[column], Sorted::Values(_))
    }

    /// The counts by place of so many rows of one column.
    pub(crate) fn window(
        &self,
        column: usize,
        rng: &mut Rng,
        rows: usize,
        shift: Option<Shift>,
    ) -> Vec<u64> {
        self.count(column, (0..rows).map(|_| self.draw(column, rng, shift)))
    }

    fn count(&self, column: usize, values: impl Iterator<Item = Option<f64>>) -> Vec<u64> {
        let bins = &self.bins[column];
        let mut counts = vec![0; Counts::APART + bins.len()];
        for value in values {
            counts[value.map_or(PlaceOf::MISSING.0, |number| bins.place(number))] += 1;
        }
        counts
    }

    /// `None` without a value.
    fn draw(&self, column: usize, rng: &mut Rng, shift: Option<Shift>) -> Option<f64> {
        let (kind, missing) = self.columns[column];
        let missing = if let Some(Shift::Missing(rate)) = shift { rate } else { missing };
        if missing > 0.0 && rng.chance(missing) {
            return None;
        }
        let value = match kind {
            Kind::Normal => rng.normal(),
            Kind::Exponential => rng.exponential(),
            Kind::LogNormal => rng.normal().exp(),
            Kind::Uniform => rng.uniform(),
            Kind::Heavy => (std::f64::consts::PI * (rng.uniform() - 0.5)).tan(),
            Kind::TwoPeaks => rng.normal() + if rng.chance(0.3) { 4.0 } else { 0.0 },
            Kind::Zeros => f64::from(u8::from(rng.chance(0.6))) * rng.exponential(),
            Kind::Score => rng.uniform().powi(3),
            Kind::Count => (2.0 * rng.exponential()).floor(),
            Kind::Truth => f64::from(u8::from(rng.chance(0.3))),
            Kind::Categories => {
                let mixed = [0.3, 0.6, 0.8, 0.9, 1.0];
                let usual = [0.4, 0.7, 0.85, 0.95, 1.0];
                pick(if shift == Some(Shift::Mix) { &mixed } else { &usual }, rng.uniform())
            }
            Kind::Zipf(_) | Kind::Equal(_) | Kind::Rare => {
                pick(&self.weights[column], rng.uniform())
            }
            Kind::Constant => 7.0,
        };
        Some(match shift {
            Some(Shift::Mean(by)) => value + by,
            Some(Shift::Variance(times)) => value * times.sqrt(),
            Some(Shift::Unseen(rate)) if rng.chance(rate) => 1_000.0,
            Some(Shift::Nan(rate)) if rng.chance(rate) => f64::NAN,
            _ => value,
        })
    }
}

fn is_number(kind: Kind) -> bool {
    use Kind::{Constant, Exponential, Heavy, LogNormal, Normal, Score, TwoPeaks, Uniform, Zeros};
    matches!(
        kind,
        Normal | Exponential | LogNormal | Uniform | Heavy | TwoPeaks | Zeros | Score | Constant
    )
}

fn pick(cumulated: &[f64], at: f64) -> f64 {
    cumulated.partition_point(|sum| *sum <= at) as f64
}

/// The weights' sums so far, of 1 in all.
fn cumulated(weights: &[f64]) -> Vec<f64> {
    let (all, mut sum) = (weights.iter().sum::<f64>(), 0.0);
    let mut add = |weight: &f64| {
        sum += weight / all;
        sum
    };
    weights.iter().map(&mut add).collect()
}

/// Bounds at each tenth.
fn tenths(mut values: Vec<f64>) -> Sorted {
    values.sort_unstable_by(f64::total_cmp);
    let mut bounds: Vec<_> =
        (0..=10).map(|tenth| values[(values.len() - 1) * tenth / 10]).collect();
    bounds.dedup();
    if bounds.len() == 1 {
        bounds.push(bounds[0]);
    }
    Sorted::Ranges(Bins::Bounds(bounds))
}

/// The most frequent, as many as may have a bin.
fn frequent(values: Vec<f64>) -> Sorted {
    let mut counts = std::collections::BTreeMap::new();
    for value in values {
        *counts.entry(value as usize).or_insert(0) += 1;
    }
    let mut counts: Vec<(u64, usize)> = counts.into_iter().map(|(value, n)| (n, value)).collect();
    counts.sort_unstable_by(|a, b| b.cmp(a));
    counts.truncate(BINS_MAX - 1);
    let highest = counts.iter().map(|(_, value)| *value).max().unwrap_or(0);
    let mut places = vec![PlaceOf::OTHER.0; highest + 1];
    for (bin, (_, value)) in counts.into_iter().enumerate() {
        places[value] = Counts::APART + bin;
    }
    Sorted::Values(places)
}
