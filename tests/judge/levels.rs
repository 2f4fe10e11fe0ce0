//! The other tests keep their level too, looked at after each observation.

use foreshadow::analysis::{Level, Mean, TrafficCheck, distance};

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
