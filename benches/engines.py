"""Makes the models that `cargo bench --bench engines` times.

Tabular models trained on generated rows of 20 features, and two topologies
with random weights, as ONNX files in target/engines/.

    pip install -r benches/engines-requirements.txt && python benches/engines.py [NAME ...]
"""

import pathlib
import sys
import warnings

import lightgbm
import numpy as np
import xgboost
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper
from onnxmltools.convert.lightgbm.operator_converters.LightGbm import convert_lightgbm
from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
from skl2onnx import to_onnx, update_registered_converter
from skl2onnx.common.shape_calculator import (
    calculate_linear_classifier_output_shapes,
)
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
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC, SVR

warnings.filterwarnings("ignore")
OUT = pathlib.Path(__file__).parent.parent / "target" / "engines"
FEATURES = 20
SEED = {"random_state": 0}


def rows(count, classes):
    """Noisy rows, so that trees grow deep: 0 classes for regression."""
    if classes == 0:
        x, y = make_regression(count, FEATURES, n_informative=12, noise=20.0, random_state=3)
    else:
        x, y = make_classification(
            count, FEATURES, n_informative=12, n_classes=classes, flip_y=0.05, random_state=3
        )
    return x.astype(np.float32), y


def forest(trees, classes):
    kind = RandomForestClassifier if classes else RandomForestRegressor
    return kind(trees, n_jobs=-1, **SEED), 4000, classes


def tabular():
    """Name → estimator, training rows, classes."""
    deep = {"max_iter": 60, **SEED}
    return {
        "forest_10": forest(10, 2),
        "forest_100": forest(100, 2),
        "forest_1000": forest(1000, 2),
        "forest_100_10_classes": forest(100, 10),
        "forest_100_regressor": forest(100, 0),
        "boosting_100": (GradientBoostingClassifier(n_estimators=100, **SEED), 4000, 2),
        "boosting_300_regressor": (
            GradientBoostingRegressor(n_estimators=300, max_depth=5, **SEED), 4000, 0,
        ),
        "lightgbm_500": (lightgbm.LGBMClassifier(n_estimators=500, verbose=-1, **SEED), 20000, 2),
        "xgboost_300": (xgboost.XGBClassifier(n_estimators=300, max_depth=6, **SEED), 20000, 2),
        "xgboost_100_5_classes": (
            xgboost.XGBClassifier(n_estimators=100, max_depth=6, **SEED), 20000, 5,
        ),
        "logistic": (make_pipeline(StandardScaler(), LogisticRegression()), 4000, 2),
        "logistic_10_classes": (make_pipeline(StandardScaler(), LogisticRegression()), 4000, 10),
        "linear": (make_pipeline(StandardScaler(), LinearRegression()), 4000, 0),
        "svm_rbf": (make_pipeline(StandardScaler(), SVC(kernel="rbf")), 2000, 2),
        "svm_linear": (make_pipeline(StandardScaler(), SVC(kernel="linear")), 2000, 2),
        "svm_rbf_regressor": (make_pipeline(StandardScaler(), SVR(kernel="rbf")), 1000, 0),
        "mlp": (make_pipeline(StandardScaler(), MLPClassifier((64, 32), **deep)), 4000, 2),
    }


def export(estimator, count, classes):
    x, y = rows(count, classes)
    estimator.fit(x, y)
    options = {"zipmap": False} if classes else {}
    return to_onnx(estimator, x[:1], options=options, target_opset={"": 18, "ai.onnx.ml": 3})


class Weights:
    """Random initialisers, collected under names of their own."""

    def __init__(self):
        self.random = np.random.default_rng(0)
        self.made = []

    def __call__(self, *shape):
        name = f"w{len(self.made)}"
        data = self.random.normal(0, 0.05, shape).astype(np.float32)
        self.made.append(numpy_helper.from_array(data, name))
        return name

    def constant(self, values, dtype):
        name = f"w{len(self.made)}"
        self.made.append(numpy_helper.from_array(np.array(values, dtype), name))
        return name


def topology(nodes, weights, shape, output):
    graph = h.make_graph(
        nodes,
        "topology",
        [h.make_tensor_value_info("X", T.FLOAT, shape)],
        [h.make_tensor_value_info("Y", T.FLOAT, output)],
        weights.made,
    )
    return h.make_model(graph, opset_imports=[h.make_opsetid("", 18)], ir_version=9)


def transformer(layers=2, width=64, heads=4, length=16):
    """An encoder over [rows, length, width]."""
    w, nodes, at = Weights(), [], "X"

    def node(op, *inputs, **attributes):
        nodes.append(h.make_node(op, list(inputs), [f"v{len(nodes)}"], **attributes))
        return nodes[-1].output[0]

    split = w.constant([0, length, heads, width // heads], np.int64)
    join = w.constant([0, length, width], np.int64)
    scale = w.constant((width // heads) ** -0.5, np.float32)

    def dense(x, a, b):
        return node("Add", node("MatMul", x, w(a, b)), w(b))

    def norm(x):
        return node("LayerNormalization", x, w(width), w(width), axis=-1)

    for _ in range(layers):
        q, k, v = (
            node("Transpose", node("Reshape", dense(at, width, width), split), perm=perm)
            for perm in ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3])
        )
        weights = node("Softmax", node("Mul", node("MatMul", q, k), scale), axis=-1)
        mixed = node("Transpose", node("MatMul", weights, v), perm=[0, 2, 1, 3])
        at = norm(node("Add", at, dense(node("Reshape", mixed, join), width, width)))
        inner = node("Relu", dense(at, width, 4 * width))
        at = norm(node("Add", at, dense(inner, 4 * width, width)))
    nodes[-1].output[0] = "Y"
    return topology(nodes, w, ["N", length, width], ["N", length, width])


def cnn():
    """Three convolutions over [rows, 3, 32, 32]."""
    w, nodes, at, width = Weights(), [], "X", 3
    for i, wider in enumerate((16, 32, 64)):
        nodes += [
            h.make_node("Conv", [at, w(wider, width, 3, 3), w(wider)], [f"c{i}"], pads=[1] * 4),
            h.make_node("Relu", [f"c{i}"], [f"r{i}"]),
            h.make_node("MaxPool", [f"r{i}"], [f"p{i}"], kernel_shape=[2, 2], strides=[2, 2]),
        ]
        at, width = f"p{i}", wider
    nodes += [
        h.make_node("Flatten", [at], ["flat"]),
        h.make_node("Gemm", ["flat", w(64 * 16, 10), w(10)], ["Y"]),
    ]
    return topology(nodes, w, ["N", 3, 32, 32], ["N", 10])


def main():
    update_registered_converter(
        lightgbm.LGBMClassifier, "LightGbmLGBMClassifier",
        calculate_linear_classifier_output_shapes, convert_lightgbm,
        options={"nocl": [True, False], "zipmap": [True, False, "columns"]},
    )
    update_registered_converter(
        xgboost.XGBClassifier, "XGBoostXGBClassifier",
        calculate_linear_classifier_output_shapes, convert_xgboost,
        options={"nocl": [True, False], "zipmap": [True, False, "columns"]},
    )
    OUT.mkdir(parents=True, exist_ok=True)
    makers = {name: lambda parts=parts: export(*parts) for name, parts in tabular().items()}
    makers |= {"transformer": transformer, "cnn": cnn}
    for name, make in makers.items():
        if len(sys.argv) > 1 and name not in sys.argv[1:]:
            continue
        (OUT / f"{name}.onnx").write_bytes(make().SerializeToString())
        print(name, (OUT / f"{name}.onnx").stat().st_size, "bytes", flush=True)


if __name__ == "__main__":
    main()
