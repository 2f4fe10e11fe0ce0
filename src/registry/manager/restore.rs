//! Back to a former state.
//!
//! What the state names and has no folder any more is loaded from the copies that are
//! kept, on the way of every other version: trial, load, warm-up. The change itself
//! waits for the champion of then, and for nobody else.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::oneshot;

use crate::error::{Error, ErrorCode, Result};
use crate::registry::control::Command;
use crate::registry::manager::Manager;
use crate::registry::manager::loading::must_be_approved_to_return;
use crate::registry::manager::model::{Entry, Model};
use crate::registry::manager::steps::{Step, fresh_salt};
use crate::registry::wanted::{self, Had, Trial};
use crate::registry::{Change, ModelView, Provenance, State};
use crate::store::Wanted;
use crate::types::{ModelName, VersionId};

/// Restorations that may wait at once; more are refused.
const RESTORING_MAX: usize = 16;

/// Somebody who wants a former state back.
pub(super) struct Restoring {
    model: ModelName,
    entry: u64,
    by: Provenance,
    then: Wanted,
    /// What was wanted when it was asked for: if that changes, nobody knows what they
    /// would want now.
    before: Wanted,
    reply: oneshot::Sender<Result<Arc<ModelView>>>,
}

impl Manager {
    /// Begins to restore; it is answered when the champion of then is ready.
    pub(super) async fn restore(&mut self, command: Command, entry: u64) {
        match self.begin_restore(&command.model, entry).await {
            Ok((then, before)) => {
                let Command { model, by, reply, .. } = command;
                let restoring = Restoring { model, entry, by, then, before, reply };
                self.restoring.push(restoring);
            }
            // They may have left meanwhile.
            Err(error) => drop(command.reply.send(Err(error))),
        }
    }

    async fn begin_restore(&mut self, name: &ModelName, entry: u64) -> Result<(Wanted, Wanted)> {
        if self.restoring.len() >= RESTORING_MAX {
            let message = format!("{RESTORING_MAX} rollbacks wait for versions already; try again");
            return Err(Error::new(ErrorCode::Unavailable, message));
        }
        let conflict = |why: &str| Error::new(ErrorCode::Conflict, format!("model {name}: {why}"));
        let before = self.named(name)?.wanted.clone();
        let before = before.ok_or_else(|| conflict("it has never served"))?;
        if before.unloaded.all {
            return Err(conflict("it is unloaded; load it first"));
        }
        let found = self.store.state_at(entry).await?;
        let (of, then) = found.ok_or_else(|| wanted::no_entry(entry, name.as_str(), None))?;
        if of != name.as_str() {
            return Err(wanted::no_entry(entry, name.as_str(), Some(&of)));
        }
        Ok((then, before))
    }

    /// Goes on with every restoration as far as it can get now.
    pub(super) async fn go_on_restoring(&mut self) {
        for restoring in std::mem::take(&mut self.restoring) {
            let name = restoring.model.clone();
            self.summon(&name, &restoring.then).await;
            if self.models.get(&name).is_some_and(|model| model.is_coming(&restoring.then)) {
                self.restoring.push(restoring);
                continue;
            }
            let outcome = self.finish_restore(&restoring).await;
            let others = self.restoring.iter().filter(|other| other.model == name);
            let summoned: BTreeSet<_> =
                others.flat_map(|other| wanted::roles(&other.then)).collect();
            if let Some(model) = self.models.get_mut(&name) {
                model.summoned = summoned;
            }
            self.advance(&name).await;
            let view = self.views.get(&name).cloned();
            let gone = || Error::internal("a model that serves is not shown");
            let outcome = outcome.and_then(|()| view.ok_or_else(gone));
            // Who gets the reply may look at once.
            self.publish_board();
            // They may have left meanwhile.
            drop(restoring.reply.send(outcome));
        }
    }

    async fn finish_restore(&mut self, restoring: &Restoring) -> Result<()> {
        let Restoring { model: name, entry, then, before, .. } = restoring;
        let salt = fresh_salt()?;
        let model = self.named(name)?;
        let context = |error: Error| error.context(format!("model {name}, entry {entry}"));
        let now = model.wanted.as_ref().filter(|now| wanted::same_roles(now, before));
        let now = now.ok_or_else(|| {
            let message = "another change was made while its versions were loaded; nothing was \
                           changed by this one";
            context(Error::new(ErrorCode::Conflict, message))
        })?;
        let restored = wanted::restore(now, then, |version| model.had(version, then), salt);
        let wanted::Restored { wanted, left_out } = restored.map_err(context)?;
        must_be_approved_to_return(model, now, &wanted)?;
        let reduces_risk = wanted::takes_risk_away(now, &wanted);
        model.operator_takes_over();
        let mut action = wanted::describe(&Change::Restore { entry: *entry });
        if !left_out.is_empty() {
            action.push_str(&format!(", without {}", left_out.join(", ")));
        }
        let by = restoring.by.clone();
        let step = Step { by, action, wanted, rollout: None, reduces_risk };
        self.commit(name, step).await
    }

    /// Has the versions of a state stay, and those loaded again that are gone.
    async fn summon(&mut self, name: &ModelName, then: &Wanted) {
        let Some(model) = self.models.get_mut(name) else { return };
        let mut changed = false;
        for version in wanted::roles(then) {
            changed |= model.summoned.insert(version);
        }
        if self.bring_back(name, then) || changed {
            self.advance(name).await;
        }
    }

    /// Makes entries for what has a role in a state, no folder, and a copy that is
    /// kept. Whether there are any.
    pub(super) fn bring_back(&mut self, name: &ModelName, state: &Wanted) -> bool {
        let Some(model) = self.models.get_mut(name) else { return false };
        let mut any = false;
        for version in wanted::roles(state) {
            let digest = state.pinned.get(&version);
            if model.entries.contains_key(&version) || model.is_unloaded(version) {
                continue;
            }
            let content = digest.and_then(|d| self.keeping.content(name, version, *d));
            let Some(content) = content else { continue };
            self.tickets += 1;
            model.retired.retain(|view| view.version != version);
            model.entries.insert(version, Entry::again(self.tickets, content));
            self.metrics.set_state(name, version, None, State::Discovered.as_str());
            tracing::info!(model = %name, %version, "its folder is gone; loaded from its copy");
            any = true;
        }
        any
    }
}

impl Model {
    /// Whether the champion of a state is on its way.
    fn is_coming(&self, then: &Wanted) -> bool {
        let coming = |version| {
            // What is being freed can be loaded again when it is.
            let entry = self.entries.get(&version);
            let leaves = entry.is_some_and(|entry| entry.state == State::Retiring);
            leaves || self.had(version, then) == Had::Coming
        };
        then.champion.is_some_and(coming)
    }

    /// Whether a version can be had, with the content that it had then.
    fn had(&self, version: VersionId, then: &Wanted) -> Had {
        let pinned = then.pinned.get(&version);
        let Some(entry) = self.entries.get(&version) else {
            return Had::Gone(match pinned {
                Some(_) => "its folder is gone, and it is kept no more".to_owned(),
                None => "its folder is gone, and its content was not noted".to_owned(),
            });
        };
        if self.is_unloaded(version) {
            return Had::Gone("it is unloaded; load it first".to_owned());
        }
        let own = entry.digests.as_ref().map(|digests| digests.whole.digest());
        if let (Some(own), Some(pinned)) = (own, pinned)
            && own != *pinned
        {
            return Had::Gone(format!("its number has another content now ({own})"));
        }
        match self.trials().get(&version) {
            Some(Trial::Ready) => Had::Ready,
            Some(Trial::Pending) => Had::Coming,
            _ => Had::Gone(
                entry.reason.clone().unwrap_or_else(|| format!("it is {}", entry.state.as_str())),
            ),
        }
    }

    /// Nothing of `[start]` that is not on its way happens by itself any more.
    pub(super) fn operator_takes_over(&mut self) {
        let trials = self.trials();
        if let Some(start) = &mut self.start {
            let coming = |v: VersionId| trials.get(&v) == Some(&Trial::Pending);
            start.canary = start.canary.filter(|(version, _)| coming(*version));
            start.shadows.retain(|(version, _)| coming(*version));
        }
    }
}
