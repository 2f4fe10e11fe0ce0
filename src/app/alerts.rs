//! Alerts: what they are made from, as the settings want it, and how they reach the
//! history, and with it webhooks and events.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use crate::config::{Config, Switch};
use crate::error::ErrorCode;
use crate::monitor::{AlertSettings, Alerting, ModelStanding, Notice, Timing};
use crate::registry::{Control, ModelView, State};
use crate::store::{NewEntry, Store};
use crate::telemetry::Metrics;
use crate::types::Share;

/// Who stands in the history for what nobody did.
const ACTOR: &str = "monitor";
/// Changes that may wait for a store that cannot be written; more are dropped and counted.
const WAITING_MAX: usize = 256;
/// The pause before a store that failed is asked again.
const STORE_PAUSE: Duration = Duration::from_secs(5);

/// What the monitor needs for alerts, and where those come out that are to be recorded.
pub(super) fn alerting(
    config: &Config,
    control: Control,
    metrics: &Arc<Metrics>,
) -> (Alerting, mpsc::Receiver<Notice>) {
    let (sender, notices) = mpsc::channel(WAITING_MAX);
    let metrics = Arc::clone(metrics);
    let tell = move |notice| {
        // Before it is there: else it could be written before it waits.
        metrics.alert_entry_waits();
        if sender.try_send(notice).is_err() {
            metrics.alert_entry_written();
            metrics.alert_entry_dropped();
            tracing::error!("an alert's change stands in no history: too many wait");
        }
    };
    let look = move || control.models().iter().filter_map(|view| standing(view)).collect();
    let settings = settings(config);
    (Alerting { settings, look: Box::new(look), tell: Box::new(tell) }, notices)
}

fn settings(config: &Config) -> AlertSettings {
    let alerts = &config.alerts;
    AlertSettings {
        enabled: alerts.enabled == Switch::On,
        // The thread looks at both.
        tick: alerts.tick.min(config.monitor.tick),
        timing: Timing {
            pending: alerts.pending,
            clear_after: alerts.clear_after,
            again_after: alerts.again_after,
        },
        window: alerts.window,
        requests_min: u64::try_from(alerts.requests_min).unwrap_or(u64::MAX),
        errors_above: Some(alerts.errors_above).filter(|share| *share != Share::ZERO),
        p99_above: Some(alerts.p99_above).filter(|limit| !limit.is_zero()),
        usual: alerts.usual,
        traffic_level: alerts.traffic_level == Switch::On,
        error_level: alerts.error_level == Switch::On,
        score_level: alerts.score_level == Switch::On,
        drift: alerts.drift == Switch::On,
        quality: alerts.quality == Switch::On,
        store: alerts.store == Switch::On,
        models: alerts.models == Switch::On,
    }
}

/// How a model stands; a name that is none has no model.
fn standing(view: &ModelView) -> Option<ModelStanding> {
    let gone = |state| matches!(state, State::Retiring | State::Retired | State::Unloaded);
    // What is on its way may become champion; it takes as long as it takes.
    let comes = |state| {
        matches!(state, State::Discovered | State::Checking | State::Loading | State::WarmingUp)
    };
    let failed = view.versions.iter().filter(|version| version.state == State::Failed);
    let failed = failed.map(|version| {
        let why = version.reason.as_deref().unwrap_or("no reason is known");
        (version.version, why.to_owned())
    });
    Some(ModelStanding {
        model: view.name.parse().ok()?,
        champion: view.plan.champion.as_ref().map(|arm| arm.version),
        canary: view.plan.canary.as_ref().map(|arm| arm.version),
        weight: view.plan.canary.as_ref().map(|arm| arm.weight),
        wants_champion: view.versions.iter().any(|version| !gone(version.state))
            && !view.versions.iter().any(|version| comes(version.state)),
        failed: failed.collect(),
    })
}

/// Writes what fired and what was resolved into the history, in order, until the monitor
/// is gone. What cannot be written waits; nobody waits for it.
pub(super) async fn record(
    mut notices: mpsc::Receiver<Notice>,
    store: Arc<dyn Store>,
    metrics: Arc<Metrics>,
) {
    while let Some(notice) = notices.recv().await {
        write(&notice, &*store, &metrics).await;
        metrics.alert_entry_written();
    }
}

/// Tries until it is done.
async fn write(notice: &Notice, store: &dyn Store, metrics: &Metrics) {
    let mut failures = 0_u32;
    while let Err(error) = store.note(notice.key.model.as_ref(), entry(notice, failures > 0)).await
    {
        if error.code() == ErrorCode::DeadlineExceeded {
            // It may be there, and shall not be there twice.
            tracing::warn!(alert = %notice.key, %error, "an alert may not be recorded");
            return;
        }
        // Control looks whether the store is back.
        metrics.set_store(Some(error.message().to_owned()));
        failures = failures.saturating_add(1);
        // 1, 2, 4, …: a store that is away for long fills no log.
        if failures.is_power_of_two() {
            tracing::warn!(alert = %notice.key, %error, failures, "an alert cannot be recorded yet");
        }
        tokio::time::sleep(STORE_PAUSE).await;
    }
}

fn entry(notice: &Notice, late: bool) -> NewEntry {
    let state = if notice.fired { "firing" } else { "resolved" };
    let mut reason = notice.says.clone();
    if late {
        let at = humantime::format_rfc3339_millis(notice.at);
        reason.push_str(&format!(" (at {at}, recorded later)"));
    }
    let action = format!("alert {state}: {}", notice.key);
    NewEntry { reason: Some(reason), ..NewEntry::of_gateway(ACTOR.to_owned(), action) }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::monitor::{AlertKey, Rule};
    use crate::store::{Memory, Unusable};
    use crate::types::{ModelName, VersionId};

    fn notice(fired: bool) -> Notice {
        let (model, version) = (ModelName::new("churn").ok(), VersionId::new(2));
        let key = AlertKey { rule: Rule::Drift, model, version };
        Notice { key, fired, says: "drifting: input age".into(), at: SystemTime::UNIX_EPOCH }
    }

    #[tokio::test]
    async fn what_fired_and_was_resolved_stands_in_the_history() {
        let (store, metrics) = (Arc::new(Memory::default()), Arc::new(Metrics::new()));
        let (sender, notices) = mpsc::channel(2);
        for fired in [true, false] {
            metrics.alert_entry_waits();
            sender.try_send(notice(fired)).unwrap();
        }
        drop(sender);
        assert_eq!(metrics.alert_entries(), (2, 0));
        record(notices, Arc::clone(&store) as Arc<dyn Store>, Arc::clone(&metrics)).await;
        let entries = store.history(ModelName::new("churn").ok().as_ref(), 10).await.unwrap();
        let told: Vec<_> = entries.iter().map(|e| (&*e.action, &*e.actor)).collect();
        assert_eq!(
            told,
            [
                ("alert resolved: drift of version 2", "monitor"),
                ("alert firing: drift of version 2", "monitor")
            ]
        );
        assert_eq!(entries[0].reason.as_deref(), Some("drifting: input age"));
        assert_eq!(metrics.alert_entries(), (0, 0));
    }

    #[tokio::test]
    async fn a_store_that_cannot_be_written_is_waited_for_and_told() {
        let (store, metrics) = (Unusable::new("disk full".into()), Metrics::new());
        let notice = notice(true);
        tokio::select! {
            biased;
            () = write(&notice, &store, &metrics) => panic!("it cannot be written"),
            // It has been tried, and waits for its next try.
            () = tokio::task::yield_now() => {}
        }
        assert_eq!(metrics.store_problem().as_deref(), Some("disk full"));
        let late = entry(&notice, true).reason.unwrap();
        assert!(late.ends_with("(at 1970-01-01T00:00:00.000Z, recorded later)"), "{late}");
    }
}
