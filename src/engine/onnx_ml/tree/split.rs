//! Every test of a branch as "x ≤ threshold goes left", the only test that
//! the walk knows.
//!
//! `<` takes the next smaller threshold; `≥` and `>` swap the children; a set
//! becomes a search among the borders of its members. NaN is never ≤, so it
//! goes right by itself; where it must go left, the test looks at a second
//! column of the rows in which NaN is −∞.

use super::real::Real;
use super::trees::{Branch, Mode};

/// What a test looks at: a column of the rows as the walk sees them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Column {
    /// The feature.
    Plain(u32),
    /// The feature, or −∞ where it is NaN.
    Low(u32),
    /// 1 where the feature is NaN, else 0.
    Missing(u32),
}

impl Column {
    pub(super) fn of<X: Real>(self, row: &[X]) -> X {
        match self {
            Self::Plain(feature) => row[feature as usize],
            Self::Low(feature) => {
                let x = row[feature as usize];
                if x.is_nan() { X::of(f64::NEG_INFINITY) } else { x }
            }
            Self::Missing(feature) => {
                X::from(if row[feature as usize].is_nan() { 1.0 } else { 0.0 })
            }
        }
    }

    fn plain_or_low(feature: u32, low: bool) -> Self {
        if low { Self::Low(feature) } else { Self::Plain(feature) }
    }
}

/// One test: left if the column is ≤ the threshold, else right.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Split<X> {
    pub(super) column: Column,
    pub(super) threshold: X,
}

/// What becomes of a branch.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tests<X> {
    /// One test; the two nodes to the left and to the right.
    One(Split<X>, u32, u32),
    /// A search.
    Many(Regions<X>),
}

/// The numbers cut into regions by increasing borders, each region leading to
/// the one or the other node.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Regions<X> {
    feature: u32,
    /// Region i ends with border i, inclusive.
    borders: Vec<X>,
    nodes: Vec<u32>,
    /// The region for NaN.
    nan: usize,
}

impl<X: Real> Regions<X> {
    /// The last region's number.
    pub(super) fn last(&self) -> usize {
        self.borders.len()
    }

    /// The node of a region.
    pub(super) fn node(&self, region: usize) -> u32 {
        self.nodes[region]
    }

    /// The test that has the regions up to `middle` on its left.
    pub(super) fn split(&self, middle: usize) -> Split<X> {
        let column = Column::plain_or_low(self.feature, self.nan <= middle);
        Split { column, threshold: self.borders[middle] }
    }

    /// `members`, which lead to `inside`; the rest leads to `outside`.
    fn new(feature: u32, members: &[X], (inside, outside): (u32, u32), nan_inside: bool) -> Self {
        let (mut borders, mut nodes) = (vec![], vec![]);
        for &member in members {
            // Nothing lies below −∞.
            let below = member.below();
            if below < member {
                borders.push(below);
                nodes.push(outside);
            }
            borders.push(member);
            nodes.push(inside);
        }
        nodes.push(outside);
        let nan = borders.len() - usize::from(nan_inside);
        Self { feature, borders, nodes, nan }
    }
}

/// The tests for `branch`, whose set is `members` if it has one.
pub(super) fn tests<X: Real>(branch: &Branch, members: &[f64]) -> Tests<X> {
    let threshold = X::of(branch.threshold);
    let (yes, no, missing) = (branch.on_true, branch.on_false, branch.missing_is_true);
    let lowest = threshold.is_nan() || threshold == X::of(f64::NEG_INFINITY);
    let one = |threshold, low, left, right| {
        let column = Column::plain_or_low(branch.feature, low);
        Tests::One(Split { column, threshold }, left, right)
    };
    let never = || constant(branch.feature, no, if missing { yes } else { no });
    match branch.mode {
        Mode::Leq | Mode::Gte | Mode::Gt if threshold.is_nan() => never(),
        Mode::Lt if lowest => never(),
        Mode::Gte if lowest => constant(branch.feature, yes, if missing { yes } else { no }),
        Mode::Leq => one(threshold, missing, yes, no),
        Mode::Lt => one(threshold.below(), missing, yes, no),
        Mode::Gte => one(threshold.below(), !missing, no, yes),
        Mode::Gt => one(threshold, !missing, no, yes),
        Mode::Eq => set(branch, &[branch.threshold], (yes, no), missing),
        // NaN differs from every number.
        Mode::Neq => set(branch, &[branch.threshold], (no, yes), false),
        Mode::Member => set(branch, members, (yes, no), missing),
    }
}

fn set<X: Real>(branch: &Branch, members: &[f64], to: (u32, u32), missing: bool) -> Tests<X> {
    let mut members = members.iter().map(|&x| X::of(x)).filter(|x| !x.is_nan()).collect::<Vec<_>>();
    members.sort_by(|a, b| a.partial_cmp(b).expect("no NaN"));
    members.dedup();
    if members.is_empty() {
        return constant(branch.feature, to.1, if missing { to.0 } else { to.1 });
    }
    Tests::Many(Regions::new(branch.feature, &members, to, missing))
}

/// A test whose outcome depends on nothing but whether the feature is NaN.
fn constant<X: Real>(feature: u32, node: u32, nan: u32) -> Tests<X> {
    let split = Split { column: Column::Missing(feature), threshold: X::from(0.5) };
    Tests::One(split, node, nan)
}
