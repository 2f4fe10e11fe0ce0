use proptest::prelude::*;

use super::super::quality::tests::{Random, binary};
use super::*;
use crate::types::{RowAnswer, Truth};

fn level() -> Level {
    Level::NOT_WORSE
}

/// Rows as (answered, true), each so many times.
fn group(rows: &[(u16, u16, u32)]) -> Quality {
    let mut quality = Quality::default();
    for (class, truth, times) in rows {
        let answer = RowAnswer::Class { class: *class, scores: Vec::new() };
        for _ in 0..*times {
            quality.predicted(&answer);
            quality.labelled(&answer, Truth::Class(*truth));
        }
    }
    quality
}

/// Answered rows without labels.
fn unlabelled(selected: u32, rows: u32) -> Quality {
    let mut quality = Quality::default();
    for i in 0..rows {
        quality.predicted(&RowAnswer::Class { class: u16::from(i < selected), scores: Vec::new() });
    }
    quality
}

fn alerts(found: &Disparity) -> Vec<(FairnessMeasure, &str, &str)> {
    let each = found.alerts.iter();
    each.map(|alert| (alert.measure, &*alert.higher, &*alert.lower)).collect()
}

// tests/quality/known.py
#[test]
fn rates_are_as_scikit_learn_has_them() {
    let groups: Vec<_> = [0.4, 0.3, 0.6]
        .into_iter()
        .zip(0..)
        .map(|(threshold, first)| {
            let mut quality = Quality::default();
            for (answer, truth) in (0..2_000).map(|i| binary(3 * i + first, threshold)) {
                quality.predicted(&answer);
                quality.labelled(&answer, truth);
            }
            quality
        })
        .collect();
    let named: Vec<_> = ["a", "b", "c"].into_iter().zip(&groups).collect();
    let found = disparity(&named, 1, 200, level());
    let expected = [
        [0.3695, 0.6450742240215924, 0.20730738681493244, 0.6468200270635994],
        [0.451, 0.7278911564625851, 0.2901185770750988, 0.5931263858093127],
        [0.2315, 0.46837146702557203, 0.09148766905330152, 0.7516198704103672],
    ];
    for (group, expected) in found.groups.iter().zip(expected) {
        let labelled =
            [group.true_positive_rate, group.false_positive_rate, group.positive_predictive_value];
        let got = [group.selection_rate].into_iter().chain(labelled.map(Option::unwrap));
        for (got, expected) in got.zip(expected) {
            assert!((got.value - expected).abs() < 1e-12, "{got:?} {expected}");
            assert_eq!(Proportion::new(got.count, got.of, level().split(3)), Some(got));
        }
    }
    let ranges = [
        (&found.demographic_parity, 0.2195, "b", "c"),
        (&found.equal_opportunity, 0.25951968943701303, "b", "c"),
        (&found.equalised_odds, 0.25951968943701303, "b", "c"),
        (&found.predictive_parity, 0.1584934846010545, "c", "b"),
    ];
    for (range, difference, highest, lowest) in ranges {
        let range = range.as_ref().unwrap();
        assert!((range.difference - difference).abs() < 1e-12, "{range:?} {difference}");
        assert!(range.difference_min < range.difference);
        assert_eq!((&*range.highest, &*range.lowest), (highest, lowest));
    }
    let ratio = found.demographic_parity_ratio.as_ref().unwrap();
    assert!((ratio.ratio - 0.5133037694013304).abs() < 1e-12, "{ratio:?}");
    let expected = [
        (FairnessMeasure::DemographicParityRatio, "b", "c"),
        (FairnessMeasure::DemographicParity, "b", "c"),
        (FairnessMeasure::EqualOpportunity, "b", "c"),
        (FairnessMeasure::EqualisedOdds, "b", "c"),
    ];
    assert_eq!(alerts(&found), expected);
    let alert = &found.alerts[0];
    assert_eq!((alert.bound, alert.margin), (ratio.ratio_max, 0.8));
}

#[test]
fn few_rows_raise_no_alert() {
    // The same rates, a hundred times as many rows.
    for (times, alarming) in [(1, false), (100, true)] {
        let (a, b) = (unlabelled(6 * times, 20 * times), unlabelled(12 * times, 20 * times));
        let found = disparity(&[("a", &a), ("b", &b)], 1, 20, level());
        let range = found.demographic_parity.as_ref().unwrap();
        assert!((range.difference - 0.3).abs() < 1e-12, "{range:?}");
        assert_eq!(found.alerts.is_empty(), !alarming, "{found:?}");
        assert_eq!((&found.equal_opportunity, &found.equalised_odds), (&None, &None));
    }
}

#[test]
fn groups_that_are_too_small_are_listed_and_not_compared() {
    let (a, b, c) = (unlabelled(300, 1_000), unlabelled(0, 99), Quality::default());
    let found = disparity(&[("a", &a), ("b", &b), ("c", &c)], 1, 100, level());
    let small = [("b", 99), ("c", 0)].map(|(group, rows)| SmallGroup { group: group.into(), rows });
    assert_eq!(found.too_small, small);
    assert_eq!((found.groups.len(), &found.demographic_parity), (1, &None));
    assert!(found.alerts.is_empty());
    // They count in the level.
    assert_eq!(Some(found.groups[0].selection_rate), Proportion::new(300, 1_000, level().split(3)));
    // Nobody without rows is compared, even where none are asked for.
    let found = disparity(&[("c", &c), ("a", &a)], 1, 0, level());
    assert_eq!((found.groups.len(), found.too_small.len()), (1, 1));
    assert_eq!(disparity(&[], 1, 0, level()).groups, []);
}

#[test]
fn a_rate_of_too_few_rows_is_shown_and_not_compared() {
    let a = group(&[(1, 1, 90), (0, 1, 30), (1, 0, 10), (0, 0, 200)]);
    let b = group(&[(1, 1, 1), (0, 1, 2), (1, 0, 197), (0, 0, 300)]);
    let found = disparity(&[("a", &a), ("b", &b)], 1, 100, level());
    assert_eq!(found.groups[1].true_positive_rate.map(|rate| rate.of), Some(3));
    assert_eq!((&found.equal_opportunity, &found.equalised_odds), (&None, &None));
    let range = found.predictive_parity.as_ref().unwrap();
    assert_eq!((&*range.highest, &*range.lowest), ("a", "b"));
}

#[test]
fn equalised_odds_sees_either_rate() {
    // TPR ½ each; FPR 0.1 and 0.6.
    let a = group(&[(1, 1, 500), (0, 1, 500), (1, 0, 100), (0, 0, 900)]);
    let b = group(&[(1, 1, 500), (0, 1, 500), (1, 0, 600), (0, 0, 400)]);
    let found = disparity(&[("a", &a), ("b", &b)], 1, 100, level());
    let odds = found.equalised_odds.as_ref().unwrap();
    assert!((odds.difference - 0.5).abs() < 1e-12, "{odds:?}");
    let measures: Vec<_> = alerts(&found).into_iter().map(|(measure, ..)| measure).collect();
    assert!(measures.contains(&FairnessMeasure::EqualisedOdds), "{measures:?}");
    assert!(!measures.contains(&FairnessMeasure::EqualOpportunity), "{measures:?}");
    let never = FairnessMargins { ratio: f64::NAN, difference: f64::NAN };
    let found = disparity_beyond(&[("a", &a), ("b", &b)], 1, 100, level(), never);
    assert!(found.alerts.is_empty());
}

#[test]
fn nobody_selected_has_no_ratio() {
    let (a, b) = (unlabelled(0, 1_000), unlabelled(0, 1_000));
    let found = disparity(&[("a", &a), ("b", &b)], 1, 100, level());
    assert_eq!(found.demographic_parity_ratio, None);
    let range = found.demographic_parity.unwrap();
    assert_eq!((range.difference, &*range.highest, &*range.lowest), (0.0, "a", "a"));
}

/// Three groups whose selection rates are exactly at the margin of difference, or of ratio.
#[test]
fn false_alerts_are_rare_over_all_looks() {
    let level = Level::new(0.1).unwrap();
    let rates = [0.4, 0.5, 0.45];
    let mut random = Random(11);
    let mut alarmed = 0;
    for _ in 0..200 {
        let mut groups = rates.map(|_| (0, 0));
        let mut ever = false;
        for _ in 0..20 {
            for ((selected, rows), rate) in groups.iter_mut().zip(rates) {
                *rows += 50;
                *selected += (0..50).map(|_| u32::from(random.unit() < rate)).sum::<u32>();
            }
            let [a, b, c] = groups.map(|(selected, rows)| unlabelled(selected, rows));
            let found = disparity(&[("a", &a), ("b", &b), ("c", &c)], 1, 50, level);
            assert_eq!(found.groups.len(), 3);
            ever |= !found.alerts.is_empty();
        }
        alarmed += u32::from(ever);
    }
    assert!(alarmed <= 20, "{alarmed} of 200");
}

proptest! {
    #[test]
    fn any_groups_can_be_compared(
        rows in proptest::collection::vec(proptest::collection::vec((0..3_u16, 0..3_u16, 0..30_u32), 0..6), 0..5),
        positive in 0..40_u16,
        rows_min in 0..50_u64,
    ) {
        let groups: Vec<_> = rows.iter().map(|rows| group(rows)).collect();
        let names: Vec<_> = (0..groups.len()).map(|i| i.to_string()).collect();
        let named: Vec<_> = names.iter().map(String::as_str).zip(&groups).collect();
        let found = disparity(&named, positive, rows_min, level());
        prop_assert_eq!(found.groups.len() + found.too_small.len(), groups.len());
        let ranges = [&found.demographic_parity, &found.equal_opportunity, &found.equalised_odds, &found.predictive_parity];
        for range in ranges.into_iter().flatten() {
            prop_assert!((0.0..=1.0).contains(&range.difference), "{:?}", range);
            prop_assert!((0.0..=1.0).contains(&range.difference_min), "{:?}", range);
        }
        if let Some(ratio) = &found.demographic_parity_ratio {
            prop_assert!(0.0 <= ratio.ratio && ratio.ratio <= ratio.ratio_max && ratio.ratio_max <= 1.0, "{:?}", ratio);
        }
    }
}
