//! How rare a row is on the data that a profile is of. Pure.
//!
//! Of an input, the share of rows that are at least as rare, by rank:
//!
//! ```text
//! in a bin or another place   p = (rows in places with at most one row more + 1) / (n + 1)
//! beyond all values           p = (rows beyond + 2·(1 + d / w)^−2) / (n + 1)
//! ```
//!
//! where `d` is how far beyond the value lies and `w` the width of the outermost bin. The new
//! row is one of n + 1 equal ones, and in its own place: those with one row more are as rare
//! as that is with it. So a value that none of n rows had comes about as often as those that
//! one had (Good 1953). The next of n + 1 equal rows is the lowest or the highest with a
//! probability of 2 / (n + 1); how much further it may lie no bin tells, and the factor is that
//! of a Pareto tail of index 2, as heavy as a variance allows. The combination of inputs
//! without a value is judged as one input more. Of a row its rarest input counts, times the
//! number of inputs (Bonferroni): so among rows like the profile's a share of p at most has p
//! or less, on average over the profiles that may be made of such rows.

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
    looks: f64,
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
    /// The share of the rows beyond, and that of one row more.
    known: f64,
    one: f64,
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
    /// It is a category or a whole number that is none of those that the profile tells apart.
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

impl Profile {
    /// The least share that a row can have by anything but a number beyond all of the
    /// profile's, all inputs considered: 0 to 1.
    #[must_use]
    pub fn least_odd_share(&self) -> f64 {
        share_of(looks(self), self.rows).min(1.0)
    }
}

/// What is looked at of a row.
fn looks(profile: &Profile) -> u64 {
    let looks = profile.inputs.len() + usize::from(profile.missing_together.is_some());
    u64::try_from(looks).unwrap_or(u64::MAX)
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
            let share = |rows: u64| by_rank(no_more(rows.saturating_add(1)), profile.rows);
            let known = masks.iter().map(|(mask, rows)| (*mask, share(*rows)));
            TogetherRarity { known: known.collect(), unknown: share(0) }
        });
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        let looks = looks(profile).max(1) as f64;
        Self { inputs: profile.inputs.iter().map(InputRarity::new).collect(), together, looks }
    }

    /// A value of a row: of this input, in this place; `number` is what it is, where it
    /// is one.
    #[inline]
    pub fn see(&self, row: &mut SeenRow, input: usize, place: PlaceOf, number: f64) {
        let Some(own) = self.inputs.get(input) else { return };
        let beyond = own.tails.as_ref().and_then(|tails| tails.beyond(place, number));
        let (share, place) =
            beyond.unwrap_or_else(|| (own.places.get(place.0).copied().unwrap_or(1.0), place));
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
        if let Some(together) = &self.together {
            let share = together.known.get(&row.without).copied();
            let share = f64::from(share.unwrap_or(together.unknown));
            if share < judged.share {
                judged = RowRarity { share, why: WhyOdd::MissingTogether, input: None };
            }
        }
        judged.share = (judged.share * self.looks).min(1.0);
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
            Bins::Bounds(bounds) => Tails::of_ranges(bounds, &feature.counts),
            Bins::Integers(values) => Tails::of_integers(values, &feature.counts),
            Bins::Texts(_) => None,
        };
        let share = |count: &u64| by_rank(no_more(count.saturating_add(1)), rows);
        Self { places: places.iter().map(share).collect(), tails }
    }
}

impl Tails {
    fn of_ranges(bounds: &[f64], counts: &Counts) -> Option<Self> {
        Self::new(bounds, counts.below.saturating_add(counts.above), counts.rows())
    }

    /// Numbers that are none of those that are told apart may all have been beyond them.
    #[expect(clippy::cast_precision_loss, reason = "as far as they are apart")]
    fn of_integers(values: &[i64], counts: &Counts) -> Option<Self> {
        let mut ascending: Vec<_> = values.iter().map(|value| *value as f64).collect();
        ascending.sort_by(f64::total_cmp);
        Self::new(&ascending, counts.other, counts.rows())
    }

    fn new(bounds: &[f64], beyond: u64, rows: u64) -> Option<Self> {
        let [low, after, ..] = bounds else { return None };
        let [.., before, high] = bounds else { return None };
        Some(Self {
            known: share_of(beyond, rows),
            one: share_of(1, rows),
            low: *low,
            low_width: after - low,
            high: *high,
            high_width: high - before,
        })
    }

    /// Of a number below the lowest or above the highest: its share, and which it is.
    fn beyond(&self, place: PlaceOf, number: f64) -> Option<(f32, PlaceOf)> {
        if !matches!(place, PlaceOf::BELOW | PlaceOf::ABOVE | PlaceOf::OTHER) {
            return None;
        }
        let (beyond, width, place) = if number < self.low {
            (self.low - number, self.low_width, PlaceOf::BELOW)
        } else if number > self.high {
            (number - self.high, self.high_width, PlaceOf::ABOVE)
        } else {
            return None;
        };
        // One value alone tells nothing of how far others may lie.
        let factor = if width > 0.0 { (1.0 + beyond / width).powi(-2) } else { 1.0 };
        Some((narrow((self.known + 2.0 * self.one * factor).min(1.0)), place))
    }
}

/// The share of rows at least as rare as the next one, where so many of `rows` are.
fn by_rank(rarer: u64, rows: u64) -> f32 {
    narrow(share_of(rarer.saturating_add(1), rows).min(1.0))
}

/// A share of `rows` and the next one.
#[expect(clippy::cast_precision_loss, reason = "a share")]
fn share_of(some: u64, rows: u64) -> f64 {
    some as f64 / (rows as f64 + 1.0)
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
        // Where a tenth of the profile's rows are infinite, one more is usual.
        let mut infinite = profile(false);
        infinite.inputs[0].counts =
            Counts { above: 100, bins: vec![450, 450], ..Counts::default() };
        let got = judged(&infinite, f64::INFINITY, "basic");
        assert!((got.share - 2.0 * 100.0 / n).abs() < 1e-6, "{got:?}");
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
    fn whole_numbers_have_ends_too_and_gaps() {
        let mut whole = profile(false);
        whole.inputs[0].bins = Bins::Integers(vec![0, 1, 5]);
        whole.inputs[0].counts = Counts { bins: vec![400, 300, 300], ..Counts::default() };
        let n = 1001.0;
        // Between them it is one that was not seen; 9 is as far again as 5 is from 1.
        for (age, share, why) in [
            (3.0, 1.0 / n, WhyOdd::Unseen),
            (9.0, 2.0 / n / 4.0, WhyOdd::Above),
            (-1.0, 2.0 / n / 4.0, WhyOdd::Below),
        ] {
            let got = judged(&whole, age, "basic");
            assert!((got.share - 2.0 * share).abs() < 1e-6, "{age}: {got:?}");
            assert_eq!((got.why, got.input), (why, Some(0)), "{age}");
        }
    }

    #[test]
    fn what_was_not_seen_comes_as_often_as_what_was_seen_once() {
        let mut rare = profile(false);
        let texts: Vec<_> = (0..31).map(|i| i.to_string()).collect();
        let bins: Vec<_> = (0..31).map(|i| if i == 0 { 970 } else { 1 }).collect();
        rare.inputs[1].bins = Bins::Texts(texts);
        rare.inputs[1].counts = Counts { bins, ..Counts::default() };
        for text in ["7", "never"] {
            let got = judged(&rare, 5.0, text);
            assert!((got.share - 2.0 * 31.0 / 1001.0).abs() < 1e-6, "{text}: {got:?}");
        }
    }

    /// Random, and the same each time.
    struct Random(u64);

    impl Random {
        fn uniform(&mut self) -> f64 {
            self.0 = self
                .0
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            #[expect(clippy::cast_precision_loss, reason = "53 bits")]
            let u = (self.0 >> 11) as f64 / (1_u64 << 53) as f64;
            u.clamp(1e-12, 1.0 - 1e-12)
        }
    }

    /// A column's values, as likely in the rows that come as in those that were learnt.
    #[derive(Clone, Copy)]
    enum Drawn {
        Uniform,
        /// Logistic.
        Bell,
        /// Pareto's law of index 2.
        Heavy,
        /// One in ten is infinite.
        Infinite,
        /// Three that are frequent, and fifty that share two rows of a hundred.
        Categories,
    }

    impl Drawn {
        fn number(self, u: f64) -> f64 {
            match self {
                Self::Uniform => u,
                Self::Bell => (u / (1.0 - u)).ln(),
                Self::Heavy => (1.0 - u).powf(-0.5),
                Self::Infinite if u < 0.1 => f64::INFINITY,
                Self::Infinite => u,
                Self::Categories if u < 0.98 => (u * 3.0 / 0.98).floor(),
                Self::Categories => 3.0 + ((u - 0.98) * 50.0 / 0.02).floor(),
            }
        }

        fn learnt(self, rows: usize, random: &mut Random) -> Feature {
            if let Self::Categories = self {
                let mut texts = crate::types::profile::bins::Texts::new(1_000);
                for _ in 0..rows {
                    texts.add(self.number(random.uniform()).to_string().as_bytes());
                }
                let (bins, counts) = texts.finish();
                return feature("c", bins, counts);
            }
            let mut numbers = crate::types::profile::bins::Numbers::default();
            (0..rows).for_each(|_| numbers.add(self.number(random.uniform())));
            let (bins, counts) = numbers.finish();
            feature("c", bins, counts)
        }
    }

    /// The share of rows that are odd, over several profiles.
    fn odd_share(kinds: &[Drawn], learnt: usize, level: f64) -> f64 {
        let (mut random, mut odd, mut rows) = (Random(7), 0, 0);
        for _ in 0..100_000 / learnt {
            let columns: Vec<_> =
                kinds.iter().map(|kind| kind.learnt(learnt, &mut random)).collect();
            let rows_learnt = u64::try_from(learnt).unwrap();
            let profile = Profile { rows: rows_learnt, inputs: columns, ..profile(false) };
            let rarity = Rarity::new(&profile);
            for _ in 0..learnt {
                let mut row = SeenRow::NEW;
                for (at, (kind, input)) in kinds.iter().zip(&profile.inputs).enumerate() {
                    let value = kind.number(random.uniform());
                    let place = match kind {
                        Drawn::Categories => input.bins.place_text(value.to_string().as_bytes()),
                        _ => input.bins.place(value),
                    };
                    rarity.see(&mut row, at, place, value);
                }
                odd += u32::from(rarity.judge(&row).share <= level);
                rows += 1;
            }
        }
        f64::from(odd) / f64::from(rows)
    }

    #[test]
    fn of_rows_like_the_profiles_few_are_odd() {
        use Drawn::{Bell, Categories, Heavy, Infinite, Uniform};
        let cases: [(&[Drawn], usize, f64); 5] = [
            (&[Uniform, Bell, Heavy], 5_000, 0.01),
            // Here the share of a value beyond all others is above the level without how far
            // it lies.
            (&[Bell; 12], 200, 0.01),
            (&[Heavy; 12], 200, 0.01),
            (&[Categories; 10], 5_000, 0.01),
            (&[Infinite, Uniform], 1_000, 0.01),
        ];
        for (i, (kinds, learnt, level)) in cases.into_iter().enumerate() {
            let share = odd_share(kinds, learnt, level);
            // Three standard errors of some 100,000 rows.
            assert!(share <= level + 0.001, "{i}: {share}");
        }
        // It is no promise that calls nothing odd.
        assert!(odd_share(&[Uniform, Bell, Heavy], 5_000, 0.01) > 0.0005);
    }
}
