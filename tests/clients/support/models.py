"""Makes the repository that the tests serve: small ONNX models whose answers are known."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .gateway import ROOT

# V2's datatypes, with what ONNX and numpy call them.
DATATYPES: dict[str, tuple[int, np.dtype]] = {
    "BOOL": (TensorProto.BOOL, np.dtype("?")),
    "UINT8": (TensorProto.UINT8, np.dtype("u1")),
    "UINT16": (TensorProto.UINT16, np.dtype("<u2")),
    "UINT32": (TensorProto.UINT32, np.dtype("<u4")),
    "UINT64": (TensorProto.UINT64, np.dtype("<u8")),
    "INT8": (TensorProto.INT8, np.dtype("i1")),
    "INT16": (TensorProto.INT16, np.dtype("<i2")),
    "INT32": (TensorProto.INT32, np.dtype("<i4")),
    "INT64": (TensorProto.INT64, np.dtype("<i8")),
    "FP16": (TensorProto.FLOAT16, np.dtype("<f2")),
    "FP32": (TensorProto.FLOAT, np.dtype("<f4")),
    "FP64": (TensorProto.DOUBLE, np.dtype("<f8")),
    "BYTES": (TensorProto.STRING, np.dtype("O")),
}
# The classes of the model `flower`.
CLASSES = ["setosa", "versicolor", "virginica"]
OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]

Shape = list[int | str | None]
Value = tuple[str, int, Shape]


def graph(nodes: list, inputs: list[Value], outputs: list, weights: dict[str, np.ndarray] = {}):
    """An ONNX model; an output may be a whole value info, for what is no tensor."""
    info = helper.make_tensor_value_info
    made = helper.make_graph(
        nodes,
        "test",
        [info(*value) for value in inputs],
        [info(*value) if isinstance(value, tuple) else value for value in outputs],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(made, opset_imports=OPSETS, ir_version=8)
    onnx.checker.check_model(model)
    return model


def echo(datatype: str):
    """Gives `x` [N, 3] back as `y`."""
    kind = DATATYPES[datatype][0]
    node = helper.make_node("Identity", ["x"], ["y"])
    return graph([node], [("x", kind, ["N", 3])], [("y", kind, ["N", 3])])


def perceptron():
    """`x` FP32 [N, 4] to three probabilities `p` and their largest's index `best`."""
    rng = np.random.default_rng(1)
    weights = {
        "w1": rng.normal(size=(4, 16)).astype("f4"),
        "b1": rng.normal(size=16).astype("f4"),
        "w2": rng.normal(size=(16, 3)).astype("f4"),
    }
    nodes = [
        helper.make_node("Gemm", ["x", "w1", "b1"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("MatMul", ["r", "w2"], ["l"]),
        helper.make_node("Softmax", ["l"], ["p"], axis=1),
        helper.make_node("ArgMax", ["p"], ["best"], axis=1, keepdims=0),
    ]
    outputs = [("p", TensorProto.FLOAT, ["N", 3]), ("best", TensorProto.INT64, ["N"])]
    return graph(nodes, [("x", TensorProto.FLOAT, ["N", 4])], outputs, weights)


def pair():
    """`a` FP32 and `b` INT64, [N, 2] each: their `sum` and `product` in FP32."""
    nodes = [
        helper.make_node("Cast", ["b"], ["c"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["a", "c"], ["sum"]),
        helper.make_node("Mul", ["a", "c"], ["product"]),
    ]
    inputs = [("a", TensorProto.FLOAT, ["N", 2]), ("b", TensorProto.INT64, ["N", 2])]
    outputs = [("sum", TensorProto.FLOAT, ["N", 2]), ("product", TensorProto.FLOAT, ["N", 2])]
    return graph(nodes, inputs, outputs)


def half_plus(number: float):
    """`y = x / 2 + number`, [N] each: the model of TensorFlow Serving's own examples."""
    nodes = [helper.make_node("Mul", ["x", "half"], ["h"]), helper.make_node("Add", ["h", "b"], ["y"])]
    weights = {"half": np.array(0.5, "f4"), "b": np.array(number, "f4")}
    kind = TensorProto.FLOAT
    return graph(nodes, [("x", kind, ["N"])], [("y", kind, ["N"])], weights)


def flower():
    """A classifier with named classes: `x` FP32 [N, 4] to `label` and `probabilities`."""
    rng = np.random.default_rng(2)
    nodes = [
        helper.make_node(
            "LinearClassifier",
            ["x"],
            ["label", "scores"],
            domain="ai.onnx.ml",
            coefficients=rng.normal(size=12).astype("f4").tolist(),
            intercepts=[0.1, 0.0, -0.1],
            classlabels_strings=CLASSES,
            multi_class=1,
            post_transform="SOFTMAX",
        ),
        helper.make_node(
            "ZipMap", ["scores"], ["probabilities"], domain="ai.onnx.ml", classlabels_strings=CLASSES
        ),
    ]
    each = helper.make_map_type_proto(
        TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, [])
    )
    named = helper.make_value_info("probabilities", helper.make_sequence_type_proto(each))
    outputs = [("label", TensorProto.STRING, ["N"]), named]
    return graph(nodes, [("x", TensorProto.FLOAT, ["N", 4])], outputs)


def transpose():
    """`x` FP64 [2, 3] to `y` [3, 2]: no dimension is open."""
    node = helper.make_node("Transpose", ["x"], ["y"], perm=[1, 0])
    kind = TensorProto.DOUBLE
    return graph([node], [("x", kind, [2, 3])], [("y", kind, [3, 2])])


def heavy():
    """`x` FP32 [N, 256] through many products: milliseconds a row, for deadlines."""
    rng = np.random.default_rng(3)
    weights, nodes, last = {}, [], "x"
    for layer in range(12):
        weights[f"w{layer}"] = (rng.normal(size=(256, 256)) / 16).astype("f4")
        following = "y" if layer == 11 else f"h{layer}"
        nodes.append(helper.make_node("MatMul", [last, f"w{layer}"], [following]))
        last = following
    kind = TensorProto.FLOAT
    return graph(nodes, [("x", kind, ["N", 256])], [("y", kind, ["N", 256])], weights)


def put(models: Path, name: str, model, version: int = 1, toml: str = "") -> None:
    """Writes a version of a model into a repository."""
    folder = models / name / str(version)
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")
    if toml:
        (models / name / "model.toml").write_text(toml)


def samples(models: Path) -> None:
    """Copies the sample models; one of them has the rows that the banner waits for."""
    for name in ("churn", "digits"):
        shutil.copytree(ROOT / "models" / name, models / name)


def repository(models: Path) -> Path:
    """Every model that the tests use."""
    samples(models)
    for datatype in DATATYPES:
        put(models, f"echo_{datatype.lower()}", echo(datatype))
    put(models, "perceptron", perceptron())
    put(models, "pair", pair())
    put(models, "flower", flower())
    put(models, "transpose", transpose())
    put(models, "heavy", heavy())
    put(models, "half_plus_two", half_plus(2.0))
    # A canary that is only answered by when it is asked for.
    roles = 'allow_forced_role = true\n[start]\nchampion = 1\n'
    roles += 'canary = { version = 2, weight = "0%" }\n'
    put(models, "half_plus", half_plus(2.0), 1, roles)
    put(models, "half_plus", half_plus(3.0), 2)
    return models
