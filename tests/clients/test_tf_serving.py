"""TensorFlow Serving's REST API, called as its documentation does."""

import base64

import numpy as np
import pytest
import requests
from support.reference import answer


def url(gateway, rest):
    return f"{gateway.http}/v1/models/{rest}"


def predict(gateway, model, body):
    return requests.post(url(gateway, f"{model}:predict"), json=body, timeout=30)


def test_the_documented_example(gateway):
    reply = predict(gateway, "half_plus_two", {"instances": [1.0, 2.0, 5.0]})
    assert reply.status_code == 200
    assert reply.json() == {"predictions": [2.5, 3.0, 4.5]}


def test_columns(gateway):
    reply = predict(gateway, "half_plus_two", {"inputs": [1.0, 2.0, 5.0]})
    assert reply.json() == {"outputs": [2.5, 3.0, 4.5]}


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("half_plus", 3.0),
        ("half_plus/versions/1", 3.0),
        ("half_plus/versions/2", 4.0),
        ("half_plus/labels/champion", 3.0),
        ("half_plus/labels/canary", 4.0),
    ],
)
def test_versions_and_labels(gateway, path, expected):
    reply = predict(gateway, path, {"signature_name": "serving_default", "instances": [2.0]})
    assert reply.json() == {"predictions": [expected]}


def test_rows_of_several_inputs_are_objects(gateway, rng):
    inputs = {"a": rng.normal(size=(3, 2)).astype("f4"), "b": rng.integers(-9, 9, size=(3, 2))}
    rows = [{"a": a.tolist(), "b": b.tolist()} for a, b in zip(*inputs.values(), strict=True)]
    expected = answer(gateway.models, "pair", inputs)
    predictions = predict(gateway, "pair", {"instances": rows}).json()["predictions"]
    for name, want in expected.items():
        np.testing.assert_allclose([row[name] for row in predictions], want, rtol=1e-5)
    body = {"inputs": {name: array.tolist() for name, array in inputs.items()}}
    outputs = predict(gateway, "pair", body).json()["outputs"]
    for name, want in expected.items():
        np.testing.assert_allclose(outputs[name], want, rtol=1e-5)


def test_bytes_travel_as_base64(gateway):
    cells = ["grüße".encode(), b"plain", b""]
    row = [{"b64": base64.b64encode(cell).decode()} for cell in cells]
    reply = predict(gateway, "echo_bytes", {"instances": [row]})
    assert reply.status_code == 200, reply.text
    (back,) = reply.json()["predictions"]
    decoded = [
        base64.b64decode(cell["b64"]) if isinstance(cell, dict) else cell.encode() for cell in back
    ]
    assert decoded == cells


def test_status(gateway):
    reply = requests.get(url(gateway, "half_plus_two"), timeout=30)
    assert reply.json()["model_version_status"] == [
        {
            "version": "1",
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        }
    ]
    both = requests.get(url(gateway, "half_plus"), timeout=30).json()["model_version_status"]
    assert sorted(entry["version"] for entry in both) == ["1", "2"]
    for path in ("half_plus/versions/2", "half_plus/labels/canary"):
        one = requests.get(url(gateway, path), timeout=30).json()
        assert [entry["version"] for entry in one["model_version_status"]] == ["2"]


def test_the_list_of_models(gateway):
    for version in ("v1", "v2"):
        models = requests.get(f"{gateway.http}/{version}/models", timeout=30).json()["models"]
        assert {"churn", "half_plus", "half_plus_two"} <= set(models)
    assert requests.get(gateway.http, timeout=30).json() == {"status": "alive"}


def test_metadata(gateway):
    reply = requests.get(url(gateway, "half_plus_two/metadata"), timeout=30).json()
    spec = reply["model_spec"]
    assert (spec["name"], spec["version"]) == ("half_plus_two", "1")
    default = reply["metadata"]["signature_def"]["signature_def"]["serving_default"]
    assert default["inputs"]["x"]["dtype"] == "DT_FLOAT"
    sizes = [dim["size"] for dim in default["inputs"]["x"]["tensor_shape"]["dim"]]
    assert sizes == ["-1"]
    assert list(default["outputs"]) == ["y"]
    for path in ("half_plus/versions/2/metadata", "half_plus/labels/canary/metadata"):
        reply = requests.get(url(gateway, path), timeout=30).json()
        assert reply["model_spec"]["version"] == "2"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("nobody:predict", {"instances": [1.0]}, 404),
        ("half_plus_two/versions/9:predict", {"instances": [1.0]}, 404),
        ("half_plus_two/labels/best:predict", {"instances": [1.0]}, None),
        ("half_plus_two:predict", {"instances": ["one"]}, 400),
        ("half_plus_two:predict", {"rows": [1.0]}, 400),
        ("half_plus_two:predict", {"instances": [1.0], "inputs": [1.0]}, 400),
    ],
)
def test_errors_name_the_fault(gateway, path, body, status):
    reply = requests.post(url(gateway, path), json=body, timeout=30)
    assert reply.status_code in ([status] if status else [400, 404])
    assert reply.json()["error"]


def test_classify_and_regress_are_refused_aloud(gateway):
    for verb in ("classify", "regress"):
        body = {"examples": [{"x": 1.0}]}
        reply = requests.post(url(gateway, f"half_plus_two:{verb}"), json=body, timeout=30)
        assert reply.status_code in (400, 501)
        assert "predict" in reply.json()["error"]
