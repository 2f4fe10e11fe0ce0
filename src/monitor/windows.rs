//! One version's windows: pure, over counts that only grow.

use std::time::Duration;

use crate::analysis::{ColumnCounts, ColumnDrift, Drift, Level, judge_window};
use crate::telemetry::FeatureSnapshot;
use crate::types::{Feature, Profile};

/// What makes a window whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Whole {
    /// It is at least this long,
    pub(super) time: Duration,
    /// and has at least so many rows.
    pub(super) rows: u64,
}

/// Without any row for so many windows, what was found is of another time.
const IDLE_WINDOWS: u32 = 3;
/// The shortest that a window counts as for that.
const IDLE_WINDOW_MIN: Duration = Duration::from_secs(300);

/// How a column stands, and what the last whole window showed of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Column {
    pub(super) drift: Drift,
    pub(super) found: Option<ColumnDrift>,
}

/// A version's windows since it counts by its profile.
pub(super) struct Windows {
    whole: Whole,
    level: Level,
    /// Where the present window began.
    since: Duration,
    base: FeatureSnapshot,
    /// How many rows there were when there were more than before, and when that was.
    newest: (u64, Duration),
    /// How long the last whole window was, if there is one.
    took: Option<Duration>,
    /// Inputs, then outputs.
    columns: Vec<Column>,
}

/// A window that became whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Closed {
    pub(super) rows: u64,
    /// How long it was.
    pub(super) time: Duration,
}

impl Windows {
    /// The first window begins at `now`, on a clock that only goes forward, with what was
    /// counted before.
    pub(super) fn new(
        whole: Whole,
        level: Level,
        profile: &Profile,
        now: Duration,
        base: FeatureSnapshot,
    ) -> Self {
        let column = Column { drift: Drift::default(), found: None };
        let columns = vec![column; profile.inputs.len() + profile.outputs.len()];
        let newest = (base.rows, now);
        Self { whole, level, since: now, base, newest, took: None, columns }
    }

    /// Inputs, then outputs.
    pub(super) fn columns(&self) -> &[Column] {
        &self.columns
    }

    /// Rows of the present window.
    pub(super) const fn rows(&self, read: &FeatureSnapshot) -> u64 {
        read.rows.saturating_sub(self.base.rows)
    }

    /// Begins the present window anew; what was found before stands.
    pub(super) fn restart(&mut self, now: Duration, read: FeatureSnapshot) {
        (self.since, self.base) = (now, read);
    }

    /// Forgets what it found and begins anew, where there was a whole window and no row
    /// has come for a few times as long: nothing is known of the present. `rows` is a count
    /// that each row changes.
    pub(super) fn forget_if_idle(
        &mut self,
        now: Duration,
        rows: u64,
        read: &FeatureSnapshot,
    ) -> bool {
        if rows != self.newest.0 {
            self.newest = (rows, now);
        }
        let Some(took) = self.took else { return false };
        let window = took.max(self.whole.time).max(IDLE_WINDOW_MIN);
        if now.saturating_sub(self.newest.1) < window * IDLE_WINDOWS {
            return false;
        }
        self.columns.fill(Column { drift: Drift::default(), found: None });
        (self.since, self.base, self.took) = (now, read.clone(), None);
        true
    }

    /// Judges the present window against a reference in the same bins, if it is whole, and
    /// begins the next one.
    pub(super) fn step(
        &mut self,
        profile: &Profile,
        reference: impl FnOnce() -> Vec<Vec<u64>>,
        now: Duration,
        read: FeatureSnapshot,
    ) -> Option<Closed> {
        let closed = Closed { rows: self.rows(&read), time: now.saturating_sub(self.since) };
        if closed.rows < self.whole.rows.max(1) || closed.time < self.whole.time {
            return None;
        }
        let (reference, window) = (reference(), counted(profile, &read, &self.base));
        let counts = features(profile).zip(&reference).zip(&window);
        let counts: Vec<_> = counts
            .map(|((feature, reference), window)| ColumnCounts {
                reference,
                window,
                by_value: feature.bins.are_values(),
            })
            .collect();
        for (column, found) in self.columns.iter_mut().zip(judge_window(&counts, self.level)) {
            *column = Column { drift: column.drift.after(&found), found: Some(found) };
        }
        (self.since, self.base, self.took) = (now, read, Some(closed.time));
        Some(closed)
    }
}

/// Inputs, then outputs.
fn features(profile: &Profile) -> impl Iterator<Item = &Feature> {
    profile.inputs.iter().chain(&profile.outputs)
}

/// The profile's own counts, by place: the reference that stays.
pub(super) fn frozen(profile: &Profile) -> Vec<Vec<u64>> {
    features(profile).map(|feature| feature.counts.by_place()).collect()
}

/// Counts since `base` in a profile's bins, inputs, then outputs, by place.
pub(super) fn counted(
    profile: &Profile,
    read: &FeatureSnapshot,
    base: &FeatureSnapshot,
) -> Vec<Vec<u64>> {
    let inputs = since(&profile.inputs, &read.inputs, &base.inputs);
    inputs.chain(since(&profile.outputs, &read.outputs, &base.outputs)).collect()
}

/// Counts since `base`, of each feature.
fn since<'a>(
    features: &'a [Feature],
    read: &'a [Vec<u64>],
    base: &'a [Vec<u64>],
) -> impl Iterator<Item = Vec<u64>> + 'a {
    (0..features.len()).map(move |at| {
        let base = base.get(at);
        let before = |place: usize| base.and_then(|base| base.get(place)).copied().unwrap_or(0);
        let places = read.get(at).map(Vec::as_slice).unwrap_or_default().iter().enumerate();
        places.map(|(place, count)| count.saturating_sub(before(place))).collect()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Bins, Counts, Digest, ModelName};

    const WHOLE: Whole = Whole { time: Duration::from_secs(60), rows: 400 };

    /// One input of two bins, half and half over a thousand rows.
    fn profile() -> Profile {
        let counts = Counts { bins: vec![500, 500], ..Counts::default() };
        let bins = Bins::Bounds(vec![0.0, 1.0, 2.0]);
        let (name, tensor) = ("a".to_owned(), "x".to_owned());
        Profile {
            schema: Profile::SCHEMA,
            model: ModelName::new("m").unwrap(),
            artifact: Digest::new([1; 32]),
            source: "train.csv".into(),
            created: "2026-01-01T00:00:00Z".into(),
            rows: 1000,
            inputs: vec![Feature { name, tensor, column: 0, bins, counts }],
            missing_together: None,
            outputs: vec![],
        }
    }

    /// So many rows in either bin so far.
    fn read(low: u64, high: u64) -> FeatureSnapshot {
        let places = Counts { bins: vec![low, high], ..Counts::default() }.by_place();
        FeatureSnapshot { rows: low + high, inputs: vec![places], ..FeatureSnapshot::default() }
    }

    fn step(
        windows: &mut Windows,
        profile: &Profile,
        now: Duration,
        read: FeatureSnapshot,
    ) -> Option<Closed> {
        windows.step(profile, || frozen(profile), now, read)
    }

    fn idle(windows: &mut Windows, now: Duration, read: FeatureSnapshot) -> bool {
        windows.forget_if_idle(now, read.rows, &read)
    }

    fn windows() -> Windows {
        // Ten rows were counted before.
        Windows::new(WHOLE, Level::DRIFT, &profile(), Duration::ZERO, read(10, 0))
    }

    const fn minute(n: u64) -> Duration {
        Duration::from_secs(60 * n)
    }

    #[test]
    fn a_window_is_whole_when_it_has_rows_and_time_enough() {
        let (mut windows, profile) = (windows(), profile());
        let cases = [
            // Long enough, and a row too few.
            (minute(5), read(209, 200), None),
            // Rows enough; they came at last.
            (minute(5), read(210, 200), Some((400, minute(5)))),
            // Rows at once, and no time.
            (minute(5) + Duration::from_secs(59), read(1210, 1200), None),
            (minute(6), read(1210, 1200), Some((2000, minute(1)))),
        ];
        for (now, read, expected) in cases {
            let closed = step(&mut windows, &profile, now, read);
            assert_eq!(closed.map(|closed| (closed.rows, closed.time)), expected);
        }
    }

    #[test]
    fn a_shift_that_stays_is_a_drift_and_one_that_goes_is_none() {
        let (mut windows, profile) = (windows(), profile());
        let mut so_far = (10, 0);
        let mut state = |windows: &mut Windows, n, low, high| {
            so_far = (so_far.0 + low, so_far.1 + high);
            assert!(step(windows, &profile, minute(n), read(so_far.0, so_far.1)).is_some());
            windows.columns()[0].drift.as_str()
        };
        assert_eq!(windows.columns()[0].drift.as_str(), "waiting");
        assert_eq!(state(&mut windows, 1, 500, 500), "steady");
        assert_eq!(state(&mut windows, 2, 900, 100), "moved");
        assert_eq!(state(&mut windows, 3, 510, 490), "steady");
        for (n, expected) in [(4, "moved"), (5, "moved"), (6, "drifting")] {
            assert_eq!(state(&mut windows, n, 900, 100), expected);
        }
        let found = windows.columns()[0].found.unwrap();
        assert_eq!(found.rows, 1000);
        assert!(found.difference.unwrap().psi > 0.5, "{found:?}");
    }

    #[test]
    fn what_was_found_is_forgotten_when_no_row_comes_any_more() {
        let (mut windows, profile) = (windows(), profile());
        // Nothing was found yet.
        assert!(!idle(&mut windows, minute(1000), read(10, 0)));
        assert!(step(&mut windows, &profile, minute(1000), read(910, 100)).is_some());
        assert!(!idle(&mut windows, minute(1000), read(910, 100)));
        // That window took 1,000 minutes.
        assert!(!idle(&mut windows, minute(3999), read(910, 100)));
        assert_eq!(windows.columns()[0].drift.as_str(), "moved");
        assert!(idle(&mut windows, minute(4000), read(910, 100)));
        assert_eq!(windows.columns()[0], Column { drift: Drift::Waiting, found: None });
        assert!(!idle(&mut windows, minute(9000), read(910, 100)));
        // A short one counts as five minutes.
        assert!(step(&mut windows, &profile, minute(4001), read(1310, 100)).is_some());
        assert!(!idle(&mut windows, minute(4002), read(1311, 100)));
        assert!(!idle(&mut windows, minute(4016), read(1311, 100)));
        assert!(idle(&mut windows, minute(4017), read(1311, 100)));
    }

    #[test]
    fn a_window_that_begins_anew_leaves_what_was_found() {
        let (mut windows, profile) = (windows(), profile());
        assert!(step(&mut windows, &profile, minute(1), read(410, 100)).is_some());
        let found = windows.columns()[0];
        windows.restart(minute(2), read(810, 100));
        assert_eq!((windows.rows(&read(811, 100)), windows.columns()[0]), (1, found));
        assert!(step(&mut windows, &profile, minute(3), read(1209, 100)).is_none());
        let closed = step(&mut windows, &profile, minute(3), read(1210, 100));
        assert_eq!(closed, Some(Closed { rows: 400, time: minute(1) }));
    }

    #[test]
    fn counts_that_are_not_there_are_zero() {
        let (mut windows, profile) = (windows(), profile());
        let empty = FeatureSnapshot { rows: 1000, ..FeatureSnapshot::default() };
        assert!(step(&mut windows, &profile, minute(9), empty).is_some());
        assert!(windows.columns()[0].found.unwrap().difference.is_err());
        assert_eq!(windows.columns()[0].drift.as_str(), "waiting");
    }
}
