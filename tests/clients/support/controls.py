"""What the clients offer beside inference, in one form for both protocols."""

from __future__ import annotations

from typing import Any

import tritonclient.grpc as grpcclient
import tritonclient.http as httpclient

from .gateway import Gateway

# Whole numbers that protobuf's JSON writes as strings.
NUMBERS = {
    "shape",
    "dims",
    "count",
    "ns",
    "inference_count",
    "execution_count",
    "last_inference",
    "batch_size",
    "max_queue_delay_microseconds",
}


class Control:
    """Reads and steers a gateway by `tritonclient`."""

    name = ""

    def __init__(self, gateway: Gateway) -> None:
        self.gateway = gateway

    def call(self, method: str, *arguments, **options) -> Any:
        """Calls the client's method of that name."""
        raise NotImplementedError

    def config(self, model: str, version: str = "") -> dict[str, Any]:
        """The configuration of a model."""
        raise NotImplementedError

    def index(self) -> list[dict[str, Any]]:
        """The repository's index."""
        raise NotImplementedError


class HttpControl(Control):
    """By `tritonclient.http`."""

    name = "http"

    def call(self, method, *arguments, **options):
        with httpclient.InferenceServerClient(self.gateway.addresses["inference"]) as client:
            return getattr(client, method)(*arguments, **options)

    read = call

    def config(self, model, version=""):
        return self.call("get_model_config", model, version)

    def index(self):
        return self.call("get_model_repository_index")


class GrpcControl(Control):
    """By `tritonclient.grpc`."""

    name = "grpc"

    def call(self, method, *arguments, **options):
        with grpcclient.InferenceServerClient(self.gateway.grpc) as client:
            return getattr(client, method)(*arguments, **options)

    def read(self, method, *arguments, **options):
        """The same as JSON, with numbers as numbers."""
        return numbers(self.call(method, *arguments, as_json=True, **options))

    def config(self, model, version=""):
        return self.read("get_model_config", model, version)["config"]

    def index(self):
        return self.read("get_model_repository_index").get("models", [])


def numbers(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: numbers(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [numbers(inner, key) for inner in value]
    return int(value) if key in NUMBERS and isinstance(value, str) else value
