//! What the judge counts by: champion and canary, side by side, from the moment
//! that a split is published until the next one.
//!
//! A plan with a canary has a [`Recorder`]; a request counts in the one of the
//! plan that assigned it, so that a changed weight begins new counts, and what
//! was in flight meanwhile still counts where it belongs. What must be the same
//! over a whole rollout (which keys had which event, what is slow) stands in
//! the [`Yardstick`] that its recorders share.
//!
//! Everything is an atomic addition; nothing is locked, nothing waits.

mod keys;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::error::{Error, ErrorCode, Result};
use crate::types::{Data, Share, Tensor};
use keys::KeySet;

/// A kind of event that a rollout is judged by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Event {
    /// The version or the gateway failed, or was too late.
    Error,
    /// The version refused what it was given.
    Refusal,
    /// An answer with a NaN or an infinity in it.
    Nonfinite,
    /// Slower than the champion's median was when the yardstick was set.
    SlowP50,
    /// Slower than the champion's 99th percentile was then.
    SlowP99,
    /// Slower than an absolute time.
    TooSlow,
}

impl Event {
    /// Every kind, in the order of the declaration.
    pub const ALL: [Self; 6] =
        [Self::Error, Self::Refusal, Self::Nonfinite, Self::SlowP50, Self::SlowP99, Self::TooSlow];

    /// What a failure is, as an event. A request that its client gave up is none.
    #[must_use]
    pub const fn of(code: ErrorCode) -> Option<Self> {
        match code {
            ErrorCode::Cancelled => None,
            ErrorCode::Internal
            | ErrorCode::Unavailable
            | ErrorCode::DeadlineExceeded
            | ErrorCode::Unsupported => Some(Self::Error),
            _ => Some(Self::Refusal),
        }
    }
}

/// How many kinds there are.
const EVENTS: usize = Event::ALL.len();
/// Bins of the scores: the sign, the exponent and three bits of the mantissa.
pub const SCORE_BINS: usize = 1 << 12;
/// How many numbers of an output are looked at for NaN and infinity.
const LOOKED_AT_MAX: usize = 256;
/// "There is no such line yet."
const NO_LINE: u64 = u64::MAX;

/// What stays the same over a rollout.
pub struct Yardstick {
    /// Which keys had which event.
    keys: [KeySet; EVENTS],
    /// Nanoseconds above which a request is slow, by `SlowP50`, `SlowP99`, `TooSlow`.
    lines: [AtomicU64; 3],
    /// Whether the scores of the answers are counted.
    scores: AtomicBool,
}

impl Default for Yardstick {
    fn default() -> Self {
        Self {
            keys: Default::default(),
            lines: std::array::from_fn(|_| AtomicU64::new(NO_LINE)),
            scores: AtomicBool::new(false),
        }
    }
}

impl Yardstick {
    /// Draws the line of a kind of slowness; for other kinds there is none. What
    /// was counted before stays as it was counted.
    pub fn set_line(&self, event: Event, line: Option<Duration>) {
        let nanos = line.map_or(NO_LINE, nanos);
        if let Some(slot) = line_of(event) {
            self.lines[slot].store(nanos, Relaxed);
        }
    }

    /// Whether the scores of the answers are counted from now on.
    pub fn want_scores(&self, wanted: bool) {
        self.scores.store(wanted, Relaxed);
    }

    /// The line of a kind of slowness.
    #[must_use]
    pub fn line(&self, event: Event) -> Option<Duration> {
        let nanos = self.lines[line_of(event)?].load(Relaxed);
        (nanos != NO_LINE).then(|| Duration::from_nanos(nanos))
    }

    /// Events that were not counted because their keys were taken for others', by
    /// estimate.
    #[must_use]
    pub fn lost(&self, event: Event) -> u64 {
        self.keys[event as usize].lost()
    }
}

const fn line_of(event: Event) -> Option<usize> {
    match event {
        Event::SlowP50 => Some(0),
        Event::SlowP99 => Some(1),
        Event::TooSlow => Some(2),
        Event::Error | Event::Refusal | Event::Nonfinite => None,
    }
}

/// An arm of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arm {
    /// Answers what the canary does not.
    Champion,
    /// Answers its share.
    Canary,
}

/// Counts of one arm, on cache lines of their own.
#[derive(Default)]
#[repr(align(128))]
struct Counts {
    assigned: AtomicU64,
    done: AtomicU64,
    /// Events of keys that had none of this kind before.
    events: [AtomicU64; EVENTS],
    /// All events.
    all: [AtomicU64; EVENTS],
    scores: OnceLock<Box<[AtomicU64]>>,
}

/// Counts of one split. See the module.
pub struct Recorder {
    share: Share,
    yardstick: Arc<Yardstick>,
    seen: KeySet,
    /// Whose score was counted.
    scored: KeySet,
    champion: Counts,
    canary: Counts,
}

impl Recorder {
    /// Counts for a canary with this share.
    #[must_use]
    pub fn new(share: Share, yardstick: Arc<Yardstick>) -> Self {
        Self {
            share,
            yardstick,
            seen: KeySet::default(),
            scored: KeySet::default(),
            champion: Counts::default(),
            canary: Counts::default(),
        }
    }

    /// Which keys were counted, to be kept over a restart; `None` if none has come.
    #[must_use]
    pub fn keys(&self) -> Option<Vec<u8>> {
        if !self.seen.is_used() {
            return None;
        }
        let mut written = self.share.basis_points().to_le_bytes().to_vec();
        self.seen.write(&mut written);
        self.yardstick.keys.iter().for_each(|set| set.write(&mut written));
        self.scored.write(&mut written);
        Some(written)
    }

    /// Takes those for counted that were before a restart. Who was seen counts for the
    /// same share only, who had which event for the whole rollout.
    ///
    /// # Errors
    /// It was not written by [`Recorder::keys`]; some of it may have been taken.
    pub fn merge_keys(&self, written: &[u8]) -> Result<()> {
        let mut rest = written;
        let mut merged = || -> Option<()> {
            let (share, after) = rest.split_first_chunk()?;
            rest = after;
            let same = u16::from_le_bytes(*share) == self.share.basis_points();
            let others = KeySet::default();
            (if same { &self.seen } else { &others }).merge(&mut rest)?;
            self.yardstick.keys.iter().try_for_each(|set| set.merge(&mut rest))?;
            // Nobody noted these at first.
            if !rest.is_empty() {
                (if same { &self.scored } else { &others }).merge(&mut rest)?;
            }
            rest.is_empty().then_some(())
        };
        merged().ok_or_else(|| Error::internal("the keys that were kept cannot be read"))
    }

    /// Takes nobody for counted any more.
    pub fn forget_keys(&self) {
        self.seen.clear();
        self.scored.clear();
        self.yardstick.keys.iter().for_each(KeySet::clear);
    }

    /// The canary's share, as it was designed.
    #[must_use]
    pub const fn share(&self) -> Share {
        self.share
    }

    /// What its events are measured by.
    #[must_use]
    pub const fn yardstick(&self) -> &Arc<Yardstick> {
        &self.yardstick
    }

    const fn counts(&self, arm: Arm) -> &Counts {
        match arm {
            Arm::Champion => &self.champion,
            Arm::Canary => &self.canary,
        }
    }

    /// The split gave a request to an arm. A key counts once.
    pub fn assigned(&self, arm: Arm, key: Option<u64>) {
        if key.is_none_or(|key| self.seen.insert(key)) {
            self.counts(arm).assigned.fetch_add(1, Relaxed);
        }
    }

    /// A request was answered: after so long in the queue and the engine, with
    /// these outputs.
    pub fn answered(&self, arm: Arm, key: Option<u64>, service: Duration, outputs: &[Tensor]) {
        let counts = self.counts(arm);
        counts.done.fetch_add(1, Relaxed);
        self.slow(counts, key, service);
        if outputs.iter().any(has_nonfinite) {
            self.event(counts, Event::Nonfinite, key);
        } else if self.yardstick.scores.load(Relaxed)
            && let Some(score) = score(outputs)
            // A key's answers are much alike: one of them is what it adds.
            && key.is_none_or(|key| self.scored.insert(key))
        {
            let bins =
                counts.scores.get_or_init(|| (0..SCORE_BINS).map(|_| AtomicU64::new(0)).collect());
            if let Some(bin) = bins.get(score_bin(score)) {
                bin.fetch_add(1, Relaxed);
            }
        }
    }

    /// A client left that had waited for so long. It would have waited longer: what
    /// lies above a line already is slow, and what does not says nothing. Else a
    /// version that hangs would be judged by its quick answers alone.
    pub fn left(&self, arm: Arm, key: Option<u64>, waited: Duration) {
        let counts = self.counts(arm);
        if self.slow(counts, key, waited) {
            counts.done.fetch_add(1, Relaxed);
        }
    }

    /// Counts what lies above the lines; whether anything does.
    fn slow(&self, counts: &Counts, key: Option<u64>, time: Duration) -> bool {
        let (nanos, mut any) = (nanos(time), false);
        for event in [Event::SlowP50, Event::SlowP99, Event::TooSlow] {
            let line = line_of(event).map(|slot| self.yardstick.lines[slot].load(Relaxed));
            if line.is_some_and(|line| nanos > line && line != NO_LINE) {
                self.event(counts, event, key);
                any = true;
            }
        }
        any
    }

    /// A request failed.
    pub fn failed(&self, arm: Arm, key: Option<u64>, code: ErrorCode) {
        let counts = self.counts(arm);
        let Some(event) = Event::of(code) else { return };
        counts.done.fetch_add(1, Relaxed);
        self.event(counts, event, key);
    }

    fn event(&self, counts: &Counts, event: Event, key: Option<u64>) {
        counts.all[event as usize].fetch_add(1, Relaxed);
        if key.is_none_or(|key| self.yardstick.keys[event as usize].insert(key)) {
            counts.events[event as usize].fetch_add(1, Relaxed);
        }
    }

    /// The counts so far.
    #[must_use]
    pub fn read(&self) -> Recorded {
        let arm = |counts: &Counts| ArmRecord {
            assigned: counts.assigned.load(Relaxed),
            // Events before what they are events of: never more than those.
            events: std::array::from_fn(|i| counts.events[i].load(Relaxed)),
            all: std::array::from_fn(|i| counts.all[i].load(Relaxed)),
            done: counts.done.load(Relaxed),
        };
        Recorded { champion: arm(&self.champion), canary: arm(&self.canary) }
    }

    /// Answers by score, champion and canary; empty before the first.
    #[must_use]
    pub fn scores(&self) -> [Vec<u64>; 2] {
        [&self.champion, &self.canary].map(|counts| {
            let bins = counts.scores.get().map(|bins| &bins[..]).unwrap_or_default();
            bins.iter().map(|bin| bin.load(Relaxed)).collect()
        })
    }
}

/// Counts of both arms.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Recorded {
    /// The champion's.
    pub champion: ArmRecord,
    /// The canary's.
    pub canary: ArmRecord,
}

impl Recorded {
    /// What came since.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            champion: self.champion.since(&before.champion),
            canary: self.canary.since(&before.canary),
        }
    }

    /// With the arms exchanged.
    #[must_use]
    pub const fn exchanged(self) -> Self {
        Self { champion: self.canary, canary: self.champion }
    }
}

/// Counts of one arm.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ArmRecord {
    /// Keys that were given to it for the first time, and requests without one.
    pub assigned: u64,
    /// Requests that came to an end, but for those that their clients gave up.
    pub done: u64,
    events: [u64; EVENTS],
    all: [u64; EVENTS],
}

impl ArmRecord {
    /// Events of a kind, each key's counted once.
    #[must_use]
    pub const fn events(&self, event: Event) -> u64 {
        self.events[event as usize]
    }

    /// Events of a kind, all of them.
    #[must_use]
    pub const fn all(&self, event: Event) -> u64 {
        self.all[event as usize]
    }

    fn since(&self, before: &Self) -> Self {
        let rest = |now: [u64; EVENTS], before: [u64; EVENTS]| {
            std::array::from_fn(|i| now[i].saturating_sub(before[i]))
        };
        Self {
            assigned: self.assigned.saturating_sub(before.assigned),
            done: self.done.saturating_sub(before.done),
            events: rest(self.events, before.events),
            all: rest(self.all, before.all),
        }
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Whether one of the first numbers is none.
fn has_nonfinite(tensor: &Tensor) -> bool {
    match tensor.data() {
        Data::Fp32(values) => values.iter().take(LOOKED_AT_MAX).any(|x| !x.is_finite()),
        Data::Fp64(values) => values.iter().take(LOOKED_AT_MAX).any(|x| !x.is_finite()),
        Data::Fp16(values) => values.iter().take(LOOKED_AT_MAX).any(|x| !x.is_finite()),
        _ => false,
    }
}

/// The number of an answer whose distribution is looked at: of the first output
/// with fractions, the last one of the first row; in a classifier with two
/// classes that is the probability of the second. Without such an output, the
/// first number there is.
fn score(outputs: &[Tensor]) -> Option<f64> {
    let fractions = outputs.iter().find(|tensor| tensor.datatype().is_float());
    match fractions {
        Some(tensor) => {
            let columns = tensor.data().len() / tensor.rows().max(1);
            tensor.data().as_f64(columns.checked_sub(1)?)
        }
        None => outputs.iter().find_map(|tensor| tensor.data().as_f64(0)),
    }
}

/// The bin of a score: monotone, and at most an eighth of the score wide.
#[expect(clippy::cast_possible_truncation, reason = "to single precision, and 12 of 32 bits")]
fn score_bin(score: f64) -> usize {
    let bits = (score as f32).to_bits();
    let ordered = if bits >> 31 == 1 { !bits } else { bits | 1 << 31 };
    (ordered >> 20) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(values: Vec<f32>) -> Vec<Tensor> {
        vec![Tensor::new("y", vec![1, values.len()], Data::Fp32(values)).unwrap()]
    }

    fn recorder() -> Recorder {
        Recorder::new(Share::from_percent(5.0).unwrap(), Arc::default())
    }

    #[test]
    fn a_key_counts_once_for_each_kind_of_event() {
        let recorder = recorder();
        for _ in 0..3 {
            recorder.assigned(Arm::Canary, Some(7));
            recorder.failed(Arm::Canary, Some(7), ErrorCode::Internal);
            recorder.failed(Arm::Champion, None, ErrorCode::Unavailable);
        }
        recorder.failed(Arm::Canary, Some(7), ErrorCode::InvalidArgument);
        recorder.failed(Arm::Canary, Some(7), ErrorCode::Cancelled);
        let Recorded { champion, canary } = recorder.read();
        assert_eq!((canary.assigned, canary.done), (1, 4));
        assert_eq!((canary.events(Event::Error), canary.all(Event::Error)), (1, 3));
        assert_eq!(canary.events(Event::Refusal), 1);
        assert_eq!((champion.events(Event::Error), champion.all(Event::Error)), (3, 3));
    }

    #[test]
    fn the_next_split_of_a_rollout_knows_the_keys_of_the_last() {
        let first = recorder();
        first.failed(Arm::Canary, Some(7), ErrorCode::Internal);
        let next = Recorder::new(Share::ALL, Arc::clone(first.yardstick()));
        next.assigned(Arm::Canary, Some(7));
        next.failed(Arm::Canary, Some(7), ErrorCode::Internal);
        let canary = next.read().canary;
        assert_eq!(
            (canary.assigned, canary.events(Event::Error), canary.all(Event::Error)),
            (1, 0, 1)
        );
        assert_eq!(next.yardstick().lost(Event::Error), 0);
    }

    #[test]
    fn slow_is_what_lies_above_a_line_that_was_drawn() {
        let recorder = recorder();
        let slow = || recorder.read().champion.events(Event::SlowP99);
        let answered = |ms| {
            recorder.answered(Arm::Champion, None, Duration::from_millis(ms), &output(vec![0.5]));
        };
        answered(100);
        assert_eq!(slow(), 0);
        recorder.yardstick().set_line(Event::SlowP99, Some(Duration::from_millis(10)));
        answered(10);
        assert_eq!(slow(), 0);
        answered(11);
        assert_eq!(slow(), 1);
        assert_eq!(recorder.yardstick().line(Event::SlowP99), Some(Duration::from_millis(10)));
        assert_eq!(recorder.yardstick().line(Event::Error), None);
        assert_eq!(recorder.read().champion.done, 3);
    }

    #[test]
    fn who_was_counted_is_known_after_a_restart() {
        let before = recorder();
        assert_eq!(before.keys(), None);
        for key in 0..100_u64 {
            before.assigned(Arm::Canary, Some(key));
            before.failed(Arm::Canary, Some(key), ErrorCode::Internal);
        }
        let kept = before.keys().unwrap();
        let seen = |after: &Recorder| {
            for key in 0..101_u64 {
                after.assigned(Arm::Canary, Some(key));
                after.failed(Arm::Canary, Some(key), ErrorCode::Internal);
            }
            let canary = after.read().canary;
            (canary.assigned, canary.events(Event::Error))
        };
        let after = recorder();
        after.merge_keys(&kept).unwrap();
        assert_eq!(seen(&after), (1, 1));
        // At another share everybody is assigned anew; who erred has erred.
        let other = Recorder::new(Share::from_percent(50.0).unwrap(), Arc::default());
        other.merge_keys(&kept).unwrap();
        assert_eq!(seen(&other), (101, 1));
        other.forget_keys();
        assert_eq!(seen(&other), (202, 102));
        for bad in [&b""[..], &kept[..kept.len() - 1], &[&kept[..], b"1"].concat()] {
            assert!(recorder().merge_keys(bad).is_err());
        }
    }

    #[test]
    fn a_client_that_left_shows_what_was_slow_already() {
        let recorder = recorder();
        let left = |ms| recorder.left(Arm::Canary, None, Duration::from_millis(ms));
        let counted = || {
            let canary = recorder.read().canary;
            (canary.done, canary.events(Event::SlowP50), canary.events(Event::SlowP99))
        };
        left(10_000);
        assert_eq!(counted(), (0, 0, 0));
        recorder.yardstick().set_line(Event::SlowP50, Some(Duration::from_millis(10)));
        recorder.yardstick().set_line(Event::SlowP99, Some(Duration::from_millis(100)));
        left(10);
        assert_eq!(counted(), (0, 0, 0));
        left(50);
        assert_eq!(counted(), (1, 1, 0));
        left(2_000);
        assert_eq!(counted(), (2, 2, 1));
    }

    #[test]
    fn scores_and_what_is_no_number_are_counted() {
        let recorder = recorder();
        let answered = |values| {
            recorder.answered(Arm::Canary, None, Duration::ZERO, &output(values));
        };
        answered(vec![0.25, 0.75]);
        assert_eq!(recorder.scores(), [Vec::<u64>::new(), Vec::new()], "nobody wants them");
        recorder.yardstick().want_scores(true);
        answered(vec![0.25, 0.75]);
        answered(vec![f32::NAN, 0.75]);
        let [champion, canary] = recorder.scores();
        assert!(champion.is_empty());
        assert_eq!(canary[score_bin(0.75)], 1);
        assert_eq!(canary.iter().sum::<u64>(), 1);
        assert_eq!(recorder.read().canary.events(Event::Nonfinite), 1);
        for _ in 0..3 {
            recorder.answered(Arm::Champion, Some(7), Duration::ZERO, &output(vec![0.5]));
        }
        assert_eq!(recorder.scores()[0].iter().sum::<u64>(), 1, "a key counts once");
        let values = [f64::MIN, -2.0, -0.5, -0.0, 0.0, 1e-9, 0.5, 0.9, 1.0, f64::MAX];
        assert!(values.windows(2).all(|pair| score_bin(pair[0]) <= score_bin(pair[1])));
        assert!(score_bin(f64::MAX) < SCORE_BINS && score_bin(f64::NEG_INFINITY) < SCORE_BINS);
    }

    #[test]
    fn what_came_since_is_the_difference() {
        let recorder = recorder();
        recorder.assigned(Arm::Champion, None);
        let before = recorder.read();
        recorder.failed(Arm::Champion, None, ErrorCode::Internal);
        let since = recorder.read().since(&before);
        assert_eq!((since.champion.assigned, since.champion.done), (0, 1));
        assert_eq!(since.exchanged().canary.events(Event::Error), 1);
    }
}
