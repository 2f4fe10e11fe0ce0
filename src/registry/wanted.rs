//! Who should answer, and who really can. Pure.
//!
//! Invariants: no version gets a role before it is ready; a version has one
//! role; no version becomes champion by appearing, unless its model's policy
//! says so or the model had none.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::error::{Error, ErrorCode, Result};
use crate::registry::Change;
use crate::registry::settings::OnNewVersion;
use crate::routing::SHADOWS_MAX;
use crate::store::{PREVIOUS_MAX, Wanted};
use crate::types::{Share, VersionId};

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
    Wanted { champion: None, previous: Vec::new(), canary: None, shadows: Vec::new(), salt }
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
            next.shadows.retain(|(shadow, _)| *shadow != version);
        }
        Change::RemoveCanary => {
            next.canary.take().ok_or_else(|| conflict("there is no canary to remove"))?;
        }
        Change::SetShadow { version, sample } => set_shadow(&mut next, version, sample, ready)?,
        Change::RemoveShadow { version } => {
            next.shadows.retain(|(shadow, _)| *shadow != version);
            if next.shadows.len() == wanted.shadows.len() {
                return Err(conflict(format!("version {version} is no shadow")));
            }
        }
        Change::Promote { version } => promote(&mut next, version, ready)?,
        Change::Rollback => rollback(&mut next, ready)?,
    }
    Ok(next)
}

/// Whether a change only takes risk away: such a change is carried out even
/// when it cannot be recorded.
pub(super) fn reduces_risk(wanted: &Wanted, change: &Change) -> bool {
    match *change {
        Change::RemoveCanary | Change::RemoveShadow { .. } | Change::Rollback => true,
        Change::SetCanary { version, weight } => {
            wanted.canary.is_some_and(|(canary, now)| canary == version && weight <= now)
        }
        Change::SetShadow { .. } | Change::Promote { .. } => false,
    }
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
            "no previous champion is ready (previous: {})",
            gone.join(", ")
        )));
    };
    let version = next.previous[at];
    next.previous.truncate(at);
    crown(next, version);
    next.canary = None;
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
    next.canary = next.canary.filter(|(canary, _)| *canary != version);
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
        OnNewVersion::Hold => None,
        OnNewVersion::Shadow => Some(Change::SetShadow { version, sample: Share::ALL }),
        OnNewVersion::Promote => (version > champion).then_some(Change::Promote { version }),
    }
}

/// Who really serves.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Resolved {
    pub(super) champion: Option<VersionId>,
    pub(super) canary: Option<(VersionId, Share)>,
    pub(super) shadows: Vec<(VersionId, Share)>,
}

/// What is wanted once the content of `version` is gone for good: its number
/// may come back with another content, which nobody asked for.
pub(super) fn forget(wanted: &Wanted, version: VersionId, serving: Option<VersionId>) -> Wanted {
    let mut next = wanted.clone();
    if next.champion == Some(version) {
        next.champion = serving.filter(|serving| *serving != version);
        if let Some(at) = next.previous.iter().rposition(|v| Some(*v) == next.champion) {
            next.previous.truncate(at);
        }
    }
    next.previous.retain(|previous| *previous != version);
    next.canary = next.canary.filter(|(canary, _)| *canary != version);
    next.shadows.retain(|(shadow, _)| *shadow != version);
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
    Resolved {
        champion: Some(champion),
        canary: wanted.canary.filter(free),
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
            let _ = write!(text, ", canary {version} at {weight}");
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
        Change::Rollback => "rollback".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> VersionId {
        VersionId::new(n).unwrap()
    }

    fn share(percent: f64) -> Share {
        Share::from_percent(percent).unwrap()
    }

    fn set(numbers: &[u64]) -> BTreeSet<VersionId> {
        numbers.iter().map(|n| id(*n)).collect()
    }

    fn trials(list: &[(u64, Trial)]) -> Trials {
        list.iter().map(|(n, trial)| (id(*n), *trial)).collect()
    }

    /// Champion 1, canary 2 at 10 %, shadow 3, before that champions 4 and 5.
    fn usual() -> Wanted {
        Wanted {
            champion: Some(id(1)),
            previous: vec![id(4), id(5)],
            canary: Some((id(2), share(10.0))),
            shadows: vec![(id(3), Share::ALL)],
            salt: [1; 16],
        }
    }

    fn applied(change: &Change, ready: &[u64]) -> Result<Wanted> {
        apply(&usual(), change, &set(ready), [2; 16])
    }

    #[test]
    fn the_first_champion_is_the_highest_that_does_not_fail() {
        use Trial::{Out, Pending, Ready};
        let cases: [(Option<u64>, &[(u64, Trial)], First); 9] = [
            (None, &[], First::Nobody),
            (None, &[(1, Ready), (2, Ready)], First::Champion(id(2))),
            (None, &[(1, Ready), (2, Pending)], First::Wait),
            (None, &[(1, Pending), (2, Ready)], First::Champion(id(2))),
            (None, &[(1, Ready), (2, Out)], First::Champion(id(1))),
            (None, &[(1, Out)], First::Nobody),
            (Some(1), &[(1, Ready), (2, Ready)], First::Champion(id(1))),
            (Some(1), &[(1, Pending), (2, Ready)], First::Wait),
            (Some(1), &[(1, Out), (2, Ready)], First::Nobody),
        ];
        for (start, list, expected) in cases {
            let got = first_champion(start.map(id), &trials(list));
            assert_eq!(got, expected, "start {start:?}, {list:?}");
        }
    }

    #[test]
    fn a_new_canary_draws_a_salt_and_a_new_weight_does_not() {
        let weight = share(20.0);
        let same = applied(&Change::SetCanary { version: id(2), weight }, &[1, 2, 3]).unwrap();
        assert_eq!((same.canary, same.salt), (Some((id(2), weight)), [1; 16]));
        let other = applied(&Change::SetCanary { version: id(3), weight }, &[1, 2, 3]).unwrap();
        assert_eq!((other.canary, other.salt), (Some((id(3), weight)), [2; 16]));
        assert!(other.shadows.is_empty(), "a version has one role");
    }

    #[test]
    fn a_promotion_remembers_whom_it_replaced() {
        let next = applied(&Change::Promote { version: id(2) }, &[1, 2, 3]).unwrap();
        assert_eq!(next.champion, Some(id(2)));
        assert_eq!(next.previous, [id(4), id(5), id(1)]);
        assert_eq!(next.canary, None);
        assert_eq!(next.shadows, usual().shadows);
        let shadow = applied(&Change::Promote { version: id(3) }, &[1, 2, 3]).unwrap();
        assert_eq!((shadow.canary, shadow.shadows.len()), (usual().canary, 0));
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut wanted = usual();
        for i in 0..100 {
            let version = id(10 + i % 2);
            wanted =
                apply(&wanted, &Change::Promote { version }, &set(&[10, 11]), [0; 16]).unwrap();
        }
        assert_eq!(wanted.previous.len(), PREVIOUS_MAX);
    }

    #[test]
    fn a_rollback_goes_to_the_newest_previous_that_is_ready() {
        let next = applied(&Change::Rollback, &[1, 2, 3, 4, 5]).unwrap();
        assert_eq!((next.champion, next.previous), (Some(id(5)), vec![id(4)]));
        assert_eq!((next.canary, next.shadows), (None, usual().shadows));
        let skipped = applied(&Change::Rollback, &[1, 4]).unwrap();
        assert_eq!((skipped.champion, skipped.previous), (Some(id(4)), vec![]));
    }

    #[test]
    fn a_promotion_is_undone_by_a_rollback() {
        let ready = set(&[1, 2]);
        let before = Wanted { canary: None, ..usual() };
        let after = apply(&before, &Change::Promote { version: id(2) }, &ready, [0; 16]).unwrap();
        let back = apply(&after, &Change::Rollback, &ready, [0; 16]).unwrap();
        assert_eq!(back, before);
    }

    #[test]
    fn what_the_state_does_not_allow_is_refused_with_its_reason() {
        let sample = Share::ALL;
        let all = [1, 2, 3, 4, 5];
        let cases: [(Change, &[u64], &str); 10] = [
            (
                Change::SetCanary { version: id(9), weight: sample },
                &[1, 2],
                "not ready; ready: 1, 2",
            ),
            (Change::SetCanary { version: id(1), weight: sample }, &all, "is the champion"),
            (Change::SetShadow { version: id(1), sample }, &all, "is the champion"),
            (Change::SetShadow { version: id(2), sample }, &all, "is the canary"),
            (Change::SetShadow { version: id(4), sample }, &[], "ready: none"),
            (Change::RemoveShadow { version: id(4) }, &all, "is no shadow"),
            (Change::Promote { version: id(1) }, &all, "champion already"),
            (Change::Promote { version: id(9) }, &all, "not ready"),
            (Change::Rollback, &[1, 2], "previous: 4, 5"),
            (Change::SetShadow { version: id(9), sample }, &[], "not ready"),
        ];
        for (change, ready, expected) in cases {
            let error = applied(&change, ready).unwrap_err();
            assert_eq!(error.code(), ErrorCode::Conflict);
            assert!(error.message().contains(expected), "{change:?}: {error}");
        }
        let empty = nobody([0; 16]);
        for change in [
            Change::RemoveCanary,
            Change::Rollback,
            Change::SetCanary { version: id(1), weight: sample },
        ] {
            assert!(apply(&empty, &change, &set(&[1]), [0; 16]).is_err(), "{change:?}");
        }
    }

    #[test]
    fn shadows_are_bounded() {
        let ready: BTreeSet<_> = (1..100).map(id).collect();
        let mut wanted = Wanted { shadows: vec![], canary: None, ..usual() };
        for n in 10..10 + SHADOWS_MAX as u64 {
            let change = Change::SetShadow { version: id(n), sample: Share::ALL };
            wanted = apply(&wanted, &change, &ready, [0; 16]).unwrap();
        }
        let more = Change::SetShadow { version: id(90), sample: Share::ALL };
        assert!(apply(&wanted, &more, &ready, [0; 16]).is_err());
        let again = Change::SetShadow { version: id(10), sample: share(1.0) };
        assert_eq!(apply(&wanted, &again, &ready, [0; 16]).unwrap().shadows[0].1, share(1.0));
    }

    #[test]
    fn a_lower_weight_reduces_risk_and_a_higher_does_not() {
        let canary = |n, percent| Change::SetCanary { version: id(n), weight: share(percent) };
        assert!(reduces_risk(&usual(), &canary(2, 5.0)));
        assert!(!reduces_risk(&usual(), &canary(2, 11.0)));
        assert!(!reduces_risk(&usual(), &canary(3, 5.0)));
        assert!(reduces_risk(&usual(), &Change::Rollback));
        assert!(!reduces_risk(&usual(), &Change::Promote { version: id(2) }));
    }

    #[test]
    fn arriving_changes_nothing_unless_the_policy_says_so() {
        let new = id(9);
        assert_eq!(arrive(&usual(), new, OnNewVersion::Hold), None);
        let shadow = Some(Change::SetShadow { version: new, sample: Share::ALL });
        assert_eq!(arrive(&usual(), new, OnNewVersion::Shadow), shadow);
        let promote = Some(Change::Promote { version: new });
        assert_eq!(arrive(&usual(), new, OnNewVersion::Promote), promote);
        let later = Wanted { champion: Some(id(10)), ..usual() };
        assert_eq!(arrive(&later, new, OnNewVersion::Promote), None, "an older number");
    }

    #[test]
    fn who_is_not_ready_does_not_serve() {
        use Trial::{Out, Pending, Ready};
        let cases: [(&[(u64, Trial)], &str); 6] = [
            (
                &[(1, Ready), (2, Ready), (3, Ready)],
                "champion 1, canary 2 at 10%, shadow 3 at 100%",
            ),
            (&[(1, Ready), (2, Pending), (3, Out)], "champion 1"),
            (&[(1, Pending), (2, Ready), (5, Ready)], "nobody"),
            (&[(1, Out), (2, Ready), (4, Ready)], "champion 4, canary 2 at 10%"),
            (&[(1, Out), (4, Ready), (5, Ready)], "champion 5"),
            (&[(2, Ready), (3, Ready)], "nobody"),
        ];
        for (list, expected) in cases {
            assert_eq!(resolve(&usual(), &trials(list), false).to_string(), expected, "{list:?}");
        }
    }

    #[test]
    fn a_champion_that_comes_back_does_not_interrupt_its_replacement() {
        let list = trials(&[(1, Trial::Pending), (5, Trial::Ready)]);
        assert_eq!(resolve(&usual(), &list, true).to_string(), "champion 5");
        assert_eq!(resolve(&usual(), &list, false).to_string(), "nobody");
    }

    #[test]
    fn a_number_without_its_content_has_no_role() {
        let serving = Some(id(1));
        assert_eq!(forget(&usual(), id(9), serving), usual());
        assert_eq!(forget(&usual(), id(2), serving).canary, None);
        assert!(forget(&usual(), id(3), serving).shadows.is_empty());
        assert_eq!(forget(&usual(), id(5), serving).previous, [id(4)]);
        // The champion had failed, and 4 served in its place.
        let next = forget(&usual(), id(1), Some(id(4)));
        assert_eq!((next.champion, next.previous), (Some(id(4)), vec![]));
        let next = forget(&usual(), id(1), None);
        assert_eq!((next.champion, next.previous), (None, usual().previous));
    }

    #[test]
    fn a_fallback_champion_has_no_second_role() {
        let wanted = Wanted { previous: vec![id(2)], ..usual() };
        let ready = trials(&[(2, Trial::Ready), (3, Trial::Ready)]);
        let resolved = resolve(&wanted, &ready, false);
        assert_eq!(resolved.to_string(), "champion 2, shadow 3 at 100%");
        assert_eq!(resolved.versions().collect::<Vec<_>>(), [id(2), id(3)]);
    }
}
