//! Evidence that the canary's event rate lies below an absolute objective.
//!
//! Some events are too rare for a ratio: where the champion fails once a day,
//! an equal canary cannot be shown to be one in a week. There a guard also
//! passes once its rate is shown to be below the objective q, whatever the
//! champion does. The bet is, for n requests of the canary with b events,
//!
//! ```text
//! E = Σ_r w_r · (r/q)^b · ((1−r)/(1−q))^(n−b)
//! ```
//!
//! over r = 0 (half of the stake), q/8, q/4 and q/2. It holds against every
//! process whose chance of an event is at least q at each request. No bet can
//! win before ln(1/β)/q requests without an event; this one takes an eighth
//! more than that, and in return stands some events.
//!
//! Each event counts here, of one user as often as it happens: with each key
//! counted once, a user who always fails would look like a single event.

use serde::{Deserialize, Serialize};

use super::terms::Rate;

/// Alternatives as multiples of the objective, with their stakes.
const ALTERNATIVES: [(f64, f64); 4] =
    [(0.0, 1.0 / 2.0), (1.0 / 8.0, 1.0 / 6.0), (1.0 / 4.0, 1.0 / 6.0), (1.0 / 2.0, 1.0 / 6.0)];

/// The canary's requests, and how many of them had the event.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RequestCounts {
    /// Requests that the split gave to the canary.
    pub requests: u64,
    /// Those with the event; more than `requests` count as that many.
    pub events: u64,
}

impl RequestCounts {
    /// Adds, up to `u64::MAX`.
    pub const fn add(&mut self, requests: u64, events: u64) {
        self.requests = self.requests.saturating_add(requests);
        self.events = self.events.saturating_add(events);
    }

    /// The natural logarithm of the e-value against "the rate is at least
    /// `objective`". Finite for all counts.
    #[must_use]
    pub fn ln_e(self, objective: Rate) -> f64 {
        let q = objective.get();
        let events = self.events.min(self.requests) as f64;
        let others = self.requests as f64 - events;
        let term = |(multiple, stake): (f64, f64)| {
            // Without any event even "never" is possible: 0·ln 0 is 0.
            let of_events = if events > 0.0 { events * multiple.ln() } else { 0.0 };
            stake.ln() + of_events + others * ((-q * multiple).ln_1p() - (-q).ln_1p())
        };
        let terms = ALTERNATIVES.map(term);
        let max = terms.into_iter().fold(f64::NEG_INFINITY, f64::max);
        max + terms.iter().map(|term| (term - max).exp()).sum::<f64>().ln()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn first_without_event(objective: Rate, ln_threshold: f64) -> u64 {
        (0..)
            .find(|n| RequestCounts { requests: *n, events: 0 }.ln_e(objective) >= ln_threshold)
            .unwrap()
    }

    #[test]
    fn without_events_it_takes_an_eighth_more_than_the_least() {
        for (q, beta) in [(0.01, 0.05), (0.001, 0.05), (0.1, 0.05), (0.01, 0.01)] {
            let ln_threshold = -f64::ln(beta);
            // (1−q)^−n is the most that any fair bet can have won.
            let least = ln_threshold / -f64::ln_1p(-q);
            let got = first_without_event(Rate::new(q).unwrap(), ln_threshold) as f64;
            assert!(
                got >= least && got <= 1.125 * ln_threshold / q + 1.0,
                "{q} {beta}: {got} {least}"
            );
        }
    }

    #[test]
    fn some_events_only_delay_it_and_a_rate_at_the_objective_never_passes() {
        let q = Rate::new(0.01).unwrap();
        let ln_e = |requests, events| RequestCounts { requests, events }.ln_e(q);
        assert!(ln_e(750, 1) > 20.0_f64.ln(), "{}", ln_e(750, 1));
        assert!(ln_e(1_500, 3) > 20.0_f64.ln(), "{}", ln_e(1_500, 3));
        assert!(ln_e(100_000, 1_000) < 0.0);
        assert!(ln_e(0, 0).abs() < 1e-15);
    }

    #[test]
    fn an_e_value_is_one_on_average_at_the_objective() {
        let q = 0.2;
        let mut mean = 0.0;
        let mut ways = 1.0;
        for events in 0..=12_u64 {
            let chance =
                ways * f64::powi(q, events as i32) * f64::powi(1.0 - q, 12 - events as i32);
            mean +=
                chance * RequestCounts { requests: 12, events }.ln_e(Rate::new(q).unwrap()).exp();
            ways *= (12 - events) as f64 / (events + 1) as f64;
        }
        assert!((mean - 1.0).abs() < 1e-12, "{mean}");
    }

    proptest! {
        #[test]
        fn any_counts_have_a_figure(requests: u64, events: u64, q in 1e-9..0.999) {
            let q = Rate::new(q).unwrap();
            for counts in [(requests, events), (u64::MAX, events), (requests, 0), (0, events)] {
                let counts = RequestCounts { requests: counts.0, events: counts.1 };
                prop_assert!(counts.ln_e(q).is_finite(), "{counts:?}");
            }
        }
    }
}
