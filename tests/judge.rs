//! Thousands of rollouts, judged by this judge and, beside it, by two rules
//! that are in use: a threshold on the success rate, and a z-test.
//!
//! The tables that it prints stand in `src/analysis/README.md`:
//!
//! ```text
//! cargo test --test judge -- --nocapture --test-threads 1
//! ```
//!
//! Everything is seeded: the same figures each time.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may")]

#[path = "judge/levels.rs"]
mod levels;
#[path = "judge/parity.rs"]
mod parity;
#[path = "common/rng.rs"]
mod rng;
#[path = "judge/world.rs"]
mod world;

use foreshadow::analysis::{Exposure, Guard, Level, Margin, Rule, Verdict};
use foreshadow::types::Share;
use rng::Rng;
use world::{Traffic, Window, lower_bound, median};

/// Requests between two looks of the z-test.
const WINDOW: u64 = 1_000;
/// Windows after which the threshold is checked: 10,000 requests, so that a
/// canary at 1 % has a hundred.
const WINDOWS_PER_CHECK: usize = 10;

fn exposure(percent: f64) -> Exposure {
    Exposure::new(Share::from_percent(percent).unwrap()).unwrap()
}

fn rule(alpha: f64) -> Rule {
    Rule {
        worse_than: Margin::ONE,
        not_worse_than: None,
        objective: None,
        alpha: Level::new(alpha).unwrap(),
        beta: Level::new(0.05).unwrap(),
    }
}

/// Success of the canary ≥ 99 % in each check's requests, or it goes.
#[derive(Default)]
struct Threshold {
    windows: usize,
    requests: u64,
    failures: u64,
}

impl Threshold {
    fn alarms(&mut self, window: &Window) -> bool {
        self.windows += 1;
        self.requests += window.canary_requests;
        self.failures += window.canary_failures();
        if !self.windows.is_multiple_of(WINDOWS_PER_CHECK) {
            return false;
        }
        let below = self.failures * 100 > self.requests;
        (self.requests, self.failures) = (0, 0);
        below
    }
}

/// The pooled two-proportion z-test, one-sided, on all requests so far.
struct ZTest {
    bound: f64,
    requests: [u64; 2],
    failures: [u64; 2],
}

impl ZTest {
    fn new(bound: f64) -> Self {
        Self { bound, requests: [0; 2], failures: [0; 2] }
    }

    fn alarms(&mut self, window: &Window) -> bool {
        let canary = window.canary_failures();
        self.requests[0] += WINDOW - window.canary_requests;
        self.requests[1] += window.canary_requests;
        self.failures[0] += window.events.len() as u64 - canary;
        self.failures[1] += canary;
        let [a, b] = self.requests.map(|n| n as f64);
        let [fa, fb] = self.failures.map(|n| n as f64);
        // The usual care with small samples.
        if fa + fb < 5.0 || a < 1.0 || b < 1.0 {
            return false;
        }
        let pooled = (fa + fb) / (a + b);
        let error = (pooled * (1.0 - pooled) * (1.0 / a + 1.0 / b)).sqrt();
        (fb / b - fa / a) / error > self.bound
    }
}

/// After how many events each rule called the canary worse.
#[derive(Default)]
struct Alarms {
    judge: Option<u64>,
    /// The judge, had each failure of a user been counted.
    uncounted: Option<u64>,
    threshold: Option<u64>,
    z: Option<u64>,
}

impl Alarms {
    /// Whether there is nothing left to wait for.
    fn all(&self, users: bool) -> bool {
        let uncounted = !users || self.uncounted.is_some();
        self.judge.is_some() && uncounted && self.threshold.is_some() && self.z.is_some()
    }
}

/// One rollout of so many events. `stages` are (from this event on, share).
fn rollout(
    rng: &mut Rng,
    traffic: &mut Traffic,
    stages: &[(u64, f64)],
    events_max: u64,
    alpha: f64,
    z_bound: f64,
) -> Alarms {
    let mut stage = 0;
    let mut share = stages[0].1;
    let mut guard = Guard::new(rule(alpha), exposure(share));
    let mut uncounted = guard.clone();
    let (mut threshold, mut z) = (Threshold::default(), ZTest::new(z_bound));
    let (mut alarms, mut events) = (Alarms::default(), 0);
    traffic.reset(rng);
    while events < events_max && !alarms.all(traffic.has_users()) {
        if stages.get(stage + 1).is_some_and(|(from, _)| events >= *from) {
            stage += 1;
            share = stages[stage].1;
            guard.begin(exposure(share));
            uncounted.begin(exposure(share));
        }
        let window = traffic.window(rng, share / 100.0, WINDOW);
        for event in &window.events {
            events += 1;
            let canary = u64::from(event.canary);
            if event.first {
                guard.add(1 - canary, canary);
                if alarms.judge.is_none() && guard.verdict() == Verdict::Worse {
                    alarms.judge = Some(events);
                }
            }
            if traffic.has_users() {
                uncounted.add(1 - canary, canary);
                if alarms.uncounted.is_none() && uncounted.verdict() == Verdict::Worse {
                    alarms.uncounted = Some(events);
                }
            }
        }
        if alarms.threshold.is_none() && threshold.alarms(&window) {
            alarms.threshold = Some(events);
        }
        if alarms.z.is_none() && z.alarms(&window) {
            alarms.z = Some(events);
        }
    }
    alarms
}

fn percent_of(count: usize, runs: usize) -> String {
    format!("{:.1} %", 100.0 * count as f64 / runs as f64)
}

const RAMP: &[(u64, f64)] = &[(0, 1.0), (200, 5.0), (600, 25.0), (1_500, 50.0)];

/// What became of an identical canary in one scenario.
struct Healthy {
    users: bool,
    share: &'static str,
    stages: &'static [(u64, f64)],
}

impl Healthy {
    const RUNS: usize = 2_000;
    const ALL: [Self; 8] = {
        const fn new(users: bool, share: &'static str, stages: &'static [(u64, f64)]) -> Healthy {
            Healthy { users, share, stages }
        }
        [
            new(false, "1 %", &[(0, 1.0)]),
            new(false, "5 %", &[(0, 5.0)]),
            new(false, "50 %", &[(0, 50.0)]),
            new(false, "1 → 5 → 25 → 50 %", RAMP),
            new(true, "1 %", &[(0, 1.0)]),
            new(true, "5 %", &[(0, 5.0)]),
            new(true, "50 %", &[(0, 50.0)]),
            new(true, "1 → 5 → 25 → 50 %", RAMP),
        ]
    };

    /// A line of the table, and the lower bound of the judge's false alarms.
    fn run(&self) -> (String, f64) {
        let mut rng = Rng::new(if self.users { 2 } else { 1 });
        let mut traffic = Traffic::drifting(self.users);
        let alarms: Vec<_> = (0..Self::RUNS)
            .map(|_| rollout(&mut rng, &mut traffic, self.stages, 3_000, 0.05, 1.645))
            .collect();
        let count =
            |of: fn(&Alarms) -> Option<u64>| alarms.iter().filter(|run| of(run).is_some()).count();
        let percent = |of| percent_of(count(of), Self::RUNS);
        let lower = lower_bound(count(|run| run.judge), Self::RUNS);
        let line = format!(
            "| {} | {} | {} | {:.1} % | {} | {} | {} |",
            if self.users { "users who fail again and again" } else { "requests by chance" },
            self.share,
            percent(|run| run.judge),
            100.0 * lower,
            if self.users { percent(|run| run.uncounted) } else { "–".into() },
            percent(|run| run.threshold),
            percent(|run| run.z),
        );
        (line, lower)
    }
}

/// An identical canary, 3,000 failures long, looked at after each of them.
#[test]
fn healthy_canaries_are_left_alone() {
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            Healthy::ALL.iter().map(|scenario| scope.spawn(|| scenario.run())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    println!(
        "\n| identical canary | share | judge | its 95 % lower bound | every failure of a user counted | success ≥ 99 % | z-test |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    results.iter().for_each(|(line, _)| println!("{line}"));
    for (line, lower) in results {
        assert!(lower <= 0.05, "false alarms above 5 %: {line}");
    }
}

/// A canary with so many times the champion's failures, from the first request on.
#[test]
fn faults_are_found_as_fast_as_calculated() {
    const RUNS: usize = 1_000;
    // Share in percent, ratio, champion's failures, expected median: of 3,000
    // runs of the formula in another language.
    let cases = [
        (5.0, 2.0, 0.005, 298.0),
        (5.0, 3.0, 0.005, 88.0),
        (5.0, 5.0, 0.005, 30.0),
        (50.0, 2.0, 0.005, 86.0),
        (50.0, 3.0, 0.005, 36.0),
        (50.0, 5.0, 0.005, 20.0),
        (5.0, 3.0, 0.001, 88.0),
        (50.0, 3.0, 0.001, 36.0),
        (50.0, 5.0, 0.001, 20.0),
    ];
    println!(
        "\n| champion fails | canary | share | judge: found within 2,000 failures | median failures | success ≥ 99 %: found | z-test: found | median failures |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut wrong = Vec::new();
    for (share, ratio, base, expected) in cases {
        let mut rng = Rng::new(3);
        let mut traffic = Traffic::steady(base, ratio);
        let alarms: Vec<_> = (0..RUNS)
            .map(|_| rollout(&mut rng, &mut traffic, &[(0, share)], 2_000, 0.01, 2.326))
            .collect();
        let found =
            |of: fn(&Alarms) -> Option<u64>| -> Vec<u64> { alarms.iter().filter_map(of).collect() };
        let (judge, threshold, z) =
            (found(|run| run.judge), found(|run| run.threshold), found(|run| run.z));
        let middle = median(&judge, RUNS).unwrap();
        println!(
            "| {:.1} % | {ratio}× | {share} % | {} | {middle} | {} | {} | {} |",
            100.0 * base,
            percent_of(judge.len(), RUNS),
            percent_of(threshold.len(), RUNS),
            percent_of(z.len(), RUNS),
            median(&z, RUNS).map_or_else(|| "–".into(), |m| m.to_string()),
        );
        let off = middle as f64 / expected;
        if !(1.0 / 1.2..=1.2).contains(&off) {
            wrong.push(format!("{ratio}× at {share} %: {middle}, expected {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// A canary that is exactly as bad as a stage's bound must not pass, and an
/// equal one should.
#[test]
fn broken_canaries_do_not_pass_and_equal_ones_do() {
    const RUNS: usize = 1_000;
    println!(
        "\n| share | bound M | ratio M passes | its 95 % lower bound | an equal canary passes after (median failures) |"
    );
    println!("| --- | --- | --- | --- | --- |");
    let mut wrong = Vec::new();
    for (share, expected) in [(1.0, 44.0), (5.0, 28.0), (25.0, 62.0), (50.0, 189.0)] {
        let margin = Margin::by_exposure(exposure(share)).get();
        // Nothing is worse than a hundred times: only the pass is looked at.
        let lenient = Rule { worse_than: Margin::new(100.0).unwrap(), ..rule(0.01) };
        let passes = |ratio: f64, events_max: u64| -> Vec<u64> {
            let (mut rng, traffic) = (Rng::new(4), Traffic::steady(0.005, ratio));
            let one = |_| {
                let mut guard = Guard::new(lenient, exposure(share));
                (1..=events_max).find(|_| {
                    let canary = u64::from(rng.chance(traffic.on_canary(share / 100.0)));
                    guard.add(1 - canary, canary);
                    guard.verdict() == Verdict::NotWorse
                })
            };
            (0..RUNS).filter_map(one).collect()
        };
        let (broken, equal) = (passes(margin, 1_000), passes(1.0, 3_000));
        let middle = median(&equal, RUNS).unwrap();
        let lower = lower_bound(broken.len(), RUNS);
        println!(
            "| {share} % | {margin} | {} | {:.1} % | {middle} |",
            percent_of(broken.len(), RUNS),
            100.0 * lower
        );
        let off = middle as f64 / expected;
        if lower > 0.05 || !(1.0 / 1.3..=1.3).contains(&off) || equal.len() < RUNS * 9 / 10 {
            wrong.push(format!("{share} %: {} broken, {middle} against {expected}", broken.len()));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}
