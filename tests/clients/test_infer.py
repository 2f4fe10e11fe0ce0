"""Inference over every public client; every number is compared with onnxruntime's."""

import numpy as np
import pytest
from support.models import CLASSES, DATATYPES
from support.reference import answer, assert_equal, text
from support.wires import Wanted
from tritonclient.utils import InferenceServerException


def values(datatype: str, rng: np.random.Generator, rows: int = 4) -> np.ndarray:
    """Rows of three, extremes among them."""
    dtype = DATATYPES[datatype][1]
    shape = (rows, 3)
    if datatype == "BOOL":
        return rng.integers(0, 2, shape).astype(dtype)
    if datatype == "BYTES":
        words = ["", "a", "grüße", "日本", "\u0000", 'quote " and \\', "x" * 300, "\n", "🦀"]
        return rng.choice(np.array(words, dtype=object), shape)
    if dtype.kind == "f":
        limits = np.finfo(dtype)
        edges = [limits.max, limits.min, limits.tiny, limits.smallest_subnormal, -0.0, 1 / 3]
    else:
        limits = np.iinfo(dtype)
        edges = [limits.max, limits.min, limits.max - 1, limits.min + 1, 0, 1]
    return rng.choice(np.array(edges, dtype=dtype), shape)


@pytest.mark.parametrize("datatype", DATATYPES)
def test_every_datatype_comes_back(gateway, wire, rng, datatype):
    model = f"echo_{datatype.lower()}"
    x = values(datatype, rng)
    if wire.json and datatype == "FP16":
        # The protocol has it in binary form only.
        with pytest.raises(InferenceServerException, match="FP16 has no JSON form"):
            wire.infer(model, {"x": x})
        return
    got = wire.infer(model, {"x": x})
    assert (got.model, got.version) == (model, "1")
    assert_equal(got.arrays, answer(gateway.models, model, {"x": x}))
    if datatype != "BYTES":
        # To the bit: a comparison by value takes 0 for -0.
        assert got.arrays["y"].tobytes() == x.tobytes()


def test_strings_are_utf8_as_onnx_has_them(protocol):
    x = np.array([[b"a", b"\xff\xfe", b""]], dtype=object)
    with pytest.raises(InferenceServerException, match="element 1: .*utf-8") as caught:
        protocol.infer("echo_bytes", {"x": x})
    assert caught.value.status() in ("400", "StatusCode.INVALID_ARGUMENT")


@pytest.mark.parametrize("rows", [1, 2, 65])
def test_a_network_answers_as_onnxruntime_does(gateway, wire, rng, rows):
    x = rng.normal(size=(rows, 4)).astype("f4")
    got = wire.infer("perceptron", {"x": x})
    assert_equal(got.arrays, answer(gateway.models, "perceptron", {"x": x}))


@pytest.mark.parametrize("version", [1, 2, 3])
def test_the_sample_churn_answers_as_onnxruntime_does(gateway, wire, rng, version):
    x = rng.uniform(0, 40, size=(5, 12)).astype("f4")
    got = wire.infer("churn", {"input": x}, model_version=str(version))
    assert got.version == str(version)
    assert_equal(got.arrays, answer(gateway.models, "churn", {"input": x}, version))


def test_the_sample_digits_answers_as_onnxruntime_does(gateway, protocol, rng):
    x = rng.integers(0, 17, size=(9, 64)).astype("f4")
    for version in (1, 2):
        expected = answer(gateway.models, "digits", {"input": x}, version)
        got = protocol.infer("digits", {"input": x}, model_version=str(version))
        assert_equal(got.arrays, expected)


def test_two_inputs_come_in_any_order(gateway, wire, rng):
    inputs = {
        "b": rng.integers(-9, 9, size=(3, 2)),
        "a": rng.normal(size=(3, 2)).astype("f4"),
    }
    got = wire.infer("pair", inputs)
    assert_equal(got.arrays, answer(gateway.models, "pair", inputs))


def test_only_the_outputs_that_are_asked_for_come(gateway, wire, rng):
    inputs = {"a": rng.normal(size=(1, 2)).astype("f4"), "b": rng.integers(-9, 9, size=(1, 2))}
    expected = answer(gateway.models, "pair", inputs)
    for names in (["product"], ["product", "sum"]):
        got = wire.infer("pair", inputs, names)
        assert_equal(got.arrays, {name: expected[name] for name in names})


def test_a_model_without_a_batch_dimension(gateway, wire, rng):
    x = rng.normal(size=(2, 3))
    got = wire.infer("transpose", {"x": x})
    assert_equal(got.arrays, answer(gateway.models, "transpose", {"x": x}))


def test_the_request_id_comes_back(wire, rng):
    x = rng.normal(size=(1, 4)).astype("f4")
    assert wire.infer("perceptron", {"x": x}, request_id="a b/ü").id == "a b/ü"
    assert wire.infer("perceptron", {"x": x}).id == ""


def test_parameters_of_ones_own_do_no_harm(gateway, wire, rng):
    x = rng.normal(size=(1, 4)).astype("f4")
    own = {"tenant": "a", "trace": True, "n": 7, "share": 0.5}
    got = wire.infer("perceptron", {"x": x}, priority=1, parameters=own)
    assert_equal(got.arrays, answer(gateway.models, "perceptron", {"x": x}))


@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_classification_gives_the_best_with_their_labels(gateway, wire, rng, count):
    x = rng.normal(size=(3, 4)).astype("f4")
    scores = answer(gateway.models, "flower", {"x": x})["probabilities"]
    got = wire.infer("flower", {"x": x}, [Wanted("probabilities", count)])
    rows = got.arrays["probabilities"]
    assert rows.shape == (3, min(count, 3))
    for row, own in zip(rows, scores, strict=True):
        best = np.argsort(-own)[:count]
        for entry, index in zip(row, best, strict=True):
            value, at, label = text(entry).decode().split(":")
            assert (int(at), label) == (index, CLASSES[index])
            assert float(value) == pytest.approx(own[index], abs=1e-5)


def test_classification_without_labels(gateway, wire, rng):
    x = rng.normal(size=(2, 4)).astype("f4")
    scores = answer(gateway.models, "perceptron", {"x": x})["p"]
    got = wire.infer("perceptron", {"x": x}, [Wanted("p", 2), "best"])
    for row, own in zip(got.arrays["p"], scores, strict=True):
        assert [text(entry).split(b":")[1:] for entry in row] == [
            [str(index).encode()] for index in np.argsort(-own)[:2]
        ]
    np.testing.assert_array_equal(got.arrays["best"], scores.argmax(axis=1))


def test_a_large_body_both_ways(wire, rng):
    x = rng.normal(size=(100_000, 3)).astype("f4")
    got = wire.infer("echo_fp32", {"x": x})
    np.testing.assert_array_equal(got.arrays["y"], x)
