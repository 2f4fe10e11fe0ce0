//! The other tests keep their level too, looked at after each observation.

use foreshadow::analysis::{Level, Mean, Rate, RateDetector, TrafficCheck, distance};

use super::exposure;
use super::world::lower_bound;
use crate::rng::Rng;

/// That a false alarm in so many of the runs does not speak against 5 %.
fn assert_kept(what: &str, alarms: usize, runs: usize) {
    println!("{what}: {alarms} of {runs} alarm falsely");
    assert!(lower_bound(alarms, runs) <= 0.05, "{what}: {alarms} of {runs}");
}

#[test]
fn a_mean_stays_in_its_interval() {
    const RUNS: usize = 1_000;
    for truth in [0.01, 0.1, 0.5] {
        let mut rng = Rng::new(11);
        let leaves = |_: &usize| {
            let mut mean = Mean::new(Level::NOT_WORSE);
            (0..1_000).any(|_| {
                mean.add(f64::from(u8::from(rng.chance(truth))));
                let interval = mean.interval();
                truth < interval.lower || truth > interval.upper
            })
        };
        assert_kept(&format!("mean of {truth}"), (0..RUNS).filter(leaves).count(), RUNS);
    }
}

#[test]
fn a_split_that_keeps_its_shares_does_not_trip() {
    const RUNS: usize = 1_000;
    let mut rng = Rng::new(12);
    let trips = |_: &usize| {
        let mut check = TrafficCheck::new(Level::NOT_WORSE, exposure(1.0));
        for share in [0.01, 0.05, 0.25] {
            check.begin(exposure(share * 100.0));
            for _ in 0..400 {
                let canary = u64::from(rng.chance(share));
                check.add(1 - canary, canary);
            }
        }
        check.finding().misrouted
    };
    assert_kept("traffic check", (0..RUNS).filter(trips).count(), RUNS);
}

#[test]
fn equal_distributions_do_not_differ() {
    const RUNS: usize = 500;
    let mut rng = Rng::new(13);
    let differ = |_: &usize| {
        let (mut champion, mut canary) = ([0; 10], [0; 10]);
        (0..2_000).any(|_| {
            let arm = if rng.chance(0.3) { &mut canary } else { &mut champion };
            arm[rng.below(10)] += 1;
            distance(&champion, &canary, Level::NOT_WORSE).unwrap().differ
        })
    };
    assert_kept("distributions", (0..RUNS).filter(differ).count(), RUNS);
}

/// On average there are at least so many observations between false alarms.
#[test]
fn a_detector_keeps_its_distance_between_false_alarms() {
    const RUNS: u64 = 200;
    const BETWEEN: u64 = 2_000;
    let mut rng = Rng::new(14);
    let until_alarm = |_| {
        let mut detector = RateDetector::new(Rate::new(0.02).unwrap(), BETWEEN);
        let alarm = (1..=10 * BETWEEN).find(|_| {
            detector.add(rng.chance(0.02));
            detector.alarm()
        });
        // Runs without an alarm count as shorter than they are.
        alarm.unwrap_or(10 * BETWEEN)
    };
    let mean = (0..RUNS).map(until_alarm).sum::<u64>() / RUNS;
    println!("detector: {mean} observations between false alarms, at least {BETWEEN} promised");
    assert!(mean >= BETWEEN, "{mean}");
}
