//! What became of each model's requests lately: pure, over counts that only grow.

use std::collections::{BTreeMap, VecDeque};
use std::ops::AddAssign;
use std::time::Duration;

use crate::types::{ModelName, VersionId};

/// A window is made of so many parts, and drops the oldest as a whole.
const PARTS: u32 = 12;

/// Counts of requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    /// Those that came to an end,
    pub(super) requests: u64,
    /// and those of them that failed by a fault of the model or of the gateway.
    pub(super) faults: u64,
    /// Those whose time in queue and engine is known,
    pub(super) timed: u64,
    /// was above the limit,
    pub(super) slow: u64,
    /// and above what it must fall below again.
    pub(super) slowish: u64,
}

impl Tally {
    fn since(self, before: Self) -> Self {
        // Counts that have begun anew.
        if self.requests < before.requests || self.timed < before.timed {
            return self;
        }
        Self {
            requests: self.requests.saturating_sub(before.requests),
            faults: self.faults.saturating_sub(before.faults),
            timed: self.timed.saturating_sub(before.timed),
            slow: self.slow.saturating_sub(before.slow),
            slowish: self.slowish.saturating_sub(before.slowish),
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.requests += other.requests;
        self.faults += other.faults;
        self.timed += other.timed;
        self.slow += other.slow;
        self.slowish += other.slowish;
    }
}

/// Whose counts: a version in a role.
pub(super) type Arm = (ModelName, VersionId, &'static str);

/// The last window of every model, and what came since the last look.
pub(super) struct Traffic {
    window: Duration,
    news: BTreeMap<ModelName, Tally>,
    before: BTreeMap<Arm, Tally>,
    models: BTreeMap<ModelName, VecDeque<(Duration, Tally)>>,
}

impl Traffic {
    pub(super) const fn new(window: Duration) -> Self {
        Self { window, news: BTreeMap::new(), before: BTreeMap::new(), models: BTreeMap::new() }
    }

    /// Takes all counts as they are at `now`; the sums of each model's last window.
    pub(super) fn take(
        &mut self,
        now: Duration,
        read: BTreeMap<Arm, Tally>,
    ) -> BTreeMap<ModelName, Tally> {
        self.news.clear();
        for (arm, tally) in &read {
            let before = self.before.get(arm).copied().unwrap_or_default();
            let parts = self.models.entry(arm.0.clone()).or_default();
            let fresh = parts.back().is_some_and(|(began, _)| now - *began < self.window / PARTS);
            if !fresh {
                parts.push_back((now, Tally::default()));
            }
            let new = tally.since(before);
            *self.news.entry(arm.0.clone()).or_default() += new;
            if let Some((_, part)) = parts.back_mut() {
                *part += new;
            }
        }
        self.before = read;
        let window = self.window;
        self.models.retain(|_, parts| {
            parts.retain(|(began, _)| now.saturating_sub(*began) <= window);
            !parts.is_empty()
        });
        self.models.iter().map(|(model, parts)| (model.clone(), sum(parts))).collect()
    }

    /// What the last look found that the one before had not, of every model that is there.
    pub(super) const fn news(&self) -> &BTreeMap<ModelName, Tally> {
        &self.news
    }
}

fn sum(parts: &VecDeque<(Duration, Tally)>) -> Tally {
    parts.iter().fold(Tally::default(), |mut sum, (_, part)| {
        sum += *part;
        sum
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arm(model: &str, version: u64) -> Arm {
        (ModelName::new(model).unwrap(), VersionId::new(version).unwrap(), "champion")
    }

    fn tally(requests: u64, faults: u64) -> Tally {
        Tally { requests, faults, ..Tally::default() }
    }

    /// The sums of model `m` after each look: second, counts so far by version.
    /// When, and what each arm had counted by then.
    type Looked<'a> = (u64, &'a [(u64, u64, u64)]);

    fn run(looks: &[Looked<'_>]) -> Vec<Option<(u64, u64)>> {
        let mut traffic = Traffic::new(Duration::from_secs(60));
        let look = |(second, counts): &(u64, &[(u64, u64, u64)])| {
            let read = counts
                .iter()
                .map(|(v, requests, faults)| (arm("m", *v), tally(*requests, *faults)));
            let sums = traffic.take(Duration::from_secs(*second), read.collect());
            let m = ModelName::new("m").unwrap();
            sums.get(&m).map(|sum| (sum.requests, sum.faults))
        };
        looks.iter().map(look).collect()
    }

    #[test]
    fn a_window_has_what_came_in_it_and_forgets_the_rest() {
        let sums = run(&[
            (0, &[(1, 10, 0)]),
            (5, &[(1, 30, 2)]),
            (60, &[(1, 30, 2)]),
            (61, &[(1, 40, 2)]),
            (66, &[(1, 40, 3)]),
            (200, &[(1, 40, 3)]),
            (300, &[]),
        ]);
        // What came at 0 is forgotten after 60, what came at 5 after 65.
        let expected = [(10, 0), (30, 2), (30, 2), (30, 2), (10, 1), (0, 0)];
        let expected: Vec<_> = expected.into_iter().map(Some).chain([None]).collect();
        assert_eq!(sums, expected);
    }

    #[test]
    fn versions_add_up_and_one_that_is_new_or_begins_anew_counts_whole() {
        let sums = run(&[
            (0, &[(1, 10, 0)]),
            (10, &[(1, 11, 0), (2, 5, 5)]),
            (20, &[(2, 3, 1)]),
            (30, &[(2, 4, 1)]),
        ]);
        assert_eq!(sums, [Some((10, 0)), Some((16, 5)), Some((19, 6)), Some((20, 6))]);
    }

    #[test]
    fn news_are_what_came_since_the_last_look() {
        let mut traffic = Traffic::new(Duration::from_secs(60));
        let m = ModelName::new("m").unwrap();
        let mut look = |second, read: &[(u64, u64)]| {
            let read = read.iter().map(|(v, requests)| (arm("m", *v), tally(*requests, 1)));
            traffic.take(Duration::from_secs(second), read.collect());
            traffic.news().get(&m).map(|news| (news.requests, news.faults))
        };
        assert_eq!(look(0, &[(1, 10)]), Some((10, 1)));
        assert_eq!(look(1, &[(1, 14), (2, 3)]), Some((7, 1)));
        assert_eq!(look(2, &[(1, 14), (2, 3)]), Some((0, 0)));
        assert_eq!(look(3, &[]), None);
    }

    #[test]
    fn a_quick_clock_makes_no_more_parts() {
        let mut traffic = Traffic::new(Duration::from_secs(60));
        for n in 1..10_000 {
            let read = [(arm("m", 1), tally(n, 0))].into();
            traffic.take(Duration::from_millis(n * 10), read);
        }
        let parts = &traffic.models[&ModelName::new("m").unwrap()];
        assert!(parts.len() <= 13, "{}", parts.len());
    }
}
