"""Many requests at once over one client."""

import asyncio
import queue
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import tritonclient.grpc as grpcclient
import tritonclient.grpc.aio as grpcaio
import tritonclient.http as httpclient
import tritonclient.http.aio as httpaio
from support.reference import answer, assert_equal
from support.wires import PATIENCE_S, Grpc, Http

COUNT = 64


def batches(rng):
    return [rng.normal(size=(1 + n % 5, 4)).astype("f4") for n in range(COUNT)]


def check(gateway, xs, answers):
    for x, got in zip(xs, answers, strict=True):
        assert_equal(got.arrays, answer(gateway.models, "perceptron", {"x": x}))


def test_http_pool(gateway, rng):
    xs, wire = batches(rng), Http(gateway)
    address = gateway.addresses["inference"]
    with httpclient.InferenceServerClient(address, concurrency=8) as client:
        handles = [client.async_infer("perceptron", wire.tensors({"x": x})) for x in xs]
        check(gateway, xs, [wire.answer(h.get_result(timeout=PATIENCE_S)) for h in handles])


def test_http_threads_of_their_own(gateway, rng):
    xs, wire = batches(rng), Http(gateway)
    with ThreadPoolExecutor(8) as pool:
        check(gateway, xs, pool.map(lambda x: wire.infer("perceptron", {"x": x}), xs))


def test_http_asyncio(gateway, rng):
    xs, wire = batches(rng), Http(gateway)

    async def work():
        async with httpaio.InferenceServerClient(gateway.addresses["inference"]) as client:
            return await asyncio.gather(
                *(client.infer("perceptron", wire.tensors({"x": x})) for x in xs)
            )

    check(gateway, xs, map(wire.answer, asyncio.run(work())))


def test_grpc_asyncio(gateway, rng):
    xs, wire = batches(rng), Grpc(gateway)

    async def work():
        async with grpcaio.InferenceServerClient(gateway.grpc) as client:
            return await asyncio.gather(
                *(client.infer("perceptron", wire.tensors({"x": x})) for x in xs)
            )

    check(gateway, xs, map(wire.answer, asyncio.run(work())))


def test_grpc_callbacks(gateway, rng):
    xs, wire = batches(rng), Grpc(gateway)
    came: queue.Queue = queue.Queue()
    with grpcclient.InferenceServerClient(gateway.grpc) as client:
        for n, x in enumerate(xs):
            client.async_infer(
                "perceptron",
                wire.tensors({"x": x}),
                callback=lambda result, error: came.put((result, error)),
                request_id=str(n),
            )
        results = [came.get(timeout=PATIENCE_S) for _ in xs]
    assert [error for _, error in results if error] == []
    answers = sorted((wire.answer(result) for result, _ in results), key=lambda a: int(a.id))
    check(gateway, xs, answers)


def test_one_stream_answers_each_request_once(gateway, rng):
    xs, wire = batches(rng), Grpc(gateway)
    came: queue.Queue = queue.Queue()
    with grpcclient.InferenceServerClient(gateway.grpc) as client:
        client.start_stream(lambda result, error: came.put((result, error)))
        for n, x in enumerate(xs):
            client.async_stream_infer("perceptron", wire.tensors({"x": x}), request_id=str(n))
        results = [came.get(timeout=PATIENCE_S) for _ in xs]
        client.stop_stream()
    assert came.empty()
    assert [error for _, error in results if error] == []
    answers = sorted((wire.answer(result) for result, _ in results), key=lambda a: int(a.id))
    check(gateway, xs, answers)


def test_an_error_does_not_end_the_stream(gateway, rng):
    wire, x = Grpc(gateway), rng.normal(size=(1, 4)).astype("f4")
    wrong = {"x": np.zeros((1, 5), "f4")}
    came: queue.Queue = queue.Queue()
    with grpcclient.InferenceServerClient(gateway.grpc) as client:
        client.start_stream(lambda result, error: came.put((result, error)))
        for inputs in ({"x": x}, wrong, {"x": x}):
            client.async_stream_infer("perceptron", wire.tensors(inputs))
        results = [came.get(timeout=PATIENCE_S) for _ in range(3)]
        client.stop_stream()
    messages = [error.message() for _, error in results if error]
    assert messages == ['input "x": expected shape [-1, 4], got [1, 5]']
    for result in (result for result, error in results if not error):
        assert_equal(wire.answer(result).arrays, answer(gateway.models, "perceptron", {"x": x}))


def test_stream_by_asyncio(gateway, rng):
    xs, wire = batches(rng), Grpc(gateway)

    async def work():
        async def requests():
            for n, x in enumerate(xs):
                inputs = wire.tensors({"x": x})
                yield {"model_name": "perceptron", "inputs": inputs, "request_id": str(n)}

        got = []
        async with grpcaio.InferenceServerClient(gateway.grpc) as client:
            async for result, error in client.stream_infer(requests()):
                assert error is None
                got.append(wire.answer(result))
        return got

    answers = sorted(asyncio.run(work()), key=lambda a: int(a.id))
    check(gateway, xs, answers)


def test_a_stream_that_stops_in_the_middle_hurts_nobody(gateway, rng):
    wire, x = Grpc(gateway), rng.normal(size=(1, 4)).astype("f4")
    with grpcclient.InferenceServerClient(gateway.grpc) as client:
        client.start_stream(lambda result, error: None)
        for _ in range(COUNT):
            client.async_stream_infer("perceptron", wire.tensors({"x": x}))
        client.stop_stream(cancel_requests=True)
    got = wire.infer("perceptron", {"x": x})
    assert_equal(got.arrays, answer(gateway.models, "perceptron", {"x": x}))
