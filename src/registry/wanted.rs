//! Who should answer, and who really can. Pure.
//!
//! Invariants: no version gets a role before it is ready; a version has one
//! role; no version becomes champion by appearing, unless its model's policy
//! says so or the model had none.

mod restore;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::error::{Error, ErrorCode, Result};
use crate::registry::Change;
use crate::registry::settings::OnNewVersion;
use crate::routing::SHADOWS_MAX;
use crate::store::{PREVIOUS_MAX, Unloaded, Wanted};
use crate::types::{Share, VersionId};

pub(super) use restore::{Had, Restored, no_entry, restore, roles, same_roles, takes_risk_away};

/// How far the attempt to load a version has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trial {
    /// It is on its way.
    Pending,
    /// It may serve.
    Ready,
    /// It failed, left, or waits for something without an end in sight.
    Out,
}

/// Every version of a model, and how far it is.
pub(super) type Trials = BTreeMap<VersionId, Trial>;

/// The versions that may serve.
pub(super) fn ready(trials: &Trials) -> BTreeSet<VersionId> {
    trials.iter().filter(|(_, t)| **t == Trial::Ready).map(|(v, _)| *v).collect()
}

/// Who becomes the first champion of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum First {
    /// Too early to tell.
    Wait,
    /// This one.
    Champion(VersionId),
    /// Nobody can.
    Nobody,
}

/// The first champion: the one that `[start]` names, else the highest number
/// that does not fail.
pub(super) fn first_champion(start: Option<VersionId>, trials: &Trials) -> First {
    let judge = |version: VersionId| match trials.get(&version) {
        Some(Trial::Pending) => First::Wait,
        Some(Trial::Ready) => First::Champion(version),
        Some(Trial::Out) | None => First::Nobody,
    };
    match start {
        Some(version) => judge(version),
        None => {
            let highest = trials.iter().rev().find(|(_, trial)| **trial != Trial::Out);
            highest.map_or(First::Nobody, |(version, _)| judge(*version))
        }
    }
}

/// A model that wants nobody yet.
pub(super) const fn nobody(salt: [u8; 16]) -> Wanted {
    Wanted {
        champion: None,
        previous: Vec::new(),
        canary: None,
        holdback: false,
        shadows: Vec::new(),
        salt,
        unloaded: Unloaded { all: false, versions: BTreeSet::new() },
        pinned: BTreeMap::new(),
        newest: None,
    }
}

/// Whether nothing is wanted of a model, but perhaps that it be unloaded.
pub(super) fn is_nobody(wanted: &Wanted) -> bool {
    let roles = wanted.champion.is_none() && wanted.canary.is_none() && wanted.shadows.is_empty();
    roles && wanted.previous.is_empty()
}

/// What is wanted after `change`. `salt` is fresh; it is used for a new
/// canary only, so that nobody changes sides when a weight does.
pub(super) fn apply(
    wanted: &Wanted,
    change: &Change,
    ready: &BTreeSet<VersionId>,
    salt: [u8; 16],
) -> Result<Wanted> {
    let mut next = wanted.clone();
    match *change {
        Change::SetCanary { version, weight } => {
            must_be_free(wanted, version, ready)?;
            if next.canary.is_none_or(|(canary, _)| canary != version) {
                next.salt = salt;
            }
            next.canary = Some((version, weight));
            next.holdback &= next.canary.map(|(v, _)| v) == wanted.canary.map(|(v, _)| v);
            next.shadows.retain(|(shadow, _)| *shadow != version);
        }
        Change::RemoveCanary => {
            next.canary.take().ok_or_else(|| conflict("there is no canary to remove"))?;
            next.holdback = false;
        }
        Change::SetShadow { version, sample } => set_shadow(&mut next, version, sample, ready)?,
        Change::RemoveShadow { version } => {
            next.shadows.retain(|(shadow, _)| *shadow != version);
            if next.shadows.len() == wanted.shadows.len() {
                return Err(conflict(format!("version {version} is no shadow")));
            }
        }
        Change::Promote { version } => promote(&mut next, version, ready)?,
        Change::PromoteKeeping { version, holdback } => {
            let former = wanted.champion;
            promote(&mut next, version, ready)?;
            next.canary = former.filter(|v| ready.contains(v)).map(|former| (former, holdback));
            next.holdback = next.canary.is_some();
        }
        Change::Rollback => rollback(&mut next, ready)?,
        Change::Retreat { version } => retreat(&mut next, version, ready)?,
        Change::Note | Change::Relearn { .. } => {}
        Change::Load { version } => load(&mut next, version)?,
        Change::Unload { version } => unload(&mut next, version)?,
        Change::Restore { .. } => return Err(Error::internal("what it means is not known yet")),
    }
    Ok(next)
}

/// Whether a change only takes risk away: such a change is carried out even
/// when it cannot be recorded.
pub(super) fn reduces_risk(wanted: &Wanted, change: &Change) -> bool {
    match *change {
        Change::RemoveCanary
        | Change::RemoveShadow { .. }
        | Change::Rollback
        | Change::Retreat { .. } => true,
        Change::SetCanary { version, weight } => {
            wanted.canary.is_some_and(|(canary, now)| canary == version && weight <= now)
        }
        Change::SetShadow { version, sample } => {
            wanted.shadows.iter().any(|(shadow, now)| *shadow == version && sample <= *now)
        }
        Change::Promote { .. }
        | Change::PromoteKeeping { .. }
        | Change::Note
        | Change::Relearn { .. }
        | Change::Restore { .. }
        | Change::Load { .. }
        | Change::Unload { .. } => false,
    }
}

fn load(next: &mut Wanted, version: Option<VersionId>) -> Result<()> {
    match version {
        None => next.unloaded = Unloaded::default(),
        Some(_) if next.unloaded.all => {
            return Err(conflict("the whole model is unloaded; load it without a version"));
        }
        Some(version) => {
            next.unloaded.versions.remove(&version);
        }
    }
    Ok(())
}

/// A version that has a role stays: who unloads the whole model means it.
fn unload(next: &mut Wanted, version: Option<VersionId>) -> Result<()> {
    let Some(version) = version else {
        next.unloaded.all = true;
        return Ok(());
    };
    let canary = next.canary.is_some_and(|(canary, _)| canary == version);
    let shadow = next.shadows.iter().any(|(shadow, _)| *shadow == version);
    let role = match next.champion {
        Some(champion) if champion == version => "champion",
        _ if canary => "canary",
        _ if shadow => "shadow",
        _ => {
            next.unloaded.versions.insert(version);
            return Ok(());
        }
    };
    Err(conflict(format!("version {version} is {role}; take it out of that role first")))
}

fn set_shadow(
    next: &mut Wanted,
    version: VersionId,
    sample: Share,
    ready: &BTreeSet<VersionId>,
) -> Result<()> {
    must_be_free(next, version, ready)?;
    if next.canary.is_some_and(|(canary, _)| canary == version) {
        let message = format!("version {version} is the canary; remove the canary first");
        return Err(conflict(message));
    }
    if let Some(shadow) = next.shadows.iter_mut().find(|(shadow, _)| *shadow == version) {
        shadow.1 = sample;
        return Ok(());
    }
    if next.shadows.len() >= SHADOWS_MAX {
        let message =
            format!("there are {SHADOWS_MAX} shadows already, the most there may be; remove one");
        return Err(conflict(message));
    }
    next.shadows.push((version, sample));
    Ok(())
}

fn promote(next: &mut Wanted, version: VersionId, ready: &BTreeSet<VersionId>) -> Result<()> {
    must_be_ready(version, ready)?;
    if next.champion == Some(version) {
        return Err(conflict(format!("version {version} is the champion already")));
    }
    if let Some(former) = next.champion {
        next.previous.push(former);
        let excess = next.previous.len().saturating_sub(PREVIOUS_MAX);
        next.previous.drain(..excess);
    }
    crown(next, version);
    Ok(())
}

fn rollback(next: &mut Wanted, ready: &BTreeSet<VersionId>) -> Result<()> {
    if next.previous.is_empty() {
        return Err(conflict("there is no previous champion to go back to"));
    }
    let Some(at) = rollback_index(next, ready) else {
        let gone: Vec<_> = next.previous.iter().map(ToString::to_string).collect();
        return Err(conflict(format!(
            "no previous champion is ready (previous: {}); a rollback to an audit entry loads \
             what is kept",
            gone.join(", ")
        )));
    };
    let version = next.previous[at];
    next.previous.truncate(at);
    crown(next, version);
    next.canary = None;
    next.holdback = false;
    Ok(())
}

/// Without a former champion that is ready a champion stays what it is: somebody
/// has to answer.
fn retreat(next: &mut Wanted, version: VersionId, ready: &BTreeSet<VersionId>) -> Result<()> {
    if next.champion == Some(version) {
        return rollback(next, ready);
    }
    next.canary = next.canary.filter(|(canary, _)| *canary != version);
    next.holdback &= next.canary.is_some();
    next.shadows.retain(|(shadow, _)| *shadow != version);
    Ok(())
}

/// Where in `previous` a rollback would find its version.
fn rollback_index(wanted: &Wanted, ready: &BTreeSet<VersionId>) -> Option<usize> {
    let fits = |v: &VersionId| ready.contains(v) && wanted.champion != Some(*v);
    wanted.previous.iter().rposition(fits)
}

/// What a rollback would make champion.
pub(super) fn rollback_target(wanted: &Wanted, ready: &BTreeSet<VersionId>) -> Option<VersionId> {
    rollback_index(wanted, ready).map(|at| wanted.previous[at])
}

/// Makes `version` champion and takes it out of every other role.
fn crown(next: &mut Wanted, version: VersionId) {
    next.champion = Some(version);
    // A control is one for the champion before only.
    let holdback = std::mem::take(&mut next.holdback);
    next.canary = next.canary.filter(|(canary, _)| *canary != version && !holdback);
    next.shadows.retain(|(shadow, _)| *shadow != version);
}

fn must_be_ready(version: VersionId, ready: &BTreeSet<VersionId>) -> Result<()> {
    if ready.contains(&version) {
        return Ok(());
    }
    let ready: Vec<_> = ready.iter().map(ToString::to_string).collect();
    let ready = if ready.is_empty() { "none".to_owned() } else { ready.join(", ") };
    Err(conflict(format!("version {version} is not ready; ready: {ready}")))
}

/// Ready, not the champion, and there is a champion to compare with.
fn must_be_free(wanted: &Wanted, version: VersionId, ready: &BTreeSet<VersionId>) -> Result<()> {
    must_be_ready(version, ready)?;
    match wanted.champion {
        None => Err(conflict("there is no champion yet; promote a version first")),
        Some(champion) if champion == version => {
            Err(conflict(format!("version {version} is the champion; choose another version")))
        }
        Some(_) => Ok(()),
    }
}

fn conflict(message: impl Into<String>) -> Error {
    Error::new(ErrorCode::Conflict, message)
}

/// What a model's policy asks for when `version` became ready while others
/// serve already; `None` is nothing.
pub(super) fn arrive(wanted: &Wanted, version: VersionId, policy: OnNewVersion) -> Option<Change> {
    let champion = wanted.champion?;
    match policy {
        // A rollout gives it its roles.
        OnNewVersion::Hold | OnNewVersion::Rollout => None,
        OnNewVersion::Shadow => Some(Change::SetShadow { version, sample: Share::ALL }),
        OnNewVersion::Promote => (version > champion).then_some(Change::Promote { version }),
    }
}

/// Who really serves.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Resolved {
    pub(super) champion: Option<VersionId>,
    pub(super) canary: Option<(VersionId, Share)>,
    /// The canary is a control.
    pub(super) holdback: bool,
    pub(super) shadows: Vec<(VersionId, Share)>,
}

/// What is wanted once the content of `version` is gone for good: its number
/// may come back with another content, which nobody asked for.
pub(super) fn forget(wanted: &Wanted, version: VersionId, serving: Option<VersionId>) -> Wanted {
    let mut next = wanted.clone();
    if next.champion == Some(version) {
        // Rather a former one than nobody, even if it is not ready yet.
        let former = next.previous.iter().rev().copied().find(|former| *former != version);
        next.champion = serving.filter(|serving| *serving != version).or(former);
        if let Some(at) = next.previous.iter().rposition(|v| Some(*v) == next.champion) {
            next.previous.truncate(at);
        }
    }
    next.previous.retain(|previous| *previous != version);
    next.canary = next.canary.filter(|(canary, _)| *canary != version);
    next.holdback &= next.canary.is_some();
    next.shadows.retain(|(shadow, _)| *shadow != version);
    next.unloaded.versions.remove(&version);
    next
}

/// Who of the wanted versions can serve now. A champion that failed is
/// replaced by the newest previous one. One that is still on its way is
/// waited for if the model does not serve yet, so that no wrong version is
/// its first champion.
pub(super) fn resolve(wanted: &Wanted, trials: &Trials, serves: bool) -> Resolved {
    let is_ready = |v: &VersionId| trials.get(v) == Some(&Trial::Ready);
    let champion = match wanted.champion {
        Some(v) if trials.get(&v) == Some(&Trial::Pending) && !serves => None,
        Some(v) if is_ready(&v) => Some(v),
        Some(_) => wanted.previous.iter().rev().find(|v| is_ready(v)).copied(),
        None => None,
    };
    let Some(champion) = champion else { return Resolved::default() };
    let free = |(v, _): &(VersionId, Share)| is_ready(v) && *v != champion;
    let canary = wanted.canary.filter(free);
    Resolved {
        champion: Some(champion),
        canary,
        holdback: wanted.holdback && canary.is_some(),
        shadows: wanted.shadows.iter().filter(|s| free(s)).copied().collect(),
    }
}

impl Resolved {
    /// Every version that has a role.
    pub(super) fn versions(&self) -> impl Iterator<Item = VersionId> {
        let canary = self.canary.map(|(version, _)| version);
        self.champion
            .into_iter()
            .chain(canary)
            .chain(self.shadows.iter().map(|(version, _)| *version))
    }
}

impl std::fmt::Display for Resolved {
    /// `champion 1, canary 2 at 10%, shadow 3 at 100%`.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Some(champion) = self.champion else { return f.write_str("nobody") };
        let mut text = format!("champion {champion}");
        if let Some((version, weight)) = self.canary {
            let role = if self.holdback { "control" } else { "canary" };
            let _ = write!(text, ", {role} {version} at {weight}");
        }
        for (version, sample) in &self.shadows {
            let _ = write!(text, ", shadow {version} at {sample}");
        }
        f.write_str(&text)
    }
}

/// A change in words, for the audit log.
pub(super) fn describe(change: &Change) -> String {
    match change {
        Change::SetCanary { version, weight } => format!("canary {version} at {weight}"),
        Change::RemoveCanary => "remove canary".to_owned(),
        Change::SetShadow { version, sample } => format!("shadow {version} at {sample}"),
        Change::RemoveShadow { version } => format!("remove shadow {version}"),
        Change::Promote { version } => format!("promote {version}"),
        Change::PromoteKeeping { version, holdback } => {
            format!("promote {version}, the former champion answers {holdback}")
        }
        Change::Rollback => "rollback".to_owned(),
        Change::Retreat { version } => format!("take {version} out"),
        Change::Note => "note".to_owned(),
        Change::Relearn { version } => format!("learn the profile of {version} anew"),
        Change::Restore { entry } => format!("rollback to entry {entry}"),
        Change::Load { version } => format!("load{}", only(*version)),
        Change::Unload { version } => format!("unload{}", only(*version)),
    }
}

fn only(version: Option<VersionId>) -> String {
    version.map_or_else(String::new, |version| format!(" {version}"))
}

#[cfg(test)]
mod tests;
