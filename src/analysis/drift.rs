//! Drift: do a window's rows look like those that a model was made from?
//!
//! Of each column there are two rows of counts, by the same places
//! ([`Counts::by_place`]): of the reference, frozen when its profile was made, and
//! of a window of live rows. Windows do not overlap and are judged once, when they are
//! whole: this is *not* anytime-valid, and nothing here decides a rollout.
//!
//! A column has *moved* if the difference is large and is no chance:
//!
//! - **Large**: the population stability index of all places exceeds [`psi_bound`], or a rate
//!   of [`Rates`] differs by [`RATE_CHANGE_MIN`] or more. The index alone would not do: a
//!   missing rate that goes from 2 % to 6 % gives 0.05, and breaks models.
//! - **No chance**: its p-value is among those that Benjamini and Hochberg's procedure
//!   rejects over all columns, at the level that is asked for.
//!
//! The p-value does not come from the index, whose distribution is far from χ² where
//! places expect few rows. It is the smallest of several tests' (Bonferroni):
//!
//! - one of the bins, among the rows that have one: Pearson's χ² of homogeneity, where bins
//!   that expect fewer than five rows on the smaller side are grouped until they do;
//! - one of each place apart (missing, NaN, below, above, other) that has rows: an exact one
//!   of two proportions, so that few rows suffice, and a reference may have none.
//!
//! Bins are made from the reference itself, so that live rows fall outside of them without
//! any drift:
//!
//! - Below and above begin at the reference's extremes. The exact test has that right as it
//!   is: that the lowest `k` of `n + m` rows are all in the window has probability
//!   about `(m/(n+m))^k`.
//! - A value that the reference has not (or not often enough for a bin) is `other`, while
//!   one that it has by luck has a bin, and goes back to its mean in the window. So the
//!   tests take rare values together with the others, on both sides; and which are rare is
//!   told by the rows of *both sides together*: given those, chance alone tells how many of
//!   them are the window's, and what is grouped by them favours no side. Told by the
//!   reference's rows alone, the groups would have its luck. A value is rare if the reference
//!   would be expected to have fewer than [`KEPT_MIN`] of its rows, so that none without a
//!   bin is left that is not; or than `c + 3√c` where it had more values than bins, `c` of
//!   the rarest one that has a bin.
//!
//! What this takes for granted is that rows are independent, of the window and of the
//! reference. Rows of one request, of one user or of one hour are often alike, and then
//! chance alone moves more than these tests expect.

mod chi_squared;

use serde::Serialize;

use super::gamma::ln_gamma;
use super::terms::Level;
use crate::types::{Counts, JUDGED_ROWS_MIN, PlaceOf};

pub use chi_squared::{chi_squared_quantile, chi_squared_survival};

/// The fewest rows, of the reference and of a window, with which a column is judged.
pub const ROWS_MIN: u64 = JUDGED_ROWS_MIN;
/// The least population stability index that counts as a difference: "moderate" by the
/// usual rule of thumb.
pub const PSI_MIN: f64 = 0.1;
/// The least change of a rate that counts as a difference by itself, as a share of rows.
pub const RATE_CHANGE_MIN: f64 = 0.02;
/// How many windows in a row must have moved for a column to be drifting.
pub const MOVED_WINDOWS: u8 = 3;
/// How many windows in a row must not have moved for it to be drifting no more.
pub const STEADY_WINDOWS: u8 = 2;

/// The fewest rows that χ² wants to expect in a group (Cochran 1954).
const EXPECTED_MIN: f64 = 5.0;
/// A value of which the reference is expected to have fewer rows is taken together with
/// those that it has not: one of which it is expected to have more has none of them with
/// a probability below e⁻¹⁰.
const KEPT_MIN: f64 = 10.0;
/// The places apart.
const APART: [PlaceOf; Counts::APART] =
    [PlaceOf::MISSING, PlaceOf::NAN, PlaceOf::BELOW, PlaceOf::ABOVE, PlaceOf::OTHER];

/// What is compared of one column: counts by the same places. The shorter one counts as
/// followed by zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ColumnCounts<'a> {
    /// What the model was made from.
    pub reference: &'a [u64],
    /// Live rows.
    pub window: &'a [u64],
    /// Whether each bin is of a value, and a value without one is another
    /// ([`Bins::are_values`]); otherwise they are ranges.
    ///
    /// [`Bins::are_values`]: crate::types::Bins::are_values
    pub by_value: bool,
}

/// Shares of the rows whose value has no bin, each 0 to 1; 0 of no rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Rates {
    /// Without a value.
    pub missing: f64,
    /// NaN.
    pub nan: f64,
    /// Below the lowest or above the highest bound.
    pub out_of_range: f64,
    /// A whole number or text without a bin of its own.
    pub unseen: f64,
}

/// Why a column cannot be judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unjudged {
    /// The reference has only so many rows.
    ReferenceRows(u64),
    /// The window has only so many rows.
    WindowRows(u64),
    /// Reference and window have all their rows in one place, the same: there is nothing
    /// to compare, and nothing has moved.
    Constant,
}

impl std::fmt::Display for Unjudged {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::ReferenceRows(rows) => {
                write!(f, "the reference has {rows} rows, expected at least {ROWS_MIN}")
            }
            Self::WindowRows(rows) => {
                write!(f, "the window has {rows} rows, expected at least {ROWS_MIN}")
            }
            Self::Constant => f.write_str("it has always the same value"),
        }
    }
}

/// How a column differs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// Population stability index of all places, from 0; see [`psi`].
    pub psi: f64,
    /// What it must exceed to be large; see [`psi_bound`].
    pub bound: f64,
    /// Jensen-Shannon divergence in bits, 0 to 1.
    pub js: f64,
    /// How often a difference at least as clear comes by chance, in one column, without any
    /// drift; 0 to 1.
    pub p_value: f64,
    /// Whether a rate differs by [`RATE_CHANGE_MIN`] or more.
    pub rate_changed: bool,
    /// Whether it is large and no chance, given all columns of the window.
    pub moved: bool,
}

/// What is found of one column.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ColumnDrift {
    /// Rows of the window.
    pub rows: u64,
    /// Rates of the reference.
    pub reference: Rates,
    /// Rates of the window.
    pub window: Rates,
    /// How it differs, or why that is not said.
    pub difference: Result<Difference, Unjudged>,
}

/// Judges all columns of one window together.
///
/// Without drift, the probability that any column has moved is at most `level`; with drift,
/// the expected part of false ones among those that have moved is. Both hold for
/// columns that are independent or positively dependent (Benjamini & Yekutieli 2001).
/// The answer has the order of `columns`.
#[must_use]
pub fn judge_window(columns: &[ColumnCounts<'_>], level: Level) -> Vec<ColumnDrift> {
    let mut found: Vec<_> = columns.iter().map(|column| compare(column, level)).collect();
    let judged = || found.iter().filter_map(|column| column.difference.as_ref().ok());
    let p_values: Vec<_> = judged().map(|difference| difference.p_value).collect();
    let real = benjamini_hochberg(&p_values, level.get());
    let judged = found.iter_mut().filter_map(|column| column.difference.as_mut().ok());
    for (difference, real) in judged.zip(real) {
        let large = difference.psi > difference.bound || difference.rate_changed;
        difference.moved = real && large;
    }
    found
}

/// One column by itself: it has not moved yet.
fn compare(column: &ColumnCounts<'_>, level: Level) -> ColumnDrift {
    let ColumnCounts { reference, window, by_value } = *column;
    let [n, m] = [reference, window].map(rows);
    let places = both(reference, window).count();
    let difference = if n < ROWS_MIN {
        Err(Unjudged::ReferenceRows(n))
    } else if m < ROWS_MIN {
        Err(Unjudged::WindowRows(m))
    } else if places < 2 {
        Err(Unjudged::Constant)
    } else {
        let (fair_reference, fair_window) = fair(column);
        Ok(Difference {
            psi: psi(reference, window),
            bound: psi_bound(level, places, n, m),
            js: jensen_shannon(reference, window),
            p_value: p_value(&fair_reference, &fair_window, by_value),
            rate_changed: rate_changed(&fair_reference, &fair_window),
            moved: false,
        })
    };
    let [reference, window] = [reference, window].map(Rates::of);
    ColumnDrift { rows: m, reference, window, difference }
}

impl Rates {
    /// Of counts by place.
    #[must_use]
    pub fn of(counts: &[u64]) -> Self {
        let rows = rows(counts).max(1) as f64;
        let rate = |place| at(counts, place) as f64 / rows;
        Self {
            missing: rate(PlaceOf::MISSING),
            nan: rate(PlaceOf::NAN),
            out_of_range: rate(PlaceOf::BELOW) + rate(PlaceOf::ABOVE),
            unseen: rate(PlaceOf::OTHER),
        }
    }
}

/// Where a column stands, window after window.
///
/// A single window moves by chance now and then, and by a bad hour; so it takes
/// [`MOVED_WINDOWS`] in a row to be drifting. One that has not moved breaks the row
/// before that, and afterwards not: a drift that is found in most windows but not in
/// each would come and go, so it takes [`STEADY_WINDOWS`] in a row to end.
/// A window that could not be judged changes nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Drift {
    /// No window has been judged.
    #[default]
    Waiting,
    /// The last one had not moved.
    Steady,
    /// So many in a row have, fewer than it takes.
    Moved(u8),
    /// It is drifting.
    Drifting {
        /// For so many windows, from the first of the row on.
        windows: u64,
        /// So many of the last have not moved, fewer than it takes.
        steady: u8,
    },
}

impl Drift {
    /// After one more window.
    #[must_use]
    pub fn after(self, column: &ColumnDrift) -> Self {
        match column.difference {
            Ok(difference) => self.step(difference.moved),
            Err(Unjudged::Constant) => self.step(false),
            Err(Unjudged::ReferenceRows(_) | Unjudged::WindowRows(_)) => self,
        }
    }

    fn step(self, moved: bool) -> Self {
        let drifting =
            |windows: u64, steady| Self::Drifting { windows: windows.saturating_add(1), steady };
        match (self, moved) {
            (Self::Drifting { windows, .. }, true) => drifting(windows, 0),
            (Self::Drifting { windows, steady }, false) if steady + 1 < STEADY_WINDOWS => {
                drifting(windows, steady + 1)
            }
            (Self::Moved(row), true) if row + 1 < MOVED_WINDOWS => Self::Moved(row + 1),
            (Self::Moved(row), true) => drifting(u64::from(row), 0),
            (Self::Waiting | Self::Steady, true) => Self::Moved(1),
            (_, false) => Self::Steady,
        }
    }

    /// Whether it is drifting.
    #[must_use]
    pub const fn is_drifting(self) -> bool {
        matches!(self, Self::Drifting { .. })
    }

    /// `waiting`, `steady`, `moved` or `drifting`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Steady => "steady",
            Self::Moved(_) => "moved",
            Self::Drifting { .. } => "drifting",
        }
    }
}

/// Population stability index, `Σ (q − p)·ln(q/p)`, from 0: a symmetric
/// Kullback-Leibler divergence, in nats.
///
/// Each place that either side has rows in counts ½ more than it has, on both sides; the
/// others are left out. 0 if there is none.
#[must_use]
pub fn psi(reference: &[u64], window: &[u64]) -> f64 {
    shares(reference, window).map(|(p, q)| (q - p) * (q / p).ln()).sum()
}

/// Jensen-Shannon divergence in bits, 0 to 1, of the same shares as [`psi`].
#[must_use]
pub fn jensen_shannon(reference: &[u64], window: &[u64]) -> f64 {
    let term = |(p, q): (f64, f64)| {
        let middle = f64::midpoint(p, q);
        f64::midpoint(p * (p / middle).log2(), q * (q / middle).log2())
    };
    shares(reference, window).map(term).sum::<f64>().clamp(0.0, 1.0)
}

/// What a [`psi`] over so many places must exceed, with `n` and `m` rows:
/// `max(0.1, χ²_{1−α, places−1}·(1/n + 1/m))`.
///
/// Without drift it is about `χ²·(1/n + 1/m)` (Yurdakul & Naranjo, "Statistical properties
/// of the population stability index", 2020), so that the usual 0.1 alone alarms whenever
/// there are few rows. Infinite without rows.
#[must_use]
pub fn psi_bound(alpha: Level, places: usize, n: u64, m: u64) -> f64 {
    let noise = 1.0 / n as f64 + 1.0 / m as f64;
    let dof = u32::try_from(places.saturating_sub(1)).unwrap_or(u32::MAX);
    if dof == 0 { PSI_MIN } else { (chi_squared_quantile(alpha, dof) * noise).max(PSI_MIN) }
}

/// Which of the hypotheses Benjamini and Hochberg's step-up procedure rejects at the false
/// discovery rate `q` (JRSS B 57, 1995): all with a p-value up to the largest `p_(k)` that
/// is at most `q·k/N`. A NaN is never rejected, and counts in N.
#[must_use]
pub fn benjamini_hochberg(p_values: &[f64], q: f64) -> Vec<bool> {
    let mut sorted: Vec<_> = p_values.iter().copied().filter(|p| !p.is_nan()).collect();
    sorted.sort_unstable_by(f64::total_cmp);
    let step = q / p_values.len().max(1) as f64;
    let last = sorted.iter().enumerate().rfind(|(k, p)| **p <= (*k + 1) as f64 * step);
    p_values.iter().map(|p| last.is_some_and(|(_, last)| p <= last)).collect()
}

fn rows(counts: &[u64]) -> u64 {
    counts.iter().fold(0, |sum, count| sum.saturating_add(*count))
}

fn at(counts: &[u64], place: PlaceOf) -> u64 {
    counts.get(place.0).copied().unwrap_or(0)
}

fn bins(counts: &[u64]) -> &[u64] {
    counts.get(Counts::APART..).unwrap_or_default()
}

/// Counts of the places that either side has rows in.
fn both<'a>(
    reference: &'a [u64],
    window: &'a [u64],
) -> impl Iterator<Item = (f64, f64)> + Clone + 'a {
    let of = |counts: &[u64], place| counts.get(place).copied().unwrap_or(0) as f64;
    let places = 0..reference.len().max(window.len());
    let counts = places.map(move |place| (of(reference, place), of(window, place)));
    counts.filter(|(n, m)| n + m > 0.0)
}

/// Shares of both sides, with ½ added to each count.
fn shares<'a>(reference: &'a [u64], window: &'a [u64]) -> impl Iterator<Item = (f64, f64)> + 'a {
    let counts = both(reference, window).map(|(n, m)| (n + 0.5, m + 0.5));
    let (n, m) = counts.clone().fold((0.0, 0.0), |(n, m), (a, b)| (n + a, m + b));
    counts.map(move |(a, b)| (a / n, b / m))
}

/// Counts by place as the tests take them: rare values are with the others, on both sides.
/// See the module's own words.
fn fair(column: &ColumnCounts<'_>) -> (Vec<u64>, Vec<u64>) {
    let (mut reference, mut window) = (column.reference.to_vec(), column.window.to_vec());
    let places = reference.len().max(window.len()).max(Counts::APART);
    reference.resize(places, 0);
    window.resize(places, 0);
    if !column.by_value {
        return (reference, window);
    }
    let (n, m) = (rows(&reference) as f64, rows(&window) as f64);
    let kept_from = kept_from(&reference);
    let PlaceOf(other) = PlaceOf::OTHER;
    for place in Counts::APART..places {
        let together = reference[place] as f64 + window[place] as f64;
        if together * n / (n + m) < kept_from {
            for counts in [&mut reference, &mut window] {
                let count = std::mem::take(&mut counts[place]);
                counts[other] = counts[other].saturating_add(count);
            }
        }
    }
    (reference, window)
}

/// Of how many of its rows the reference must be expected to have for a value to be tested by
/// itself.
fn kept_from(reference: &[u64]) -> f64 {
    if at(reference, PlaceOf::OTHER) == 0 {
        return KEPT_MIN;
    }
    // It had more values than bins, and those near the border have one by luck.
    let rarest = bins(reference).iter().copied().filter(|count| *count > 0).min();
    let rarest = rarest.unwrap_or(0) as f64;
    (rarest + 3.0 * rarest.sqrt()).max(KEPT_MIN)
}

/// Of fair counts.
fn rate_changed(reference: &[u64], window: &[u64]) -> bool {
    let [reference, window] = [reference, window].map(Rates::of);
    let change = |rate: fn(&Rates) -> f64| (rate(&window) - rate(&reference)).abs();
    [change(|r| r.missing), change(|r| r.nan), change(|r| r.out_of_range), change(|r| r.unseen)]
        .iter()
        .any(|change| *change >= RATE_CHANGE_MIN)
}

/// The smallest of the tests' p-values, times how many there are. Of fair counts; both
/// sides have rows.
fn p_value(reference: &[u64], window: &[u64], by_value: bool) -> f64 {
    let (n, m) = (rows(reference) as f64, rows(window) as f64);
    let apart = APART.into_iter().map(|place| (at(reference, place), at(window, place)));
    let apart = apart.filter(|(a, b)| *a > 0 || *b > 0);
    let apart = apart.map(|(a, b)| proportions_p_value((a as f64, b as f64), (n, m)));
    let bins = homogeneity_p_value(reference, window, by_value);
    let tests: Vec<_> = bins.into_iter().chain(apart).collect();
    let smallest = tests.iter().copied().fold(1.0, f64::min);
    (smallest * tests.len().max(1) as f64).min(1.0)
}

/// Pearson's χ² of homogeneity of the bins; `None` where fewer than two groups have
/// enough rows.
fn homogeneity_p_value(reference: &[u64], window: &[u64], by_value: bool) -> Option<f64> {
    let counts = both(bins(reference), bins(window));
    let (n, m) = counts.clone().fold((0.0, 0.0), |(n, m), (a, b)| (n + a, m + b));
    let smaller = f64::min(n, m) / (n + m);
    let is_small = |(a, b): &(f64, f64)| (a + b) * smaller < EXPECTED_MIN;
    let (mut small, mut groups): (Vec<_>, Vec<_>) = counts.partition(is_small);
    if by_value {
        small = without_luck(small);
    }
    // Neighbours together, until they are enough…
    let mut group = (0.0, 0.0);
    for (a, b) in small {
        group = (group.0 + a, group.1 + b);
        if !is_small(&group) {
            groups.push(std::mem::take(&mut group));
        }
    }
    // …and the last ones with the smallest group.
    let by_size = |a: &&mut (f64, f64), b: &&mut (f64, f64)| (a.0 + a.1).total_cmp(&(b.0 + b.1));
    if let Some(least) = groups.iter_mut().min_by(by_size) {
        *least = (least.0 + group.0, least.1 + group.1);
    }
    let dof = u32::try_from(groups.len().saturating_sub(1)).unwrap_or(u32::MAX);
    // Σ (observed − expected)²/expected of both sides, which is this.
    let term = |(a, b): &(f64, f64)| (a * m - b * n) * (a * m - b * n) / (a + b);
    let statistic = groups.iter().map(term).sum::<f64>() / (n * m);
    (dof > 0).then(|| chi_squared_survival(statistic, dof))
}

/// The same by the rows of both sides together. A profile has texts by how often the
/// reference has them: groups of neighbours would have its luck. So would those of
/// equally many rows, which are therefore shuffled, always alike (Knuth's hash).
fn without_luck(counts: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let shuffled = (0..).map(|place: u32| place.wrapping_mul(2_654_435_769));
    let mut counts: Vec<_> = counts.into_iter().zip(shuffled).collect();
    counts.sort_by(|((a, b), x), ((c, d), y)| (c + d).total_cmp(&(a + b)).then(x.cmp(y)));
    counts.into_iter().map(|(counts, _)| counts).collect()
}

/// That of `k` rows together so many are the window's, of rows of which it has a share of
/// `m/(n+m)`: twice the smaller tail of the binomial distribution, at most 1.
///
/// Without drift it is the hypergeometric distribution, whose tails are lighter
/// (Hoeffding 1963). Good up to 10¹² rows; beyond, `ln_gamma` has too few digits.
fn proportions_p_value((reference, window): (f64, f64), (n, m): (f64, f64)) -> f64 {
    let (k, share) = (reference + window, m / (n + m));
    let tail = if window > k * share {
        binomial_upper_tail(k, window, share)
    } else {
        binomial_upper_tail(k, reference, n / (n + m))
    };
    (2.0 * tail).min(1.0)
}

/// `P(X ≥ least)` of a binomial X with `trials`, where `least` is not below its mean.
///
/// After ten thousand terms the rest is bounded by a geometric series.
fn binomial_upper_tail(trials: f64, least: f64, p: f64) -> f64 {
    if least <= 0.0 {
        return 1.0;
    }
    let failures = trials - least;
    let ln_ways = ln_gamma(trials + 1.0) - ln_gamma(least + 1.0) - ln_gamma(failures + 1.0);
    let ln_first = ln_ways + least * p.ln() + failures * (-p).ln_1p();
    let (mut term, mut sum, mut at) = (1.0, 1.0, least);
    for _ in 0..10_000 {
        let ratio = (trials - at) / (at + 1.0) * p / (1.0 - p);
        term *= ratio;
        sum += term;
        at += 1.0;
        if term < 1e-17 * sum || ratio >= 1.0 {
            break;
        }
    }
    let ratio = ((trials - at) / (at + 1.0) * p / (1.0 - p)).min(1.0);
    (ln_first + (sum + term * ratio / (1.0 - ratio)).ln()).exp().min(1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Relative, to a part in 10¹².
    fn is_near(got: f64, expected: f64) -> bool {
        (got - expected).abs() <= 1e-12 * expected.abs()
    }

    fn level() -> Level {
        Level::new(0.05).unwrap()
    }

    /// Of one column by itself.
    fn judge_one(reference: &[u64], window: &[u64]) -> ColumnDrift {
        judge_window(&[ColumnCounts { reference, window, by_value: false }], level())[0]
    }

    /// The same of one whose bins are values.
    fn judge_values(reference: &[u64], window: &[u64]) -> ColumnDrift {
        judge_window(&[ColumnCounts { reference, window, by_value: true }], level())[0]
    }

    /// Of `tests/drift/known.py`, as the other tables here are.
    #[test]
    fn divergences_are_those_of_scipy() {
        type Case = (&'static [u64], &'static [u64], f64, f64);
        let cases: [Case; 10] = [
            // breast_cancer, mean radius: first half, second half
            (
                &[0, 0, 0, 0, 0, 29, 27, 29, 29, 28, 28, 29, 28, 28, 29],
                &[0, 0, 0, 0, 0, 34, 36, 42, 41, 24, 35, 17, 18, 9, 29],
                0.15813498418547756,
                0.02779143151194117,
            ),
            // breast_cancer, mean radius: benign, malignant
            (
                &[0, 0, 0, 0, 0, 36, 36, 35, 36, 35, 36, 34, 37, 36, 36],
                &[0, 0, 0, 97, 0, 0, 0, 2, 1, 3, 3, 4, 10, 16, 76],
                4.544842761629494,
                0.49741264430788806,
            ),
            // breast_cancer, mean texture: benign, malignant
            (
                &[0, 0, 0, 0, 0, 36, 36, 35, 36, 35, 36, 36, 35, 36, 36],
                &[0, 0, 0, 1, 0, 2, 2, 4, 5, 11, 11, 16, 37, 56, 67],
                1.1147874211646949,
                0.18309353238260168,
            ),
            // wine, alcohol: every second
            (
                &[0, 0, 0, 0, 0, 9, 9, 9, 9, 8, 9, 9, 9, 9, 9],
                &[0, 0, 2, 0, 0, 7, 6, 3, 19, 14, 9, 5, 9, 10, 5],
                0.2718460309152729,
                0.04750654276249259,
            ),
            // wine, proline: cultivar 0, cultivar 1
            (
                &[0, 0, 0, 0, 0, 12, 12, 10, 11, 14],
                &[0, 0, 59, 0, 0, 10, 2, 0, 0, 0],
                5.904847486474436,
                0.6655572228504679,
            ),
            // digits, pixel 20: first half, second half
            (
                &[0, 0, 0, 0, 0, 216, 133, 67, 116, 91, 77, 198],
                &[0, 0, 0, 0, 0, 229, 140, 73, 109, 107, 78, 163],
                0.01268281990979241,
                0.0022843940406308363,
            ),
            // digits, labels: first half, second half
            (
                &[0, 0, 0, 0, 0, 90, 91, 91, 92, 89, 91, 90, 90, 86, 88],
                &[0, 0, 0, 0, 0, 88, 91, 86, 91, 92, 91, 91, 89, 88, 92],
                0.0007515018867606368,
                0.00013551172510535548,
            ),
            // diabetes, bmi: first half, second half
            (
                &[0, 0, 0, 0, 0, 21, 23, 21, 20, 24, 24, 22, 21, 22, 23],
                &[0, 0, 3, 3, 0, 10, 21, 24, 33, 23, 18, 22, 20, 16, 28],
                0.1370634405940436,
                0.023292316531449746,
            ),
            // diabetes, blood pressure: first half, second half with NaN
            (
                &[0, 0, 0, 0, 0, 22, 13, 26, 23, 26, 23, 19, 24, 17, 28],
                &[0, 25, 1, 1, 0, 24, 16, 24, 11, 13, 18, 14, 19, 31, 24],
                0.5776641782433491,
                0.0751101996599487,
            ),
            // made: everything elsewhere
            (
                &[0, 0, 0, 0, 0, 1000, 0],
                &[0, 0, 0, 0, 300, 0, 0],
                13.96974845407287,
                0.9880333604349643,
            ),
        ];
        for (reference, window, expected_psi, expected_js) in cases {
            for (a, b) in [(reference, window), (window, reference)] {
                let (psi, js) = (psi(a, b), jensen_shannon(a, b));
                assert!(is_near(psi, expected_psi), "{a:?} {b:?}: {psi}, expected {expected_psi}");
                assert!(is_near(js, expected_js), "{a:?} {b:?}: {js}, expected {expected_js}");
            }
        }
        assert_eq!((psi(&[], &[0, 0]), jensen_shannon(&[0], &[])), (0.0, 0.0));
        assert_eq!((psi(&[3, 4], &[3, 4]), jensen_shannon(&[3, 4], &[3, 4])), (0.0, 0.0));
    }

    #[test]
    fn p_values_are_those_of_scipy() {
        let homogeneity: [(&[u64], &[u64], f64); 3] = [
            (&[100, 200, 300], &[60, 90, 150], 0.37914840288263224),
            (&[5000, 3000, 2000], &[400, 350, 250], 8.820757392959297e-09),
            (
                &[2000, 2000, 2000, 2000, 2000, 2000, 2000, 2000, 2000, 2000],
                &[80, 90, 100, 110, 120, 100, 100, 95, 105, 100],
                0.35042554910891976,
            ),
        ];
        for (reference, window, expected) in homogeneity {
            let [a, b] = [reference, window].map(|bins| [&[0; Counts::APART], bins].concat());
            let got = homogeneity_p_value(&a, &b, false).unwrap();
            assert!(
                (got / expected - 1.0).abs() < 1e-11,
                "{bins:?}: {got}, expected {expected}",
                bins = reference
            );
        }
        let proportions = [
            ((0.0, 6.0), (20000.0, 200.0), 1.8840904705084135e-12),
            ((400.0, 12.0), (20000.0, 200.0), 0.002009038789041144),
            ((20.0, 60.0), (1000.0, 1000.0), 8.580559867049611e-06),
            ((3.0, 2.0), (500.0, 700.0), 0.693238811728395),
            ((900.0, 2.0), (1000.0, 1000.0), 2.4090136751258183e-266),
            ((20000.0, 11000.0), (1000000.0, 500000.0), 1.3982959928223576e-15),
            ((0.0, 1.0), (300.0, 300.0), 1.0),
        ];
        for (counts, rows, expected) in proportions {
            let got = proportions_p_value(counts, rows);
            assert!((got / expected - 1.0).abs() < 1e-8, "{counts:?}: {got}, expected {expected}");
        }
    }

    #[test]
    fn discoveries_are_those_of_scipy() {
        let cases: [(&[f64], &[bool]); 8] = [
            (
                &[0.001, 0.008, 0.039, 0.041, 0.042, 0.06, 0.074, 0.205, 0.212, 0.216],
                &[true, true, false, false, false, false, false, false, false, false],
            ),
            (&[0.01, 0.02, 0.03, 0.04, 0.05], &[true, true, true, true, true]),
            (&[0.03, 0.03, 0.5, 0.03], &[true, true, false, true]),
            (&[0.02, 0.9, 0.9], &[false, false, false]),
            (&[0.016, 0.9, 0.9], &[true, false, false]),
            (&[], &[]),
            (&[f64::NAN, 0.025], &[false, true]),
            (&[f64::NAN, 0.026], &[false, false]),
        ];
        for (p_values, expected) in cases {
            assert_eq!(benjamini_hochberg(p_values, 0.05), expected, "{p_values:?}");
        }
    }

    #[test]
    fn the_bound_grows_with_noise() {
        // χ²(0.95, 9) is 16.919.
        let cases =
            [(10, 100, 100, 0.338_379_6), (10, 1_000, 200, 0.101_513_9), (10, 1_000, 1_000, 0.1)];
        for (places, n, m, expected) in cases {
            let got = psi_bound(level(), places, n, m);
            assert!((got - expected).abs() < 1e-7, "{places} {n} {m}: {got}");
        }
        assert_eq!((psi_bound(level(), 1, 0, 0), psi_bound(level(), 0, 9, 9)), (0.1, 0.1));
        assert_eq!(psi_bound(level(), 2, 0, 9), f64::INFINITY);
    }

    #[test]
    fn what_cannot_be_judged_says_why() {
        let cases: [(&[u64], &[u64], Unjudged, &str); 5] = [
            (
                &[],
                &[],
                Unjudged::ReferenceRows(0),
                "the reference has 0 rows, expected at least 200",
            ),
            (
                &[0, 0, 0, 0, 0, 99, 100],
                &[0, 0, 0, 0, 0, 500, 500],
                Unjudged::ReferenceRows(199),
                "the reference has 199 rows, expected at least 200",
            ),
            (
                &[0, 0, 0, 0, 0, 500, 500],
                &[0, 0, 0, 0, 0, 99, 100],
                Unjudged::WindowRows(199),
                "the window has 199 rows, expected at least 200",
            ),
            (
                &[0, 0, 0, 0, 0, 500],
                &[0, 0, 0, 0, 0, 300],
                Unjudged::Constant,
                "it has always the same value",
            ),
            (&[0, 500], &[0, 300], Unjudged::Constant, "it has always the same value"),
        ];
        for (reference, window, why, words) in cases {
            assert_eq!(judge_one(reference, window).difference, Err(why), "{reference:?}");
            assert_eq!(why.to_string(), words);
        }
    }

    #[test]
    fn what_is_large_and_no_chance_has_moved() {
        let cases: [(&str, &[u64], &[u64], bool); 9] = [
            ("the same", &[0, 0, 0, 0, 0, 500, 500], &[0, 0, 0, 0, 0, 500, 500], false),
            (
                "clear, but small",
                &[0, 0, 0, 0, 0, 500_000, 500_000],
                &[0, 0, 0, 0, 0, 55_000, 45_000],
                false,
            ),
            ("large and clear", &[0, 0, 0, 0, 0, 500, 500], &[0, 0, 0, 0, 0, 700, 300], true),
            ("a missing rate", &[20, 0, 0, 0, 0, 490, 490], &[60, 0, 0, 0, 0, 470, 470], true),
            ("no longer missing", &[60, 0, 0, 0, 0, 470, 470], &[0, 0, 0, 0, 0, 500, 500], true),
            (
                "NaN in a few rows of a constant",
                &[0, 0, 0, 0, 0, 20_000],
                &[0, 6, 0, 0, 0, 194],
                true,
            ),
            ("all elsewhere", &[0, 0, 0, 0, 0, 300], &[0, 0, 0, 300], true),
            (
                "a few beyond the extremes",
                &[0, 0, 0, 0, 0, 500, 500],
                &[0, 0, 3, 4, 0, 497, 496],
                false,
            ),
            ("shorter", &[0, 0, 0, 0, 0, 500, 500], &[0, 0, 0, 0, 0, 1_000], true),
        ];
        for (name, reference, window, moved) in cases {
            let difference = judge_one(reference, window).difference;
            assert_eq!(
                difference.is_ok_and(|difference| difference.moved),
                moved,
                "{name}: {difference:?}"
            );
        }
    }

    /// In the order of places: others, and bins.
    fn categories(other: u64, bins: &[u64]) -> Vec<u64> {
        [&[0, 0, 0, 0, other], bins].concat()
    }

    #[test]
    fn categories_that_come_and_go_have_not_moved() {
        let names = |often, rare| categories(0, &[vec![often], vec![rare; 50]].concat());
        let cases = [
            // Fifty names that are there once: as many others are new in the window…
            ("new names", names(950, 1), categories(50, &[950]), false),
            // …which is more than one expects where each is there often.
            ("a new name", names(450, 11), categories(50, &[450, 500]), true),
            ("no new names", names(950, 1), names(950, 1), false),
            // The rarest had luck to have a bin at all.
            (
                "luck",
                categories(100, &[800, 10, 10, 10, 10, 60]),
                categories(130, &[800, 2, 2, 2, 2, 62]),
                false,
            ),
            ("no luck", categories(100, &[800, 100]), categories(200, &[700, 100]), true),
            // Half of the rare ones are there once, and so is the window's share of them.
            (
                "the window's rows of rare names",
                names(950, 1),
                categories(20, &[vec![950], vec![1; 30], vec![0; 20]].concat()),
                false,
            ),
            (
                "a rare name that has become frequent",
                names(950, 1),
                categories(30, &[vec![850, 100], vec![1; 20], vec![0; 29]].concat()),
                true,
            ),
        ];
        for (name, reference, window, moved) in cases {
            let difference = judge_values(&reference, &window).difference;
            assert_eq!(
                difference.is_ok_and(|difference| difference.moved),
                moved,
                "{name}: {difference:?}"
            );
        }
    }

    #[test]
    fn rare_values_are_told_by_the_rows_of_both_sides() {
        let fair = |by_value, reference: &[u64], window: &[u64]| {
            fair(&ColumnCounts { reference, window, by_value })
        };
        let (reference, window) = (categories(0, &[980, 2, 18]), categories(3, &[980, 17, 0]));
        // 19 of 2,000 rows are expected to be 9.5 of 1,000.
        let expected = (categories(20, &[980, 0, 0]), categories(20, &[980, 0, 0]));
        assert_eq!(fair(true, &reference, &window), expected);
        // 20 of them are kept, whoever has them.
        let (reference, window) = (categories(0, &[980, 2, 18]), categories(0, &[980, 18, 2]));
        assert_eq!(fair(true, &reference, &window), (reference.clone(), window.clone()));
        // Ranges are no values.
        let (reference, window) = (categories(0, &[998, 2]), categories(0, &[999, 1]));
        assert_eq!(fair(false, &reference, &window), (reference.clone(), window.clone()));
        // With more values than bins, those near the rarest are rare: up to 16 + 3·4.
        let (reference, window) =
            (categories(300, &[644, 40, 16]), categories(300, &[670, 15, 15]));
        let expected = (categories(356, &[644, 0, 0]), categories(330, &[670, 0, 0]));
        assert_eq!(fair(true, &reference, &window), expected);
    }

    #[test]
    fn one_of_many_columns_must_be_clearer() {
        let reference = [400, 0, 0, 0, 0, 9_800, 9_800];
        let window = [10, 0, 0, 0, 0, 95, 95];
        let column = ColumnCounts { reference: &reference, window: &window, by_value: false };
        let same = ColumnCounts { window: &reference, ..column };
        let moved = |columns: &[ColumnCounts<'_>]| {
            let found = judge_window(columns, level()).into_iter();
            found.map(|column| column.difference.unwrap().moved).collect::<Vec<_>>()
        };
        let p_value = judge_one(column.reference, column.window).difference.unwrap().p_value;
        assert!((0.025..0.05).contains(&p_value), "{p_value}");
        assert_eq!(moved(&[column]), [true]);
        assert_eq!(moved(&[same, column]), [false, false]);
        assert_eq!(moved(&[column, column]), [true, true]);
        assert!(moved(&[]).is_empty());
    }

    #[test]
    fn rates_are_shares_of_all_rows() {
        let rates = Rates::of(&[1, 2, 3, 4, 5, 15, 20]);
        let expected = Rates { missing: 0.02, nan: 0.04, out_of_range: 0.14, unseen: 0.1 };
        assert!((rates.out_of_range - expected.out_of_range).abs() < 1e-15);
        assert_eq!(Rates { out_of_range: 0.14, ..rates }, expected);
        assert_eq!(Rates::of(&[]), Rates::default());
    }

    #[test]
    fn it_takes_windows_in_a_row() {
        let drifting = |windows, steady| Drift::Drifting { windows, steady };
        // Each window moved (+), did not (-), could not be judged (?), or was constant (c).
        let cases = [
            ("", Drift::Waiting),
            ("?", Drift::Waiting),
            ("-", Drift::Steady),
            ("c", Drift::Steady),
            ("+", Drift::Moved(1)),
            ("++", Drift::Moved(2)),
            ("++-", Drift::Steady),
            ("++-++", Drift::Moved(2)),
            ("+?+?", Drift::Moved(2)),
            ("+++", drifting(3, 0)),
            ("-+?++", drifting(3, 0)),
            ("++++", drifting(4, 0)),
            ("+++-", drifting(4, 1)),
            ("+++-?", drifting(4, 1)),
            ("+++-+", drifting(5, 0)),
            ("+++-+-", drifting(6, 1)),
            ("+++--", Drift::Steady),
            ("+++cc", Drift::Steady),
            ("+++--+", Drift::Moved(1)),
        ];
        let column = |window| {
            let (half, other) = (categories(0, &[500, 500]), categories(0, &[900, 100]));
            match window {
                '+' => judge_one(&half, &other),
                '-' => judge_one(&half, &half),
                'c' => judge_one(&[0, 500], &[0, 500]),
                _ => judge_one(&half, &[]),
            }
        };
        for (windows, expected) in cases {
            let state = windows.chars().fold(Drift::default(), |state, w| state.after(&column(w)));
            assert_eq!(state, expected, "{windows:?}");
            assert_eq!(state.is_drifting(), state.as_str() == "drifting");
        }
        let forever = Drift::Drifting { windows: u64::MAX, steady: 0 };
        assert_eq!(forever.after(&column('+')), forever);
    }

    proptest! {
        #[test]
        fn any_counts_can_be_judged(
            reference in proptest::collection::vec(prop_oneof![Just(0), 0..50_u64, any::<u64>()], 0..20),
            window in proptest::collection::vec(prop_oneof![Just(0), 0..500_u64, any::<u64>()], 0..20),
            by_value in any::<bool>(),
        ) {
            let judge = if by_value { judge_values } else { judge_one };
            let column = judge(&reference, &window);
            if let Ok(Difference { psi, bound, js, p_value, .. }) = column.difference {
                prop_assert!(psi >= 0.0 && bound >= PSI_MIN, "{psi} {bound}");
                prop_assert!((0.0..=1.0).contains(&js) && (0.0..=1.0).contains(&p_value));
            }
        }

        #[test]
        fn the_same_counts_have_not_moved(counts in proptest::collection::vec(0..10_000_u64, 0..40)) {
            for column in [judge_one(&counts, &counts), judge_values(&counts, &counts)] {
                prop_assert!(column.difference.is_ok_and(|difference| !difference.moved) || column.difference.is_err());
            }
        }
    }
}
