//! Counts what came back.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};

use crate::cli::figures::{self, seconds};
use crate::cli::table::Sheet;
use crate::telemetry::FineHistogram;

/// Kinds of errors that are told apart; the rest is counted together.
const ERROR_KINDS_MAX: usize = 8;

/// Answers by version and role, errors by message.
#[derive(Default)]
pub(super) struct Tally {
    arms: BTreeMap<(String, String), FineHistogram>,
    errors: BTreeMap<String, u64>,
    /// Requests that were due and never sent, because all connections were
    /// busy until the end.
    pub(super) unsent: u64,
}

impl Tally {
    /// Counts an answer.
    pub(super) fn answer(&mut self, version: &str, role: &str, latency: Duration) {
        let arm = self.arms.entry((role.to_owned(), version.to_owned())).or_default();
        arm.record(latency);
    }

    /// Counts an error.
    pub(super) fn error(&mut self, message: String) {
        let known = self.errors.contains_key(&message) || self.errors.len() < ERROR_KINDS_MAX;
        *self.errors.entry(if known { message } else { "other errors".into() }).or_default() += 1;
    }

    /// Answers so far.
    pub(super) fn answered(&self) -> u64 {
        self.arms.values().map(FineHistogram::count).sum()
    }

    fn failed(&self) -> u64 {
        self.errors.values().sum()
    }

    /// A line of progress.
    pub(super) fn line(&self, elapsed: Duration) -> String {
        let mut roles: BTreeMap<&str, u64> = BTreeMap::new();
        for ((role, _), arm) in &self.arms {
            *roles.entry(role).or_default() += arm.count();
        }
        let roles: String = roles.iter().map(|(role, count)| format!(", {role} {count}")).collect();
        let seconds = elapsed.as_secs();
        format!("{seconds:>4} s: {} answered{roles}, {} errors", self.answered(), self.failed())
    }

    /// The errors, one kind in a line.
    pub(super) fn errors(&self) -> String {
        let lines: Vec<_> =
            self.errors.iter().map(|(message, count)| format!("  {count} × {message}")).collect();
        lines.join("\n")
    }

    /// Who answered how much and how fast, as seen from here.
    pub(super) fn render(&self) -> String {
        let answered = self.answered();
        let mut sheet = Sheet::new(&["role", "version", "answers", "share", "p50", "p99"]);
        for ((role, version), arm) in &self.arms {
            sheet.row([
                role.clone(),
                version.clone(),
                arm.count().to_string(),
                figures::rate(arm.count(), answered),
                quantile(arm, 0.5),
                quantile(arm, 0.99),
            ]);
        }
        let errors = figures::count_and_rate(self.failed(), answered + self.failed());
        let mut text = format!("As seen from here:\n\n{}\n\nErrors: {errors}", sheet.render());
        if self.unsent > 0 {
            text.push_str(&format!("\nNever sent, as all connections were busy: {}", self.unsent));
        }
        if !self.errors.is_empty() {
            text.push_str(&format!("\n{}", self.errors()));
        }
        text
    }

    /// The same as JSON.
    pub(super) fn to_json(&self) -> Value {
        let arm = |((role, version), arm): (&(String, String), &FineHistogram)| {
            let quantile = |q| arm.quantile(q).map(|latency| latency.as_secs_f64());
            json!({
                "role": role, "version": version, "answers": arm.count(),
                "p50_seconds": quantile(0.5), "p99_seconds": quantile(0.99)
            })
        };
        let arms: Vec<_> = self.arms.iter().map(arm).collect();
        json!({"arms": arms, "errors": self.errors, "unsent": self.unsent})
    }
}

fn quantile(arm: &FineHistogram, q: f64) -> String {
    seconds(arm.quantile(q).map(|latency| latency.as_secs_f64()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_counted_by_role_and_version_and_errors_by_message() {
        let mut tally = Tally::default();
        for _ in 0..9 {
            tally.answer("1", "champion", Duration::from_millis(1));
        }
        tally.answer("2", "canary", Duration::from_millis(5));
        tally.error("503: full".into());
        tally.error("503: full".into());
        let line = tally.line(Duration::from_secs(2));
        assert_eq!(line, "   2 s: 10 answered, canary 1, champion 9, 2 errors");
        let text = tally.render();
        for part in ["90.0 %", "10.0 %", "Errors: 2 (16.7 %)", "2 × 503: full"] {
            assert!(text.contains(part), "{part:?} is not in {text}");
        }
        assert_eq!(tally.to_json()["errors"]["503: full"], 2);
    }

    #[test]
    fn kinds_of_errors_are_bounded() {
        let mut tally = Tally::default();
        (0..100).for_each(|i| tally.error(format!("error {i}")));
        assert_eq!(tally.errors.len(), ERROR_KINDS_MAX + 1);
        assert_eq!(tally.failed(), 100);
    }
}
