use crate::analysis::{Exposure, Outcome, Verdict};
use crate::rollout::Stage;
use crate::rollout::jury::{Evidence, GuardName, Judged, Jury};
use crate::telemetry::{GroupWrong, TrialCounts, Wrong, WrongCounts};
use crate::types::{RolloutPolicy, Share};

const CANARY: Stage = Stage::Canary(Share::ALL);

fn percent(share: f64) -> Share {
    Share::from_percent(share).unwrap()
}

fn counts(share: f64, champion: u64, canary: u64) -> WrongCounts {
    WrongCounts { share: percent(share), champion, canary }
}

fn group(name: &str, counts: WrongCounts) -> GroupWrong {
    GroupWrong { grouping: "plan".into(), group: name.into(), counts: vec![counts] }
}

/// Both guards, and no others.
fn policy() -> RolloutPolicy {
    let mut policy = RolloutPolicy::default();
    let guards = &mut policy.guards;
    for own in [
        &mut guards.errors,
        &mut guards.refusals,
        &mut guards.nonfinite,
        &mut guards.latency_p50,
        &mut guards.latency_p99,
    ] {
        own.enabled = false;
    }
    (guards.wrong.enabled, guards.fairness.enabled) = (true, true);
    policy
}

fn begun(share: f64) -> Jury {
    let mut jury = Jury::resume(&policy(), &Evidence::default()).unwrap();
    jury.begin(Exposure::new(percent(share)).unwrap());
    jury
}

fn tell(jury: &mut Jury, wrong: &Wrong) {
    jury.count_trial(&TrialCounts { wrong: wrong.clone(), ..TrialCounts::default() });
}

fn verdict(jury: &Jury, guard: GuardName) -> Option<Verdict> {
    jury.evidence().of(guard).map(Judged::verdict)
}

#[test]
fn one_that_is_wrong_more_often_is_worse_also_where_labels_come_a_stage_later() {
    let mut jury = begun(5.0);
    tell(&mut jury, &Wrong { all: vec![counts(5.0, 95, 4)], ..Wrong::default() });
    assert_eq!(verdict(&jury, GuardName::Wrong), Some(Verdict::NotWorse));
    assert_eq!(verdict(&jury, GuardName::Fairness), None, "no group is declared");
    jury.begin(Exposure::new(percent(25.0)).unwrap());
    // Nobody waits for labels of the new stage.
    assert_eq!(jury.evidence().outcome(CANARY), Outcome::NotEnough);
    let late = Wrong { all: vec![counts(5.0, 190, 40), counts(25.0, 3, 1)], ..Wrong::default() };
    tell(&mut jury, &late);
    assert_eq!(jury.evidence().outcome(CANARY), Outcome::Worse);
    let Some(Judged::Ratio(said)) = jury.evidence().of(GuardName::Wrong).cloned() else {
        panic!("it judges");
    };
    let stages: Vec<_> = said.facts.stages.iter().map(|own| (own.champion, own.canary)).collect();
    assert_eq!(stages, [(190, 40), (3, 1)]);
    // What is said again is counted once.
    tell(&mut jury, &late);
    assert_eq!(jury.evidence().of(GuardName::Wrong), Some(&Judged::Ratio(said)));
}

#[test]
fn one_that_is_wrong_for_one_group_is_unfair_and_not_wrong_overall() {
    let mut jury = begun(50.0);
    let mut wrong = Wrong {
        all: vec![counts(50.0, 500, 520)],
        groups: vec![
            group("basic", counts(50.0, 490, 455)),
            group("pro", counts(50.0, 10, 65)),
            group("(other)", counts(50.0, 0, 0)),
        ],
        lost: 2,
    };
    tell(&mut jury, &wrong);
    assert_ne!(verdict(&jury, GuardName::Wrong), Some(Verdict::Worse));
    assert_eq!(verdict(&jury, GuardName::Fairness), Some(Verdict::Worse));
    assert_eq!(jury.evidence().outcome(CANARY), Outcome::Worse);
    let evidence = jury.evidence();
    let Some(Judged::Groups(said)) = evidence.of(GuardName::Fairness) else { panic!("it judges") };
    let leading = said.leading().unwrap();
    assert_eq!((leading.group.as_str(), leading.judgement.facts.dropped), ("pro", 2));
    // The level is split over both guards and the groups, for good.
    assert_eq!(leading.judgement.rule.alpha.get(), leading_alpha(&evidence));
    let text = crate::rollout::explain::why(&evidence, CANARY);
    assert!(text.starts_with("worse: fairness: plan=pro: 65 against the champion's 10;"), "{text}");

    // It goes on from its record, also where other groups are declared meanwhile.
    let stored = serde_json::to_string(&evidence).unwrap();
    let mut resumed = Jury::resume(&policy(), &serde_json::from_str(&stored).unwrap()).unwrap();
    assert_eq!(resumed.evidence(), evidence);
    wrong.groups.push(group("gold", counts(50.0, 0, 1_000)));
    for jury in [&mut jury, &mut resumed] {
        jury.begin(Exposure::new(percent(50.0)).unwrap());
        tell(jury, &wrong);
    }
    assert_eq!(resumed.evidence(), jury.evidence());
    let Some(Judged::Groups(said)) = resumed.evidence().of(GuardName::Fairness).cloned() else {
        panic!("it judges");
    };
    assert_eq!(said.groups.len(), 3);
}

/// The rollout's level over its guards (disagreement, failures of copies and both of these),
/// and then over three groups.
fn leading_alpha(evidence: &Evidence) -> f64 {
    let Some(Judged::Ratio(overall)) = evidence.of(GuardName::Wrong) else { panic!("it judges") };
    overall.rule.alpha.get() / 3.0
}

#[test]
fn either_guard_judges_alone_and_at_once() {
    let judged = |wrong: bool, fairness: bool| {
        let mut policy = policy();
        (policy.guards.wrong.enabled, policy.guards.fairness.enabled) = (wrong, fairness);
        let mut jury = Jury::resume(&policy, &Evidence::default()).unwrap();
        jury.begin(Exposure::new(percent(50.0)).unwrap());
        let bad = counts(50.0, 1, 60);
        tell(&mut jury, &Wrong { all: vec![bad], groups: vec![group("pro", bad)], lost: 0 });
        [GuardName::Wrong, GuardName::Fairness].map(|guard| verdict(&jury, guard))
    };
    assert_eq!(judged(true, false), [Some(Verdict::Worse), None]);
    assert_eq!(judged(false, true), [None, Some(Verdict::Worse)]);
}

#[test]
fn nothing_is_said_before_the_first_canary() {
    let mut jury = Jury::resume(&policy(), &Evidence::default()).unwrap();
    assert!(jury.wants_trial());
    tell(&mut jury, &Wrong { all: vec![counts(5.0, 1, 100)], ..Wrong::default() });
    assert_eq!(verdict(&jury, GuardName::Wrong), None);
    let usual = Jury::resume(&RolloutPolicy::default(), &Evidence::default()).unwrap();
    assert!(!usual.wants_trial());
}
