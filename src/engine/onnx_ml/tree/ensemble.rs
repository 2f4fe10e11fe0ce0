//! `TreeEnsemble`, which takes the place of the two older operators in
//! version 5: nodes and leaves are named by their place in the lists.

use std::collections::HashMap;
use std::sync::Arc;

use tract_onnx::model::ParsingContext;
use tract_onnx::pb::NodeProto;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::attributes::Attributes;
use super::super::kernel::{Built, Fact, built};
use super::super::post_transform::PostTransform;
use super::lists::Numbers;
use super::operator::{Finish, TreeOperator};
use super::real::Real;
use super::regressor::{Targets, count};
use super::sums::{Aggregate, Sums};
use super::trees::{Branch, Mode, Node, Trees, Weight, feature, sized, to_u32};

const ATTRIBUTES: [&str; 16] = [
    "aggregate_function",
    "leaf_targetids",
    "leaf_weights",
    "membership_values",
    "n_targets",
    "nodes_falseleafs",
    "nodes_falsenodeids",
    "nodes_featureids",
    "nodes_hitrates",
    "nodes_missing_value_tracks_true",
    "nodes_modes",
    "nodes_splits",
    "nodes_trueleafs",
    "nodes_truenodeids",
    "post_transform",
    "tree_roots",
];

#[derive(Debug)]
struct TreeEnsemble(Targets);

pub(in super::super) fn build(_: &ParsingContext, node: &NodeProto) -> Built {
    let attributes = Attributes::new(node, &ATTRIBUTES)?;
    let count = count(&attributes)?;
    let aggregate = match attributes.int("aggregate_function", 1)? {
        0 => Aggregate::Average,
        1 => Aggregate::Sum,
        2 => Aggregate::Min,
        3 => Aggregate::Max,
        other => bail!("attribute \"aggregate_function\": expected 0 to 3, got {other}"),
    };
    let transform = match attributes.int("post_transform", 0)? {
        0 => PostTransform::None,
        1 => PostTransform::Softmax,
        2 => PostTransform::Logistic,
        3 => PostTransform::SoftmaxZero,
        4 => PostTransform::Probit,
        other => bail!("attribute \"post_transform\": expected 0 to 4, got {other}"),
    };
    let trees = read(&attributes, count)?;
    let targets = Targets { count, base_values: vec![], transform };
    built(TreeOperator { trees, aggregate, finish: Arc::new(TreeEnsemble(targets)) })
}

/// A tensor that must be given.
fn tensor(attributes: &Attributes, name: &str) -> TractResult<Tensor> {
    attributes.tensor(name)?.with_context(|| format!("attribute {name:?} is missing"))
}

fn read(attributes: &Attributes, targets: usize) -> TractResult<Trees> {
    let mut trees = Trees { targets, ..Trees::default() };
    let leaf_targets = attributes.ints("leaf_targetids")?;
    let weights = Numbers::of(&tensor(attributes, "leaf_weights")?)?;
    sized("leaf_weights", &weights.values, leaf_targets.len())?;
    for (i, (&target, &value)) in leaf_targets.iter().zip(&weights.values).enumerate() {
        let target =
            u32::try_from(target).ok().filter(|&t| (t as usize) < targets).with_context(|| {
                format!("\"leaf_targetids\" has {target}, expected 0 to {}", targets - 1)
            })?;
        trees.weights.push(Weight { target, value });
        trees.leaves.push(to_u32(i)..to_u32(i + 1));
    }
    let splits = Numbers::of(&tensor(attributes, "nodes_splits")?)?;
    trees.double = weights.double || splits.double;
    let modes = tensor(attributes, "nodes_modes")?;
    ensure!(modes.datum_type() == DatumType::U8, "\"nodes_modes\": expected UINT8");
    let modes = modes.try_as_plain_ram()?.as_slice::<u8>()?.to_vec();
    read_nodes(attributes, &modes, &splits.values, &mut trees)?;
    read_sets(attributes, &modes, &mut trees)?;
    let nodes = modes.len();
    for &root in attributes.ints("tree_roots")? {
        let root = usize::try_from(root).ok().filter(|&root| root < nodes);
        trees.roots.push(to_u32(root.context("\"tree_roots\" names a node that is missing")?));
    }
    ensure!(!trees.roots.is_empty(), "expected at least one tree");
    trees.check(|at| match at.checked_sub(nodes) {
        None => format!("node {at}"),
        Some(_) => "a leaf".to_owned(),
    })?;
    Ok(trees)
}

fn read_nodes(
    attributes: &Attributes,
    modes: &[u8],
    splits: &[f64],
    trees: &mut Trees,
) -> TractResult<()> {
    let count = modes.len();
    ensure!(count > 0 && count < (1 << 30), "expected at least one node, got {count}");
    let ints = |name: &str| sized(name, attributes.ints(name)?, count);
    let features = ints("nodes_featureids")?;
    let (on_true, true_leafs) = (ints("nodes_truenodeids")?, ints("nodes_trueleafs")?);
    let (on_false, false_leafs) = (ints("nodes_falsenodeids")?, ints("nodes_falseleafs")?);
    let splits = sized("nodes_splits", splits, count)?;
    let tracks = attributes.ints("nodes_missing_value_tracks_true")?;
    if !tracks.is_empty() {
        sized("nodes_missing_value_tracks_true", tracks, count)?;
    }
    // The leaves that branches lead to come after the branches.
    let mut leaves = vec![];
    let mut child = |at: usize, id: i64, is_leaf: i64| -> TractResult<u32> {
        let most = if is_leaf == 0 { count } else { trees.leaves.len() };
        let id = usize::try_from(id).ok().filter(|&id| id < most).with_context(|| {
            let what = if is_leaf == 0 { "node" } else { "leaf" };
            format!("node {at} leads to {what} {id}, which is missing")
        })?;
        Ok(to_u32(if is_leaf == 0 {
            id
        } else {
            leaves.push(Node::Leaf(to_u32(id)));
            count + leaves.len() - 1
        }))
    };
    for i in 0..count {
        let branch = Branch {
            threshold: splits[i],
            feature: feature(features[i])
                .with_context(|| format!("node {i}: feature {}", features[i]))?,
            on_true: child(i, on_true[i], true_leafs[i])?,
            on_false: child(i, on_false[i], false_leafs[i])?,
            mode: mode(modes[i])?,
            missing_is_true: tracks.get(i) == Some(&1),
        };
        trees.nodes.push(Node::Branch(branch));
    }
    trees.nodes.append(&mut leaves);
    Ok(())
}

fn mode(number: u8) -> TractResult<Mode> {
    Ok(match number {
        0 => Mode::Leq,
        1 => Mode::Lt,
        2 => Mode::Gte,
        3 => Mode::Gt,
        4 => Mode::Eq,
        5 => Mode::Neq,
        6 => Mode::Member,
        other => bail!("attribute \"nodes_modes\": expected 0 to 6, got {other}"),
    })
}

/// The sets of the nodes with one, in the nodes' order, each ended by NaN.
fn read_sets(attributes: &Attributes, modes: &[u8], trees: &mut Trees) -> TractResult<()> {
    let with_sets = (0..).zip(modes).filter(|&(_, &mode)| mode == 6).map(|(node, _)| node);
    let with_sets = with_sets.collect::<Vec<u32>>();
    let Some(values) = attributes.tensor("membership_values")? else {
        ensure!(with_sets.is_empty(), "attribute \"membership_values\" is missing");
        return Ok(());
    };
    let values = Numbers::of(&values)?.values;
    let mut sets = values.split(|value| value.is_nan()).map(<[f64]>::to_vec).collect::<Vec<_>>();
    if values.last().is_none_or(|last| last.is_nan()) {
        sets.pop();
    }
    ensure!(
        sets.len() == with_sets.len(),
        "\"membership_values\" has {} sets for {} nodes",
        sets.len(),
        with_sets.len()
    );
    trees.sets = with_sets.into_iter().zip(sets).collect::<HashMap<_, _>>();
    Ok(())
}

impl Finish for TreeEnsemble {
    const NAME: &'static str = "ai.onnx.ml.TreeEnsemble";
    const OUTPUTS: usize = 1;
    const TAKES: &'static [DatumType] = &[DatumType::F32, DatumType::F64, DatumType::F16];

    fn facts(&self, datatype: DatumType, rows: TDim) -> TVec<Fact> {
        tvec![Fact::new(datatype, [rows, self.0.count.to_dim()])]
    }

    fn finish<X: Real>(&self, sums: Sums<X>, datatype: DatumType) -> TractResult<TVec<Tensor>> {
        Ok(tvec![self.0.matrix(sums, datatype)?])
    }
}
