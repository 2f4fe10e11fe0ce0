//! A lock-free latency histogram, fine enough to judge by.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Buckets per doubling. A bucket is at most 1/32 (3.2 %) wide.
const SUB: u64 = 32;
const SUB_BITS: u32 = SUB.trailing_zeros();
/// Values below 2^8 ns (256 ns) share the first bucket.
const FLOOR_BITS: u32 = 8;
/// Values from 2^36 ns (69 s) share the last.
const CEIL_BITS: u32 = 36;
const BUCKETS: usize = ((CEIL_BITS - FLOOR_BITS) as usize) * (SUB as usize) + 1;

/// Counts durations in buckets whose bounds lie at most 3.2 % apart, from
/// 256 ns to 69 s. Recording is one atomic addition.
pub struct FineHistogram {
    counts: Box<[AtomicU64]>,
}

impl Default for FineHistogram {
    fn default() -> Self {
        Self { counts: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect() }
    }
}

impl FineHistogram {
    /// Counts one duration.
    pub fn record(&self, duration: Duration) {
        let nanos = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        self.counts[bucket(nanos)].fetch_add(1, Relaxed);
    }

    /// How many were counted.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().map(|c| c.load(Relaxed)).sum()
    }

    /// How many were longer than `bound`, to within a bucket's width.
    #[must_use]
    pub fn count_above(&self, bound: Duration) -> u64 {
        let nanos = u64::try_from(bound.as_nanos()).unwrap_or(u64::MAX);
        let above = self.counts.iter().skip(bucket(nanos) + 1);
        above.map(|count| count.load(Relaxed)).sum()
    }

    /// The upper bound of the bucket that holds quantile `q` (0 to 1);
    /// `None` while nothing was counted.
    #[must_use]
    #[expect(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let counts: Vec<u64> = self.counts.iter().map(|c| c.load(Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        if total == 0 {
            return None;
        }
        let rank = ((q.clamp(0.0, 1.0) * total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        let at = counts.iter().position(|&c| {
            seen += c;
            seen >= rank
        });
        Some(Duration::from_nanos(upper_bound(at.unwrap_or(BUCKETS - 1))))
    }
}

/// The bucket of a value in nanoseconds: its exponent and the five bits that
/// follow the leading one.
fn bucket(nanos: u64) -> usize {
    if nanos < 1 << FLOOR_BITS {
        return 0;
    }
    let exponent = nanos.ilog2();
    if exponent >= CEIL_BITS {
        return BUCKETS - 1;
    }
    let mantissa = (nanos >> (exponent - SUB_BITS)) & (SUB - 1);
    let index = u64::from(exponent - FLOOR_BITS) * SUB + mantissa;
    usize::try_from(index).unwrap_or(BUCKETS - 1)
}

/// The smallest value in nanoseconds that lies above bucket `index`.
const fn upper_bound(index: usize) -> u64 {
    let next = index as u64 + 1;
    let exponent = next / SUB + FLOOR_BITS as u64;
    let mantissa = next % SUB;
    (SUB + mantissa) << (exponent - SUB_BITS as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_are_tight_and_ordered() {
        let mut last = 0;
        for index in 0..BUCKETS - 1 {
            let bound = upper_bound(index);
            assert!(bound > last, "bucket {index}");
            assert_eq!(bucket(bound - 1), index);
            assert_eq!(bucket(bound), index + 1);
            if index > 0 {
                assert!(bound * 32 <= last * 33, "bucket {index} is wider than 1/32");
            }
            last = bound;
        }
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn what_is_above_a_bound_is_counted() {
        let histogram = FineHistogram::default();
        assert_eq!(histogram.count_above(Duration::ZERO), 0);
        for millis in [1, 10, 100, 1000] {
            histogram.record(Duration::from_millis(millis));
        }
        for (millis, above) in [(2, 3), (50, 2), (200, 1), (2000, 0)] {
            assert_eq!(histogram.count_above(Duration::from_millis(millis)), above, "{millis} ms");
        }
        assert_eq!(histogram.count_above(Duration::MAX), 0);
    }

    #[test]
    fn quantiles_lie_within_a_bucket_of_the_truth() {
        let histogram = FineHistogram::default();
        assert_eq!(histogram.quantile(0.5), None);
        for micros in 1..=1000 {
            histogram.record(Duration::from_micros(micros));
        }
        for (q, truth) in [(0.5, 500.0), (0.99, 990.0), (1.0, 1000.0)] {
            let got = histogram.quantile(q).unwrap().as_secs_f64() * 1e6;
            assert!(got >= truth && got <= truth * 1.04, "q {q}: {got}");
        }
    }
}
