//! The one task that owns what control knows, and the sole publisher.
//!
//! It takes looks at the repository, news of loads, and operators' commands,
//! one after the other; nothing in here waits for a load or a disk other than
//! the store's. Whatever changes a plan is recorded before it is published.

mod build;
mod found;
mod gate;
mod keep;
mod loading;
mod model;
mod policy;
mod record;
mod restore;
mod steps;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, watch};

use crate::error::{Error, ErrorCode, Result};
use crate::registry::blobs::Blobs;
use crate::registry::control::{Board, Change, Command};
use crate::registry::loader::{
    Digests, Intake, Job, Loader, News, Outcome, Step as LoadStep, Task,
};
use crate::registry::manager::build::Builder;
use crate::registry::manager::keep::Keeping;
use crate::registry::manager::loading::{Awaited, must_be_approved, must_be_as_seen, must_serve};
use crate::registry::manager::model::{CHANGED, Model, Queued, now};
use crate::registry::manager::restore::Restoring;
use crate::registry::manager::steps::{Step, fresh_salt};
use crate::registry::reaper::{Freed, Leaving, Reaper};
use crate::registry::retention::Retention;
use crate::registry::settle::Place;
use crate::registry::wanted::{self, Trial};
use crate::registry::watch::Snapshot;
use crate::registry::{Arrival, ModelView, State, Unrecorded};
use crate::routing::Catalog;
use crate::store::Store;
use crate::telemetry::Metrics;
use crate::types::{Digest, ModelName, Readiness, VersionId};

/// How often versions are asked to free what they do not need, at most.
const TRIM_EVERY: Duration = Duration::from_secs(10);
/// How long a version that found no room waits before it is tried again.
const AGAIN_AFTER: Duration = Duration::from_secs(30);

/// Everything that control knows.
pub(super) struct Manager {
    models_dir: PathBuf,
    models: BTreeMap<ModelName, Model>,
    views: BTreeMap<ModelName, Arc<ModelView>>,
    board: Board,
    board_is_old: bool,
    steps: Arc<watch::Sender<u64>>,
    looked: Arc<AtomicU64>,
    store: Arc<dyn Store>,
    catalog: Arc<Catalog>,
    metrics: Arc<Metrics>,
    builder: Builder,
    readiness: Readiness,
    ready_when_all: bool,
    loader: Loader,
    reaper: Reaper,
    /// Where versions go that a rollout is to bring in.
    arrivals: mpsc::Sender<Arrival>,
    /// Jobs that loader threads have.
    in_flight: usize,
    tickets: u64,
    /// The versions of the first look that hold readiness back.
    waited_for: Option<HashSet<Place>>,
    blobs: Blobs,
    /// What is stored and may not be needed any more.
    garbage: BTreeSet<Digest>,
    /// When versions were last asked to free what they do not need.
    trimmed: Instant,
    /// Who waits for a load to be over.
    awaited: Vec<Awaited>,
    /// Who waits for a former state.
    restoring: Vec<Restoring>,
    keeping: Keeping,
    /// How long a former champion whose folder is gone stays loaded.
    retire_after: Duration,
    /// What was in force before the beginning and is in no store, until its model is met.
    unrecorded: Vec<Unrecorded>,
    /// Versions that are ready for a rollout, until the board says so.
    pub(super) arrived: Vec<Arrival>,
    /// When the store did not answer.
    pub(super) silent: Option<Instant>,
    /// When a store that had failed was asked last whether it is back.
    pub(super) probed: Instant,
}

/// What reaches the manager.
pub(super) struct Inbox {
    pub(super) commands: mpsc::Receiver<Command>,
    pub(super) snapshots: mpsc::Receiver<Snapshot>,
    pub(super) news: mpsc::Receiver<News>,
    pub(super) freed: mpsc::Receiver<Freed>,
    pub(super) stop: watch::Receiver<bool>,
}

/// What the manager works with.
pub(super) struct Parts {
    pub(super) models_dir: PathBuf,
    pub(super) board: Board,
    pub(super) steps: Arc<watch::Sender<u64>>,
    pub(super) looked: Arc<AtomicU64>,
    pub(super) store: Arc<dyn Store>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) readiness: Readiness,
    pub(super) ready_when_all: bool,
    pub(super) loader: Loader,
    pub(super) reaper: Reaper,
    pub(super) arrivals: mpsc::Sender<Arrival>,
    pub(super) unrecorded: Vec<Unrecorded>,
    pub(super) blobs: Blobs,
    /// What was stored when the process started.
    pub(super) stored: Vec<Digest>,
    pub(super) retention: Retention,
    /// How long a former champion whose folder is gone stays loaded.
    pub(super) retire_after: Duration,
}

impl Manager {
    pub(super) fn new(parts: Parts) -> Self {
        Self {
            models_dir: parts.models_dir,
            models: BTreeMap::new(),
            views: BTreeMap::new(),
            board: parts.board,
            board_is_old: false,
            steps: parts.steps,
            looked: parts.looked,
            store: parts.store,
            catalog: parts.catalog,
            builder: Builder { metrics: Arc::clone(&parts.metrics) },
            metrics: parts.metrics,
            readiness: parts.readiness,
            ready_when_all: parts.ready_when_all,
            loader: parts.loader,
            reaper: parts.reaper,
            arrivals: parts.arrivals,
            in_flight: 0,
            tickets: 0,
            waited_for: None,
            blobs: parts.blobs,
            garbage: parts.stored.into_iter().collect(),
            trimmed: Instant::now(),
            awaited: Vec::new(),
            restoring: Vec::new(),
            keeping: Keeping::new(parts.retention),
            retire_after: parts.retire_after,
            unrecorded: parts.unrecorded,
            arrived: Vec::new(),
            silent: None,
            probed: Instant::now(),
        }
    }

    /// Works until it is told to stop, or nobody is left to talk to.
    pub(super) async fn run(mut self, mut inbox: Inbox) {
        self.read_kept().await;
        loop {
            tokio::select! {
                biased;
                // An error means that the registry is gone: the same.
                _ = inbox.stop.changed() => return,
                Some(command) = inbox.commands.recv() => self.command(command).await,
                Some(news) = inbox.news.recv() => self.news(news).await,
                Some(freed) = inbox.freed.recv() => self.freed(freed).await,
                Some(snapshot) = inbox.snapshots.recv() => {
                    let asked = snapshot.asked;
                    self.found(snapshot).await;
                    self.looked.store(asked, SeqCst);
                    self.probe_store().await;
                }
                else => return,
            }
            self.go_on_restoring().await;
            self.dispatch();
            self.tell_readiness();
            self.sweep();
            self.trim().await;
            self.publish_board();
            self.tell_arrivals();
            self.answer_loads();
            self.steps.send_modify(|step| *step += 1);
        }
    }

    /// Tells the rollouts who has come.
    fn tell_arrivals(&mut self) {
        for arrival in std::mem::take(&mut self.arrived) {
            let (model, version) = (arrival.model.clone(), arrival.version);
            if let Err(error) = self.arrivals.try_send(arrival) {
                tracing::error!(%model, %version, %error, "no rollout is begun: too many wait");
            }
        }
    }

    async fn command(&mut self, command: Command) {
        if matches!(command.change, Change::Load { .. }) {
            return self.load(command).await;
        }
        if let Change::Restore { entry } = command.change {
            return self.restore(command, entry).await;
        }
        let outcome = self.change(&command).await;
        // Who gets the reply may look at once.
        self.publish_board();
        // They may have left meanwhile.
        let _ = command.reply.send(outcome);
    }

    async fn change(&mut self, command: &Command) -> Result<Arc<ModelView>> {
        let name = &command.model;
        let model = self.named(name)?;
        must_exist(model, &command.change)?;
        must_serve(model, &command.change)?;
        must_be_approved(model, command)?;
        let salt = fresh_salt()?;
        let before = model.wanted.clone().unwrap_or_else(|| wanted::nobody(salt));
        must_be_as_seen(&before, command.rollout.as_ref())?;
        let trials = model.trials();
        let next = wanted::apply(&before, &command.change, &wanted::ready(&trials), salt)
            .and_then(|next| model.admit_to_role(&command.change).map(|()| next))
            .map_err(|error| error.context(format!("model {name}")))?;
        model.operator_takes_over();
        let step = Step {
            by: command.by.clone(),
            action: match &command.rollout {
                Some(rollout) => rollout.action.clone(),
                None => wanted::describe(&command.change),
            },
            rollout: command.rollout.as_ref().map(|rollout| rollout.step.clone()),
            reduces_risk: wanted::reduces_risk(&before, &command.change),
            wanted: next,
        };
        self.commit(name, step).await?;
        self.advance(name).await;
        self.views.get(name).cloned().ok_or_else(|| Error::internal("the model is gone"))
    }

    async fn news(&mut self, news: News) {
        let (name, version) = &news.place;
        let done = matches!(news.step, LoadStep::Done(_));
        self.in_flight = self.in_flight.saturating_sub(usize::from(done));
        let entry = self.models.get_mut(name).and_then(|model| model.entries.get_mut(version));
        let Some(entry) = entry.filter(|entry| entry.ticket == news.ticket) else {
            self.drop_late(news);
            return;
        };
        entry.busy &= !done;
        match news.step {
            LoadStep::Pinned(content, bytes) => {
                entry.reason = None;
                entry.digests = Some(content.digests);
                entry.lineage = content.lineage;
                entry.bytes = bytes;
                self.set_state(name, *version, State::Checking);
            }
            LoadStep::Tried(report) => entry.report = Some(report),
            LoadStep::Loading => self.set_state(name, *version, State::Loading),
            LoadStep::WarmingUp(engine) => {
                entry.engine = Some(engine);
                self.set_state(name, *version, State::WarmingUp);
            }
            LoadStep::Done(outcome) => {
                self.outcome(name, *version, outcome);
                self.advance(name).await;
            }
        }
        self.show(name);
    }

    fn outcome(&mut self, name: &ModelName, version: VersionId, outcome: Outcome) {
        let Some(model) = self.models.get_mut(name) else { return };
        let Some(entry) = model.entries.get_mut(&version) else { return };
        match outcome {
            Outcome::Ready(loaded) => {
                let row_seconds = entry.report.as_ref().and_then(|report| report.row_seconds());
                let admitted = model.admit(version, loaded.signature(), row_seconds);
                let Some(entry) = model.entries.get_mut(&version) else { return };
                if let Err(why) = admitted {
                    entry.refused = Some(loaded.signature().clone());
                    let (place, ticket) = ((name.clone(), version), entry.ticket);
                    self.reaper.take(Leaving { place, ticket, version: loaded });
                    self.outcome(name, version, Outcome::Failed(why));
                    return;
                }
                entry.loaded = Some(loaded);
                model.causes.push(format!("version {version} ready"));
                self.metrics.loaded(entry.whole_since.elapsed());
                self.set_state(name, version, State::Ready);
                tracing::info!(model = %name, %version, "version ready");
            }
            Outcome::Other(digests) => {
                let expected = entry.expected;
                self.garbage.extend(digests.each());
                self.instead_of_other(name, version, expected);
            }
            Outcome::NoRoom(why) => {
                let wait = humantime::format_duration(AGAIN_AFTER);
                entry.again_from = Some(Instant::now() + AGAIN_AFTER);
                let why = format!("{why}; it is tried again, each {wait}");
                self.outcome(name, version, Outcome::Failed(why));
            }
            Outcome::Failed(why) => {
                tracing::warn!(model = %name, %version, reason = %why, "version failed");
                entry.reason = Some(why);
                self.set_state(name, version, State::Failed);
            }
            Outcome::NotYet(why) => {
                tracing::info!(model = %name, %version, reason = %why, "version is not whole yet");
                if entry.state == State::Discovered {
                    entry.reason = Some(why);
                }
            }
            Outcome::Verified { changed, profile } => {
                if let Some(loaded) = entry.loaded.as_ref().filter(|_| !changed) {
                    loaded.watch().give(profile);
                }
                entry.changed = changed;
                let reason = entry.reason.take().filter(|reason| !reason.contains(CHANGED));
                entry.reason = match (reason, changed) {
                    (reason, false) => reason,
                    (None, true) => Some(CHANGED.to_owned()),
                    (Some(reason), true) => Some(format!("{reason}; {CHANGED}")),
                };
                if changed {
                    tracing::warn!(model = %name, %version, "{CHANGED}");
                }
            }
        }
    }

    /// A version whose folder left while it was loaded.
    fn drop_late(&mut self, news: News) {
        match news.step {
            LoadStep::Pinned(content, _) => self.garbage.extend(content.digests.each()),
            LoadStep::Done(Outcome::Ready(version)) => {
                // Freeing a model takes time: not on this task.
                self.reaper.take(Leaving { place: news.place, ticket: news.ticket, version });
            }
            _ => {}
        }
    }

    async fn freed(&mut self, freed: Freed) {
        let (name, version) = &freed.place;
        let Some(model) = self.models.get_mut(name) else { return };
        let entry = model.entries.get(version);
        if !entry.is_some_and(|e| e.ticket == freed.ticket && e.state == State::Retiring) {
            return;
        }
        let Some(entry) = model.entries.remove(version) else { return };
        self.garbage.extend(entry.digests.clone().into_iter().flat_map(Digests::each));
        let mut view = entry.view(*version);
        (view.state, view.since) = (State::Retired, now());
        model.remember_retired(view);
        self.metrics.retire(name, *version);
        tracing::info!(model = %name, %version, "version retired");
        let kept = entry.kept.filter(|_| entry.unloading);
        if entry.present || kept.is_some() {
            // Its number is taken again already.
            model.retired.pop_back();
            self.tickets += 1;
            // What was only unloaded has not come anew.
            let arrived = entry.arrived || !entry.unloading;
            let again = match kept.filter(|_| !entry.present) {
                Some(kept) => model::Entry::again(self.tickets, kept),
                None => model::Entry::new(self.tickets, entry.files, entry.wholeness, arrived),
            };
            model.entries.insert(*version, again);
            self.metrics.set_state(name, *version, None, "discovered");
        } else if entry.unloading
            && let Err(error) = self.forget(name, &[*version]).await
        {
            tracing::error!(model = %name, %error, "a removal cannot be recorded");
        }
        self.advance(name).await;
        self.forget_if_gone(name);
        self.show(name);
        self.prune().await;
    }

    /// Hands queued work to free loader threads, the most urgent first.
    fn dispatch(&mut self) {
        while self.in_flight < self.loader.threads() {
            let Some((name, version)) = self.most_urgent() else { return };
            let Some(model) = self.models.get_mut(&name) else { return };
            let file = model.file.clone().unwrap_or_default();
            let intake = Intake { engine: file.engine.clone(), declared: file.declared().cloned() };
            let gate = model.gate_for(version);
            let Some(entry) = model.entries.get_mut(&version) else { return };
            let task = match (entry.queued.take(), entry.digests.clone()) {
                (Some(Queued::Verify), Some(digests)) => Task::Verify(digests),
                (Some(Queued::Verify), None) => {
                    // It failed before anything was pinned; any change counts.
                    entry.tried = Some(entry.files.clone());
                    self.outcome(
                        &name,
                        version,
                        Outcome::Verified { changed: true, profile: None },
                    );
                    self.show(&name);
                    continue;
                }
                _ => {
                    entry.intake = Some(intake.clone());
                    let (kept, expected) = (entry.kept.clone(), entry.expected);
                    Task::Load { intake, gate, kept, expected }
                }
            };
            let folder = self.models_dir.join(name.as_str()).join(version.to_string());
            let from_folder = !matches!(&task, Task::Load { kept: Some(_), .. });
            let tried = if from_folder { entry.files.clone() } else { model::no_files() };
            entry.tried = Some(tried);
            entry.busy = true;
            let ticket = entry.ticket;
            let artifact = entry.files.artifact.clone();
            let job = Job { place: (name.clone(), version), ticket, folder, artifact, task };
            if !self.loader.submit(job) {
                tracing::error!(model = %name, %version, "no loader thread takes the version");
                return;
            }
            self.in_flight += 1;
        }
    }

    fn most_urgent(&self) -> Option<Place> {
        let queued = self.models.iter().flat_map(|(name, model)| {
            let waiting = model.entries.iter().filter(|(_, entry)| entry.queued.is_some());
            waiting.map(move |(version, entry)| {
                let verify = entry.queued == Some(Queued::Verify);
                ((verify, model.urgency(*version), Reverse(*version)), (name, *version))
            })
        });
        queued.min_by_key(|(key, _)| *key).map(|(_, (name, version))| (name.clone(), version))
    }

    /// Ready is when every version of the first look was tried, and models serve:
    /// a gateway that answers nothing wants no traffic. Where none is to serve, it
    /// waits for none.
    fn tell_readiness(&mut self) {
        let Some(waited_for) = &mut self.waited_for else { return };
        waited_for.retain(|(name, version)| {
            let trials = self.models.get(name).map(Model::trials);
            trials.is_some_and(|trials| trials.get(version) == Some(&Trial::Pending))
        });
        if !waited_for.is_empty() {
            return;
        }
        let mut shall = self.models.values().filter(|model| model.shall_serve()).peekable();
        let serves = |model: &Model| model.basis.resolved.champion.is_some();
        let enough = match (shall.peek(), self.ready_when_all) {
            (None, _) => true,
            (Some(_), true) => shall.all(serves),
            (Some(_), false) => shall.any(serves),
        };
        if enough {
            self.readiness.set_ready();
        } else {
            self.readiness.set_waiting();
        }
    }

    /// Removes stored files that no version needs. Waits until nobody is
    /// loading, for what a loader just stored is not known here yet.
    fn sweep(&mut self) {
        let tried = self.waited_for.as_ref().is_some_and(HashSet::is_empty);
        if self.garbage.is_empty() || self.in_flight > 0 || !tried {
            return;
        }
        let entries = self.models.values().flat_map(|model| model.entries.values());
        let needed = entries.filter_map(|entry| entry.digests.clone()).flat_map(Digests::each);
        let Some(kept) = self.keeping.digests() else { return };
        let needed: HashSet<Digest> = needed.chain(kept).collect();
        for digest in std::mem::take(&mut self.garbage) {
            if !needed.contains(&digest) {
                self.blobs.remove(digest);
            }
        }
    }

    /// Now and then, shows what versions made for shapes, and has them free what
    /// they do not need; forgets what is kept no more. A look at the repository comes often enough.
    async fn trim(&mut self) {
        if self.trimmed.elapsed() < TRIM_EVERY {
            return;
        }
        self.trimmed = Instant::now();
        let mut versions = Vec::new();
        for (name, model) in &self.models {
            for (version, entry) in &model.entries {
                let Some(loaded) = &entry.loaded else { continue };
                self.metrics.set_plans(name, *version, loaded.plans());
                versions.push(Arc::clone(loaded));
            }
        }
        self.reaper.trim(versions);
        self.prune().await;
    }

    fn set_state(&mut self, name: &ModelName, version: VersionId, state: State) {
        let entry = self.models.get_mut(name).and_then(|model| model.entries.get_mut(&version));
        let Some(entry) = entry else { return };
        self.metrics.set_state(name, version, Some(entry.state.as_str()), state.as_str());
        entry.state = state;
        entry.since = now();
    }

    /// Makes the view of a model as it stands.
    fn show(&mut self, name: &ModelName) {
        match self.models.get(name) {
            Some(model) => self.views.insert(name.clone(), Arc::new(model.view())),
            None => self.views.remove(name),
        };
        self.board_is_old = true;
    }

    fn publish_board(&mut self) {
        if std::mem::take(&mut self.board_is_old) {
            self.board.store(Arc::new(self.views.clone()));
        }
    }
}

/// A version that the change names must have a folder.
fn must_exist(model: &Model, change: &Change) -> Result<()> {
    let Some(version) = change.version() else { return Ok(()) };
    if model.entries.contains_key(&version) {
        return Ok(());
    }
    let versions: Vec<_> = model.entries.keys().map(ToString::to_string).collect();
    let message =
        format!("model {} has no version {version}; versions: {}", model.name, versions.join(", "));
    Err(Error::new(ErrorCode::NotFound, message))
}
