//! Alerts that hold now, and what became of telling others.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::{IntCounter, IntGauge, IntGaugeVec, Opts};

use crate::telemetry::metrics::{DECLARED, Declare};
use crate::telemetry::{ArmRole, ArmStats, Metrics};
use crate::types::{ModelName, VersionId};

/// The labels of an alert's series.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AlertLabels {
    /// Its rule.
    pub alert: &'static str,
    /// The model; empty for what is about the gateway itself.
    pub model: String,
    /// The version; empty for what is about none.
    pub version: String,
    /// `pending` or `firing`.
    pub state: &'static str,
}

impl AlertLabels {
    /// In the order of the declaration.
    fn values(&self) -> [&str; 4] {
        [self.alert, &self.model, &self.version, self.state]
    }
}

/// All families.
pub(super) struct Alerts {
    shown: Mutex<BTreeSet<AlertLabels>>,
    active: IntGaugeVec,
    passed_over: IntGauge,
    waiting: IntGauge,
    dropped: IntCounter,
}

impl Alerts {
    pub(super) fn declare(d: &Declare<'_>) -> Self {
        let gauge = |name, help| d.add(IntGauge::new(name, help).expect(DECLARED));
        let labels = &["alert", "model", "version", "state"];
        let help = "1 while an alert is pending or firing.";
        let active = IntGaugeVec::new(Opts::new("foreshadow_alerts", help), labels);
        let dropped = IntCounter::new(
            "foreshadow_alert_entries_dropped_total",
            "Alerts that fired or were resolved and stand in no history: too many waited.",
        );
        Self {
            shown: Mutex::default(),
            active: d.add(active.expect(DECLARED)),
            passed_over: gauge(
                "foreshadow_alerts_passed_over",
                "Conditions that hold and are not followed, since there are too many alerts.",
            ),
            waiting: gauge(
                "foreshadow_alert_entries_waiting",
                "Alerts that fired or were resolved and wait to be written into the history.",
            ),
            dropped: d.add(dropped.expect(DECLARED)),
        }
    }
}

impl Metrics {
    /// The handles that there are now, of all models, versions and roles.
    #[must_use]
    pub fn arms(&self) -> Vec<(ModelName, VersionId, ArmRole, Arc<ArmStats>)> {
        let arms = self.arms.lock().unwrap_or_else(PoisonError::into_inner);
        let all = arms.iter();
        all.map(|((model, version, role), arm)| (model.clone(), *version, *role, Arc::clone(arm)))
            .collect()
    }

    /// Shows the alerts that are pending or firing, in place of what was shown, and how
    /// many conditions are not followed.
    pub fn set_alerts(&self, now: BTreeSet<AlertLabels>, passed_over: usize) {
        let families = &self.alerts;
        families.passed_over.set(i64::try_from(passed_over).unwrap_or(i64::MAX));
        let mut shown = families.shown.lock().unwrap_or_else(PoisonError::into_inner);
        for gone in shown.difference(&now) {
            let _ = families.active.remove_label_values(&gone.values());
        }
        for new in now.difference(&shown) {
            families.active.with_label_values(&new.values()).set(1);
        }
        *shown = now;
    }

    /// What fired or was resolved, and waits to be written into the history: one more.
    pub fn alert_entry_waits(&self) {
        self.alerts.waiting.inc();
    }

    /// One that waited is written.
    pub fn alert_entry_written(&self) {
        self.alerts.waiting.dec();
    }

    /// One cannot wait, since too many do.
    pub fn alert_entry_dropped(&self) {
        self.alerts.dropped.inc();
    }

    /// Changes of alerts that wait to be written into the history, and those that will
    /// never be.
    #[must_use]
    pub fn alert_entries(&self) -> (u64, u64) {
        (u64::try_from(self.alerts.waiting.get()).unwrap_or(0), self.alerts.dropped.get())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(model: &str, state: &'static str) -> AlertLabels {
        let (model, version) = (model.to_owned(), String::new());
        AlertLabels { alert: "errors", model, version, state }
    }

    #[test]
    fn what_does_not_hold_any_more_has_no_series() {
        let metrics = Metrics::new();
        metrics.set_alerts([labels("a", "pending"), labels("b", "firing")].into(), 0);
        metrics.set_alerts([labels("a", "firing"), labels("b", "firing")].into(), 3);
        let text = metrics.render();
        let series = |model: &str, state: &str| {
            format!(
                "foreshadow_alerts{{alert=\"errors\",model=\"{model}\",state=\"{state}\",version=\"\"}} 1"
            )
        };
        for (model, state, there) in
            [("a", "pending", false), ("a", "firing", true), ("b", "firing", true)]
        {
            assert_eq!(text.contains(&series(model, state)), there, "{model} {state}: {text}");
        }
        assert!(text.contains("foreshadow_alerts_passed_over 3"), "{text}");
        metrics.set_alerts(BTreeSet::new(), 0);
        assert!(!metrics.render().contains("foreshadow_alerts{"));
    }
}
