//! Loading and unloading because somebody asks for it.
//!
//! An unloaded model keeps its place in what is wanted: who was champion is again
//! when it is loaded. Until then it has no slot, so that for its clients it is not
//! there.

use std::sync::Arc;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::error::{Error, ErrorCode, Result};
use crate::registry::control::{Change, Command, OfRollout};
use crate::registry::loader::{Digests, Outcome};
use crate::registry::manager::Manager;
use crate::registry::manager::model::{CHANGED, Entry, Model, Queued};
use crate::registry::wanted::{self, Trial};
use crate::registry::{ModelView, State};
use crate::store::{NewEntry, Wanted};
use crate::types::{Digest, ModelName, VersionId};

/// Loads that may be waited for at once; more are refused.
const AWAITED_MAX: usize = 64;

/// Somebody who waits until a load is over.
pub(super) struct Awaited {
    name: ModelName,
    /// What is waited for, which was not ready when the load began.
    versions: Vec<VersionId>,
    reply: oneshot::Sender<Result<Arc<ModelView>>>,
}

impl Manager {
    /// Begins a load; it is answered when it is over.
    pub(super) async fn load(&mut self, command: Command) {
        match self.begin_load(&command).await {
            Ok(versions) => {
                let Command { model: name, reply, .. } = command;
                self.awaited.push(Awaited { name, versions, reply });
            }
            // They may have left meanwhile.
            Err(error) => drop(command.reply.send(Err(error))),
        }
    }

    async fn begin_load(&mut self, command: &Command) -> Result<Vec<VersionId>> {
        if self.awaited.len() >= AWAITED_MAX {
            let message = format!("{AWAITED_MAX} loads are waited for already; try again");
            return Err(Error::new(ErrorCode::Unavailable, message));
        }
        let (name, change) = (&command.model, &command.change);
        let model = self.named(name)?;
        super::must_exist(model, change)?;
        if let Some(before) = &model.wanted {
            let next = wanted::apply(before, change, &wanted::ready(&model.trials()), before.salt)
                .map_err(|error| error.context(format!("model {name}")))?;
            let serving = model.basis.resolved.to_string();
            let entry = NewEntry {
                actor: command.by.actor.clone(),
                action: wanted::describe(change),
                reason: command.by.reason.clone(),
                from: serving.clone(),
                to: serving,
                rollout: None,
            };
            self.record(name, entry, &next, false).await?;
            // Nobody to go back to: as if it were met for the first time.
            self.named(name)?.wanted = Some(next).filter(|next| !wanted::is_nobody(next));
        }
        let asked = |version: VersionId| change.version().is_none_or(|asked| asked == version);
        let failed = |(version, entry): (&VersionId, &Entry)| {
            let again = entry.state == State::Failed && entry.present && !entry.busy;
            (again && asked(*version)).then_some(*version)
        };
        let failed: Vec<_> = self.named(name)?.entries.iter().filter_map(failed).collect();
        failed.into_iter().for_each(|version| self.begin_anew(name, version));
        self.advance(name).await;
        let pending = |(version, trial)| (trial == Trial::Pending).then_some(version);
        let trials = self.named(name)?.trials();
        Ok(trials.into_iter().filter_map(pending).filter(|v| asked(*v)).collect())
    }

    /// Answers those whose load is over; the board must show it already.
    pub(super) fn answer_loads(&mut self) {
        for awaited in std::mem::take(&mut self.awaited) {
            match self.came_of(&awaited) {
                Some(outcome) => drop(awaited.reply.send(outcome)),
                None if awaited.reply.is_closed() => {}
                None => self.awaited.push(awaited),
            }
        }
    }

    /// What came of a load; `None` while it is under way.
    fn came_of(&self, awaited: &Awaited) -> Option<Result<Arc<ModelView>>> {
        let Awaited { name, versions, .. } = awaited;
        let Some(model) = self.models.get(name) else {
            let message = format!("the folder of model {name} is gone");
            return Some(Err(Error::new(ErrorCode::NotFound, message)));
        };
        let trials = model.trials();
        if versions.iter().any(|version| trials.get(version) == Some(&Trial::Pending)) {
            return None;
        }
        let out = versions.iter().filter(|version| trials.get(version) != Some(&Trial::Ready));
        let mut problems: Vec<_> = out.map(|version| model.problem_of(*version)).collect();
        let serving = &model.basis.resolved;
        if problems.is_empty() && serving.champion.is_none() {
            problems.extend(model.entries.keys().map(|version| model.problem_of(*version)));
            problems.extend(model.file_problem.clone());
            problems.push("no version can serve".to_owned());
        }
        if problems.is_empty() {
            return Some(
                self.views
                    .get(name)
                    .cloned()
                    .ok_or_else(|| Error::internal("a model that serves is not shown")),
            );
        }
        let message =
            format!("model {name} is not loaded: {} (serving: {serving})", problems.join("; "));
        Some(Err(Error::new(ErrorCode::Conflict, message)))
    }

    /// Gives those another try that found no room a while ago, and those whose copies
    /// failed and whose folders are back.
    pub(super) fn try_again(&mut self, name: &ModelName) {
        let Some(model) = self.models.get(name) else { return };
        let due = |entry: &Entry| {
            let there = entry.present || entry.kept.is_some();
            let waits = entry.state == State::Failed && there && !entry.busy;
            let folder_is_back = entry.present && entry.kept.is_some() && entry.expected.is_none();
            let room = entry.again_from.is_some_and(|from| from <= Instant::now());
            waits && (folder_is_back || room)
        };
        let due = model.entries.iter().filter(|(_, entry)| due(entry));
        let due: Vec<_> = due.map(|(version, _)| *version).collect();
        due.into_iter().for_each(|version| self.begin_anew(name, version));
    }

    /// The folder of a version that has a role holds another content than it had when it
    /// got that. Its copy is loaded; without one it fails.
    pub(super) fn instead_of_other(
        &mut self,
        name: &ModelName,
        version: VersionId,
        expected: Option<Digest>,
    ) {
        let copy = expected.and_then(|digest| self.keeping.content(name, version, digest));
        let Some(model) = self.models.get_mut(name) else { return };
        let Some(entry) = model.entries.get_mut(&version) else { return };
        let Some(copy) = copy else {
            let why = format!(
                "{CHANGED}; what it was when it was given its role is kept no more, so it has none"
            );
            return self.outcome(name, version, Outcome::Failed(why));
        };
        tracing::warn!(model = %name, %version, "{CHANGED}; its copy is loaded");
        entry.kept = Some(copy);
        entry.queued = Some(Queued::Load);
        entry.reason = Some(format!("{CHANGED}; its copy is loaded"));
    }

    /// Gives a version a new life: it is tried again as soon as it may be. What
    /// comes of its former one is dropped. Not for what is loaded.
    pub(super) fn begin_anew(&mut self, name: &ModelName, version: VersionId) {
        let Some(model) = self.models.get_mut(name) else { return };
        let Some(entry) = model.entries.remove(&version) else { return };
        self.garbage.extend(entry.digests.into_iter().flat_map(Digests::each));
        self.tickets += 1;
        let again = match entry.kept.filter(|_| !entry.present) {
            Some(kept) => Entry::again(self.tickets, kept),
            None => Entry::new(self.tickets, entry.files, entry.wholeness, entry.arrived),
        };
        self.metrics.set_state(name, version, Some(entry.state.as_str()), "discovered");
        model.entries.insert(version, again);
    }

    /// Takes an unloaded model out of the catalog: its requests go on, and no
    /// other finds it.
    pub(super) fn withdraw(&mut self, name: &ModelName) {
        let Some(model) = self.models.get_mut(name) else { return };
        let Some(slot) = model.slot.take() else { return };
        self.catalog.remove(name);
        self.metrics.set_weights(name, &[]);
        tracing::info!(model = %name, "unloaded");
        // Its versions are held by our entries still: this frees no model.
        drop(slot);
    }

    /// Notes which versions are unloaded, and which are so no more.
    pub(super) fn note_unloaded(&mut self, name: &ModelName) {
        let Some(model) = self.models.get(name) else { return };
        let change = |(version, entry): (&VersionId, &Entry)| {
            let next = match (model.is_unloaded(*version), entry.state) {
                (true, State::Discovered) if !entry.busy => State::Unloaded,
                (false, State::Unloaded) => State::Discovered,
                _ => return None,
            };
            Some((*version, next))
        };
        let changes: Vec<_> = model.entries.iter().filter_map(change).collect();
        for (version, state) in changes {
            self.set_state(name, version, state);
            let entry = self.models.get_mut(name).and_then(|m| m.entries.get_mut(&version));
            let Some(entry) = entry else { continue };
            entry.queued = None;
            entry.reason = (state == State::Unloaded).then(|| UNLOADED.to_owned());
        }
    }

    /// The model of that name.
    pub(super) fn named(&mut self, name: &ModelName) -> Result<&mut Model> {
        if !self.models.contains_key(name) {
            let names: Vec<_> = self.models.keys().map(ToString::to_string).collect();
            let message =
                format!("unknown model {:?}; models: {}", name.as_str(), names.join(", "));
            return Err(Error::new(ErrorCode::NotFound, message));
        }
        self.models.get_mut(name).ok_or_else(|| Error::internal("a model is gone"))
    }
}

/// What is said of an unloaded version.
pub(super) const UNLOADED: &str = "unloaded";

impl Model {
    /// Whether somebody had it unloaded.
    pub(super) fn is_unloaded(&self, version: VersionId) -> bool {
        self.wanted.as_ref().is_some_and(|wanted| wanted.unloaded.has(version))
    }

    fn problem_of(&self, version: VersionId) -> String {
        let entry = self.entries.get(&version);
        let reason = entry.and_then(|entry| entry.reason.clone());
        let reason = reason.unwrap_or_else(|| match entry {
            Some(entry) => format!("is {}", entry.state.as_str()),
            None => "its folder is gone".to_owned(),
        });
        format!("version {version}: {reason}")
    }
}

/// Whether a person may make a change by themselves: where the model's owners ask for
/// two, a champion is made by a rollout.
pub(super) fn must_be_approved(model: &Model, command: &Command) -> Result<()> {
    let promotes = matches!(command.change, Change::Promote { .. });
    let asked = model.file.as_ref().is_some_and(|file| file.rollout.approval);
    let first = model.wanted.as_ref().is_none_or(|wanted| wanted.champion.is_none());
    if command.rollout.is_some() || !promotes || !asked || first {
        return Ok(());
    }
    Err(not_approved(model))
}

/// The same for going back to a former state: to the former champion anybody may go, and
/// to another one, who was taken out perhaps, nobody by themselves.
pub(super) fn must_be_approved_to_return(model: &Model, now: &Wanted, next: &Wanted) -> Result<()> {
    let asked = model.file.as_ref().is_some_and(|file| file.rollout.approval);
    let goes_forth = now.champion != next.champion && !wanted::takes_risk_away(now, next);
    if asked && goes_forth { Err(not_approved(model)) } else { Ok(()) }
}

fn not_approved(model: &Model) -> Error {
    let message = format!(
        "model {}: its model.toml asks for a second person's approval of promotions; `foreshadow \
         rollout start`, and another's `rollout approve`",
        model.name
    );
    Error::new(ErrorCode::Conflict, message)
}

/// Whether a rollout's step meets the roles that it was decided on: somebody may have
/// changed them while it was on its way.
pub(super) fn must_be_as_seen(wanted: &Wanted, rollout: Option<&OfRollout>) -> Result<()> {
    let Some(basis) = rollout.and_then(|rollout| rollout.basis) else { return Ok(()) };
    if basis == (wanted.champion, wanted.canary) {
        return Ok(());
    }
    let message = format!("the roles were changed meanwhile: now {wanted}");
    Err(Error::new(ErrorCode::Conflict, message))
}

/// Whether a change may be made to a model that nobody answers for yet.
pub(super) fn must_serve(model: &Model, change: &Change) -> Result<()> {
    match change {
        Change::Unload { .. } if model.wanted.is_none() => {
            let message =
                format!("model {} has never served; there is nothing to unload", model.name);
            Err(Error::new(ErrorCode::Conflict, message))
        }
        _ => Ok(()),
    }
}
