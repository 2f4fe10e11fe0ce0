//! What is usual of a count lately: its rate, and how far it swings without any change.
//!
//! Counts come in blocks of equal time. The newest few are left out: a change that goes on
//! must not be taken for what it is held against. The rest, a ring that forgets its oldest
//! block with each new one, is the baseline. A slow course, of the day or of a ramp, moves
//! with it.
//!
//! ```text
//! oldest ── baseline (120 blocks) ──┤ left out (12) ├ now
//! ```
//!
//! Real counts swing more than chance alone would have them (bursts, clients that come in
//! waves), and longer than a block. The dispersion is the variance over the mean of the
//! sums of 1, 3, 6 and 12 blocks (Pearson's χ² over its degrees of freedom), the largest of
//! them: with correlation in time it grows with the length of the sums. And no tenth of
//! the baseline is unusual: what is usual reaches from the least of their rates to the
//! most. What swings from minute to minute is in that range; seconds by themselves are as
//! wide as single blocks are about the mean of their own minute.
//!
//! The block with the highest rate is left out but of that range: a burst, or one client that
//! reconnects, would hide what follows for as long as it is in the baseline.

use std::collections::VecDeque;

/// Blocks that a baseline has when it is whole.
pub const BASELINE_BLOCKS: usize = 120;
/// The fewest that say anything.
const BLOCKS_MIN: usize = BASELINE_BLOCKS * 3 / 4;
/// The newest blocks, which are left out.
pub(super) const GUARD: usize = 12;
/// Blocks that are added up where dispersion is measured.
const SCALES: [usize; 4] = [1, 3, 6, 12];
/// The rate of each sum of so many blocks is usual.
const RANGE: usize = 12;
/// Standard errors by which a rate may be other than it was measured.
const ERRORS: f64 = 3.0;
/// Changes up to so many times are none: the level is not the same from one minute to the
/// next, and follows the hour.
const MARGIN: f64 = 1.25;

/// A count, and what it is of: seconds for requests, requests for failures, rows for
/// answers.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counted {
    /// Events.
    pub count: u64,
    /// How much of time, requests or rows they are of.
    pub of: f64,
}

impl Counted {
    /// Events per unit; 0 of nothing.
    #[must_use]
    pub fn rate(&self) -> f64 {
        if self.of > 0.0 { self.count as f64 / self.of } else { 0.0 }
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Self) -> Self {
        Self { count: self.count.saturating_add(other.count), of: self.of + other.of }
    }
}

/// What it takes that something is known, and that it is worth a word.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UsualRule {
    /// The baseline has at least so many events,
    pub count_min: u64,
    /// of at least so much.
    pub of_min: f64,
    /// Rates that differ by no more than this are the same.
    pub floor: f64,
}

/// A level as it usually is. Rates are events per unit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usual {
    /// Its mean.
    pub rate: f64,
    /// From here on it has fallen,
    pub low: f64,
    /// and from here on risen.
    pub high: f64,
    /// Variance over mean of counts; 1 for those that are independent of each other.
    pub dispersion: f64,
    /// The same of single blocks about their own minute.
    pub within: f64,
}

impl Usual {
    fn of(blocks: &[Counted], rule: &UsualRule) -> Option<Self> {
        let all = sum(blocks);
        if blocks.len() < BLOCKS_MIN || all.count < rule.count_min || all.of < rule.of_min {
            return None;
        }
        let parts: Vec<_> =
            blocks.chunks_exact(RANGE).map(sum).filter(|part| part.of > 0.0).collect();
        let blocks = &without_the_highest(blocks);
        let all = sum(blocks);
        let rate = all.rate();
        let dispersions =
            SCALES.iter().map(|blocks_per_sum| dispersion(blocks, rate, *blocks_per_sum));
        let dispersion = dispersions.fold(1.0, f64::max);
        let minutes = blocks.chunks_exact(RANGE).filter(|minute| sum(minute).count > 0);
        let (number, within) = minutes.fold((0.0, 0.0), |(number, total), minute| {
            (number + 1.0, total + self::dispersion(minute, sum(minute).rate(), 1))
        });
        let within = if number > 0.0 { f64::max(within / number, 1.0) } else { 1.0 };
        // Half an event more: none yet does not mean never.
        let error = ERRORS * (dispersion * (all.count as f64 + 0.5)).sqrt() / all.of;
        let rates = || parts.iter().map(Counted::rate);
        let least = rates().fold(rate - error, f64::min);
        let most = rates().fold(rate + error, f64::max);
        let low = (least / MARGIN).min(rate - rule.floor).max(0.0);
        let high = (most * MARGIN).max(rate + rule.floor);
        Some(Self { rate, low, high, dispersion, within: within.min(dispersion) })
    }

    /// A block with its count within the bounds.
    pub(super) fn at_most(&self, block: &Counted) -> Counted {
        let of = block.of.max(0.0);
        let (least, most) = ((self.low * of).ceil() as u64, (self.high * of).floor() as u64);
        Counted { count: block.count.max(least).min(most.max(least)), of: block.of }
    }

    /// Whether a rate is neither risen nor fallen.
    #[must_use]
    pub fn has(&self, rate: f64) -> bool {
        (self.low..=self.high).contains(&rate)
    }
}

/// All but one with the highest rate.
fn without_the_highest(blocks: &[Counted]) -> Vec<Counted> {
    let by_rate =
        |(_, a): &(usize, &Counted), (_, b): &(usize, &Counted)| a.rate().total_cmp(&b.rate());
    let highest = blocks.iter().enumerate().max_by(by_rate).map(|(at, _)| at);
    let rest = blocks.iter().enumerate().filter(|(at, _)| Some(*at) != highest);
    rest.map(|(_, block)| *block).collect()
}

fn sum(blocks: &[Counted]) -> Counted {
    blocks.iter().fold(Counted::default(), |sum, block| sum.plus(block))
}

/// Variance over mean of the sums of so many blocks; 1 where there are too few to tell.
fn dispersion(blocks: &[Counted], rate: f64, blocks_per_sum: usize) -> f64 {
    let sums = blocks.chunks_exact(blocks_per_sum).map(sum);
    let squares = sums.filter(|sum| rate * sum.of > 0.0).map(|sum| {
        let expected = rate * sum.of;
        (sum.count as f64 - expected).powi(2) / expected
    });
    let (number, squares) = squares.fold((0.0, 0.0), |(n, sum), square| (n + 1.0, sum + square));
    if number > 1.0 { squares / (number - 1.0) } else { 1.0 }
}

/// The blocks of one count. A bounded number.
#[derive(Clone, Debug, Default)]
pub(super) struct Baseline {
    /// The oldest first.
    blocks: VecDeque<Counted>,
}

impl Baseline {
    /// Takes the next block.
    pub(super) fn push(&mut self, block: Counted) {
        self.blocks.push_back(block);
        while self.blocks.len() > BASELINE_BLOCKS + GUARD {
            self.blocks.pop_front();
        }
    }

    /// What is usual by the blocks so far; `None` while they tell too little.
    pub(super) fn usual(&mut self, rule: &UsualRule) -> Option<Usual> {
        let blocks = self.blocks.make_contiguous();
        Usual::of(blocks.get(..blocks.len().checked_sub(GUARD)?)?, rule)
    }

    /// Forgets the newest blocks, which are no part of what is usual.
    pub(super) fn forget_newest(&mut self) {
        self.blocks.truncate(self.blocks.len().saturating_sub(GUARD));
    }

    /// All of them, the oldest first.
    pub(super) fn all(&self) -> impl Iterator<Item = &Counted> {
        self.blocks.iter()
    }

    /// The newest so many blocks.
    pub(super) fn newest(&self, blocks: usize) -> Counted {
        let newest = self.blocks.iter().rev().take(blocks);
        newest.fold(Counted::default(), |sum, block| sum.plus(block))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: UsualRule = UsualRule { count_min: 0, of_min: 1.0, floor: 0.0 };

    fn baseline(counts: impl IntoIterator<Item = u64>) -> Baseline {
        let mut baseline = Baseline::default();
        counts.into_iter().for_each(|count| baseline.push(Counted { count, of: 5.0 }));
        baseline
    }

    #[test]
    fn the_newest_blocks_are_left_out_and_the_oldest_forgotten() {
        let old = std::iter::repeat_n(1_000, 500);
        let mut baseline = baseline(old.chain([10; BASELINE_BLOCKS]).chain([77; GUARD]));
        let usual = baseline.usual(&RULE).unwrap();
        assert_eq!((usual.rate, usual.dispersion), (2.0, 1.0));
        assert_eq!(baseline.newest(GUARD), Counted { count: 77 * 12, of: 60.0 });
        assert_eq!(baseline.blocks.len(), BASELINE_BLOCKS + GUARD);
        baseline.forget_newest();
        assert_eq!(baseline.newest(1), Counted { count: 10, of: 5.0 });
    }

    #[test]
    fn too_few_blocks_or_events_tell_nothing() {
        assert_eq!(baseline([10; BLOCKS_MIN + GUARD - 1]).usual(&RULE), None);
        let mut enough = baseline([10; BLOCKS_MIN + GUARD]);
        assert!(enough.usual(&RULE).is_some());
        assert_eq!(enough.usual(&UsualRule { count_min: 901, ..RULE }), None);
        assert_eq!(enough.usual(&UsualRule { of_min: 451.0, ..RULE }), None);
        assert_eq!(Baseline::default().usual(&RULE), None);
    }

    #[test]
    fn waves_are_wider_than_chance_and_no_part_of_them_is_unusual() {
        // 6 blocks of 20, then 6 of 40: the sums of 6 differ most.
        let waves = (0..BASELINE_BLOCKS + GUARD).map(|i| if i / 6 % 2 == 0 { 20 } else { 40 });
        let usual = baseline(waves).usual(&RULE).unwrap();
        assert!((usual.dispersion - 20.0 * 3_600.0 / 180.0 / 19.0).abs() < 1.0, "{usual:?}");
        // In a minute of either they are wider than by chance, too.
        assert!((usual.within - 100.0 / 30.0 * 12.0 / 11.0).abs() < 0.1, "{usual:?}");
        let tide = (0..BASELINE_BLOCKS + GUARD).map(|i| if i < 13 { 90 } else { 10 });
        let usual = baseline(tide).usual(&RULE).unwrap();
        assert!(usual.has(18.0) && usual.low < 2.0, "{usual:?}");
        assert!(usual.dispersion > 100.0 && usual.within == 1.0, "{usual:?}");
    }

    #[test]
    fn one_burst_changes_nothing() {
        let burst = (0..BASELINE_BLOCKS).map(|i| if i == 40 { 5_000 } else { 10 });
        let usual = baseline(burst).usual(&RULE).unwrap();
        assert_eq!((usual.rate, usual.dispersion, usual.within), (2.0, 1.0, 1.0));
    }

    #[test]
    fn nothing_yet_does_not_mean_never() {
        let usual = baseline([0; BASELINE_BLOCKS]).usual(&RULE).unwrap();
        assert!(usual.rate == 0.0 && usual.high > 0.0 && usual.low == 0.0, "{usual:?}");
        let floor = UsualRule { floor: 0.5, ..RULE };
        assert_eq!(baseline([0; BASELINE_BLOCKS]).usual(&floor).unwrap().high, 0.5);
    }
}
