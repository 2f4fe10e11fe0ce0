"""What the clients' `InferenceServerException` says: the same over every client."""

import numpy as np
import pytest
from support.wires import Wanted
from tritonclient.utils import InferenceServerException

# The clients' words for one meaning: HTTP's status, and gRPC's code.
INVALID = ("400", "StatusCode.INVALID_ARGUMENT")
NOT_FOUND = ("404", "StatusCode.NOT_FOUND")
LATE = ("504", "StatusCode.DEADLINE_EXCEEDED")
UNAVAILABLE = ("503", "StatusCode.UNAVAILABLE")


def refused(wire, model, inputs, outputs=None, **options) -> InferenceServerException:
    with pytest.raises(InferenceServerException) as caught:
        wire.infer(model, inputs, outputs, **options)
    return caught.value


def assert_status(wire, error, meaning):
    # A stream answers with a message alone.
    if wire.name != "grpc-stream":
        assert error.status() in meaning, error


X = np.zeros((1, 4), "f4")


@pytest.mark.parametrize(
    ("inputs", "outputs", "message"),
    [
        ({"z": X}, None, 'input "z" is unknown; this model takes "x"'),
        ({}, None, 'input "x" is missing; this model takes "x" FP32 [-1, 4]'),
        (
            {"x": X.astype("f8")},
            None,
            'input "x": expected datatype FP32, got FP64',
        ),
        ({"x": X[:, :3]}, None, 'input "x": expected shape [-1, 4], got [1, 3]'),
        ({"x": X[0]}, None, 'input "x": expected shape [-1, 4], got [4]'),
        ({"x": X}, ["q"], 'output "q" is unknown; this model gives "p", "best"'),
    ],
    ids=["unknown", "missing", "datatype", "size", "rank", "output"],
)
def test_a_wrong_request(wire, inputs, outputs, message):
    error = refused(wire, "perceptron", inputs, outputs)
    assert_status(wire, error, INVALID)
    assert error.message() == message


def test_an_input_is_missing(wire):
    error = refused(wire, "pair", {"a": np.zeros((1, 2), "f4")})
    assert_status(wire, error, INVALID)
    assert '"b"' in error.message()


def test_sizes_of_one_symbol_differ(wire):
    inputs = {"a": np.zeros((1, 2), "f4"), "b": np.zeros((2, 2), "i8")}
    error = refused(wire, "pair", inputs)
    assert_status(wire, error, INVALID)
    assert '"N"' in error.message() or "N" in error.message()


def test_an_unknown_model_and_version(protocol):
    error = refused(protocol, "nobody", {"x": X})
    assert_status(protocol, error, NOT_FOUND)
    assert "nobody" in error.message()
    error = refused(protocol, "perceptron", {"x": X}, model_version="7")
    assert_status(protocol, error, NOT_FOUND)
    assert "7" in error.message()
    error = refused(protocol, "perceptron", {"x": X}, model_version="one")
    assert_status(protocol, error, INVALID)
    assert '"one"' in error.message()


def test_a_timeout_that_cannot_be_kept(protocol):
    error = refused(protocol, "heavy", {"x": np.zeros((64, 256), "f4")}, timeout=1)
    assert_status(protocol, error, LATE + UNAVAILABLE)
    assert error.message()


def test_sequences_are_refused_aloud(protocol):
    error = refused(protocol, "perceptron", {"x": X}, sequence_id=5, sequence_start=True)
    assert "sequence" in error.message()


def test_shared_memory_is_refused_aloud(protocol):
    for tensors in (protocol.tensors({"x": X}),):
        tensors[0].set_shared_memory("region", X.nbytes)
        protocol.tensors = lambda inputs, tensors=tensors: tensors
        error = refused(protocol, "perceptron", {"x": X})
    assert "shared_memory" in error.message()


def test_a_wrong_classification(wire):
    error = refused(wire, "pair", {"a": X[:, :2], "b": np.zeros((1, 2), "i8")}, [Wanted("q", 2)])
    assert_status(wire, error, INVALID)
    assert '"q"' in error.message()
