//! Rows against a fixed matrix: products, or squared distances.

use super::{Work, multiply_add, vectorised};

/// Targets that are computed side by side: two AVX2 registers.
const LANES: usize = 16;
/// Features that are summed side by side where there are few targets.
const NARROW_LANES: usize = 8;
/// Rows that share one reading of the weights; with [`LANES`] this fills the
/// registers.
const TILE_ROWS: usize = 6;

/// What is summed over the features for each row and target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in super::super) enum Measure {
    /// x · w.
    Product,
    /// (x − w)².
    SquaredDistance,
}

/// Weights of `targets` by `features`, laid out for the processor.
#[derive(Debug)]
pub(in super::super) struct Matrix {
    targets: usize,
    features: usize,
    layout: Layout,
}

#[derive(Debug)]
enum Layout {
    /// For few targets: vectors along the features.
    Narrow(Vec<Target>),
    /// Vectors across the targets: for every [`LANES`] targets, the weights
    /// feature by feature.
    Wide(Vec<Lanes>),
}

/// The weights of one target, and a last vector which ends with the row and
/// so may reach back over features that count already: there its weights are
/// left out.
#[derive(Debug)]
struct Target {
    weights: Vec<f32>,
    last: [f32; NARROW_LANES],
    counts: [bool; NARROW_LANES],
}

#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
struct Lanes([f32; LANES]);

impl Matrix {
    /// From row-major weights, `features` for each of the targets.
    pub(in super::super) fn new(weights: &[f32], features: usize) -> Self {
        let targets = weights.len().checked_div(features).unwrap_or(0);
        let rows = weights.chunks_exact(features.max(1));
        let layout = if targets < NARROW_LANES {
            Layout::Narrow(rows.map(Target::new).collect())
        } else {
            Layout::Wide(panels(rows.collect::<Vec<_>>().as_slice(), features))
        };
        Self { targets, features, layout }
    }

    /// How many targets.
    pub(in super::super) fn targets(&self) -> usize {
        self.targets
    }

    /// How many features a row must have.
    pub(in super::super) fn features(&self) -> usize {
        self.features
    }

    /// For each row of `rows` the sums of all targets, one after another.
    pub(in super::super) fn sums(&self, measure: Measure, rows: &[f32], out: &mut [f32]) {
        match measure {
            Measure::Product => vectorised(Sums::<false> { matrix: self, rows, out }),
            Measure::SquaredDistance => vectorised(Sums::<true> { matrix: self, rows, out }),
        }
    }
}

impl Target {
    fn new(weights: &[f32]) -> Self {
        let rest = weights.len() % NARROW_LANES;
        let mut last = [0.0; NARROW_LANES];
        let mut counts = [false; NARROW_LANES];
        if let Some(tail) = weights.last_chunk::<NARROW_LANES>() {
            for lane in NARROW_LANES - rest..NARROW_LANES {
                (last[lane], counts[lane]) = (tail[lane], true);
            }
        }
        Self { weights: weights.to_vec(), last, counts }
    }
}

fn panels(rows: &[&[f32]], features: usize) -> Vec<Lanes> {
    let panel = |rows: &[&[f32]], feature: usize| {
        let mut lanes = [0.0; LANES];
        lanes.iter_mut().zip(rows).for_each(|(lane, row)| *lane = row[feature]);
        Lanes(lanes)
    };
    let panels = rows.chunks(LANES);
    panels.flat_map(|rows| (0..features).map(move |feature| panel(rows, feature))).collect()
}

struct Sums<'a, const DISTANCE: bool> {
    matrix: &'a Matrix,
    rows: &'a [f32],
    out: &'a mut [f32],
}

impl<const DISTANCE: bool> Work for Sums<'_, DISTANCE> {
    type Output = ();

    #[inline(always)]
    fn run<const FUSED: bool>(self) {
        let Matrix { targets, features, layout } = self.matrix;
        if *features == 0 || *targets == 0 {
            return;
        }
        match layout {
            Layout::Narrow(all) => {
                let rows = self.rows.chunks_exact(*features);
                for (row, out) in rows.zip(self.out.chunks_exact_mut(*targets)) {
                    for (target, out) in all.iter().zip(out) {
                        *out = narrow::<DISTANCE, FUSED>(row, target);
                    }
                }
            }
            Layout::Wide(panels) => {
                let mut inputs = self.rows.chunks_exact(features * TILE_ROWS);
                let mut outputs = self.out.chunks_exact_mut(targets * TILE_ROWS);
                for (rows, out) in inputs.by_ref().zip(outputs.by_ref()) {
                    tile::<TILE_ROWS, DISTANCE, FUSED>(rows, panels, *features, *targets, out);
                }
                let inputs = inputs.remainder().chunks_exact(*features);
                let outputs = outputs.into_remainder().chunks_exact_mut(*targets);
                for (row, out) in inputs.zip(outputs) {
                    tile::<1, DISTANCE, FUSED>(row, panels, *features, *targets, out);
                }
            }
        }
    }
}

/// One more feature of one target.
#[inline(always)]
fn add<const DISTANCE: bool, const FUSED: bool>(x: f32, weight: f32, sum: f32) -> f32 {
    if DISTANCE {
        let difference = x - weight;
        multiply_add::<FUSED>(difference, difference, sum)
    } else {
        multiply_add::<FUSED>(x, weight, sum)
    }
}

#[inline(always)]
fn narrow<const DISTANCE: bool, const FUSED: bool>(row: &[f32], target: &Target) -> f32 {
    let mut sums = [0.0; NARROW_LANES];
    let (chunks, rest) = row.as_chunks::<NARROW_LANES>();
    let (weights, rest_weights) = target.weights.as_chunks::<NARROW_LANES>();
    for (x, weights) in chunks.iter().zip(weights) {
        for lane in 0..NARROW_LANES {
            sums[lane] = add::<DISTANCE, FUSED>(x[lane], weights[lane], sums[lane]);
        }
    }
    match row.last_chunk::<NARROW_LANES>() {
        Some(last) if !rest.is_empty() => {
            for lane in 0..NARROW_LANES {
                let more = add::<DISTANCE, FUSED>(last[lane], target.last[lane], sums[lane]);
                sums[lane] = if target.counts[lane] { more } else { sums[lane] };
            }
        }
        Some(_) => {}
        None => {
            for (lane, (&x, &weight)) in rest.iter().zip(rest_weights).enumerate() {
                sums[lane] = add::<DISTANCE, FUSED>(x, weight, sums[lane]);
            }
        }
    }
    let [a, b, c, d, e, f, g, h] = sums;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}

/// All targets of `ROWS` rows.
#[inline(always)]
fn tile<const ROWS: usize, const DISTANCE: bool, const FUSED: bool>(
    rows: &[f32],
    panels: &[Lanes],
    features: usize,
    targets: usize,
    out: &mut [f32],
) {
    let rows: [&[f32]; ROWS] = std::array::from_fn(|r| &rows[r * features..][..features]);
    for (p, panel) in panels.chunks_exact(features).enumerate() {
        let mut sums = [[0.0; LANES]; ROWS];
        for (feature, weights) in panel.iter().enumerate() {
            for (sums, row) in sums.iter_mut().zip(rows) {
                let x = row[feature];
                for (sum, weight) in sums.iter_mut().zip(weights.0) {
                    *sum = add::<DISTANCE, FUSED>(x, weight, *sum);
                }
            }
        }
        let first = p * LANES;
        let width = LANES.min(targets - first);
        for (r, sums) in sums.iter().enumerate() {
            let out = &mut out[r * targets + first..][..width];
            match out.first_chunk_mut::<LANES>() {
                Some(whole) => *whole = *sums,
                None => out.copy_from_slice(&sums[..width]),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same, one number after another and in double precision.
    fn plainly(measure: Measure, weights: &[f32], features: usize, rows: &[f32]) -> Vec<f64> {
        let one = |row: &[f32], weights: &[f32]| {
            let pairs = row.iter().zip(weights).map(|(&x, &w)| (f64::from(x), f64::from(w)));
            pairs
                .map(|(x, w)| match measure {
                    Measure::Product => x * w,
                    Measure::SquaredDistance => (x - w) * (x - w),
                })
                .sum::<f64>()
        };
        let rows = rows.chunks_exact(features);
        rows.flat_map(|row| weights.chunks_exact(features).map(move |w| one(row, w))).collect()
    }

    proptest! {
        #[test]
        fn sums_are_what_they_are_one_by_one(
            (features, targets, rows) in (1_usize..40, 1_usize..40, 1_usize..15),
            numbers in proptest::collection::vec(-8.0_f32..8.0, 40 * 40 + 15 * 40),
        ) {
            let (weights, numbers) = numbers.split_at(targets * features);
            let data = &numbers[..rows * features];
            let matrix = Matrix::new(weights, features);
            for measure in [Measure::Product, Measure::SquaredDistance] {
                let exact = plainly(measure, weights, features, data);
                let mut fast = vec![0.0; rows * targets];
                matrix.sums(measure, data, &mut fast);
                let mut plain = vec![0.0; rows * targets];
                match measure {
                    Measure::Product => {
                        Sums::<false> { matrix: &matrix, rows: data, out: &mut plain }.run::<false>();
                    }
                    Measure::SquaredDistance => {
                        Sums::<true> { matrix: &matrix, rows: data, out: &mut plain }.run::<false>();
                    }
                }
                for ((fast, plain), exact) in fast.iter().zip(&plain).zip(exact) {
                    let bound = 1e-6 * 64.0 * features as f64;
                    prop_assert!((f64::from(*fast) - exact).abs() <= bound, "{fast} {exact}");
                    prop_assert!((f64::from(*plain) - exact).abs() <= bound, "{plain} {exact}");
                }
            }
        }
    }

    /// A feature that counts once must not count again in the last vector.
    #[test]
    fn infinities_stay_what_they_are() {
        for features in 1..20 {
            for targets in [1, 9] {
                let matrix = Matrix::new(&vec![1.0; features * targets], features);
                for at in 0..features {
                    let mut row = vec![1.0; features];
                    row[at] = f32::INFINITY;
                    let mut out = vec![0.0; targets];
                    matrix.sums(Measure::Product, &row, &mut out);
                    assert_eq!(out, vec![f32::INFINITY; targets], "{features} {at}");
                }
            }
        }
    }
}
