//! How well scores rank: the area under the ROC curve, from bins that are fixed once and
//! for all, so that cells add up.
//!
//! Bins of one width would put all scores of a model for rare events into the first. Here
//! they are narrow at both ends: 1/512 wide from 1/16 to 15/16, and towards 0 and towards 1 each
//! halving of the distance has 16 bins, down to 2⁻²². A bin is found from the
//! number's bits, without rounding, so that a higher score never has a lower bin.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// How many bins there are below ½, and from ½ on.
const HALF: u16 = 512;

/// Rows by bin of the positive class's probability.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Histogram(BTreeMap<u16, [u64; 2]>);

/// The area under the ROC curve: how often a row of the positive class has a higher
/// probability than one of the other class (ties count ½).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, ToSchema)]
pub struct Auc {
    /// The area, 0 to 1, as if all rows of one bin were ties.
    pub value: f64,
    /// The exact area is at most this far away: half of the pairs that share a bin.
    pub error: f64,
}

impl Histogram {
    /// Counts one row with a probability of 0 to 1.
    pub(super) fn add(&mut self, probability: f64, positive: bool) {
        let counts = self.0.entry(bin(probability)).or_default();
        let count = &mut counts[usize::from(positive)];
        *count = count.saturating_add(1);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (bin, more) in &other.0 {
            let counts = self.0.entry(*bin).or_default();
            for (count, more) in counts.iter_mut().zip(more) {
                *count = count.saturating_add(*more);
            }
        }
    }

    /// `None` unless both classes have rows.
    pub(super) fn auc(&self) -> Option<Auc> {
        let (mut negatives, mut positives) = (0.0, 0.0);
        let (mut won, mut tied) = (0.0, 0.0);
        for counts in self.0.values() {
            let [negative, positive] = counts.map(|count| count as f64);
            won += positive * negatives;
            tied += positive * negative;
            negatives += negative;
            positives += positive;
        }
        let pairs = negatives * positives;
        (pairs > 0.0).then(|| Auc { value: (won + 0.5 * tied) / pairs, error: 0.5 * tied / pairs })
    }
}

/// The bin of a probability.
fn bin(probability: f64) -> u16 {
    if probability < 0.5 { place(probability) } else { 2 * HALF - 1 - place(1.0 - probability) }
}

/// The place of a number from 0 to ½, by its octave and the first bits after it.
fn place(distance: f64) -> u16 {
    let scaled = distance * f64::from(1_u32 << 22);
    if scaled < 1.0 || scaled.is_nan() {
        return 0;
    }
    let bits = scaled.to_bits();
    let octave = (bits >> 52).saturating_sub(1_023);
    // 16 bins each; 32, 64 and 128 in the last three.
    let (start, depth) = match octave {
        ..=17 => (16 * octave, 4),
        18 => (288, 5),
        19 => (320, 6),
        20 => (384, 7),
        _ => return HALF - 1,
    };
    let within = (bits & ((1 << 52) - 1)) >> (52 - depth);
    u16::try_from(start + within).unwrap_or(HALF - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn bins_are_narrow_at_both_ends() {
        let cases = [
            (0.0, 0),
            (1e-300, 0),
            (2.0_f64.powi(-22), 0),
            (2.0_f64.powi(-21), 16),
            (1.0 / 16.0, 288),
            (1.0 / 8.0, 320),
            (0.25, 384),
            (0.25 + 1.0 / 512.0, 385),
            (0.5_f64.next_down(), 511),
            (0.5, 512),
            (0.75, 639),
            (1.0 - 1e-9, 1_023),
            (1.0, 1_023),
        ];
        for (probability, expected) in cases {
            assert_eq!(bin(probability), expected, "{probability}");
        }
        let used: std::collections::BTreeSet<_> =
            (0..=1 << 22).map(|i| bin(f64::from(i) / f64::from(1 << 22))).collect();
        // All but those that are narrower than a step here.
        assert!(used.len() > 900, "{}", used.len());
    }

    /// By definition.
    fn exact(rows: &[(f64, bool)]) -> Option<f64> {
        let of = |class| rows.iter().filter(move |row| row.1 == class).map(|row| row.0);
        let pairs = of(true).count() * of(false).count();
        let win = |p: f64, n: f64| {
            if p > n {
                1.0
            } else if p == n {
                0.5
            } else {
                0.0
            }
        };
        let won: f64 = of(true).flat_map(|p| of(false).map(move |n| win(p, n))).sum();
        (pairs > 0).then(|| won / pairs as f64)
    }

    proptest! {
        #[test]
        fn a_higher_score_has_no_lower_bin(a in 0.0..=1.0_f64, b in 0.0..=1.0_f64, rare in any::<bool>()) {
            let [a, b] = [a, b].map(|p| if rare { p * 1e-5 } else { p });
            prop_assert_eq!(bin(a.min(b)).max(bin(a.max(b))), bin(a.max(b)));
            prop_assert_eq!(bin(1.0 - a.min(b)).min(bin(1.0 - a.max(b))), bin(1.0 - a.max(b)));
        }

        #[test]
        fn the_exact_area_is_within_the_error(
            rows in proptest::collection::vec((0.0..=1.0_f64, any::<bool>()), 0..200),
            close in 0..3_i32,
        ) {
            let rows: Vec<_> = rows.into_iter().map(|(p, c)| (p * 10.0_f64.powi(-2 * close), c)).collect();
            let mut histogram = Histogram::default();
            rows.iter().for_each(|(p, class)| histogram.add(*p, *class));
            let (auc, exact) = (histogram.auc(), exact(&rows));
            prop_assert_eq!(auc.is_some(), exact.is_some());
            if let (Some(auc), Some(exact)) = (auc, exact) {
                prop_assert!((auc.value - exact).abs() <= auc.error + 1e-12, "{:?} {}", auc, exact);
            }
        }
    }
}
