//! Values that are gathered of one column, and the bins that they come to.

use std::collections::HashMap;

use crate::types::{BINS_MAX, Bins, CATEGORY_BYTES_MAX, Counts, PlaceOf};

/// The bins of a column with many numbers.
const QUANTILES: usize = 10;
/// The most different numbers that get a bin each.
const DISTINCT_MAX: usize = 20;
/// Whole numbers up to here are exact as floating-point numbers: 2^53.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// Numbers of one column.
#[derive(Debug, Default)]
pub(super) struct Numbers {
    values: Vec<f64>,
    nan: u64,
}

impl Numbers {
    pub(super) fn add(&mut self, number: f64) {
        if number.is_nan() {
            self.nan += 1;
        } else {
            // Zero has one sign here.
            self.values.push(number + 0.0);
        }
    }

    /// The bins, and how many of these very values fall where.
    pub(super) fn finish(mut self) -> (Bins, Counts) {
        self.values.sort_unstable_by(f64::total_cmp);
        // Infinities lie beyond the bins, as they would in live traffic.
        let start = self.values.partition_point(|value| *value == f64::NEG_INFINITY);
        let end = self.values.partition_point(|value| *value < f64::INFINITY);
        let bins = bins(&self.values[start..end]);
        let mut places = vec![0; Counts::APART + bins.len()];
        places[PlaceOf::NAN.0] = self.nan;
        for value in self.values {
            places[bins.place(value).0] += 1;
        }
        let counts = Counts::from_places(&places);
        (bins, counts)
    }
}

/// Bins for finite numbers in ascending order.
fn bins(sorted: &[f64]) -> Bins {
    let (Some(&lowest), Some(&highest)) = (sorted.first(), sorted.last()) else {
        return Bins::Bounds(Vec::new());
    };
    match few(sorted) {
        Some(values) => match integers(&values) {
            Some(integers) => Bins::Integers(integers),
            None => {
                let between = values.windows(2).map(|pair| between(pair[0], pair[1]));
                bounds(lowest, between, highest)
            }
        },
        None => bounds(lowest, quantiles(sorted), highest),
    }
}

/// The different numbers, where they are few and come again.
fn few(sorted: &[f64]) -> Option<Vec<f64>> {
    let mut values: Vec<f64> = Vec::new();
    for value in sorted {
        if values.last() != Some(value) {
            if values.len() == DISTINCT_MAX {
                return None;
            }
            values.push(*value);
        }
    }
    // A handful of rows says nothing of how many there are.
    (values.len() == 1 || values.len() * 2 <= sorted.len()).then_some(values)
}

/// The numbers, where all are whole.
#[expect(clippy::cast_possible_truncation, reason = "whole, and far from the limits")]
fn integers(values: &[f64]) -> Option<Vec<i64>> {
    let whole = |value: &f64| value.fract() == 0.0 && value.abs() <= WHOLE_MAX;
    values.iter().all(whole).then(|| values.iter().map(|value| *value as i64).collect())
}

/// Where the tenths of the rows begin.
fn quantiles(sorted: &[f64]) -> impl Iterator<Item = f64> {
    let highest = sorted.last().copied().unwrap_or_default();
    let below = sorted[..sorted.partition_point(|value| *value < highest)].last();
    // A highest value that very many rows have gets a bin of its own.
    let apart = below.map_or(highest, |below| between(*below, highest));
    (1..QUANTILES)
        .map(|tenth| sorted[tenth * sorted.len() / QUANTILES])
        .map(move |bound| if bound == highest { apart } else { bound })
}

/// A number above `low` and not above `high`: the middle, if there is one.
fn between(low: f64, high: f64) -> f64 {
    let middle = low / 2.0 + high / 2.0;
    if middle > low && middle <= high { middle } else { high }
}

fn bounds(lowest: f64, inner: impl Iterator<Item = f64>, highest: f64) -> Bins {
    let mut bounds = vec![lowest];
    bounds.extend(inner.filter(|bound| *bound > lowest && *bound < highest));
    bounds.push(highest);
    if lowest < highest {
        bounds.dedup();
    }
    Bins::Bounds(bounds)
}

/// Texts of one column.
#[derive(Debug)]
pub(super) struct Texts {
    known: HashMap<Box<str>, u64>,
    known_max: usize,
    missing: u64,
    other: u64,
}

impl Texts {
    /// Remembers at most so many different ones.
    pub(super) fn new(known_max: usize) -> Self {
        Self { known: HashMap::new(), known_max, missing: 0, other: 0 }
    }

    pub(super) fn add(&mut self, text: &[u8]) {
        if text.is_empty() {
            self.missing += 1;
            return;
        }
        let text = std::str::from_utf8(text).ok().filter(|text| text.len() <= CATEGORY_BYTES_MAX);
        match text {
            None => self.other += 1,
            Some(text) => {
                let room = self.known.len() < self.known_max;
                match self.known.get_mut(text) {
                    Some(count) => *count += 1,
                    None if room => drop(self.known.insert(text.into(), 1)),
                    None => self.other += 1,
                }
            }
        }
    }

    /// The most frequent get a bin each.
    pub(super) fn finish(self) -> (Bins, Counts) {
        let mut known: Vec<_> = self.known.into_iter().collect();
        known.sort_unstable_by(|(a, n), (b, m)| m.cmp(n).then_with(|| a.cmp(b)));
        let rest = known.split_off(known.len().min(BINS_MAX - 1));
        let other = rest.iter().fold(self.other, |sum, (_, count)| sum + count);
        let (texts, bins) = known.into_iter().map(|(text, count)| (text.into(), count)).unzip();
        (Bins::Texts(texts), Counts { missing: self.missing, other, bins, ..Counts::default() })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn gathered(values: &[f64]) -> (Bins, Counts) {
        let mut numbers = Numbers::default();
        values.iter().for_each(|value| numbers.add(*value));
        numbers.finish()
    }

    #[test]
    fn many_numbers_are_cut_into_tenths() {
        let values: Vec<_> = (0..1000).rev().map(|i| f64::from(i) / 8.0).collect();
        let (bins, counts) = gathered(&values);
        let bounds = [0.0, 12.5, 25.0, 37.5, 50.0, 62.5, 75.0, 87.5, 100.0, 112.5, 124.875];
        assert_eq!(bins, Bins::Bounds(bounds.to_vec()));
        assert_eq!(counts, Counts { bins: vec![100; 10], ..Counts::default() });
    }

    #[test]
    fn a_value_that_most_rows_have_has_a_bin() {
        // Once the lowest, once the highest of many.
        for sign in [1.0, -1.0] {
            let mut values = vec![0.0; 900];
            values.extend((0..100).map(|i| sign * (f64::from(i) + 0.5)));
            let (bins, counts) = gathered(&values);
            let Bins::Bounds(bounds) = &bins else { panic!("{bins:?}") };
            assert!(counts.bins.contains(&900), "{bounds:?} {counts:?}");
            assert_eq!(counts.rows(), 1000);
        }
    }

    #[test]
    fn few_numbers_get_a_bin_each() {
        let cases: [(&[f64], Bins, &[u64]); 6] = [
            (&[3.0, -1.0, 3.0, -1.0, -0.0, 0.0], Bins::Integers(vec![-1, 0, 3]), &[2, 2, 2]),
            (&[0.5, 1.0, 0.5, 1.0], Bins::Bounds(vec![0.5, 0.75, 1.0]), &[2, 2]),
            (&[7.0], Bins::Integers(vec![7]), &[1]),
            (&[2.5, 2.5], Bins::Bounds(vec![2.5, 2.5]), &[2]),
            (&[1e300, 1e300], Bins::Bounds(vec![1e300, 1e300]), &[2]),
            // Too few rows to believe that there are no others.
            (&[1.0, 2.0, 3.0], Bins::Bounds(vec![1.0, 2.0, 2.5, 3.0]), &[1, 1, 1]),
        ];
        for (values, expected, counts) in cases {
            let counts = Counts { bins: counts.to_vec(), ..Counts::default() };
            assert_eq!(gathered(values), (expected, counts), "{values:?}");
        }
    }

    #[test]
    fn what_is_no_finite_number_bends_no_bin() {
        let (bins, counts) = gathered(&[f64::NAN, f64::NAN]);
        assert_eq!((bins, counts.nan), (Bins::Bounds(vec![]), 2));
        let values = [1.5, f64::INFINITY, 2.5, 1.5, f64::NEG_INFINITY, 2.5, f64::NAN];
        let counts = Counts { nan: 1, below: 1, above: 1, bins: vec![2, 2], ..Counts::default() };
        assert_eq!(gathered(&values), (Bins::Bounds(vec![1.5, 2.0, 2.5]), counts));
        let (bins, counts) = gathered(&[f64::INFINITY]);
        assert_eq!((bins, counts.other), (Bins::Bounds(vec![]), 1));
    }

    #[test]
    fn the_most_frequent_texts_get_a_bin_each() {
        let mut texts = Texts::new(100);
        let long = "x".repeat(CATEGORY_BYTES_MAX + 1);
        for text in ["b", "", "a", "c", "c", &long] {
            texts.add(text.as_bytes());
        }
        texts.add(&[0xff]);
        let (bins, counts) = texts.finish();
        assert_eq!(bins, Bins::Texts(vec!["c".into(), "a".into(), "b".into()]));
        let expected = Counts { missing: 1, other: 2, bins: vec![2, 1, 1], ..Counts::default() };
        assert_eq!(counts, expected);
    }

    #[test]
    fn of_too_many_texts_the_rest_is_other() {
        let mut texts = Texts::new(80);
        for i in 0..200 {
            texts.add(format!("{i:03}").as_bytes());
        }
        let (bins, counts) = texts.finish();
        assert_eq!((bins.len(), counts.other), (BINS_MAX - 1, 200 - 63));
        let Bins::Texts(texts) = bins else { panic!("{bins:?}") };
        assert_eq!((&*texts[0], &*texts[62]), ("000", "062"));
    }

    fn number() -> impl Strategy<Value = f64> {
        prop_oneof![
            any::<f64>(),
            (-30_i32..30).prop_map(f64::from),
            (0_i32..10).prop_map(|n| f64::from(n) / 4.0),
            (0_u64..5).prop_map(|n| f64::from_bits(1.0_f64.to_bits() + n)),
            prop::sample::select(vec![f64::NAN, f64::INFINITY, f64::MAX, f64::MIN, -0.0, 5e-324]),
        ]
    }

    proptest! {
        #[test]
        fn counts_are_what_the_bins_say_of_each_number(
            values in prop::collection::vec(number(), 0..300),
            again in 1_usize..4,
        ) {
            let values: Vec<_> = values.iter().copied().cycle().take(values.len() * again).collect();
            let (bins, counts) = gathered(&values);
            let mut places = vec![0; Counts::APART + bins.len()];
            values.iter().for_each(|value| places[bins.place(*value).0] += 1);
            prop_assert_eq!(&counts, &Counts::from_places(&places));
            prop_assert_eq!(counts.rows(), values.len() as u64);
            prop_assert!(bins.check().is_ok(), "{:?}", bins);
            prop_assert!(counts.bins.iter().all(|count| *count > 0), "{:?} {:?}", bins, counts);
        }

        #[test]
        fn counts_are_what_the_bins_say_of_each_text(
            values in prop::collection::vec(prop::collection::vec(97_u8..100, 0..4), 0..300),
            known_max in 1_usize..90,
        ) {
            let mut texts = Texts::new(known_max);
            values.iter().for_each(|value| texts.add(value));
            let (bins, counts) = texts.finish();
            let mut places = vec![0; Counts::APART + bins.len()];
            values.iter().for_each(|value| places[bins.place_text(value).0] += 1);
            prop_assert_eq!(counts, Counts::from_places(&places));
            prop_assert!(bins.check().is_ok());
        }
    }
}
