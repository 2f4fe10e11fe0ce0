//! The trees of a file, checked: what the three operators have in common.
//!
//! Invariants, established by [`Trees::check`] and relied upon by
//! [`super::split`] and [`super::forest`]: every tree is a tree (each node is
//! reached exactly once, from one root, so walks end); children are valid
//! indices; every feature is below [`Trees::features`]; every leaf's weights
//! are a valid range, and their targets are below [`Trees::targets`].

use std::collections::HashMap;
use std::ops::Range;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

/// How a branch compares its feature with its threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    Leq,
    Lt,
    Gte,
    Gt,
    Eq,
    Neq,
    /// Whether the feature is in the branch's set of numbers.
    Member,
}

/// A node that leads on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Branch {
    pub(super) threshold: f64,
    pub(super) feature: u32,
    pub(super) on_true: u32,
    pub(super) on_false: u32,
    pub(super) mode: Mode,
    /// Where a feature that is NaN leads: to the true child, or to where the
    /// comparison with NaN leads.
    pub(super) missing_is_true: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Node {
    Branch(Branch),
    /// An index in [`Trees::leaves`].
    Leaf(u32),
}

/// One leaf's contribution to one class or target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Weight {
    pub(super) target: u32,
    pub(super) value: f64,
}

#[derive(Debug, Default)]
pub(super) struct Trees {
    pub(super) nodes: Vec<Node>,
    pub(super) roots: Vec<u32>,
    /// Per leaf, its range in `weights`.
    pub(super) leaves: Vec<Range<u32>>,
    pub(super) weights: Vec<Weight>,
    /// The sets of the branches with [`Mode::Member`], by node.
    pub(super) sets: HashMap<u32, Vec<f64>>,
    /// The least number of features that a row must have.
    pub(super) features: usize,
    /// How many classes or targets.
    pub(super) targets: usize,
    /// Thresholds and weights are doubles, so rows must be, too.
    pub(super) double: bool,
}

impl Trees {
    /// Checks that all nodes form trees below the roots, and completes
    /// `features`. `name` gives a node's name in the file.
    pub(super) fn check(&mut self, name: impl Fn(usize) -> String) -> TractResult<()> {
        let mut reached = vec![false; self.nodes.len()];
        let mut pending = self.roots.clone();
        while let Some(at) = pending.pop() {
            let twice = std::mem::replace(&mut reached[at as usize], true);
            ensure!(!twice, "{} is reached twice", name(at as usize));
            if let Node::Branch(branch) = &self.nodes[at as usize] {
                self.features = self.features.max(branch.feature as usize + 1);
                pending.extend([branch.on_false, branch.on_true]);
            }
        }
        if let Some(orphan) = reached.iter().position(|reached| !reached) {
            bail!("{} cannot be reached from its root", name(orphan));
        }
        Ok(())
    }

    pub(super) fn weights_of(&self, leaf: u32) -> &[Weight] {
        let Range { start, end } = self.leaves[leaf as usize];
        &self.weights[start as usize..end as usize]
    }

    /// The leaves of each tree.
    pub(super) fn leaves_by_tree(&self) -> impl Iterator<Item = Vec<u32>> {
        self.roots.iter().map(|&root| {
            let (mut found, mut pending) = (vec![], vec![root]);
            while let Some(at) = pending.pop() {
                match &self.nodes[at as usize] {
                    Node::Branch(branch) => pending.extend([branch.on_false, branch.on_true]),
                    Node::Leaf(leaf) => found.push(*leaf),
                }
            }
            found
        })
    }
}

/// Counts here are below 2^31: they are bounded by the file's lists.
pub(super) fn to_u32(count: usize) -> u32 {
    u32::try_from(count).expect("fewer nodes and weights than 2^32: protobuf ends at 2 GB")
}

/// A feature's number; more than 2^31 are a broken file.
pub(super) fn feature(number: i64) -> Option<u32> {
    u32::try_from(number).ok().filter(|&feature| feature < 1 << 31)
}

/// A list that must have `count` entries.
pub(super) fn sized<'a, T>(name: &str, list: &'a [T], count: usize) -> TractResult<&'a [T]> {
    ensure!(
        list.len() == count,
        "attribute {name:?}: expected {count} entries, got {}",
        list.len()
    );
    Ok(list)
}
