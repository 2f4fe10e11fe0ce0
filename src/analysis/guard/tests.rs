use proptest::prelude::*;

use super::super::terms::tests::percent;
use super::*;
use crate::types::Share;

fn rule() -> Rule {
    Rule {
        worse_than: Margin::ONE,
        not_worse_than: None,
        objective: None,
        alpha: Level::new(0.01).unwrap(),
        beta: Level::new(0.05).unwrap(),
    }
}

#[test]
fn nothing_is_never_good() {
    let mut guard = Guard::new(rule(), percent(1.0));
    assert_eq!(guard.verdict(), Verdict::NotEnough);
    guard.set_dropped(7);
    let judgement = guard.judgement();
    assert_eq!(judgement.verdict, Verdict::NotEnough);
    assert_eq!(judgement.facts.dropped, 7);
    assert_eq!(judgement.effect, Effect { ratio: None, lower: 0.0, upper: None });
    assert!(judgement.not_worse.events_more.is_some(), "an equal canary would pass");
    assert_eq!(judgement.worse.events_more, None, "and never be called worse");
}

#[test]
fn a_fault_is_worse_and_stays_it() {
    let mut guard = Guard::new(rule(), percent(5.0));
    guard.add(95, 20);
    assert_eq!(guard.verdict(), Verdict::Worse);
    guard.add(10_000, 100);
    let judgement = guard.judgement();
    assert_eq!(judgement.verdict, Verdict::Worse, "the best look counts");
    assert!(judgement.worse.ln_e < 0.0 && judgement.worse.best_ln_e > 10.3);
    assert!(judgement.effect.lower > 1.0);
    assert_eq!(judgement.worse.events_more, Some(0));
}

#[test]
fn an_equal_canary_passes_each_stage_anew() {
    let mut guard = Guard::new(rule(), percent(1.0));
    guard.add(99, 1);
    assert_eq!(guard.verdict(), Verdict::NotWorse);
    assert_eq!(guard.judgement().not_worse.margin.get(), 10.0);
    guard.begin(percent(25.0));
    assert_eq!(guard.verdict(), Verdict::NotEnough, "a tighter margin is not shown yet");
    let judgement = guard.judgement();
    let more = judgement.not_worse.events_more.unwrap();
    guard.add(more - more / 4, more / 4);
    assert_eq!(guard.verdict(), Verdict::NotWorse, "after {more} events, as foretold");
    assert_eq!(guard.judgement().facts.stages[0].champion, 99, "earlier stages stay");
}

#[test]
fn between_the_margins_worse_wins() {
    let mut guard = Guard::new(rule(), percent(5.0));
    guard.add(9_500, 1_000);
    let judgement = guard.judgement();
    assert!(judgement.worse.shown() && judgement.not_worse.shown());
    assert_eq!(judgement.verdict, Verdict::Worse);
}

#[test]
fn an_objective_passes_where_events_are_too_rare_for_a_ratio() {
    let objective = Some(Rate::new(0.001).unwrap());
    let mut guard = Guard::new(Rule { objective, ..rule() }, percent(5.0));
    guard.add(1, 0);
    guard.add_requests(3_000, 0);
    assert_eq!(guard.verdict(), Verdict::NotEnough);
    guard.add_requests(400, 0);
    assert_eq!(guard.verdict(), Verdict::NotWorse);
    guard.add_requests(100, 9);
    let judgement = guard.judgement();
    assert_eq!(judgement.verdict, Verdict::NotWorse, "the best look counts");
    assert!(!judgement.not_worse.shown() && judgement.objective_ln_e.unwrap() > 20.0_f64.ln());
    guard.add(0, 20);
    assert_eq!(guard.verdict(), Verdict::Worse, "the objective excuses no fault");
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Begin(u16),
    Add(u64, u64),
    Requests(u64, u64),
}

fn some_steps() -> impl Strategy<Value = Vec<Step>> {
    let count = || prop_oneof![4 => 0_u64..60, 1 => any::<u64>()];
    let step = prop_oneof![
        1 => (1_u16..10_000).prop_map(Step::Begin),
        4 => (count(), count()).prop_map(|(a, b)| Step::Add(a, b)),
        2 => (count(), count()).prop_map(|(a, b)| Step::Requests(a, b)),
    ];
    proptest::collection::vec(step, 0..12)
}

proptest! {
    #[test]
    fn a_record_gives_its_verdict_again(steps in some_steps(), objective: bool) {
        let objective = objective.then(|| Rate::new(0.01).unwrap());
        let mut guard = Guard::new(Rule { objective, ..rule() }, percent(1.0));
        for step in steps {
            match step {
                Step::Begin(points) => {
                    let share = Share::from_basis_points(points).unwrap();
                    guard.begin(Exposure::new(share).unwrap());
                }
                Step::Add(champion, canary) => guard.add(champion, canary),
                Step::Requests(requests, events) => guard.add_requests(requests, events),
            }
            let judgement = guard.judgement();
            prop_assert_eq!(judgement.verdict, guard.verdict());
            prop_assert_eq!(&judge(judgement.rule, judgement.facts.clone()), &judgement);
            for finding in [judgement.worse, judgement.not_worse] {
                prop_assert!(finding.ln_e.is_finite() && finding.best_ln_e >= 0.0);
                prop_assert!((0.0..=1.0).contains(&finding.p_value));
            }
            // A record is text, and nothing is lost in it.
            let text = serde_json::to_string(&judgement).unwrap();
            let read: Judgement = serde_json::from_str(&text).unwrap();
            prop_assert_eq!(read.verdict, judgement.verdict);
            prop_assert_eq!(&read.facts, &judgement.facts);
        }
    }
}

#[test]
fn a_recorded_guard_goes_on_as_if_it_had_never_stopped() {
    let mut whole = Guard::new(rule(), percent(1.0));
    for (champion, canary) in [(5, 0), (3, 1), (0, 2)] {
        whole.add(champion, canary);
    }
    whole.begin(percent(5.0));
    whole.add(20, 1);
    whole.add_requests(500, 1);
    let text = serde_json::to_string(&whole.judgement()).unwrap();
    let read: Judgement = serde_json::from_str(&text).unwrap();
    assert_eq!(read, whole.judgement());
    let mut resumed = Guard::resume(read.rule, read.facts, percent(1.0));
    for guard in [&mut whole, &mut resumed] {
        guard.add(1, 9);
        guard.begin(percent(25.0));
        guard.add(2, 3);
    }
    assert_eq!(resumed.judgement(), whole.judgement());
    assert_eq!(resumed.verdict(), whole.verdict());
}
