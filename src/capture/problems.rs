//! What is wrong with requests that are to be stored: shown while it lasts, and logged once
//! in a while.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::telemetry::Tap;
use crate::types::{Digest, ModelName, VersionId};

/// How often the same is logged.
const TELL_EACH: Duration = Duration::from_secs(60);
/// What was not found wrong again for so long is over: its version may be gone.
const FORGET: Duration = Duration::from_secs(600);
/// The most that is known at a time.
const KNOWN_MAX: usize = 256;

/// Whose requests something is wrong with: a version's; those of all where it is the disk's
/// fault.
pub(super) type Whose = (ModelName, Option<(VersionId, Digest)>);

/// What is wrong with them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// The tap that it is wrong with; `None` where it is the disk's fault.
    pub(super) tap: Option<u64>,
    pub(super) text: String,
}

/// All that is wrong.
#[derive(Default)]
pub(super) struct Problems {
    shown: BTreeMap<Whose, Problem>,
    /// When it was found last.
    found: HashMap<Whose, Instant>,
    /// When it was logged last; `None` is what is wrong with no model.
    told: HashMap<Option<Whose>, Instant>,
    changed: bool,
}

impl Problems {
    /// What is to be shown.
    pub(super) const fn shown(&self) -> &BTreeMap<Whose, Problem> {
        &self.shown
    }

    /// Whether that has changed since this was asked last.
    pub(super) fn take_changed(&mut self) -> bool {
        std::mem::take(&mut self.changed)
    }

    /// Something is wrong; whether that is to be logged.
    #[must_use]
    pub(super) fn found(&mut self, whose: &Whose, problem: Problem, now: Instant) -> bool {
        let has_room = self.shown.len() < KNOWN_MAX || self.shown.contains_key(whose);
        if has_room && self.shown.get(whose) != Some(&problem) {
            self.shown.insert(whose.clone(), problem);
            self.changed = true;
        }
        if has_room {
            self.found.insert(whose.clone(), now);
        }
        self.is_to_be_told(Some(whose), now)
    }

    /// Forgets what was not found wrong again for long.
    pub(super) fn forget(&mut self, now: Instant) {
        self.found.retain(|_, at| now.saturating_duration_since(*at) < FORGET);
        let before = self.shown.len();
        self.shown.retain(|whose, _| self.found.contains_key(whose));
        self.changed |= self.shown.len() != before;
    }

    /// It is wrong no more.
    pub(super) fn over(&mut self, whose: &Whose) {
        self.changed |= !self.shown.is_empty() && self.shown.remove(whose).is_some();
    }

    /// Only these taps are in use.
    pub(super) fn keep(&mut self, taps: &[Arc<Tap>]) {
        let before = self.shown.len();
        self.shown.retain(|(model, _), problem| {
            let is = |tap: &Arc<Tap>| problem.tap.is_none_or(|number| number == tap.number());
            taps.iter().any(|tap| tap.model() == model && is(tap))
        });
        self.changed |= self.shown.len() != before;
    }

    /// Whether it was not logged just now. Beyond what is known, nothing is logged until
    /// something is forgotten: a flood tells nobody more.
    #[must_use]
    pub(super) fn is_to_be_told(&mut self, whose: Option<&Whose>, now: Instant) -> bool {
        let fresh = |at: &Instant| now.saturating_duration_since(*at) < TELL_EACH;
        let whose = whose.cloned();
        if self.told.get(&whose).is_some_and(fresh) {
            return false;
        }
        if self.told.len() >= KNOWN_MAX {
            self.told.retain(|_, at| fresh(at));
        }
        let has_room = self.told.len() < KNOWN_MAX;
        if has_room {
            self.told.insert(whose, now);
        }
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whose(version: u64) -> Whose {
        let version = VersionId::new(version).unwrap();
        (ModelName::new("m").unwrap(), Some((version, Digest::new([7; 32]))))
    }

    fn problem(text: &str) -> Problem {
        Problem { tap: Some(1), text: text.to_owned() }
    }

    #[test]
    fn each_is_shown_and_logged_once_in_a_while() {
        let mut problems = Problems::default();
        let start = Instant::now();
        let (one, two) = (whose(1), whose(2));
        assert!(problems.found(&one, problem("a"), start));
        assert!(problems.found(&two, problem("b"), start), "another version's is another one");
        assert!(problems.take_changed() && !problems.take_changed());
        for _ in 0..100 {
            // Requests of both alternate: neither is news.
            let told = [(&one, "a"), (&two, "b")]
                .map(|(whose, text)| problems.found(whose, problem(text), start));
            assert_eq!((told, problems.take_changed()), ([false; 2], false));
        }
        assert!(!problems.found(&one, problem("c"), start), "too soon");
        assert_eq!(problems.shown()[&one].text, "c");
        assert!(problems.take_changed());
        assert!(problems.found(&one, problem("c"), start + TELL_EACH));
        problems.forget(start + FORGET);
        assert_eq!(
            (problems.shown().len(), problems.take_changed()),
            (1, true),
            "the other is over"
        );
        assert!(!problems.found(&two, problem("b"), start + TELL_EACH / 2));
        problems.take_changed();
        problems.over(&one);
        assert_eq!((problems.shown().len(), problems.take_changed()), (1, true));
        problems.over(&one);
        assert!(!problems.take_changed());
        problems.keep(&[]);
        assert!(problems.shown().is_empty() && problems.take_changed());
    }

    #[test]
    fn no_more_is_known_than_there_is_room_for() {
        let mut problems = Problems::default();
        let now = Instant::now();
        let told = (1..=1000).filter(|n| problems.found(&whose(*n), problem("a"), now)).count();
        assert_eq!((told, problems.shown().len()), (KNOWN_MAX, KNOWN_MAX));
        assert!(problems.found(&whose(2000), problem("a"), now + TELL_EACH));
    }
}
