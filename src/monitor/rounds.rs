//! Each round: every loaded version is given something to be compared with, its counts
//! are read, and what came of it is shown.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::analysis::{ColumnDrift, Level};
use crate::monitor::files::Files;
use crate::monitor::view::{
    ColumnView, DriftView, LearntView, RatesView, ReferenceView, WindowView,
};
use crate::monitor::windows::{Closed, Column, Whole, Windows};
use crate::monitor::{Settings, Views};
use crate::telemetry::{ColumnFigures, DriftFigures, GivenProfile, Metrics, Watch};
use crate::types::{ModelName, Profile, VersionId};

/// What a profile is said to be from that was learnt.
const LIVE: &str = "live traffic";

/// Looks at all versions.
pub(super) struct Rounds {
    settings: Settings,
    metrics: Arc<Metrics>,
    files: Files,
    started: Instant,
    known: BTreeMap<(ModelName, VersionId), Known>,
}

/// What is known of a version.
struct Known {
    watch: Arc<Watch>,
    /// What its folder had when it was last asked.
    given: Arc<GivenProfile>,
    wanted: bool,
    problem: Option<String>,
    windows: Option<Windows>,
    last: Option<WindowView>,
}

impl Rounds {
    pub(super) fn new(settings: Settings, metrics: Arc<Metrics>) -> Self {
        let files = Files::new(settings.folder.clone());
        Self { settings, metrics, files, started: Instant::now(), known: BTreeMap::new() }
    }

    /// One look at everything.
    pub(super) fn round(&mut self) -> Views {
        let now = self.started.elapsed();
        let mut former = std::mem::take(&mut self.known);
        let mut views = Views::new();
        for watch in self.metrics.watches().all() {
            let key = (watch.model().clone(), watch.version());
            // A number may have a new life, with another content.
            let same = |known: &Known| Arc::ptr_eq(&known.watch, &watch);
            let mut known = match former.remove(&key).filter(same) {
                Some(known) => known,
                None => self.begin(watch),
            };
            self.settle_reference(&mut known, now);
            self.learn(&mut known, now);
            self.count(&mut known, now);
            views.insert(key.clone(), Arc::new(self.view(&known)));
            self.known.insert(key, known);
        }
        for (model, version) in former.into_keys() {
            if !self.known.contains_key(&(model.clone(), version)) {
                self.metrics.remove_drift(&model, version);
            }
        }
        views
    }

    fn begin(&self, watch: Arc<Watch>) -> Known {
        self.metrics.remove_drift(watch.model(), watch.version());
        Known {
            given: Arc::default(),
            wanted: false,
            problem: None,
            windows: None,
            last: None,
            watch,
        }
    }

    /// Chooses what it is compared with, where that has changed.
    fn settle_reference(&self, known: &mut Known, now: Duration) {
        let (given, wanted) = (known.watch.given(), known.watch.is_wanted());
        if Arc::ptr_eq(&given, &known.given) && wanted == known.wanted {
            return;
        }
        (known.given, known.wanted, known.problem) = (Arc::clone(&given), wanted, None);
        let watch = Arc::clone(&known.watch);
        if !wanted {
            return known.rest(None);
        }
        match &*given {
            Some(Ok(profile)) => {
                if known.count_by(profile, &self.settings, now) {
                    self.keep(profile);
                }
            }
            Some(Err(problem)) => known.rest(Some(problem.clone())),
            None => match self.files.load(watch.model(), watch.digest()) {
                Ok(Some(kept)) => {
                    known.count_by(&Arc::new(kept), &self.settings, now);
                }
                Ok(None) if self.settings.learn_rows > 0 => {
                    known.windows = None;
                    watch.learn(self.settings.learn_rows);
                }
                Ok(None) => known.rest(None),
                Err(problem) => known.rest(Some(problem)),
            },
        }
    }

    /// Makes a profile of what was learnt, once it is enough.
    fn learn(&self, known: &mut Known, now: Duration) {
        let watch = Arc::clone(&known.watch);
        if !watch.learnt().is_some_and(|learnt| learnt.enough) {
            return;
        }
        let Some(learnt) = watch.take_learnt() else { return };
        let created = rfc3339(SystemTime::now());
        match learnt.finish(watch.model().clone(), watch.digest(), LIVE, &created) {
            Ok(profile) => {
                tracing::info!(model = %watch.model(), version = %watch.version(),
                    rows = profile.rows, "its profile is learnt");
                let profile = Arc::new(profile);
                if known.count_by(&profile, &self.settings, now) {
                    self.keep(&profile);
                }
            }
            Err(error) => known.rest(Some(error.message().to_owned())),
        }
    }

    fn keep(&self, profile: &Profile) {
        if let Err(error) = self.files.save(profile) {
            tracing::warn!(model = %profile.model, %error, "its profile cannot be kept");
        }
    }

    /// Judges its window, if that is whole.
    fn count(&self, known: &mut Known, now: Duration) {
        let (Some(windows), Some(profile)) = (&mut known.windows, known.watch.profile()) else {
            return;
        };
        let Some(read) = known.watch.counts() else { return };
        let passed_over = read.passed_over;
        let drifted: Vec<_> = windows.columns().iter().map(|c| c.drift.is_drifting()).collect();
        let Some(Closed { rows, time }) = windows.step(&profile, now, read) else { return };
        let to = SystemTime::now();
        let from = to.checked_sub(time).unwrap_or(SystemTime::UNIX_EPOCH);
        known.last = Some(WindowView { rows, from: rfc3339(from), to: rfc3339(to) });
        tell(&known.watch, &profile, &drifted, windows.columns());
        let columns = named(&profile).zip(windows.columns());
        let columns = columns.filter_map(|((kind, name), column)| {
            let (psi, drifting) = (column.psi()?, column.drift.is_drifting());
            Some(ColumnFigures { kind, column: name.to_owned(), psi, drifting })
        });
        let figures = DriftFigures { rows, passed_over, columns: columns.collect() };
        self.metrics.set_drift(known.watch.model(), known.watch.version(), &figures);
    }

    fn view(&self, known: &Known) -> DriftView {
        let watch = &known.watch;
        let (profile, read) = (watch.profile(), watch.counts());
        let learnt = watch.learnt();
        let standing = match (&profile, &learnt) {
            (Some(_), _) => "counting",
            (None, Some(_)) => "learning",
            (None, None) => "resting",
        };
        let number = |n: usize| u64::try_from(n).unwrap_or(u64::MAX);
        DriftView {
            model: watch.model().clone(),
            version: watch.version(),
            standing,
            problem: known.problem.clone(),
            reference: profile.as_deref().map(|profile| ReferenceView {
                source: profile.source.clone(),
                created: profile.created.clone(),
                rows: profile.rows,
            }),
            learnt: learnt.map(|learnt| LearntView {
                rows: learnt.rows,
                rows_wanted: number(self.settings.learn_rows),
            }),
            window_rows: match (&known.windows, &read) {
                (Some(windows), Some(read)) => windows.rows(read),
                _ => 0,
            },
            window_rows_wanted: self.settings.window_rows,
            last: known.last.clone(),
            rows_passed_over: read.map_or(0, |read| read.passed_over),
            requests_passed_over: watch.busy(),
            columns: match (&known.windows, &profile) {
                (Some(windows), Some(profile)) => columns(profile, windows.columns()),
                _ => Vec::new(),
            },
        }
    }
}

impl Known {
    /// Nothing is compared; `problem` says why, if it was wanted.
    fn rest(&mut self, problem: Option<String>) {
        if let Some(problem) = &problem {
            tracing::warn!(model = %self.watch.model(), version = %self.watch.version(), %problem,
                "its drift is not watched");
        }
        self.watch.rest();
        (self.problem, self.windows, self.last) = (problem, None, None);
    }

    /// Begins the first window of a profile; `false` if that does not fit.
    fn count_by(&mut self, profile: &Arc<Profile>, settings: &Settings, now: Duration) -> bool {
        if let Err(error) = self.watch.count_by(Arc::clone(profile)) {
            self.rest(Some(error.message().to_owned()));
            return false;
        }
        let whole = Whole { time: settings.window, rows: settings.window_rows };
        let base = self.watch.counts().unwrap_or_default();
        self.windows = Some(Windows::new(whole, Level::DRIFT, profile, now, base));
        self.last = None;
        true
    }
}

/// Kind and name of each column.
fn named(profile: &Profile) -> impl Iterator<Item = (&'static str, &str)> {
    let inputs = profile.inputs.iter().map(|feature| ("input", &*feature.name));
    inputs.chain(profile.outputs.iter().map(|feature| ("output", &*feature.name)))
}

/// Says in the log which columns have begun to drift, and which no longer do.
fn tell(watch: &Watch, profile: &Profile, before: &[bool], after: &[Column]) {
    for (((kind, column), before), after) in named(profile).zip(before).zip(after) {
        let (model, version, psi) = (watch.model(), watch.version(), after.psi());
        match (before, after.drift.is_drifting()) {
            (false, true) => tracing::warn!(%model, %version, kind, column, psi, "drifts"),
            (true, false) => tracing::info!(%model, %version, kind, column, psi, "drifts no more"),
            _ => {}
        }
    }
}

fn columns(profile: &Profile, columns: &[Column]) -> Vec<ColumnView> {
    let columns = named(profile).zip(columns);
    columns.map(|((kind, name), column)| column.view(kind, name)).collect()
}

impl Column {
    fn psi(&self) -> Option<f64> {
        Some(self.found?.difference.ok()?.psi)
    }

    fn view(&self, kind: &'static str, name: &str) -> ColumnView {
        let difference = self.found.and_then(|found| found.difference.ok());
        let reason = self.found.and_then(|found| found.difference.err());
        let rates = |of: fn(ColumnDrift) -> crate::analysis::Rates| {
            self.found.map(of).map(RatesView::from).unwrap_or_default()
        };
        ColumnView {
            kind,
            name: name.to_owned(),
            state: self.drift.as_str(),
            reason: reason.map(|reason| reason.to_string()),
            psi: difference.map(|difference| difference.psi),
            bound: difference.map(|difference| difference.bound),
            js: difference.map(|difference| difference.js),
            p_value: difference.map(|difference| difference.p_value),
            reference: rates(|found| found.reference),
            window: rates(|found| found.window),
        }
    }
}

fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(time).to_string()
}
