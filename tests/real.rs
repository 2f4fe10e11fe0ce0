//! Windows of real rows with something planted in them, or nothing: which monitors find it,
//! and that the others stay quiet.
//!
//! Rows are drawn with replacement from the sets in `tests/real/`, whole, so that columns
//! depend on each other as they do. The table stands in `src/analysis/README.md`:
//!
//! ```text
//! WINDOWS=500 cargo test --test real -- --nocapture --test-threads 1
//! ```
//!
//! Everything is seeded: the same figures each time. Without `WINDOWS` it draws few, and
//! looks only for what is plainly wrong.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may")]

#[path = "common/rng.rs"]
mod rng;
#[path = "real/world.rs"]
mod world;

use foreshadow::analysis::{
    ColumnCounts, Drift, Exposure, Guard, Level, Margin, PSI_MIN, Quality, Rule, Verdict,
    benjamini_hochberg, disparity, judge_window,
};
use foreshadow::types::Share;
use rng::Rng;
use world::{GROUPS, Planted, Reference, SOURCES, Set};

/// Rows of a window.
const ROWS: [usize; 3] = [200, 1_000, 10_000];
/// Rows of a reference.
const REFERENCE_ROWS: usize = 20_000;
/// Windows that are held against one reference.
const PER_REFERENCE: usize = 10;
/// Beyond what is usual of a set, so many of the answers may be wrong.
const WRONG_MORE: f64 = 0.05;
/// Rows that a group's rate must be of to be compared, as the gateway has it.
const GROUP_ROWS_MIN: u64 = 100;
/// Groups that differ by so much, twice the margin, must be found to.
const UNLIKE: f64 = 0.2;
/// Of this part of windows with the most rows a monitor must find what it is for.
const FOUND: f64 = 0.95;

fn windows() -> usize {
    std::env::var("WINDOWS").map_or(PER_REFERENCE, |windows| windows.parse().unwrap())
}

fn references() -> usize {
    windows().div_ceil(PER_REFERENCE)
}

/// Whether so many of so many are clearly more than the level: by more than three
/// standard deviations.
fn exceeds(count: f64, of: usize, level: Level) -> bool {
    let (of, level) = (of as f64, level.get());
    count > of * level + 3.0 * (of * level * (1.0 - level)).sqrt()
}

/// The rule of a rollout's guard of groups, of one of them: the rollout has another guard,
/// of all wrong answers, and rows whose group is not declared are a group, too.
fn rule_of_group() -> Rule {
    Rule {
        worse_than: Margin::ONE,
        not_worse_than: None,
        objective: None,
        alpha: Level::WORSE.split(2).split(GROUPS + 1),
        beta: Level::NOT_WORSE,
    }
}

/// In how many windows of one size each monitor fired.
#[derive(Clone, Copy, Default)]
struct Fired {
    /// The column in which something is planted moved.
    planted: usize,
    /// Any other did.
    other: usize,
    /// Any other would have by the p-values alone.
    rejected: usize,
    /// The parts of others among those that moved, over all windows: what the level
    /// bounds where something has moved.
    false_part: f64,
    /// References after which any column was drifting within all windows.
    drifting: usize,
    /// The sum of the planted column's indices.
    psi: f64,
    /// Too many answers are wrong.
    wrong: usize,
    /// Groups are not treated alike.
    unfair: usize,
    /// The sum of the largest differences between them.
    differences: f64,
    /// The canary is worse for the group.
    guards: [usize; GROUPS],
}

impl Fired {
    fn simulate(set: &Set, references: &[Reference<'_>], rows: usize, planted: Planted) -> Self {
        let (mut rng, mut fired) = (Rng::new(4), Self::default());
        for reference in references {
            let mut states = vec![Drift::default(); reference.counts.len()];
            let mut drifted = false;
            for _ in 0..PER_REFERENCE {
                let window = set.window(&mut rng, rows, planted);
                let counts = reference.counts_of(&window, planted);
                fired.judge_columns(reference, &counts, set.column_of(planted), &mut states);
                drifted |= states.iter().any(|state| state.is_drifting());
                fired.judge_labels(set, &set.quality(&window));
                fired.judge_canary(set.wrong(&window));
            }
            fired.drifting += usize::from(drifted);
        }
        fired
    }

    fn judge_columns(
        &mut self,
        reference: &Reference<'_>,
        window: &[Vec<u64>],
        planted: Option<usize>,
        states: &mut [Drift],
    ) {
        let counts = reference.counts.iter().zip(window).enumerate();
        let columns: Vec<_> = counts
            .map(|(column, (counts, window))| ColumnCounts {
                reference: counts,
                window,
                by_value: reference.by_value(column),
            })
            .collect();
        let columns = judge_window(&columns, Level::DRIFT);
        let differences: Vec<_> = columns.iter().map(|column| column.difference.unwrap()).collect();
        let p_values: Vec<_> = differences.iter().map(|difference| difference.p_value).collect();
        let rejected = benjamini_hochberg(&p_values, Level::DRIFT.get());
        let is_other = |column: &usize| Some(*column) != planted;
        let others = || (0..columns.len()).filter(is_other);
        let right = planted.is_some_and(|column| differences[column].moved);
        let wrong = others().filter(|column| differences[*column].moved).count();
        self.planted += usize::from(right);
        self.other += usize::from(wrong > 0);
        self.rejected += usize::from(others().any(|column| rejected[column]));
        self.false_part += wrong as f64 / (wrong + usize::from(right)).max(1) as f64;
        self.psi += planted.map_or(0.0, |column| differences[column].psi);
        for (state, column) in states.iter_mut().zip(&columns) {
            *state = state.after(column);
        }
    }

    /// As the gateway's alerts are given.
    fn judge_labels(&mut self, set: &Set, groups: &[Quality; GROUPS]) {
        let [a, b] = groups;
        let mut all = a.clone();
        all.merge(b);
        let right = all.figures(Level::QUALITY).accuracy.unwrap();
        self.wrong += usize::from(1.0 - right.upper > set.wrong_rate() + WRONG_MORE);
        let groups = [("a", a), ("b", b)];
        let found = disparity(&groups, 1, GROUP_ROWS_MIN, Level::QUALITY);
        self.unfair += usize::from(!found.alerts.is_empty());
        let ranges = [found.demographic_parity, found.equalised_odds, found.predictive_parity];
        let differences = ranges.into_iter().flatten().map(|range| range.difference);
        self.differences += differences.fold(0.0, f64::max);
    }

    /// A rollout of as many requests as the window has rows, half of them the canary's.
    fn judge_canary(&mut self, wrong: impl Iterator<Item = (usize, bool)>) {
        let half = Exposure::new(Share::from_percent(50.0).unwrap()).unwrap();
        let mut guards = [(); GROUPS].map(|()| Guard::new(rule_of_group(), half));
        for (group, is_canary) in wrong {
            guards[group].add(u64::from(!is_canary), u64::from(is_canary));
        }
        for (fired, guard) in self.guards.iter_mut().zip(guards) {
            *fired += usize::from(guard.verdict() == Verdict::Worse);
        }
    }

    /// What does not hold of windows of so many rows.
    fn wrongs(&self, planted: Planted, rows: usize) -> Vec<&'static str> {
        let all = references() * PER_REFERENCE;
        let quiet = |count: usize, level| !exceeds(count as f64, all, level);
        let found = |count: usize| rows < 10_000 || count as f64 >= FOUND * all as f64;
        let mut wrongs = Vec::new();
        let mut expect = |holds: bool, what| {
            if !holds {
                wrongs.push(what);
            }
        };
        match planted {
            Planted::Mean(_) | Planted::Variance(_) | Planted::Missing(_) => {
                // Below the bound it is not called drift, however many rows show it; about it, by luck.
                let is_rate = matches!(planted, Planted::Missing(_));
                let is_large = is_rate || self.psi / all as f64 > 1.25 * PSI_MIN;
                expect(!is_large || found(self.planted), "the planted column");
                expect(!exceeds(self.false_part, all, Level::DRIFT), "other columns");
            }
            // Whatever depends on the group is mixed otherwise, too.
            Planted::Mix(_) => expect(found(self.planted), "the planted column"),
            _ => {
                expect(quiet(self.other, Level::DRIFT), "columns");
                expect(quiet(self.rejected, Level::DRIFT), "p-values");
                expect(self.drifting <= references() / 50, "drifting");
            }
        }
        match planted {
            Planted::Flips(_) => expect(found(self.wrong), "wrong answers"),
            // Those of one group may be too few to be too many of all.
            Planted::FlipsOf(..) => {}
            _ => expect(quiet(self.wrong, Level::QUALITY), "wrong answers"),
        }
        match planted {
            Planted::FlipsOf(..) => {
                let is_large = self.differences / all as f64 > UNLIKE;
                expect(!is_large || found(self.unfair), "fairness");
            }
            _ => expect(quiet(self.unfair, Level::QUALITY), "fairness"),
        }
        for (group, fired) in self.guards.into_iter().enumerate() {
            let is_harmed = match planted {
                Planted::Flips(_) => true,
                Planted::FlipsOf(harmed, _) => group == harmed,
                _ => false,
            };
            let holds = if is_harmed { found(fired) } else { quiet(fired, Level::WORSE) };
            expect(holds, "the guard of a group");
        }
        wrongs
    }
}

/// One cell: of windows of each size.
fn percent(counts: [usize; ROWS.len()], of: usize) -> String {
    let of_each = counts.map(|count| {
        let percent = format!("{:.1}", 100.0 * count as f64 / of as f64);
        percent.strip_suffix(".0").map_or(percent.clone(), str::to_owned)
    });
    of_each.join(" / ")
}

/// What is planted is found by the monitors that are there for it, and by no others.
#[test]
fn the_right_monitors_fire() {
    println!(
        "\n| set | planted | its index | its column moved | another did | by p-values alone | drifting | too many wrong | groups differ by | groups unlike | canary worse for a | for b |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let all = references() * PER_REFERENCE;
    let mut wrong = Vec::new();
    for source in &SOURCES {
        let (set, mut rng) = (Set::read(source), Rng::new(3));
        let references: Vec<_> =
            (0..references()).map(|_| Reference::new(&set, &mut rng, REFERENCE_ROWS)).collect();
        for (planted, name) in Planted::ALL {
            let fired = ROWS.map(|rows| Fired::simulate(&set, &references, rows, planted));
            let cell = |count: fn(&Fired) -> usize| percent(fired.each_ref().map(count), all);
            let has_column = set.column_of(planted).is_some();
            let largest = &fired[ROWS.len() - 1];
            let [index, difference] =
                [largest.psi, largest.differences].map(|sum| sum / all as f64);
            let cells = [
                if has_column { format!("{index:.2}") } else { "–".to_owned() },
                if has_column { cell(|own| own.planted) } else { "–".to_owned() },
                cell(|own| own.other),
                cell(|own| own.rejected),
                percent(fired.map(|own| own.drifting), references.len()),
                cell(|own| own.wrong),
                format!("{difference:.2}"),
                cell(|own| own.unfair),
                cell(|own| own.guards[0]),
                cell(|own| own.guards[1]),
            ];
            println!("| {} | {name} | {} |", source.name, cells.join(" | "));
            for (fired, rows) in fired.into_iter().zip(ROWS) {
                let wrongs = fired.wrongs(planted, rows);
                if !wrongs.is_empty() {
                    wrong.push((source.name, planted, rows, wrongs));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "of {all}: {wrong:?}");
}
