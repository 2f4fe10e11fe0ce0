//! Reads the trees of `TreeEnsembleClassifier` and `TreeEnsembleRegressor`:
//! parallel lists in which nodes are named by tree and number.

use std::collections::HashMap;

use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::*;

use super::super::attributes::Attributes;
use super::trees::{Branch, Mode, Node, Trees, Weight, feature, sized, to_u32};

/// The attributes that describe the nodes, the same for both operators.
pub(super) const NODE_ATTRIBUTES: [&str; 11] = [
    "nodes_falsenodeids",
    "nodes_featureids",
    "nodes_hitrates",
    "nodes_hitrates_as_tensor",
    "nodes_missing_value_tracks_true",
    "nodes_modes",
    "nodes_nodeids",
    "nodes_treeids",
    "nodes_truenodeids",
    "nodes_values",
    "nodes_values_as_tensor",
];

/// Numbers that the file has as floats, or as a tensor of floats or doubles.
pub(super) struct Numbers {
    pub(super) values: Vec<f64>,
    pub(super) double: bool,
}

impl Numbers {
    /// The attribute `name`, or `name` with `_as_tensor`; empty when absent.
    pub(super) fn read(attributes: &Attributes, name: &str) -> TractResult<Self> {
        let floats = attributes.floats(name)?;
        let tensor_name = format!("{name}_as_tensor");
        let Some(tensor) = attributes.tensor(&tensor_name)? else {
            return Ok(Self { values: widened(floats), double: false });
        };
        ensure!(floats.is_empty(), "expected one of {name:?} and {tensor_name:?}, not both");
        Self::of(&tensor).with_context(|| format!("attribute {tensor_name:?}"))
    }

    /// The elements of a tensor of FP16, FP32 or FP64.
    pub(super) fn of(tensor: &Tensor) -> TractResult<Self> {
        let datatype = tensor.datum_type();
        ensure!(
            matches!(datatype, DatumType::F16 | DatumType::F32 | DatumType::F64),
            "expected floating-point numbers, got {datatype:?}"
        );
        let values = tensor.cast_to::<f64>()?.try_as_plain_ram()?.as_slice::<f64>()?.to_vec();
        Ok(Self { values, double: datatype == DatumType::F64 })
    }
}

fn widened(floats: &[f32]) -> Vec<f64> {
    floats.iter().map(|&x| x.into()).collect()
}

/// Reads and checks the nodes, and the weights under `prefix` (`class` or
/// `target`) for `targets` classes or targets.
pub(super) fn read(attributes: &Attributes, prefix: &str, targets: usize) -> TractResult<Trees> {
    let mut reader = Reader::new(attributes, targets)?;
    let values = Numbers::read(attributes, "nodes_values")?;
    reader.trees.double = values.double;
    sized("nodes_values", &values.values, reader.names.len())?;
    let mut weights = reader.read_weights(attributes, prefix)?;
    reader.read_nodes(attributes, &values.values, &mut weights)?;
    reader.find_roots();
    let Reader { mut trees, names, .. } = reader;
    trees.check(|at| name(names[at]))?;
    Ok(trees)
}

fn name((tree, id): (i64, i64)) -> String {
    format!("node {id} of tree {tree}")
}

struct Reader<'a> {
    modes: Vec<&'a str>,
    /// Tree and number of each node.
    names: Vec<(i64, i64)>,
    index: HashMap<(i64, i64), u32>,
    trees: Trees,
}

impl<'a> Reader<'a> {
    fn new(attributes: &'a Attributes, targets: usize) -> TractResult<Self> {
        let modes = attributes.strings("nodes_modes")?;
        let count = modes.len();
        ensure!(count > 0 && count < (1 << 30), "expected at least one node, got {count}");
        let trees = sized("nodes_treeids", attributes.ints("nodes_treeids")?, count)?;
        let ids = sized("nodes_nodeids", attributes.ints("nodes_nodeids")?, count)?;
        let names = trees.iter().copied().zip(ids.iter().copied()).collect::<Vec<_>>();
        let mut index = HashMap::with_capacity(count);
        for (i, &at) in names.iter().enumerate() {
            ensure!(index.insert(at, to_u32(i)).is_none(), "{} exists twice", name(at));
        }
        Ok(Self { modes, names, index, trees: Trees { targets, ..Trees::default() } })
    }

    /// The weights by node, in the file's order.
    fn read_weights(
        &mut self,
        attributes: &Attributes,
        prefix: &str,
    ) -> TractResult<HashMap<u32, Vec<Weight>>> {
        let ids = attributes.ints(&format!("{prefix}_ids"))?;
        let ints = |name: &str| {
            let name = format!("{prefix}_{name}");
            sized(&name, attributes.ints(&name)?, ids.len())
        };
        let (trees, nodes) = (ints("treeids")?, ints("nodeids")?);
        let weights_name = format!("{prefix}_weights");
        let values = Numbers::read(attributes, &weights_name)?;
        self.trees.double |= values.double;
        let values = sized(&weights_name, &values.values, ids.len())?;
        let mut found: HashMap<u32, Vec<Weight>> = HashMap::new();
        for i in 0..ids.len() {
            let at = (trees[i], nodes[i]);
            let node = *self
                .index
                .get(&at)
                .with_context(|| format!("a weight names {}, which is missing", name(at)))?;
            let last = self.trees.targets - 1;
            let target =
                u32::try_from(ids[i]).ok().filter(|&t| t as usize <= last).with_context(|| {
                    format!("\"{prefix}_ids\" has {}, expected 0 to {last}", ids[i])
                })?;
            found.entry(node).or_default().push(Weight { target, value: values[i] });
        }
        Ok(found)
    }

    fn read_nodes(
        &mut self,
        attributes: &Attributes,
        thresholds: &[f64],
        weights: &mut HashMap<u32, Vec<Weight>>,
    ) -> TractResult<()> {
        let count = self.names.len();
        let ints = |name: &str| sized(name, attributes.ints(name)?, count);
        let (on_true, on_false) = (ints("nodes_truenodeids")?, ints("nodes_falsenodeids")?);
        let features = ints("nodes_featureids")?;
        let tracks = attributes.ints("nodes_missing_value_tracks_true")?;
        if !tracks.is_empty() {
            sized("nodes_missing_value_tracks_true", tracks, count)?;
        }
        // Statistics only; read so that a wrong kind is refused.
        Numbers::read(attributes, "nodes_hitrates")?;
        for i in 0..count {
            let node = match mode(self.modes[i])? {
                None => {
                    let own = weights.remove(&to_u32(i)).unwrap_or_default();
                    self.leaf(own, thresholds[i])
                }
                Some(mode) => Node::Branch(Branch {
                    threshold: thresholds[i],
                    feature: feature(features[i]).with_context(|| {
                        format!("{}: feature {}", name(self.names[i]), features[i])
                    })?,
                    on_true: self.child(i, on_true[i])?,
                    on_false: self.child(i, on_false[i])?,
                    mode,
                    missing_is_true: tracks.get(i) == Some(&1),
                }),
            };
            self.trees.nodes.push(node);
        }
        Ok(())
    }

    /// onnxruntime has one number per leaf where there is one target: the
    /// first weight, or the node's value where there is none. It ignores the
    /// weights of branches, which old converters wrote.
    fn leaf(&mut self, mut weights: Vec<Weight>, value: f64) -> Node {
        if self.trees.targets == 1 {
            weights.truncate(1);
            if weights.is_empty() {
                weights.push(Weight { target: 0, value });
            }
        }
        let start = to_u32(self.trees.weights.len());
        self.trees.weights.extend(weights);
        self.trees.leaves.push(start..to_u32(self.trees.weights.len()));
        Node::Leaf(to_u32(self.trees.leaves.len() - 1))
    }

    fn child(&self, of: usize, id: i64) -> TractResult<u32> {
        let (tree, _) = self.names[of];
        self.index.get(&(tree, id)).copied().with_context(|| {
            format!("{} leads to node {id}, which is missing", name(self.names[of]))
        })
    }

    /// A tree's first node is its root.
    fn find_roots(&mut self) {
        let mut previous = None;
        for (i, &(tree, _)) in self.names.iter().enumerate() {
            if previous != Some(tree) {
                previous = Some(tree);
                self.trees.roots.push(to_u32(i));
            }
        }
    }
}

/// `None` for a leaf.
fn mode(text: &str) -> TractResult<Option<Mode>> {
    Ok(Some(match text {
        "BRANCH_LEQ" => Mode::Leq,
        "BRANCH_LT" => Mode::Lt,
        "BRANCH_GTE" => Mode::Gte,
        "BRANCH_GT" => Mode::Gt,
        "BRANCH_EQ" => Mode::Eq,
        "BRANCH_NEQ" => Mode::Neq,
        "LEAF" => return Ok(None),
        other => bail!("attribute \"nodes_modes\": {other:?} is not supported"),
    }))
}
