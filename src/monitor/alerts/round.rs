//! Each round: facts are gathered, the rules asked, and what came of it is shown, logged
//! and told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::book::{Book, Changed};
use super::rules::{Facts, findings, p99_clear};
use super::state::{Change, Phase};
use super::traffic::{Arm, Tally, Traffic};
use super::{AlertBoard, AlertSettings, ModelStanding, Notice, Tell};
use crate::monitor::Views;
use crate::telemetry::{AlertLabels, ArmRole, Metrics};

/// Looks at everything that there may be an alert of.
pub(in crate::monitor) struct Watchman {
    settings: AlertSettings,
    metrics: Arc<Metrics>,
    tell: Tell,
    traffic: Traffic,
    book: Book,
}

impl Watchman {
    pub(in crate::monitor) fn new(
        settings: AlertSettings,
        metrics: Arc<Metrics>,
        tell: Tell,
    ) -> Self {
        let traffic = Traffic::new(settings.window);
        Self { settings, metrics, tell, traffic, book: Book::default() }
    }

    /// One look, at `now` on a clock that only goes forward; `views` say what drifts, and
    /// `models` how all stand.
    pub(in crate::monitor) fn round(
        &mut self,
        now: Duration,
        views: &Views,
        models: Vec<ModelStanding>,
    ) -> AlertBoard {
        let facts = Facts {
            models,
            traffic: self.traffic.take(now, tallies(&self.metrics, self.settings.p99_above)),
            drifted: drifted(views),
            quality: self.metrics.quality_standing(),
            store_problem: self.metrics.store_problem(),
        };
        let found = findings(&self.settings, &facts);
        let changed = self.book.take(found, now, &self.settings.timing);
        self.metrics.set_alerts(self.labels(), self.book.passed_over());
        let wall = SystemTime::now();
        for changed in changed {
            self.announce(changed, wall);
        }
        AlertBoard::of(&self.book, now, wall)
    }

    fn labels(&self) -> std::collections::BTreeSet<AlertLabels> {
        let alerts = self.book.alerts().iter();
        let active = alerts.filter(|(_, alert)| alert.standing.phase != Phase::Resolved);
        active
            .map(|(key, alert)| AlertLabels {
                alert: key.rule.as_str(),
                model: key.model.as_ref().map_or_else(String::new, ToString::to_string),
                version: key.version.map_or_else(String::new, |version| version.to_string()),
                state: alert.standing.phase.as_str(),
            })
            .collect()
    }

    fn announce(&self, Changed { key, change, says }: Changed, at: SystemTime) {
        let model = key.model.as_ref().map_or("", |model| model.as_str());
        let alert = key.to_string();
        match change {
            Change::Fired => tracing::warn!(alert, model, says, "an alert fires"),
            Change::Resolved => tracing::info!(alert, model, says, "an alert is resolved"),
        }
        (self.tell)(Notice { key, fired: change == Change::Fired, says, at });
    }
}

/// The counts of every version as champion and as canary.
fn tallies(metrics: &Metrics, p99_above: Option<Duration>) -> BTreeMap<Arm, Tally> {
    // Who asks for a version by its number or role may be trying it out.
    let arms = metrics.arms().into_iter().filter(|(_, _, role, _)| *role != ArmRole::Pinned);
    arms.map(|(model, version, role, arm)| {
        let mut tally =
            Tally { requests: arm.requests(), faults: arm.faults(), ..Tally::default() };
        if let Some(above) = p99_above {
            let times = arm.service();
            tally.timed = times.count();
            tally.slow = times.count_above(above);
            tally.slowish = times.count_above(p99_clear(above));
        }
        ((model, version, role.as_str()), tally)
    })
    .collect()
}

/// The columns that drift, of each version that is compared with something.
fn drifted(
    views: &Views,
) -> BTreeMap<(crate::types::ModelName, crate::types::VersionId), Vec<String>> {
    let compared = views.iter().filter(|(_, shown)| !shown.view.columns.is_empty());
    let columns = compared.map(|(key, shown)| {
        let drifting = shown.view.columns.iter().filter(|column| column.state == "drifting");
        let names = drifting.map(|column| format!("{} {}", column.kind, column.name));
        (key.clone(), names.collect())
    });
    columns.collect()
}
