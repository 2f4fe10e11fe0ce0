//! What the leaves that a row reaches add up to, by class or target.

use std::ops::Range;

use super::forest::Forest;
use super::real::Real;
use super::trees::{Trees, Weight};
use tract_onnx::prelude::*;

/// How the trees' weights become one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Aggregate {
    Sum,
    Average,
    Min,
    Max,
}

/// What the leaves bring along.
#[derive(Debug)]
enum Leaves<X> {
    /// Their one weight; the class or target of each tree.
    One(Vec<u32>),
    /// The row of a table with a weight for each class or target.
    Table(Vec<X>),
    /// Their number; its range in a list of weights, each with its target.
    Lists(Vec<Range<u32>>, Vec<(u32, X)>),
}

/// An ensemble in numbers of one kind, ready to run.
#[derive(Debug)]
pub(super) struct Ensemble<X> {
    forest: Forest<X>,
    leaves: Leaves<X>,
    aggregate: Aggregate,
    trees: usize,
    targets: usize,
    /// The classes or targets that every row has a weight for; `None` where
    /// rows differ.
    present: Option<Vec<bool>>,
}

/// The sums of some rows, row by row.
pub(super) struct Sums<X> {
    pub(super) scores: Vec<X>,
    targets: usize,
    /// One row for all, or one for each.
    present: Vec<bool>,
}

impl<X> Sums<X> {
    /// Each row's scores, and which of them some leaf spoke of.
    pub(super) fn rows(&mut self) -> impl Iterator<Item = (&mut [X], &[bool])> {
        let Self { scores, targets, present } = self;
        let (targets, present) = (*targets, &**present);
        let one_for_all = present.len() == targets;
        let rows = scores.chunks_exact_mut(targets).enumerate();
        rows.map(move |(i, scores)| {
            let start = if one_for_all { 0 } else { i * targets };
            (scores, &present[start..start + targets])
        })
    }
}

impl<X: Real> Ensemble<X> {
    /// Takes the kind of leaves that is the fastest for these trees.
    pub(super) fn new(trees: &Trees, aggregate: Aggregate) -> TractResult<Self> {
        let present = always_present(trees);
        let adds = matches!(aggregate, Aggregate::Sum | Aggregate::Average);
        let plain = present.is_some() && adds;
        let (leaves, forest) = if let Some(targets) = target_of_trees(trees).filter(|_| plain) {
            let value = |leaf| {
                trees.weights_of(leaf).first().map_or(X::default(), |weight| X::of(weight.value))
            };
            (Leaves::One(targets), Forest::new(trees, value)?)
        } else if plain && trees.leaves.len() * trees.targets <= 2 * trees.weights.len() {
            (Leaves::Table(table(trees)), Forest::new(trees, X::from_index)?)
        } else {
            let weights = trees.weights.iter();
            let weights = weights.map(|weight| (weight.target, X::of(weight.value))).collect();
            (Leaves::Lists(trees.leaves.clone(), weights), Forest::new(trees, X::from_index)?)
        };
        let (trees, targets) = (trees.roots.len(), trees.targets);
        Ok(Self { forest, leaves, aggregate, trees, targets, present })
    }

    /// The least number of features that a row must have.
    pub(super) fn features(&self) -> usize {
        self.forest.features()
    }

    /// Adds up for each row of `width` features, at least
    /// [`Ensemble::features`].
    pub(super) fn run(&self, rows: &[X], width: usize) -> Sums<X> {
        let (count, targets) = (rows.len() / width, self.targets);
        let mut scores = vec![X::default(); count * targets];
        let present = match &self.leaves {
            Leaves::One(of) if targets == 1 && of.len() == self.trees => {
                self.forest.walk(rows, width, |row, _, weight| scores[row] += weight);
                None
            }
            Leaves::One(target_of) => {
                self.forest.walk(rows, width, |row, tree, weight| {
                    scores[row * targets + target_of[tree] as usize] += weight;
                });
                None
            }
            Leaves::Table(table) => {
                self.forest.walk(rows, width, |row, _, leaf| {
                    let weights = &table[leaf.index() as usize * targets..][..targets];
                    let scores = &mut scores[row * targets..][..targets];
                    scores.iter_mut().zip(weights).for_each(|(score, &weight)| *score += weight);
                });
                None
            }
            Leaves::Lists(ranges, weights) => {
                let mut present = vec![false; scores.len()];
                self.forest.walk(rows, width, |row, _, leaf| {
                    let Range { start, end } = ranges[leaf.index() as usize];
                    let weights = &weights[start as usize..end as usize];
                    let at = row * targets..(row + 1) * targets;
                    self.add(weights, &mut scores[at.clone()], &mut present[at]);
                });
                Some(present)
            }
        };
        if self.aggregate == Aggregate::Average {
            let trees = X::of(self.trees as f64);
            scores.iter_mut().for_each(|score| *score = *score / trees);
        }
        let present = present.or_else(|| self.present.clone()).unwrap_or_default();
        Sums { scores, targets, present }
    }

    /// Adds one leaf's weights to a row's scores.
    fn add(&self, weights: &[(u32, X)], scores: &mut [X], present: &mut [bool]) {
        for &(target, value) in weights {
            let seen = std::mem::replace(&mut present[target as usize], true);
            let score = &mut scores[target as usize];
            match self.aggregate {
                Aggregate::Sum | Aggregate::Average => *score += value,
                Aggregate::Min if !seen || value < *score => *score = value,
                Aggregate::Max if !seen || value > *score => *score = value,
                Aggregate::Min | Aggregate::Max => {}
            }
        }
    }
}

/// The target of each tree whose leaves have one weight at most, and all for
/// the same target; `None` if there is another tree.
fn target_of_trees(trees: &Trees) -> Option<Vec<u32>> {
    let of_tree = |leaves: Vec<u32>| {
        let mut found = None;
        for &leaf in &leaves {
            match trees.weights_of(leaf) {
                [] => {}
                [Weight { target, .. }] if found.is_none_or(|t| t == *target) => {
                    found = Some(*target);
                }
                _ => return None,
            }
        }
        Some(found.unwrap_or(0))
    };
    trees.leaves_by_tree().map(of_tree).collect()
}

/// The targets that some tree speaks of in all its leaves, if no leaf speaks of
/// any other.
fn always_present(trees: &Trees) -> Option<Vec<bool>> {
    let mut always = vec![false; trees.targets];
    // Per target: leaves of the present tree that speak of it, and the last one.
    let mut count = vec![(0, u32::MAX); trees.targets];
    for leaves in trees.leaves_by_tree() {
        let weights = || leaves.iter().map(|&leaf| (leaf, trees.weights_of(leaf)));
        for (leaf, weights) in weights() {
            for weight in weights {
                let (count, last) = &mut count[weight.target as usize];
                *count += usize::from(*last != leaf);
                *last = leaf;
            }
        }
        for weight in weights().flat_map(|(_, weights)| weights) {
            let (count, _) = std::mem::take(&mut count[weight.target as usize]);
            always[weight.target as usize] |= count == leaves.len();
        }
    }
    let known = |weight: &Weight| always[weight.target as usize];
    trees.weights.iter().all(known).then_some(always)
}

fn table<X: Real>(trees: &Trees) -> Vec<X> {
    let mut table = vec![X::default(); trees.leaves.len() * trees.targets];
    for (row, leaf) in table.chunks_exact_mut(trees.targets).zip(0..) {
        for weight in trees.weights_of(leaf) {
            row[weight.target as usize] += X::of(weight.value);
        }
    }
    table
}
