//! Which rows of a request are looked at.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The most rows of one request.
pub const PICKED_MAX: usize = 64;
/// The most values of one request: wide rows are fewer. So a large request holds up the
/// thread that answers it no longer than a fraction of a millisecond.
const VALUES_MAX: usize = 4096;

/// Chooses the rows of requests that are looked at: all of few, of many a fixed number,
/// one from each of as many equal parts, by chance. What is learnt and what is counted
/// are chosen alike: else one large request would weigh more in the one than in the other.
#[derive(Debug)]
pub struct Picker {
    rows_max: usize,
    state: AtomicU64,
}

impl Picker {
    /// For rows of so many columns.
    #[must_use]
    pub fn new(columns: usize) -> Self {
        let rows_max = (VALUES_MAX / columns.max(1)).clamp(1, PICKED_MAX);
        Self { rows_max, state: AtomicU64::new(0) }
    }

    /// One that chooses as many.
    #[must_use]
    pub const fn alike(&self) -> Self {
        Self { rows_max: self.rows_max, state: AtomicU64::new(0) }
    }

    /// The most rows of a request.
    #[must_use]
    pub const fn rows_max(&self) -> usize {
        self.rows_max
    }

    /// Of a request's so many rows, those that are looked at, ascending.
    pub fn pick(&self, rows: usize) -> impl Iterator<Item = usize> + Clone + use<> {
        let picked = rows.min(self.rows_max);
        let mut chance = Chance(match rows > picked {
            true => self.state.fetch_add(Chance::STEPS, Relaxed),
            false => 0,
        });
        (0..picked).map(move |part| {
            // Parts of `rows / picked` rows, the rest spread over them.
            let start = |part: usize| part * (rows / picked) + part * (rows % picked) / picked;
            let (from, to) = (start(part), start(part + 1));
            if to - from <= 1 { from } else { from + chance.below(to - from) }
        })
    }
}

/// `SplitMix64` (Steele, Lea & Flood 2014): not to be guessed by rows that come in a
/// pattern, nothing more.
#[derive(Clone)]
struct Chance(u64);

impl Chance {
    const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
    /// So far from the next request's.
    const STEPS: u64 = Self::STEP.wrapping_mul(PICKED_MAX as u64);

    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(Self::STEP);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let place = (u128::from(z ^ (z >> 31)) * end as u128) >> 64;
        usize::try_from(place).unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_rows_are_all_taken_and_of_many_as_many_as_may_be() {
        let picker = Picker::new(3);
        assert_eq!(picker.pick(0).count(), 0);
        assert!(picker.pick(64).eq(0..64));
        for rows in [65, 100, 128, 1000, 1 << 40] {
            let picked: Vec<_> = picker.pick(rows).collect();
            assert_eq!(picked.len(), 64, "{rows}");
            assert!(picked.windows(2).all(|pair| pair[0] < pair[1]), "{picked:?}");
            assert!(picked[63] < rows && picked[63] >= rows - rows.div_ceil(64), "{picked:?}");
        }
    }

    #[test]
    fn wide_rows_are_fewer() {
        let rows_max = [0, 1, 64, 65, 512, 5000].map(|columns| Picker::new(columns).rows_max());
        assert_eq!(rows_max, [64, 64, 64, 63, 8, 1]);
        assert_eq!(Picker::new(512).pick(128).count(), 8);
    }

    #[test]
    fn each_row_is_as_likely_as_any_other() {
        let picker = Picker::new(1);
        for rows in [100, 128, 130] {
            let mut taken = vec![0_u32; rows];
            (0..4000).for_each(|_| picker.pick(rows).for_each(|row| taken[row] += 1));
            let expected = 4000.0 * 64.0 / rows as f64;
            // Half of those of 128, and not each second one.
            let even: u32 = taken.iter().step_by(2).sum();
            assert!((f64::from(even) / (4000.0 * 64.0) - 0.5).abs() < 0.01, "{rows}: {taken:?}");
            if rows == 128 {
                let far = |n: &u32| (f64::from(*n) / expected - 1.0).abs() > 0.1;
                assert!(!taken.iter().any(far), "{rows}: {taken:?}");
            }
        }
    }
}
