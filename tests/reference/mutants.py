#!/usr/bin/env python3
"""Drops 200 mutated or truncated copies of a model into a gateway's repository
while it serves, and judges by onnxruntime what became ready.

    python tests/reference/mutants.py --base http://127.0.0.1:8000 \
        --admin http://127.0.0.1:8002 --models models

A mutant may be ready only if onnxruntime loads it too and gives the golden
answers with it. Each of the others must be failed with a reason. No request
that is sent all the while may fail. The last line is `N passed, N failed`.
The folder is written to: give the gateway a copy.
"""

import argparse
import json
import pathlib
import random
import sys
import time
import urllib.request

import numpy
import onnxruntime

MODEL = "churn"
COUNT = 200
SEED = 20261123
WAIT_SECONDS = 600
ROW = {"instances": [[8, 39.25, 289.75, 24, 1, 1, 2.5, 3, 1, 4, 0, 29]]}
TYPES = {"FP32": numpy.float32, "INT64": numpy.int64}


def mutate(original, rng):
    """Cuts it, or changes up to eight bytes, or both."""
    data = bytearray(original)
    how = rng.randrange(4)
    if how == 0:
        return bytes(data[: rng.randrange(len(data))])
    for _ in range(rng.randint(1, 8)):
        data[rng.randrange(len(data))] = rng.randrange(256)
    if how == 1:
        del data[len(data) - rng.randrange(len(data) // 2) :]
    return bytes(data)


def drop(folder, number, data, golden):
    """Makes a whole version folder appear at once."""
    hidden = folder / f".new-{number}"
    hidden.mkdir()
    (hidden / "model.onnx").write_bytes(data)
    (hidden / "golden.json").write_bytes(golden)
    hidden.rename(folder / str(number))


def get(url):
    with urllib.request.urlopen(url, timeout=30) as reply:
        return json.load(reply)


def predict(base):
    request = urllib.request.Request(f"{base}/predict/{MODEL}", json.dumps(ROW).encode())
    with urllib.request.urlopen(request, timeout=30) as reply:
        assert json.load(reply)["predictions"]


def outcomes(arguments, numbers):
    """Asks for predictions until every mutant is ready or failed."""
    deadline = time.monotonic() + WAIT_SECONDS
    requests = 0
    while time.monotonic() < deadline:
        for _ in range(50):
            predict(arguments.base)
            requests += 1
        versions = get(f"{arguments.admin}/v1/models/{MODEL}")["versions"]
        mine = {v["version"]: v for v in versions if v["version"] in numbers}
        if len(mine) == COUNT and all(v["state"] in ("ready", "failed") for v in mine.values()):
            print(f"{requests} requests answered meanwhile")
            return mine
    sys.exit("the mutants were not judged in time")


def tensors(specs):
    return {s["name"]: numpy.array(s["data"], TYPES[s["datatype"]]).reshape(s["shape"]) for s in specs}


def onnxruntime_agrees(data, golden):
    """Why onnxruntime would not have it ready; None if it would."""
    try:
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001: whatever it says is the reason
        return f"onnxruntime does not load it: {error}"
    tolerance = golden["tolerance"]
    for case in golden["cases"]:
        wanted = tensors(case["outputs"])
        got = dict(zip(wanted, session.run(list(wanted), tensors(case["inputs"]))))
        for name, value in wanted.items():
            if not numpy.allclose(got[name], value, rtol=tolerance, atol=tolerance):
                return f"onnxruntime answers otherwise: output {name}"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--base", required=True)
    parser.add_argument("--admin", required=True)
    parser.add_argument("--models", required=True, type=pathlib.Path)
    arguments = parser.parse_args()
    onnxruntime.set_default_logger_severity(4)
    folder = arguments.models / MODEL
    original = (folder / "1" / "model.onnx").read_bytes()
    golden = (folder / "1" / "golden.json").read_bytes()
    rng = random.Random(SEED)
    mutants = {number: mutate(original, rng) for number in range(1000, 1000 + COUNT)}
    for number, data in mutants.items():
        drop(folder, number, data, golden)
    found = outcomes(arguments, mutants)
    failures = []
    ready = 0
    for number, version in sorted(found.items()):
        if version["state"] == "failed":
            if not version.get("reason"):
                failures.append(f"version {number} failed without a reason")
            continue
        ready += 1
        why = onnxruntime_agrees(mutants[number], json.loads(golden))
        if why:
            failures.append(f"version {number} is ready, but {why}")
    print(f"{ready} ready, {COUNT - ready} failed with a reason")
    for failure in failures:
        print(failure)
    print(f"{COUNT - len(failures)} passed, {len(failures)} failed")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
