//! Lays trees out for the walk: one flat list, siblings side by side, a tree
//! in preorder.

use std::collections::HashMap;

use super::columns::{Collector, Columns};
use super::real::Real;
use super::split::{Regions, Split, Tests, tests};
use super::trees::{Node, Trees, to_u32};
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

/// A node in its place.
#[derive(Clone, Copy, Debug)]
pub(super) struct Placed<X> {
    /// A branch's threshold, or a leaf's payload.
    pub(super) threshold: X,
    /// The column that a branch looks at; 0 for a leaf.
    pub(super) column: u32,
    /// The place of a branch's left child, which its right child follows; a
    /// leaf's own place.
    pub(super) next: u32,
    pub(super) is_branch: bool,
}

/// All trees of an ensemble in their places.
pub(super) struct Layout<X> {
    pub(super) nodes: Vec<Placed<X>>,
    pub(super) roots: Vec<u32>,
    pub(super) columns: Columns,
}

/// What is to be put into a place.
enum Item {
    Node(u32),
    /// A search among some regions of a set.
    Search {
        set: usize,
        first: usize,
        last: usize,
    },
}

struct Placer<'a, X, P> {
    trees: &'a Trees,
    payload: P,
    nodes: Vec<Placed<X>>,
    columns: Collector,
    sets: Vec<Regions<X>>,
    /// The branches that searches lead to: several regions share one, whose
    /// children are placed only once.
    shared: HashMap<u32, Placed<X>>,
    pending: Vec<(u32, Item)>,
}

/// More places than this are refused: a place and the branch bit fit 32 bits.
const PLACES_MAX: usize = 1 << 30;

/// Places all trees; `payload` gives what a leaf brings along.
pub(super) fn place<X: Real>(trees: &Trees, payload: impl Fn(u32) -> X) -> TractResult<Layout<X>> {
    let mut placer = Placer {
        trees,
        payload,
        nodes: Vec::with_capacity(trees.nodes.len() + trees.roots.len()),
        columns: Collector::default(),
        sets: vec![],
        shared: HashMap::new(),
        pending: vec![],
    };
    let mut roots = Vec::with_capacity(trees.roots.len());
    for &root in &trees.roots {
        let place = placer.pair()?;
        roots.push(place);
        placer.pending.push((place, Item::Node(root)));
        while let Some((place, item)) = placer.pending.pop() {
            let placed = placer.placed(place, item)?;
            placer.nodes[place as usize] = placed;
        }
    }
    let (columns, renumbered) = placer.columns.finish(trees.features);
    let mut nodes = placer.nodes;
    for node in nodes.iter_mut().filter(|node| node.is_branch) {
        node.column = renumbered[node.column as usize];
    }
    Ok(Layout { nodes, roots, columns })
}

impl<X: Real, P: Fn(u32) -> X> Placer<'_, X, P> {
    /// Two free places; until they are filled, leaves.
    fn pair(&mut self) -> TractResult<u32> {
        ensure!(self.nodes.len() < PLACES_MAX, "more than {PLACES_MAX} nodes");
        let place = to_u32(self.nodes.len());
        self.nodes.extend([leaf(X::default(), place), leaf(X::default(), place + 1)]);
        Ok(place)
    }

    fn placed(&mut self, place: u32, item: Item) -> TractResult<Placed<X>> {
        match item {
            Item::Node(node) => self.node(place, node),
            Item::Search { set, first, last } if first == last => {
                let node = self.sets[set].node(first);
                if let Some(placed) = self.shared.get(&node) {
                    return Ok(*placed);
                }
                let placed = self.node(place, node)?;
                if placed.is_branch {
                    self.shared.insert(node, placed);
                }
                Ok(placed)
            }
            Item::Search { set, first, last } => {
                let middle = first.midpoint(last);
                let split = self.sets[set].split(middle);
                let left = Item::Search { set, first, last: middle };
                self.branch(split, left, Item::Search { set, first: middle + 1, last })
            }
        }
    }

    fn node(&mut self, place: u32, node: u32) -> TractResult<Placed<X>> {
        let branch = match &self.trees.nodes[node as usize] {
            Node::Leaf(index) => return Ok(leaf((self.payload)(*index), place)),
            Node::Branch(branch) => branch,
        };
        let members = self.trees.sets.get(&node).map_or(&[][..], |members| members);
        match tests(branch, members) {
            Tests::One(split, left, right) => {
                self.branch(split, Item::Node(left), Item::Node(right))
            }
            Tests::Many(regions) => {
                let last = regions.last();
                self.sets.push(regions);
                let set = self.sets.len() - 1;
                self.placed(place, Item::Search { set, first: 0, last })
            }
        }
    }

    fn branch(&mut self, split: Split<X>, left: Item, right: Item) -> TractResult<Placed<X>> {
        let next = self.pair()?;
        self.pending.push((next + 1, right));
        self.pending.push((next, left));
        let column = self.columns.number(split.column);
        Ok(Placed { threshold: split.threshold, column, next, is_branch: true })
    }
}

fn leaf<X>(payload: X, place: u32) -> Placed<X> {
    Placed { threshold: payload, column: 0, next: place, is_branch: false }
}
