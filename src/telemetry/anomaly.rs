//! Rows that are odd by what a version's profile says: counted, and the newest kept.
//!
//! Nothing here is of their values: who wants to see those has them captured, under the
//! rules for that.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU16, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::SystemTime;

use prometheus::IntCounterVec;

use crate::telemetry::Metrics;
use crate::telemetry::metrics::Declare;
use crate::types::{ModelName, Profile, RowRarity, Share, VersionId, WhyOdd};

/// How many of the newest odd rows are kept.
const KEPT_MAX: usize = 32;

/// What a version's odd rows are counted by.
#[derive(Default)]
pub(super) struct Anomalies {
    /// What is odd, in basis points of rows like the profile's; 0 looks at nothing.
    level: AtomicU16,
    /// Rows that were looked at.
    rows: AtomicU64,
    by_why: [AtomicU64; WhyOdd::ALL.len()],
    newest: Mutex<VecDeque<OddRow>>,
}

/// An odd row of an answered request.
#[derive(Clone, Debug, PartialEq)]
pub struct OddRow {
    /// When it was answered.
    pub at: SystemTime,
    /// The reply's prediction id.
    pub prediction_id: String,
    /// Which row of the request, from 0.
    pub row: usize,
    /// How odd it is: −log10 of the share of usual rows that are as odd, at most; 0 to 12.
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
    pub rows: usize,
    /// How many of them are odd.
    pub odd: usize,
    /// The oddest row, from 0.
    pub row: usize,
    /// How odd that is.
    pub judged: RowRarity,
    /// Which input makes it so, if it is one.
    pub input: Option<String>,
}

impl Anomalies {
    pub(super) fn set_level(&self, level: Share) {
        self.level.store(level.basis_points(), Relaxed);
    }

    /// The share of usual rows that may be called odd; `None` if nothing is looked at.
    pub(super) fn level(&self) -> Option<f64> {
        let basis_points = self.level.load(Relaxed);
        (basis_points > 0).then(|| f64::from(basis_points) / 10_000.0)
    }

    pub(super) fn looked_at(&self, rows: u64) {
        self.rows.fetch_add(rows, Relaxed);
    }

    /// An odd row. If another one is just being kept, it is only counted.
    pub(super) fn add(
        &self,
        profile: &Profile,
        prediction_id: &str,
        row: usize,
        judged: RowRarity,
    ) {
        let of_why = WhyOdd::ALL.iter().zip(&self.by_why).find(|(why, _)| **why == judged.why);
        if let Some((_, count)) = of_why {
            count.fetch_add(1, Relaxed);
        }
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
            row,
            score: judged.score(),
            why: judged.why,
            input: name(profile, &judged),
        });
    }

    /// What was kept is of another profile.
    pub(super) fn forget(&self) {
        self.newest.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(super) fn counts(&self) -> OddCounts {
        let mut counts = OddCounts { rows: self.rows.load(Relaxed), ..OddCounts::default() };
        for (count, own) in counts.by_why.iter_mut().zip(&self.by_why) {
            *count = own.load(Relaxed);
        }
        counts
    }

    /// The newest first.
    pub(super) fn newest(&self) -> Vec<OddRow> {
        let newest = self.newest.lock().unwrap_or_else(PoisonError::into_inner);
        newest.iter().rev().cloned().collect()
    }
}

/// What people call the input that makes a row odd.
pub(super) fn name(profile: &Profile, judged: &RowRarity) -> Option<String> {
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
