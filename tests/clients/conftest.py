"""Starts the gateway once for all tests that change nothing in it."""

from __future__ import annotations

import contextlib

import numpy as np
import pytest
from support import gateway as program
from support import models, wires


@contextlib.contextmanager
def running(folder, build, **settings):
    """A gateway over a repository that `build` writes; it must end well."""
    repository = folder / "models"
    repository.mkdir()
    build(repository)
    gateway = program.start(repository, folder / "state", **settings)
    try:
        yield gateway
    finally:
        code = gateway.stop()
    assert code == 0, "the exit code on SIGTERM"


@pytest.fixture(scope="session")
def gateway(tmp_path_factory):
    """A gateway over all models, shared: nobody changes what it serves."""
    # Small limits, so that what is over them is soon sent.
    limits = {"SERVER_BODY_MAX": "16MiB", "GRPC_MESSAGE_MAX": "16MiB"}
    folder = tmp_path_factory.mktemp("gateway")
    with running(folder, models.repository, **limits) as gateway:
        yield gateway


@pytest.fixture(params=wires.HTTP_WIRES + wires.GRPC_WIRES, ids=lambda wire: wire.name)
def wire(request, gateway):
    """Each public client in turn."""
    return request.param(gateway)


@pytest.fixture(params=[wires.Http, wires.Grpc], ids=lambda wire: wire.name)
def protocol(request, gateway):
    """One client of each protocol, for what does not depend on the client."""
    return request.param(gateway)


@pytest.fixture
def rng():
    """The same numbers in every run."""
    return np.random.default_rng(7)
