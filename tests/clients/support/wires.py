"""The public clients, each behind one interface, so that one test runs over all of them.

A wire sends named arrays and gives named arrays back, or raises the client's own
`InferenceServerException`. What the clients do is theirs: nothing here builds a
request by hand.
"""

from __future__ import annotations

import asyncio
import queue
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import tritonclient.grpc as grpcclient
import tritonclient.grpc.aio as grpcaio
import tritonclient.http as httpclient
import tritonclient.http.aio as httpaio
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from .gateway import Gateway

# How long an answer may take before it counts as a hang.
PATIENCE_S = 60

Arrays = dict[str, np.ndarray]


@dataclass
class Answer:
    """An answer, whatever carried it."""

    arrays: Arrays
    model: str
    version: str
    id: str
    parameters: dict[str, Any] = field(default_factory=dict)


@dataclass
class Wanted:
    """A requested output."""

    name: str
    classes: int = 0


class Wire:
    """One client in one way of use."""

    name = ""
    # Whether tensors travel as JSON, which has no bytes that are no text.
    json = False
    protocol = "http"

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    def infer(self, model: str, inputs: Arrays, outputs=None, **options) -> Answer:
        """Sends `inputs`; `outputs` are names or `Wanted`, and none means all."""
        raise NotImplementedError

    def __repr__(self) -> str:
        return self.name


def wanted(outputs) -> list[Wanted]:
    return [output if isinstance(output, Wanted) else Wanted(output) for output in outputs]


# HTTP ---------------------------------------------------------------------------------


class Http(Wire):
    """`tritonclient.http`, binary tensors both ways."""

    name = "http"
    options: dict[str, str] = {}

    def tensors(self, inputs: Arrays) -> list[httpclient.InferInput]:
        made = []
        for name, array in inputs.items():
            tensor = httpclient.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
            made.append(tensor.set_data_from_numpy(array, binary_data=not self.json))
        return made

    def wanted(self, model: str, outputs) -> list[httpclient.InferRequestedOutput] | None:
        if outputs is None and not self.json:
            return None
        # The client asks for binary data whenever it names no output.
        outputs = self.all_outputs(model) if outputs is None else outputs
        return [
            httpclient.InferRequestedOutput(o.name, binary_data=not self.json, class_count=o.classes)
            for o in wanted(outputs)
        ]

    def all_outputs(self, model: str) -> list[str]:
        with httpclient.InferenceServerClient(self.gateway.addresses["inference"]) as client:
            return [output["name"] for output in client.get_model_metadata(model)["outputs"]]

    def answer(self, result: httpclient.InferResult) -> Answer:
        response = result.get_response()
        names = [output["name"] for output in response["outputs"]]
        return Answer(
            {name: result.as_numpy(name) for name in names},
            response["model_name"],
            response["model_version"],
            response.get("id", ""),
            response.get("parameters", {}),
        )

    def infer(self, model, inputs, outputs=None, **options):
        address = self.gateway.addresses["inference"]
        with httpclient.InferenceServerClient(address) as client:
            result = client.infer(
                model,
                self.tensors(inputs),
                outputs=self.wanted(model, outputs),
                **self.options,
                **options,
            )
            return self.answer(result)


class HttpJson(Http):
    """JSON tensors both ways."""

    name = "http-json"
    json = True


class HttpGzip(Http):
    """Both bodies compressed with gzip."""

    name = "http-gzip"
    options = {"request_compression_algorithm": "gzip", "response_compression_algorithm": "gzip"}


class HttpDeflate(HttpJson):
    """Both bodies compressed with zlib, JSON tensors."""

    name = "http-json-deflate"
    options = {
        "request_compression_algorithm": "deflate",
        "response_compression_algorithm": "deflate",
    }


class HttpAsync(Http):
    """`async_infer` on the client's pool of greenlets."""

    name = "http-async"

    def infer(self, model, inputs, outputs=None, **options):
        address = self.gateway.addresses["inference"]
        with httpclient.InferenceServerClient(address, concurrency=2) as client:
            handle = client.async_infer(
                model, self.tensors(inputs), outputs=self.wanted(model, outputs), **options
            )
            return self.answer(handle.get_result(timeout=PATIENCE_S))


class HttpAio(Http):
    """`tritonclient.http.aio`."""

    name = "http-aio"

    def infer(self, model, inputs, outputs=None, **options):
        async def work():
            address = self.gateway.addresses["inference"]
            async with httpaio.InferenceServerClient(address) as client:
                return await client.infer(
                    model, self.tensors(inputs), outputs=self.wanted(model, outputs), **options
                )

        return self.answer(asyncio.run(work()))


# gRPC ---------------------------------------------------------------------------------


class Grpc(Wire):
    """`tritonclient.grpc`."""

    name = "grpc"
    protocol = "grpc"
    options: dict[str, str] = {}

    def tensors(self, inputs: Arrays) -> list[grpcclient.InferInput]:
        made = []
        for name, array in inputs.items():
            tensor = grpcclient.InferInput(name, list(array.shape), np_to_triton_dtype(array.dtype))
            made.append(tensor.set_data_from_numpy(array))
        return made

    def wanted(self, outputs) -> list[grpcclient.InferRequestedOutput] | None:
        if outputs is None:
            return None
        return [
            grpcclient.InferRequestedOutput(output.name, class_count=output.classes)
            for output in wanted(outputs)
        ]

    def answer(self, result: grpcclient.InferResult) -> Answer:
        response = result.get_response()
        return Answer(
            {output.name: result.as_numpy(output.name) for output in response.outputs},
            response.model_name,
            response.model_version,
            response.id,
            {name: parameter(value) for name, value in response.parameters.items()},
        )

    def infer(self, model, inputs, outputs=None, **options):
        with grpcclient.InferenceServerClient(self.gateway.grpc) as client:
            result = client.infer(
                model,
                self.tensors(inputs),
                outputs=self.wanted(outputs),
                client_timeout=PATIENCE_S,
                **self.options,
                **options,
            )
            return self.answer(result)


def parameter(value) -> Any:
    return getattr(value, value.WhichOneof("parameter_choice"))


class GrpcGzip(Grpc):
    """Messages compressed with gzip."""

    name = "grpc-gzip"
    options = {"compression_algorithm": "gzip"}


class GrpcDeflate(Grpc):
    """Messages compressed with deflate."""

    name = "grpc-deflate"
    options = {"compression_algorithm": "deflate"}


class GrpcAsync(Grpc):
    """`async_infer` with a callback."""

    name = "grpc-async"

    def infer(self, model, inputs, outputs=None, **options):
        came: queue.Queue = queue.Queue()
        with grpcclient.InferenceServerClient(self.gateway.grpc) as client:
            client.async_infer(
                model,
                self.tensors(inputs),
                callback=lambda result, error: came.put((result, error)),
                outputs=self.wanted(outputs),
                **options,
            )
            result, error = came.get(timeout=PATIENCE_S)
        return self.or_raise(result, error)

    def or_raise(self, result, error: InferenceServerException | None) -> Answer:
        if error is not None:
            raise error
        return self.answer(result)


class GrpcStream(GrpcAsync):
    """`ModelStreamInfer` by the callback client, one request a stream."""

    name = "grpc-stream"

    def infer(self, model, inputs, outputs=None, **options):
        came: queue.Queue = queue.Queue()
        with grpcclient.InferenceServerClient(self.gateway.grpc) as client:
            client.start_stream(lambda result, error: came.put((result, error)))
            client.async_stream_infer(
                model, self.tensors(inputs), outputs=self.wanted(outputs), **options
            )
            result, error = came.get(timeout=PATIENCE_S)
            client.stop_stream()
        return self.or_raise(result, error)


class GrpcAio(Grpc):
    """`tritonclient.grpc.aio`."""

    name = "grpc-aio"

    def infer(self, model, inputs, outputs=None, **options):
        async def work():
            async with grpcaio.InferenceServerClient(self.gateway.grpc) as client:
                return await client.infer(
                    model, self.tensors(inputs), outputs=self.wanted(outputs), **options
                )

        return self.answer(asyncio.run(work()))


HTTP_WIRES = [Http, HttpJson, HttpGzip, HttpDeflate, HttpAsync, HttpAio]
GRPC_WIRES = [Grpc, GrpcGzip, GrpcDeflate, GrpcAsync, GrpcAio, GrpcStream]
