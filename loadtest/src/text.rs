//! Reports as a terminal shows them.

use std::fmt;

use crate::measure::StatusCount;
use crate::report::{CLOSED, Report, Swaps, per};

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}  {}", self.label, self.url)?;
        match self.arrivals == CLOSED {
            true => write!(f, "  asked         all that it takes, {}", self.arrivals)?,
            false => write!(f, "  asked         {:.1}/s {}", self.rate_asked, self.arrivals)?,
        }
        writeln!(
            f,
            " for {:.1} s, {}{} connections, {} thread(s), {}, seed {}",
            self.window_s,
            if self.http2 { "HTTP/2, " } else { "" },
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
        self.refusals(f)?;
        self.costs(f)?;
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

    fn refusals(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.refusal.count > 0 {
            let of = |code: &StatusCount| format!("{} {}", code.status, code.replies);
            let odd = self.codes.iter().filter(|code| code.status / 100 != 2);
            let codes: Vec<String> = odd.map(of).collect();
            writeln!(
                f,
                "  refused       {}; Retry-After on {} (at most {} s); p50 {}, p99 {}",
                codes.join(", "),
                self.refused.with_retry_after,
                self.refused.retry_after_s_max,
                Micros(self.refusal.p50_us),
                Micros(self.refusal.p99_us)
            )?;
        }
        Ok(())
    }

    fn costs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        if let Some(server) = &self.server {
            writeln!(
                f,
                "  server        {} of CPU per request, {:.2} s in all; {:.1} MiB resident before, \
                 {:.1} after",
                Micros(server.cpu_us_per_request),
                server.cpu_s,
                mebibytes(server.resident_bytes_before),
                mebibytes(server.resident_bytes_after)
            )?;
        }
        if let Some(copies) = &self.copies {
            writeln!(
                f,
                "  shadow        {} copies compared, {} dropped, {} failed; {:.2} s of CPU",
                copies.compared, copies.dropped, copies.failed, copies.cpu_s
            )?;
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
                "  answered by   version {:<4} {:<10}{:>9}  {:6.2} %",
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

/// Microseconds in the unit that reads best.
pub(crate) struct Micros(pub(crate) f64);

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
