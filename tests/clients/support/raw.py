"""Requests that no client library would send, byte by byte."""

from __future__ import annotations

import json
import socket
import struct
from dataclasses import dataclass, field
from typing import Any

import grpc
import h2.config
import h2.connection
import h2.events
import requests
from tritonclient.grpc import service_pb2, service_pb2_grpc

from .gateway import Gateway

PATIENCE_S = 60
INFER = "/inference.GRPCInferenceService/ModelInfer"
# gRPC's codes that mean what a status of HTTP means.
CODES = {
    400: "INVALID_ARGUMENT",
    404: "NOT_FOUND",
    413: "RESOURCE_EXHAUSTED",
    501: "UNIMPLEMENTED",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}


@dataclass
class Raw:
    """A tensor as it is claimed to be."""

    name: str
    datatype: str
    shape: list[int]
    bytes: bytes


@dataclass
class Request:
    """An inference request that both protocols can carry."""

    inputs: list[Raw]
    model: str = "echo_fp32"
    outputs: list[str] = field(default_factory=list)
    parameters: dict[str, Any] = field(default_factory=dict)

    def rest(self, gateway: Gateway) -> tuple[int, str]:
        """Status and message of the REST form with binary tensors."""
        head: dict[str, Any] = {
            "inputs": [
                {
                    "name": tensor.name,
                    "datatype": tensor.datatype,
                    "shape": tensor.shape,
                    "parameters": {"binary_data_size": len(tensor.bytes)},
                }
                for tensor in self.inputs
            ],
            "outputs": [{"name": name} for name in self.outputs],
            "parameters": self.parameters,
        }
        return post(gateway, self.model, head, b"".join(tensor.bytes for tensor in self.inputs))

    def message(self) -> service_pb2.ModelInferRequest:
        """The gRPC form with raw contents."""
        message = service_pb2.ModelInferRequest(model_name=self.model)
        for tensor in self.inputs:
            message.inputs.add(name=tensor.name, datatype=tensor.datatype, shape=tensor.shape)
            message.raw_input_contents.append(tensor.bytes)
        for name in self.outputs:
            message.outputs.add(name=name)
        for name, value in self.parameters.items():
            kinds = {bool: "bool_param", int: "int64_param", float: "double_param", str: "string_param"}
            setattr(message.parameters[name], kinds[type(value)], value)
        return message


def post(
    gateway: Gateway, model: str, head: Any, tail: bytes = b"", **headers: str
) -> tuple[int, str]:
    """Posts JSON and what follows it; status and message."""
    text = head if isinstance(head, bytes) else json.dumps(head).encode()
    own = {"Inference-Header-Content-Length": str(len(text))} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    url = f"{gateway.http}/v2/models/{model}/infer"
    reply = requests.post(url, data=text + tail, headers=own, timeout=PATIENCE_S)
    if reply.status_code == 200:
        return 200, ""
    assert reply.headers["Content-Type"] == "application/json"
    return reply.status_code, reply.json()["error"]


def call(gateway: Gateway, message: service_pb2.ModelInferRequest) -> tuple[str, str]:
    """Calls `ModelInfer`; code and message."""
    with grpc.insecure_channel(gateway.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        try:
            stub.ModelInfer(message, timeout=PATIENCE_S)
        except grpc.RpcError as error:
            return error.code().name, error.details()
    return "OK", ""


def frame(payload: bytes, compressed: bool = False, length: int | None = None) -> bytes:
    """A gRPC message with its prefix, which may lie about the length."""
    announced = len(payload) if length is None else length
    return struct.pack(">BI", compressed, announced) + payload


def send(gateway: Gateway, body: bytes, *headers: tuple[str, str], end: bool = True) -> int | None:
    """Sends bytes as the body of `ModelInfer` over HTTP/2; the gRPC status's number.

    Without `end` the connection is closed after the body instead of the stream, and
    there is no status.
    """
    host, port = gateway.grpc.split(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as stream:
        connection = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        connection.initiate_connection()
        head = [
            (":method", "POST"),
            (":scheme", "http"),
            (":path", INFER),
            (":authority", gateway.grpc),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            *headers,
        ]
        connection.send_headers(1, head)
        assert len(body) <= connection.local_flow_control_window(1), "it waits for no window"
        size = connection.max_outbound_frame_size
        for at in range(0, len(body), size):
            connection.send_data(1, body[at : at + size])
        if end:
            connection.end_stream(1)
        stream.sendall(connection.data_to_send())
        return status(connection, stream) if end else None


def status(connection: h2.connection.H2Connection, stream: socket.socket) -> int:
    """Reads until the stream's status has come."""
    while data := stream.recv(1 << 16):
        for event in connection.receive_data(data):
            if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                found = dict(event.headers).get("grpc-status")
                if found is not None:
                    return int(found)
        stream.sendall(connection.data_to_send())
    raise AssertionError("the connection ended without a status")
