//! What runs cost: a line over the rows, measured at warm-up, and how far the
//! runs since then were off it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// What a run costs, by rows: measured at warm-up as the median of several
/// runs at the smallest and at the largest batch.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Time of a run that does not depend on the rows.
    pub fixed: Duration,
    /// Time per row on top.
    pub per_row: Duration,
}

/// A batch is worth its rows up to where the fixed part is this small a part of
/// the rows' own: from there on more rows only make everyone wait longer.
const WORTHWHILE_PART: u128 = 16;
/// Batches may have so many rows whatever was measured: the measurement is two
/// points, and may be off.
const WORTHWHILE_ROWS_MIN: usize = 8;

impl Cost {
    /// The time that a batch of `rows` should take.
    #[must_use]
    pub fn of(&self, rows: usize) -> Duration {
        let rows = u32::try_from(rows).unwrap_or(u32::MAX);
        self.fixed.saturating_add(self.per_row.saturating_mul(rows))
    }

    /// The most rows that should take no more than `time`, at least one.
    #[must_use]
    pub fn rows_within(&self, time: Duration) -> usize {
        let left = time.saturating_sub(self.fixed).as_nanos();
        match self.per_row.as_nanos() {
            0 => usize::MAX,
            per_row => usize::try_from(left / per_row).unwrap_or(usize::MAX).max(1),
        }
    }

    /// The rows beyond which a larger batch gains next to nothing.
    #[must_use]
    pub fn rows_worthwhile(&self) -> usize {
        match self.per_row.as_nanos() {
            0 => usize::MAX,
            per_row => {
                let rows = WORTHWHILE_PART * self.fixed.as_nanos() / per_row;
                usize::try_from(rows).unwrap_or(usize::MAX).max(WORTHWHILE_ROWS_MIN)
            }
        }
    }

    /// The line through two measurements `(rows, time)`.
    pub(super) fn through(small: (usize, Duration), large: (usize, Duration)) -> Self {
        let rows = u32::try_from(large.0.saturating_sub(small.0)).unwrap_or(u32::MAX);
        let per_row = large.1.saturating_sub(small.1).checked_div(rows).unwrap_or_default();
        let small_rows = u32::try_from(small.0).unwrap_or(u32::MAX);
        Self { fixed: small.1.saturating_sub(per_row * small_rows), per_row }
    }
}

/// How much of the newest run enters the average.
const NEWEST: f64 = 1.0 / 8.0;
/// One run may differ from the average by this factor: a thread that was not
/// given the processor tells nothing about the model.
const STEP_MAX: f64 = 8.0;
/// The average never leaves this range.
const RANGE: std::ops::RangeInclusive<f64> = 1.0 / 64.0..=4096.0;

/// Measured over expected time: a moving average over the recent runs, so that
/// an estimate follows what really happens, whatever warm-up measured.
pub(super) struct Pace(AtomicU64);

impl Default for Pace {
    fn default() -> Self {
        Self(AtomicU64::new(1.0_f64.to_bits()))
    }
}

impl Pace {
    fn ratio(&self) -> f64 {
        f64::from_bits(self.0.load(Relaxed))
    }

    /// Takes a run into account. Two at once may lose one of them.
    pub(super) fn record(&self, expected: Duration, measured: Duration) {
        let known = self.ratio();
        let ratio = measured.as_secs_f64() / expected.as_secs_f64().max(1e-9);
        let ratio = ratio.clamp(known / STEP_MAX, known * STEP_MAX);
        let average = (known + (ratio - known) * NEWEST).clamp(*RANGE.start(), *RANGE.end());
        self.0.store(average.to_bits(), Relaxed);
    }

    /// What a run should take that by warm-up's measure takes `expected`.
    pub(super) fn of(&self, expected: Duration) -> Duration {
        Duration::try_from_secs_f64(expected.as_secs_f64() * self.ratio()).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn micros(n: u64) -> Duration {
        Duration::from_micros(n)
    }

    #[test]
    fn cost_is_the_line_through_two_points() {
        let cost = Cost::through((1, micros(10)), (11, micros(60)));
        assert_eq!(cost, Cost { fixed: micros(5), per_row: micros(5) });
        assert_eq!(cost.of(3), micros(20));
        // A larger batch that measured faster means no cost per row.
        let noisy = Cost::through((1, micros(10)), (64, micros(9)));
        assert_eq!(noisy, Cost { fixed: micros(10), per_row: Duration::ZERO });
    }

    #[test]
    fn rows_are_counted_that_fit_and_that_pay() {
        let cost = Cost { fixed: micros(10), per_row: micros(5) };
        assert_eq!([9, 15, 24, 25].map(|time| cost.rows_within(micros(time))), [1, 1, 2, 3]);
        // Sixteen times the fixed part in rows.
        assert_eq!(cost.rows_worthwhile(), 32);
        let rows_only = Cost { fixed: Duration::ZERO, per_row: micros(5) };
        assert_eq!(rows_only.rows_worthwhile(), 8);
        let fixed_only = Cost { fixed: micros(5), per_row: Duration::ZERO };
        assert_eq!(fixed_only.rows_worthwhile(), usize::MAX);
        assert_eq!(fixed_only.rows_within(micros(5)), usize::MAX);
    }

    #[test]
    fn a_wrong_expectation_corrects_itself_and_one_outlier_changes_little() {
        for (expected, measured) in [(100, 1_000), (1_000, 100)] {
            let pace = Pace::default();
            for _ in 0..64 {
                pace.record(micros(expected), micros(measured));
            }
            let got = pace.of(micros(expected)).as_secs_f64() / micros(measured).as_secs_f64();
            assert!((got - 1.0).abs() < 0.05, "{expected}, {measured}: {got}");
        }
        let pace = Pace::default();
        pace.record(micros(100), Duration::from_secs(60));
        assert!(pace.of(micros(100)) <= micros(190), "{:?}", pace.of(micros(100)));
        pace.record(Duration::ZERO, Duration::MAX);
        pace.record(Duration::MAX, Duration::ZERO);
        assert!(pace.of(Duration::MAX) > Duration::ZERO);
    }
}
