//! All alerts that are followed: a bounded number of them.

use std::collections::BTreeMap;
use std::time::Duration;

use super::rules::Finding;
use super::state::{Change, Phase, Reading, Standing, step};
use super::{AlertKey, Rule, Timing};

/// The most alerts, resolved ones among them.
pub(super) const ALERTS_MAX: usize = 256;
/// What is said of something that is not there any more.
const GONE: &str = "what it was about is not there any more";

/// An alert.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Alert {
    pub(super) standing: Standing,
    /// How it is now, in words.
    pub(super) says: String,
    pub(super) value: Option<f64>,
    pub(super) limit: Option<f64>,
}

/// An alert that fired or was resolved.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Changed {
    pub(super) key: AlertKey,
    pub(super) change: Change,
    pub(super) says: String,
}

/// The alerts.
#[derive(Default)]
pub(super) struct Book {
    alerts: BTreeMap<AlertKey, Alert>,
    passed_over: usize,
}

impl Book {
    pub(super) const fn alerts(&self) -> &BTreeMap<AlertKey, Alert> {
        &self.alerts
    }

    /// Conditions that hold now and are not followed, since there are too many alerts.
    pub(super) const fn passed_over(&self) -> usize {
        self.passed_over
    }

    /// Takes what was found at `now`; what fired and what was resolved by it.
    pub(super) fn take(
        &mut self,
        findings: Vec<Finding>,
        now: Duration,
        timing: &Timing,
    ) -> Vec<Changed> {
        let mut findings: BTreeMap<_, _> =
            findings.into_iter().map(|finding| (finding.key.clone(), finding)).collect();
        let mut changed = Vec::new();
        // First those that are known: they may make room.
        for (key, alert) in std::mem::take(&mut self.alerts) {
            let finding = findings.remove(&key).unwrap_or_else(|| gone(key));
            changed.extend(self.advance(Some(alert), finding, now, timing));
        }
        self.passed_over = 0;
        for finding in findings.into_values().filter(|finding| finding.reading == Reading::Bad) {
            if self.has_room() {
                changed.extend(self.advance(None, finding, now, timing));
            } else {
                self.passed_over += 1;
            }
        }
        changed
    }

    fn advance(
        &mut self,
        former: Option<Alert>,
        finding: Finding,
        now: Duration,
        timing: &Timing,
    ) -> Option<Changed> {
        let Finding { key, reading, says, value, limit } = finding;
        let before = former.as_ref().map(|alert| alert.standing);
        let (standing, change) = step(before, reading, now, &timing_of(key.rule, timing));
        let changed = change.map(|change| Changed { key: key.clone(), change, says: says.clone() });
        let next = standing.map(|standing| match former {
            // What is over says how it ended, not how it has been since.
            Some(former) if change.is_none() && standing.phase == Phase::Resolved => {
                Alert { standing, ..former }
            }
            _ => Alert { standing, says, value, limit },
        });
        next.map(|alert| self.alerts.insert(key, alert));
        changed
    }

    /// Makes room for one more, at the expense of what was resolved the longest ago.
    fn has_room(&mut self) -> bool {
        if self.alerts.len() < ALERTS_MAX {
            return true;
        }
        let resolved = self.alerts.iter().filter(|(_, a)| a.standing.phase == Phase::Resolved);
        let oldest = resolved.min_by_key(|(_, alert)| alert.standing.since);
        let oldest = oldest.map(|(key, _)| key.clone());
        oldest.is_some_and(|key| self.alerts.remove(&key).is_some())
    }
}

fn gone(key: AlertKey) -> Finding {
    Finding { key, reading: Reading::Gone, says: GONE.to_owned(), value: None, limit: None }
}

/// A drift has moved in several windows in a row already: it waits for nothing more. A level
/// is shown to have changed, and then to have been back for a while: each change is told.
fn timing_of(rule: Rule, timing: &Timing) -> Timing {
    match rule {
        Rule::Drift => Timing { pending: Duration::ZERO, ..*timing },
        Rule::ErrorLevel | Rule::ScoreLevel | Rule::TrafficLevel => Timing {
            pending: Duration::ZERO,
            clear_after: Duration::ZERO,
            again_after: Duration::ZERO,
        },
        _ => *timing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{ModelName, VersionId};

    const TIMING: Timing = Timing {
        pending: Duration::from_secs(60),
        clear_after: Duration::from_secs(300),
        again_after: Duration::from_secs(900),
    };

    fn second(second: u64) -> Duration {
        Duration::from_secs(second)
    }

    fn finding(rule: Rule, version: u64, reading: Reading, says: &str) -> Finding {
        let (model, version) = (ModelName::new("m").ok(), VersionId::new(version));
        let key = AlertKey { rule, model, version };
        Finding { key, reading, says: says.to_owned(), value: Some(0.5), limit: Some(0.1) }
    }

    #[test]
    fn each_alert_goes_its_own_way_and_says_how_it_is() {
        let mut book = Book::default();
        let bad = |says| finding(Rule::Errors, 1, Reading::Bad, says);
        assert!(book.take(vec![bad("6 %")], second(0), &TIMING).is_empty());
        // Drift fires at once, as levels do; errors once their time is over.
        let drift = || finding(Rule::Drift, 1, Reading::Bad, "age");
        let changed = book.take(vec![bad("7 %"), drift()], second(10), &TIMING);
        assert_eq!((changed.len(), changed[0].key.rule), (1, Rule::Drift));
        let changed = book.take(vec![bad("8 %"), drift()], second(60), &TIMING);
        assert_eq!((changed.len(), &*changed[0].says), (1, "8 %"));
        // What is not found any more is over at once.
        let changed = book.take(vec![bad("9 %")], second(61), &TIMING);
        assert_eq!((changed[0].change, &*changed[0].says), (Change::Resolved, GONE));
        let key = drift().key;
        book.take(
            vec![bad("9 %"), finding(Rule::Drift, 1, Reading::Good, "fine")],
            second(62),
            &TIMING,
        );
        assert_eq!(book.alerts()[&key].says, GONE);
        assert_eq!(book.alerts()[&bad("").key].says, "9 %");
    }

    #[test]
    fn there_are_not_too_many_and_what_is_passed_over_is_told() {
        let mut book = Book::default();
        let many = u64::try_from(ALERTS_MAX).unwrap();
        let all = |from: u64, to: u64| {
            (from..to).map(|v| finding(Rule::VersionFailed, v, Reading::Bad, "x")).collect()
        };
        book.take(all(1, many + 11), second(0), &TIMING);
        assert_eq!((book.alerts().len(), book.passed_over()), (ALERTS_MAX, 10));
        // They fire, and five of them are over: these make room.
        book.take(all(1, many + 1), second(60), &TIMING);
        book.take(all(6, many + 1), second(61), &TIMING);
        assert_eq!((book.alerts().len(), book.passed_over()), (ALERTS_MAX, 0));
        book.take(all(6, many + 8), second(62), &TIMING);
        assert_eq!((book.alerts().len(), book.passed_over()), (ALERTS_MAX, 2));
    }
}
