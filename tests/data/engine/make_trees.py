"""Writes trees.jsonl: like make.py, for the corners of tree ensembles.

    pip install -r requirements.txt && python make_trees.py
"""

import itertools

import numpy as np
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper

from make import ML, TRANSFORMS, add, cases, classifier, graph, rows_in, tree, value, weights, write

MODES = ["BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"]
AGGREGATES = ["AVERAGE", "SUM", "MIN", "MAX"]
V5_TRANSFORMS = ["NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"]
# onnxruntime takes 1 for LOGISTIC and 2 for SOFTMAX, against the standard.
ONNXRUNTIMES = [0, 2, 1, 3, 4]
KINDS = {"float32": T.FLOAT, "float64": T.DOUBLE, "int64": T.INT64, "int32": T.INT32}
FEATURES = 3


def rows(count, dtype):
    """Rows that meet thresholds exactly, among NaN and infinities."""
    rng = np.random.default_rng(5)
    x = rng.integers(-3, 4, (count, FEATURES)) / 2
    if np.dtype(dtype).kind == "f":
        for odd, at in [(np.nan, 7), (np.inf, 11), (-np.inf, 13), (-0.0, 17)]:
            x.ravel()[at::19] = odd
    return x.astype(dtype)


class Nodes:
    """A random forest in the lists of the older operators."""

    def __init__(self, seed, trees=18, depth=3, modes=MODES, targets=1, tracks=False, rooted=False):
        """With `rooted`, no tree is a mere leaf."""
        self.rng = np.random.default_rng(seed)
        self.modes, self.targets, self.rooted = modes, targets, rooted
        self.lists = {k: [] for k in (
            "nodes_treeids", "nodes_nodeids", "nodes_featureids", "nodes_modes", "nodes_values",
            "nodes_truenodeids", "nodes_falsenodeids",
        )}
        self.tracks = [] if tracks else None
        self.leaves = []
        for number in range(trees):
            self.count = 0
            self.grow(number, depth)
        if tracks:
            self.lists["nodes_missing_value_tracks_true"] = self.tracks

    def grow(self, number, depth):
        at, here = len(self.lists["nodes_modes"]), self.count
        self.count += 1
        leaf = depth == 0 or (self.rng.random() < 0.15 and not (self.rooted and here == 0))
        new = [number, here, int(self.rng.integers(FEATURES)), str(self.rng.choice(self.modes)),
               float(self.rng.integers(-3, 4) / 2), 0, 0]
        if leaf:
            new[2:5] = [0, "LEAF", 0.0]
            self.leaves.append((number, here))
        for key, item in zip(self.lists, new):
            self.lists[key].append(item)
        if self.tracks is not None:
            self.tracks.append(int(not leaf and self.rng.random() < 0.5))
        if not leaf:
            self.lists["nodes_truenodeids"][at] = self.grow(number, depth - 1)
            self.lists["nodes_falsenodeids"][at] = self.grow(number, depth - 1)
        return here

    def weights(self, prefix, ids):
        """`ids` gives the targets of leaf i of tree t."""
        found = [(t, n, k) for i, (t, n) in enumerate(self.leaves) for k in ids(i, t)]
        values = self.rng.normal(0, 0.3, len(found)).astype(np.float32)
        return {
            f"{prefix}_treeids": [t for t, _, _ in found],
            f"{prefix}_nodeids": [n for _, n, _ in found],
            f"{prefix}_ids": [k for _, _, k in found],
            f"{prefix}_weights": [float(v) for v in values],
        }


def as_tensors(attributes, dtype):
    """Numbers as tensors instead of lists."""
    made = {}
    for key, item in attributes.items():
        if key.endswith(("_values", "_weights")):
            # More digits than FP32 has.
            precise = np.array(item, np.float64) * (1 + 1e-9)
            made[f"{key}_as_tensor"] = numpy_helper.from_array(precise.astype(dtype))
        else:
            made[key] = item
    return made


def regressor(name, x, targets=1, **attributes):
    node = h.make_node("TreeEnsembleRegressor", ["X"], ["Y"], domain=ML, n_targets=targets, **attributes)
    inputs = [rows_in(KINDS[x.dtype.name], x.shape[1])]
    add(name, graph([node], inputs, [value("Y", T.FLOAT, ["N", targets])]), {"X": x})


def leaf_weights(kind, targets):
    return {
        "one": lambda i, t: [t % targets],
        "all": lambda i, t: range(targets),
        "some": lambda i, t: [k for k in range(targets) if (i + k) % 3],
    }[kind]


def regressors():
    for mode, tracks in itertools.product(MODES, (False, True)):
        nodes = Nodes(1, trees=6, modes=[mode], tracks=tracks)
        regressor(f"{mode}_{tracks}", rows(20, np.float32), **nodes.lists, **nodes.weights("target", leaf_weights("one", 1)))
    for dtype, tracks in itertools.product((np.float32, np.float64), (False, True)):
        nodes = Nodes(2, tracks=tracks)
        x = rows(35, dtype)
        one = nodes.weights("target", leaf_weights("one", 1))
        regressor(f"mixed_{x.dtype}_{tracks}", x, **nodes.lists, **one)
        tensors = as_tensors({**nodes.lists, **one, "base_values": [0.25]}, dtype)
        regressor(f"tensors_{x.dtype}_{tracks}", x, **tensors)
    for kind, aggregate in itertools.product(("one", "all", "some"), AGGREGATES):
        nodes = Nodes(3, trees=6, depth=2, modes=MODES[:1], targets=3)
        given = nodes.weights("target", leaf_weights(kind, 3))
        for dtype in (np.float32, np.float64) if kind == "some" else (np.float32,):
            x = rows(9, dtype)
            regressor(
                f"targets_{kind}_{aggregate}_{x.dtype}", x, 3, aggregate_function=aggregate,
                base_values=[0.5, -0.5, 0.0], **nodes.lists, **given,
            )
    for transform in TRANSFORMS:
        nodes = Nodes(3, trees=3, depth=2, modes=MODES[:1], targets=3)
        given = nodes.weights("target", leaf_weights("all", 3))
        for dtype in (np.float32, np.float64):
            x = rows(9, dtype)
            regressor(f"targets_{transform}_{x.dtype}", x, 3, post_transform=transform, **nodes.lists, **given)
    x = rows(5, np.float32)[:, :1]
    regressor("a leaf without a weight", x, **{**tree(), "nodes_values": [0.0, 0.0, 0.5, 0.0, 7.0]}, **weights("target", [0, 0], [1.0, 2.0], [1, 3]))
    regressor("several weights on a leaf", x, **tree(), **weights("target", [0] * 4, [1.0, 2.0, 4.0, 8.0], [1, 3, 4, 4]))
    regressor("a weight on a branch", x, **tree(), **weights("target", [0] * 4, [9.0, 1.0, 2.0, 4.0], [0, 1, 3, 4]))
    leaf = {k: v[1:2] for k, v in tree().items()} | {"nodes_nodeids": [0]}
    regressor("a tree that is a leaf", x, **leaf, **weights("target", [0], [3.0], [0]))


def classifiers():
    for dtype, kind, classes in itertools.product(KINDS, ("one", "all", "some"), (2, 4)):
        nodes = Nodes(4, trees=6, depth=2, modes=MODES[:2], targets=classes)
        attributes = {**nodes.lists, **nodes.weights("class", leaf_weights(kind, classes))}
        if dtype.startswith("float") and kind != "some":
            attributes = as_tensors({**attributes, "base_values": [0.1] * classes}, dtype)
        labels = ["a", "b", "c", "d"] if kind == "one" else [5, 6, 7, 8]
        x = rows(11, dtype)
        add(f"classes_{dtype}_{kind}_{classes}", *classifier(
            "TreeEnsembleClassifier", labels[:classes], KINDS[dtype], x, post_transform="SOFTMAX", **attributes,
        ))
    for transform, base in itertools.product(TRANSFORMS, ([], [0.1])):
        extra = {"base_values": base} if base else {}
        given = weights("class", [0, 0, 0], [0.2, 0.6, 0.9])
        add(f"one_class_{transform}_{len(base)}", *classifier(
            "TreeEnsembleClassifier", [7], post_transform=transform, **tree(), **given, **extra,
        ))


def ensemble(name, nodes, x, aggregate=1, transform=0, sets=(), tracks=False):
    def model(transform):
        return version_5(nodes, x, aggregate, transform, sets, tracks)

    add(name, model(ONNXRUNTIMES[transform]), {"X": x})
    cases[-1]["model"] = model(transform).SerializeToString().hex()


def version_5(nodes, x, aggregate, transform, sets, tracks):
    """The older operators' lists, one weight to a leaf, as version 5 has them."""
    at = {k: i for i, k in enumerate(zip(nodes.lists["nodes_treeids"], nodes.lists["nodes_nodeids"]))}
    leaf_of = {at[leaf]: i for i, leaf in enumerate(nodes.leaves)}
    modes = nodes.lists["nodes_modes"]
    branches = [i for i, mode in enumerate(modes) if mode != "LEAF"]
    number = {i: n for n, i in enumerate(branches)}

    def children(key):
        to = [at[nodes.lists["nodes_treeids"][i], nodes.lists[key][i]] for i in branches]
        return [leaf_of.get(i, number.get(i)) for i in to], [int(i in leaf_of) for i in to]

    on_true, true_leafs = children("nodes_truenodeids")
    on_false, false_leafs = children("nodes_falsenodeids")
    nodes.rng = np.random.default_rng(9)
    given = nodes.weights("target", leaf_weights("one", nodes.targets))
    numbers = lambda items: numpy_helper.from_array(np.array(items, x.dtype))
    extra = {}
    if sets:
        extra["membership_values"] = numbers([v for s in sets for v in [*s, np.nan]])
    if tracks:
        extra["nodes_missing_value_tracks_true"] = [nodes.tracks[i] for i in branches]
    order = [*MODES, "BRANCH_MEMBER"]
    node = h.make_node(
        "TreeEnsemble", ["X"], ["Y"], domain=ML, n_targets=nodes.targets,
        aggregate_function=aggregate, post_transform=transform,
        tree_roots=[number[i] for i in branches if nodes.lists["nodes_nodeids"][i] == 0],
        nodes_modes=numpy_helper.from_array(np.array([order.index(modes[i]) for i in branches], np.uint8)),
        nodes_featureids=[nodes.lists["nodes_featureids"][i] for i in branches],
        nodes_splits=numbers([nodes.lists["nodes_values"][i] for i in branches]),
        nodes_truenodeids=on_true, nodes_trueleafs=true_leafs,
        nodes_falsenodeids=on_false, nodes_falseleafs=false_leafs,
        leaf_targetids=given["target_ids"], leaf_weights=numbers(given["target_weights"]), **extra,
    )
    kind = KINDS[x.dtype.name]
    outputs = [value("Y", kind, ["N", nodes.targets])]
    made = graph([node], [rows_in(kind, FEATURES)], outputs, ml=5)
    made.opset_import.sort(key=lambda opset: opset.domain)
    return made


def ensembles():
    for dtype in (np.float32, np.float64):
        x = rows(20, dtype)
        for tracks in (False, True):
            ensemble(f"v5_{x.dtype}_{tracks}", Nodes(6, trees=6, tracks=tracks, rooted=True), x, tracks=tracks)
        members = Nodes(6, trees=6, modes=["BRANCH_MEMBER", "BRANCH_LEQ"], tracks=True, rooted=True)
        rng = np.random.default_rng(8)
        count = members.lists["nodes_modes"].count("BRANCH_MEMBER")
        small = [sorted(set(rng.integers(0, 4, 3) / 1.0)) for _ in range(count)]
        broad = [sorted(set(rng.integers(-2, 3, 3) / 1.0)) for _ in range(count)]
        ensemble(f"v5_small_sets_{x.dtype}", members, x, sets=small)
        # In sets that it cannot hold as bits, onnxruntime drops the fraction.
        whole = np.trunc(x)
        ensemble(f"v5_sets_{x.dtype}", members, whole, sets=broad)
        ensemble(f"v5_sets_tracks_{x.dtype}", members, whole, sets=broad, tracks=True)
        few = Nodes(6, trees=5, depth=2, modes=MODES[:1], targets=3, rooted=True)
        for aggregate, transform in itertools.product(range(4), range(5)):
            if aggregate == 1 or transform == 0:
                name = f"v5_{AGGREGATES[aggregate]}_{V5_TRANSFORMS[transform]}_{x.dtype}"
                ensemble(name, few, x[:6], aggregate, transform)
        ensemble(f"v5_lone_target_{x.dtype}", Nodes(6, trees=3, depth=2, rooted=True), x[:6], 1, 4)


regressors()
classifiers()
ensembles()
write("trees.jsonl")
