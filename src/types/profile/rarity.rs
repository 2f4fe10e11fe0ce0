//! How rare a row is on the data that a profile is of. Pure.
//!
//! Of an input, the share of rows that are at least as rare, by rank:
//!
//! ```text
//! in a bin or another place   p = (rows in places with no more rows + 1) / (n + 1)
//! beyond all n values         p = (2 + rows beyond) / (n + 1) · (1 + d / w)^−2
//! ```
//!
//! where `d` is how far beyond the value lies and `w` the width of the outermost bin. The
//! next of n + 1 equal rows is the lowest or the highest with a probability of 2 / (n + 1);
//! how much further it may lie no bin tells, and the factor is that of a Pareto tail of
//! index 2, as heavy as a variance allows. The combination of inputs without a value is
//! judged as one input more. Of a row its rarest input counts, times the number of inputs
//! (Bonferroni): so among rows like the profile's a share of p at most has p or less.

use std::collections::HashMap;

use crate::types::profile::together::LOOKED_AT_MAX;
use crate::types::{Bins, Counts, Feature, PlaceOf, Profile};

/// Scores end here; see [`score`].
const SCORE_MAX: f64 = 12.0;

/// How rare rows are.
#[derive(Debug)]
pub struct Rarity {
    inputs: Vec<InputRarity>,
    together: Option<TogetherRarity>,
}

/// How rare values of one input are.
#[derive(Debug)]
struct InputRarity {
    places: Box<[f32]>,
    tails: Option<Tails>,
}

/// Beyond the lowest and the highest value.
#[derive(Debug)]
struct Tails {
    share: f64,
    low: f64,
    low_width: f64,
    high: f64,
    high_width: f64,
}

#[derive(Debug)]
struct TogetherRarity {
    known: HashMap<u64, f32>,
    unknown: f32,
}

/// What makes a value rare.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WhyOdd {
    /// There is none.
    Missing,
    /// It is NaN.
    Nan,
    /// It is below the lowest of the profile's.
    Below,
    /// It is above the highest.
    Above,
    /// It is a category or a whole number that the profile does not have.
    Unseen,
    /// Few rows of the profile have one like it.
    Rare,
    /// So many inputs, or so few, have no value together.
    MissingTogether,
}

impl WhyOdd {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::Missing,
        Self::Nan,
        Self::Below,
        Self::Above,
        Self::Unseen,
        Self::Rare,
        Self::MissingTogether,
    ];

    /// Its name for programs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Nan => "nan",
            Self::Below => "below",
            Self::Above => "above",
            Self::Unseen => "unseen",
            Self::Rare => "rare",
            Self::MissingTogether => "missing_together",
        }
    }

    const fn of(place: PlaceOf) -> Self {
        match place {
            PlaceOf::MISSING => Self::Missing,
            PlaceOf::NAN => Self::Nan,
            PlaceOf::BELOW => Self::Below,
            PlaceOf::ABOVE => Self::Above,
            PlaceOf::OTHER => Self::Unseen,
            _ => Self::Rare,
        }
    }
}

/// The rarest of one row's values so far.
#[derive(Clone, Copy, Debug)]
pub struct SeenRow {
    share: f32,
    input: usize,
    why: WhyOdd,
    without: u64,
}

impl SeenRow {
    /// Before its first value.
    pub const NEW: Self = Self { share: 1.0, input: 0, why: WhyOdd::Rare, without: 0 };
}

/// How rare a row is, and by what.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RowRarity {
    /// The share of rows like the profile's that are as rare, at most; 0 to 1.
    pub share: f64,
    /// What makes it so.
    pub why: WhyOdd,
    /// The input, by its place in the profile; `None` if it is no one input.
    pub input: Option<usize>,
}

impl RowRarity {
    /// −log10 of the share, 0 to 12: 3 is one row in a thousand.
    #[must_use]
    pub fn score(&self) -> f64 {
        // Plus zero, for the sign of nothing.
        (-self.share.log10()).clamp(0.0, SCORE_MAX) + 0.0
    }
}

impl Rarity {
    /// By a profile's inputs.
    #[must_use]
    pub fn new(profile: &Profile) -> Self {
        let together = profile.missing_together.as_ref().map(|together| {
            let masks = together.masks(&profile.inputs);
            let no_more = |rows: u64| {
                let rest = masks.iter().map(|(_, n)| *n).filter(|n| *n <= rows);
                rest.fold(together.other, u64::saturating_add)
            };
            let share = |rows| by_rank(rows, 1, profile.rows);
            let known = masks.iter().map(|(mask, rows)| (*mask, share(no_more(*rows))));
            TogetherRarity { known: known.collect(), unknown: share(together.other) }
        });
        Self { inputs: profile.inputs.iter().map(InputRarity::new).collect(), together }
    }

    /// A value of a row: of this input, in this place; `number` is what it is, where it
    /// is one.
    #[inline]
    pub fn see(&self, row: &mut SeenRow, input: usize, place: PlaceOf, number: f64) {
        let Some(own) = self.inputs.get(input) else { return };
        let share = match &own.tails {
            Some(tails) if matches!(place, PlaceOf::BELOW | PlaceOf::ABOVE) => tails.share(number),
            _ => own.places.get(place.0).copied().unwrap_or(1.0),
        };
        if matches!(place, PlaceOf::MISSING | PlaceOf::NAN) && input < LOOKED_AT_MAX {
            row.without |= 1 << input;
        }
        if share < row.share {
            (row.share, row.input, row.why) = (share, input, WhyOdd::of(place));
        }
    }

    /// All values of the row have been seen.
    #[must_use]
    pub fn judge(&self, row: &SeenRow) -> RowRarity {
        let mut judged =
            RowRarity { share: row.share.into(), why: row.why, input: Some(row.input) };
        let mut looks = self.inputs.len();
        if let Some(together) = &self.together {
            looks += 1;
            let share = together.known.get(&row.without).copied();
            let share = f64::from(share.unwrap_or(together.unknown));
            if share < judged.share {
                judged = RowRarity { share, why: WhyOdd::MissingTogether, input: None };
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        let looks = looks.max(1) as f64;
        judged.share = (judged.share * looks).min(1.0);
        judged
    }
}

impl InputRarity {
    fn new(feature: &Feature) -> Self {
        let rows = feature.counts.rows();
        let places = feature.counts.by_place();
        let no_more = |count: u64| {
            let no_more = places.iter().copied().filter(|other| *other <= count);
            no_more.fold(0, u64::saturating_add)
        };
        let tails = match &feature.bins {
            Bins::Bounds(bounds) => Tails::new(bounds, &feature.counts),
            Bins::Integers(_) | Bins::Texts(_) => None,
        };
        let share = |count: &u64| by_rank(no_more(*count), 1, rows);
        Self { places: places.iter().map(share).collect(), tails }
    }
}

impl Tails {
    fn new(bounds: &[f64], counts: &Counts) -> Option<Self> {
        let [low, after, ..] = bounds else { return None };
        let [.., before, high] = bounds else { return None };
        let beyond = counts.below.saturating_add(counts.above);
        Some(Self {
            share: by_rank(beyond, 2, counts.rows()).into(),
            low: *low,
            low_width: after - low,
            high: *high,
            high_width: high - before,
        })
    }

    /// Of a number below the lowest or above the highest.
    fn share(&self, number: f64) -> f32 {
        let (beyond, width) = match number < self.low {
            true => (self.low - number, self.low_width),
            false => (number - self.high, self.high_width),
        };
        // One value alone tells nothing of how far others may lie.
        let factor = if width > 0.0 { (1.0 + beyond / width).powi(-2) } else { 1.0 };
        narrow(self.share * factor)
    }
}

/// The share of rows at least as rare, where `rarer` of `rows` are, and the next row may be
/// so in so many ways.
#[expect(clippy::cast_precision_loss, reason = "a share")]
fn by_rank(rarer: u64, ways: u64, rows: u64) -> f32 {
    narrow((rarer.saturating_add(ways) as f64 / (rows as f64 + 1.0)).min(1.0))
}

#[expect(clippy::cast_possible_truncation, reason = "a share, compared with others")]
const fn narrow(share: f64) -> f32 {
    share as f32
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Combination, Digest, ModelName, Together};

    fn feature(name: &str, bins: Bins, counts: Counts) -> Feature {
        Feature { name: name.into(), tensor: name.into(), column: 0, bins, counts }
    }

    /// A thousand rows: a number from 0 to 10, a category, and both missing together in
    /// a tenth of them.
    fn profile(together: bool) -> Profile {
        let counts =
            |bins: &[u64], missing| Counts { missing, bins: bins.into(), ..Counts::default() };
        let age = Counts { nan: 100, ..counts(&[450, 450], 0) };
        let texts = vec!["basic".into(), "pro".into()];
        let combination = |without: &[&str], rows| Combination {
            without: without.iter().map(|name| (*name).to_owned()).collect(),
            rows,
        };
        let combinations = vec![combination(&[], 899), combination(&["age", "plan"], 100)];
        Profile {
            schema: Profile::SCHEMA,
            model: ModelName::new("m").unwrap(),
            artifact: Digest::new([1; 32]),
            source: "train.csv".into(),
            created: "2026-01-01T00:00:00Z".into(),
            rows: 1000,
            inputs: vec![
                feature("age", Bins::Bounds(vec![0.0, 8.0, 10.0]), age),
                feature("plan", Bins::Texts(texts), counts(&[897, 3], 100)),
            ],
            outputs: vec![],
            missing_together: together.then_some(Together { combinations, other: 1 }),
        }
    }

    fn judged(profile: &Profile, age: f64, plan: &str) -> RowRarity {
        let rarity = Rarity::new(profile);
        let mut row = SeenRow::NEW;
        rarity.see(&mut row, 0, profile.inputs[0].bins.place(age), age);
        let place = profile.inputs[1].bins.place_text(plan.as_bytes());
        rarity.see(&mut row, 1, place, f64::NAN);
        rarity.judge(&row)
    }

    /// What comes of a value, without the inputs' number: age, plan, share, why, input.
    type Case<'a> = (f64, &'a str, f64, WhyOdd, Option<usize>);

    #[test]
    fn a_row_is_as_rare_as_the_rarest_of_its_values() {
        let n = 1001.0;
        let cases: [Case<'_>; 9] = [
            // Half of the rows lie in either bin, and three are "pro".
            (5.0, "basic", 1.0, WhyOdd::Rare, Some(0)),
            (5.0, "pro", 4.0 / n, WhyOdd::Rare, Some(1)),
            (5.0, "gold", 1.0 / n, WhyOdd::Unseen, Some(1)),
            // 10 to 12 is as far again as the outermost bin is wide: a quarter.
            (10.0, "basic", 1.0, WhyOdd::Rare, Some(0)),
            (12.0, "basic", 2.0 / n / 4.0, WhyOdd::Above, Some(0)),
            (-8.0, "basic", 2.0 / n / 4.0, WhyOdd::Below, Some(0)),
            (f64::INFINITY, "basic", 0.0, WhyOdd::Above, Some(0)),
            (f64::NAN, "basic", 101.0 / n, WhyOdd::Nan, Some(0)),
            (5.0, "", 104.0 / n, WhyOdd::Missing, Some(1)),
        ];
        for (age, plan, share, why, input) in cases {
            let got = judged(&profile(false), age, plan);
            // Two inputs.
            assert!((got.share - (2.0 * share).min(1.0)).abs() < 1e-6, "{age} {plan}: {got:?}");
            if share < 1.0 {
                assert_eq!((got.why, got.input), (why, input), "{age} {plan}");
            }
        }
        assert_eq!(judged(&profile(false), f64::INFINITY, "basic").score(), SCORE_MAX);
        assert_eq!(judged(&profile(false), 5.0, "basic").score(), 0.0);
    }

    #[test]
    fn what_is_never_missing_alone_is_odd_alone() {
        let n = 1001.0;
        // Three judgements; both are missing in a tenth of the rows.
        let both = judged(&profile(true), f64::NAN, "");
        assert!((both.share - 3.0 * 101.0 / n).abs() < 1e-6, "{both:?}");
        let alone = judged(&profile(true), f64::NAN, "basic");
        assert!((alone.share - 3.0 * 2.0 / n).abs() < 1e-6, "{alone:?}");
        assert_eq!((alone.why, alone.input), (WhyOdd::MissingTogether, None));
    }

    #[test]
    fn a_column_of_one_value_says_little_of_another() {
        let mut constant = profile(false);
        constant.inputs[0].bins = Bins::Bounds(vec![2.5, 2.5]);
        constant.inputs[0].counts = Counts { bins: vec![1000], ..Counts::default() };
        for other in [2.4, 1e300, f64::NEG_INFINITY] {
            let got = judged(&constant, other, "basic");
            assert!((got.share - 2.0 * 2.0 / 1001.0).abs() < 1e-6, "{other}: {got:?}");
        }
        constant.inputs[0].bins = Bins::Bounds(vec![]);
        constant.inputs[0].counts = Counts { nan: 1000, ..Counts::default() };
        let got = judged(&constant, 7.0, "basic");
        assert_eq!((got.why, got.input), (WhyOdd::Unseen, Some(0)));
    }

    #[test]
    fn of_rows_like_the_profiles_few_are_rare() {
        // Every value of a uniform, a normal-like and a heavy-tailed column is as
        // likely in the rows that come as in those that were learnt.
        let draw = |kind: usize, u: f64| match kind {
            0 => u,
            1 => (u / (1.0 - u)).ln(),
            _ => (1.0 - u).powf(-0.5),
        };
        let uniform = |state: &mut u64| {
            *state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            #[expect(clippy::cast_precision_loss, reason = "53 bits")]
            let u = (*state >> 11) as f64 / (1_u64 << 53) as f64;
            u.clamp(1e-12, 1.0 - 1e-12)
        };
        let mut state = 7;
        let (mut odd, mut rows) = (0, 0);
        for _ in 0..20 {
            let columns: Vec<_> = (0..3)
                .map(|kind| {
                    let mut numbers = crate::types::profile::bins::Numbers::default();
                    (0..5000).for_each(|_| numbers.add(draw(kind, uniform(&mut state))));
                    let (bins, counts) = numbers.finish();
                    feature("c", bins, counts)
                })
                .collect();
            let profile = Profile { rows: 5000, inputs: columns, ..profile(false) };
            let rarity = Rarity::new(&profile);
            for _ in 0..5000 {
                let mut row = SeenRow::NEW;
                for (kind, input) in profile.inputs.iter().enumerate() {
                    let value = draw(kind, uniform(&mut state));
                    rarity.see(&mut row, kind, input.bins.place(value), value);
                }
                odd += u32::from(rarity.judge(&row).share <= 0.01);
                rows += 1;
            }
        }
        let share = f64::from(odd) / f64::from(rows);
        assert!(share > 0.0 && share <= 0.01, "{share}");
    }
}
