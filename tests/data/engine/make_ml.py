"""Writes ml.jsonl: like make.py, for the operators of ai.onnx.ml apart from
trees, with their corners.

    pip install -r requirements.txt && python make_ml.py
"""

import itertools
import warnings

import numpy as np
from onnx import TensorProto as T
from onnx import helper as h
from onnx import numpy_helper
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.compose import ColumnTransformer
from sklearn.datasets import make_classification, make_regression
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, OrdinalEncoder, StandardScaler
from sklearn.svm import SVC, SVR, LinearSVC, NuSVC, NuSVR, OneClassSVM

from make import ML, TRANSFORMS, X1, add, graph, value, write

warnings.filterwarnings("ignore")
KINDS = {
    "float32": T.FLOAT,
    "float64": T.DOUBLE,
    "int64": T.INT64,
    "int32": T.INT32,
    "int16": T.INT16,
    "object": T.STRING,
}
NAN = float("nan")


def one(name, op, x, kind=T.FLOAT, ml=3, whole=False, **attributes):
    """A single node from X to Y; X may be several inputs."""
    xs = x if isinstance(x, list) else [x]
    names = [f"X{i}" if i else "X" for i in range(len(xs))]
    node = h.make_node(op, names, ["Y"], domain=ML, **attributes)
    inputs = [value(n, KINDS[a.dtype.name], ["N"] * (not whole) + list(a.shape[not whole :])) for n, a in zip(names, xs)]
    add(name, graph([node], inputs, [value("Y", kind, None)], ml=ml), dict(zip(names, xs)), whole)


def classifier(name, op, x, labels, key, width, whole=False, **attributes):
    if labels is not None:
        attributes[f"classlabels_{key}"] = labels
    node = h.make_node(op, ["X"], ["label", "scores"], domain=ML, **attributes)
    text = labels is not None and isinstance(labels[0], str)
    inputs = [value("X", KINDS[x.dtype.name], list(x.shape) if whole else ["N", x.shape[1]])]
    outputs = [value("label", T.STRING if text else T.INT64, None), value("scores", T.FLOAT, None)]
    add(name, graph([node], inputs, outputs), {"X": x}, whole)


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def svm_models():
    x, y = make_classification(120, 5, n_informative=4, n_redundant=0, random_state=0)
    x3, y3 = make_classification(120, 5, n_informative=4, n_redundant=0, n_classes=4, random_state=1)
    xr, yr = make_regression(60, 5, noise=1.0, random_state=2)
    x, x3, xr = (a.astype(np.float32) for a in (x, x3, xr))
    words = np.array(["no", "yes"])[y]
    quick = {"max_iter": 400}
    for kernel in ("linear", "poly", "rbf", "sigmoid"):
        for proba, (classes, data, target) in itertools.product(
            (False, True), (("2", x, y), ("4", x3, y3), ("words", x, words))
        ):
            model = SVC(kernel=kernel, probability=proba, random_state=0, **quick).fit(data, target)
            options = {"zipmap": False, "raw_scores": not proba}
            add(f"svc_{kernel}_{classes}_{proba}", to_onnx(model, data[:1], options=options), {"X": data[:7]})
        yr_scaled = yr / 50
        add(f"svr_{kernel}", to_onnx(SVR(kernel=kernel, **quick).fit(xr, yr_scaled), xr[:1]), {"X": xr[:7]})
        add(f"one_class_{kernel}", to_onnx(OneClassSVM(kernel=kernel, **quick).fit(xr), xr[:1]), {"X": xr[:7]})
    add("nu_svc", to_onnx(NuSVC(probability=True, random_state=0).fit(x3, y3), x3[:1]), {"X": x3[:7]})
    add("nu_svr", to_onnx(NuSVR().fit(xr, yr / 50), xr[:1]), {"X": xr[:7]})
    add("linear_svc", to_onnx(LinearSVC(random_state=0).fit(x3, y3), x3[:1]), {"X": x3[:7]})
    poly = SVR(kernel="poly", degree=2, **quick).fit(xr, yr / 50)
    add("svr_degree_2", to_onnx(poly, xr[:1]), {"X": xr[:7]})


def svm_attributes():
    x = numbers(7, 2)
    for transform, classes, proba in itertools.product(TRANSFORMS, (2, 3), (False, True)):
        pairs = classes * (classes - 1) // 2
        if transform == "PROBIT" and classes == 2 and not proba:
            continue  # onnxruntime leaves a score unwritten
        extra = {"prob_a": [-1.0, -0.5, -2.0][:pairs], "prob_b": [0.1, 0.0, -0.1][:pairs]} if proba else {}
        classifier(
            f"svm_pairs_{transform}_{classes}_{proba}", "SVMClassifier", x, [4, 9, 6][:classes], "ints", classes,
            kernel_type="RBF", kernel_params=[0.5, 0.0, 3.0], post_transform=transform,
            support_vectors=numbers(2 * classes, 2, seed=1).ravel(), vectors_per_class=[2, 1, 3][:classes] if classes == 3 else [1, 3],
            coefficients=numbers(classes - 1, 2 * classes, seed=2).ravel(), rho=[0.1, -0.1, 0.2][:pairs], **extra,
        )
    for transform, classes, positive in itertools.product(TRANSFORMS, (1, 2, 3), (False, True)):
        w = numbers(classes, 2, seed=3).ravel()
        classifier(
            f"svm_linear_{transform}_{classes}_{positive}", "SVMClassifier", x, ["a", "b", "c"][:classes], "strings", classes,
            kernel_params=[0.0, 0.0, 0.0], post_transform=transform, coefficients=abs(w) if positive else w, rho=[0.1],
        )
    classifier(
        "svm_linear_proba", "SVMClassifier", x, [7, 8], "ints", 2, kernel_params=[0.0] * 3,
        coefficients=numbers(4, seed=4), rho=[0.1], prob_a=[1.0], prob_b=[0.0],
    )
    rounded = np.round(x * 3)
    for dtype in ("float64", "int64", "int32"):
        classifier(
            f"svm_{dtype}", "SVMClassifier", rounded.astype(dtype), [4, 9], "ints", 2, kernel_type="SIGMOID", kernel_params=[0.1, 0.2, 0.0],
            support_vectors=numbers(4, 2, seed=1).ravel(), vectors_per_class=[2, 2], coefficients=numbers(4, seed=2), rho=[0.1],
        )
    classifier(
        "svm_one_row", "SVMClassifier", x[0], [4, 9], "ints", 2, True, kernel_type="POLY", kernel_params=[0.5, 1.0, 3.0],
        support_vectors=numbers(4, 2, seed=1).ravel(), vectors_per_class=[2, 2], coefficients=numbers(4, seed=2), rho=[0.1],
    )
    for degree, one_class, transform in itertools.product((0.0, 1.0, 2.0, 2.5, 3.0, 4.0), (0, 1), ("NONE", "LOGISTIC")):
        one(
            f"svm_regressor_{degree}_{one_class}_{transform}", "SVMRegressor", abs(x), kernel_type="POLY", kernel_params=[0.5, 1.5, degree],
            support_vectors=abs(numbers(4, 2, seed=1)).ravel(), coefficients=numbers(4, seed=2), n_supports=4, rho=[0.1],
            one_class=one_class, post_transform=transform,
        )
    one("svm_regressor_linear", "SVMRegressor", x, kernel_type="RBF", kernel_params=[0.5, 1.0, 2.0], coefficients=[1.0, -1.0], n_supports=0, rho=[0.1])
    # Enough of everything to fill and to overrun the blocks.
    wide = numbers(40, 21, seed=5)
    for kernel in ("LINEAR", "POLY", "RBF", "SIGMOID"):
        one(
            f"svm_regressor_wide_{kernel}", "SVMRegressor", wide, kernel_type=kernel, kernel_params=[0.05, 0.1, 3.0],
            support_vectors=numbers(150, 21, seed=6).ravel(), coefficients=numbers(150, seed=7) / 10, n_supports=150, rho=[0.5],
        )


def linear_models():
    for transform in TRANSFORMS:
        classifier(f"linear_unnamed_{transform}", "LinearClassifier", X1, None, "ints", 1, coefficients=[1.0], intercepts=[0.1], post_transform=transform)
        one(f"linear_lone_{transform}", "LinearRegressor", X1, coefficients=[1.0], intercepts=[0.1], post_transform=transform)
        if transform != "PROBIT":
            classifier(
                f"linear_wide_{transform}", "LinearClassifier", numbers(17, 13), list(range(20)), "ints", 20,
                coefficients=numbers(20, 13, seed=1).ravel(), intercepts=numbers(20, seed=2), post_transform=transform,
            )
    classifier("linear_more_labels", "LinearClassifier", X1, ["a", "b", "c"], "strings", 2, coefficients=[1.0, -1.0], intercepts=[0.0, 0.1])
    classifier("linear_one_row", "LinearClassifier", X1[:, 0], [1, 2], "ints", 2, True, coefficients=[0.1] * 6 + [0.2] * 6, intercepts=[0.0, 0.1])
    for multi in (0, 1):
        classifier(
            f"linear_multi_{multi}", "LinearClassifier", X1, [1, 2], "ints", 2, coefficients=[1.0, -1.0], intercepts=[0.0, 0.1],
            multi_class=multi, post_transform="LOGISTIC",
        )
    one("linear_regressor_row", "LinearRegressor", X1[:, 0], whole=True, coefficients=[0.5] * 6, intercepts=[0.1])
    one("linear_regressor_bare", "LinearRegressor", X1, coefficients=[0.5, 1.5], targets=2)
    for features, targets in itertools.product((1, 7, 8, 9, 16, 30), (1, 3, 8, 17)):
        one(
            f"linear_regressor_{features}_{targets}", "LinearRegressor", numbers(9, features), coefficients=numbers(targets, features, seed=1).ravel(),
            intercepts=numbers(targets, seed=2), targets=targets,
        )


def imputers():
    floats = np.array([[NAN, 1, -1], [2, NAN, 0], [np.inf, -1, NAN]], np.float32)
    for name, replaced in (("nan", NAN), ("value", -1.0), ("default", None)):
        given = {} if replaced is None else {"replaced_value_float": replaced}
        one(f"imputer_{name}", "Imputer", floats, imputed_value_floats=[7.0, 8.0, 9.0], **given)
        one(f"imputer_{name}_1", "Imputer", floats, imputed_value_floats=[7.0], **given)
    ints = np.array([[0, 5, -1], [3, 0, 0]])
    one("imputer_int", "Imputer", ints, T.INT64, imputed_value_int64s=[7, 8, 9])
    one("imputer_int_1", "Imputer", ints, T.INT64, imputed_value_int64s=[7], replaced_value_int64=5)
    one("imputer_row", "Imputer", floats[0], whole=True, imputed_value_floats=[7.0, 8.0, 9.0], replaced_value_float=NAN)
    one("imputer_cube", "Imputer", floats.reshape(1, 3, 3), imputed_value_floats=[7.0], replaced_value_float=NAN)


def one_hot_encoders():
    ints = np.array([[1, 2], [7, -1], [0, 1]])
    one("one_hot_int", "OneHotEncoder", ints, cats_int64s=[1, 2, 7])
    one("one_hot_distant", "OneHotEncoder", np.array([[2**62], [-5], [3]]), cats_int64s=[-5, 2**62, 2**40])
    one("one_hot_twice", "OneHotEncoder", ints, cats_int64s=[1, 2, 1])
    one("one_hot_all", "OneHotEncoder", ints, cats_int64s=[-1, 0, 1, 2, 7], zeros=0)
    odd = np.array([[1.7], [NAN], [1e30], [-1.2], [-0.5], [-np.inf]])
    for dtype in ("float32", "float64"):
        one(f"one_hot_{dtype}", "OneHotEncoder", odd.astype(dtype), cats_int64s=[1, 0, -1, -(2**63)])
    words = np.array([["a", "b"], ["", "c"], ["é", "a"]], object)
    one("one_hot_text", "OneHotEncoder", words, cats_strings=["a", "é", "b"])
    one("one_hot_text_all", "OneHotEncoder", words, cats_strings=["a", "b", "", "c", "é"], zeros=0)
    one("one_hot_row", "OneHotEncoder", np.array([1, 3]), whole=True, cats_int64s=[1, 2])
    one("one_hot_cube", "OneHotEncoder", ints.reshape(3, 1, 2), cats_int64s=[1, 2])


def vectorizers():
    for dtype in ("float32", "float64", "int64", "int32"):
        xs = [np.arange(6).reshape(2, 3).astype(dtype), np.arange(10, 14).reshape(2, 2).astype(dtype)]
        one(f"vectorizer_{dtype}", "FeatureVectorizer", xs, inputdimensions=[3, 2])
        one(f"vectorizer_odd_{dtype}", "FeatureVectorizer", xs, inputdimensions=[2, 4])
    one("vectorizer_row", "FeatureVectorizer", numbers(3), whole=True, inputdimensions=[5])
    one("vectorizer_cube", "FeatureVectorizer", numbers(2, 3, 2), inputdimensions=[5])


def mappers():
    words = np.array([["a"], ["b"], ["zz"], [""]], object)
    ints = np.array([[0], [1], [2], [9]])
    pairs = {"cats_strings": ["a", "b", "b", ""], "cats_int64s": [1, 2, 3, 2]}
    for name, extra in (("", {}), ("_default", {"default_int64": -9, "default_string": "none"})):
        one(f"mapper_text{name}", "CategoryMapper", words, T.INT64, **pairs, **extra)
        one(f"mapper_int{name}", "CategoryMapper", ints, T.STRING, **pairs, **extra)
        one(f"encoder1_text{name}", "LabelEncoder", words, T.INT64, ml=1, classes_strings=["a", "b", "b"], **extra)
        one(f"encoder1_int{name}", "LabelEncoder", ints, T.STRING, ml=1, classes_strings=["a", "b", "b"], **extra)
    keys = {"strings": ["a", "", "b", "a"], "int64s": [2, 0, 1 << 40, 2], "floats": [1.5, -0.0, NAN, 1.5]}
    values = {"strings": ["x", "y", "z", "u"], "int64s": [4, 5, 6, 7], "floats": [0.5, 1.5, NAN, 2.5]}
    kinds = {"strings": T.STRING, "int64s": T.INT64, "floats": T.FLOAT}
    inputs = {
        "strings": words,
        "int64s": np.array([[0], [2], [1 << 40], [-1]]),
        "floats": np.array([[0.0], [1.5], [NAN], [7]], np.float32),
    }
    for (k, v), ml in itertools.product(itertools.product(keys, values), (2, 4)):
        if k == v == "floats" or ml == 4 or k != v:
            pair = {f"keys_{k}": keys[k], f"values_{v}": values[v]}
            one(f"encoder{ml}_{k}_{v}", "LabelEncoder", inputs[k], kinds[v], ml=ml, **pair)

    def tensor(name, array):
        kind = KINDS[array.dtype.name if array.dtype.kind != "U" else "object"]
        data = [a.encode() for a in array] if kind == T.STRING else array
        return h.make_tensor(name, kind, array.shape, data)

    keys = {"float64": np.array([0.1, NAN, 3.0]), "int64": np.array([1, 2, 3]), "object": np.array(["a", "b", ""])}
    values = {"float64": np.array([0.1, 0.2, 0.3]), "int64": np.array([7, 8, 9]), "object": np.array(["x", "y", "z"])}
    inputs = {"float64": np.array([[0.1], [NAN], [2]]), "int64": np.array([[1], [3], [5]]), "object": words}
    pairs = [(k, v) for k in keys for v in values if "float64" in (k, v)]
    for k, v in pairs:
        for default in (None, values[v][1:2]):
            extra = {} if default is None else {"default_tensor": tensor("d", default)}
            tensors = {"keys_tensor": tensor("k", keys[k]), "values_tensor": tensor("v", values[v])}
            one(f"encoder4_{k}_{v}_{default is None}", "LabelEncoder", inputs[k], KINDS[v], ml=4, **tensors, **extra)
    short = np.array([300, -300, 2], np.int16)
    one("encoder4_int16", "LabelEncoder", words, T.INT16, ml=4, keys_tensor=tensor("k", keys["object"]), values_tensor=tensor("v", short))


def small_operators():
    arrays = [numbers(3, 4), numbers(3, 4).astype(float), np.arange(12).reshape(3, 4)]
    arrays += [np.arange(12, dtype=np.int32).reshape(3, 4), np.array([["a", "b", "c", "é"]] * 3, object)]

    def extract(name, x, picks, whole=False):
        node = h.make_node("ArrayFeatureExtractor", ["X", "picks"], ["Y"], domain=ML)
        kind = KINDS[x.dtype.name]
        shape = list(x.shape) if whole else ["N", *x.shape[1:]]
        picks = numpy_helper.from_array(np.array(picks), "picks")
        add(name, graph([node], [value("X", kind, shape)], [value("Y", kind, None)], [picks]), {"X": x}, whole)

    for x in arrays:
        extract(f"extract_{x.dtype}", x, [3, 0, 3])
    extract("extract_row", arrays[0][0], [1, 2], True)
    extract("extract_cube", numbers(2, 3, 4), [[1], [2]])
    x = np.array([[1e20, 1], [1e-30, 1e-30], [1e-22, 0], [NAN, 1], [np.inf, -1], [-3, 4], [0, -0.0]], np.float32)
    for norm in ("MAX", "L1", "L2"):
        one(f"normalizer_odd_{norm}", "Normalizer", x, norm=norm)
        one(f"normalizer_row_{norm}", "Normalizer", x[5], whole=True, norm=norm)
        one(f"normalizer_wide_{norm}", "Normalizer", numbers(5, 21), norm=norm)
        for dtype in ("float64", "int64", "int32"):
            one(f"normalizer_{norm}_{dtype}", "Normalizer", np.array([[3, -4], [0, 0], [-1, -2]], dtype), norm=norm)
    one("scaler_row", "Scaler", numbers(3), whole=True, offset=[0.1, 0.2, 0.3], scale=[2.0, 3.0, 4.0])
    one("scaler_cube", "Scaler", numbers(2, 3, 2), offset=[0.1], scale=[2.0])
    one("scaler_wide", "Scaler", numbers(5, 21), offset=numbers(21, seed=1), scale=numbers(21, seed=2))
    one("binarizer_row", "Binarizer", numbers(3), whole=True)
    one("binarizer_default", "Binarizer", numbers(5, 21))


def zip_maps():
    x = np.array([[0.2, 0.8], [0.5, 0.5]], np.float32)
    for key, labels, kind in (("int64s", [3, 12], T.INT64), ("strings", ["no", "yes"], T.STRING)):
        node = h.make_node("ZipMap", ["X"], ["Y"], domain=ML, **{f"classlabels_{key}": labels})
        row = h.make_map_type_proto(kind, h.make_tensor_type_proto(T.FLOAT, []))
        output = h.make_value_info("Y", h.make_sequence_type_proto(row))
        add(f"zip_map_{key}", graph([node], [value("X", T.FLOAT, ["N", 2])], [output]), {"X": x})
    add("zip_map_row", graph([node], [value("X", T.FLOAT, [2])], [output]), {"X": x[0]}, True)


def pipelines():
    n = 200
    rng = np.random.default_rng(0)
    plan = rng.choice(["basic", "plus", "pro"], n)
    city = rng.choice(["Berlin", "Köln"], n)
    age = rng.integers(18, 80, n).astype(np.float32)
    spend = rng.normal(30, 9, n).astype(np.float32)
    age[::7] = NAN
    y = np.where((plan == "pro") ^ (spend > 30), "stays", "leaves")
    import pandas as pd

    table = pd.DataFrame({"plan": plan, "city": city, "age": age, "spend": spend})
    feed = {"plan": plan, "city": city, "age": age, "spend": spend}
    feed = {k: v[:9].reshape(-1, 1).astype(object if v.dtype.kind == "U" else np.float32) for k, v in feed.items()}
    types = [(k, StringTensorType([None, 1]) if v.dtype == object else FloatTensorType([None, 1])) for k, v in feed.items()]
    for name, encoder in (
        ("one_hot", OneHotEncoder(handle_unknown="ignore")),
        ("one_hot_strict", OneHotEncoder()),
        ("ordinal", OrdinalEncoder()),
    ):
        columns = ColumnTransformer([
            ("words", encoder, ["plan", "city"]),
            ("numbers", make_pipeline(SimpleImputer(), StandardScaler()), ["age", "spend"]),
        ])
        model = make_pipeline(columns, LogisticRegression()).fit(table, y)
        for zipmap in (False, True):
            options = {id(model): {"zipmap": zipmap}}
            add(f"pipeline_{name}_{zipmap}", to_onnx(model, initial_types=types, options=options), feed)


svm_models()
svm_attributes()
linear_models()
imputers()
one_hot_encoders()
vectorizers()
mappers()
small_operators()
zip_maps()
pipelines()
write("ml.jsonl")
