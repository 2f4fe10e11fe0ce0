//! Whether a request may wait for an engine thread: what cannot be served in
//! time is refused at once, before it costs anything. Pure.

use std::time::Duration;

use crate::telemetry::Refusal;

/// A queue at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Backlog {
    /// Rows that wait.
    pub(super) rows: usize,
    /// Time until a thread is free for what comes now; zero while one is idle.
    pub(super) wait: Duration,
}

/// How much may wait, whatever the deadlines are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct QueueLimits {
    /// Rows.
    pub(super) rows_max: usize,
    /// How long one may have to wait; longer for those that run for longer
    /// themselves.
    pub(super) time_max: Duration,
}

/// The part of the time to the deadline that waiting and running may be
/// expected to take. What is admitted to the last moment is late half of the
/// time, and whatever ran of it ran in vain; and the client's clock began earlier
/// than ours.
const DEADLINE_PART: f64 = 2.0 / 3.0;

/// Decides about a request of `rows` rows that should run for `own` and has
/// `left` until its deadline.
///
/// Where nobody waits and a thread is free, everything is admitted: an estimate
/// that is too high would never be corrected otherwise.
pub(super) fn admit(
    backlog: Backlog,
    limits: QueueLimits,
    rows: usize,
    own: Duration,
    left: Option<Duration>,
) -> Result<(), Refusal> {
    if backlog.rows > 0 && backlog.rows.saturating_add(rows) > limits.rows_max {
        return Err(Refusal::QueueFull);
    }
    if backlog.wait.is_zero() {
        return Ok(());
    }
    if backlog.wait > limits.time_max.max(own) {
        return Err(Refusal::QueueTime);
    }
    let late = |left: Duration| backlog.wait.saturating_add(own) > left.mul_f64(DEADLINE_PART);
    if left.is_some_and(late) { Err(Refusal::Deadline) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(n: u64) -> Duration {
        Duration::from_millis(n)
    }

    #[test]
    fn a_table_of_backlogs() {
        let limits = QueueLimits { rows_max: 8, time_max: ms(100) };
        let cases = [
            // (rows, wait), rows, own, left
            ("idle", (0, 0), 1, 5, None, Ok(())),
            ("idle, however large", (0, 0), 100, 5, None, Ok(())),
            ("idle, however slow it is thought to be", (0, 0), 1, 50, Some(10), Ok(())),
            ("to the limit", (7, 10), 1, 5, None, Ok(())),
            ("over the limit", (7, 10), 2, 5, None, Err(Refusal::QueueFull)),
            ("large, behind one that runs", (0, 10), 100, 5, None, Ok(())),
            ("waits as long as anybody may", (1, 100), 1, 5, None, Ok(())),
            ("waits for too long", (1, 101), 1, 5, None, Err(Refusal::QueueTime)),
            ("runs for longer than it waits", (1, 300), 1, 300, None, Ok(())),
            // Two thirds of 20 ms.
            ("in time", (1, 8), 1, 5, Some(20), Ok(())),
            ("too late", (1, 9), 1, 5, Some(20), Err(Refusal::Deadline)),
            ("no time left", (1, 1), 1, 5, Some(0), Err(Refusal::Deadline)),
            ("both", (8, 500), 1, 5, Some(20), Err(Refusal::QueueFull)),
        ];
        for (name, (waiting, wait), rows, own, left, expected) in cases {
            let backlog = Backlog { rows: waiting, wait: ms(wait) };
            let got = admit(backlog, limits, rows, ms(own), left.map(ms));
            assert_eq!(got, expected, "{name}");
        }
    }
}
