use super::*;
use crate::types::{Digest, GroupSource, Grouping, PredictionId, RowAnswer, VersionId};

fn id(n: u64) -> VersionId {
    VersionId::new(n).unwrap()
}

fn percent(share: f64) -> Share {
    Share::from_percent(share).unwrap()
}

fn model() -> ModelName {
    ModelName::new("m").unwrap()
}

const TRIAL: u64 = 7;

fn trial() -> Trial {
    Trial {
        rollout: TRIAL,
        since: 100,
        base: id(1),
        version: id(2),
        by_group: true,
        by_selection: false,
    }
}

fn who(version: u64, role: &str, canary: Option<f64>) -> Who {
    let grouping = Grouping {
        name: "plan".into(),
        source: GroupSource::Column("plan".into()),
        values: vec!["basic".into(), "pro".into()],
    };
    Who {
        model: model(),
        version: id(version),
        digest: Digest::new([1; 32]),
        role: role.into(),
        split: canary.map(|share| (String::new(), percent(share))),
        labels: LabelSettings {
            keep: Share::ALL,
            classes: vec![],
            wrong_beyond: None,
            wrong_max: None,
            groupings: vec![grouping],
        },
    }
}

static NONE_BEFORE: BTreeSet<Groups> = BTreeSet::new();

fn row<'a>(who: &'a Who, key: Option<u64>, groups: &'a [u8]) -> WrongRow<'a> {
    WrongRow { who, at: 100, key, groups, before: &NONE_BEFORE }
}

fn ledger() -> Ledger {
    let mut ledger = Ledger::default();
    ledger.follow(vec![(model(), Some(trial()))]);
    ledger
}

fn counts(counts: &[WrongCounts]) -> Vec<(f64, u64, u64)> {
    counts.iter().map(|own| (own.share.percent(), own.champion, own.canary)).collect()
}

#[test]
fn an_answer_counts_on_the_side_and_at_the_share_where_it_was_given() {
    let (mut ledger, mut draft) = (ledger(), TrialDraft::default());
    for (version, role, canary) in [
        (1, "champion", Some(5.0)),
        (1, "champion", Some(5.0)),
        (2, "canary", Some(5.0)),
        (2, "canary", Some(25.0)),
        // In the watch the former champion is the canary.
        (2, "champion", Some(10.0)),
        (1, "canary", Some(10.0)),
        // Neither of them, and no split.
        (3, "canary", Some(5.0)),
        (1, "champion", None),
    ] {
        draft.count(&ledger, &row(&who(version, role, canary), None, &[0]));
    }
    let early = who(2, "canary", Some(5.0));
    draft.count(&ledger, &WrongRow { at: 99, ..row(&early, None, &[0]) });
    draft.done(&mut ledger);
    let (_, _, TrialCounts { wrong, .. }) = ledger.all().next().unwrap();
    assert_eq!(counts(&wrong.all), [(5.0, 2, 1), (25.0, 0, 1), (90.0, 1, 1)]);
}

#[test]
fn a_key_and_a_request_count_once_in_all_and_in_each_group() {
    let (mut ledger, mut draft) = (ledger(), TrialDraft::default());
    let canary = who(2, "canary", Some(5.0));
    draft.count(&ledger, &row(&canary, Some(9), &[0]));
    draft.count(&ledger, &row(&canary, Some(9), &[0]));
    draft.count(&ledger, &row(&canary, Some(9), &[1]));
    draft.count(&ledger, &row(&canary, Some(8), &[OTHER]));
    // The second and third wrong row of one request.
    let before = BTreeSet::from([[0; 8]]);
    draft.count(&ledger, &WrongRow { before: &before, ..row(&canary, None, &[0]) });
    draft.count(&ledger, &WrongRow { before: &before, ..row(&canary, None, &[1]) });
    let (rows, keys) = draft.rows(&ledger);
    assert_eq!((rows.len(), keys.len()), (1, 5));
    draft.done(&mut ledger);
    // After a restart it goes on from there.
    let mut ledger = Ledger::read(&rows, &keys);
    let mut draft = TrialDraft::default();
    draft.count(&ledger, &row(&canary, Some(9), &[1]));
    draft.count(&ledger, &row(&canary, Some(8), &[1]));
    draft.done(&mut ledger);
    let (_, own, TrialCounts { wrong, .. }) = ledger.all().next().unwrap();
    assert_eq!((own, counts(&wrong.all)), (trial(), vec![(5.0, 0, 2)]));
    let groups = wrong.groups.iter().map(|own| (own.group.as_str(), counts(&own.counts)));
    let expected =
        [("basic", vec![(5.0, 0, 1)]), ("pro", vec![(5.0, 0, 3)]), ("(other)", vec![(5.0, 0, 1)])];
    assert_eq!(groups.collect::<Vec<_>>(), expected);
}

#[test]
fn keys_are_bounded_and_what_is_not_counted_is_told() {
    let (mut ledger, mut draft) = (ledger(), TrialDraft::default());
    let canary = who(2, "canary", Some(5.0));
    // Of all rows and of one group.
    let most = u64::try_from(KEYS_MAX / 2).unwrap();
    for key in 0..most + 3 {
        draft.count(&ledger, &row(&canary, Some(key), &[0]));
    }
    draft.done(&mut ledger);
    let (_, _, TrialCounts { wrong, .. }) = ledger.all().next().unwrap();
    assert_eq!((counts(&wrong.all), wrong.lost), (vec![(5.0, 0, most)], 3));
}

#[test]
fn groups_are_counted_where_they_are_judged() {
    let (mut ledger, mut draft) = (Ledger::default(), TrialDraft::default());
    let trial = Trial { by_group: false, ..trial() };
    ledger.follow(vec![(model(), Some(trial))]);
    let canary = who(2, "canary", Some(5.0));
    assert!(ledger.asks_for(&canary, 100) && !ledger.asks_for(&canary, 99));
    draft.count(&ledger, &row(&canary, Some(9), &[0]));
    assert_eq!(draft.rows(&ledger).1.len(), 1);
    draft.done(&mut ledger);
    let (_, _, TrialCounts { wrong, .. }) = ledger.all().next().unwrap();
    assert_eq!((counts(&wrong.all), wrong.groups.len()), (vec![(5.0, 0, 1)], 0));
}

#[test]
fn another_trial_begins_anew_and_the_former_one_is_removed() {
    let (mut ledger, mut draft) = (ledger(), TrialDraft::default());
    let canary = who(2, "canary", Some(5.0));
    draft.count(&ledger, &row(&canary, Some(9), &[0]));
    draft.done(&mut ledger);
    ledger.follow(vec![(model(), Some(trial()))]);
    assert_eq!(ledger.ended, [0; 0], "it is the same");
    let next = Trial { since: 200, ..trial() };
    ledger.follow(vec![(model(), Some(next))]);
    assert_eq!(ledger.ended, [7]);
    assert_eq!(ledger.all().next().unwrap(), (&model(), next, &TrialCounts::default()));
    ledger.follow(vec![(model(), None)]);
    assert_eq!((ledger.all().count(), ledger.ended.len()), (0, 2));
    let mut draft = TrialDraft::default();
    draft.count(&ledger, &row(&canary, None, &[0]));
    assert_eq!(draft.rows(&ledger), (vec![], vec![]));
}

/// One that answers two classes, judged by selection.
fn selecting() -> Ledger {
    let mut ledger = Ledger::default();
    ledger.follow(vec![(model(), Some(Trial { by_selection: true, ..trial() }))]);
    ledger
}

/// An answer at 100, of rows with a class and a group.
fn answer(key: Option<u64>, rows: &[(u16, u8)]) -> NewPrediction {
    let row = |(class, group): &(u16, u8)| {
        let answer = Some(RowAnswer::Class { class: *class, scores: vec![] });
        (answer, [*group, 0, 0, 0, 0, 0, 0, 0])
    };
    NewPrediction {
        id: PredictionId([0; 16]),
        at: 100,
        answerer: 1,
        key,
        rows: rows.iter().map(row).collect(),
        truths: vec![],
    }
}

/// Rows and those selected at 5 % by group, the champion's first.
fn selected(ledger: &Ledger) -> Vec<(&str, [(u64, u64); 2])> {
    let (_, _, counts) = ledger.all().next().unwrap();
    let groups = counts.selection.groups.iter().filter_map(|own| {
        let at = own.counts.iter().find(|at| at.share == percent(5.0))?;
        let arms = [at.champion, at.canary].map(|arm| (arm.rows, arm.selected));
        Some((own.group.as_str(), arms))
    });
    groups.collect()
}

#[test]
fn a_group_is_selected_once_by_request_and_by_key() {
    let (mut ledger, mut draft) = (selecting(), TrialDraft::default());
    let (champion, canary) = (who(1, "champion", Some(5.0)), who(2, "canary", Some(5.0)));
    // Without a key each request counts, and of it the first row of each group.
    draft.count_answer(&ledger, &champion, &answer(None, &[(1, 0), (0, 0), (0, 1)]));
    draft.count_answer(&ledger, &champion, &answer(None, &[(0, 0)]));
    draft.count_answer(&ledger, &canary, &answer(Some(9), &[(1, 1)]));
    draft.count_answer(&ledger, &canary, &answer(Some(9), &[(0, 1), (0, OTHER)]));
    // Who is answered no class is not selected; what was answered before does not count.
    let mut none = answer(None, &[(1, 0), (1, 0)]);
    none.rows[0].0 = None;
    draft.count_answer(&ledger, &canary, &none);
    draft.count_answer(&ledger, &canary, &NewPrediction { at: 99, ..answer(None, &[(1, 0)]) });
    let (rows, keys) = draft.rows(&ledger);
    assert_eq!((rows.len(), keys.len()), (1, 2));
    draft.done(&mut ledger);
    let expected =
        [("basic", [(2, 1), (1, 0)]), ("pro", [(1, 0), (1, 1)]), ("(other)", [(0, 0), (1, 0)])];
    assert_eq!(selected(&ledger), expected);
    // After a restart it goes on from there, and wrong answers have keys of their own.
    let mut ledger = Ledger::read(&rows, &keys);
    let mut draft = TrialDraft::default();
    draft.count_answer(&ledger, &canary, &answer(Some(9), &[(1, 1)]));
    draft.count(&ledger, &row(&canary, Some(9), &[1]));
    draft.done(&mut ledger);
    assert_eq!(selected(&ledger), expected);
    let (_, _, counts) = ledger.all().next().unwrap();
    assert_eq!(self::counts(&counts.wrong.all), [(5.0, 0, 1)]);
}

#[test]
fn selection_is_counted_where_it_is_judged() {
    let (mut ledger, mut draft) = (ledger(), TrialDraft::default());
    let canary = who(2, "canary", Some(5.0));
    draft.count_answer(&ledger, &canary, &answer(None, &[(1, 0)]));
    assert_eq!(draft.rows(&ledger), (vec![], vec![]));
    draft.done(&mut ledger);
    assert_eq!(selected(&ledger), []);
}

#[test]
fn keys_of_selection_are_bounded_at_each_share() {
    let (mut ledger, mut draft) = (selecting(), TrialDraft::default());
    let canary = who(2, "canary", Some(5.0));
    let most = selection::KEYS_OF_SHARE_MAX;
    for key in 0..most + 3 {
        draft.count_answer(&ledger, &canary, &answer(Some(key), &[(1, 0)]));
    }
    // Another share has room of its own, and who has no key needs none.
    let later = who(2, "canary", Some(25.0));
    draft.count_answer(&ledger, &later, &answer(Some(most + 9), &[(1, 0)]));
    draft.count_answer(&ledger, &canary, &answer(None, &[(1, 1)]));
    draft.done(&mut ledger);
    let (_, _, counts) = ledger.all().next().unwrap();
    assert_eq!(counts.selection.groups[0].counts[1].canary.rows, 1);
    assert_eq!(selected(&ledger), [("basic", [(0, 0), (most, most)]), ("pro", [(0, 0), (1, 1)])]);
    assert_eq!(ledger.all().next().unwrap().2.selection.lost, 3);
}
