//! How differently groups are selected: how often the guard stops a canary that is no more
//! unequal than its champion, and how soon one that is.

use foreshadow::analysis::{
    Level, Margin, ParityFacts, ParityRule, Rate, Selected, SelectedCounts, SelectedGroup, Verdict,
    judge_parity,
};

use super::exposure;
use super::world::lower_bound;
use crate::rng::Rng;

/// Rows of one group between two looks, of both arms.
const ROWS: u64 = 1_000;
/// Looks of a rollout: 20,000 rows of each group.
const LOOKS: usize = 20;
const RUNS: usize = 300;

/// How often each group is selected by an arm.
struct World {
    name: &'static str,
    champion: [f64; 3],
    canary: [f64; 3],
    /// Whether the canary is to be stopped.
    worse: bool,
}

const WORLDS: [World; 6] = [
    World {
        name: "as unequal as the champion",
        champion: [0.3, 0.6, 0.6],
        canary: [0.3, 0.6, 0.6],
        worse: false,
    },
    World {
        name: "the same at a half of all rates",
        champion: [0.3, 0.6, 0.6],
        canary: [0.15, 0.3, 0.3],
        worse: false,
    },
    World {
        name: "at four fifths, from equal",
        champion: [0.5, 0.5, 0.5],
        canary: [0.4, 0.5, 0.5],
        worse: false,
    },
    World {
        name: "less unequal than the champion",
        champion: [0.2, 0.6, 0.6],
        canary: [0.3, 0.6, 0.6],
        worse: false,
    },
    World {
        name: "a half, from equal",
        champion: [0.5, 0.5, 0.5],
        canary: [0.25, 0.5, 0.5],
        worse: true,
    },
    World {
        name: "a third, from a half",
        champion: [0.3, 0.6, 0.6],
        canary: [0.2, 0.6, 0.6],
        worse: true,
    },
];

/// A share of the canary for each half of a rollout.
const SHARES: [f64; 2] = [5.0, 25.0];

/// The look at which a canary is stopped.
fn stopped(world: &World, rng: &mut Rng) -> Option<usize> {
    let rule = ParityRule {
        ratio: Rate::new(0.8).unwrap(),
        worse_than: Margin::ONE,
        alpha: Level::NOT_WORSE,
    };
    let group = |i: usize| SelectedGroup {
        grouping: "g".to_owned(),
        group: i.to_string(),
        stages: Vec::new(),
    };
    let mut groups: Vec<_> = (0..3).map(group).collect();
    (1..=LOOKS).find(|look| {
        let share = SHARES[(look - 1) / (LOOKS / 2)];
        for (i, group) in groups.iter_mut().enumerate() {
            if (look - 1) % (LOOKS / 2) == 0 {
                let (champion, canary) = Default::default();
                group.stages.push(SelectedCounts { share: exposure(share), champion, canary });
            }
            let stage = group.stages.last_mut().unwrap();
            let canary = rng.binomial(ROWS, share / 100.0);
            let add = |arm: &mut Selected, rows: u64, rate: f64, rng: &mut Rng| {
                arm.rows += rows;
                arm.selected += rng.binomial(rows, rate);
            };
            add(&mut stage.champion, ROWS - canary, world.champion[i], rng);
            add(&mut stage.canary, canary, world.canary[i], rng);
        }
        let facts = ParityFacts { groups: groups.clone(), dropped: 0 };
        judge_parity(rule, facts).verdict == Verdict::Worse
    })
}

#[test]
fn who_is_no_more_unequal_is_not_stopped_and_who_is_is() {
    println!("| canary | stopped | rows of a group, median |\n| --- | --- | --- |");
    for world in &WORLDS {
        let mut rng = Rng::new(31);
        let mut looks: Vec<_> = (0..RUNS).filter_map(|_| stopped(world, &mut rng)).collect();
        looks.sort_unstable();
        let median =
            looks.get(RUNS / 2).map_or("–".to_owned(), |look| (*look as u64 * ROWS).to_string());
        let share = 100.0 * looks.len() as f64 / RUNS as f64;
        println!("| {} | {share:.1} % | {median} |", world.name);
        if world.worse {
            assert!(looks.len() * 20 >= RUNS * 19, "{}: {}", world.name, looks.len());
        } else {
            assert!(lower_bound(looks.len(), RUNS) <= 0.05, "{}: {}", world.name, looks.len());
        }
    }
}
