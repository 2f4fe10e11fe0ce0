"""Loading and unloading by the clients, on a gateway of their own."""

import numpy as np
import pytest
from conftest import running
from support import models
from support.controls import GrpcControl, HttpControl
from support.reference import answer, assert_equal
from support.wires import Grpc, Http
from tritonclient.utils import InferenceServerException


def few(repository):
    models.samples(repository)
    models.put(repository, "perceptron", models.perceptron())
    models.put(repository, "pair", models.pair())


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    with running(tmp_path_factory.mktemp("own"), few, REPOSITORY_LOAD_UNLOAD="on") as gateway:
        yield gateway


PAIRS = [(HttpControl, Http), (GrpcControl, Grpc)]


@pytest.fixture(params=PAIRS, ids=lambda pair: pair[0].name)
def steering(request, own):
    control, wire = request.param
    return control(own), wire(own)


def state(control, name):
    return {entry["name"]: entry["state"] for entry in control.index()}[name]


def test_unload_and_load(steering, own, rng):
    control, wire = steering
    x = rng.normal(size=(2, 4)).astype("f4")
    control.call("unload_model", "perceptron")
    assert control.call("is_model_ready", "perceptron") is False
    assert state(control, "perceptron") == "UNAVAILABLE"
    with pytest.raises(InferenceServerException):
        wire.infer("perceptron", {"x": x})
    # The others go on, and so does the server.
    assert control.call("is_server_ready") is True
    assert control.call("is_model_ready", "pair") is True
    control.call("load_model", "perceptron")
    assert control.call("is_model_ready", "perceptron") is True
    assert state(control, "perceptron") == "READY"
    got = wire.infer("perceptron", {"x": x})
    assert_equal(got.arrays, answer(own.models, "perceptron", {"x": x}))


def test_a_new_model_is_there_once_it_is_loaded(steering, own):
    control, wire = steering
    name = f"late_{control.name}"
    models.put(own.models, name, models.half_plus(1.0))
    control.call("load_model", name)
    got = wire.infer(name, {"x": np.array([2.0], "f4")})
    np.testing.assert_array_equal(got.arrays["y"], np.array([2.0], "f4"))


def test_what_is_not_there_cannot_be_loaded(steering):
    control, _ = steering
    with pytest.raises(InferenceServerException, match="nobody"):
        control.call("load_model", "nobody")
    with pytest.raises(InferenceServerException, match="nobody"):
        control.call("unload_model", "nobody")


def test_a_configuration_cannot_be_sent_along(steering):
    control, _ = steering
    with pytest.raises(InferenceServerException, match="config"):
        control.call("load_model", "pair", config='{"max_batch_size": 4}')


def test_who_was_not_allowed_changes_nothing(gateway):
    for control in (HttpControl(gateway), GrpcControl(gateway)):
        with pytest.raises(InferenceServerException):
            control.call("unload_model", "pair")
        assert control.call("is_model_ready", "pair") is True
