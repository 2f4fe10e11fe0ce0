"""Writes cases.jsonl: small models, inputs, and onnxruntime's answers.

Each line is one case: {"name", "model" (hex), "inputs", "outputs"}, where a
tensor is {"name", "datatype", "shape", "data"}. In "data", null stands for
NaN, and "inf" and "-inf" for the infinities.

    pip install -r requirements.txt && python make.py
"""

import itertools
import json
import pathlib
import warnings

import numpy as np
import onnxruntime as ort
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper
from skl2onnx import to_onnx
from sklearn.datasets import make_classification, make_regression
from sklearn.ensemble import (
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Binarizer, MinMaxScaler, Normalizer, StandardScaler

warnings.filterwarnings("ignore")
ML = "ai.onnx.ml"
HERE = pathlib.Path(__file__).parent
DATATYPES = {
    "float32": "FP32",
    "float64": "FP64",
    "int64": "INT64",
    "int32": "INT32",
    "int16": "INT16",
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "float16": "FP16",
    "object": "BYTES",
}
cases = []


def number(x):
    if isinstance(x, str):
        return x
    if isinstance(x, (bool, np.bool_)):
        return int(x)
    if isinstance(x, (int, np.integer)):
        return int(x)
    if np.isnan(x):
        return None
    if np.isinf(x):
        return "inf" if x > 0 else "-inf"
    # Nine digits bring every FP32 back as it was.
    return float(x) if isinstance(x, np.float64) else float(f"{float(x):.9g}")


def tensor(name, array):
    array = np.asarray(array)
    return {
        "name": name,
        "datatype": DATATYPES[array.dtype.name if array.dtype.kind != "U" else "object"],
        "shape": list(array.shape),
        "data": [number(x) for x in array.ravel()],
    }


def add(name, model, feed, whole=False):
    """With `whole`, the first dimension is not one of rows."""
    # skl2onnx puts these in another order each time.
    model.opset_import.sort(key=lambda opset: opset.domain)
    data = model.SerializeToString()
    session = ort.InferenceSession(data, providers=["CPUExecutionProvider"])
    outputs = []
    for output, value in zip(session.get_outputs(), session.run(None, feed)):
        if isinstance(value, list):  # a ZipMap: rows of {label: probability}
            value = np.array([list(row.values()) for row in value], np.float32)  # by key
        outputs.append(tensor(output.name, value))
    inputs = [tensor(n, v) for n, v in feed.items()]
    case = {"name": name, "model": data.hex(), "inputs": inputs, "outputs": outputs}
    cases.append({**case, "whole": True} if whole else case)


def graph(nodes, inputs, outputs, initializers=(), ml=3):
    g = h.make_graph(nodes, "g", inputs, outputs, list(initializers))
    opsets = [h.make_opsetid("", 17), h.make_opsetid(ML, ml)]
    return h.make_model(g, opset_imports=opsets, ir_version=8)


def value(name, kind, shape):
    return h.make_tensor_value_info(name, kind, shape)


def rows_in(kind, width):
    return value("X", kind, ["N", width])


def sklearn_models():
    x, y = make_classification(240, 6, n_informative=4, random_state=0)
    x3, y3 = make_classification(240, 6, n_informative=4, n_redundant=1, n_classes=3, random_state=1)
    xr, yr = make_regression(240, 6, noise=1.0, random_state=2)
    x, x3, xr = (a.astype(np.float32) for a in (x, x3, xr))
    words = np.array(["no", "yes"])[y]
    seed = {"random_state": 0}
    logistic = make_pipeline(StandardScaler(), LogisticRegression())
    small = {"n_estimators": 3, "max_depth": 3, **seed}
    mlp = {"hidden_layer_sizes": (8,), "max_iter": 60, **seed}
    for name, estimator, data, target, zipmap in [
        ("logistic", logistic, x, y, False),
        ("logistic_zipmap", logistic, x, y, True),
        ("logistic_words", logistic, x, words, False),
        ("logistic_words_zipmap", logistic, x, words, True),
        ("logistic_3", make_pipeline(MinMaxScaler(), LogisticRegression()), x3, y3, False),
        ("normalized", make_pipeline(Normalizer("l1"), LogisticRegression()), x, y, False),
        ("binarized", make_pipeline(Binarizer(), LogisticRegression()), x, y, False),
        ("boosting", GradientBoostingClassifier(**small), x, y, False),
        ("boosting_3", GradientBoostingClassifier(**small), x3, y3, False),
        ("forest", RandomForestClassifier(**small), x, y, False),
        ("forest_zipmap", RandomForestClassifier(**small), x, y, True),
        ("forest_3", RandomForestClassifier(**small), x3, y3, False),
        ("mlp", MLPClassifier(**mlp), x, y, False),
        ("mlp_3", MLPClassifier(**mlp), x3, y3, False),
        ("mlp_words", MLPClassifier(**mlp), x, words, False),
    ]:
        estimator.fit(data, target)
        model = to_onnx(estimator, data[:1], options={"zipmap": zipmap})
        add(name, model, {"X": data[:5]})
    for name, estimator in [
        ("linear_regression", make_pipeline(StandardScaler(), LinearRegression())),
        ("forest_regression", RandomForestRegressor(**small)),
        ("boosting_regression", GradientBoostingRegressor(**small)),
    ]:
        estimator.fit(xr, yr)
        add(name, to_onnx(estimator, xr[:1]), {"X": xr[:5]})


X1 = np.array([[-1.5], [-0.3], [0], [0.3], [0.7], [2]], np.float32)
TRANSFORMS = ["NONE", "LOGISTIC", "SOFTMAX", "SOFTMAX_ZERO", "PROBIT"]


def classifier(op, labels, kind=T.FLOAT, x=X1, **attributes):
    text = isinstance(labels[0], str)
    key = {"LinearClassifier": ("ints", "strings")}.get(op, ("int64s", "strings"))[text]
    attributes[f"classlabels_{key}"] = labels
    node = h.make_node(op, ["X"], ["label", "scores"], domain=ML, **attributes)
    label = value("label", T.STRING if text else T.INT64, ["N"])
    scores = value("scores", T.FLOAT, ["N", len(labels)])
    return graph([node], [rows_in(kind, x.shape[1])], [label, scores]), {"X": x}


def linear_models():
    for transform in TRANSFORMS:
        two = {"coefficients": [1.0, -1.0], "intercepts": [0.0, 0.1]}
        add(f"linear2_{transform}", *classifier("LinearClassifier", [7, 9], post_transform=transform, **two))
        if transform != "PROBIT":
            one = {"coefficients": [1.0], "intercepts": [0.0]}
            add(f"linear1_{transform}", *classifier("LinearClassifier", ["a", "b"], post_transform=transform, **one))
        node = h.make_node(
            "LinearRegressor", ["X"], ["Y"], domain=ML, post_transform=transform,
            targets=2, coefficients=[0.2, 0.1], intercepts=[0.4, 0.3],
        )
        add(f"regressor_{transform}", graph([node], [rows_in(T.FLOAT, 1)], [value("Y", T.FLOAT, ["N", 2])]), {"X": X1})
    for kind, dtype in [(T.DOUBLE, np.float64), (T.INT64, np.int64), (T.INT32, np.int32)]:
        two = {"coefficients": [1.0, -1.0], "intercepts": [0.0, 0.1]}
        x = X1.astype(dtype)
        add(f"linear_{x.dtype}", *classifier("LinearClassifier", [7, 9], kind, x, **two))


# A root, and a branch as its false child: leaves 1, 3 and 4.
def tree(modes=("BRANCH_LEQ", "BRANCH_LT"), values=(0.0, 0.5), tracks=None):
    nodes = {
        "nodes_treeids": [0] * 5,
        "nodes_nodeids": [0, 1, 2, 3, 4],
        "nodes_featureids": [0] * 5,
        "nodes_modes": [modes[0], "LEAF", modes[1], "LEAF", "LEAF"],
        "nodes_values": [values[0], 0.0, values[1], 0.0, 0.0],
        "nodes_truenodeids": [1, 0, 3, 0, 0],
        "nodes_falsenodeids": [2, 0, 4, 0, 0],
    }
    if tracks:
        nodes["nodes_missing_value_tracks_true"] = tracks
    return nodes


def weights(prefix, ids, values, nodes=(1, 3, 4)):
    return {
        f"{prefix}_treeids": [0] * len(ids),
        f"{prefix}_nodeids": list(nodes),
        f"{prefix}_ids": list(ids),
        f"{prefix}_weights": list(values),
    }


def tree_classifiers():
    for transform, w, base, ids in itertools.product(
        TRANSFORMS,
        ([0.2, 0.6, 0.9], [-0.4, 0.2, 0.9]),
        ([], [0.1], [0.1, 0.3]),
        ([0, 0, 0], [1, 1, 1], [0, 1, 0]),
    ):
        lone = len(base) != 2 and 0 in ids
        if (transform == "PROBIT" and lone) or (len(base) == 1 and len(set(ids)) > 1):
            continue  # onnxruntime leaves a score unwritten
        if transform != "NONE" and (len(base) == 1 or ids == [1, 1, 1]):
            continue  # enough of these
        extra = {"base_values": base} if base else {}
        made = classifier(
            "TreeEnsembleClassifier", [7, 9], post_transform=transform,
            **tree(), **weights("class", ids, w), **extra,
        )
        add(f"trees2_{transform}_{w[0]}_{len(base)}_{ids}", *made)
    both = weights("class", [0, 1] * 3, [0.7, 0.3, 0.4, 0.6, 0.1, 0.9], [1, 1, 3, 3, 4, 4])
    add("trees2_both", *classifier("TreeEnsembleClassifier", ["no", "yes"], **tree(), **both))
    for transform, base in itertools.product(TRANSFORMS, ([], [0.1, -0.2, 0.3])):
        extra = {"base_values": base} if base else {}
        made = classifier(
            "TreeEnsembleClassifier", [5, 6, 7], post_transform=transform,
            **tree(), **weights("class", [0, 2, 1], [0.3, 0.5, -0.6]), **extra,
        )
        add(f"trees3_{transform}_{len(base)}", *made)
    for kind, dtype in [(T.DOUBLE, np.float64), (T.INT64, np.int64), (T.INT32, np.int32)]:
        x = np.array([[-1], [0], [0.5], [1], [7]]).astype(dtype)
        three = weights("class", [0, 2, 1], [0.3, 0.5, 0.6])
        add(f"trees_{x.dtype}", *classifier("TreeEnsembleClassifier", [5, 6, 7], kind, x, **tree(values=(0.0, 0.3)), **three))
    add("trees_words", *classifier("TreeEnsembleClassifier", ["a", "b", "c"], **tree(), **weights("class", [0, 2, 1], [0.3, 0.5, 0.6])))


def tree_regressors():
    odd = np.array([[-1.5], [0], [0.3], [0.5], [np.nan], [np.inf]], np.float32)
    modes = ["LEQ", "LT", "GTE", "GT", "EQ", "NEQ"]
    two = weights("target", [0, 0, 0], [1.0, 2.0, 4.0])

    def regressor(name, x=odd, kind=T.FLOAT, targets=1, **attributes):
        node = h.make_node("TreeEnsembleRegressor", ["X"], ["Y"], domain=ML, n_targets=targets, **attributes)
        add(name, graph([node], [rows_in(kind, 1)], [value("Y", T.FLOAT, ["N", targets])]), {"X": x})

    for first, tracks in itertools.product(modes, (None, [1, 0, 1, 0, 0])):
        regressor(f"mode_{first}_{bool(tracks)}", **tree((f"BRANCH_{first}", "BRANCH_LEQ"), (0.0, 0.3), tracks), **two)
    wide = np.array([[-1], [0], [0.3], [1], [7]])
    regressor("trees_float64", wide, T.DOUBLE, **tree(values=(0.0, 0.3)), **two)
    forest = {k: v * 2 for k, v in tree().items()}
    forest["nodes_treeids"] = [0] * 5 + [1] * 5
    forest["nodes_values"] = tree()["nodes_values"] + [0.4, 0, 1.0, 0, 0]
    for aggregate, transform in itertools.product(["SUM", "AVERAGE", "MIN", "MAX"], ["NONE", "SOFTMAX", "PROBIT"]):
        for targets, ids in ((1, [0] * 6), (2, [0, 1, 0, 1, 0, 1])):
            w = weights("target", ids, [0.1, 0.2, -0.3, 0.05, 0.4, 0.25], [1, 3, 4] * 2)
            w["target_treeids"] = [0] * 3 + [1] * 3
            base = {"base_values": [0.1, 0.05][:targets]} if aggregate in ("SUM", "MAX") else {}
            regressor(
                f"aggregate_{aggregate}_{transform}_{targets}", X1, targets=targets,
                aggregate_function=aggregate, post_transform=transform, **forest, **w, **base,
            )


def small_operators():
    x = np.array([[1.5, -2, 0], [0, 0, 0], [-3, -4, -12]], np.float32)
    for norm in ("MAX", "L1", "L2"):
        node = h.make_node("Normalizer", ["X"], ["Y"], domain=ML, norm=norm)
        add(f"normalizer_{norm}", graph([node], [rows_in(T.FLOAT, 3)], [value("Y", T.FLOAT, ["N", 3])]), {"X": x})
    for kind, dtype in [(T.FLOAT, np.float32), (T.DOUBLE, np.float64), (T.INT64, np.int64), (T.INT32, np.int32)]:
        for n in (1, 3):
            node = h.make_node("Scaler", ["X"], ["Y"], domain=ML, offset=[0.5, 1.0, -2.0][:n], scale=[2.0, 0.1, 3.0][:n])
            add(f"scaler_{np.dtype(dtype)}_{n}", graph([node], [rows_in(kind, 3)], [value("Y", T.FLOAT, ["N", 3])]), {"X": x.astype(dtype)})
    node = h.make_node("Binarizer", ["X"], ["Y"], domain=ML, threshold=-2.0)
    add("binarizer", graph([node], [rows_in(T.FLOAT, 3)], [value("Y", T.FLOAT, ["N", 3])]), {"X": x})
    picks = numpy_helper.from_array(np.array([2, 0], np.int64), "picks")
    node = h.make_node("ArrayFeatureExtractor", ["X", "picks"], ["Y"], domain=ML)
    add("extractor", graph([node], [rows_in(T.FLOAT, 3)], [value("Y", T.FLOAT, ["N", 2])], [picks]), {"X": x})
    words = np.array([["a"], ["b"], ["zz"]], object)
    node = h.make_node("LabelEncoder", ["X"], ["Y"], domain=ML, keys_strings=["a", "b"], values_int64s=[4, 5], default_int64=-7)
    add("encoder_text", graph([node], [rows_in(T.STRING, 1)], [value("Y", T.INT64, ["N", 1])]), {"X": words})
    node = h.make_node("LabelEncoder", ["X"], ["Y"], domain=ML, keys_int64s=[1, 2], values_strings=["one", "two"])
    add("encoder_int", graph([node], [rows_in(T.INT64, 1)], [value("Y", T.STRING, ["N", 1])]), {"X": np.array([[2], [3], [1]])})
    node = h.make_node("LabelEncoder", ["X"], ["Y"], domain=ML, keys_floats=[1.5, 0.0], values_floats=[0.5, 9.0])
    add("encoder_float", graph([node], [rows_in(T.FLOAT, 1)], [value("Y", T.FLOAT, ["N", 1])]), {"X": np.array([[1.5], [np.nan], [-0.0]], np.float32)})


def plain_operators():
    big = np.array([[3e9, -3e9, 1.9, -1.9]])
    node = h.make_node("Cast", ["X"], ["Y"], to=T.INT64)
    add("cast_wide", graph([node], [rows_in(T.DOUBLE, 4)], [value("Y", T.INT64, ["N", 4])]), {"X": big})
    nodes = [h.make_node("Shape", ["X"], ["S"]), h.make_node("Cast", ["S"], ["Y"], to=T.INT64)]
    add("shape", graph(nodes, [rows_in(T.FLOAT, 3)], [value("Y", T.INT64, [2])]), {"X": np.zeros((5, 3), np.float32)})
    x = np.array([[1, 3, 2], [4, 4, 0]], np.float32)
    nodes = [
        h.make_node("ArgMax", ["X"], ["best"], axis=1, keepdims=0),
        h.make_node("Softmax", ["X"], ["P"], axis=1),
    ]
    outputs = [value("best", T.INT64, ["N"]), value("P", T.FLOAT, ["N", 3])]
    add("argmax", graph(nodes, [rows_in(T.FLOAT, 3)], outputs), {"X": x})
    for dtype in DATATYPES:
        array = np.array([["a", "b"]], object) if dtype == "object" else np.array([[0, 1]], dtype)
        kind = h.np_dtype_to_tensor_dtype(array.dtype) if dtype != "object" else T.STRING
        node = h.make_node("Identity", ["X"], ["Y"])
        add(f"identity_{dtype}", graph([node], [rows_in(kind, 2)], [value("Y", kind, ["N", 2])]), {"X": array})


def write(name):
    with (HERE / name).open("w") as f:
        for case in cases:
            f.write(json.dumps(case, separators=(",", ":")) + "\n")
    print(len(cases), "cases")


if __name__ == "__main__":
    sklearn_models()
    linear_models()
    tree_classifiers()
    tree_regressors()
    small_operators()
    plain_operators()
    write("cases.jsonl")
