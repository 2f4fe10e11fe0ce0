//! What a person, or a program, reads after a run.
//!
//! Whatever could bend a figure stands beside it: requests that were not sent,
//! not answered, or sent late are warnings, not footnotes.

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::load::{Load, Outcome};
use crate::measure::{Answerer, Errors, Measure, Refused, StatusCount, nanos};
use crate::text::Micros;
use crate::timeline::Point;
use crate::usage::Usage;

/// A generator that is later than this at its 99th percentile is suspect.
const LAG_US_MAX: f64 = 1_000.0;
/// So is one whose lag is this part of the latency that it reports…
const LAG_PART_MAX: f64 = 0.2;
/// …unless it is shorter than this.
const LAG_US_MIN: f64 = 50.0;

/// Percentiles of one distribution, in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Percentiles {
    /// How many values.
    pub count: u64,
    /// Median.
    pub p50_us: f64,
    /// 90th percentile.
    pub p90_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// 99.9th percentile.
    pub p999_us: f64,
    /// Largest.
    pub max_us: f64,
}

impl Percentiles {
    /// Of a histogram in nanoseconds; zeros if it is empty.
    #[must_use]
    pub fn of(histogram: &Histogram<u64>) -> Self {
        let us = |nanos: u64| nanos as f64 / 1e3;
        let at = |quantile| us(histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            p50_us: at(0.5),
            p90_us: at(0.9),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: us(histogram.max()),
        }
    }
}

/// How often the admin API swapped the champion during a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Swaps {
    /// The versions that took turns.
    pub versions: Vec<u64>,
    /// Swaps that the admin API confirmed.
    pub done: u64,
    /// Swaps that it refused or did not answer.
    pub failed: u64,
    /// Why the first of these failed.
    pub first_failure: Option<String>,
    /// Time from asking to confirmation.
    pub time: Percentiles,
}

/// Something that happened during a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mark {
    /// When, seconds from the start of the measured window.
    pub at_s: f64,
    /// What.
    pub what: String,
}

/// What became of the copies for a shadow, as the gateway's metrics tell.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Copies {
    /// Run and compared with the champion's answer.
    pub compared: u64,
    /// Not run.
    pub dropped: u64,
    /// Run without an answer that could be compared.
    pub failed: u64,
    /// CPU time of the shadow's runs, seconds.
    pub cpu_s: f64,
}

/// What stands for the arrivals of a closed loop.
pub const CLOSED: &str = "closed loop";
/// Quantiles of the curve, 1 - 10^-n in steps that a logarithmic axis shows.
const CURVE_STEPS: u32 = 25;

/// Counts of replies by the first digit of their status.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Statuses {
    /// 1xx.
    #[serde(rename = "1xx")]
    pub informational: u64,
    /// 2xx.
    #[serde(rename = "2xx")]
    pub success: u64,
    /// 3xx.
    #[serde(rename = "3xx")]
    pub redirection: u64,
    /// 4xx.
    #[serde(rename = "4xx")]
    pub client_error: u64,
    /// 5xx.
    #[serde(rename = "5xx")]
    pub server_error: u64,
}

/// One run's figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// What the run was for.
    pub label: String,
    /// The requests' URL.
    pub url: String,
    /// How arrivals were spaced.
    pub arrivals: String,
    /// Whether HTTP/2 was spoken.
    pub http2: bool,
    /// Seed of the schedule.
    pub seed: u64,
    /// Connections.
    pub connections: u32,
    /// Sending threads.
    pub threads: u32,
    /// How due times were waited for.
    pub pace: String,
    /// Length of the measured window, seconds.
    pub window_s: f64,
    /// Whether the run was ended early.
    pub interrupted: bool,
    /// Requests a second that were asked for.
    pub rate_asked: f64,
    /// 2xx replies a second.
    pub rate_achieved: f64,
    /// 2xx replies within the deadline, a second; all 2xx replies without one.
    pub goodput: f64,
    /// Requests that came due in the window.
    pub scheduled: u64,
    /// Requests that found the queue full.
    pub not_sent: u64,
    /// Requests without an end when the run ended.
    pub unfinished: u64,
    /// From the intended send time to the reply's last byte.
    pub latency: Percentiles,
    /// From the actual send to the reply's last byte.
    pub service: Percentiles,
    /// How late the generator was.
    pub lag: Percentiles,
    /// Replies by class.
    pub statuses: Statuses,
    /// Requests without a usable reply.
    pub errors: Errors,
    /// Replies by status, ascending.
    pub codes: Vec<StatusCount>,
    /// Replies that said to come back later.
    pub refused: Refused,
    /// From the actual send to the last byte of replies that are not 2xx.
    pub refusal: Percentiles,
    /// What the run took of the server's process.
    pub server: Option<Usage>,
    /// Copies for shadows during the run.
    pub copies: Option<Copies>,
    /// Start of the measured window, seconds from the start of the first run.
    pub began_s: f64,
    /// Latency over time.
    pub timeline: Vec<Point>,
    /// Latency by quantile, `[quantile, microseconds]`.
    pub curve: Vec<(f64, f64)>,
    /// What happened during the run.
    pub marks: Vec<Mark>,
    /// Who gave the 2xx replies, most first.
    pub answered_by: Vec<Answerer>,
    /// Mean body of a reply, bytes.
    pub reply_bytes_mean: f64,
    /// Swaps during the run.
    pub swaps: Option<Swaps>,
    /// What bends these figures.
    pub warnings: Vec<String>,
}

impl Report {
    /// The report of a run.
    #[must_use]
    pub fn new(label: &str, load: &Load, outcome: &Outcome) -> Self {
        let measure = &outcome.measure;
        let [informational, success, redirection, client_error, server_error] = measure.statuses;
        let statuses = Statuses { informational, success, redirection, client_error, server_error };
        let replies: u64 = measure.statuses.iter().sum();
        // A reply after the window must not count as if it had come in it.
        let span = outcome.elapsed.max(outcome.window);
        let mut answered_by = measure.answerers.clone();
        answered_by.sort_by(|a, b| b.requests.cmp(&a.requests).then(a.version.cmp(&b.version)));
        let mut codes = measure.codes.clone();
        codes.sort_by_key(|code| code.status);
        let mut report = Self {
            label: label.to_owned(),
            url: format!(
                "http://{}{}",
                load.target.server.host.to_str().unwrap_or("?"),
                load.target.server.path
            ),
            arrivals: if load.closed { CLOSED.to_owned() } else { load.process.to_string() },
            http2: load.target.http2,
            seed: load.seed,
            connections: load.connections,
            threads: load.threads,
            pace: load.pace.to_string(),
            window_s: outcome.window.as_secs_f64(),
            interrupted: outcome.interrupted,
            rate_asked: if load.closed { 0.0 } else { load.rate },
            rate_achieved: per(success as f64, span.as_secs_f64()),
            goodput: per(in_time(load, measure).min(success) as f64, span.as_secs_f64()),
            scheduled: measure.scheduled,
            not_sent: measure.not_sent,
            unfinished: measure.unfinished,
            latency: Percentiles::of(&measure.latency),
            service: Percentiles::of(&measure.service),
            lag: Percentiles::of(&measure.lag),
            statuses,
            errors: measure.errors,
            codes,
            refused: measure.refused,
            refusal: Percentiles::of(&measure.refusal),
            server: outcome.usage,
            copies: None,
            began_s: 0.0,
            timeline: measure.timeline.points(),
            curve: curve_of(&measure.latency),
            marks: Vec::new(),
            answered_by,
            reply_bytes_mean: per(measure.body_bytes as f64, replies as f64),
            swaps: None,
            warnings: Vec::new(),
        };
        report.warnings = report.doubts();
        report
    }

    /// Requests that came due and got no 2xx reply.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.errors.total() + self.not_sent + self.unfinished
    }

    /// Its end was its purpose, and is no reason for doubt.
    pub(crate) fn ended_with_work(&mut self) {
        self.interrupted = false;
        self.warnings = self.doubts();
    }

    fn doubts(&self) -> Vec<String> {
        let mut doubts = Vec::new();
        if self.interrupted {
            doubts.push("ended early: the figures are of the time until then".to_owned());
        }
        let too_late = LAG_US_MAX.min((LAG_PART_MAX * self.latency.p99_us).max(LAG_US_MIN));
        if self.lag.p99_us > too_late {
            doubts.push(format!(
                "the generator was late (p99 {}): give it a core of its own or a lower rate",
                Micros(self.lag.p99_us)
            ));
        }
        if self.not_sent > 0 {
            doubts.push(format!(
                "{} requests found the queue full and were not sent: the server is slower than \
                 the rate, and the latencies are too low",
                self.not_sent
            ));
        }
        if self.unfinished > 0 {
            doubts.push(format!(
                "{} requests had no end when the run ended: their latency so far is counted",
                self.unfinished
            ));
        }
        let without = self.errors.total() - self.errors.timeout;
        if without > 0 {
            doubts.push(format!("{without} failed requests are not in the latencies"));
        }
        if self.errors.timeout > 0 {
            doubts.push(format!(
                "{} timeouts are in the latencies with the time until they were given up",
                self.errors.timeout
            ));
        }
        if self.latency.count > 0 && self.latency.count < 1_000 {
            doubts.push(format!("only {} latencies: p99.9 is their largest", self.latency.count));
        }
        doubts
    }
}

/// Latencies within the deadline.
fn in_time(load: &Load, measure: &Measure) -> u64 {
    let limit = load.deadline.map_or(u64::MAX, nanos);
    measure.latency.count_between(0, limit)
}

/// Of a histogram in nanoseconds; as far as it has values to tell.
fn curve_of(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let quantiles = (0..=CURVE_STEPS).map(|step| 1.0 - 10_f64.powf(-f64::from(step) / 5.0));
    let told = quantiles.take_while(|quantile| (1.0 - quantile) * histogram.len() as f64 >= 1.0);
    told.map(|quantile| (quantile, histogram.value_at_quantile(quantile) as f64 / 1e3)).collect()
}

pub(crate) fn per(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::Comparison;

    fn percentiles(us: f64) -> Percentiles {
        Percentiles {
            count: 20_000,
            p50_us: us,
            p90_us: us * 2.0,
            p99_us: us * 10.0,
            p999_us: us * 100.0,
            max_us: us * 10_000.0,
        }
    }

    fn answerer(version: &str, role: &str, requests: u64) -> Answerer {
        Answerer { version: version.to_owned(), role: role.to_owned(), requests }
    }

    /// A run in which everything happened.
    fn eventful() -> Report {
        let mut report = Report {
            label: "swap".to_owned(),
            url: "http://127.0.0.1:8000/predict/churn".to_owned(),
            arrivals: "poisson".to_owned(),
            seed: 1,
            connections: 16,
            threads: 1,
            http2: false,
            pace: "spin".to_owned(),
            window_s: 10.0,
            interrupted: false,
            rate_asked: 2000.0,
            rate_achieved: 1998.75,
            goodput: 1998.75,
            scheduled: 20_012,
            not_sent: 4,
            unfinished: 1,
            latency: percentiles(120.5),
            service: percentiles(99.0),
            lag: Percentiles { p99_us: 400.0, ..percentiles(1.0) },
            statuses: Statuses { success: 20_000, server_error: 2, ..Statuses::default() },
            errors: Errors { connect: 0, timeout: 3, closed: 2, status: 2 },
            codes: vec![StatusCount { status: 503, replies: 2 }],
            refused: Refused { total: 2, with_retry_after: 2, retry_after_s_max: 1 },
            refusal: percentiles(10.0),
            server: Some(Usage {
                cpu_us_per_request: 25.25,
                cpu_s: 0.5,
                resident_bytes_before: 50 << 20,
                resident_bytes_after: 51 << 20,
            }),
            copies: Some(Copies { compared: 14_000, dropped: 990, failed: 10, cpu_s: 0.25 }),
            began_s: 0.0,
            timeline: Vec::new(),
            curve: Vec::new(),
            marks: Vec::new(),
            answered_by: vec![
                answerer("1", "champion", 15_000),
                answerer("2", "canary", 5_000),
                answerer("-", "-", 0),
            ],
            reply_bytes_mean: 141.6,
            swaps: Some(Swaps {
                versions: vec![1, 2],
                done: 49,
                failed: 1,
                first_failure: Some("503".to_owned()),
                time: percentiles(300.0),
            }),
            warnings: Vec::new(),
        };
        report.warnings = report.doubts();
        report
    }

    #[test]
    fn text_is_the_golden_one() {
        let base = Report { label: "steady".to_owned(), latency: percentiles(100.0), ..eventful() };
        let text = format!("{}\n{}", eventful(), Comparison::of("swap", &[(&base, &eventful())]));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden/report.txt");
            std::fs::write(path, &text).unwrap();
            return;
        }
        assert_eq!(text, include_str!("../tests/golden/report.txt"), "got:\n{text}");
    }

    #[test]
    fn a_quiet_run_has_no_warning_and_a_late_generator_has_one() {
        let quiet = Report {
            not_sent: 0,
            unfinished: 0,
            errors: Errors::default(),
            lag: percentiles(0.5),
            ..eventful()
        };
        assert_eq!(quiet.doubts(), [""; 0]);
        // Short beside a long latency is fine; long is never.
        let slow = Report { latency: percentiles(10_000.0), ..quiet.clone() };
        let lag = |p99_us| Percentiles { p99_us, ..percentiles(0.5) };
        assert_eq!(Report { lag: lag(900.0), ..slow.clone() }.doubts().len(), 0);
        assert_eq!(Report { lag: lag(1_100.0), ..slow }.doubts().len(), 1);
        assert_eq!(Report { lag: lag(900.0), ..quiet }.doubts().len(), 1);
    }

    #[test]
    fn json_carries_the_figures_under_their_units() {
        let json = serde_json::to_value(eventful()).unwrap();
        assert_eq!(json["latency"]["p999_us"], 12_050.0);
        assert_eq!(json["statuses"]["2xx"], 20_000);
        assert_eq!(json["errors"]["timeout"], 3);
        assert_eq!(json["swaps"]["done"], 49);
    }

    #[test]
    fn nothing_measured_is_zeros_not_a_panic() {
        let empty = Histogram::<u64>::new(3).unwrap();
        assert_eq!(Percentiles::of(&empty), Percentiles::default());
        let nothing = Report { latency: Percentiles::default(), ..eventful() };
        let pair = [(&nothing, &nothing)];
        assert!(Comparison::of("swap", &pair).rows.iter().all(|row| row.steady_us > 0.0));
    }
}
