"""Writes the seed corpora into fuzz/corpus/TARGET: the committed models for
`load`, and requests of every form for what reads requests. Run it in the
repository's folder: python3 fuzz/seeds.py
"""

import gzip
import json
import pathlib
import re
import zlib

ROOT = pathlib.Path(__file__).parent.parent
LARGEST = 16_384  # bytes; larger files teach a fuzzer little


def write(target, seeds):
    folder = ROOT / "fuzz" / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    seeds = {name: data for name, data in seeds.items() if len(data) <= LARGEST}
    for name, data in seeds.items():
        (folder / name).write_bytes(data)
    print(f"{len(seeds)} seeds in {folder}")


def load():
    """Models of the engine's tests, and the samples."""
    seeds = {}
    for name in ["cases", "shapes"]:
        text = (ROOT / "tests" / "data" / "engine" / f"{name}.jsonl").read_text()
        for case in map(json.loads, text.splitlines()):
            seeds[case["name"]] = bytes.fromhex(case["model"])
    for path in ROOT.glob("models/*/*/model.onnx"):
        seeds["-".join(path.parts[-3:-1])] = path.read_bytes()
    return seeds


# Bodies by a word of the routes that take them.
ROWS = [
    {"instances": [[1, 2.5, -3e2], [4, 5, 6]]},
    {"instances": [{"age": 30, "plan": 1, "grüße": 0}]},
    {"instances": [["a", "b\\u00fc", ""]], "version": 1, "parameters": {"timeout": 10**9}},
    {"instances": [{"b64": "/wA="}, {"b64": ""}, {"b64": "YQ=="}], "signature_name": "serving_default"},
    {"inputs": [[1, 2, 3]], "model": "fp32", "parameters": {"role": "champion"}},
    {"inputs": {"a": [[1, 2]], "b": [["x"]]}},
    {"instances": [{"a": [1, 2], "b": "x"}]},
    {"instances": [[True, False, True]]},
    {"instances": []},
]
TENSORS = [
    {"name": "x", "shape": [1, 3], "datatype": "FP32", "data": [1, 2.5, -3e2]},
    {"name": "x", "shape": [2, 3], "datatype": "INT64", "data": [[1, 2, 3], [4, 5, 6]]},
    {"name": "x", "shape": [1, 3], "datatype": "BYTES", "data": ["a", "ü", ""]},
    {"name": "x", "shape": [1, 3], "datatype": "BOOL", "data": [True, False, True]},
    {"name": "x", "shape": [1, 3], "datatype": "FP16", "data": [1, 2.5, 65504]},
    {"name": "x", "shape": [1, 3], "datatype": "UINT64", "data": [0, 1, 2**64 - 1]},
]
MORE = [
    {},
    {"id": "42", "parameters": {"priority": 1, "timeout": 10**9, "own": "x"}},
    {"outputs": [{"name": "x_out", "parameters": {"classification": 2}}]},
    {"outputs": [{"name": "x_out", "parameters": {"binary_data": True}}]},
    {"parameters": {"binary_data_output": True, "sequence_id": 1}},
]


def routes():
    """The paths of the target, in its order."""
    text = (ROOT / "fuzz" / "targets" / "rest.rs").read_text()
    listed = re.search(r"PATHS: \[&str; \d+\] = \[(.*?)\];", text, re.S)[1]
    return re.findall(r'"(.*?)"', listed)


def rest():
    """Every body on a few routes that it fits, plain and packed."""
    packs = {0: bytes, 2: gzip.compress, 6: zlib.compress}
    seeds = {}

    def add(route, headers, body):
        seeds[f"{len(seeds):04}"] = bytes([route, headers]) + packs[headers & 6](body)

    for number, path in enumerate(routes()):
        if path.endswith("predict") or path.startswith("/predict"):
            bodies = [json.dumps(body).encode() for body in ROWS]
        elif path.endswith("infer"):
            infers = ({"inputs": [tensor], **more} for tensor in TENSORS for more in MORE)
            bodies = [json.dumps(body).encode() for body in infers]
            raw = {"name": "x", "shape": [1, 3], "datatype": "FP32", "parameters": {"binary_data_size": 12}}
            add(number, 1, json.dumps({"inputs": [raw]}).encode() + b"\n" + bytes(12))
        else:
            bodies = [b"", b"{}", b'{"ready": true}', b'{"parameters": {"unload_dependents": false}}']
        for index, body in enumerate(bodies):
            add(number, (0, 2, 6)[index % 3] | index % 4 << 3, body)
    return seeds


def binary():
    """The target makes its requests of anything."""
    return {f"{n:02}": bytes((n * 37 + i * i) % 256 for i in range(256)) for n in range(64)}


def varint(value):
    value, out = value % 2**64, []
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])


def field(number, value):
    """A field of protobuf: a whole number, or what has a length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def parameter(key, number, value):
    return field(1, key) + field(2, field(number, value))


def infer(model, tensors, raw=(), parameters=(), outputs=()):
    """A `ModelInferRequest`; a tensor is its name, datatype, shape, and contents."""
    message = field(1, model) + field(3, "42")
    message += b"".join(field(4, entry) for entry in parameters)
    for name, datatype, shape, contents in tensors:
        tensor = field(1, name) + field(2, datatype) + field(3, b"".join(map(varint, shape)))
        message += field(5, tensor + (field(5, contents) if contents else b""))
    message += b"".join(field(6, output) for output in outputs)
    return message + b"".join(field(7, data) for data in raw)


def protobuf():
    """Messages right and nearly so, for each method and framing of the target."""
    string = b"\2\0\0\0ab"
    typed = field(6, bytes(12))
    messages = [
        infer("fp32", [("x", "FP32", [1, 3], b"")], [bytes(12)]),
        infer("fp32", [("x", "FP32", [1, 3], typed)]),
        infer("fp32", [("x", "FP32", [1, 3], typed)], [bytes(12)]),
        infer("int64", [("x", "INT64", [2, 3], b"")], [bytes(48)]),
        infer("bytes", [("x", "BYTES", [1, 3], b"")], [string * 3]),
        infer("bytes", [("x", "BYTES", [1, 3], field(8, "a") * 3)]),
        infer("int8", [("x", "INT8", [1, 3], field(2, bytes([1, 2, 3])))]),
        infer("bool", [("x", "BOOL", [1, 3], field(1, bytes([0, 1, 0])))]),
        infer("fp16", [("x", "FP16", [1, 3], b"")], [bytes(6)]),
        infer("pair", [("a", "FP32", [1, 2], b""), ("b", "BYTES", [1, 1], b"")], [bytes(8), string]),
        infer("fp32", [("x", "FP32", [-1, 3], b"")], [bytes(12)]),
        infer(
            "rows",
            [("x", "FP32", [1, 3], b"")],
            [bytes(12)],
            [
                parameter("timeout", 2, 10**9),
                parameter("priority", 5, 1),
                parameter("own", 3, "x"),
                parameter("age", 2, 30),
            ],
            [field(1, "x_out") + field(2, parameter("classification", 2, 2))],
        ),
        field(1, "fp32"),
        field(1, "fp32") + field(2, "1"),
        b"",
    ]
    seeds = {}
    for method in range(10):
        for index, message in enumerate(messages):
            framing = (0, 1, 2, 8, 9)[(method + index) % 5]
            both = messages[0] + b"\0\xff\0\xff" if method in (3, 4) else b""
            seeds[f"{len(seeds):04}"] = bytes([method, framing]) + both + message
    return seeds


def pbtxt():
    """The files of the tests, the strings in which have every field."""
    seeds = {}
    for path in [*ROOT.glob("src/registry/triton/*.rs"), *ROOT.glob("tests/**/*triton*.*")]:
        if path.suffix not in (".rs", ".py"):
            continue
        strings = re.findall(r'"""(.*?)"""|r#*"(.*?)"#+|const \w+: &str = "(.*?)";', path.read_text(), re.S)
        for groups in strings:
            text = max(groups, key=len)
            if ":" in text or "{" in text:
                seeds[f"{len(seeds):03}"] = text.encode()
    return seeds


TARGETS = {"load": load, "rest": rest, "binary": binary, "protobuf": protobuf, "pbtxt": pbtxt}

for target, seeds in TARGETS.items():
    write(target, seeds())
