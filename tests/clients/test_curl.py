"""What people type: curl, with the transports that it speaks."""

import gzip
import json
import subprocess

import pytest

INSTANCES = json.dumps({"instances": [1.0, 2.0, 5.0]})
PREDICTIONS = [2.5, 3.0, 4.5]


def curl(*arguments, stdin=None):
    """Status, HTTP version and body of what curl got."""
    command = ["curl", "-sS", "--max-time", "60", "-o", "-", "-w", "\n%{http_code} %{http_version}"]
    done = subprocess.run([*command, *arguments], input=stdin, capture_output=True, check=True)
    body, _, line = done.stdout.rpartition(b"\n")
    status, version = line.decode().split()
    return int(status), version, body


def infer_body(rows):
    tensor = {"name": "x", "shape": [rows, 3], "datatype": "FP32", "data": [0.5] * (3 * rows)}
    return json.dumps({"inputs": [tensor]}).encode()


def echo(gateway):
    return f"{gateway.http}/v2/models/echo_fp32/infer"


def assert_echoed(got, rows):
    status, _, body = got
    assert status == 200, body
    assert json.loads(body)["outputs"][0]["shape"] == [rows, 3]


def test_predict(gateway):
    status, version, body = curl(f"{gateway.http}/predict/half_plus_two", "-d", INSTANCES)
    assert (status, version) == (200, "1.1")
    assert json.loads(body)["predictions"] == PREDICTIONS


def test_tf_serving(gateway):
    status, _, body = curl(
        "-X", "POST", f"{gateway.http}/v1/models/half_plus_two:predict", "-d", INSTANCES
    )
    assert (status, json.loads(body)) == (200, {"predictions": PREDICTIONS})


def test_http2_by_prior_knowledge(gateway):
    status, version, body = curl(
        "--http2-prior-knowledge", f"{gateway.http}/predict/half_plus_two", "-d", INSTANCES
    )
    assert (status, version) == (200, "2")
    assert json.loads(body)["predictions"] == PREDICTIONS


@pytest.mark.parametrize("version", ["--http1.1", "--http2-prior-knowledge"])
def test_a_large_body_that_asks_first(gateway, version):
    rows = 100_000
    got = curl(
        version, echo(gateway), "-H", "Expect: 100-continue", "--data-binary", "@-",
        stdin=infer_body(rows),
    )  # fmt: skip
    assert_echoed(got, rows)


def test_a_body_that_is_too_large_is_refused_before_it_is_sent(gateway):
    body = b" " * (20 << 20)
    status, _, reply = curl(
        echo(gateway), "-H", "Expect: 100-continue", "--data-binary", "@-", stdin=body
    )
    assert status == 413
    assert "limit" in json.loads(reply)["error"]


def test_chunks(gateway):
    got = curl(
        echo(gateway), "-H", "Transfer-Encoding: chunked", "--data-binary", "@-",
        stdin=infer_body(50_000),
    )  # fmt: skip
    assert_echoed(got, 50_000)


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compressed_reply(gateway, encoding):
    got = curl(
        "--compressed", "-H", f"Accept-Encoding: {encoding}", echo(gateway),
        "--data-binary", "@-", stdin=infer_body(50_000),
    )  # fmt: skip
    assert_echoed(got, 50_000)


def test_a_compressed_request(gateway):
    got = curl(
        echo(gateway), "-H", "Content-Encoding: gzip", "--data-binary", "@-",
        stdin=gzip.compress(infer_body(1000)),
    )  # fmt: skip
    assert_echoed(got, 1000)


def test_two_requests_on_one_connection(gateway):
    address = f"{gateway.http}/v2/health/live"
    done = subprocess.run(
        ["curl", "-sS", "-w", "%{num_connects}\n", "-o", "/dev/null", address, "-o", "/dev/null", address],
        capture_output=True, check=True, text=True,
    )  # fmt: skip
    assert done.stdout.split() == ["1", "0"]


def test_head(gateway):
    status, _, body = curl("-I", f"{gateway.http}/v2/health/ready")
    assert status == 200
    assert b"content-length" in body.lower()
