//! Going back to a former state: what of it can be had now. Pure.
//!
//! The champion must be had, or nothing is changed. A canary or shadow that cannot be
//! had is left out, and named: who goes back wants the champion of then most of all.
//! One that is still on its way gets its role when it is ready, as after a restart.

use crate::error::{Error, ErrorCode, Result};
use crate::registry::wanted::conflict;
use crate::store::Wanted;
use crate::types::{Share, VersionId};

/// Whether a version can be had with the content that it had then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::registry) enum Had {
    /// Now.
    Ready,
    /// In a moment.
    Coming,
    /// No; why.
    Gone(String),
}

/// What comes of going back.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::registry) struct Restored {
    pub(in crate::registry) wanted: Wanted,
    /// What of the former state cannot be had: `canary 2 (why)`.
    pub(in crate::registry) left_out: Vec<String>,
}

/// What is wanted once the state of `then` is back. `salt` is fresh; it is used unless
/// the canary is the one of now: nobody changes sides without need.
///
/// # Errors
/// `Conflict` where nobody was champion then, where he cannot be had, and where all is
/// so already.
pub(in crate::registry) fn restore(
    now: &Wanted,
    then: &Wanted,
    had: impl Fn(VersionId) -> Had,
    salt: [u8; 16],
) -> Result<Restored> {
    let champion = then.champion.ok_or_else(|| conflict("nobody was champion then"))?;
    match had(champion) {
        Had::Ready => {}
        Had::Coming => {
            return Err(conflict(format!("version {champion}, champion then, is not ready yet")));
        }
        Had::Gone(why) => {
            let message = format!("version {champion}, champion then, cannot be had: {why}");
            return Err(conflict(message));
        }
    }
    let mut left_out = Vec::new();
    let mut comes = |role: &str, version: VersionId| match had(version) {
        Had::Ready | Had::Coming => true,
        Had::Gone(why) => {
            left_out.push(format!("{role} {version} ({why})"));
            false
        }
    };
    let canary = then.canary.filter(|(version, _)| comes("canary", *version));
    let shadows = then.shadows.iter().filter(|(version, _)| comes("shadow", *version));
    let shadows: Vec<_> = shadows.copied().collect();
    let stays = |v: &VersionId| *v != champion && !matches!(had(*v), Had::Gone(_));
    let version = |(version, _): (VersionId, Share)| version;
    let same = canary.is_some() && now.canary.map(version) == canary.map(version);
    let wanted = Wanted {
        champion: Some(champion),
        previous: then.previous.iter().filter(|v| stays(v)).copied().collect(),
        holdback: canary.is_some() && then.holdback,
        canary,
        shadows,
        salt: if same { now.salt } else { salt },
        unloaded: now.unloaded.clone(),
        pinned: then.pinned.clone(),
        newest: now.newest,
    };
    if same_roles(now, &wanted) {
        return Err(conflict("that is how it is now; nothing was changed"));
    }
    Ok(Restored { wanted, left_out })
}

/// Whether `next` only takes risk away from `now`: its champion is the present one, or
/// was one before him, and nobody gets requests or copies that he does not get now.
///
/// Going back to such a state is carried out although it cannot be recorded, as a
/// plain rollback is; going forth, or back to a larger canary, is not.
pub(in crate::registry) fn takes_risk_away(now: &Wanted, next: &Wanted) -> bool {
    let known = next
        .champion
        .is_some_and(|champion| now.champion == Some(champion) || now.previous.contains(&champion));
    let no_more = |(version, share): &(VersionId, Share), before: Option<&(VersionId, Share)>| {
        before.is_some_and(|(known, most)| known == version && share <= most)
    };
    let canary = next
        .canary
        .as_ref()
        .is_none_or(|canary| now.champion == next.champion && no_more(canary, now.canary.as_ref()));
    let shadows = next.shadows.iter().all(|shadow| {
        no_more(shadow, now.shadows.iter().find(|(version, _)| *version == shadow.0))
    });
    known && canary && shadows
}

/// Every version that has a role in it.
pub(in crate::registry) fn roles(wanted: &Wanted) -> impl Iterator<Item = VersionId> {
    let canary = wanted.canary.map(|(version, _)| version);
    let shadows = wanted.shadows.iter().map(|(version, _)| *version);
    wanted.champion.into_iter().chain(canary).chain(shadows)
}

/// Whether the same versions have the same roles and shares in both.
pub(in crate::registry) fn same_roles(a: &Wanted, b: &Wanted) -> bool {
    (a.champion, a.canary, a.holdback, &a.shadows) == (b.champion, b.canary, b.holdback, &b.shadows)
}

/// The error for an entry that says nothing about this model.
pub(in crate::registry) fn no_entry(entry: u64, model: &str, of: Option<&str>) -> Error {
    let message = match of {
        Some(of) => format!("audit entry {entry} is of model {of}, not of {model}"),
        None => format!("there is no audit entry {entry}"),
    };
    let hint = format!("{message}; `foreshadow history {model}` shows its entries");
    Error::new(ErrorCode::NotFound, hint)
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

    /// Champion, canary at a percentage, shadows at 100 %.
    fn state(champion: u64, canary: Option<(u64, f64)>, shadows: &[u64]) -> Wanted {
        Wanted {
            champion: Some(id(champion)),
            canary: canary.map(|(version, percent)| (id(version), share(percent))),
            shadows: shadows.iter().map(|version| (id(*version), Share::ALL)).collect(),
            salt: [1; 16],
            ..crate::registry::wanted::nobody([0; 16])
        }
    }

    const FRESH: [u8; 16] = [9; 16];

    #[test]
    fn roles_come_back_as_far_as_they_can_be_had() {
        let then = Wanted { previous: vec![id(5), id(6)], ..state(1, Some((2, 10.0)), &[3, 4]) };
        let had = |version: VersionId| match version.get() {
            1 | 5 => Had::Ready,
            3 => Had::Coming,
            _ => Had::Gone("no copy".to_owned()),
        };
        let Restored { wanted, left_out } =
            restore(&state(7, None, &[]), &then, had, FRESH).unwrap();
        assert_eq!(wanted, Wanted { previous: vec![id(5)], salt: FRESH, ..state(1, None, &[3]) });
        assert_eq!(left_out, ["canary 2 (no copy)", "shadow 4 (no copy)"]);
    }

    #[test]
    fn a_champion_that_cannot_be_had_is_an_error() {
        let now = state(7, None, &[]);
        let refused = |then: &Wanted, had: Had| {
            let error = restore(&now, then, |_| had.clone(), FRESH).unwrap_err();
            assert_eq!(error.code(), ErrorCode::Conflict);
            error.message().to_owned()
        };
        let gone = Had::Gone("no copy".to_owned());
        let message = refused(&state(1, None, &[]), gone);
        assert_eq!(message, "version 1, champion then, cannot be had: no copy");
        assert!(refused(&state(1, None, &[]), Had::Coming).contains("not ready yet"));
        assert!(refused(&crate::registry::wanted::nobody(FRESH), Had::Ready).contains("nobody"));
        assert!(refused(&now, Had::Ready).contains("how it is now"));
    }

    #[test]
    fn the_same_canary_keeps_its_users() {
        let restored = |now: &Wanted| {
            let then = state(1, Some((2, 5.0)), &[]);
            restore(now, &then, |_| Had::Ready, FRESH).unwrap().wanted.salt
        };
        assert_eq!(restored(&state(1, Some((2, 50.0)), &[])), [1; 16]);
        assert_eq!(restored(&state(1, Some((3, 5.0)), &[])), FRESH);
        assert_eq!(restored(&state(2, None, &[])), FRESH);
    }

    #[test]
    fn only_what_was_there_already_takes_risk_away() {
        let now = Wanted { previous: vec![id(1)], ..state(2, Some((3, 10.0)), &[4]) };
        let cases = [
            (state(2, None, &[]), true),
            (state(2, Some((3, 10.0)), &[4]), true),
            (state(2, Some((3, 5.0)), &[]), true),
            (state(2, Some((3, 20.0)), &[]), false),
            (state(2, Some((5, 1.0)), &[]), false),
            (state(2, None, &[5]), false),
            (state(1, None, &[]), true),
            (state(1, None, &[4]), true),
            // Beside another champion it is another thing.
            (state(1, Some((3, 5.0)), &[]), false),
            // Forth, not back.
            (state(3, None, &[]), false),
        ];
        for (next, expected) in cases {
            assert_eq!(takes_risk_away(&now, &next), expected, "{next:?}");
        }
    }
}
