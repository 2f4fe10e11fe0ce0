//! Windows of rows with and without a shift, judged against references: how often chance
//! is called drift, and how often drift is found.
//!
//! The tables that it prints stand in `src/analysis/README.md`:
//!
//! ```text
//! WINDOWS=500 cargo test --test drift -- --nocapture --test-threads 1
//! ```
//!
//! Everything is seeded: the same figures each time. Without `WINDOWS` it simulates
//! few, and looks only for what is plainly wrong.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a test may")]

#[path = "common/rng.rs"]
mod rng;
#[path = "drift/world.rs"]
mod world;

use foreshadow::analysis::{
    ColumnCounts, ColumnDrift, Drift, Level, PSI_MIN, benjamini_hochberg, judge_window,
};
use rng::Rng;
use world::{COLUMNS, POPULATIONS, Reference, Shift, column_of};

/// What the monitor judges at.
const LEVEL: f64 = Level::DRIFT.get();
/// Rows of a window in which a shift is looked for.
const ROWS: [usize; 3] = [200, 1_000, 10_000];
/// Rows of a reference, and of a window, without one.
const STEADY_ROWS: [usize; 4] = [200, 1_000, 5_000, 20_000];
/// Windows that are held against one reference.
const PER_REFERENCE: usize = 10;

fn windows() -> usize {
    std::env::var("WINDOWS").map_or(20, |windows| windows.parse().unwrap())
}

fn percent(count: usize, of: usize) -> String {
    format!("{:.1} %", 100.0 * count as f64 / of as f64)
}

/// By column: the counts of one window without a shift.
fn steady(reference: &Reference, rng: &mut Rng, rows: usize) -> Vec<Vec<u64>> {
    (0..reference.counts.len()).map(|column| reference.window(column, rng, rows, None)).collect()
}

fn judge(reference: &Reference, window: &[Vec<u64>]) -> Vec<ColumnDrift> {
    judge_against(reference, &reference.counts, window)
}

/// Judges a window against other counts in the reference's bins.
fn judge_against(
    reference: &Reference,
    other: &[Vec<u64>],
    window: &[Vec<u64>],
) -> Vec<ColumnDrift> {
    let counts = other.iter().zip(window).enumerate();
    let columns: Vec<_> = counts
        .map(|(column, (counts, window))| ColumnCounts {
            reference: counts,
            window,
            by_value: reference.by_value(column),
        })
        .collect();
    judge_window(&columns, Level::DRIFT)
}

fn moved(column: &ColumnDrift) -> bool {
    column.difference.is_ok_and(|difference| difference.moved)
}

fn advance(states: &mut [Drift], columns: &[ColumnDrift]) {
    for (state, column) in states.iter_mut().zip(columns) {
        *state = state.after(column);
    }
}

/// Whether so many of so many are clearly more than the level: by more than three
/// standard deviations.
fn exceeds(count: usize, of: usize) -> bool {
    let of = of as f64;
    count as f64 > of * LEVEL + 3.0 * (of * LEVEL * (1.0 - LEVEL)).sqrt()
}

/// What came of windows without a shift.
#[derive(Clone, Copy, Default)]
struct Chance {
    /// Windows in which a column moved.
    moved: usize,
    /// Windows in which one would have by the p-values alone.
    rejected: usize,
    /// Windows in which one has an index above the usual bound.
    by_psi: usize,
    /// References against which a column was drifting within all windows.
    drifting: usize,
}

impl Chance {
    /// Windows of so many rows of a population, against references of so many.
    fn simulate(population: &'static [world::Column], reference_rows: usize, rows: usize) -> Self {
        Self::simulate_by(population, reference_rows, rows, |reference, _| reference.counts.clone())
    }

    /// The same against what `other` gives for each window, in the reference's bins.
    fn simulate_by(
        population: &'static [world::Column],
        reference_rows: usize,
        rows: usize,
        other: impl Fn(&Reference, &mut Rng) -> Vec<Vec<u64>>,
    ) -> Self {
        let (mut rng, mut chance) = (Rng::new(1), Self::default());
        for _ in 0..windows().div_ceil(PER_REFERENCE) {
            let reference = Reference::new(population, &mut rng, reference_rows);
            let mut states = vec![Drift::default(); population.len()];
            let mut drifted = false;
            for _ in 0..PER_REFERENCE {
                let window = steady(&reference, &mut rng, rows);
                let other = other(&reference, &mut rng);
                let columns = judge_against(&reference, &other, &window);
                let differences = || columns.iter().filter_map(|c| c.difference.ok());
                let p_values: Vec<_> = differences().map(|d| d.p_value).collect();
                chance.moved += usize::from(columns.iter().any(moved));
                let rejected = benjamini_hochberg(&p_values, LEVEL);
                chance.rejected += usize::from(rejected.contains(&true));
                chance.by_psi += usize::from(differences().any(|d| d.psi > PSI_MIN));
                advance(&mut states, &columns);
                drifted |= states.iter().any(|state| state.is_drifting());
            }
            chance.drifting += usize::from(drifted);
        }
        chance
    }
}

/// Of windows that have no shift, at most the level may have a column that moved; and so
/// must it be by the p-values alone, without what else it takes to have moved.
#[test]
fn chance_is_not_called_drift() {
    println!(
        "\n| rows are of | reference | window | a column moved | the same by p-values alone | PSI > 0.1 alone | drifting within {PER_REFERENCE} windows |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let references = windows().div_ceil(PER_REFERENCE);
    let all = references * PER_REFERENCE;
    let mut wrong = Vec::new();
    for (name, population) in POPULATIONS {
        for reference_rows in STEADY_ROWS {
            for rows in STEADY_ROWS {
                let chance = Chance::simulate(population, reference_rows, rows);
                let Chance { moved, rejected, by_psi, drifting } = chance;
                println!(
                    "| {name} | {reference_rows} | {rows} | {} | {} | {} | {} |",
                    percent(moved, all),
                    percent(rejected, all),
                    percent(by_psi, all),
                    percent(drifting, references),
                );
                // Windows that are larger than their reference share its luck: as one.
                let of_one = if rows > reference_rows { PER_REFERENCE } else { 1 };
                let exceed = [moved, rejected].map(|count| exceeds(count / of_one, all / of_one));
                if exceed.contains(&true) || drifting > references / 50 {
                    wrong.push((name, reference_rows, rows, moved, rejected, drifting));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "of {all}: {wrong:?}");
}

/// Rows of a canary's window and of its champion's.
const BOTH_ROWS: [(usize, usize); 4] = [(200, 200), (200, 3_800), (1_000, 1_000), (1_000, 19_000)];
/// Rows that the champion's profile, and so the bins, were made from.
const BIN_ROWS: [usize; 2] = [200, 5_000];

/// A canary's windows against its champion's, of the same traffic, in the bins of a
/// profile that is neither of them.
#[test]
fn a_canary_that_is_alike_is_not_called_different() {
    println!(
        "\n| rows are of | bins are of | canary | champion | a column is apart | the same by p-values alone | different within {PER_REFERENCE} windows |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    let references = windows().div_ceil(PER_REFERENCE);
    let all = references * PER_REFERENCE;
    let mut wrong = Vec::new();
    for (name, population) in POPULATIONS {
        for (bin_rows, (rows, champion_rows)) in
            BIN_ROWS.into_iter().flat_map(|bins| BOTH_ROWS.map(|rows| (bins, rows)))
        {
            let new = |reference: &Reference, rng: &mut Rng| steady(reference, rng, champion_rows);
            let chance = Chance::simulate_by(population, bin_rows, rows, new);
            let Chance { moved, rejected, drifting, .. } = chance;
            println!(
                "| {name} | {bin_rows} | {rows} | {champion_rows} | {} | {} | {} |",
                percent(moved, all),
                percent(rejected, all),
                percent(drifting, references),
            );
            if exceeds(moved, all) || exceeds(rejected, all) || drifting > 0 {
                wrong.push((name, bin_rows, rows, champion_rows, moved, rejected, drifting));
            }
        }
    }
    assert!(wrong.is_empty(), "of {all}: {wrong:?}");
}

/// What was found of one shift.
#[derive(Clone, Copy, Default)]
struct Found {
    /// Windows in which its column moved.
    right: usize,
    /// Windows in which any other did.
    other: usize,
    /// The parts of others among those that moved, over all windows: what the level
    /// bounds where something has moved.
    false_part: f64,
    /// References after which its column was drifting within all windows.
    drifting: usize,
}

/// Shifts in one of the columns: how often that one is found, and any other.
#[test]
fn shifts_are_found_where_they_are() {
    const REFERENCE_ROWS: usize = 20_000;
    let references = windows().div_ceil(PER_REFERENCE);
    let all = references * PER_REFERENCE;
    let mut found = [[Found::default(); ROWS.len()]; Shift::ALL.len()];
    for (size, rows) in ROWS.into_iter().enumerate() {
        let mut rng = Rng::new(2);
        for _ in 0..references {
            let reference = Reference::new(&COLUMNS, &mut rng, REFERENCE_ROWS);
            let mut states = [Drift::default(); Shift::ALL.len()];
            let mut drifted = [false; Shift::ALL.len()];
            for _ in 0..PER_REFERENCE {
                let steady = steady(&reference, &mut rng, rows);
                for (i, (shift, ..)) in Shift::ALL.into_iter().enumerate() {
                    let (mut window, shifted) = (steady.clone(), column_of(shift));
                    window[shifted] = reference.window(shifted, &mut rng, rows, Some(shift));
                    let columns = judge(&reference, &window);
                    let found = &mut found[i][size];
                    let right = usize::from(moved(&columns[shifted]));
                    let all = columns.iter().filter(|column| moved(column)).count();
                    let others = all - right;
                    found.right += right;
                    found.other += usize::from(others > 0);
                    found.false_part += others as f64 / all.max(1) as f64;
                    advance(&mut states[i..=i], &columns[shifted..=shifted]);
                    drifted[i] |= states[i].is_drifting();
                }
            }
            for (found, drifted) in found.iter_mut().zip(drifted) {
                found[size].drifting += usize::from(drifted);
            }
        }
    }
    println!(
        "\n| shift in 1 of 16 columns | 200 rows: found | another | drifting | 1,000 rows: found | another | drifting | 10,000 rows: found | another | drifting |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |");
    let mut wrong = Vec::new();
    for ((shift, name, least), found) in Shift::ALL.into_iter().zip(found) {
        let cells = found.map(|found| {
            [
                percent(found.right, all),
                percent(found.other, all),
                percent(found.drifting, references),
            ]
        });
        println!("| {name} | {} |", cells.concat().join(" | "));
        for (found, least) in found.into_iter().zip(least) {
            if (found.right as f64) < least * all as f64 || exceeds(found.false_part as usize, all)
            {
                wrong.push((shift, found.right, found.false_part));
            }
        }
    }
    assert!(wrong.is_empty(), "of {all}: {wrong:?}");
}
