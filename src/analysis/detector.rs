//! Alarms without a control: has the level of something changed?
//!
//! Of traffic, of failures and of answers as a whole there is nothing to compare with but
//! what they were. For a level alone an e-detector serves:
//!
//! ```text
//! S_t = (S_{t−1} + 1)·L_t        alarm at S_t ≥ 1/α
//! ```
//!
//! Each look starts another bet against "nothing has changed", so that a
//! change is found soon after it happens, however long nothing did. Between
//! false alarms there are at least 1/α looks on average (Shin, Ramdas &
//! Rinaldo, "E-detectors: a nonparametric framework for sequential change
//! detection", 2022, arXiv 2203.03532).

use super::usual::{Counted, Usual};

/// The sum of all bets, as a logarithm: `ln S_t`.
#[derive(Clone, Copy, Debug, PartialEq)]
struct EDetector {
    /// `None` is `ln 0`, the beginning.
    ln_sum: Option<f64>,
}

/// Logarithms stay within this, so that sums of them are numbers.
const LN_MAX: f64 = 1e15;

impl EDetector {
    /// Nothing seen yet.
    const fn new() -> Self {
        Self { ln_sum: None }
    }

    /// Sees one observation, by the logarithm of its e-value `ln L_t`: of a bet
    /// that is fair or worse while nothing has changed. NaN counts as no news
    /// (0), and infinities as very large numbers.
    fn add(&mut self, ln_l: f64) {
        let ln_l = if ln_l.is_nan() { 0.0 } else { ln_l.clamp(-LN_MAX, LN_MAX) };
        // ln(S + 1), without overflow.
        let ln_plus_one = self.ln_sum.map_or(0.0, |ln| ln.max(0.0) + (-ln.abs()).exp().ln_1p());
        self.ln_sum = Some((ln_plus_one + ln_l).clamp(-LN_MAX, LN_MAX));
    }

    /// `ln S_t`; the least number before the first observation.
    fn ln_sum(&self) -> f64 {
        self.ln_sum.unwrap_or(-LN_MAX)
    }
}

/// The alternatives of a [`CountDetector`]: how many times the upper bound of what is
/// usual a level may have risen to, and
const RISES: [f64; 4] = [1.2, 1.6, 3.2, 8.0];
/// how many times the lower bound it may have fallen to. With a margin of 1.25 these are
/// 1.5, 2, 4 and 10 times the usual level, and a half, a quarter and a tenth of it.
const FALLS: [f64; 3] = [0.625, 0.312_5, 0.125];
/// Dispersion above 1 is at least this, for which the formula has a value; it is 1 to the
/// eye.
const EXCESS_MIN: f64 = 1e-6;
/// The evidence of one second counts for at most this part of what an alarm takes: what is
/// over within two, which three looks see a part of, is a burst, of a batch job or of a
/// client that reconnects, and no level. An e-value that is cut stays one. Who looks over
/// less than ten minutes has shorter seconds.
const PART_MAX: f64 = 0.2;
/// A fall to this part of the lower bound or less is no swing from minute to minute, which
/// is within the bounds: seconds are held against how wide they are within theirs.
const DEEP: f64 = 0.2;

/// Which way a level went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// There is more.
    Rose,
    /// There is less.
    Fell,
}

/// A level that is not what it was.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Change {
    /// Which way.
    pub(super) direction: Direction,
    /// What was counted since then, as far as that can be told: since the likelihood
    /// ratio was at its lowest (Page 1954).
    pub(super) since: Counted,
}

/// The evidence for one size of a change.
#[derive(Clone, Copy, Debug)]
struct Bet {
    times: f64,
    detector: EDetector,
    /// What was counted since the likelihood ratio was at its lowest,
    since: Counted,
    /// and its logarithm since then.
    ln_ratio: f64,
}

impl Bet {
    const fn new(times: f64) -> Self {
        let since = Counted { count: 0, of: 0.0 };
        Self { times, detector: EDetector::new(), since, ln_ratio: 0.0 }
    }

    fn add(&mut self, seen: Counted, bound: f64, dispersion: f64, ln_max: f64) {
        let ln_l = ln_ratio(seen, bound, self.times, dispersion).min(ln_max);
        self.detector.add(ln_l);
        self.ln_ratio += ln_l;
        self.since = self.since.plus(&seen);
        if self.ln_ratio <= 0.0 {
            (self.ln_ratio, self.since) = (0.0, Counted::default());
        }
    }
}

/// `ln L`: how much better a count agrees with `times` the rate than with the rate. Both
/// laws are negative binomial with one size, so that the dispersion (variance over mean) is
/// the given one at the rate, and `1 + times·(dispersion − 1)` at the other.
///
/// Its mean is 1 or less for every count of at most that rate (at least, for a fall)
/// whose law is no wider than the negative binomial's in convex order: Poisson's and the
/// binomial's are not, since the former is its limit and the latter narrower still.
fn ln_ratio(seen: Counted, rate: f64, times: f64, dispersion: f64) -> f64 {
    let (count, expected) = (seen.count as f64, rate * seen.of);
    let excess = (dispersion - 1.0).max(EXCESS_MIN);
    let scale = ((1.0 + times * excess) / (1.0 + excess)).ln();
    count * (times.ln() - scale) - expected / excess * scale
}

/// Watches for a count that leaves what is usual: the mean of e-detectors, one for each
/// size of a change, on either side.
#[derive(Clone, Debug)]
pub(super) struct CountDetector {
    /// `ln 1/α`.
    ln_bound: f64,
    /// What one look counts for at most.
    ln_look: f64,
    rises: [Bet; RISES.len()],
    falls: Option<[Bet; FALLS.len()]>,
}

impl CountDetector {
    /// A detector that alarms falsely once in `looks_between` looks at most, on average, of
    /// which each is so many times a second; `falls` has it watch for those, too.
    pub(super) fn new(looks_between: f64, look: f64, falls: bool) -> Self {
        let sides = if falls { 2.0 } else { 1.0 };
        let ln_bound = (looks_between.max(1.0) * sides).ln();
        Self {
            ln_bound,
            ln_look: ln_bound * PART_MAX * look.min(1.0),
            rises: RISES.map(Bet::new),
            falls: falls.then(|| FALLS.map(Bet::new)),
        }
    }

    /// Takes what was counted since the last look; the change, if it is shown. After one,
    /// begin with a new detector.
    pub(super) fn add(&mut self, seen: Counted, usual: &Usual) -> Option<Change> {
        let Usual { low, high, dispersion, within, .. } = *usual;
        let ln_max = self.ln_look;
        self.rises.iter_mut().for_each(|bet| bet.add(seen, high, dispersion, ln_max));
        let rose = shown(&self.rises, self.ln_bound);
        let falls = self.falls.as_mut().filter(|_| low > 0.0);
        let fell = falls.and_then(|bets| {
            for bet in bets.iter_mut() {
                let dispersion = if bet.times <= DEEP { within } else { dispersion };
                bet.add(seen, low, dispersion, ln_max);
            }
            shown(bets, self.ln_bound)
        });
        let change = |direction| move |since| Change { direction, since };
        rose.map(change(Direction::Rose)).or(fell.map(change(Direction::Fell)))
    }
}

/// Since when there is a change, by the bet that won most, if all together show one.
fn shown<const N: usize>(bets: &[Bet; N], ln_bound: f64) -> Option<Counted> {
    let lns = bets.map(|bet| bet.detector.ln_sum());
    if super::likelihood::ln_mean_exp(&lns) < ln_bound {
        return None;
    }
    let best = bets.iter().max_by(|a, b| a.ln_ratio.total_cmp(&b.ln_ratio));
    best.map(|bet| bet.since)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_sum_is_the_recursion() {
        let mut detector = EDetector::new();
        let mut sum = 0.0;
        for factor in [0.5, 2.0, 3.0, 0.1, 1.0, 4.0] {
            detector.add(f64::ln(factor));
            sum = (sum + 1.0) * factor;
            assert!((detector.ln_sum() - f64::ln(sum)).abs() < 1e-12);
        }
    }

    /// As if it were known: with no margin, and as wide as Poisson's.
    fn usual(rate: f64) -> Usual {
        Usual { rate, low: rate, high: rate, dispersion: 1.0, within: 1.0 }
    }

    #[test]
    fn the_ratio_is_that_of_the_counts_laws() {
        let seen = Counted { count: 7, of: 2.0 };
        // Poisson's, as the limit: n ln r − μ(r − 1).
        let poisson = 7.0 * 2.0_f64.ln() - 3.0;
        assert!((ln_ratio(seen, 1.5, 2.0, 1.0) - poisson).abs() < 1e-4);
        // Negative binomial with mean 3 and variance 6: its size is 3, p = 1/2 and 1/3.
        let wide = 7.0 * (2.0_f64 / 3.0 / 0.5).ln() + 3.0 * (1.0_f64 / 3.0 / 0.5).ln();
        assert!((ln_ratio(seen, 1.5, 2.0, 2.0) - wide).abs() < 1e-12);
        assert_eq!(ln_ratio(Counted { count: 0, of: 0.0 }, 1.5, 2.0, 2.0), 0.0);
    }

    /// The mean of a bet over all counts of a Poisson law is 1 where that is the null, and
    /// below where the null is wider; over those of the wide null itself it is 1 again.
    #[test]
    fn bets_are_fair_or_worse() {
        let mean = |times: f64, dispersion: f64| {
            let rate: f64 = 4.0;
            let (mut chance, mut sum) = ((-rate).exp(), 0.0);
            for count in 0..200_u64 {
                let seen = Counted { count, of: 1.0 };
                sum += chance * ln_ratio(seen, rate, times, dispersion).exp();
                chance *= rate / (count + 1) as f64;
            }
            sum
        };
        // The negative binomial law of mean 4 and dispersion 3: its size is 2, p = 1/3.
        let wide = |times: f64| {
            let (mut chance, mut sum) = ((1.0_f64 / 3.0).powi(2), 0.0);
            for count in 0..2_000_u64 {
                let seen = Counted { count, of: 1.0 };
                sum += chance * ln_ratio(seen, 4.0, times, 3.0).exp();
                chance *= (count as f64 + 2.0) / (count as f64 + 1.0) * (2.0 / 3.0);
            }
            sum
        };
        for times in RISES.into_iter().chain(FALLS) {
            assert!((mean(times, 1.0) - 1.0).abs() < 1e-3, "{times}: {}", mean(times, 1.0));
            assert!(mean(times, 3.0) < 1.0, "{times}: {}", mean(times, 3.0));
            assert!((wide(times) - 1.0).abs() < 1e-6, "{times}: {}", wide(times));
        }
    }

    #[test]
    fn a_change_is_found_soon_after_it_happens_and_one_look_is_none() {
        let seen = |count| Counted { count, of: 1.0 };
        let steady = || {
            let mut detector = CountDetector::new(1e6, 1.0, true);
            for i in 0..5_000 {
                assert_eq!(detector.add(seen(18 + i % 5), &usual(20.0)), None, "{i}");
            }
            detector
        };
        let until = |count| {
            let mut detector = steady();
            let change = |n| Some((n, detector.add(seen(count), &usual(20.0))?));
            (1..100).find_map(change).expect("it is found")
        };
        let (looks, change) = until(40);
        assert!(looks <= 6 && change.direction == Direction::Rose, "{looks}: {change:?}");
        // The look before had 22, by chance.
        let sudden = Counted { count: 40 * looks, of: looks as f64 };
        let began = sudden.plus(&seen(22));
        assert!([began, sudden].contains(&change.since), "{looks}: {change:?}");
        let (looks, change) = until(0);
        assert!(looks <= 6 && change.direction == Direction::Fell, "{looks}: {change:?}");
        // A burst of two seconds, which three looks see.
        let mut burst = steady();
        for count in [1_000, u64::MAX, 1_000, 20, 20] {
            assert_eq!(burst.add(seen(count), &usual(20.0)), None);
        }
    }

    /// On average there are at least so many looks between false alarms.
    #[test]
    fn false_alarms_are_as_far_apart_as_was_promised() {
        const BETWEEN: f64 = 500.0;
        let mut random = 7_u64;
        let mut uniform = || {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (random >> 11) as f64 / (1_u64 << 53) as f64
        };
        // Of ten requests one fails, by chance.
        let mut look =
            || Counted { count: (0..10).filter(|_| uniform() < 0.1).count() as u64, of: 10.0 };
        let mut looks = 0_u64;
        for _ in 0..100 {
            let mut detector = CountDetector::new(BETWEEN, 1.0, true);
            looks += (1..=10_000)
                .find(|_| detector.add(look(), &usual(0.1)).is_some())
                .unwrap_or(10_000);
        }
        assert!(looks as f64 / 100.0 >= BETWEEN, "{looks}");
    }

    proptest! {
        #[test]
        fn any_news_is_a_number(news in proptest::collection::vec(any::<f64>(), 0..50)) {
            let mut detector = EDetector::new();
            for ln_l in news {
                detector.add(ln_l);
                prop_assert!(detector.ln_sum().is_finite());
            }
        }
    }
}
