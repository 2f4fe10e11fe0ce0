"""onnxruntime's answers, with which every number is compared."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime

# Relative and absolute: two engines add in different orders.
TOLERANCE = 1e-5

Arrays = dict[str, np.ndarray]


@cache
def session(artifact: Path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(artifact, options, providers=["CPUExecutionProvider"])


def answer(models: Path, model: str, inputs: Arrays, version: int = 1) -> Arrays:
    """What onnxruntime makes of the inputs; named scores (ZipMap) as a plain tensor."""
    own = session(models / model / str(version) / "model.onnx")
    names = [output.name for output in own.get_outputs()]
    values = own.run(names, inputs)
    return dict(zip(names, map(plain, values), strict=True))


def plain(value) -> np.ndarray:
    if isinstance(value, list):
        return np.array([list(row.values()) for row in value], np.float32)
    return value


def assert_equal(got: Arrays, expected: Arrays) -> None:
    """Names, datatypes, shapes and values; strings count as UTF-8."""
    assert list(got) == list(expected)
    for name, want in expected.items():
        have = got[name]
        assert have.shape == want.shape, name
        if want.dtype.kind == "O":
            assert [text(value) for value in have.flat] == [text(value) for value in want.flat], name
            continue
        assert have.dtype == want.dtype, name
        if want.dtype.kind == "f":
            np.testing.assert_allclose(have, want, rtol=TOLERANCE, atol=TOLERANCE, err_msg=name)
        else:
            np.testing.assert_array_equal(have, want, err_msg=name)


def text(value: bytes | str) -> bytes:
    return value if isinstance(value, bytes) else value.encode()
