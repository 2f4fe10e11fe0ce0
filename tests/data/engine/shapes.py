"""Writes shapes.jsonl: small models with several varying dimensions, and
onnxruntime's answers at several sizes of each.

Each line is one model: {"name", "model" (hex), "runs"}, where a run is
{"inputs", "outputs"} with tensors as in cases.jsonl (see make.py).

    pip install -r requirements.txt && python shapes.py
"""

import json
import pathlib

import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper

HERE = pathlib.Path(__file__).parent
DATATYPES = {"float32": "FP32", "int64": "INT64"}
WIDTH, HEADS, WORDS, POSITIONS = 8, 2, 11, 64
rng = np.random.default_rng(7)
lines = []


def tensor(name, array):
    exact = (lambda x: float(f"{float(x):.9g}")) if array.dtype.kind == "f" else int
    return {
        "name": name,
        "datatype": DATATYPES[array.dtype.name],
        "shape": list(array.shape),
        "data": [exact(x) for x in array.ravel()],
    }


def add(name, nodes, inputs, outputs, constants, feeds):
    weights = [numpy_helper.from_array(np.asarray(value), key) for key, value in constants.items()]
    graph = h.make_graph(nodes, name, inputs, outputs, weights)
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    runs = []
    for feed in feeds:
        answers = session.run(names, feed)
        runs.append({
            "inputs": [tensor(key, value) for key, value in feed.items()],
            "outputs": [tensor(key, value) for key, value in zip(names, answers)],
        })
    line = {"name": name, "model": model.SerializeToString().hex(), "runs": runs}
    lines.append(json.dumps(line, separators=(",", ":")))


def floats(*shape):
    return rng.normal(size=shape).astype(np.float32) * np.float32(0.5)


def transformer(name, batch, sequence):
    """Tokens and a mask → one block of attention and a feed-forward network →
    mean over the sequence → two logits, with shapes computed as PyTorch's
    exporter writes them."""
    n = h.make_node
    constants = {
        "words": floats(WORDS, WIDTH), "positions": floats(POSITIONS, WIDTH),
        "q_w": floats(WIDTH, WIDTH), "k_w": floats(WIDTH, WIDTH), "v_w": floats(WIDTH, WIDTH),
        "o_w": floats(WIDTH, WIDTH), "up_w": floats(WIDTH, 4 * WIDTH), "up_b": floats(4 * WIDTH),
        "down_w": floats(4 * WIDTH, WIDTH), "out_w": floats(WIDTH, 2), "out_b": floats(2),
        "scale": np.ones(WIDTH, np.float32), "bias": np.zeros(WIDTH, np.float32),
        "zero": np.int64(0), "one": np.int64(1), "zeros": np.array([0], np.int64),
        "heads": np.array([HEADS], np.int64), "head": np.array([WIDTH // HEADS], np.int64),
        "width": np.array([WIDTH], np.int64), "last": np.array([2], np.int64),
        "mask_axes": np.array([1, 2], np.int64), "root": np.float32((WIDTH / HEADS) ** 0.5),
        "low": np.float32(-1e9), "unit": np.float32(1), "sqrt2": np.float32(2 ** 0.5),
        "half": np.float32(0.5),
    }
    nodes = [
        n("Shape", ["tokens"], ["size"]),
        n("Gather", ["size", "zero"], ["batch_size"]),
        n("Gather", ["size", "one"], ["length"]),
        n("Range", ["zero", "length", "one"], ["places"]),
        n("Gather", ["positions", "places"], ["position"]),
        n("Gather", ["words", "tokens"], ["word"]),
        n("Add", ["word", "position"], ["embedded"]),
        n("LayerNormalization", ["embedded", "scale", "bias"], ["x"], axis=-1),
        n("Unsqueeze", ["batch_size", "zeros"], ["b"]),
        n("Unsqueeze", ["length", "zeros"], ["s"]),
        n("Concat", ["b", "s", "heads", "head"], ["split"], axis=0),
        n("Concat", ["b", "s", "width"], ["join"], axis=0),
    ]
    for part in "qkv":
        perm = [0, 2, 3, 1] if part == "k" else [0, 2, 1, 3]
        nodes += [
            n("MatMul", ["x", f"{part}_w"], [f"{part}_flat"]),
            n("Reshape", [f"{part}_flat", "split"], [f"{part}_heads"]),
            n("Transpose", [f"{part}_heads"], [part], perm=perm),
        ]
    nodes += [
        n("MatMul", ["q", "k"], ["products"]),
        n("Div", ["products", "root"], ["scores"]),
        n("Sub", ["unit", "mask"], ["hidden"]),
        n("Mul", ["hidden", "low"], ["penalty"]),
        n("Unsqueeze", ["penalty", "mask_axes"], ["penalties"]),
        n("Add", ["scores", "penalties"], ["masked"]),
        n("Softmax", ["masked"], ["attention"], axis=-1),
        n("MatMul", ["attention", "v"], ["mixed"]),
        n("Transpose", ["mixed"], ["mixed_back"], perm=[0, 2, 1, 3]),
        n("Reshape", ["mixed_back", "join"], ["joined"]),
        n("MatMul", ["joined", "o_w"], ["projected"]),
        n("Add", ["x", "projected"], ["with_attention"]),
        n("LayerNormalization", ["with_attention", "scale", "bias"], ["y"], axis=-1),
        n("MatMul", ["y", "up_w"], ["up"]),
        n("Add", ["up", "up_b"], ["wide"]),
        n("Div", ["wide", "sqrt2"], ["gelu_1"]),
        n("Erf", ["gelu_1"], ["gelu_2"]),
        n("Add", ["gelu_2", "unit"], ["gelu_3"]),
        n("Mul", ["wide", "gelu_3"], ["gelu_4"]),
        n("Mul", ["gelu_4", "half"], ["gelu"]),
        n("MatMul", ["gelu", "down_w"], ["down"]),
        n("Add", ["y", "down"], ["z"]),
        n("LayerNormalization", ["z", "scale", "bias"], ["states"], axis=-1),
        n("Unsqueeze", ["mask", "last"], ["weights"]),
        n("Mul", ["states", "weights"], ["weighted"]),
        n("ReduceMean", ["weighted"], ["pooled"], axes=[1], keepdims=0),
        n("Gemm", ["pooled", "out_w", "out_b"], ["logits"]),
    ]
    value = h.make_tensor_value_info
    inputs = [
        value("tokens", T.INT64, [batch, sequence]), value("mask", T.FLOAT, [batch, sequence])
    ]
    outputs = [
        value("logits", T.FLOAT, [batch, 2]), value("states", T.FLOAT, [batch, sequence, WIDTH])
    ]
    feeds = []
    for rows, length in [(1, 1), (1, 5), (3, 5), (2, 16), (5, 3), (4, 4), (8, 7), (1, 33)]:
        mask = np.ones((rows, length), np.float32)
        mask[-1, length // 2 + 1:] = 0
        feeds.append({"tokens": rng.integers(0, WORDS, (rows, length)), "mask": mask})
    add(name, nodes, inputs, outputs, constants, feeds)


def small(name, nodes, inputs, outputs, constants, sizes):
    value = h.make_tensor_value_info
    feeds = [
        {key: floats(*shape) for (key, _), shape in zip(inputs, shapes)} for shapes in sizes
    ]
    add(
        name, nodes, [value(key, T.FLOAT, shape) for key, shape in inputs],
        [value(key, T.FLOAT, shape) for key, shape in outputs], constants, feeds,
    )


n = h.make_node
transformer("transformer", "batch", "sequence")
transformer("transformer_unnamed", None, None)
small(
    "two_towers",
    [n("Transpose", ["docs"], ["t"], perm=[1, 0]), n("MatMul", ["queries", "t"], ["scores"])],
    [("queries", ["q", 4]), ("docs", ["d", 4])], [("scores", ["q", "d"])], {},
    [[(1, 4), (1, 4)], [(2, 4), (7, 4)], [(7, 4), (2, 4)], [(3, 4), (3, 4)]],
)
# The rows know of each other: no row may be added.
small(
    "centred",
    [n("ReduceMean", ["x"], ["mean"], axes=[0]), n("Sub", ["x", "mean"], ["y"])],
    [("x", ["rows", "columns"])], [("y", ["rows", "columns"])], {},
    [[(1, 3)], [(3, 3)], [(5, 2)], [(4, 4)]],
)
small(
    "series",
    [
        n("Conv", ["x", "w"], ["c"], kernel_shape=[3], pads=[1, 1]),
        n("Relu", ["c"], ["r"]),
        n("GlobalAveragePool", ["r"], ["p"]),
        n("Flatten", ["p"], ["y"]),
    ],
    [("x", ["batch", 2, "length"])], [("y", ["batch", 4])], {"w": floats(4, 2, 3)},
    [[(1, 2, 5)], [(3, 2, 5)], [(3, 2, 17)], [(2, 2, 64)]],
)
small(
    "image",
    [
        n("Conv", ["x", "w"], ["c"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1]),
        n("Relu", ["c"], ["r"]),
        n("MaxPool", ["r"], ["m"], kernel_shape=[2, 2], strides=[2, 2]),
        n("GlobalAveragePool", ["m"], ["p"]),
        n("Flatten", ["p"], ["y"]),
    ],
    [("x", ["batch", 3, "height", "width"])], [("y", ["batch", 4])], {"w": floats(4, 3, 3, 3)},
    [[(1, 3, 8, 8)], [(2, 3, 8, 12)], [(5, 3, 9, 16)], [(1, 3, 32, 8)]],
)
small(
    "recurrent",
    [n("LSTM", ["x", "w", "r"], ["all", "last"], hidden_size=3), n("Squeeze", ["last", "first"], ["y"])],
    [("x", ["time", "batch", 2])], [("y", ["batch", 3])],
    {"w": floats(1, 12, 2), "r": floats(1, 12, 3), "first": np.array([0], np.int64)},
    [[(4, 1, 2)], [(4, 3, 2)], [(9, 2, 2)], [(4, 1, 2)]],
)
(HERE / "shapes.jsonl").write_text("\n".join(lines) + "\n")
print(f"{len(lines)} models")
