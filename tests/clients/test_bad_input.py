"""Bad input over both protocols: refused, with the same meaning and the same words."""

import gzip
import json
import socket
import struct
import zlib

import grpc
import numpy as np
import pytest
import requests
from support import raw
from support.raw import Raw, Request
from support.wires import Grpc, Http

X = np.zeros((1, 3), "<f4").tobytes()


def tensor(shape=(1, 3), data=X, name="x", datatype="FP32"):
    return Raw(name, datatype, list(shape), data)


def string(length, data=b"ab"):
    return struct.pack("<I", length) + data


# What both protocols can carry.
BOTH = {
    "too few bytes": (
        Request([tensor(data=X[:11])]),
        'input "x": shape [1, 3] of FP32 means 3 elements of 4 bytes, got 11 bytes',
    ),
    "too many bytes": (
        Request([tensor(data=X + b"\0")]),
        'input "x": shape [1, 3] of FP32 means 3 elements of 4 bytes, got 13 bytes',
    ),
    "another datatype than its bytes": (Request([tensor(datatype="FP64")]), "FP64"),
    "an unknown datatype": (Request([tensor(datatype="FP99")]), '"FP99"'),
    "no datatype": (Request([tensor(datatype="")]), "datatype"),
    "a negative size": (Request([tensor(shape=(-1, 3))]), "-1"),
    "a shape beyond memory": (Request([tensor(shape=(2**40, 3))]), "1099511627776"),
    "a shape beyond counting": (Request([tensor(shape=(2**62, 2**62))]), "too large"),
    "too many dimensions": (Request([tensor(shape=(1,) * 64, data=X[:4])]), "expected shape [-1, 3]"),
    "no dimensions": (Request([tensor(shape=(), data=X[:4])]), "expected shape [-1, 3], got []"),
    "an input twice": (Request([tensor(), tensor()]), 'input "x" is given twice'),
    "an unknown input": (
        Request([tensor(name="z")]),
        'input "z" is unknown; this model takes "x"',
    ),
    "no input": (Request([]), 'input "x" is missing; this model takes "x" FP32 [-1, 3]'),
    "an unknown output": (
        Request([tensor()], outputs=["q"]),
        'output "q" is unknown; this model gives "y"',
    ),
    "an output twice": (Request([tensor()], outputs=["y", "y"]), "twice"),
    "a boolean of 7": (
        Request([tensor(data=b"\0\1\7", datatype="BOOL")], model="echo_bool"),
        'input "x": element 2 is 7; a BOOL is a byte of 0 or 1',
    ),
    "a string that overruns": (
        Request([tensor(data=string(2) + string(2) + string(9), datatype="BYTES")], "echo_bytes"),
        'input "x": element 2 says that it has 9 bytes, only 2 are left',
    ),
    "a string of 4 GiB": (
        Request([tensor(data=string(2**32 - 1) * 3, datatype="BYTES")], "echo_bytes"),
        "has 4294967295 bytes",
    ),
    "a string less than promised": (
        Request([tensor(data=string(2) * 2, datatype="BYTES")], "echo_bytes"),
        'input "x": element 2 of 3 is missing: the bytes end before it',
    ),
    "a string more than promised": (
        Request([tensor(data=string(2) * 4, datatype="BYTES")], "echo_bytes"),
        "6 bytes are left behind the last of 3 elements",
    ),
    "a timeout that is no number": (
        Request([tensor()], parameters={"timeout": "soon"}),
        "timeout",
    ),
    "a negative timeout": (Request([tensor()], parameters={"timeout": -1}), "timeout"),
    "a sequence": (Request([tensor()], parameters={"sequence_id": 3}), "sequence"),
}


@pytest.mark.parametrize("case", BOTH)
def test_the_same_over_both_protocols(gateway, case):
    request, message = BOTH[case]
    status, text = request.rest(gateway)
    assert status in raw.CODES, text
    assert message in text
    assert raw.call(gateway, request.message()) == (raw.CODES[status], text)


@pytest.fixture(autouse=True)
def afterwards(gateway):
    """Whatever came, the next request is answered, over both protocols."""
    yield
    assert gateway.process.poll() is None
    x = np.ones((1, 3), "f4")
    for wire in (Http(gateway), Grpc(gateway)):
        np.testing.assert_array_equal(wire.infer("echo_fp32", {"x": x}).arrays["y"], x)


# REST alone ---------------------------------------------------------------------------


def head(size, **more):
    parameters = {} if size is None else {"binary_data_size": size}
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 3], "parameters": parameters}
    return {"inputs": [tensor | more]}


@pytest.mark.parametrize(
    ("size", "tail"),
    [(8, X), (16, X), (-12, X), (2**63, X), (2**64, X), (12.5, X), ("12", X), (1e300, X), (True, X)],
    ids=["short", "long", "negative", "2^63", "2^64", "fraction", "text", "1e300", "boolean"],
)
def test_a_binary_length_that_lies(gateway, size, tail):
    status, text = raw.post(gateway, "echo_fp32", head(size), tail)
    assert status == 400
    assert "binary_data_size" in text or "bytes" in text


@pytest.mark.parametrize("length", ["99999", "-1", "1e3", "0x10", "", str(2**64), "12 "])
def test_a_header_length_that_lies(gateway, length):
    header = {"Inference_Header_Content_Length": length}
    status, text = raw.post(gateway, "echo_fp32", head(len(X)), X, **header)
    assert status == 400
    assert "header" in text.lower() or "json" in text.lower()


def test_a_header_length_within_the_json(gateway):
    body = head(len(X))
    short = {"Inference_Header_Content_Length": str(len(json.dumps(body)) - 1)}
    assert raw.post(gateway, "echo_fp32", body, X, **short)[0] == 400


def test_both_data_and_bytes(gateway):
    status, text = raw.post(gateway, "echo_fp32", head(len(X), data=[0, 0, 0]), X)
    assert status == 400
    assert "data" in text


def test_neither_data_nor_bytes(gateway):
    status, text = raw.post(gateway, "echo_fp32", head(None))
    assert status == 400
    assert "data" in text


@pytest.mark.parametrize(
    ("encoding", "body", "status"),
    [
        ("gzip", b"this is no gzip", 400),
        ("deflate", b"this is no zlib", 400),
        ("gzip", gzip.compress(json.dumps(head(None, data=[0, 0, 0])).encode())[:-9], 400),
        ("gzip", b"", 400),
        ("br", b"anything", 415),
        ("gzip, gzip", b"anything", 415),
    ],
    ids=["no gzip", "no zlib", "cut gzip", "empty gzip", "brotli", "twice"],
)
def test_wrong_compression(gateway, encoding, body, status):
    url = f"{gateway.http}/v2/models/echo_fp32/infer"
    reply = requests.post(url, data=body, headers={"Content-Encoding": encoding}, timeout=60)
    assert reply.status_code == status, reply.text
    assert reply.json()["error"]


def bomb(compress):
    """Two hundred megabytes of spaces, in some two hundred kilobytes."""
    packed = [compress.compress(b" " * (1 << 20)) for _ in range(200)]
    return b"".join(packed) + compress.flush()


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compression_bomb(gateway, encoding):
    window = 31 if encoding == "gzip" else 15
    body = bomb(zlib.compressobj(9, zlib.DEFLATED, window))
    for path in ("v2/models/echo_fp32/infer", "predict/echo_fp32"):
        headers = {"Content-Encoding": encoding}
        reply = requests.post(f"{gateway.http}/{path}", data=body, headers=headers, timeout=60)
        assert reply.status_code == 413, reply.text
        assert "limit" in reply.json()["error"]


def test_a_body_that_stops_in_the_middle(gateway):
    host, port = gateway.addresses["inference"].split(":")
    with socket.create_connection((host, int(port)), timeout=30) as stream:
        request = "POST /v2/models/echo_fp32/infer HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{"
        stream.sendall(request.encode())
        stream.shutdown(socket.SHUT_WR)
        # An error, or the end: nothing that looks like an answer.
        assert b" 200 " not in stream.recv(1 << 16)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", b"{", b'{"inputs": 3}', b'{"inputs": [3]}', b"\xff", b"[" * 100_000],
)
def test_what_is_no_request(gateway, body):
    status, text = raw.post(gateway, "echo_fp32", body or b" ")
    assert status == 400
    assert text


# gRPC alone ---------------------------------------------------------------------------


def message(request=None):
    return (request or Request([tensor()])).message()


def test_both_raw_and_typed_contents(gateway):
    both = message()
    both.inputs[0].contents.fp32_contents.extend([0, 0, 0])
    code, text = raw.call(gateway, both)
    assert code == "INVALID_ARGUMENT"
    assert "raw" in text and "contents" in text


@pytest.mark.parametrize("count", [0, 2])
def test_another_number_of_raw_contents_than_inputs(gateway, count):
    wrong = message()
    del wrong.raw_input_contents[:]
    wrong.raw_input_contents.extend([X] * count)
    code, text = raw.call(gateway, wrong)
    assert code == "INVALID_ARGUMENT"
    assert text


def test_typed_contents_of_another_datatype(gateway):
    wrong = message()
    del wrong.raw_input_contents[:]
    wrong.inputs[0].contents.int64_contents.extend([0, 0, 0])
    code, text = raw.call(gateway, wrong)
    assert code == "INVALID_ARGUMENT"
    assert "FP32" in text


def test_typed_contents_of_another_size(gateway):
    wrong = message()
    del wrong.raw_input_contents[:]
    wrong.inputs[0].contents.fp32_contents.extend([0, 0])
    code, text = raw.call(gateway, wrong)
    assert code == "INVALID_ARGUMENT"
    assert "3" in text


def test_typed_integers_that_do_not_fit(gateway):
    wrong = message(Request([tensor(datatype="INT8", data=b"")], model="echo_int8"))
    del wrong.raw_input_contents[:]
    wrong.inputs[0].contents.int_contents.extend([1, 2, 300])
    code, text = raw.call(gateway, wrong)
    assert code == "INVALID_ARGUMENT"
    assert "300" in text


INVALID, EXHAUSTED, UNIMPLEMENTED, INTERNAL, RANGE = (
    grpc.StatusCode.INVALID_ARGUMENT.value[0],
    grpc.StatusCode.RESOURCE_EXHAUSTED.value[0],
    grpc.StatusCode.UNIMPLEMENTED.value[0],
    grpc.StatusCode.INTERNAL.value[0],
    grpc.StatusCode.OUT_OF_RANGE.value[0],
)


@pytest.mark.parametrize(
    "body",
    [raw.frame(b"\xff\xff\xff"), raw.frame(b"\x0a\x7fshort"), raw.frame(b"\x2a\x02\x0a\x09")],
    ids=["no protobuf", "a name that overruns", "an input that overruns"],
)
def test_what_is_no_message(gateway, body):
    assert raw.send(gateway, body) in {INVALID, INTERNAL}


def test_a_message_longer_than_its_frame(gateway):
    assert raw.send(gateway, raw.frame(b"\x0a\x01x", length=100)) in {INVALID, INTERNAL}


def test_a_message_over_the_limit(gateway):
    assert raw.send(gateway, raw.frame(b"", length=2**31)) in {EXHAUSTED, RANGE}


def test_a_compressed_message_that_is_none(gateway):
    body = raw.frame(b"this is no gzip", compressed=True)
    assert raw.send(gateway, body, ("grpc-encoding", "gzip")) in {INVALID, INTERNAL}


def test_a_compression_that_is_not_there(gateway):
    body = raw.frame(b"anything", compressed=True)
    assert raw.send(gateway, body, ("grpc-encoding", "br")) == UNIMPLEMENTED


def test_a_compressed_bomb(gateway):
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    packed = packer.compress(b"\0" * (40 << 20)) + packer.flush()
    body = raw.frame(packed, compressed=True)
    assert raw.send(gateway, body, ("grpc-encoding", "gzip")) in {INVALID, INTERNAL, EXHAUSTED, RANGE}


def test_a_call_that_stops_in_the_middle(gateway):
    whole = raw.frame(message().SerializeToString())
    assert raw.send(gateway, whole[:-3], end=False) is None
