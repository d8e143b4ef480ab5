"""What the tests of the commands share: a command line, a model of their own, and a proxy that breaks things."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.cli import Cli, ForkServer
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.registry_world import World
from tests.support.server import Server

if TYPE_CHECKING:
    from mlflow import MlflowClient


@pytest.fixture(scope="session")
def forks() -> Iterator[ForkServer | None]:
    """Processes that start without importing MLflow again; where forking is fragile (macOS), there are none."""
    if sys.platform != "linux":
        yield None
        return
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture
def cli(mlflow_server: Server, tmp_path: Path, forks: ForkServer | None) -> Cli:
    """Runs commands as a step of a GitHub job does, against the real server."""
    return Cli(mlflow_server.uri, tmp_path, forks)


@pytest.fixture
def world(mlflow_client: MlflowClient, model_name: str) -> World:
    """A model of this test's own, not made yet."""
    return World(mlflow_client, model_name)


@pytest.fixture
def proxy(mlflow_server: Server) -> Iterator[FaultProxy]:
    """A proxy before the real server, without faults so far."""
    with fault_proxy(mlflow_server.uri) as running:
        yield running


@pytest.fixture
def faulty(cli: Cli, proxy: FaultProxy) -> Cli:
    """As `cli`, through the proxy."""
    return cli.at(proxy.uri)
