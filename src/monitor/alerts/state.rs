//! How one alert goes from pending to firing to resolved. Pure: times are on a clock
//! that only goes forward.
//!
//! Hysteresis is in three places: what fires is not over before it is `Good`, which is
//! lower than no longer `Bad`; it must stay so for `clear_after`; and it fires again no
//! sooner than `again_after`. So an alert fires at most once in the longest of
//! `pending + clear_after` and `again_after`, however its condition flaps.

use std::time::Duration;

use super::Timing;

/// How long what is resolved is shown, at least.
const SHOWN_FOR: Duration = Duration::from_secs(3600);

/// What a rule finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    /// The condition holds.
    Bad,
    /// It does not hold, and is not far from it: what fires goes on.
    Between,
    /// It is gone.
    Good,
    /// There is nothing any more that it could be about.
    Gone,
}

/// Where an alert is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// It holds, not for long enough.
    Pending,
    /// It fires; since when its condition is gone, if it is.
    Firing { good_since: Option<Duration> },
    /// It is over.
    Resolved,
}

impl Phase {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Firing { .. } => "firing",
            Self::Resolved => "resolved",
        }
    }
}

/// How an alert stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) phase: Phase,
    /// Since when it is in its phase.
    pub(super) since: Duration,
    /// When it fired last.
    pub(super) fired: Option<Duration>,
    /// When it was resolved last.
    pub(super) resolved: Option<Duration>,
}

/// What others are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Fired,
    Resolved,
}

/// The standing after a reading, if there still is one, and what changed with it.
pub(super) fn step(
    before: Option<Standing>,
    reading: Reading,
    now: Duration,
    timing: &Timing,
) -> (Option<Standing>, Option<Change>) {
    let Some(before) = before else {
        return match reading {
            Reading::Bad => pend(None, now, timing),
            _ => (None, None),
        };
    };
    match before.phase {
        Phase::Pending if reading == Reading::Bad => fire_if_due(before, now, timing),
        Phase::Pending => (back(before), None),
        Phase::Firing { good_since } => (go_on(before, good_since, reading, now, timing)).told(),
        Phase::Resolved if reading == Reading::Bad => pend(Some(before), now, timing),
        Phase::Resolved => (Some(before).filter(|own| is_shown(own, now, timing)), None),
    }
}

impl Standing {
    /// With the change that it came by, if it is resolved.
    fn told(self) -> (Option<Self>, Option<Change>) {
        (Some(self), (self.phase == Phase::Resolved).then_some(Change::Resolved))
    }
}

/// Its condition begins to hold.
fn pend(
    former: Option<Standing>,
    now: Duration,
    timing: &Timing,
) -> (Option<Standing>, Option<Change>) {
    let fired = former.and_then(|own| own.fired);
    let resolved = former.and_then(|own| own.resolved);
    fire_if_due(Standing { phase: Phase::Pending, since: now, fired, resolved }, now, timing)
}

fn fire_if_due(
    own: Standing,
    now: Duration,
    timing: &Timing,
) -> (Option<Standing>, Option<Change>) {
    let again = own.fired.is_none_or(|fired| now.saturating_sub(fired) >= timing.again_after);
    if !again || now.saturating_sub(own.since) < timing.pending {
        return (Some(own), None);
    }
    let phase = Phase::Firing { good_since: None };
    (Some(Standing { phase, since: now, fired: Some(now), ..own }), Some(Change::Fired))
}

/// It did not hold for long enough: it is what it was before.
fn back(own: Standing) -> Option<Standing> {
    own.resolved.map(|resolved| Standing { phase: Phase::Resolved, since: resolved, ..own })
}

fn go_on(
    own: Standing,
    good_since: Option<Duration>,
    reading: Reading,
    now: Duration,
    timing: &Timing,
) -> Standing {
    let over = Standing { phase: Phase::Resolved, since: now, resolved: Some(now), ..own };
    match reading {
        Reading::Gone => over,
        Reading::Bad | Reading::Between => {
            Standing { phase: Phase::Firing { good_since: None }, ..own }
        }
        Reading::Good => {
            let since = good_since.unwrap_or(now);
            if now.saturating_sub(since) >= timing.clear_after {
                return over;
            }
            Standing { phase: Phase::Firing { good_since: Some(since) }, ..own }
        }
    }
}

/// Whether what is resolved is still shown; it is also kept while it must not fire again.
fn is_shown(own: &Standing, now: Duration, timing: &Timing) -> bool {
    let fired = own.fired.unwrap_or(own.since);
    now.saturating_sub(own.since) < SHOWN_FOR || now.saturating_sub(fired) < timing.again_after
}

#[cfg(test)]
mod tests {
    use super::Reading::{Bad, Between, Gone, Good};
    use super::*;

    const TIMING: Timing = Timing {
        pending: Duration::from_secs(60),
        clear_after: Duration::from_secs(300),
        again_after: Duration::from_secs(900),
    };

    /// Goes through readings at seconds; the phase after each, and what was told.
    fn run(readings: &[(u64, Reading)]) -> Vec<(u64, &'static str, Option<Change>)> {
        let mut standing = None;
        let step = |(second, reading): &(u64, Reading)| {
            let (now, change) = step(standing, *reading, Duration::from_secs(*second), &TIMING);
            standing = now;
            (*second, now.map_or("none", |own| own.phase.as_str()), change)
        };
        readings.iter().map(step).collect()
    }

    #[test]
    fn a_condition_that_lasts_fires_and_one_that_is_gone_for_long_enough_is_resolved() {
        let told = run(&[
            (0, Good),
            (10, Bad),
            (69, Bad),
            (70, Bad),
            (80, Between),
            (400, Good),
            (699, Good),
            (700, Good),
            (4299, Good),
            (4300, Good),
        ]);
        assert_eq!(
            told,
            [
                (0, "none", None),
                (10, "pending", None),
                (69, "pending", None),
                (70, "firing", Some(Change::Fired)),
                (80, "firing", None),
                (400, "firing", None),
                (699, "firing", None),
                (700, "resolved", Some(Change::Resolved)),
                (4299, "resolved", None),
                (4300, "none", None),
            ]
        );
    }

    #[test]
    fn what_passes_by_is_no_alert() {
        for passing in [Good, Between, Gone] {
            let told = run(&[(0, Bad), (59, passing), (60, Bad), (119, Bad), (120, Bad)]);
            let phases: Vec<_> = told.iter().map(|(_, phase, _)| *phase).collect();
            assert_eq!(phases, ["pending", "none", "pending", "pending", "firing"]);
        }
    }

    #[test]
    fn a_relapse_begins_the_time_to_clear_anew() {
        for relapse in [Bad, Between] {
            let told =
                run(&[(0, Bad), (60, Bad), (100, Good), (399, relapse), (400, Good), (699, Good)]);
            assert!(told[1..].iter().all(|(_, phase, _)| *phase == "firing"), "{told:?}");
        }
    }

    #[test]
    fn what_it_was_about_is_gone_and_so_is_the_alert() {
        let told = run(&[(0, Bad), (60, Bad), (61, Gone), (62, Bad), (63, Gone)]);
        assert_eq!(told[2], (61, "resolved", Some(Change::Resolved)));
        assert_eq!((told[3].1, told[4].1), ("pending", "resolved"));
    }

    #[test]
    fn a_resolved_alert_fires_again_no_sooner_than_it_may() {
        let told = run(&[(0, Bad), (60, Bad), (61, Gone), (62, Bad), (959, Bad), (960, Bad)]);
        assert_eq!(told[4], (959, "pending", None));
        assert_eq!(told[5], (960, "firing", Some(Change::Fired)));
    }

    /// Whatever comes, two firings are `again_after` apart, and each has its end between.
    #[test]
    fn a_flapping_condition_tells_little() {
        let all = [Bad, Between, Good, Gone];
        let mut random = 7_u64;
        let readings: Vec<_> = (0..20_000)
            .map(|i| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                // Mostly bad, so that there is something to tell at all.
                let at = usize::try_from((random >> 33) % 400).unwrap();
                (i * 5, all.get(at).copied().unwrap_or(Bad))
            })
            .collect();
        let told: Vec<_> =
            run(&readings).into_iter().filter_map(|(at, _, change)| Some((at, change?))).collect();
        let fired: Vec<_> = told.iter().filter(|(_, c)| *c == Change::Fired).collect();
        assert!(fired.len() > 10, "{told:?}");
        assert!(fired.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 900), "{told:?}");
        assert!(told.windows(2).all(|pair| pair[0].1 != pair[1].1), "{told:?}");
    }

    #[test]
    fn without_a_time_to_wait_it_fires_at_once() {
        let timing = Timing { pending: Duration::ZERO, ..TIMING };
        let (standing, change) = step(None, Bad, Duration::from_secs(5), &timing);
        assert_eq!((standing.unwrap().phase.as_str(), change), ("firing", Some(Change::Fired)));
    }
}
