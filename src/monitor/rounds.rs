//! Each round: every loaded version is given something to be compared with, its counts
//! are read, and what came of it is shown.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant, SystemTime};

use crate::analysis::{ColumnDrift, Level};
use crate::error::Result;
use crate::monitor::against::{self, Against, Pair};
use crate::monitor::ask::{Key, Relearn};
use crate::monitor::files::Files;
use crate::monitor::odd::AnomalyView;
use crate::monitor::view::{
    ColumnView, DriftView, LearntView, RatesView, ReferenceView, WindowView,
};
use crate::monitor::windows::{Closed, Column, Whole, Windows, frozen};
use crate::monitor::{ModelStanding, Settings, Shown, Views};
use crate::telemetry::{ColumnFigures, DriftFigures, GivenProfile, Metrics, OddCounts, Watch};
use crate::types::Profile;

/// What a profile is said to be from that was learnt.
const LIVE: &str = "live traffic";
/// The end of the year 9999, behind which there is no RFC 3339, after 1970.
const TIME_MAX: Duration = Duration::from_secs(253_402_300_799);

/// Looks at all versions.
pub(super) struct Rounds {
    settings: Settings,
    metrics: Arc<Metrics>,
    files: Files,
    started: Instant,
    known: BTreeMap<Key, Known>,
}

/// What is known of a version. It does not keep it.
struct Known {
    watch: Weak<Watch>,
    /// What its folder had when it was last asked.
    given: Arc<GivenProfile>,
    wanted: bool,
    problem: Option<String>,
    windows: Option<Windows>,
    last: Option<WindowView>,
    /// Odd rows that the metrics have.
    odd: OddCounts,
    /// While it is a canary.
    against: Option<Against>,
}

impl Rounds {
    pub(super) fn new(settings: Settings, metrics: Arc<Metrics>) -> Self {
        let files = Files::new(settings.folder.clone());
        Self { settings, metrics, files, started: Instant::now(), known: BTreeMap::new() }
    }

    /// One look at everything; those of `relearn` learn their profile anew, and `models`
    /// say who is champion and who canary.
    pub(super) fn round(&mut self, relearn: &BTreeSet<Key>, models: &[ModelStanding]) -> Views {
        let now = self.started.elapsed();
        // A number may have a new life while requests of the old one are answered: the
        // newest counts, which was added last.
        let watches = self.metrics.watches().all().into_iter();
        let watches = watches.map(|watch| ((watch.model().clone(), watch.version()), watch));
        let watches: BTreeMap<Key, Arc<Watch>> = watches.collect();
        self.files.use_those(watches.values().map(|watch| (watch.model(), watch.digest())));
        let mut former = std::mem::take(&mut self.known);
        for (key, watch) in &watches {
            let same = |known: &Known| std::ptr::eq(known.watch.as_ptr(), Arc::as_ptr(watch));
            let mut known = former.remove(key).filter(same).unwrap_or_else(|| self.begin(watch));
            self.settle_reference(watch, &mut known, relearn.contains(key), now);
            self.learn(watch, &mut known, now);
            self.count(watch, &mut known, now);
            let odd = watch.odd_counts();
            self.metrics.count_odd(watch.model(), watch.version(), &odd.since(&known.odd));
            known.odd = odd;
            self.known.insert(key.clone(), known);
        }
        for (model, version) in former.into_keys() {
            if !self.known.contains_key(&(model.clone(), version)) {
                self.metrics.remove_drift(&model, version);
                self.metrics.remove_anomalies(&model, version);
                self.metrics.remove_against(&model, version);
            }
        }
        self.compare(&watches, models, now);
        let shown = watches.iter().filter_map(|(key, watch)| {
            Some((key.clone(), self.shown(watch, self.known.get(key)?)))
        });
        shown.collect()
    }

    /// Looks at each canary against its champion, after both have settled by what they count.
    fn compare(
        &mut self,
        watches: &BTreeMap<Key, Arc<Watch>>,
        models: &[ModelStanding],
        now: Duration,
    ) {
        let (whole, pairs) = (self.whole(), pairs(models, watches));
        for (key, watch) in watches {
            let Some(known) = self.known.get_mut(key) else { continue };
            let former = known.against.take();
            known.against = match pairs.get(key) {
                Some(pair) => Some(Against::round(former, pair, whole, now, &self.metrics)),
                None if former.is_some() => {
                    against::end(watch, &self.metrics);
                    None
                }
                None => None,
            };
        }
    }

    const fn whole(&self) -> Whole {
        Whole { time: self.settings.window, rows: self.settings.window_rows }
    }

    fn begin(&self, watch: &Arc<Watch>) -> Known {
        let mut known = Known {
            watch: Arc::downgrade(watch),
            given: Arc::default(),
            wanted: false,
            problem: None,
            windows: None,
            last: None,
            odd: OddCounts::default(),
            against: None,
        };
        // Its number may have had a former life.
        against::end(watch, &self.metrics);
        self.rest(watch, &mut known, None);
        known
    }

    /// Chooses what it is compared with, where that has changed.
    fn settle_reference(&self, watch: &Watch, known: &mut Known, relearn: bool, now: Duration) {
        let (given, wanted) = (watch.given(), watch.is_wanted());
        if Arc::ptr_eq(&given, &known.given) && wanted == known.wanted && !relearn {
            return;
        }
        (known.given, known.wanted) = (Arc::clone(&given), wanted);
        self.rest(watch, known, None);
        if !wanted {
            return;
        }
        match &*given {
            Some(Ok(profile)) => {
                if let Err(error) = self.count_by(watch, known, profile, now) {
                    self.rest(watch, known, Some(error.message().to_owned()));
                }
            }
            Some(Err(problem)) => self.rest(watch, known, Some(problem.clone())),
            None if relearn => {
                if let Err(error) = self.files.forget(watch.model(), watch.digest()) {
                    // What is learnt now takes its place.
                    tracing::warn!(model = %watch.model(), version = %watch.version(), %error,
                        "the profile that it learnt cannot be removed");
                }
                watch.learn(self.settings.learn_rows);
            }
            None => self.take_or_learn(watch, known, now),
        }
    }

    /// Takes what it learnt in a former life, or begins to learn.
    fn take_or_learn(&self, watch: &Watch, known: &mut Known, now: Duration) {
        let taken = match self.files.load(watch.model(), watch.digest()) {
            Ok(None) => Ok(false),
            Ok(Some(kept)) => match self.count_by(watch, known, &Arc::new(kept), now) {
                Ok(()) => Ok(true),
                Err(error) => Err(error.message().to_owned()),
            },
            Err(problem) => Err(problem),
        };
        let learns = self.settings.learn_rows > 0;
        match taken {
            Ok(true) => return,
            Ok(false) => {}
            Err(problem) if learns => {
                tracing::warn!(model = %watch.model(), version = %watch.version(), %problem,
                    "the profile that it learnt cannot be used; it learns anew");
            }
            Err(problem) => return self.rest(watch, known, Some(problem)),
        }
        if learns {
            watch.learn(self.settings.learn_rows);
        }
    }

    /// Makes a profile of what was learnt, once it is enough.
    fn learn(&self, watch: &Watch, known: &mut Known, now: Duration) {
        if !watch.learnt().is_some_and(|learnt| learnt.enough) {
            return;
        }
        let Some(learnt) = watch.take_learnt() else { return };
        let created = rfc3339(SystemTime::now());
        let learnt = learnt.finish(watch.model().clone(), watch.digest(), LIVE, &created);
        let counted = learnt.and_then(|profile| {
            let profile = Arc::new(profile);
            self.count_by(watch, known, &profile, now).map(|()| profile)
        });
        match counted {
            Ok(profile) => {
                tracing::info!(model = %watch.model(), version = %watch.version(),
                    rows = profile.rows, "its profile is learnt");
                self.keep(&profile);
            }
            Err(error) => self.rest(watch, known, Some(error.message().to_owned())),
        }
    }

    fn keep(&self, profile: &Profile) {
        if let Err(error) = self.files.save(profile) {
            tracing::warn!(model = %profile.model, %error,
                "the profile that it learnt cannot be kept; it is learnt anew after a restart");
        } else if let Err(error) = self.files.prune() {
            tracing::warn!(%error, "old profiles cannot be removed");
        }
    }

    /// Judges its window, if that is whole.
    fn count(&self, watch: &Watch, known: &mut Known, now: Duration) {
        let (Some(windows), Some(profile)) = (&mut known.windows, watch.profile()) else {
            return;
        };
        let Some(read) = watch.counts() else { return };
        if windows.forget_if_idle(now, read.rows, &read) {
            tracing::info!(model = %watch.model(), version = %watch.version(),
                "no row has come for long; whether it drifts is not known any more");
            known.last = None;
            self.metrics.remove_drift(watch.model(), watch.version());
        }
        let drifted: Vec<_> = windows.columns().iter().map(|c| c.drift.is_drifting()).collect();
        let closed = windows.step(&profile, || frozen(&profile), now, read);
        let Some(Closed { rows, time }) = closed else { return };
        let (from, to) = period(time);
        known.last = Some(WindowView { rows, from, to });
        tell(watch, &profile, &drifted, windows.columns());
        let columns = named(&profile).zip(windows.columns());
        let columns = columns.map(|((kind, name), column)| ColumnFigures {
            kind,
            column: name.to_owned(),
            psi: column.psi(),
            drifting: column.drift.is_drifting(),
        });
        let (passed_over, columns) = (watch.passed_over(), columns.collect());
        let figures = DriftFigures { rows, passed_over, columns };
        self.metrics.set_drift(watch.model(), watch.version(), &figures);
    }

    /// Nothing is compared, and nothing shown of what was; `problem` says why, if it was
    /// wanted.
    fn rest(&self, watch: &Watch, known: &mut Known, problem: Option<String>) {
        if let Some(problem) = &problem {
            tracing::warn!(model = %watch.model(), version = %watch.version(), %problem,
                "its drift is not watched");
        }
        watch.rest();
        self.metrics.remove_drift(watch.model(), watch.version());
        (known.problem, known.windows, known.last) = (problem, None, None);
    }

    /// Begins the first window of a profile.
    fn count_by(
        &self,
        watch: &Watch,
        known: &mut Known,
        profile: &Arc<Profile>,
        now: Duration,
    ) -> Result<()> {
        watch.count_by(Arc::clone(profile))?;
        let base = watch.counts().unwrap_or_default();
        known.windows = Some(Windows::new(self.whole(), Level::DRIFT, profile, now, base));
        Ok(())
    }

    fn shown(&self, watch: &Watch, known: &Known) -> Shown {
        let relearn = match &*known.given {
            _ if !known.wanted => Relearn::Off,
            Some(_) => Relearn::Given,
            None if self.settings.learn_rows == 0 => Relearn::LearnsNone,
            None => Relearn::May,
        };
        let view = self.view(watch, known);
        let odd = Arc::new(AnomalyView::of(watch, &view));
        Shown { view: Arc::new(view), odd, relearn }
    }

    fn view(&self, watch: &Watch, known: &Known) -> DriftView {
        let (profile, read) = (watch.profile(), watch.counts());
        let learnt = watch.learnt();
        let standing = match (&profile, &learnt) {
            _ if !known.wanted => "off",
            (Some(_), _) => "counting",
            (None, Some(_)) => "learning",
            (None, None) => "resting",
        };
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
            learnt: learnt
                .map(|learnt| LearntView { rows: learnt.rows, rows_wanted: learnt.wanted }),
            window_rows: match (&known.windows, &read) {
                (Some(windows), Some(read)) => windows.rows(read),
                _ => 0,
            },
            window_rows_wanted: self.settings.window_rows,
            last: known.last.clone(),
            rows_passed_over: watch.passed_over(),
            requests_passed_over: watch.busy(),
            columns: match (&known.windows, &profile) {
                (Some(windows), Some(profile)) => columns(profile, windows.columns()),
                _ => Vec::new(),
            },
            against_champion: known.against.as_ref().map(Against::view),
        }
    }
}

/// Each canary that is wanted watched, with its champion.
fn pairs<'a>(
    models: &[ModelStanding],
    watches: &'a BTreeMap<Key, Arc<Watch>>,
) -> BTreeMap<Key, Pair<'a>> {
    let pair = |model: &ModelStanding| {
        let watch = |version| watches.get_key_value(&(model.model.clone(), version));
        let (key, canary) = watch(model.canary?)?;
        let (_, champion) = watch(model.champion?)?;
        let pair = Pair { canary, champion, weight: model.weight };
        canary.is_wanted().then(|| (key.clone(), pair))
    };
    models.iter().filter_map(pair).collect()
}

/// Kind and name of each column.
pub(super) fn named(profile: &Profile) -> impl Iterator<Item = (&'static str, &str)> {
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
    columns.map(|((kind, name), column)| column.view(kind, name, column.drift.as_str())).collect()
}

impl Column {
    pub(super) fn psi(&self) -> Option<f64> {
        Some(self.found?.difference.ok()?.psi)
    }

    /// `state` is the word for how it stands.
    pub(super) fn view(&self, kind: &'static str, name: &str, state: &'static str) -> ColumnView {
        let difference = self.found.and_then(|found| found.difference.ok());
        let reason = self.found.and_then(|found| found.difference.err());
        let rates = |of: fn(ColumnDrift) -> crate::analysis::Rates| {
            self.found.map(of).map(RatesView::from).unwrap_or_default()
        };
        ColumnView {
            kind,
            name: name.to_owned(),
            state,
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

/// The times from and to of a window that was so long and is whole now.
pub(super) fn period(time: Duration) -> (String, String) {
    let to = SystemTime::now();
    let from = to.checked_sub(time).unwrap_or(SystemTime::UNIX_EPOCH);
    (rfc3339(from), rfc3339(to))
}

/// The nearest time that can be written: what a clock says may be anything.
pub(super) fn rfc3339(time: SystemTime) -> String {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().min(TIME_MAX);
    humantime::format_rfc3339_millis(SystemTime::UNIX_EPOCH + since).to_string()
}

#[cfg(test)]
pub(super) mod tests;
