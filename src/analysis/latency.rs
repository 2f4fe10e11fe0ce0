//! The judge's histogram of service times, and the line that calls a request
//! slow.
//!
//! A quantile cannot be compared at any time with any power where it matters
//! (p99). So the line is drawn once, when a rollout begins: τ, the bound at or
//! above the champion's quantile. A request over τ is an event, as an error is
//! one, and the ratio of those events is judged.
//!
//! Bounds are fixed and whole nanoseconds: each power of two from 1 µs to two
//! minutes is divided into 32 equal bins. They are 3.1 % apart at most, so τ is
//! never further above the quantile, and a bin is found without a division.
//! Histograms of replicas merge by addition.

/// Bins of one power of two.
const PARTS: u64 = 32;
const PARTS_LOG2: u32 = PARTS.trailing_zeros();
/// The first bound is 2^10 ns, 1.024 µs.
const FIRST_LOG2: u32 = 10;
/// The last one is 2^37 ns, 137 s.
const LAST_LOG2: u32 = 37;

/// Bins, the last one of which has no upper bound.
pub const BINS: usize = ((LAST_LOG2 - FIRST_LOG2) as u64 * PARTS) as usize + 2;

/// The upper bound of a bin in nanoseconds, which belongs to it; `None` for the
/// last one (and beyond).
#[must_use]
pub const fn bound_ns(bin: usize) -> Option<u64> {
    if bin + 1 >= BINS {
        return None;
    }
    if bin == 0 {
        return Some(1 << FIRST_LOG2);
    }
    let step = bin as u64 - 1;
    let octave = FIRST_LOG2 + (step / PARTS) as u32;
    Some((PARTS + step % PARTS + 1) << (octave - PARTS_LOG2))
}

/// All bounds in nanoseconds, ascending: one for each bin but the last.
pub fn bounds_ns() -> impl Iterator<Item = u64> {
    (0..BINS).map_while(bound_ns)
}

/// The bin of a duration.
#[must_use]
pub const fn bin_of(ns: u64) -> usize {
    // A bound belongs to the bin below it.
    let below = ns.saturating_sub(1);
    if below < 1 << FIRST_LOG2 {
        return 0;
    }
    let octave = below.ilog2();
    if octave >= LAST_LOG2 {
        return BINS - 1;
    }
    let part = (below >> (octave - PARTS_LOG2)) - PARTS;
    ((octave - FIRST_LOG2) as u64 * PARTS + part) as usize + 1
}

/// Service times by bin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram(Box<[u64]>);

impl Histogram {
    /// Nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self(vec![0; BINS].into())
    }

    /// A histogram with these counts, one for each bin; counts beyond the last
    /// bin are added to it.
    #[must_use]
    pub fn from_counts(counts: impl IntoIterator<Item = u64>) -> Self {
        let mut histogram = Self::new();
        for (bin, count) in counts.into_iter().enumerate() {
            let slot = &mut histogram.0[bin.min(BINS - 1)];
            *slot = slot.saturating_add(count);
        }
        histogram
    }

    /// Counts one request.
    pub fn add(&mut self, ns: u64) {
        let slot = &mut self.0[bin_of(ns)];
        *slot = slot.saturating_add(1);
    }

    /// Adds another replica's.
    pub fn merge(&mut self, other: &Self) {
        for (slot, count) in self.0.iter_mut().zip(&other.0) {
            *slot = slot.saturating_add(*count);
        }
    }

    /// Requests by bin, as [`super::distance`] takes them.
    #[must_use]
    pub fn counts(&self) -> &[u64] {
        &self.0
    }

    /// Requests.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0.iter().fold(0, |total, count| total.saturating_add(*count))
    }

    /// The line for slow requests, in nanoseconds: the bound at or above the
    /// quantile. `quantile` is from 0 to 1; anything else is the nearer one.
    ///
    /// `None` where there are no requests, where the quantile is NaN or where
    /// it lies beyond the last bound: then there is nothing to judge by.
    #[must_use]
    pub fn slow_over_ns(&self, quantile: f64) -> Option<u64> {
        let total = self.total();
        if total == 0 || quantile.is_nan() {
            return None;
        }
        let rank = (quantile.clamp(0.0, 1.0) * total as f64).ceil().max(1.0);
        let mut below = 0_u64;
        let bin = self.0.iter().position(|count| {
            below = below.saturating_add(*count);
            below as f64 >= rank
        });
        bin.and_then(bound_ns)
    }

    /// Requests that took longer than a bound. Exact for a bound; for any other
    /// duration, requests in its bin are left out.
    #[must_use]
    pub fn over(&self, ns: u64) -> u64 {
        self.0[bin_of(ns) + 1..].iter().fold(0, |total, count| total.saturating_add(*count))
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bounds_are_five_percent_apart_at_most() {
        let bounds: Vec<_> = bounds_ns().collect();
        assert_eq!((bounds.len(), bounds[0]), (BINS - 1, 1_024));
        assert_eq!(bounds.last(), Some(&(1 << LAST_LOG2)));
        for (pair, bin) in bounds.windows(2).zip(1..) {
            let apart = pair[1] as f64 / pair[0] as f64;
            assert!(apart > 1.0 && apart < 1.05, "{pair:?}");
            assert_eq!((bin_of(pair[1]), bin_of(pair[0] + 1)), (bin, bin), "{pair:?}");
        }
    }

    #[test]
    fn the_line_is_at_or_above_the_quantile() {
        let mut histogram = Histogram::new();
        (1..=1_000).for_each(|us| histogram.add(us * 1_000));
        for (quantile, exact) in [(0.5, 500_000.0), (0.99, 990_000.0), (1.0, 1e6), (-1.0, 1e3)] {
            let line = histogram.slow_over_ns(quantile).unwrap();
            assert!((1.0..1.05).contains(&(line as f64 / exact)), "{quantile}: {line}");
            let over = (1..=1_000).filter(|us| us * 1_000 > line).count();
            assert_eq!(histogram.over(line), over as u64);
        }
        assert_eq!(histogram.slow_over_ns(f64::NAN), None);
        assert_eq!(Histogram::new().slow_over_ns(0.5), None);
    }

    #[test]
    fn beyond_the_last_bound_there_is_no_line() {
        let mut histogram = Histogram::new();
        histogram.add(u64::MAX);
        assert_eq!((histogram.slow_over_ns(0.5), histogram.over(0)), (None, 1));
        assert_eq!(histogram.over(u64::MAX), 0);
    }

    proptest! {
        #[test]
        fn a_duration_is_within_its_bin(ns: u64, shift in 0_u32..64) {
            let ns = ns >> shift;
            let bin = bin_of(ns);
            prop_assert!(bound_ns(bin).is_none_or(|bound| ns <= bound));
            prop_assert!(bin == 0 || bound_ns(bin - 1).is_some_and(|bound| ns > bound));
        }

        #[test]
        fn replicas_merge_by_addition(counts in proptest::collection::vec(any::<u64>(), 0..1_000)) {
            let mut histogram = Histogram::from_counts(counts.iter().copied());
            let total = histogram.total();
            histogram.merge(&Histogram::from_counts(counts));
            prop_assert_eq!(histogram.total(), total.saturating_mul(2));
            prop_assert!(histogram.slow_over_ns(0.99).is_none_or(|line| line >= 1_024));
        }
    }
}
