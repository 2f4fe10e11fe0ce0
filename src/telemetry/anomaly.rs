//! Rows that are odd by what a version's profile says: counted, and the newest kept.
//!
//! None of their values is kept: who wants to see those has them captured, under the rules
//! for that. Of a number beyond all of the profile's, its score would tell which it is; so
//! scores are kept in steps.

use std::collections::VecDeque;
use std::sync::atomic::{
    AtomicBool, AtomicU16, AtomicU64,
    Ordering::{Acquire, Relaxed, Release},
};
use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::SystemTime;

use prometheus::IntCounterVec;

use crate::telemetry::Metrics;
use crate::telemetry::metrics::Declare;
use crate::types::{ModelName, Profile, RowRarity, Share, VersionId, WhyOdd};

/// How many of the newest odd rows are kept.
const KEPT_MAX: usize = 32;
/// A step of their scores: a factor of three in how rare they are.
const SCORE_STEP: f64 = 0.5;

/// What a version's odd rows are counted by, whatever its profile.
#[derive(Default)]
pub(super) struct Anomalies {
    /// What is odd, in basis points of rows like the profile's; 0 looks at nothing.
    level: AtomicU16,
    /// Whether who asks may know.
    told: AtomicBool,
    total: Tally,
}

/// The odd rows by one profile at one level.
#[derive(Default)]
pub(super) struct OddLog {
    tally: Tally,
    newest: Mutex<VecDeque<OddRow>>,
}

/// Counts that only grow.
#[derive(Default)]
struct Tally {
    /// Rows that were looked at.
    rows: AtomicU64,
    by_why: [AtomicU64; WhyOdd::ALL.len()],
}

/// What the rows of one request come to.
pub(super) struct Looked {
    level: f64,
    counts: OddCounts,
    /// The oddest row.
    oddest: Option<(usize, RowRarity)>,
}

/// An answered request with odd rows, by the oddest of them.
#[derive(Clone, Debug, PartialEq)]
pub struct OddRow {
    /// When it was answered.
    pub at: SystemTime,
    /// The reply's prediction id.
    pub prediction_id: String,
    /// How many of its rows are odd.
    pub odd: u64,
    /// The oddest one, from 0.
    pub row: usize,
    /// How odd that is: −log10 of the share of usual rows that are as odd, at most; 0 to 12 in
    /// steps of a half, rounded down.
    pub score: f64,
    /// What makes it odd.
    pub why: WhyOdd,
    /// Which input, if it is one.
    pub input: Option<String>,
}

/// What was counted so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OddCounts {
    /// Rows that were looked at.
    pub rows: u64,
    /// Odd ones, in the order of [`WhyOdd::ALL`].
    pub by_why: [u64; WhyOdd::ALL.len()],
}

impl OddCounts {
    /// All odd ones.
    #[must_use]
    pub fn odd(&self) -> u64 {
        self.by_why.iter().fold(0, |sum, n| sum.saturating_add(*n))
    }

    /// What came since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut by_why = self.by_why;
        for (now, before) in by_why.iter_mut().zip(before.by_why) {
            *now = now.saturating_sub(before);
        }
        Self { rows: self.rows.saturating_sub(before.rows), by_why }
    }
}

/// How odd a request's rows are.
#[derive(Clone, Debug, PartialEq)]
pub struct Oddness {
    /// Rows that were looked at: all of few.
    pub rows: u64,
    /// How many of them are odd.
    pub odd: u64,
    /// The oddest row, from 0.
    pub row: usize,
    /// How odd that is.
    pub judged: RowRarity,
    /// Which input makes it so, if it is one.
    pub input: Option<String>,
}

impl Looked {
    pub(super) fn add(&mut self, row: usize, judged: RowRarity) {
        self.counts.rows += 1;
        if judged.share <= self.level {
            let counts = WhyOdd::ALL.iter().zip(&mut self.counts.by_why);
            counts.filter(|(why, _)| **why == judged.why).for_each(|(_, count)| *count += 1);
        }
        if self.oddest.is_none_or(|(_, oddest)| judged.share < oddest.share) {
            self.oddest = Some((row, judged));
        }
    }

    /// What is told of it; `None` without a row.
    pub(super) fn told(&self, profile: &Profile) -> Option<Oddness> {
        let (row, judged) = self.oddest?;
        let input = name(profile, &judged);
        Some(Oddness { rows: self.counts.rows, odd: self.counts.odd(), row, judged, input })
    }
}

impl Tally {
    fn add(&self, more: &OddCounts) {
        self.rows.fetch_add(more.rows, Relaxed);
        let odd = self.by_why.iter().zip(more.by_why).filter(|(_, rows)| *rows > 0);
        // Behind the rows: nobody sees more odd rows than rows.
        for (count, rows) in odd {
            count.fetch_add(rows, Release);
        }
    }

    fn clear(&self) {
        self.by_why.iter().chain([&self.rows]).for_each(|count| count.store(0, Relaxed));
    }

    fn read(&self) -> OddCounts {
        let by_why = std::array::from_fn(|why| self.by_why[why].load(Acquire));
        OddCounts { rows: self.rows.load(Relaxed), by_why }
    }
}

impl Anomalies {
    /// What is odd from now on, and whether who asks may know; whether that is another
    /// level than before.
    pub(super) fn settle(&self, level: Share, told: bool) -> bool {
        self.told.store(told, Relaxed);
        self.level.swap(level.basis_points(), Relaxed) != level.basis_points()
    }

    /// The share of usual rows that may be called odd; `None` if nothing is looked at.
    pub(super) fn level(&self) -> Option<f64> {
        let basis_points = self.level.load(Relaxed);
        (basis_points > 0).then(|| f64::from(basis_points) / 10_000.0)
    }

    /// Whether who asks may know.
    pub(super) fn may_be_told(&self) -> bool {
        self.told.load(Relaxed)
    }

    /// For a request; `None` if nothing is looked at.
    pub(super) fn look(&self) -> Option<Looked> {
        let level = self.level()?;
        Some(Looked { level, counts: OddCounts::default(), oddest: None })
    }

    /// Counts what a request's rows came to.
    pub(super) fn count(&self, looked: &Looked) {
        self.total.add(&looked.counts);
    }

    /// Everything that was counted, by whichever profile.
    pub(super) fn counts(&self) -> OddCounts {
        self.total.read()
    }
}

impl OddLog {
    /// Counts a request, and keeps its oddest row if that is odd. If another one is just
    /// being kept, it is only counted.
    pub(super) fn add(&self, profile: &Profile, prediction_id: &str, looked: &Looked) {
        self.tally.add(&looked.counts);
        let odd = looked.counts.odd();
        let Some((row, judged)) = looked.oddest.filter(|_| odd > 0) else { return };
        let mut newest = match self.newest.try_lock() {
            Ok(newest) => newest,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        if newest.len() == KEPT_MAX {
            newest.pop_front();
        }
        newest.push_back(OddRow {
            at: SystemTime::now(),
            prediction_id: prediction_id.to_owned(),
            odd,
            row,
            score: (judged.score() / SCORE_STEP).floor() * SCORE_STEP,
            why: judged.why,
            input: name(profile, &judged),
        });
    }

    /// Begins anew, at another level.
    pub(super) fn forget(&self) {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clear();
        self.tally.clear();
    }

    pub(super) fn counts(&self) -> OddCounts {
        self.tally.read()
    }

    /// The newest first.
    pub(super) fn newest(&self) -> Vec<OddRow> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.iter().rev().cloned().collect()
    }
}

/// What people call the input that makes a row odd.
fn name(profile: &Profile, judged: &RowRarity) -> Option<String> {
    Some(profile.inputs.get(judged.input?)?.name.clone())
}

const VERSION: &[&str] = &["model", "version"];
const REASON: &[&str] = &["model", "version", "why"];

/// The families.
pub(super) struct AnomalyMetrics {
    rows: IntCounterVec,
    odd: IntCounterVec,
}

impl AnomalyMetrics {
    pub(super) fn declare(d: &Declare<'_>) -> Self {
        Self {
            rows: d.counters(
                "foreshadow_anomaly_checked_rows_total",
                "Rows whose oddness by the version's profile was looked at.",
                VERSION,
            ),
            odd: d.counters(
                "foreshadow_anomalies_total",
                "Rows that were odd by the version's profile, by what makes them so.",
                REASON,
            ),
        }
    }
}

impl Metrics {
    /// Adds what came of a version's rows.
    pub fn count_odd(&self, model: &ModelName, version: VersionId, more: &OddCounts) {
        let (model, version, families) =
            (model.as_str(), version.to_string(), &self.drift.anomalies);
        if more.rows > 0 {
            families.rows.with_label_values(&[model, &version]).inc_by(more.rows);
        }
        let reasons = WhyOdd::ALL.iter().zip(more.by_why).filter(|(_, rows)| *rows > 0);
        for (why, rows) in reasons {
            families.odd.with_label_values(&[model, &version, why.as_str()]).inc_by(rows);
        }
    }

    /// Shows nothing of a version's odd rows any more.
    pub fn remove_anomalies(&self, model: &ModelName, version: VersionId) {
        for family in [&self.drift.anomalies.rows, &self.drift.anomalies.odd] {
            self.remove(family, model.as_str(), Some(&version.to_string()));
        }
    }
}
