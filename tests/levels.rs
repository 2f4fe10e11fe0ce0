//! Seconds of traffic, failures and answers, watched for a change: how often there is an
//! alarm without one, and how soon there is one after it.
//!
//! The tables that it prints stand in `src/analysis/README.md`:
//!
//! ```text
//! DAYS=90 RUNS=200 cargo test --release --test levels -- --nocapture --test-threads 1
//! ```
//!
//! Everything is seeded: the same figures each time. Without `DAYS` and `RUNS` it simulates
//! little, and looks only for what is plainly wrong.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may")]

#[path = "common/rng.rs"]
#[allow(dead_code, reason = "other simulations draw otherwise")]
mod rng;
#[path = "levels/world.rs"]
mod world;

use foreshadow::analysis::{Counted, LevelRule, LevelWatch, UsualRule};
use rng::Rng;
use world::{Kind, STEADY, SUDDEN, State, Steady, Sudden};

/// Seconds that a watch sees before a change.
const LEARNT: u32 = 800;
/// Seconds within which a change is looked for.
const SOUGHT: u32 = 120;

fn setting(name: &str, otherwise: f64) -> f64 {
    std::env::var(name).map_or(otherwise, |text| text.parse().unwrap())
}

/// What the monitor watches by, looking each second.
fn rule(kind: Kind) -> LevelRule {
    let usual = match kind {
        Kind::Traffic => UsualRule { count_min: 60, of_min: 0.0, floor: 1.0 },
        Kind::Failures => UsualRule { count_min: 0, of_min: 200.0, floor: 0.002 },
        Kind::Answers => UsualRule { count_min: 0, of_min: 200.0, floor: 0.01 },
    };
    // A third of the false alarms each; of those of answers, ten groups share it.
    let groups = if kind == Kind::Answers { 10.0 } else { 1.0 };
    let looks_between = 90.0 * 86_400.0 * 3.0 * groups;
    LevelRule {
        usual,
        falls: kind != Kind::Failures,
        baseline_seconds: 600.0,
        look_seconds: 1.0,
        looks_between,
    }
}

/// Alarms in so many seconds without a change.
fn alarms(steady: &Steady, seconds: u32) -> u32 {
    let (mut watch, mut rng) = (LevelWatch::new(rule(steady.kind)), Rng::new(1));
    let (mut state, mut alarms, mut before) = (State::default(), 0, false);
    for second in 0..seconds {
        let seen = steady.second(second, &mut state, &mut rng);
        let now = watch.add(seen, 1.0).changed().is_some();
        alarms += u32::from(now && !before);
        before = now;
    }
    alarms
}

/// Seconds until a change is shown; `u32::MAX` if it is not. `None` where there was an alarm
/// before it.
fn delay(sudden: &Sudden, run: u32) -> Option<u32> {
    let (mut watch, mut rng) =
        (LevelWatch::new(rule(sudden.from.kind)), Rng::new(100 + u64::from(run)));
    let mut state = State::default();
    let mut look = |times: f64| -> bool {
        let seen: Counted = sudden.second(times, &mut state, &mut rng);
        watch.add(seen, 1.0).changed().is_some()
    };
    let before = (0..LEARNT).filter(|_| look(1.0)).count();
    (before == 0).then(|| (1..=SOUGHT).find(|_| look(sudden.times)).unwrap_or(u32::MAX))
}

#[test]
fn what_is_steady_is_no_change() {
    let days = setting("DAYS", 0.2);
    println!("| what | alarms in {days} days |\n| --- | --- |");
    for steady in STEADY {
        let alarms = alarms(steady, (days * 86_400.0) as u32);
        println!("| {} | {alarms} |", steady.name);
        assert!(steady.wanders || f64::from(alarms) <= (days / 90.0).floor(), "{}", steady.name);
    }
}

#[test]
fn a_change_is_shown_within_seconds() {
    let runs = setting("RUNS", 3.0) as u32;
    println!("| change | median seconds | 95 % within |\n| --- | --- | --- |");
    for sudden in SUDDEN {
        let mut delays: Vec<_> = (0..runs).filter_map(|run| delay(sudden, run)).collect();
        let alarms = runs as usize - delays.len();
        let name = format!("{}, {}", sudden.from.name, sudden.name);
        assert!(sudden.from.wanders || alarms * 100 <= runs as usize, "{name}: {alarms}");
        // Those that are not shown come last.
        delays.sort_unstable();
        let at = |part: f64| delays[((delays.len() - 1) as f64 * part).round() as usize];
        let told =
            |delay: u32| if delay == u32::MAX { "–".to_owned() } else { delay.to_string() };
        println!("| {name} | {} | {} |", told(at(0.5)), told(at(0.95)));
        assert!(at(0.5) <= sudden.within, "{name}: {delays:?}");
    }
}
