//! Simulated traffic, and what a simulation needs: a generator, binomials, an
//! exact bound.

use crate::rng::Rng;

impl Rng {
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        (self.uniform() * bound as f64) as usize
    }

    /// How many of `n` have an event of probability `p`: by waiting times, or
    /// the rounded normal where its variance is above 50.
    pub(crate) fn binomial(&mut self, n: u64, p: f64) -> u64 {
        let variance = n as f64 * p * (1.0 - p);
        if variance > 50.0 {
            let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
            let normal = radius * (std::f64::consts::TAU * self.uniform()).cos();
            return (n as f64 * p + normal * variance.sqrt()).round().clamp(0.0, n as f64) as u64;
        }
        if p > 0.5 {
            return n - self.binomial(n, 1.0 - p);
        }
        let (mut at, mut count) = (0.0, 0);
        loop {
            at += ((1.0 - self.uniform()).ln() / (-p).ln_1p()).floor() + 1.0;
            if at > n as f64 {
                return count;
            }
            count += 1;
        }
    }
}

/// One failed request.
pub(crate) struct Event {
    pub(crate) canary: bool,
    /// Whether it is its key's first; without keys always.
    pub(crate) first: bool,
}

pub(crate) struct Window {
    pub(crate) events: Vec<Event>,
    /// Failed ones included.
    pub(crate) canary_requests: u64,
}

impl Window {
    pub(crate) fn canary_failures(&self) -> u64 {
        self.events.iter().filter(|event| event.canary).count() as u64
    }
}

const USERS: usize = 20_000;
/// Users with a fault of their own…
const CHRONIC: usize = 400;
/// …and their part of all failures.
const CHRONIC_PART: f64 = 0.6;

/// A service with its faults.
pub(crate) struct Traffic {
    /// Failures per request of the champion, on average.
    base: f64,
    ratio: f64,
    drifts: bool,
    /// Where the split puts each user, drawn anew for each rollout.
    users: Option<Vec<f64>>,
    failed: Vec<bool>,
    time: f64,
}

impl Traffic {
    /// An identical canary; the champion's failures swing between 0.1 % and 0.9 %.
    pub(crate) fn drifting(users: bool) -> Self {
        let users = users.then(|| vec![0.0; USERS]);
        Self { base: 0.005, ratio: 1.0, drifts: true, users, failed: vec![false; USERS], time: 0.0 }
    }

    /// A canary with so many times the champion's failures.
    pub(crate) fn steady(base: f64, ratio: f64) -> Self {
        Self { base, ratio, drifts: false, users: None, failed: Vec::new(), time: 0.0 }
    }

    pub(crate) fn has_users(&self) -> bool {
        self.users.is_some()
    }

    /// A new rollout: a new salt, at any time of the day.
    pub(crate) fn reset(&mut self, rng: &mut Rng) {
        self.time = rng.uniform() * 1_000.0;
        self.failed.fill(false);
        for point in self.users.iter_mut().flatten() {
            *point = rng.uniform();
        }
    }

    /// The probability that a failure falls on the canary.
    pub(crate) fn on_canary(&self, share: f64) -> f64 {
        share * self.ratio / (1.0 - share + share * self.ratio)
    }

    pub(crate) fn window(&mut self, rng: &mut Rng, share: f64, requests: u64) -> Window {
        self.time += 1.0;
        let swing = if self.drifts { 0.8 * (self.time / 20.0).sin() } else { 0.0 };
        let base = self.base * (1.0 + swing);
        let failing = base * (1.0 - share + share * self.ratio);
        let failures = rng.binomial(requests, failing);
        let events: Vec<_> = (0..failures).map(|_| self.event(rng, share)).collect();
        let canary_failures = events.iter().filter(|event| event.canary).count() as u64;
        let of_others = share * (1.0 - self.ratio * base) / (1.0 - failing);
        let canary_requests = canary_failures + rng.binomial(requests - failures, of_others);
        Window { events, canary_requests }
    }

    fn event(&mut self, rng: &mut Rng, share: f64) -> Event {
        let Some(users) = &self.users else {
            return Event { canary: rng.chance(self.on_canary(share)), first: true };
        };
        let chronic = rng.chance(CHRONIC_PART);
        let user = rng.below(if chronic { CHRONIC } else { USERS });
        let first = !std::mem::replace(&mut self.failed[user], true);
        Event { canary: users[user] < share, first }
    }
}

/// The lower end of the one-sided 95 % interval of Clopper and Pearson for a
/// probability that was met `count` times in `runs`: where so many or more
/// have a probability of 5 %.
pub(crate) fn lower_bound(count: usize, runs: usize) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..50 {
        let middle = f64::midpoint(low, high);
        if at_least(count, runs, middle) < 0.05 { low = middle } else { high = middle }
    }
    if count == 0 { 0.0 } else { low }
}

/// `P(X ≥ count)` for a binomial X.
fn at_least(count: usize, runs: usize, p: f64) -> f64 {
    let mut ln_ways = 0.0;
    let mut sum = 0.0;
    for k in 0..=runs {
        if k >= count {
            sum += (ln_ways + k as f64 * p.ln() + (runs - k) as f64 * (-p).ln_1p()).exp();
        }
        ln_ways += ((runs - k) as f64).ln() - ((k + 1) as f64).ln();
    }
    sum
}

/// The median over all runs, of which those without a value come last.
pub(crate) fn median(values: &[u64], runs: usize) -> Option<u64> {
    let mut values = values.to_vec();
    values.sort_unstable();
    values.get(runs / 2).copied()
}
