//! Each round: facts are gathered, the rules asked, and what came of it is shown, logged
//! and told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::book::{Book, Changed};
use super::levels::Levels;
use super::rules::{Facts, findings, p99_clear};
use super::scores::Answers;
use super::state::{Change, Phase};
use super::traffic::{Arm, Tally, Traffic};
use super::{AlertBoard, AlertSettings, ModelStanding, Notice, Tell};
use crate::monitor::Views;
use crate::telemetry::{AlertLabels, ArmRole, Metrics};
use crate::types::ModelName;

/// Looks at everything that there may be an alert of.
pub(in crate::monitor) struct Watchman {
    settings: AlertSettings,
    metrics: Arc<Metrics>,
    tell: Tell,
    traffic: Traffic,
    levels: Levels,
    book: Book,
}

impl Watchman {
    pub(in crate::monitor) fn new(
        settings: AlertSettings,
        metrics: Arc<Metrics>,
        tell: Tell,
    ) -> Self {
        let (traffic, levels) = (Traffic::new(settings.window), Levels::new(&settings));
        Self { settings, metrics, tell, traffic, levels, book: Book::default() }
    }

    /// How often it wants to look, if it matters.
    pub(in crate::monitor) fn looks_every(&self) -> Option<Duration> {
        self.settings.looks_every()
    }

    /// One look, at `now` on a clock that only goes forward; `views` say what drifts, and
    /// `models` how all stand.
    pub(in crate::monitor) fn round(
        &mut self,
        now: Duration,
        views: &Views,
        models: Vec<ModelStanding>,
    ) -> AlertBoard {
        let traffic = self.traffic.take(now, tallies(&self.metrics, self.settings.p99_above));
        let answers = match self.levels.watches_scores() {
            true => answers(&self.metrics, &models),
            false => BTreeMap::new(),
        };
        let facts = Facts {
            levels: self.levels.take(now, self.traffic.news(), answers),
            models,
            traffic,
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

/// What champions have answered, of those that count by a profile.
fn answers(metrics: &Metrics, models: &[ModelStanding]) -> BTreeMap<ModelName, Answers> {
    let champions: BTreeMap<_, _> = models
        .iter()
        .filter_map(|own| Some((&own.model, (own.champion?, own.canary.zip(own.weight)))))
        .collect();
    // A number may have a new life while the old one ends: the newest was added last.
    let watches = metrics.watches().all().into_iter();
    let own = watches.filter_map(|watch| {
        let (champion, split) = *champions.get(watch.model())?;
        let (profile, counts) = watch.output_counts().filter(|_| champion == watch.version())?;
        Some((watch.model().clone(), Answers { version: champion, split, profile, counts }))
    });
    own.collect()
}

/// The columns that drift, of each version that is compared with something.
fn drifted(views: &Views) -> BTreeMap<(ModelName, crate::types::VersionId), Vec<String>> {
    let compared = views.iter().filter(|(_, shown)| !shown.view.columns.is_empty());
    let columns = compared.map(|(key, shown)| {
        let drifting = shown.view.columns.iter().filter(|column| column.state == "drifting");
        let names = drifting.map(|column| format!("{} {}", column.kind, column.name));
        (key.clone(), names.collect())
    });
    columns.collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::super::rules::tests::settings;
    use super::super::{Rule, Timing};
    use super::*;
    use crate::telemetry::Answered;
    use crate::types::VersionId;

    /// From the counts of requests to what is told; without waiting for `pending`.
    #[test]
    fn silence_is_told_within_seconds_and_so_is_its_end() {
        let metrics = Arc::new(Metrics::new());
        let (model, version) = (ModelName::new("m").unwrap(), VersionId::new(1).unwrap());
        let arm = metrics.arm(&model, version, ArmRole::Champion);
        let standing = ModelStanding {
            model,
            champion: Some(version),
            canary: None,
            weight: None,
            wants_champion: true,
            failed: vec![],
        };
        let told = Arc::<Mutex<Vec<Notice>>>::default();
        let teller = Arc::clone(&told);
        let timing = Timing { pending: Duration::from_secs(60), ..settings().timing };
        let mut watchman = Watchman::new(
            AlertSettings { timing, ..settings() },
            metrics,
            Box::new(move |notice| teller.lock().unwrap().push(notice)),
        );
        let mut second = |now: u64, requests: u64| {
            for _ in 0..requests {
                arm.answered(Answered::within(Duration::from_millis(1)));
            }
            let models = vec![standing.clone()];
            let board = watchman.round(Duration::from_secs(now), &Views::new(), models);
            board.alerts.first().map(|alert| (alert.alert, alert.state))
        };
        for now in 0..600 {
            assert_eq!(second(now, 20 + now % 3), None, "{now}");
        }
        let firing = Some(("traffic_level", "firing"));
        let shown = (600..610).find(|now| second(*now, 0) == firing);
        assert!(shown.is_some_and(|now| now <= 606), "{shown:?}");
        let resolved = Some(("traffic_level", "resolved"));
        assert!((610..800).any(|now| second(now, 21) == resolved));
        let told = told.lock().unwrap();
        let fired: Vec<_> = told.iter().map(|notice| (notice.key.rule, notice.fired)).collect();
        assert_eq!(fired, [(Rule::TrafficLevel, true), (Rule::TrafficLevel, false)]);
        assert!(told[0].says.starts_with("fell to 0.0 requests/s for "), "{}", told[0].says);
        assert!(told[0].says.ends_with("s; 21.0 requests/s usually"));
        assert_eq!(told[1].says, "as usual: 21.0 requests/s");
    }
}
