//! From what is known to what is published: the only place that publishes.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use humantime::format_duration;

use crate::error::Result;
use crate::registry::loader::Digests;
use crate::registry::manager::Manager;
use crate::registry::manager::build::shares;
use crate::registry::manager::loading::UNLOADED;
use crate::registry::manager::model::{Basis, Entry, Model};
use crate::registry::reaper::Leaving;
use crate::registry::settings::{OnNewVersion, Start};
use crate::registry::wanted::{self, First, Trial};
use crate::registry::{Arrival, Change, Provenance, State};
use crate::routing::{Salt, Slot};
use crate::store::{NewEntry, RolloutStep, Wanted};
use crate::types::{Digest, ModelName, VersionId};

/// A new wanted state, and what to write about it.
pub(super) struct Step {
    pub(super) by: Provenance,
    pub(super) action: String,
    pub(super) wanted: Wanted,
    /// The rollout whose step it is.
    pub(super) rollout: Option<RolloutStep>,
    /// It only takes risk away, or adds none: carried out even if it cannot be
    /// recorded.
    pub(super) reduces_risk: bool,
}

/// The gateway's own hand.
fn ourselves(reason: Option<&str>) -> Provenance {
    Provenance { actor: "foreshadow".to_owned(), reason: reason.map(str::to_owned) }
}

/// 16 bytes for a split's secret.
pub(super) fn fresh_salt() -> Result<[u8; 16]> {
    Ok(Salt::random()?.bytes())
}

impl Manager {
    /// Brings one model as far as it can get now, and shows it.
    pub(super) async fn advance(&mut self, name: &ModelName) {
        self.try_again(name);
        self.consider(name);
        let caught_up = self.catch_up(name).await;
        if let Err(error) = caught_up.and(self.settle_roles(name).await) {
            tracing::error!(model = %name, %error, detail = error.detail(),
                "a step could not be taken; it is tried again with the next change");
        }
        let begun_anew = self.retire(name).await;
        if self.readmit(name) || begun_anew {
            self.consider(name);
        }
        self.show(name);
    }

    /// Queues what the folders ask for and the version policy takes. A model
    /// whose settings were never good loads nothing.
    fn consider(&mut self, name: &ModelName) {
        self.note_unloaded(name);
        let Some(model) = self.models.get_mut(name) else { return };
        if model.file.is_none() {
            let problem = model.file_problem.as_deref().unwrap_or("they were not read yet");
            for entry in model.entries.values_mut() {
                if entry.state == State::Discovered {
                    entry.reason = Some(format!("waits for good settings of the model: {problem}"));
                }
            }
            return;
        }
        let let_in = model.apply_policy();
        model.entries.values_mut().for_each(Entry::consider);
        // At start those are waited for as well that take the place of others.
        if let Some(waited_for) = self.waited_for.as_mut().filter(|places| !places.is_empty()) {
            waited_for.extend(let_in.into_iter().map(|version| (name.clone(), version)));
        }
    }

    /// First champion, start, arrivals; then whatever else changed the plan.
    async fn settle_roles(&mut self, name: &ModelName) -> Result<()> {
        self.crown_first(name).await?;
        self.start(name).await?;
        self.arrivals(name).await?;
        let Some(model) = self.models.get_mut(name) else { return Ok(()) };
        let Some(wanted) = model.wanted.clone() else { return Ok(()) };
        if basis(model, &wanted) == model.basis || !may_publish(model, &wanted) {
            return Ok(());
        }
        let action = if model.causes.is_empty() { "versions changed" } else { "" }.to_owned();
        // What is wanted was acknowledged: it comes into force although this cannot be
        // recorded, or a restart on a full disk would answer nobody.
        let step = Step { by: ourselves(None), action, wanted, rollout: None, reduces_risk: true };
        self.commit(name, step).await
    }

    /// Finds the first champion of a model that has none.
    async fn crown_first(&mut self, name: &ModelName) -> Result<()> {
        let Some(model) = self.models.get_mut(name) else { return Ok(()) };
        if model.wanted.is_some() || model.file.is_none() {
            return Ok(());
        }
        let start = model.start.as_ref().map(|start| start.champion);
        let First::Champion(version) = wanted::first_champion(start, &model.trials()) else {
            return Ok(());
        };
        let wanted = Wanted { champion: Some(version), ..wanted::nobody(fresh_salt()?) };
        let reason = if start.is_some() { "[start] in model.toml" } else { "the highest version" };
        let action = format!("first champion {version}");
        let step = Step {
            by: ourselves(Some(reason)),
            action,
            wanted,
            rollout: None,
            // Who answers where nobody did takes nothing from anybody.
            reduces_risk: true,
        };
        self.commit(name, step).await
    }

    /// Gives the roles of `[start]` to the versions that are ready by now.
    async fn start(&mut self, name: &ModelName) -> Result<()> {
        let Some(model) = self.models.get_mut(name) else { return Ok(()) };
        if model.wanted.is_none() {
            return Ok(());
        }
        let Some(mut start) = model.start.take() else { return Ok(()) };
        let trials = model.trials();
        let due = take_due(&mut start, |version| trials.get(&version) == Some(&Trial::Ready));
        let rest = start.canary.is_some() || !start.shadows.is_empty();
        model.start = rest.then_some(start);
        let mut due = due.into_iter();
        while let Some(change) = due.next() {
            if let Err(error) = self.own_change(name, &change, "[start] in model.toml").await {
                // Nothing of it is lost: it is due again with the next step.
                if let Some(model) = self.models.get_mut(name) {
                    put_back(model, std::iter::once(change).chain(due));
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// What the policy gives to versions that became ready since.
    async fn arrivals(&mut self, name: &ModelName) -> Result<()> {
        let Some(model) = self.models.get_mut(name) else { return Ok(()) };
        let Some(wanted) = model.wanted.clone() else { return Ok(()) };
        let file = model.file.clone().unwrap_or_default();
        let policy = file.on_new_version;
        let why = if file.is_triton() && policy == OnNewVersion::Promote {
            "the highest version of a Triton model answers"
        } else {
            "on_new_version in model.toml"
        };
        let (mut changes, mut arrivals) = (Vec::new(), Vec::new());
        let serves = wanted.champion.is_some() && model.basis.resolved.champion == wanted.champion;
        for (version, entry) in &mut model.entries {
            // A rollout has somebody to be compared with, or waits until it has.
            let due = policy != OnNewVersion::Rollout || serves;
            if entry.arrived && entry.state == State::Ready && due {
                entry.arrived = false;
                changes.extend(wanted::arrive(&wanted, *version, policy));
                let above = wanted.champion.is_some_and(|champion| *version > champion);
                if policy == OnNewVersion::Rollout && above {
                    let policy = Arc::clone(&file.rollout);
                    arrivals.push(Arrival { model: name.clone(), version: *version, policy });
                }
            }
        }
        // They are told of behind the board, which says by then that they are ready.
        self.arrived.extend(arrivals);
        let mut changes = changes.into_iter();
        while let Some(change) = changes.next() {
            if let Err(error) = self.own_change(name, &change, why).await {
                // They arrive again with the next step.
                let Some(model) = self.models.get_mut(name) else { return Err(error) };
                for version in std::iter::once(change).chain(changes).filter_map(|c| c.version()) {
                    if let Some(entry) = model.entries.get_mut(&version) {
                        entry.arrived = true;
                    }
                }
                return Err(error);
            }
        }
        Ok(())
    }

    /// A change by our own hand; one that does not fit is left out.
    async fn own_change(&mut self, name: &ModelName, change: &Change, why: &str) -> Result<()> {
        let Some(model) = self.models.get_mut(name) else { return Ok(()) };
        let Some(wanted) = &model.wanted else { return Ok(()) };
        let ready = wanted::ready(&model.trials());
        let next = wanted::apply(wanted, change, &ready, fresh_salt()?);
        match next.and_then(|next| model.admit_to_role(change).map(|()| next)) {
            Ok(wanted) => {
                let action = wanted::describe(change);
                let step = Step {
                    by: ourselves(Some(why)),
                    action,
                    wanted,
                    rollout: None,
                    reduces_risk: false,
                };
                self.commit(name, step).await
            }
            Err(error) => {
                tracing::warn!(model = %name, change = wanted::describe(change), %error, why,
                    "left out");
                let entry = change.version().and_then(|version| model.entries.get_mut(&version));
                if let Some(entry) = entry {
                    entry.reason = Some(format!("left without its role ({why}): {error}"));
                }
                Ok(())
            }
        }
    }

    /// Records, then publishes.
    pub(super) async fn commit(&mut self, name: &ModelName, mut step: Step) -> Result<()> {
        let Some(model) = self.models.get_mut(name) else { return Ok(()) };
        step.wanted.pinned = pinned(model, &step.wanted);
        step.wanted.newest = newest(model, &step.wanted);
        let next = basis(model, &step.wanted);
        let action = Some(step.action).filter(|action| !action.is_empty());
        let entry = NewEntry {
            actor: step.by.actor,
            action: model.causes.iter().cloned().chain(action).collect::<Vec<_>>().join("; "),
            reason: step.by.reason,
            from: model.basis.resolved.to_string(),
            to: next.resolved.to_string(),
            rollout: step.rollout,
        };
        let action = entry.action.clone();
        self.record(name, entry, &step.wanted, step.reduces_risk).await?;
        let Some(model) = self.models.get_mut(name) else { return Ok(()) };
        model.causes.clear();
        let (publish, unloaded) = (may_publish(model, &step.wanted), step.wanted.unloaded.all);
        let before = model.wanted.replace(step.wanted);
        if unloaded {
            model.basis = next;
            self.withdraw(name);
        } else if publish && (model.slot.is_none() || next != model.basis) {
            self.publish(name, next, &action);
        }
        self.note_kept(name, before.as_ref()).await;
        Ok(())
    }

    /// Builds the plan and swaps it in.
    fn publish(&mut self, name: &ModelName, basis: Basis, action: &str) {
        let started = Instant::now();
        let Some(model) = self.models.get_mut(name) else { return };
        let Some(wanted) = &model.wanted else { return };
        let salt = Salt::new(wanted.salt);
        model.generation += 1;
        let plan = Arc::new(self.builder.plan(model, &basis, salt));
        let former = match &model.slot {
            Some(slot) => Some(slot.publish(plan)),
            None => {
                let slot = Arc::new(Slot::new(plan));
                self.catalog.insert(name, &slot);
                model.slot = Some(slot);
                None
            }
        };
        self.metrics.set_weights(name, &shares(&basis.resolved));
        let from = std::mem::replace(&mut model.basis, basis);
        let former_champion = from.resolved.champion.and_then(|v| model.entries.get_mut(&v));
        if let Some(entry) = former_champion {
            entry.reigned = Some(Instant::now());
        }
        self.metrics.published(started.elapsed());
        tracing::info!(model = %name, action, generation = model.generation,
            from = %from.resolved, to = %model.basis.resolved, "published");
        // Its versions are held by our entries still: this frees no model.
        drop(former);
    }

    /// Lets go of versions whose folder is gone, or that the policy leaves out,
    /// and that have no role; and of what was unloaded. Whether some of the latter
    /// begin anew.
    async fn retire(&mut self, name: &ModelName) -> bool {
        let Some(model) = self.models.get_mut(name) else { return false };
        let retire_after = self.retire_after;
        let goes = |(version, entry): &(&VersionId, &Entry)| {
            let unloaded = model.is_unloaded(**version);
            if !unloaded && (model.summoned.contains(version) || entry.is_coming_back()) {
                return false;
            }
            let left_out = entry.left_out && entry.state == State::Ready;
            !entry.present || left_out || unloaded
        };
        let going: Vec<_> =
            model.entries.iter().filter(goes).map(|(version, _)| *version).collect();
        let (mut leaving, mut forgotten, mut interrupted) = (Vec::new(), Vec::new(), Vec::new());
        for version in going {
            let unloaded = model.is_unloaded(version);
            let serves = model.serves(version);
            let has_role = |wanted| wanted::roles(wanted).any(|role| role == version);
            let has_role = model.wanted.as_ref().is_some_and(has_role);
            let Some(entry) = model.entries.get_mut(&version) else { continue };
            match entry.state {
                State::Ready if serves => {
                    let why = entry.why_it_leaves();
                    entry.reason = Some(format!("{why}; it retires when it leaves the plan"));
                }
                State::Ready if !entry.present && !unloaded && entry.is_fresh(retire_after) => {
                    let (why, time) = (entry.why_it_leaves(), format_duration(retire_after));
                    entry.reason = Some(format!(
                        "{why}; it stays loaded for a rollback, {time} from when it was champion"
                    ));
                }
                State::Ready => {
                    entry.unloading = unloaded && (entry.present || entry.kept.is_some());
                    let why = if entry.unloading { UNLOADED } else { entry.why_it_leaves() };
                    entry.reason = Some(why.to_owned());
                    leaving.push((version, entry.unloading));
                }
                State::Retiring | State::Retired => {}
                State::Failed | State::Unloaded if entry.present => {}
                State::Unloaded if entry.kept.is_some() => {}
                // It says why, and may come back: what is wanted stays wanted.
                State::Failed if entry.kept.is_some() && has_role => {}
                _ if entry.present => interrupted.push(version),
                _ => {
                    // Nothing of it is loaded; what a loader brings later has
                    // a ticket that nobody knows.
                    self.garbage.extend(entry.digests.take().into_iter().flat_map(Digests::each));
                    model.entries.remove(&version);
                    forgotten.push(version);
                    self.metrics.retire(name, version);
                    tracing::info!(model = %name, %version, "version removed before it was ready");
                }
            }
        }
        for (version, _) in &leaving {
            self.set_state(name, *version, State::Retiring);
        }
        for version in &interrupted {
            self.begin_anew(name, *version);
        }
        forgotten.extend(leaving.iter().filter(|(_, unloading)| !unloading).map(|(v, _)| *v));
        if let Err(error) = self.forget(name, &forgotten).await {
            tracing::error!(model = %name, %error, "a retirement cannot be recorded");
        }
        for (version, _) in leaving {
            self.hand_to_reaper(name, version);
        }
        self.forget_if_gone(name);
        !interrupted.is_empty()
    }

    /// Takes versions whose content is gone out of what is wanted.
    pub(super) async fn forget(&mut self, name: &ModelName, versions: &[VersionId]) -> Result<()> {
        let Some(model) = self.models.get_mut(name) else { return Ok(()) };
        let (Some(before), false) = (&model.wanted, versions.is_empty()) else { return Ok(()) };
        let serving = model.basis.resolved.champion;
        let forget = |wanted, version: &VersionId| wanted::forget(&wanted, *version, serving);
        let wanted = versions.iter().fold(before.clone(), forget);
        if wanted == *before && basis(model, &wanted) == model.basis {
            return Ok(());
        }
        let list: Vec<_> = versions.iter().map(ToString::to_string).collect();
        let action = format!("version {} retired", list.join(", "));
        let step = Step { by: ourselves(None), action, wanted, rollout: None, reduces_risk: true };
        self.commit(name, step).await
    }

    fn hand_to_reaper(&mut self, name: &ModelName, version: VersionId) {
        let entry = self.models.get_mut(name).and_then(|model| model.entries.get_mut(&version));
        if let Some((ticket, loaded)) = entry.and_then(|e| Some((e.ticket, e.loaded.take()?))) {
            self.reaper.take(Leaving { place: (name.clone(), version), ticket, version: loaded });
        }
    }

    /// Removes a model of which nothing is left.
    pub(super) fn forget_if_gone(&mut self, name: &ModelName) {
        let nothing = |model: &Model| model.gone && model.entries.is_empty();
        if self.models.get(name).is_some_and(nothing) {
            self.models.remove(name);
            self.catalog.remove(name);
            self.metrics.set_weights(name, &[]);
            tracing::info!(model = %name, "model removed");
        }
    }
}

impl Entry {
    /// Whether it is loaded again, or shall be, although its folder is gone.
    const fn is_coming_back(&self) -> bool {
        self.kept.is_some() && !self.present && self.is_under_way()
    }

    /// Whether it was champion no longer ago than that.
    fn is_fresh(&self, time: Duration) -> bool {
        self.reigned.is_some_and(|at| at.elapsed() < time)
    }
}

/// What a plan for `wanted` would be made from now.
fn basis(model: &Model, wanted: &Wanted) -> Basis {
    let trials = model.trials_for(Some(wanted));
    Basis {
        resolved: wanted::resolve(wanted, &trials, model.slot.is_some()),
        ready: wanted::ready(&trials).into_iter().collect(),
        settings: model.file.as_ref().map(|file| Arc::clone(&file.settings)).unwrap_or_default(),
    }
}

/// The contents of what a state names: as they are here, else as they were noted.
fn pinned(model: &Model, wanted: &Wanted) -> BTreeMap<VersionId, Digest> {
    let named = wanted::roles(wanted).chain(wanted.previous.iter().copied());
    let digest = |version| {
        let own = model.entries.get(&version).and_then(|entry| entry.digests.as_ref());
        let own = own.map(|digests| digests.whole.digest());
        Some((version, own.or_else(|| wanted.pinned.get(&version).copied())?))
    };
    named.filter_map(digest).collect()
}

/// The highest version whose arrival is done with.
fn newest(model: &Model, wanted: &Wanted) -> Option<VersionId> {
    let known = |(_, entry): &(&VersionId, &Entry)| entry.state == State::Ready && !entry.arrived;
    let ready = model.entries.iter().filter(known).map(|(version, _)| *version).max();
    let before = model.wanted.as_ref().and_then(|before| before.newest);
    ready.max(before).max(wanted.newest)
}

/// The first plan waits for the champion: a pinned request may come before
/// it, but not an answer by the wrong version.
fn may_publish(model: &Model, wanted: &Wanted) -> bool {
    let trials = model.trials_for(Some(wanted));
    let pending = |version| trials.get(&version) == Some(&Trial::Pending);
    model.slot.is_some() || !wanted.champion.is_some_and(pending)
}

/// The reverse of [`take_due`], for a model that has a champion.
fn put_back(model: &mut Model, due: impl Iterator<Item = Change>) {
    let champion = model.wanted.as_ref().and_then(|wanted| wanted.champion);
    let Some(champion) = champion else { return };
    let nothing = Start { champion, canary: None, shadows: Vec::new() };
    let start = model.start.get_or_insert(nothing);
    for change in due {
        match change {
            Change::SetCanary { version, weight } => start.canary = Some((version, weight)),
            Change::SetShadow { version, sample } => start.shadows.push((version, sample)),
            _ => {}
        }
    }
}

/// The changes of `[start]` whose versions are ready; they are taken out.
fn take_due(start: &mut Start, is_ready: impl Fn(VersionId) -> bool) -> Vec<Change> {
    let mut due = Vec::new();
    if let Some((version, weight)) = start.canary.take_if(|(version, _)| is_ready(*version)) {
        due.push(Change::SetCanary { version, weight });
    }
    for (version, sample) in start.shadows.extract_if(.., |(version, _)| is_ready(*version)) {
        due.push(Change::SetShadow { version, sample });
    }
    due
}
