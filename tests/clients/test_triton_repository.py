"""A repository as Triton's users have it, `config.pbtxt` and all, served unchanged."""

import numpy as np
import pytest
import requests
from conftest import running
from support import models
from support.controls import GrpcControl, HttpControl
from support.models import CLASSES
from support.reference import answer, assert_equal, text
from support.wires import Grpc, Http, Wanted
from tritonclient.utils import InferenceServerException

IRIS = """
name: "iris"  # the folder's name
backend: "onnxruntime"
max_batch_size: 8
input [ { name: "x" data_type: TYPE_FP32 dims: [ 4 ] } ]
output [
  { name: "p", data_type: TYPE_FP32, dims: [ 3 ], label_filename: "labels.txt" },
  { name: "best", data_type: TYPE_INT64, dims: [ 1 ], reshape { shape: [ ] } }
]
instance_group [ { kind: KIND_CPU count: 2 } ]
dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100 }
parameters { key: "team" value: { string_value: "flowers" } }
model_warmup {
  name: "zeros" batch_size: 1
  inputs { key: "x" value: { data_type: TYPE_FP32 dims: [ 4 ] zero_data: true } }
}
"""
HALF = """
platform: "onnxruntime_onnx"
max_batch_size: 0
input { name: "x" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ -1 ] }
version_policy: { specific { versions: [ 1, 3 ] } }
"""
ENSEMBLE = 'platform: "ensemble"\nensemble_scheduling { step [ ] }\n'


def triton(repository):
    models.samples(repository)
    models.put(repository, "iris", models.perceptron())
    (repository / "iris" / "config.pbtxt").write_text(IRIS)
    (repository / "iris" / "labels.txt").write_text("\n".join(CLASSES) + "\n")
    for version in (1, 2, 3):
        models.put(repository, "half", models.half_plus(float(version)), version)
    (repository / "half" / "config.pbtxt").write_text(HALF)
    models.put(repository, "several", models.half_plus(1.0))
    (repository / "several" / "config.pbtxt").write_text(ENSEMBLE)
    # Without a file, as Triton completes it by itself.
    models.put(repository, "bare", models.half_plus(2.0))


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    folder = tmp_path_factory.mktemp("triton")
    with running(folder, triton, ADMIN_TRITON_METRICS="on") as gateway:
        yield gateway


@pytest.fixture(params=[(HttpControl, Http), (GrpcControl, Grpc)], ids=lambda pair: pair[0].name)
def both(request, own):
    control, wire = request.param
    return control(own), wire(own)


def test_it_answers(both, own, rng):
    _, wire = both
    x = rng.normal(size=(8, 4)).astype("f4")
    expected = answer(own.models, "iris", {"x": x})
    # The file reshapes it: a client sees what it declares.
    expected["best"] = expected["best"].reshape(8, 1)
    assert_equal(wire.infer("iris", {"x": x}).arrays, expected)
    for model in ("half", "bare"):
        expected = {"half": 4.0, "bare": 3.0}[model]
        got = wire.infer(model, {"x": np.array([2.0], "f4")})
        assert got.arrays["y"].tolist() == [expected]


def test_the_batch_size_is_a_limit(both, rng):
    _, wire = both
    with pytest.raises(InferenceServerException, match="8"):
        wire.infer("iris", {"x": rng.normal(size=(9, 4)).astype("f4")})


def test_labels_come_from_the_label_file(both, own, rng):
    _, wire = both
    x = rng.normal(size=(2, 4)).astype("f4")
    best = answer(own.models, "iris", {"x": x})["best"]
    got = wire.infer("iris", {"x": x}, [Wanted("p", 1)]).arrays["p"]
    labels = [text(entry).decode().split(":")[2] for entry in got.flat]
    assert labels == [CLASSES[index] for index in best]


def test_the_version_policy_holds(both):
    control, wire = both
    assert control.read("get_model_metadata", "half")["versions"] == ["1", "3"]
    assert wire.infer("half", {"x": np.array([2.0], "f4")}).version == "3"
    with pytest.raises(InferenceServerException):
        wire.infer("half", {"x": np.array([2.0], "f4")}, model_version="2")


def test_the_configuration_is_what_was_written(both):
    control, _ = both
    config = control.config("iris")
    assert config["max_batch_size"] == 8
    assert config["dynamic_batching"]["max_queue_delay_microseconds"] == 100
    assert config["parameters"]["team"]["string_value"] == "flowers"
    assert [(t["name"], t["dims"]) for t in config["input"]] == [("x", [4])]


def test_what_would_change_answers_refuses_the_model(both):
    control, _ = both
    assert control.call("is_model_ready", "several") is False
    assert control.call("is_server_live") is True
    reasons = [e.get("reason", "") for e in control.index() if e["name"] == "several"]
    assert any("ensemble" in reason for reason in reasons)


def test_the_metrics_that_dashboards_read(own, rng):
    for wire in (Http(own), Grpc(own)):
        wire.infer("iris", {"x": rng.normal(size=(3, 4)).astype("f4")})
    metrics = requests.get(f"{own.admin}/metrics", timeout=30).text
    series = {}
    for line in metrics.splitlines():
        name, _, rest = line.partition("{")
        if name.startswith("nv_inference_") and 'model="iris"' in rest:
            series[name] = float(rest.rpartition(" ")[2])
    assert series["nv_inference_request_success"] >= 2
    assert series["nv_inference_count"] >= 6
    assert 0 < series["nv_inference_exec_count"] <= series["nv_inference_request_success"]
    for part in ("request", "queue", "compute_input", "compute_infer", "compute_output"):
        assert f"nv_inference_{part}_duration_us" in series
