//! What a person, or a program, reads after a run.
//!
//! Whatever could bend a figure stands beside it: requests that were not sent,
//! not answered, or sent late are warnings, not footnotes.

use std::fmt;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::load::{Load, Outcome};
use crate::measure::{Answerer, Errors};

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
        let us = |nanos: u64| Duration::from_nanos(nanos).as_secs_f64() * 1e6;
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
        // An early end cuts the window; a late reply lengthens the run.
        let span =
            if outcome.interrupted { outcome.elapsed } else { outcome.elapsed.max(load.window) };
        let mut answered_by = measure.answerers.clone();
        answered_by.sort_by(|a, b| b.requests.cmp(&a.requests).then(a.version.cmp(&b.version)));
        let mut report = Self {
            label: label.to_owned(),
            url: format!(
                "http://{}{}",
                load.target.server.host.to_str().unwrap_or("?"),
                load.target.server.path
            ),
            arrivals: load.process.to_string(),
            seed: load.seed,
            connections: load.connections,
            threads: load.threads,
            pace: load.pace.to_string(),
            window_s: span.min(load.window).as_secs_f64(),
            interrupted: outcome.interrupted,
            rate_asked: load.rate,
            rate_achieved: per(success as f64, span.as_secs_f64()),
            scheduled: measure.scheduled,
            not_sent: measure.not_sent,
            unfinished: measure.unfinished,
            latency: Percentiles::of(&measure.latency),
            service: Percentiles::of(&measure.service),
            lag: Percentiles::of(&measure.lag),
            statuses,
            errors: measure.errors,
            answered_by,
            reply_bytes_mean: per(measure.body_bytes as f64, replies as f64),
            swaps: None,
            warnings: Vec::new(),
        };
        report.warnings = report.doubts();
        report
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

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}  {}", self.label, self.url)?;
        writeln!(
            f,
            "  asked         {:.1}/s {} for {:.1} s, {} connections, {} thread(s), {}, seed {}",
            self.rate_asked,
            self.arrivals,
            self.window_s,
            self.connections,
            self.threads,
            self.pace,
            self.seed
        )?;
        writeln!(
            f,
            "  achieved      {:.1}/s; {} came due, {} answered 2xx, {} not sent, {} unfinished",
            self.rate_achieved,
            self.scheduled,
            self.statuses.success,
            self.not_sent,
            self.unfinished
        )?;
        self.distributions(f)?;
        self.replies(f)?;
        if let Some(swaps) = &self.swaps {
            write!(f, "{swaps}")?;
        }
        for warning in &self.warnings {
            writeln!(f, "  WARNING       {warning}")?;
        }
        Ok(())
    }
}

impl Report {
    fn distributions(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "  {:<12}", "")?;
        for name in ["p50", "p90", "p99", "p99.9", "max"] {
            write!(f, "{name:>12}")?;
        }
        writeln!(f)?;
        let rows =
            [("latency", &self.latency), ("service time", &self.service), ("lag", &self.lag)];
        for (name, row) in rows {
            write!(f, "  {name:<12}")?;
            for us in [row.p50_us, row.p90_us, row.p99_us, row.p999_us, row.max_us] {
                write!(f, "{:>12}", Micros(us).to_string())?;
            }
            writeln!(f)?;
        }
        Ok(())
    }

    fn replies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statuses = &self.statuses;
        writeln!(
            f,
            "  replies       2xx {}, 3xx {}, 4xx {}, 5xx {}; {:.0} bytes on average",
            statuses.success,
            statuses.redirection,
            statuses.client_error,
            statuses.server_error,
            self.reply_bytes_mean
        )?;
        let errors = &self.errors;
        writeln!(
            f,
            "  errors        connect {}, timeout {}, closed {}, status {}",
            errors.connect, errors.timeout, errors.closed, errors.status
        )?;
        for row in self.answered_by.iter().filter(|row| row.version != "-") {
            writeln!(
                f,
                "  answered by   version {} ({})  {:>9}  {:6.2} %",
                row.version,
                row.role,
                row.requests,
                100.0 * per(row.requests as f64, self.statuses.success as f64)
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Swaps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let versions: Vec<String> = self.versions.iter().map(u64::to_string).collect();
        writeln!(
            f,
            "  swaps         {} between versions {}; p50 {}, max {}; {} failed",
            self.done,
            versions.join(" and "),
            Micros(self.time.p50_us),
            Micros(self.time.max_us),
            self.failed
        )?;
        match &self.first_failure {
            Some(why) => writeln!(f, "  WARNING       a swap failed: {why}"),
            None => Ok(()),
        }
    }
}

/// Two runs side by side, the first as the yardstick.
#[must_use]
pub fn compare(base: &Report, other: &Report) -> String {
    let row = |name: &str, of: fn(&Percentiles) -> f64| {
        let (a, b) = (of(&base.latency), of(&other.latency));
        let ratio = if a > 0.0 { format!("{:.2}", b / a) } else { "-".to_owned() };
        format!(
            "  {name:<12}{:>12}{:>12}{ratio:>8}\n",
            Micros(a).to_string(),
            Micros(b).to_string()
        )
    };
    let head = format!("  {:<12}{:>12}{:>12}{:>8}\n", "latency", base.label, other.label, "ratio");
    let failures = format!("  {:<12}{:>12}{:>12}\n", "failed", base.failed(), other.failed());
    head + &row("p50", |p| p.p50_us)
        + &row("p90", |p| p.p90_us)
        + &row("p99", |p| p.p99_us)
        + &row("p99.9", |p| p.p999_us)
        + &row("max", |p| p.max_us)
        + &failures
}

impl Report {
    /// Requests that came due and got no 2xx reply.
    #[must_use]
    pub fn failed(&self) -> u64 {
        self.errors.total() + self.not_sent + self.unfinished
    }
}

/// Microseconds in the unit that reads best.
struct Micros(f64);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let us = self.0;
        if us < 1_000.0 {
            write!(f, "{us:.1} us")
        } else if us < 1_000_000.0 {
            write!(f, "{:.2} ms", us / 1e3)
        } else {
            write!(f, "{:.2} s", us / 1e6)
        }
    }
}

fn per(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}
