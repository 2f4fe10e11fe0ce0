//! When requests are due: fixed before the first one is sent.
//!
//! Pure: no clock, no I/O. The same settings and seed give the same schedule on
//! every machine. Nothing here can see a reply, so a slow server cannot slow
//! the schedule down: that is what makes the load open-loop.

use std::fmt;
use std::time::Duration;

const NANOS_PER_SECOND: f64 = 1e9;

/// The process that spaces the arrivals.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Process {
    /// Independent clients: exponential gaps, so requests come in bursts.
    Poisson,
    /// A metronome: equal gaps.
    Fixed,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Poisson => "poisson",
            Self::Fixed => "fixed",
        })
    }
}

/// A finite schedule: offsets from the start, never decreasing, all before the
/// end that it was given.
#[derive(Clone, Debug)]
pub struct Arrivals {
    process: Process,
    gap_ns: f64,
    /// Of the next arrival.
    at_ns: f64,
    end_ns: f64,
    random: SplitMix64,
}

impl Arrivals {
    /// A schedule of `per_second` arrivals a second on average, over `length`.
    ///
    /// A rate that is not a positive number gives an empty schedule.
    #[must_use]
    pub fn new(process: Process, per_second: f64, length: Duration, seed: u64) -> Self {
        let usable = per_second.is_finite() && per_second > 0.0;
        let mut random = SplitMix64(seed);
        let gap_ns = NANOS_PER_SECOND / if usable { per_second } else { 1.0 };
        let at_ns = match process {
            Process::Poisson => gap_ns * random.exponential(),
            Process::Fixed => 0.0,
        };
        let end_ns = if usable { length.as_secs_f64() * NANOS_PER_SECOND } else { 0.0 };
        Self { process, gap_ns, at_ns, end_ns, random }
    }

    /// The part of this schedule's rate that thread `index` of `count` sends.
    ///
    /// Poisson processes add up to a Poisson process; metronomes are shifted
    /// against each other so that together they tick evenly.
    #[must_use]
    pub fn split(
        process: Process,
        per_second: f64,
        length: Duration,
        seed: u64,
        (index, count): (u32, u32),
    ) -> Self {
        let count = count.max(1);
        let own_seed = SplitMix64(seed ^ u64::from(index).rotate_left(32)).next();
        let mut part = Self::new(process, per_second / f64::from(count), length, own_seed);
        if process == Process::Fixed {
            part.at_ns = part.gap_ns * f64::from(index) / f64::from(count);
        }
        part
    }
}

impl Iterator for Arrivals {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        if self.at_ns >= self.end_ns {
            return None;
        }
        let at = self.at_ns;
        self.at_ns += match self.process {
            Process::Poisson => self.gap_ns * self.random.exponential(),
            Process::Fixed => self.gap_ns,
        };
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0..end_ns")]
        Some(Duration::from_nanos(at as u64))
    }
}

/// The splitmix64 generator (Steele, Lea, Flood, OOPSLA 2014): 64 bits of
/// state, every seed is good.
#[derive(Clone, Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// An exponential variate of mean 1.
    fn exponential(&mut self) -> f64 {
        // The top 53 bits fill a double; the half keeps it off zero, whose
        // logarithm is infinite, and off one.
        #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
        let uniform = ((self.next() >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
        -uniform.ln()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONG: Duration = Duration::from_secs(100);

    #[test]
    fn generator_gives_the_published_sequence() {
        let mut random = SplitMix64(1_234_567);
        let first: Vec<u64> = (0..3).map(|_| random.next()).collect();
        assert_eq!(
            first,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
    }

    #[test]
    fn poisson_has_the_asked_mean_rate_and_an_exponential_spread() {
        let times: Vec<f64> =
            Arrivals::new(Process::Poisson, 2000.0, LONG, 7).map(|at| at.as_secs_f64()).collect();
        // 200,000 expected, standard deviation 447: five of them.
        assert!(times.len().abs_diff(200_000) < 2_236, "{}", times.len());
        let gaps: Vec<f64> = times.windows(2).map(|pair| pair[1] - pair[0]).collect();
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        let variance = gaps.iter().map(|gap| (gap - mean).powi(2)).sum::<f64>() / gaps.len() as f64;
        // An exponential's standard deviation equals its mean.
        assert!((variance.sqrt() / mean - 1.0).abs() < 0.02);
    }

    #[test]
    fn same_seed_same_schedule_other_seed_another() {
        let take = |seed| Arrivals::new(Process::Poisson, 500.0, LONG, seed).collect::<Vec<_>>();
        assert_eq!(take(1), take(1));
        assert_ne!(take(1), take(2));
    }

    #[test]
    fn fixed_ticks_evenly_and_ends() {
        let times: Vec<_> = Arrivals::new(Process::Fixed, 4.0, Duration::from_secs(1), 0).collect();
        assert_eq!(times, [0, 250, 500, 750].map(Duration::from_millis));
    }

    #[test]
    fn split_metronomes_tick_as_one() {
        let one = Duration::from_secs(1);
        let mut all: Vec<_> = (0..2)
            .flat_map(|index| Arrivals::split(Process::Fixed, 4.0, one, 0, (index, 2)))
            .collect();
        all.sort();
        assert_eq!(all, [0, 250, 500, 750].map(Duration::from_millis));
    }

    #[test]
    fn split_poisson_adds_up_and_its_parts_differ() {
        let part = |index| {
            Arrivals::split(Process::Poisson, 2000.0, LONG, 3, (index, 2)).collect::<Vec<_>>()
        };
        let (a, b) = (part(0), part(1));
        assert!((a.len() + b.len()).abs_diff(200_000) < 2_236);
        assert_ne!(a[..10], b[..10]);
    }

    #[test]
    fn useless_rates_give_nothing() {
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(Arrivals::new(Process::Poisson, rate, LONG, 0).count(), 0, "{rate}");
        }
    }
}
