"""Health, metadata, configuration, statistics and the repository's index."""

import numpy as np
import pytest
from support.controls import GrpcControl, HttpControl
from support.models import CLASSES, DATATYPES
from support.wires import Grpc, Http
from tritonclient.utils import InferenceServerException


@pytest.fixture(params=[HttpControl, GrpcControl], ids=lambda control: control.name)
def control(request, gateway):
    return request.param(gateway)


def test_health(control):
    assert control.call("is_server_live") is True
    assert control.call("is_server_ready") is True


def test_readiness_of_models(control):
    assert control.call("is_model_ready", "churn") is True
    assert control.call("is_model_ready", "churn", "2") is True
    for model, version in (("churn", "9"), ("nobody", ""), ("nobody", "1")):
        assert control.call("is_model_ready", model, version) is False


def test_server_metadata(control):
    server = control.read("get_server_metadata")
    assert server["name"] == "foreshadow"
    assert server["version"]
    promised = {"binary_tensor_data", "classification", "statistics", "model_configuration"}
    assert promised <= set(server["extensions"])
    # What is not there is not promised.
    assert not {"sequence", "system_shared_memory", "cuda_shared_memory"} & set(server["extensions"])


@pytest.mark.parametrize("datatype", DATATYPES)
def test_model_metadata(control, datatype):
    name = f"echo_{datatype.lower()}"
    model = control.read("get_model_metadata", name)
    assert (model["name"], model["versions"]) == (name, ["1"])
    assert model["platform"]
    for side, tensor in (("inputs", "x"), ("outputs", "y")):
        assert [(t["name"], t["datatype"], t["shape"]) for t in model[side]] == [
            (tensor, datatype, [-1, 3])
        ]


def test_metadata_of_a_version(control):
    assert control.read("get_model_metadata", "churn", "2")["versions"] == ["2"]
    assert control.read("get_model_metadata", "churn")["versions"] == ["1", "2", "3"]
    with pytest.raises(InferenceServerException):
        control.read("get_model_metadata", "churn", "9")


def test_configuration(control):
    config = control.config("flower")
    assert config["name"] == "flower"
    assert config["max_batch_size"] > 0
    assert config["backend"] == "onnxruntime" or config["platform"]
    # With a batch size, the dimensions are those of a row.
    assert [(t["name"], t["data_type"], t["dims"]) for t in config["input"]] == [
        ("x", "TYPE_FP32", [4])
    ]
    outputs = [(t["name"], t["data_type"], t.get("dims", [])) for t in config["output"]]
    assert outputs[1] == ("probabilities", "TYPE_FP32", [len(CLASSES)])
    fixed = control.config("transpose")
    assert fixed.get("max_batch_size", 0) == 0
    assert [t["dims"] for t in fixed["input"]] == [[2, 3]]


def test_statistics_count_rows_and_runs(control, gateway, rng):
    def of_model():
        (model,) = control.read("get_inference_statistics", "heavy")["model_stats"]
        assert (model["name"], model["version"]) == ("heavy", "1")
        success = model.get("inference_stats", {}).get("success", {})
        return model.get("inference_count", 0), success.get("count", 0), success.get("ns", 0)

    before = of_model()
    for wire, rows in ((Http(gateway), 3), (Grpc(gateway), 2)):
        wire.infer("heavy", {"x": rng.normal(size=(rows, 256)).astype("f4")})
    after = of_model()
    assert after[0] - before[0] == 5
    assert after[1] - before[1] == 2
    assert after[2] > before[2]


def test_statistics_count_failures(control, gateway):
    def failures():
        (model,) = control.read("get_inference_statistics", "transpose", "1")["model_stats"]
        return model.get("inference_stats", {}).get("fail", {}).get("count", 0)

    before = failures()
    for wire in (Http(gateway), Grpc(gateway)):
        with pytest.raises(InferenceServerException):
            wire.infer("transpose", {"x": np.zeros((3, 3))})
    assert failures() - before == 2


def test_statistics_of_all_models_are_whole(control):
    models = control.read("get_inference_statistics")["model_stats"]
    assert {("churn", "1"), ("churn", "2"), ("churn", "3"), ("pair", "1")} <= {
        (model["name"], model["version"]) for model in models
    }


def test_statistics_have_every_key_that_dashboards_read(gateway):
    (model,) = HttpControl(gateway).read("get_inference_statistics", "pair")["model_stats"]
    parts = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
    for part in (*parts, "cache_hit", "cache_miss"):
        assert set(model["inference_stats"][part]) == {"count", "ns"}, part
    assert isinstance(model["inference_count"], int)
    assert isinstance(model["execution_count"], int)


def test_index(control):
    index = {(entry["name"], entry.get("version", "")): entry for entry in control.index()}
    assert index["churn", "2"]["state"] == "READY"
    assert {f"echo_{datatype.lower()}" for datatype in DATATYPES} <= {name for name, _ in index}


def test_both_protocols_describe_a_model_alike(gateway):
    http, grpc = HttpControl(gateway), GrpcControl(gateway)
    for name in ("flower", "pair", "transpose"):
        own = http.read("get_model_metadata", name)
        # gRPC's message has no room for what is ours alone.
        common = {key: own[key] for key in ("name", "versions", "platform")}
        other = grpc.read("get_model_metadata", name)
        assert {key: other[key] for key in common} == common
        for side in ("inputs", "outputs"):
            keys = ("name", "datatype", "shape")
            assert [[t[k] for k in keys] for t in own[side]] == [
                [t[k] for k in keys] for t in other[side]
            ]
