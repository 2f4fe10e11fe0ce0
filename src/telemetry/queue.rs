//! Counts of one version's runs, and of what waits for one.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use prometheus::{Histogram, IntCounter, IntGauge};

use crate::telemetry::ModelStatistics;

/// Declares reasons: an enum with all its members and their metric labels.
macro_rules! reasons {
    ($(#[$about:meta])* $Name:ident: $n:literal { $( $(#[$doc:meta])* $Variant:ident = $word:literal ),+ $(,)? }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $Name { $( $(#[$doc])* $Variant ),+ }

        impl $Name {
            /// Every reason, in the order of the declaration.
            pub const ALL: [Self; $n] = [$( Self::$Variant ),+];

            /// The metric label.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $( Self::$Variant => $word ),+ }
            }
        }
    };
}

reasons! {
    /// Why a request was not let into the queue.
    Refusal: 3 {
        /// Too many rows wait already.
        QueueFull = "queue_full",
        /// It would wait for longer than anybody should.
        QueueTime = "queue_time",
        /// Its deadline would pass before its answer.
        Deadline = "deadline",
    }
}

reasons! {
    /// Why a request left the queue without a run.
    Left: 2 {
        /// Its deadline passed, or would have while it ran.
        Late = "late",
        /// Its caller left.
        Cancelled = "cancelled",
    }
}

reasons! {
    /// Why the requests of a batch were run again, one by one.
    Split: 2 {
        /// The batch failed.
        Failed = "failed",
        /// An output did not have the batch's rows.
        Rows = "rows",
    }
}

/// Resolved handles for one version, whatever role it has: its requests are run
/// together in all of them.
pub struct QueueStats {
    pub(super) batch_rows: Histogram,
    pub(super) batch_requests: Histogram,
    pub(super) splits: [IntCounter; Split::ALL.len()],
    pub(super) refused: [IntCounter; Refusal::ALL.len()],
    pub(super) left: [IntCounter; Left::ALL.len()],
    pub(super) rows: IntGauge,
    /// The first dimension of what it takes is no batch.
    pub(super) no_batch: AtomicBool,
}

impl QueueStats {
    /// Counts one run: its rows, and the requests that they came from.
    #[expect(clippy::cast_precision_loss, reason = "counts")]
    pub fn ran(&self, rows: usize, requests: usize) {
        self.batch_rows.observe(rows as f64);
        self.batch_requests.observe(requests as f64);
    }

    /// Notes that the version takes no batch: a request is one inference, whatever
    /// its first dimension is.
    pub fn rows_are_no_batch(&self) {
        self.no_batch.store(true, Relaxed);
    }

    /// Adds what it counted to the statistics of its version.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "sums of counts")]
    pub(super) fn add_to(&self, statistics: &mut ModelStatistics) {
        let counted =
            if self.no_batch.load(Relaxed) { &self.batch_requests } else { &self.batch_rows };
        statistics.inference_count += counted.get_sample_sum() as u64;
        statistics.execution_count += counted.get_sample_count();
    }

    /// Counts a batch whose requests are run one by one.
    pub fn split(&self, reason: Split) {
        self.splits[reason as usize].inc();
    }

    /// Counts a request that was not let into the queue.
    pub fn refused(&self, reason: Refusal) {
        self.refused[reason as usize].inc();
    }

    /// Counts a request that left the queue without a run.
    pub fn left(&self, reason: Left) {
        self.left[reason as usize].inc();
    }

    /// So many rows wait more than before.
    pub fn waits(&self, rows: usize) {
        self.rows.add(i64::try_from(rows).unwrap_or(i64::MAX));
    }

    /// So many rows wait no more.
    pub fn waits_no_more(&self, rows: usize) {
        self.rows.sub(i64::try_from(rows).unwrap_or(i64::MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_index_their_counters() {
        let indices = |all: &[usize]| all.iter().enumerate().all(|(i, reason)| i == *reason);
        assert!(indices(&Refusal::ALL.map(|reason| reason as usize)));
        assert!(indices(&Left::ALL.map(|reason| reason as usize)));
        assert!(indices(&Split::ALL.map(|reason| reason as usize)));
    }
}
