"""From a fitted scikit-learn estimator to a version folder of the repository.

Everything written here is stable: the same estimator gives the same bytes, so
that a version can be pinned by the digest of its artifact.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from sklearn.metrics import accuracy_score, log_loss, roc_auc_score
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType

SIZE_MAX = 200_000
GOLDEN_TOLERANCE = 1e-4
TARGET_OPSET = {"": 17, "ai.onnx.ml": 3}
OUTPUTS = ("label", "probabilities")


@dataclass
class Dataset:
    """Rows of features, float32 [N, F], and a class for each, int64 [N]."""

    x: np.ndarray
    y: np.ndarray

    def digest(self) -> str:
        """SHA-256 over the features' and then the classes' little-endian bytes."""
        digest = hashlib.sha256(self.x.astype("<f4").tobytes())
        digest.update(self.y.astype("<i8").tobytes())
        return f"sha256:{digest.hexdigest()}"


@dataclass
class Version:
    """One fitted estimator and what is known of where it comes from."""

    number: int
    estimator: Any
    trained_on: Dataset
    # What its author measured it on, which need not be the truth.
    evaluated_on: Dataset
    lineage: dict[str, str | int]


@dataclass
class Sample:
    """One model of the repository: its versions and the rows it is shown with."""

    name: str
    versions: list[Version]
    # What `POST /predict` takes, held out from training.
    instances: list[Any]
    # Held-out rows with expected outputs, in `golden.json`.
    golden_rows: np.ndarray
    # Rows on which a retrained version must answer like the committed one.
    check_rows: np.ndarray
    # The truth: held-out data without the flaws of anybody's export.
    truth: Dataset = field(repr=False)


def to_bytes(name: str, version: Version) -> bytes:
    """The estimator as ONNX: input `input` [N, F]; outputs `label` [N], `probabilities` [N, C]."""
    width = version.trained_on.x.shape[1]
    model = to_onnx(
        version.estimator,
        initial_types=[("input", FloatTensorType([None, width]))],
        options={id(version.estimator): {"zipmap": False}},
        target_opset=TARGET_OPSET,
    )
    # The converter names every graph at random.
    model.graph.name = f"{name}-{version.number}"
    del model.metadata_props[:]
    # It also names opsets twice, and in an order of its own.
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(*opset) for opset in TARGET_OPSET.items())
    rename_outputs(model.graph)
    classes = len(np.unique(version.trained_on.y))
    set_shape(model.graph.input[0], width)
    set_shape(model.graph.output[0], None)
    set_shape(model.graph.output[1], classes)
    onnx.checker.check_model(model, full_check=True)
    artifact = model.SerializeToString(deterministic=True)
    if len(artifact) > SIZE_MAX:
        raise ValueError(f"{name} {version.number} has {len(artifact)} bytes, more than {SIZE_MAX}")
    return artifact


def rename_outputs(graph: onnx.GraphProto) -> None:
    """Gives the outputs the names of OUTPUTS, whatever the converter called them."""
    taken = {value for node in graph.node for value in (*node.input, *node.output)}
    for output, name in zip(graph.output, OUTPUTS, strict=True):
        if output.name == name:
            continue
        names = {output.name: name}
        if name in taken:
            names[name] = f"{name}_inner"
        for node in graph.node:
            node.input[:] = [names.get(value, value) for value in node.input]
            node.output[:] = [names.get(value, value) for value in node.output]
        output.name = name


def set_shape(value: onnx.ValueInfoProto, width: int | None) -> None:
    """Shape [N] or [N, width], where N is one symbol for the whole graph."""
    tensor = value.type.tensor_type
    tensor.ClearField("shape")
    tensor.shape.dim.add().dim_param = "N"
    if width is not None:
        tensor.shape.dim.add().dim_value = width


def answers(artifact: bytes, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Labels [N] and probabilities [N, C] that onnxruntime gives for rows [N, F]."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        artifact, options, providers=["CPUExecutionProvider"]
    )
    label, probabilities = session.run(list(OUTPUTS), {"input": rows})
    return label, probabilities


def quality(artifact: bytes, data: Dataset) -> dict[str, float]:
    """Accuracy, log loss and, for two classes, the area under the ROC curve."""
    label, probabilities = answers(artifact, data.x)
    scores = probabilities.astype(np.float64)
    scores /= scores.sum(axis=1, keepdims=True)
    figures = {
        "accuracy": accuracy_score(data.y, label),
        "log_loss": log_loss(data.y, scores, labels=range(scores.shape[1])),
    }
    if scores.shape[1] == 2:
        figures["auc"] = roc_auc_score(data.y, scores[:, 1])
    return {name: round(float(value), 4) for name, value in sorted(figures.items())}


def write(folder: Path, sample: Sample, code_commit: str | None) -> None:
    """Writes every version of a sample, and the rows it is shown with."""
    root = folder / sample.name
    for version in sample.versions:
        artifact = to_bytes(sample.name, version)
        home = root / str(version.number)
        home.mkdir(parents=True, exist_ok=True)
        (home / "model.onnx").write_bytes(artifact)
        write_text(home / "golden.json", golden(artifact, sample.golden_rows))
        # Last, because it names the artifact's digest: whoever watches the
        # folder can then tell that the artifact is whole.
        write_text(home / "version.toml", version_toml(version, artifact, code_commit))
    rows = ",\n".join(f"  {json.dumps(row)}" for row in sample.instances)
    write_text(root / "sample.json", f'{{"instances": [\n{rows}\n]}}\n')


def write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8", newline="\n")


def version_toml(version: Version, artifact: bytes, code_commit: str | None) -> str:
    """The lineage of a version. JSON's strings and integers are TOML's too."""
    facts: dict[str, str | int] = dict(version.lineage)
    if code_commit is not None:
        facts["code_commit"] = code_commit
    facts["data_digest"] = version.trained_on.digest()
    facts["artifact_digest"] = f"sha256:{hashlib.sha256(artifact).hexdigest()}"
    lines = [f"{key} = {json.dumps(value, ensure_ascii=False)}" for key, value in facts.items()]
    lines += ["", "[metrics]"]
    figures = quality(artifact, version.evaluated_on)
    lines += [f"{name} = {value}" for name, value in figures.items()]
    return "\n".join(lines) + "\n"


def golden(artifact: bytes, rows: np.ndarray) -> str:
    """One request with a single row, and one with the others."""
    cases = [golden_case(artifact, part) for part in (rows[:1], rows[1:])]
    body = ",\n".join(f"    {json.dumps(case)}" for case in cases)
    return f'{{\n  "tolerance": {GOLDEN_TOLERANCE},\n  "cases": [\n{body}\n  ]\n}}\n'


def golden_case(artifact: bytes, rows: np.ndarray) -> dict[str, Any]:
    label, probabilities = answers(artifact, rows)
    outputs = [tensor(OUTPUTS[0], "INT64", label), tensor(OUTPUTS[1], "FP32", probabilities)]
    return {"inputs": [tensor("input", "FP32", rows)], "outputs": outputs}


def tensor(name: str, datatype: str, values: np.ndarray) -> dict[str, Any]:
    """A tensor in the form of the Open Inference Protocol, data flat and row-major."""
    flat = values.ravel()
    # The shortest decimal that gives the same float32 back.
    data = [float(str(v)) if datatype == "FP32" else int(v) for v in flat]
    return {"name": name, "shape": list(values.shape), "datatype": datatype, "data": data}
