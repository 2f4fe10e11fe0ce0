"""Writes the hostile version files of `loadtest scenario hostile`.

    pip install onnx==1.23.2 && python make.py
"""

import pathlib

from onnx import TensorProto as T
from onnx import helper as h

HERE = pathlib.Path(__file__).parent


def write(name, nodes, constants):
    graph = h.make_graph(
        nodes, name, [h.make_tensor_value_info("input", T.FLOAT, ["N", 12])],
        [h.make_tensor_value_info("y", T.FLOAT, None)],
        [h.make_tensor(key, T.INT64, [len(v)], v) for key, v in constants.items()],
    )
    model = h.make_model(graph, opset_imports=[h.make_opsetid("", 17)], ir_version=8)
    (HERE / f"{name}.onnx").write_bytes(model.SerializeToString())


n = h.make_node
# 50 billion ones.
write("greedy", [
    n("ConstantOfShape", ["size"], ["ones"], value=h.make_tensor("", T.FLOAT, [1], [1.0])),
    n("ReduceSum", ["ones"], ["sum"]),
    n("Add", ["input", "sum"], ["y"]),
], {"size": [50_000_000_000]})
# One divided by the sum of the inputs, in integers: zeros make it panic.
write("panics", [
    n("ReduceSum", ["input"], ["s"]),
    n("Cast", ["s"], ["whole"], to=T.INT64),
    n("Div", ["one", "whole"], ["quotient"]),
    n("Cast", ["quotient"], ["y"], to=T.FLOAT),
], {"one": [1]})
# Hundreds of products of large matrices: hours.
products = [n("MatMul", [f"m{i}", f"m{i}"], [f"m{i + 1}"]) for i in range(400)]
write("loops", [
    n("ReduceSum", ["input"], ["s"]),
    n("Expand", ["s", "size"], ["m0"]),
    *products,
    n("ReduceSum", ["m400"], ["y"]),
], {"size": [4000, 4000]})
