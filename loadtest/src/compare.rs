//! Steady and disturbed phases in turns, so that a noisy machine bends both
//! alike; what counts is the median of the ratios of neighbours.

use std::fmt;

use serde::Serialize;

use crate::report::Report;
use crate::text::Micros;

/// One figure on both sides.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Row {
    /// Which.
    pub name: &'static str,
    /// Median over the steady phases, microseconds.
    pub steady_us: f64,
    /// Median over the disturbed phases, microseconds.
    pub disturbed_us: f64,
    /// Median of the ratios, disturbed over the steady one before it.
    pub ratio: Option<f64>,
    /// An interval that holds the ratios' true median with a probability of 95 % or
    /// more, whatever their distribution (order statistics); `None` for fewer than six
    /// pairs.
    pub interval: Option<[f64; 2]>,
}

/// All figures on both sides.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// What the disturbed phases are called.
    pub disturbed: String,
    /// Pairs of phases.
    pub rounds: usize,
    /// The figures.
    pub rows: Vec<Row>,
    /// Failed requests of all steady phases.
    pub failed_steady: u64,
    /// Failed requests of all disturbed phases.
    pub failed_disturbed: u64,
}

type Figure = (&'static str, fn(&Report) -> f64);

const FIGURES: [Figure; 8] = [
    ("p50", |report| report.latency.p50_us),
    ("p90", |report| report.latency.p90_us),
    ("p99", |report| report.latency.p99_us),
    ("p99.9", |report| report.latency.p999_us),
    ("max", |report| report.latency.max_us),
    ("service p50", |report| report.service.p50_us),
    ("service p99", |report| report.service.p99_us),
    ("CPU/request", |report| report.server.map_or(0.0, |server| server.cpu_us_per_request)),
];

impl Comparison {
    /// Of pairs, each a steady phase and the disturbed one after it.
    #[must_use]
    pub fn of(disturbed: &str, pairs: &[(&Report, &Report)]) -> Self {
        let row = |(name, of): &Figure| {
            let steady: Vec<f64> = pairs.iter().map(|pair| of(pair.0)).collect();
            let other: Vec<f64> = pairs.iter().map(|pair| of(pair.1)).collect();
            let ratios = steady.iter().zip(&other).filter(|(steady, _)| **steady > 0.0);
            let ratios: Vec<f64> = ratios.map(|(steady, other)| other / steady).collect();
            Row {
                name,
                steady_us: median(steady).unwrap_or(0.0),
                disturbed_us: median(other).unwrap_or(0.0),
                interval: interval(&ratios),
                ratio: median(ratios),
            }
        };
        Self {
            disturbed: disturbed.to_owned(),
            rounds: pairs.len(),
            rows: FIGURES
                .iter()
                .map(row)
                .filter(|row| row.steady_us > 0.0 && row.disturbed_us > 0.0)
                .collect(),
            failed_steady: pairs.iter().map(|pair| pair.0.failed()).sum(),
            failed_disturbed: pairs.iter().map(|pair| pair.1.failed()).sum(),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "  medians of {} round(s); ratio: of each phase to the one before",
            self.rounds
        )?;
        writeln!(f, "  {:<12}{:>12}{:>12}{:>8}", "latency", "steady", self.disturbed, "ratio")?;
        for row in &self.rows {
            let ratio = row.ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{ratio:.2}"));
            let interval = row
                .interval
                .map_or_else(String::new, |[low, high]| format!("  95 %: {low:.2} to {high:.2}"));
            let [a, b] = [row.steady_us, row.disturbed_us].map(|us| Micros(us).to_string());
            writeln!(f, "  {:<12}{a:>12}{b:>12}{ratio:>8}{interval}", row.name)?;
        }
        writeln!(f, "  {:<12}{:>12}{:>12}", "failed", self.failed_steady, self.failed_disturbed)
    }
}

/// The middle value, or the mean of the two in the middle.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    Some(if values.len() % 2 == 1 { upper } else { f64::midpoint(values[middle - 1], upper) })
}

/// From the k-th lowest to the k-th highest: the median lies outside if fewer than k of
/// the values lie on one of its sides, which is what throws of a coin do (the sign test
/// turned round).
fn interval(values: &[f64]) -> Option<[f64; 2]> {
    const OUTSIDE_MAX: f64 = 0.05;
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len();
    // P(exactly i of n) under the coin, added up on both sides.
    let (mut one, mut outside, mut k) = (0.5_f64.powi(i32::try_from(n).ok()?), 0.0, 0);
    while k < n / 2 && outside + 2.0 * one <= OUTSIDE_MAX {
        outside += 2.0 * one;
        #[expect(clippy::cast_precision_loss, reason = "a few pairs")]
        let step = (n - k) as f64 / (k + 1) as f64;
        one *= step;
        k += 1;
    }
    let low = k.checked_sub(1)?;
    Some([sorted[low], sorted[n - 1 - low]])
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The tables of the sign test: 2nd to 9th of 10, 3rd to 10th of 12, 6th to 15th of 20.
    #[test]
    fn the_interval_is_that_of_the_sign_test() {
        let upto = |n: u32| (1..=n).rev().map(f64::from).collect::<Vec<_>>();
        assert_eq!(interval(&upto(5)), None);
        assert_eq!(interval(&upto(6)), Some([1.0, 6.0]));
        assert_eq!(interval(&upto(10)), Some([2.0, 9.0]));
        assert_eq!(interval(&upto(12)), Some([3.0, 10.0]));
        assert_eq!(interval(&upto(20)), Some([6.0, 15.0]));
        assert_eq!(interval(&[]), None);
    }

    #[test]
    fn median_is_the_middle() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 3.0, 2.0]), Some(2.5));
        assert_eq!(median(Vec::new()), None);
    }
}
