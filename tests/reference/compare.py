"""Compares a running gateway's answers with onnxruntime's, on the sample models.

    python tests/reference/compare.py --base http://127.0.0.1:8000 --models models

Sends rows to `POST /v2/models/{m}/versions/{v}/infer` in batches of several
sizes, once as JSON and once as binary tensors, and compares every row: the
labels must be equal (unless the two largest probabilities are as good as
equal), the numbers within 1e-5, and the envelope (model, version, request id,
names, datatypes, shapes) exactly right. Exits with 1 if one row differs.

Needs models/requirements.txt. Models with one FP32 input [N, F] are compared.
"""

from __future__ import annotations

import argparse
import http.client
import itertools
import json
import sys
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

TOLERANCE = 1e-5
# Two probabilities that are closer than this leave the label to rounding.
TIE = 1e-6
BATCH_SIZES = (1, 7, 64, 2, 33, 128, 1, 256)
FAULTS_SHOWN = 5
TIMEOUT_S = 30
HEADER_LENGTH = "Inference-Header-Content-Length"
DATATYPES = {
    "BOOL": np.dtype("?"),
    "INT32": np.dtype("<i4"),
    "INT64": np.dtype("<i8"),
    "FP32": np.dtype("<f4"),
    "FP64": np.dtype("<f8"),
}

Outputs = dict[str, np.ndarray]


class Mismatch(Exception):
    """A reply that is wrong as a whole."""


@dataclass
class Tally:
    """What became of one version's rows."""

    passed: int = 0
    failed: int = 0
    worst: float = 0.0
    ties: int = 0
    faults: list[str] = field(default_factory=list)

    def fail(self, rows: int, fault: str) -> None:
        self.failed += rows
        if len(self.faults) < FAULTS_SHOWN:
            self.faults.append(fault)


class Gateway:
    """One connection that is kept open."""

    def __init__(self, base: str) -> None:
        url = urllib.parse.urlsplit(base)
        if url.scheme != "http" or not url.hostname:
            raise SystemExit(f"--base must be like http://127.0.0.1:8000, got {base!r}")
        self.connection = http.client.HTTPConnection(url.hostname, url.port, timeout=TIMEOUT_S)
        self.prefix = url.path.rstrip("/")

    def post(self, path: str, body: bytes, headers: dict[str, str]) -> tuple[Any, bytes]:
        """Headers and body of a reply of 200."""
        try:
            self.connection.request("POST", self.prefix + path, body, headers)
            reply = self.connection.getresponse()
            content = reply.read()
        except (OSError, http.client.HTTPException) as error:
            self.connection.close()
            raise Mismatch(f"no reply: {error!r}") from error
        if reply.status != 200:
            raise Mismatch(f"status {reply.status}: {content[:300]!r}")
        return reply.headers, content


class Target:
    """One version: its reference session, and its address at the gateway."""

    def __init__(self, model: str, version: int, artifact: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            str(artifact), options, providers=["CPUExecutionProvider"]
        )
        self.model, self.version = model, version
        self.path = f"/v2/models/{model}/versions/{version}/infer"
        inputs = self.session.get_inputs()
        if [value.type for value in inputs] != ["tensor(float)"] or len(inputs[0].shape) != 2:
            raise SystemExit(f"{artifact}: expected one FP32 input [N, F]")
        self.input = inputs[0].name

    def expected(self, rows: np.ndarray) -> Outputs:
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, {self.input: rows}), strict=True))

    def request(self, rows: np.ndarray, identity: str) -> dict[str, Any]:
        tensor = {"name": self.input, "shape": list(rows.shape), "datatype": "FP32"}
        return {"id": identity, "inputs": [tensor]}

    def envelope(self, reply: dict[str, Any], identity: str) -> None:
        """Checks what surrounds the tensors."""
        expected = {"model_name": self.model, "model_version": str(self.version), "id": identity}
        for key, value in expected.items():
            if reply.get(key) != value:
                raise Mismatch(f"{key}: expected {value!r}, got {reply.get(key)!r}")


def infer_json(gateway: Gateway, target: Target, rows: np.ndarray, identity: str) -> Outputs:
    """Sends JSON tensors: flat data for an even number of rows, nested for an odd one."""
    request = target.request(rows, identity)
    request["inputs"][0]["data"] = (rows if len(rows) % 2 else rows.ravel()).tolist()
    body = json.dumps(request, allow_nan=False).encode()
    _, content = gateway.post(target.path, body, {"Content-Type": "application/json"})
    reply = json.loads(content)
    target.envelope(reply, identity)
    return {
        output["name"]: shaped(np.array(output["data"]).ravel(), output)
        for output in reply["outputs"]
    }


def infer_binary(gateway: Gateway, target: Target, rows: np.ndarray, identity: str) -> Outputs:
    """Sends and asks for binary tensors."""
    request = target.request(rows, identity)
    buffer = rows.astype("<f4").tobytes()
    request["inputs"][0]["parameters"] = {"binary_data_size": len(buffer)}
    request["parameters"] = {"binary_data_output": True}
    header = json.dumps(request).encode()
    headers = {"Content-Type": "application/octet-stream", HEADER_LENGTH: str(len(header))}
    reply_headers, content = gateway.post(target.path, header + buffer, headers)
    if reply_headers.get_content_type() != "application/octet-stream":
        raise Mismatch(f"Content-Type is {reply_headers.get('Content-Type')!r}")
    if reply_headers.get(HEADER_LENGTH) is None:
        raise Mismatch(f"the reply lacks {HEADER_LENGTH}")
    at = int(reply_headers[HEADER_LENGTH])
    reply = json.loads(content[:at])
    target.envelope(reply, identity)
    outputs = {}
    for output in reply["outputs"]:
        size = output["parameters"]["binary_data_size"]
        values = np.frombuffer(content[at : at + size], datatype_of(output))
        outputs[output["name"]] = shaped(values, output)
        at += size
    if at != len(content):
        raise Mismatch(f"the tensors end at byte {at} of {len(content)}")
    return outputs


FORMS = {"json": infer_json, "binary": infer_binary}


def datatype_of(output: dict[str, Any]) -> np.dtype:
    try:
        return DATATYPES[output["datatype"]]
    except KeyError:
        raise Mismatch(f"unexpected datatype {output['datatype']!r}") from None


def shaped(values: np.ndarray, output: dict[str, Any]) -> np.ndarray:
    """Flat values in an output's datatype and shape."""
    try:
        return values.astype(datatype_of(output)).reshape(output["shape"])
    except (TypeError, ValueError) as error:
        raise Mismatch(f"output {output['name']!r}: {error}") from error


def judge(tally: Tally, expected: Outputs, got: Outputs, where: str) -> None:
    """Counts each row as passed or failed."""
    rows = len(next(iter(expected.values())))
    if list(got) != list(expected):
        return tally.fail(rows, f"{where}: outputs {list(got)}, expected {list(expected)}")
    good = np.ones(rows, dtype=bool)
    ties = tied(expected)
    for name, want in expected.items():
        have = got[name]
        if have.shape != want.shape or have.dtype != want.dtype:
            form, wanted = (have.dtype, have.shape), (want.dtype, want.shape)
            return tally.fail(rows, f"{where}: {name!r} is {form}, expected {wanted}")
        if want.dtype.kind == "f":
            distance = np.abs(have.astype(np.float64) - want).reshape(rows, -1).max(axis=1)
            # A NaN is as far away as can be.
            distance = np.nan_to_num(distance, nan=np.inf)
            tally.worst = max(tally.worst, float(distance.max()))
            good &= distance <= TOLERANCE
        else:
            same = (have == want).reshape(rows, -1).all(axis=1)
            tally.ties += int(np.sum(~same & ties))
            good &= same | ties
    tally.passed += int(good.sum())
    for row in np.flatnonzero(~good):
        answer = {name: values[row].tolist() for name, values in got.items()}
        wanted = {name: values[row].tolist() for name, values in expected.items()}
        tally.fail(1, f"{where}, row {row}: {answer}, expected {wanted}")
    return None


def tied(outputs: Outputs) -> np.ndarray:
    """Rows whose two largest probabilities are as good as equal, bool [N]."""
    scores = [v for v in outputs.values() if v.dtype.kind == "f" and v.ndim == 2]
    rows = len(next(iter(outputs.values())))
    if not scores or scores[0].shape[1] < 2:
        return np.zeros(rows, dtype=bool)
    ordered = np.sort(scores[0], axis=1)
    return ordered[:, -1] - ordered[:, -2] <= TIE


def compare(gateway: Gateway, target: Target, rows: np.ndarray) -> Tally:
    """Sends all rows in both forms."""
    tally = Tally()
    for form, infer in FORMS.items():
        for number, batch in enumerate(batches(rows)):
            where = f"{form} batch {number} of {len(batch)}"
            try:
                got = infer(gateway, target, batch, f"{form}-{number}")
                judge(tally, target.expected(batch), got, where)
            except Mismatch as error:
                tally.fail(len(batch), f"{where}: {error}")
            except (KeyError, TypeError, ValueError) as error:
                tally.fail(len(batch), f"{where}: the reply is malformed: {error!r}")
    return tally


def batches(rows: np.ndarray) -> Iterator[np.ndarray]:
    """Cuts rows into batches of all BATCH_SIZES in turn."""
    at = 0
    for size in itertools.cycle(BATCH_SIZES):
        if at >= len(rows):
            return
        yield rows[at : at + size]
        at += size


def rows_for(folder: Path, count: int, seed: int) -> np.ndarray:
    """The rows to send, float32 [N, F]."""
    if folder.name == "digits":
        # Late, because it takes seconds and only this model needs it.
        from sklearn.datasets import load_digits

        return load_digits().data.astype(np.float32)
    instances = json.loads((folder / "sample.json").read_text())["instances"]
    known = [list(row.values()) if isinstance(row, dict) else row for row in instances]
    return generated(np.array(known, dtype=np.float64), count, np.random.default_rng(seed))


def generated(known: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Rows like the known ones and unlike them, float32 [count, F]."""
    width = known.shape[1]
    low, high = known.min(axis=0), known.max(axis=0)
    span = high - low
    shape = (count, width)
    # Every column drawn by itself: plausible values, unseen combinations.
    likely = rng.permuted(known[rng.integers(len(known), size=count)], axis=0)
    beyond = rng.uniform(low - span / 2, high + span / 2, shape)
    # Eighths fall exactly on the thresholds of trees grown on quarters.
    eighths = np.round(rng.uniform(low, high, shape) * 8) / 8
    edges = rng.choice([0.0, -0.0, -1.0, 1.0, 1e-30, -0.125], shape)
    # One large value a row: several would cancel out, and what is left of
    # their sum would be rounding.
    large = likely.copy()
    values = rng.choice([1e4, -1e4, 1e6, -1e6, 1e9, -1e9, 2.0**24 + 2], count)
    large[np.arange(count), rng.integers(width, size=count)] = values
    kinds = np.stack([likely, beyond, eighths, edges, large])
    return kinds[rng.integers(len(kinds), size=count), np.arange(count)].astype(np.float32)


def targets(models: Path) -> Iterator[tuple[Path, int, Path]]:
    """Model folder, version and artifact of everything in a repository."""
    for folder in sorted(path.parent for path in models.glob("*/model.toml")):
        numbers = (path.name for path in folder.iterdir())
        for version in sorted(int(name) for name in numbers if name.isdecimal()):
            yield folder, version, folder / str(version) / "model.onnx"


def main() -> int:
    parser = argparse.ArgumentParser(description="Compares a gateway with onnxruntime.")
    parser.add_argument("--base", default="http://127.0.0.1:8000", help="the inference address")
    parser.add_argument("--models", type=Path, default=Path("models"), help="the repository")
    parser.add_argument("--rows", type=int, default=1_000, help="generated rows per version")
    parser.add_argument("--seed", type=int, default=1, help="of the generated rows")
    arguments = parser.parse_args()
    gateway = Gateway(arguments.base)
    passed = failed = 0
    for folder, version, artifact in targets(arguments.models):
        rows = rows_for(folder, arguments.rows, arguments.seed)
        tally = compare(gateway, Target(folder.name, version, artifact), rows)
        for fault in tally.faults:
            print(f"  {fault}")
        print(
            f"{folder.name} {version}: {tally.passed} passed, {tally.failed} failed,"
            f" largest difference {tally.worst:.1e}, {tally.ties} ties"
        )
        passed, failed = passed + tally.passed, failed + tally.failed
    print(f"{passed} passed, {failed} failed")
    # Nothing compared is nothing shown.
    return 0 if passed and not failed else 1


if __name__ == "__main__":
    sys.exit(main())
