//! When evidence reaches its threshold: the exact distribution, for one share
//! and one true ratio, of a judge that looks after every event.
//!
//! After n events the evidence depends on nothing but how many of them fell on
//! the canary, so the probabilities of those numbers, carried from event to
//! event with those taken out that have reached the threshold, are the whole
//! answer. No simulation, no seed.

use super::evidence::Bet;
use super::likelihood::{ln_mean_exp, on_canary};

/// Numbers less likely than this are no longer carried along.
const NEGLIGIBLE: f64 = 1e-13;

/// A walk of the evidence from event to event.
pub(super) struct Passage {
    bet: Bet,
    share: f64,
    ln_threshold: f64,
    theta: f64,
    events: u64,
    /// How many events on the canary the first of `chances` stands for.
    fewest: u64,
    /// The probability of each number, not having reached the threshold.
    chances: std::collections::VecDeque<f64>,
    /// The probability of having reached it.
    reached: f64,
}

impl Passage {
    pub(super) fn new(bet: Bet, share: f64, ratio: f64, ln_threshold: f64) -> Self {
        Self {
            bet,
            share,
            ln_threshold,
            theta: on_canary(share, ratio),
            events: 0,
            fewest: 0,
            chances: [1.0].into(),
            reached: 0.0,
        }
    }

    /// The number of events after which the threshold is reached with this
    /// probability; `None` if not after `events_max`. Ask for rising
    /// probabilities: the walk goes on where it stopped.
    pub(super) fn events_until(&mut self, probability: f64, events_max: u64) -> Option<u64> {
        let steps = self.bet.steps(self.share);
        while self.reached < probability {
            if self.events >= events_max || self.chances.is_empty() {
                return None;
            }
            self.step();
            // More events on the canary speak for "worse" and against "not
            // worse": what has reached the threshold lies at one end.
            while let Some(canary) = self.end() {
                let champion = (self.events - canary) as f64;
                let terms = steps.map(|step| step.of(champion, canary as f64));
                if ln_mean_exp(&terms) < self.ln_threshold {
                    break;
                }
                self.reached += self.take_end();
            }
        }
        Some(self.events)
    }

    fn step(&mut self) {
        self.events += 1;
        self.chances.push_back(0.0);
        let mut before = 0.0;
        for chance in &mut self.chances {
            let stays = *chance * (1.0 - self.theta);
            (*chance, before) = (stays + before, *chance * self.theta);
        }
        while self.chances.front().is_some_and(|chance| *chance < NEGLIGIBLE) {
            self.chances.pop_front();
            self.fewest += 1;
        }
        while self.chances.back().is_some_and(|chance| *chance < NEGLIGIBLE) {
            self.chances.pop_back();
        }
    }

    /// The number on the canary that speaks most for the bet.
    fn end(&self) -> Option<u64> {
        let beyond = self.chances.len().checked_sub(1)? as u64;
        Some(if self.bet.upward { self.fewest + beyond } else { self.fewest })
    }

    fn take_end(&mut self) -> f64 {
        let taken = if self.bet.upward {
            self.chances.pop_back()
        } else {
            self.fewest += 1;
            self.chances.pop_front()
        };
        taken.unwrap_or(0.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The medians are those of simulations with 3,000 runs.
    #[test]
    fn medians_are_those_of_simulations() {
        let (worse, not_worse) = (100.0_f64.ln(), 20.0_f64.ln());
        let cases = [
            (true, 1.0, 0.05, 2.0, worse, 298),
            (true, 1.0, 0.05, 3.0, worse, 88),
            (true, 1.0, 0.05, 5.0, worse, 31),
            (true, 1.0, 0.5, 2.0, worse, 86),
            (true, 1.0, 0.5, 3.0, worse, 36),
            (true, 1.0, 0.5, 5.0, worse, 20),
            (false, 10.0, 0.01, 1.0, not_worse, 44),
            (false, 5.0, 0.05, 1.0, not_worse, 28),
            (false, 2.0, 0.25, 1.0, not_worse, 62),
            (false, 1.5, 0.5, 1.0, not_worse, 178),
        ];
        for (upward, bound, share, ratio, ln_threshold, expected) in cases {
            let mut passage = Passage::new(Bet { bound, upward }, share, ratio, ln_threshold);
            let median = passage.events_until(0.5, 10_000).unwrap();
            let off = median as f64 / f64::from(expected);
            assert!((0.9..1.1).contains(&off), "{ratio}× at {share}: {median}, not {expected}");
            assert!(passage.events_until(0.9, 10_000).unwrap() > median);
        }
    }

    /// The exact probability of a false verdict within 3,000 events, at the
    /// bound itself and a level of 5 %.
    #[test]
    fn false_verdicts_are_as_rare_as_promised() {
        let cases = [
            (true, 1.0, 0.01),
            (true, 1.0, 0.05),
            (true, 1.0, 0.5),
            (true, 1.25, 0.25),
            (false, 10.0, 0.01),
            (false, 5.0, 0.05),
            (false, 2.0, 0.25),
            (false, 1.5, 0.5),
        ];
        for (upward, bound, share) in cases {
            let mut passage = Passage::new(Bet { bound, upward }, share, bound, 20.0_f64.ln());
            assert_eq!(passage.events_until(0.5, 3_000), None);
            assert!(
                (0.02..=0.05).contains(&passage.reached),
                "{bound} {share}: {}",
                passage.reached
            );
        }
    }
}
