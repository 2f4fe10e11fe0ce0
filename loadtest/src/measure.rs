//! What one run counts: histograms and tallies of one thread, and the few
//! figures that the progress line reads while it runs.
//!
//! Every figure is bounded: histograms have a fixed range, the table of who
//! answered has a last row for all others.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use hdrhistogram::Histogram;
use hyper::header::HeaderValue;
use serde::Serialize;

use crate::client::{Failure, Reply};
use crate::timeline::Timeline;

/// Longest latency that is told apart; longer ones are recorded as this.
const LONGEST: Duration = Duration::from_secs(600);
/// Rows of the table of who answered; further ones share the row `other`.
const ANSWERERS_MAX: usize = 64;
/// Longest version or role taken from a reply, in bytes.
const LABEL_BYTES_MAX: usize = 64;

/// Requests that got no usable reply, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Errors {
    /// No connection could be opened.
    pub connect: u64,
    /// No complete reply within the time limit.
    pub timeout: u64,
    /// The connection ended, or spoke something other than HTTP.
    pub closed: u64,
    /// A complete reply that was not 2xx.
    pub status: u64,
}

impl Errors {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.connect + self.timeout + self.closed + self.status
    }
}

/// Who answered, by the reply's headers, and how often.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Answerer {
    /// `x-model-version`, or `-`.
    pub version: String,
    /// `x-model-role`, or `-`.
    pub role: String,
    /// 2xx replies.
    pub requests: u64,
}

/// Refusals (429 and 503), which tell a client to come back later.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Refused {
    /// All of them.
    pub total: u64,
    /// Those that say when, by `Retry-After`.
    pub with_retry_after: u64,
    /// The longest such wait, seconds.
    pub retry_after_s_max: u64,
}

/// How many replies had this status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StatusCount {
    /// The HTTP status.
    pub status: u16,
    /// Replies.
    pub replies: u64,
}

/// Everything that one thread measured; several merge into one.
#[derive(Clone, Debug)]
pub struct Measure {
    /// Intended send time to last byte, ns: free of coordinated omission.
    pub latency: Histogram<u64>,
    /// Actual send to last byte, ns.
    pub service: Histogram<u64>,
    /// How late the schedule itself was, ns.
    pub lag: Histogram<u64>,
    /// Requests that came due in the measured window.
    pub scheduled: u64,
    /// Requests that the full queue refused.
    pub not_sent: u64,
    /// Requests still waiting or in flight when the run ended.
    pub unfinished: u64,
    /// Replies of each class: `[1xx, 2xx, 3xx, 4xx, 5xx]`.
    pub statuses: [u64; 5],
    /// Replies by status, in the order in which they came up.
    pub codes: Vec<StatusCount>,
    /// Replies that said to come back later.
    pub refused: Refused,
    /// Actual send to last byte of every complete reply that was not 2xx, ns.
    pub refusal: Histogram<u64>,
    /// Latencies over time.
    pub timeline: Timeline,
    /// Requests without a usable reply.
    pub errors: Errors,
    /// Who gave the 2xx replies.
    pub answerers: Vec<Answerer>,
    /// Bytes of the bodies of all complete replies.
    pub body_bytes: u64,
}

impl Default for Measure {
    fn default() -> Self {
        Self {
            latency: histogram(),
            service: histogram(),
            lag: histogram(),
            scheduled: 0,
            not_sent: 0,
            unfinished: 0,
            statuses: [0; 5],
            codes: Vec::new(),
            refused: Refused::default(),
            refusal: histogram(),
            timeline: Timeline::default(),
            errors: Errors::default(),
            answerers: Vec::new(),
            body_bytes: 0,
        }
    }
}

impl Measure {
    /// A request came due and was handled this much later.
    pub fn came_due(&mut self, lag: Duration) {
        self.scheduled += 1;
        self.lag.saturating_record(nanos(lag));
    }

    /// A request was sent and this is what became of it.
    ///
    /// `at` is when it was due, from the start of the measured window.
    ///
    /// Only 2xx replies and timeouts enter the histograms: a fast refusal would
    /// make a failing server look quick, and a timeout that was left out would
    /// make a hanging one look healthy. A timeout's time is a lower bound.
    pub fn finished(
        &mut self,
        result: &Result<Reply, Failure>,
        at: Duration,
        latency: Duration,
        service: Duration,
    ) {
        let counts = match result {
            Ok(reply) => self.replied(reply, service),
            Err(failure) => self.failed(*failure),
        };
        self.timeline.finished(at, counts.then_some(latency), result.is_ok() && counts);
        if counts {
            self.latency.saturating_record(nanos(latency));
            self.service.saturating_record(nanos(service));
        }
    }

    /// The run ended with this request, due `age` ago, unanswered: its latency
    /// is at least that.
    pub fn left_over(&mut self, age: Duration) {
        self.unfinished += 1;
        self.latency.saturating_record(nanos(age));
    }

    /// Adds another thread's figures to these.
    pub fn merge(&mut self, other: &Self) {
        self.latency += &other.latency;
        self.service += &other.service;
        self.lag += &other.lag;
        self.refusal += &other.refusal;
        self.timeline.merge(&other.timeline);
        self.refused.total += other.refused.total;
        self.refused.with_retry_after += other.refused.with_retry_after;
        self.refused.retry_after_s_max =
            self.refused.retry_after_s_max.max(other.refused.retry_after_s_max);
        for code in &other.codes {
            self.coded(code.status, code.replies);
        }
        self.scheduled += other.scheduled;
        self.not_sent += other.not_sent;
        self.unfinished += other.unfinished;
        for (sum, part) in self.statuses.iter_mut().zip(other.statuses) {
            *sum += part;
        }
        self.errors.connect += other.errors.connect;
        self.errors.timeout += other.errors.timeout;
        self.errors.closed += other.errors.closed;
        self.errors.status += other.errors.status;
        self.body_bytes += other.body_bytes;
        for row in &other.answerers {
            self.answered(&row.version, &row.role, row.requests);
        }
    }

    fn replied(&mut self, reply: &Reply, service: Duration) -> bool {
        self.body_bytes += reply.body_bytes;
        self.coded(reply.status.as_u16(), 1);
        let class = usize::from(reply.status.as_u16() / 100).clamp(1, 5);
        self.statuses[class - 1] += 1;
        if !reply.status.is_success() {
            self.errors.status += 1;
            self.refusal.saturating_record(nanos(service));
            self.refused_by(reply);
            return false;
        }
        self.answered(label(reply.version.as_ref()), label(reply.role.as_ref()), 1);
        true
    }

    fn refused_by(&mut self, reply: &Reply) {
        if !matches!(reply.status.as_u16(), 429 | 503) {
            return;
        }
        self.refused.total += 1;
        if let Some(wait) = &reply.retry_after {
            self.refused.with_retry_after += 1;
            // The other form, a date, counts as present only.
            let seconds = wait.to_str().ok().and_then(|text| text.trim().parse().ok());
            self.refused.retry_after_s_max =
                self.refused.retry_after_s_max.max(seconds.unwrap_or(0));
        }
    }

    /// Bounded: a status has three digits.
    fn coded(&mut self, status: u16, replies: u64) {
        match self.codes.iter_mut().find(|code| code.status == status) {
            Some(code) => code.replies += replies,
            None => self.codes.push(StatusCount { status, replies }),
        }
    }

    fn failed(&mut self, failure: Failure) -> bool {
        match failure {
            Failure::Connect => self.errors.connect += 1,
            Failure::Closed => self.errors.closed += 1,
            Failure::Timeout => {
                self.errors.timeout += 1;
                return true;
            }
        }
        false
    }

    fn answered(&mut self, version: &str, role: &str, requests: u64) {
        let same = |row: &&mut Answerer| row.version == version && row.role == role;
        // Few rows, and nearly always the first: no map is faster.
        if let Some(row) = self.answerers.iter_mut().find(same) {
            row.requests += requests;
        } else if self.answerers.len() < ANSWERERS_MAX {
            let (version, role) = (version.to_owned(), role.to_owned());
            self.answerers.push(Answerer { version, role, requests });
        } else {
            self.answered_by_other(requests);
        }
    }

    fn answered_by_other(&mut self, requests: u64) {
        match self.answerers.iter_mut().find(|row| row.version == "other") {
            Some(row) => row.requests += requests,
            None => self.answerers.push(Answerer {
                version: "other".to_owned(),
                role: "-".to_owned(),
                requests,
            }),
        }
    }
}

/// What the progress line shows, written by the sending threads without a lock.
#[derive(Debug, Default)]
pub struct Live {
    /// Requests that came due, warm-up included.
    pub due: AtomicU64,
    /// 2xx replies.
    pub answered: AtomicU64,
    /// Everything that came due and got no 2xx reply.
    pub failed: AtomicU64,
    /// Slowest reply since the last look, ns.
    pub slowest_ns: AtomicU64,
}

impl Live {
    /// Counts one finished request.
    pub fn finished(&self, ok: bool, latency: Duration) {
        if ok { &self.answered } else { &self.failed }.fetch_add(1, Relaxed);
        self.slowest_ns.fetch_max(nanos(latency), Relaxed);
    }
}

/// An empty histogram of nanoseconds.
pub(crate) fn histogram() -> Histogram<u64> {
    // Three significant digits, from a nanosecond: 0.1 % of any value.
    Histogram::new_with_bounds(1, nanos(LONGEST), 3).expect("the bounds are constants in order")
}

pub(crate) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// A header's value, fit for a terminal and of bounded length.
fn label(value: Option<&HeaderValue>) -> &str {
    let Some(value) = value else { return "-" };
    match value.to_str() {
        Ok(text) if text.len() <= LABEL_BYTES_MAX && !text.contains('\t') => text,
        _ => "unprintable",
    }
}

#[cfg(test)]
mod tests {
    use hyper::StatusCode;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn reply(status: u16, version: &str) -> Result<Reply, Failure> {
        Ok(Reply {
            status: StatusCode::from_u16(status).unwrap(),
            version: Some(HeaderValue::from_str(version).unwrap()),
            role: Some(HeaderValue::from_static("champion")),
            retry_after: (status == 503).then(|| HeaderValue::from_static("7")),
            body_bytes: 10,
        })
    }

    #[test]
    fn only_successes_and_timeouts_have_a_latency() {
        let mut measure = Measure::default();
        measure.finished(&reply(200, "1"), MS, 2 * MS, MS);
        measure.finished(&reply(503, "1"), MS, 2 * MS, MS);
        measure.finished(&Err(Failure::Connect), MS, 2 * MS, MS);
        measure.finished(&Err(Failure::Closed), MS, 2 * MS, MS);
        measure.finished(&Err(Failure::Timeout), MS, 900 * MS, 800 * MS);
        assert_eq!(measure.latency.len(), 2);
        assert_eq!(measure.service.len(), 2);
        assert_eq!(measure.errors, Errors { connect: 1, timeout: 1, closed: 1, status: 1 });
        assert_eq!(measure.statuses, [0, 1, 0, 0, 1]);
        let refused = Refused { total: 1, with_retry_after: 1, retry_after_s_max: 7 };
        assert_eq!(measure.refused, refused);
        assert_eq!(measure.refusal.len(), 1);
        assert_eq!(measure.codes[1], StatusCount { status: 503, replies: 1 });
        let longest = Duration::from_nanos(measure.latency.max());
        assert!(longest >= 899 * MS, "{longest:?}");
    }

    #[test]
    fn table_of_answerers_is_bounded_and_loses_nothing() {
        let mut measure = Measure::default();
        for version in 0..200 {
            measure.finished(&reply(200, &version.to_string()), MS, MS, MS);
        }
        assert_eq!(measure.answerers.len(), ANSWERERS_MAX + 1);
        assert_eq!(measure.answerers.iter().map(|row| row.requests).sum::<u64>(), 200);
        assert_eq!(measure.answerers.last().unwrap().version, "other");
    }

    #[test]
    fn merging_adds_every_figure() {
        let mut one = Measure::default();
        one.came_due(MS);
        one.finished(&reply(200, "1"), MS, MS, MS);
        one.finished(&Err(Failure::Closed), MS, MS, MS);
        one.left_over(5 * MS);
        one.not_sent = 3;
        let mut both = one.clone();
        both.merge(&one);
        assert_eq!(both.scheduled, 2);
        assert_eq!(both.latency.len(), 4);
        assert_eq!(both.service.len(), 2);
        assert_eq!(both.lag.len(), 2);
        assert_eq!((both.unfinished, both.not_sent, both.body_bytes), (2, 6, 20));
        assert_eq!((both.errors.closed, both.statuses[1]), (2, 2));
        assert_eq!(both.answerers.len(), 1);
        assert_eq!(both.answerers[0].requests, 2);
    }

    #[test]
    fn labels_are_safe_to_print() {
        let of = |bytes: &[u8]| label(Some(&HeaderValue::from_bytes(bytes).unwrap())).to_owned();
        assert_eq!(of(b"17"), "17");
        assert_eq!(of(b"1\t2"), "unprintable");
        assert_eq!(of(&[0xff]), "unprintable");
        assert_eq!(of(&[b'x'; 500]), "unprintable");
        assert_eq!(label(None), "-");
    }
}
