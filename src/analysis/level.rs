//! Has a level changed all at once? What is usual, the detector that is held against it,
//! and what becomes of an alarm.
//!
//! ```text
//! Counted (each look) ─→ block ─→ Baseline ─→ Usual ┐
//!        └──────────────────────→ CountDetector ←───┘ ─→ LevelState
//! ```
//!
//! An alarm lasts until the level has been as it was for a minute, by the usual settings,
//! or, where it stays, until there is a baseline of the new level alone: then that is what is
//! usual. Meanwhile nothing else is told of this level. Once it is back, what came meanwhile
//! is part of what is usual up to the bounds: so the next change is found about as soon as
//! the first, and what swings often is soon no change any more.

use super::detector::{Change, CountDetector, Direction};
use super::usual::{BASELINE_BLOCKS, Baseline, Counted, GUARD, Usual, UsualRule};

/// How a level is watched. Times are in seconds, as durations are where there is no clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LevelRule {
    /// What it takes to know what is usual.
    pub usual: UsualRule,
    /// Whether a fall is told, too.
    pub falls: bool,
    /// The time of a baseline, in seconds.
    pub baseline_seconds: f64,
    /// The time of a look, in seconds.
    pub look_seconds: f64,
    /// False alarms are at least so many looks apart, on average.
    pub looks_between: f64,
}

/// How a level stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum LevelState {
    /// What is usual is not known.
    Unknown,
    /// It is about as usual.
    Steady(Usual),
    /// It is not.
    Changed(Changed),
}

impl LevelState {
    /// How it has changed, if it has.
    #[must_use]
    pub const fn changed(&self) -> Option<&Changed> {
        match self {
            Self::Changed(changed) => Some(changed),
            Self::Unknown | Self::Steady(_) => None,
        }
    }
}

/// A level that has changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Changed {
    /// Which way.
    pub direction: Direction,
    /// What was counted of it: until it is back, or now.
    pub since: Counted,
    /// What was usual before.
    pub usual: Usual,
}

impl Changed {
    /// The bound that it has passed.
    #[must_use]
    pub const fn bound(&self) -> f64 {
        match self.direction {
            Direction::Rose => self.usual.high,
            Direction::Fell => self.usual.low,
        }
    }
}

/// Watches one level.
#[derive(Clone, Debug)]
pub struct LevelWatch {
    rule: LevelRule,
    baseline: Baseline,
    /// The block that is being filled, and for how many seconds.
    open: (Counted, f64),
    usual: Option<Usual>,
    detector: CountDetector,
    alarm: Option<Alarm>,
}

/// What goes on since a change was shown.
#[derive(Clone, Debug)]
struct Alarm {
    changed: Changed,
    /// Blocks since then.
    blocks: Baseline,
    /// How many there were.
    closed: usize,
    /// What was counted since the last of them.
    open: Counted,
    /// Whether one was as usual.
    back: bool,
}

impl LevelWatch {
    /// Nothing is known yet.
    #[must_use]
    pub fn new(rule: LevelRule) -> Self {
        Self {
            rule,
            baseline: Baseline::default(),
            open: Default::default(),
            usual: None,
            detector: rule.detector(),
            alarm: None,
        }
    }

    /// Takes what was counted in the `seconds` since the last look, and says how it
    /// stands. After so long that what is usual would be of another time, or less than
    /// nothing, it judges nothing.
    pub fn add(&mut self, seen: Counted, seconds: f64) -> LevelState {
        let block_seconds = self.rule.baseline_seconds / BASELINE_BLOCKS as f64;
        if !(0.0..=block_seconds * GUARD as f64).contains(&seconds) {
            // Who was not there to look was not there to answer, either.
            return self.state();
        }
        self.judge(seen);
        let (open, open_seconds) = &mut self.open;
        (*open, *open_seconds) = (open.plus(&seen), *open_seconds + seconds);
        if *open_seconds >= block_seconds {
            self.close();
        }
        self.state()
    }

    fn judge(&mut self, seen: Counted) {
        if let Some(alarm) = &mut self.alarm {
            alarm.open = alarm.open.plus(&seen);
            return;
        }
        let Some(usual) = self.usual.filter(|_| seen.of > 0.0) else { return };
        if let Some(Change { direction, since }) = self.detector.add(seen, &usual) {
            let changed = Changed { direction, since, usual };
            let (blocks, open) = Default::default();
            self.alarm = Some(Alarm { changed, blocks, closed: 0, open, back: false });
            // Where it began is not known to the block.
            self.baseline.forget_newest();
        }
    }

    fn close(&mut self) {
        let block = std::mem::take(&mut self.open).0;
        let Some(alarm) = &mut self.alarm else {
            self.baseline.push(block);
            self.usual = self.baseline.usual(&self.rule.usual);
            return;
        };
        let stays = alarm.close(block) >= BASELINE_BLOCKS + GUARD;
        if stays {
            self.baseline = std::mem::take(&mut alarm.blocks);
        } else if alarm.is_over(&self.rule.usual) {
            let usual = alarm.changed.usual;
            alarm.blocks.all().for_each(|block| self.baseline.push(usual.at_most(block)));
        } else {
            return;
        }
        self.alarm = None;
        self.usual = self.baseline.usual(&self.rule.usual);
        self.detector = self.rule.detector();
    }

    fn state(&self) -> LevelState {
        match (&self.alarm, self.usual) {
            (Some(alarm), _) => LevelState::Changed(alarm.changed),
            (None, Some(usual)) => LevelState::Steady(usual),
            (None, None) => LevelState::Unknown,
        }
    }
}

impl Alarm {
    /// Takes a block; how many there were. What was counted in one that is as usual is of
    /// the change no more, nor what comes after it.
    fn close(&mut self, block: Counted) -> usize {
        self.blocks.push(block);
        self.closed += 1;
        let open = std::mem::take(&mut self.open);
        self.back |= block.of > 0.0 && self.changed.usual.has(block.rate());
        if !self.back {
            self.changed.since = self.changed.since.plus(&open);
        }
        self.closed
    }

    /// Whether the level has been as it was for long enough. Of nothing nobody knows.
    fn is_over(&self, rule: &UsualRule) -> bool {
        let newest = self.blocks.newest(GUARD);
        let enough = rule.of_min * GUARD as f64 / BASELINE_BLOCKS as f64;
        let told = newest.of > 0.0 && newest.of >= enough;
        self.closed >= GUARD && told && self.changed.usual.has(newest.rate())
    }
}

impl LevelRule {
    fn detector(&self) -> CountDetector {
        let second = (self.baseline_seconds / 600.0).min(1.0);
        CountDetector::new(self.looks_between, self.look_seconds / second, self.falls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULE: LevelRule = LevelRule {
        usual: UsualRule { count_min: 60, of_min: 1.0, floor: 1.0 },
        falls: true,
        baseline_seconds: 600.0,
        look_seconds: 1.0,
        looks_between: 90.0 * 86_400.0,
    };

    /// A watch that has seen `per_second`, a little up and down, for so many seconds.
    fn after(seconds: u64, per_second: u64) -> LevelWatch {
        let mut watch = LevelWatch::new(RULE);
        for second in 0..seconds {
            let state = look(&mut watch, per_second + second % 3);
            assert_eq!(state.changed(), None, "{second}");
        }
        watch
    }

    fn look(watch: &mut LevelWatch, count: u64) -> LevelState {
        watch.add(Counted { count, of: 1.0 }, 1.0)
    }

    /// After how many looks of this it has changed, and how.
    fn until_changed(watch: &mut LevelWatch, count: u64) -> (usize, Changed) {
        let found = (1..100).find_map(|n| Some((n, *look(watch, count).changed()?)));
        found.expect("it changes")
    }

    #[test]
    fn a_rise_and_a_fall_are_shown_within_seconds_and_dated() {
        let (looks, changed) = until_changed(&mut after(800, 100), 200);
        assert!(looks <= 6, "{looks}");
        assert_eq!((changed.direction, changed.since.rate()), (Direction::Rose, 200.0));
        assert!((changed.usual.rate - 101.0).abs() < 1.0, "{changed:?}");
        assert!(changed.bound() > 120.0 && changed.bound() < 200.0, "{changed:?}");
        let (looks, changed) = until_changed(&mut after(800, 100), 0);
        assert!(looks <= 6, "{looks}");
        assert_eq!((changed.direction, changed.since.count), (Direction::Fell, 0));
    }

    #[test]
    fn too_little_tells_nothing() {
        // Not long enough: a minute is left out, and a quarter of the baseline is missing.
        let mut young = after(504, 100);
        assert_eq!(look(&mut young, 900), LevelState::Unknown);
        // One in a minute, and then none; nobody, and then somebody.
        let mut rare = LevelWatch::new(RULE);
        for second in 0..3_000 {
            assert_eq!(look(&mut rare, u64::from(second % 60 == 0)), LevelState::Unknown);
        }
        for _ in 0..600 {
            assert_eq!(look(&mut rare, 0), LevelState::Unknown);
        }
        assert_eq!(look(&mut rare, 50), LevelState::Unknown);
    }

    #[test]
    fn a_burst_of_two_seconds_is_no_level_and_hides_nothing() {
        let mut watch = after(800, 3);
        for burst in [200, 500, 300] {
            assert_eq!(look(&mut watch, burst).changed(), None);
        }
        for second in 0..300 {
            assert_eq!(look(&mut watch, 3 + second % 3).changed(), None);
        }
        let (looks, changed) = until_changed(&mut watch, 0);
        assert!(looks <= 15 && changed.direction == Direction::Fell, "{looks}");
    }

    #[test]
    fn the_second_outage_is_found_as_soon_as_the_first() {
        let mut watch = after(800, 100);
        for _ in 0..3 {
            let (looks, _) = until_changed(&mut watch, 0);
            assert!(looks <= 6, "{looks}");
            for _ in 0..30 {
                look(&mut watch, 0);
            }
            for second in 0..180 {
                let state = look(&mut watch, 100 + second % 3);
                assert!(second < 70 || state.changed().is_none(), "{second}: {state:?}");
            }
        }
    }

    #[test]
    fn what_is_told_of_a_change_ends_with_it() {
        let mut watch = after(800, 100);
        until_changed(&mut watch, 0);
        for second in 0..40 {
            look(&mut watch, if second < 10 { 0 } else { 101 });
        }
        let changed = *look(&mut watch, 101).changed().unwrap();
        assert!(changed.since.of <= 20.0 && changed.since.rate() < changed.bound(), "{changed:?}");
    }

    #[test]
    fn nothing_is_not_taken_for_as_usual() {
        // All fail, and then nobody asks any more.
        let rule = LevelRule {
            usual: UsualRule { count_min: 0, of_min: 200.0, floor: 0.002 },
            falls: false,
            ..RULE
        };
        let mut watch = LevelWatch::new(rule);
        let mut look = |count, of| watch.add(Counted { count, of }, 1.0);
        assert!((0..800).all(|_| look(0, 100.0).changed().is_none()));
        assert!((0..10).any(|_| look(100, 100.0).changed().is_some()));
        assert!((0..500).all(|_| look(0, 0.0).changed().is_some()));
        // And then they do, and none fails.
        let over = (1..200).find(|_| look(0, 100.0).changed().is_none());
        assert!(over.is_some_and(|seconds| seconds <= 70), "{over:?}");
    }

    #[test]
    fn an_alarm_ends_when_the_level_is_back() {
        let mut watch = after(800, 100);
        until_changed(&mut watch, 400);
        let back = (1..200).find(|_| look(&mut watch, 101).changed().is_none());
        // For about a minute it is told.
        assert!((50..=70).contains(&back.unwrap()), "{back:?}");
    }

    #[test]
    fn a_level_that_stays_becomes_usual_and_its_end_is_a_change() {
        let mut watch = after(800, 100);
        until_changed(&mut watch, 400);
        let usual = (1..2_000).find(|n| look(&mut watch, 400 + n % 3).changed().is_none());
        assert!((640..=680).contains(&usual.unwrap()), "{usual:?}");
        let (looks, changed) = until_changed(&mut watch, 100);
        assert_eq!((changed.direction, looks <= 6), (Direction::Fell, true));
    }

    #[test]
    fn who_was_away_for_long_judges_nothing() {
        let mut watch = after(800, 100);
        for seconds in [3_600.0, -1.0, f64::NAN, f64::INFINITY] {
            let state = watch.add(Counted { count: 0, of: seconds }, seconds);
            assert_eq!(state.changed(), None, "{seconds}");
        }
        // A look that comes a little late has as much more to count.
        let state = watch.add(Counted { count: 1_000, of: 10.0 }, 10.0);
        assert_eq!(state.changed(), None);
    }

    /// The course of a day, four times as much at noon as at night, is no change.
    #[test]
    fn the_course_of_a_day_is_usual() {
        let mut watch = LevelWatch::new(RULE);
        for second in 0..86_400_u32 {
            let hour = std::f64::consts::TAU * f64::from(second) / 86_400.0;
            let count = (100.0 * (1.0 + 0.6 * hour.sin())).round() as u64;
            assert_eq!(look(&mut watch, count).changed(), None, "{second}");
        }
    }
}
