//! Who serves, as tables.

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

type List<'a> = &'a [(u64, Trial)];

/// Champion 1, canary 2 at 10 %, shadow 3, before that champions 4 and 5.
fn usual() -> Wanted {
    Wanted {
        champion: Some(id(1)),
        previous: vec![id(4), id(5)],
        canary: Some((id(2), share(10.0))),
        holdback: false,
        shadows: vec![(id(3), Share::ALL)],
        salt: [1; 16],
        unloaded: Unloaded::default(),
        pinned: [].into(),
        newest: None,
    }
}

fn applied(change: &Change, ready: &[u64]) -> Result<Wanted> {
    apply(&usual(), change, &set(ready), [2; 16])
}

#[test]
fn the_first_champion_is_the_highest_that_does_not_fail() {
    use Trial::{Out, Pending, Ready};
    let cases: [(Option<u64>, List<'_>, First); 9] = [
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
        wanted = apply(&wanted, &Change::Promote { version }, &set(&[10, 11]), [0; 16]).unwrap();
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
        (Change::SetCanary { version: id(9), weight: sample }, &[1, 2], "not ready; ready: 1, 2"),
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
    let cases: [(List<'_>, &str); 6] = [
        (&[(1, Ready), (2, Ready), (3, Ready)], "champion 1, canary 2 at 10%, shadow 3 at 100%"),
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
    // Nobody did: then it is the former one, once it is ready.
    let next = forget(&usual(), id(1), None);
    assert_eq!((next.champion, next.previous), (Some(id(5)), vec![id(4)]));
    let alone = Wanted { previous: vec![], ..usual() };
    assert_eq!(forget(&alone, id(1), None).champion, None);
}

#[test]
fn a_fallback_champion_has_no_second_role() {
    let wanted = Wanted { previous: vec![id(2)], ..usual() };
    let ready = trials(&[(2, Trial::Ready), (3, Trial::Ready)]);
    let resolved = resolve(&wanted, &ready, false);
    assert_eq!(resolved.to_string(), "champion 2, shadow 3 at 100%");
    assert_eq!(resolved.versions().collect::<Vec<_>>(), [id(2), id(3)]);
}
