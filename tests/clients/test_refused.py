"""What is refused on purpose says so, and why: never as if the path was misspelt."""

import pytest
import requests
from support.controls import GrpcControl, HttpControl
from tritonclient.utils import InferenceServerException


@pytest.fixture(params=[HttpControl, GrpcControl], ids=lambda control: control.name)
def control(request, gateway):
    return request.param(gateway)


def refused(control, method, *arguments):
    with pytest.raises(InferenceServerException) as caught:
        control.call(method, *arguments)
    assert caught.value.status() in ("501", "StatusCode.UNIMPLEMENTED"), caught.value
    return caught.value.message()


def test_shared_memory(control):
    for kind in ("system", "cuda"):
        for method, arguments in {
            f"get_{kind}_shared_memory_status": (),
            f"unregister_{kind}_shared_memory": (),
        }.items():
            assert "memory" in refused(control, method, *arguments).lower()
    refused(control, "register_system_shared_memory", "region", "/key", 64)


def test_trace_and_log_settings(control):
    refused(control, "get_trace_settings")
    refused(control, "update_trace_settings", "churn", {"trace_rate": "1"})
    refused(control, "get_log_settings")
    refused(control, "update_log_settings", {"log_verbose_level": 1})


@pytest.mark.parametrize(
    "path",
    [
        "v2/models/churn/generate",
        "v2/models/churn/generate_stream",
        "v2/models/churn/versions/1/generate",
        "v1/models/churn:explain",
    ],
)
def test_routes_over_rest(gateway, path):
    reply = requests.post(f"{gateway.http}/{path}", json={"text_input": "a"}, timeout=30)
    assert reply.status_code == 501
    assert path in reply.json()["error"]
