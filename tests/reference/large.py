#!/usr/bin/env python3
"""Serves more weights than an ONNX file can hold, on every engine.

    large.py --base http://127.0.0.1:8000 --admin http://127.0.0.1:8002 --models DIR

Puts a model into a running gateway's folder whose 2.5 GiB of weights lie in a
file of their own (a sparse one, so that making it costs nothing), once for
each engine, waits until both versions are ready, and compares a few answers
with what they must be. The gateway's limits must allow it:
FORESHADOW_REPOSITORY_ARTIFACT_MAX, FORESHADOW_PREFLIGHT_MEMORY_MAX,
FORESHADOW_PREFLIGHT_TIME_MAX. Needs the packages of models/requirements.txt.
"""

import argparse
import json
import os
import pathlib
import struct
import sys
import time
import urllib.request

from onnx import TensorProto, helper

ENGINES = ["tract", "onnxruntime"]
TABLES, ROWS, WIDTH = 5, 1 << 20, 128
TABLE_BYTES = ROWS * WIDTH * 4
WAIT_SECONDS = 900


def table(number):
    """A table of numbers, at its place in the common file."""
    tensor = TensorProto(name=f"table{number}", data_type=TensorProto.FLOAT, dims=[ROWS, WIDTH])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in [("location", "tables.bin"), ("offset", number * TABLE_BYTES), ("length", TABLE_BYTES)]:
        tensor.external_data.add(key=key, value=str(value))
    return tensor


def model():
    """y = the sum of a row of each table, by its number."""
    nodes = [helper.make_node("Gather", [f"table{i}", "row"], [f"part{i}"]) for i in range(TABLES)]
    nodes.append(helper.make_node("Sum", [f"part{i}" for i in range(TABLES)], ["y"]))
    graph = helper.make_graph(
        nodes,
        "large",
        [helper.make_tensor_value_info("row", TensorProto.INT64, ["N"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", WIDTH])],
        [table(i) for i in range(TABLES)],
    )
    opset = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def write(folder, engine):
    folder.mkdir(parents=True)
    (folder / "model.onnx").write_bytes(model())
    (folder / "version.toml").write_text(f'engine = "{engine}"\n', encoding="utf-8")
    with open(folder / "tables.bin", "wb") as file:
        file.truncate(TABLES * TABLE_BYTES)
        for number in range(TABLES):
            # The first number of the last row.
            file.seek((number + 1) * TABLE_BYTES - WIDTH * 4)
            file.write(struct.pack("<f", 10.0**number))


def get(address, body=None):
    request = urllib.request.Request(address, data=body and json.dumps(body).encode())
    with urllib.request.urlopen(request, timeout=120) as reply:
        return json.load(reply)


def wait(admin, count):
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        versions = {}
        if any(m["name"] == "large" for m in get(f"{admin}/v1/models")["models"]):
            versions = {v["version"]: v for v in get(f"{admin}/v1/models/large")["versions"]}
        for version in versions.values():
            if version["state"] == "failed":
                sys.exit(f"version {version['version']} failed: {version['reason']}")
        if sum(v["state"] == "ready" for v in versions.values()) == count:
            return versions
        time.sleep(0.5)
    sys.exit(f"no {count} versions are ready after {WAIT_SECONDS} s")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True)
    parser.add_argument("--admin", required=True)
    parser.add_argument("--models", required=True, type=pathlib.Path)
    arguments = parser.parse_args()
    for number, engine in enumerate(ENGINES, 1):
        hidden = arguments.models / "large" / f".new-{number}"
        write(hidden, engine)
        started = time.monotonic()
        os.rename(hidden, hidden.parent / str(number))
        version = wait(arguments.admin, number)[number]
        rows = {"name": "row", "shape": [2], "datatype": "INT64", "data": [0, ROWS - 1]}
        reply = get(f"{arguments.base}/v2/models/large/versions/{number}/infer", {"inputs": [rows]})
        answers = reply["outputs"][0]["data"]
        expected = [0.0, sum(10.0**i for i in range(TABLES))]
        if version["engine"] != engine or [answers[0], answers[WIDTH]] != expected:
            sys.exit(f"{engine}: expected {expected}, got {[answers[0], answers[WIDTH]]}")
        gibibytes = TABLES * TABLE_BYTES / 2**30
        print(f"{engine}: {gibibytes:.1f} GiB ready after {time.monotonic() - started:.1f} s")


if __name__ == "__main__":
    main()
