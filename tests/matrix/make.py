"""Trains the matrix's models, exports them, and asks onnxruntime about 1,000
rows of each; `lines.py` says which models.

The layout is the one of ONNX's backend tests: DIR/<group>/<name>/model.onnx
beside test_data_set_<i>/input_<j>.pb and output_<j>.pb. Set 0 holds all rows,
set 1 the first row alone, set 2 the next seven. A model that cannot be
exported, or that onnxruntime does not run, leaves its reason in not_made.txt.

    pip install -r requirements.txt && python make.py DIR [--only TEXT]
"""

import argparse
import pathlib
import shutil
import sys
import tempfile
import time
import warnings

import numpy as np
import onnx
import onnxruntime
import pandas as pd
import skl2onnx
from onnx import numpy_helper
from sklearn.base import BaseEstimator, clone
from skl2onnx._supported_operators import sklearn_operator_name_map
from skl2onnx.common._registration import get_converter
from skl2onnx.common.data_types import (
    DoubleTensorType,
    FloatTensorType,
    Int64TensorType,
    StringTensorType,
)

import data
from lines import LEFT_OUT, LINES

# The newest that every converter knows.
OPSETS = {"": 21, "ai.onnx.ml": 3}
SUITE = """\
name = "matrix"
title = "Exported models (scikit-learn {sklearn}, skl2onnx {skl2onnx}, XGBoost {xgboost}, LightGBM {lightgbm}, CatBoost {catboost}) against onnxruntime {onnxruntime}"

[tolerance]
relative = 1e-5
column_size = true
label_ties = true
"""


def plain_attributes():
    """Lets onnx take NumPy's whole numbers and booleans as attributes, which
    skl2onnx's converter of histogram boosting hands it."""
    make = onnx.helper.make_attribute

    def made(key, value, *args, **kwargs):
        if isinstance(value, list):
            value = [int(item) if isinstance(item, (bool, np.bool_, np.integer)) else item for item in value]
        return make(key, value, *args, **kwargs)

    onnx.helper.make_attribute = made


def modules(model):
    """The libraries that a model's parts come from, and the parts."""
    parts, stack = [], [model]
    while stack:
        part = stack.pop()
        if isinstance(part, (list, tuple)):
            stack.extend(part)
        elif isinstance(part, BaseEstimator) or hasattr(part, "get_params"):
            parts.append(part)
            params = part.get_params(deep=False) if not isinstance(part, type) else {}
            stack.extend(params.values())
    return parts, {type(part).__module__.split(".")[0] for part in parts}


def name_of(model, options):
    if "name" in options:
        name = options["name"]
    else:
        parts, _ = modules(model)
        ours = [type(part).__name__ for part in parts]
        steps = [type(step).__name__ for _, step in getattr(model, "steps", [])]
        name = "-".join(steps) if steps else ours[0]
    return name + ("-zipmap" if options.get("zipmap") else "")


def group_of(model):
    _, libraries = modules(model)
    boosters = libraries & {"xgboost", "lightgbm", "catboost"}
    return boosters.pop() if boosters else "sklearn"


def types_of(x):
    kinds = {"f": FloatTensorType, "i": Int64TensorType}
    if isinstance(x, pd.DataFrame):
        kind = lambda column: kinds.get(column.dtype.kind, StringTensorType)([None, 1])
        return [(name, kind(x[name])) for name in x.columns]
    if x.dtype == np.float64:
        return [("X", DoubleTensorType([None, x.shape[1]]))]
    if x.dtype.kind in "OU":
        return [("X", StringTensorType([None, x.shape[1]]))]
    return [("X", kinds[x.dtype.kind]([None, x.shape[1]]))]


def convert(model, x, options):
    """The exported model, by the tool that the library's users are told to use."""
    parts, libraries = modules(model)
    if "catboost" in libraries:
        with tempfile.TemporaryDirectory() as folder:
            path = f"{folder}/model.onnx"
            model.save_model(path, format="onnx")
            return onnx.load(path)
    if type(model).__module__.startswith("xgboost"):
        from onnxmltools import convert_xgboost
        from onnxmltools.convert.common.data_types import FloatTensorType as Floats

        return convert_xgboost(model, initial_types=[("X", Floats([None, x.shape[1]]))])
    if type(model).__module__.startswith("lightgbm"):
        from onnxmltools import convert_lightgbm
        from onnxmltools.convert.common.data_types import FloatTensorType as Floats

        return convert_lightgbm(
            model, initial_types=[("X", Floats([None, x.shape[1]]))], zipmap=options.get("zipmap", False)
        )
    register_boosters(libraries)
    last = model.steps[-1][1] if hasattr(model, "steps") else model
    chosen = dict(options.get("export", {}))
    if allows_zipmap(last):
        chosen["zipmap"] = options.get("zipmap", False)
    return skl2onnx.to_onnx(
        model, initial_types=types_of(x), options={id(last): chosen} if chosen else None,
        target_opset=options.get("opset", OPSETS),
    )


def allows_zipmap(model):
    """Whether skl2onnx ends this model with a ZipMap unless told otherwise."""
    alias = sklearn_operator_name_map.get(type(model))
    if alias is None:
        return True  # registered by register_boosters
    return "zipmap" in (get_converter(alias).get_allowed_options() or {})


def register_boosters(libraries):
    """Tells skl2onnx of XGBoost's classifier, for pipelines."""
    if "xgboost" in libraries:
        from onnxmltools.convert.xgboost.operator_converters.XGBoost import convert_xgboost
        from skl2onnx import update_registered_converter
        from skl2onnx.common.shape_calculator import calculate_linear_classifier_output_shapes
        from xgboost import XGBClassifier

        update_registered_converter(
            XGBClassifier, "XGBoostXGBClassifier", calculate_linear_classifier_output_shapes,
            convert_xgboost, options={"nocl": [True, False], "zipmap": [True, False, "columns"]},
        )


def feed_of(x, first, last, names):
    if isinstance(x, pd.DataFrame):
        return {name: x[name].to_numpy()[first:last].reshape(-1, 1) for name in names}
    (name,) = names
    return {name: x[first:last]}


def proto(name, value):
    if isinstance(value, list) and isinstance(value[0], dict):
        # ZipMap: the values, in the order of the keys, as the gateway gives them.
        value = np.array([list(row.values()) for row in value], np.float32)
    if isinstance(value, list):
        return numpy_helper.from_list(value, name)
    return numpy_helper.from_array(value, name)


def make(folder, model, chosen, options):
    x, y = getattr(data, chosen)()
    training = x[: data.TRAINING_ROWS]
    texts = training.ravel() if chosen == "texts" else training
    model.fit(texts, None if y is None else y[: data.TRAINING_ROWS])
    exported = convert(model, training, options)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 4
    bytes = exported.SerializeToString()
    session = onnxruntime.InferenceSession(bytes, settings, providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    outputs = [value.name for value in session.get_outputs()]
    start = data.TRAINING_ROWS
    sets = []
    for first, last in [(start, start + data.ROWS), (start, start + 1), (start + 1, start + 8)]:
        feed = feed_of(x, first, last, names)
        sets.append((feed, session.run(None, feed)))
    (folder / "model.onnx").write_bytes(bytes)
    for i, (feed, answers) in enumerate(sets):
        (folder / f"test_data_set_{i}").mkdir()
        for side, values in ("input", feed.items()), ("output", zip(outputs, answers)):
            for j, (name, value) in enumerate(values):
                path = folder / f"test_data_set_{i}" / f"{side}_{j}.pb"
                path.write_bytes(proto(name, value).SerializeToString())


def cases():
    """(group/name, model, data set, options), every name once."""
    seen = set()
    for model, sets, *rest in LINES:
        options = rest[0] if rest else {}
        for chosen in sets.split(", "):
            name = f"{group_of(model)}/{name_of(model, options)}-{chosen}"
            if name in seen:
                sys.exit(f"two lines are called {name}: give one a name")
            seen.add(name)
            yield name, model, chosen, options


def forgotten():
    """Estimators with a converter, but without a line."""
    used = {type(part).__name__ for model, *_ in LINES for part in modules(model)[0]}
    known = {kind.__name__ for kind in sklearn_operator_name_map}
    return sorted(known - used - set(LEFT_OUT))


def versions():
    import catboost, lightgbm, sklearn, xgboost

    libraries = [catboost, lightgbm, onnxruntime, skl2onnx, sklearn, xgboost]
    return {library.__name__: library.__version__ for library in libraries}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--only", default="", help="models whose name contains this")
    args = parser.parse_args()
    if missing := forgotten():
        sys.exit(f"these have a converter, but no line in lines.py: {', '.join(missing)}")
    warnings.simplefilter("ignore")
    plain_attributes()
    shutil.rmtree(args.out, ignore_errors=True)
    args.out.mkdir(parents=True)
    (args.out / "suite.toml").write_text(SUITE.format(**versions()))
    started, made, not_made = time.monotonic(), 0, 0
    for name, model, chosen, options in cases():
        if args.only not in name:
            continue
        folder = args.out / name
        folder.mkdir(parents=True)
        try:
            make(folder, clone(model), chosen, options)
            made += 1
        except Exception as error:
            shutil.rmtree(folder)
            folder.mkdir()
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            (folder / "not_made.txt").write_text(f"{type(error).__name__}: {(lines or [''])[0]}"[:160] + "\n")
            not_made += 1
            print(f"{name}: not made: {type(error).__name__}: {error}"[:400], file=sys.stderr)
    print(f"{made} models in {args.out}, {not_made} not made, in {time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
