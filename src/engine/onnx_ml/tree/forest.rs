//! Trees in a flat array, and the walk from root to leaf.
//!
//! Invariants, established by [`Forest::read`] and relied upon by the walk:
//! every tree is a tree (each node reached exactly once from its root, so
//! walks end); a branch's true child is the next node, its false child is a
//! valid index; every feature index is below [`Forest::features`]; every
//! leaf's weights are a valid range with targets below the declared count.

use std::collections::HashMap;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::attributes::Attributes;

/// The attributes that describe the branches, the same for both operators.
pub(super) const NODE_ATTRIBUTES: [&str; 9] = [
    "nodes_falsenodeids",
    "nodes_featureids",
    "nodes_hitrates",
    "nodes_missing_value_tracks_true",
    "nodes_modes",
    "nodes_nodeids",
    "nodes_treeids",
    "nodes_truenodeids",
    "nodes_values",
];

/// How a branch compares its feature with its threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Mode {
    Leq,
    Lt,
    Gte,
    Gt,
    Eq,
    Neq,
    Leaf,
}

impl Mode {
    fn read(text: &str) -> TractResult<Self> {
        Ok(match text {
            "BRANCH_LEQ" => Self::Leq,
            "BRANCH_LT" => Self::Lt,
            "BRANCH_GTE" => Self::Gte,
            "BRANCH_GT" => Self::Gt,
            "BRANCH_EQ" => Self::Eq,
            "BRANCH_NEQ" => Self::Neq,
            "LEAF" => Self::Leaf,
            other => bail!("attribute \"nodes_modes\": {other:?} is not supported"),
        })
    }

    fn holds<F: Feature>(self, x: F, threshold: F) -> bool {
        match self {
            Self::Leq | Self::Leaf => x <= threshold,
            Self::Lt => x < threshold,
            Self::Gte => x >= threshold,
            Self::Gt => x > threshold,
            Self::Eq => x == threshold,
            Self::Neq => x != threshold,
        }
    }
}

/// What a forest compares with its thresholds: FP64 inputs keep their
/// precision, everything else is compared in FP32.
pub(super) trait Feature: Copy + PartialOrd + From<f32> {}

impl Feature for f32 {}
impl Feature for f64 {}

/// 16 bytes, so that four share a cache line.
#[derive(Clone, Copy, Debug)]
struct Node {
    threshold: f32,
    feature: u32,
    /// A branch's false child (the true child is the next node), or a leaf's
    /// index in [`Forest::leaves`].
    other: u32,
    mode: Mode,
    missing_is_true: bool,
}

/// One leaf's contribution to one class or target.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Weight {
    /// The class or target.
    pub(super) target: u32,
    /// What it adds.
    pub(super) value: f32,
}

/// The trees of an ensemble.
#[derive(Debug)]
pub(super) struct Forest {
    nodes: Vec<Node>,
    roots: Vec<u32>,
    /// Per leaf, its range in `weights`.
    leaves: Vec<(u32, u32)>,
    weights: Vec<Weight>,
    features: usize,
    /// Whether every branch is BRANCH_LEQ without missing-value tracks: the
    /// common case, which has a walk of its own.
    plain: bool,
}

impl Forest {
    /// Reads and checks the nodes, and the weights under `prefix` (`class` or
    /// `target`) for `targets` classes or targets.
    pub(super) fn read(attributes: &Attributes, prefix: &str, targets: usize) -> TractResult<Self> {
        let mut builder = Builder::read(attributes)?;
        builder.read_weights(attributes, prefix, targets)?;
        builder.build()
    }

    /// How many trees.
    pub(super) fn trees(&self) -> usize {
        self.roots.len()
    }

    /// The least number of features that a row must have.
    pub(super) fn features(&self) -> usize {
        self.features
    }

    /// All weights of all leaves.
    pub(super) fn weights(&self) -> &[Weight] {
        &self.weights
    }

    /// Calls `visit` with the weights of the leaf that `row` reaches in each
    /// tree. `row` has at least [`Forest::features`] elements.
    #[inline]
    pub(super) fn visit<F: Feature>(&self, row: &[F], mut visit: impl FnMut(&[Weight])) {
        for &root in &self.roots {
            let leaf = if self.plain { self.walk_plain(root, row) } else { self.walk(root, row) };
            let (start, end) = self.leaves[leaf as usize];
            visit(&self.weights[start as usize..end as usize]);
        }
    }

    #[inline]
    fn walk_plain<F: Feature>(&self, root: u32, row: &[F]) -> u32 {
        let mut at = root;
        loop {
            let node = &self.nodes[at as usize];
            if node.mode == Mode::Leaf {
                return node.other;
            }
            let holds = row[node.feature as usize] <= F::from(node.threshold);
            at = if holds { at + 1 } else { node.other };
        }
    }

    fn walk<F: Feature>(&self, root: u32, row: &[F]) -> u32 {
        let mut at = root;
        loop {
            let node = &self.nodes[at as usize];
            if node.mode == Mode::Leaf {
                return node.other;
            }
            let x = row[node.feature as usize];
            // NaN is the only value that is not itself.
            #[expect(clippy::eq_op, reason = "the test for NaN of a generic number")]
            let missing = x != x;
            let holds =
                node.mode.holds(x, F::from(node.threshold)) || (node.missing_is_true && missing);
            at = if holds { at + 1 } else { node.other };
        }
    }
}

/// A node as the file has it.
struct RawNode {
    tree: i64,
    id: i64,
    on_true: i64,
    on_false: i64,
    feature: i64,
    threshold: f32,
    mode: Mode,
    missing_is_true: bool,
}

struct Builder {
    raw: Vec<RawNode>,
    /// (tree, node) → position in `raw`.
    index: HashMap<(i64, i64), usize>,
    /// Weights by position in `raw`.
    weights: HashMap<usize, Vec<Weight>>,
}

impl Builder {
    fn read(attributes: &Attributes) -> TractResult<Self> {
        let modes = attributes.strings("nodes_modes")?;
        let count = modes.len();
        ensure!(count > 0 && count < (1 << 31), "expected at least one node, got {count}");
        let ints = |name: &str| sized(name, attributes.ints(name)?, count);
        let trees = ints("nodes_treeids")?;
        let ids = ints("nodes_nodeids")?;
        let on_true = ints("nodes_truenodeids")?;
        let on_false = ints("nodes_falsenodeids")?;
        let features = ints("nodes_featureids")?;
        let thresholds = sized("nodes_values", attributes.floats("nodes_values")?, count)?;
        let tracks = attributes.ints("nodes_missing_value_tracks_true")?;
        if !tracks.is_empty() {
            sized("nodes_missing_value_tracks_true", tracks, count)?;
        }
        // Statistics only; read so that a wrong kind is refused.
        attributes.floats("nodes_hitrates")?;
        let mut index = HashMap::with_capacity(count);
        let mut raw = Vec::with_capacity(count);
        for i in 0..count {
            let (tree, id) = (trees[i], ids[i]);
            ensure!(index.insert((tree, id), i).is_none(), "node {id} of tree {tree} exists twice");
            raw.push(RawNode {
                tree,
                id,
                on_true: on_true[i],
                on_false: on_false[i],
                feature: features[i],
                threshold: thresholds[i],
                mode: Mode::read(modes[i])?,
                missing_is_true: tracks.get(i) == Some(&1),
            });
        }
        Ok(Self { raw, index, weights: HashMap::new() })
    }

    fn read_weights(
        &mut self,
        attributes: &Attributes,
        prefix: &str,
        targets: usize,
    ) -> TractResult<()> {
        let targets_of = attributes.ints(&format!("{prefix}_ids"))?;
        let count = targets_of.len();
        let ints = |name: &str| {
            let name = format!("{prefix}_{name}");
            sized(&name, attributes.ints(&name)?, count)
        };
        let (trees, ids) = (ints("treeids")?, ints("nodeids")?);
        let name = format!("{prefix}_weights");
        let values = sized(&name, attributes.floats(&name)?, count)?;
        for i in 0..count {
            let (tree, id) = (trees[i], ids[i]);
            let at = *self.index.get(&(tree, id)).with_context(|| {
                format!("a weight names node {id} of tree {tree}, which is missing")
            })?;
            ensure!(
                self.raw[at].mode == Mode::Leaf,
                "a weight names node {id} of tree {tree}, which is no leaf"
            );
            let target = u32::try_from(targets_of[i])
                .ok()
                .filter(|&t| (t as usize) < targets)
                .with_context(|| {
                    format!("\"{prefix}_ids\" has {}, expected 0 to {}", targets_of[i], targets - 1)
                })?;
            self.weights.entry(at).or_default().push(Weight { target, value: values[i] });
        }
        Ok(())
    }

    fn build(self) -> TractResult<Forest> {
        let mut forest = Forest {
            nodes: Vec::with_capacity(self.raw.len()),
            roots: vec![],
            leaves: vec![],
            weights: vec![],
            features: 0,
            plain: true,
        };
        let mut placed = vec![false; self.raw.len()];
        let mut previous = None;
        for at in 0..self.raw.len() {
            // A tree's first node is its root.
            if previous != Some(self.raw[at].tree) {
                previous = Some(self.raw[at].tree);
                forest.roots.push(to_u32(forest.nodes.len()));
                self.place_tree(at, &mut forest, &mut placed)?;
            }
        }
        if let Some(orphan) = placed.iter().position(|placed| !placed) {
            let node = &self.raw[orphan];
            bail!("node {} of tree {} cannot be reached from its root", node.id, node.tree);
        }
        Ok(forest)
    }

    /// Appends the tree below `root` in preorder, true child first.
    fn place_tree(&self, root: usize, forest: &mut Forest, placed: &mut [bool]) -> TractResult<()> {
        // Each entry: a node, and the branch whose false child it is.
        let mut pending = vec![(root, None)];
        while let Some((at, parent)) = pending.pop() {
            let raw = &self.raw[at];
            ensure!(
                !std::mem::replace(&mut placed[at], true),
                "node {} of tree {} is reached twice",
                raw.id,
                raw.tree
            );
            let here = to_u32(forest.nodes.len());
            if let Some(parent) = parent {
                let parent: &mut Node = &mut forest.nodes[parent as usize];
                parent.other = here;
            }
            let node = if raw.mode == Mode::Leaf {
                self.leaf(at, forest)
            } else {
                pending.push((self.child(raw, raw.on_false)?, Some(here)));
                pending.push((self.child(raw, raw.on_true)?, None));
                branch(raw, forest)?
            };
            forest.nodes.push(node);
        }
        Ok(())
    }

    fn child(&self, node: &RawNode, id: i64) -> TractResult<usize> {
        self.index.get(&(node.tree, id)).copied().with_context(|| {
            format!("node {} of tree {} leads to node {id}, which is missing", node.id, node.tree)
        })
    }

    fn leaf(&self, at: usize, forest: &mut Forest) -> Node {
        let start = to_u32(forest.weights.len());
        forest.weights.extend(self.weights.get(&at).into_iter().flatten());
        forest.leaves.push((start, to_u32(forest.weights.len())));
        Node {
            threshold: 0.0,
            feature: 0,
            other: to_u32(forest.leaves.len() - 1),
            mode: Mode::Leaf,
            missing_is_true: false,
        }
    }
}

fn branch(raw: &RawNode, forest: &mut Forest) -> TractResult<Node> {
    let feature =
        u32::try_from(raw.feature).ok().filter(|&feature| feature < u32::MAX).with_context(
            || format!("node {} of tree {}: feature {}", raw.id, raw.tree, raw.feature),
        )?;
    forest.features = forest.features.max(feature as usize + 1);
    forest.plain &= raw.mode == Mode::Leq && !raw.missing_is_true;
    Ok(Node {
        threshold: raw.threshold,
        feature,
        other: 0,
        mode: raw.mode,
        missing_is_true: raw.missing_is_true,
    })
}

/// Counts here are below 2^31: they are bounded by the file's lists.
fn to_u32(count: usize) -> u32 {
    u32::try_from(count).expect("fewer nodes and weights than 2^32: protobuf ends at 2 GB")
}

fn sized<'a, T>(name: &str, list: &'a [T], count: usize) -> TractResult<&'a [T]> {
    ensure!(
        list.len() == count,
        "attribute {name:?}: expected {count} entries, got {}",
        list.len()
    );
    Ok(list)
}
