"""What the tests of the commands share: a command line, a model of their own, and a proxy that breaks things."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support.cli import Cli, ForkServer
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.github_api import github_api
from tests.support.names import unique_model_name
from tests.support.redis_server import RedisServer, redis_server
from tests.support.registry_world import World
from tests.support.server import Server
from tests.support.steps import released, validated

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


@pytest.fixture(scope="session")
def settled(mlflow_server, mlflow_client, forks, tmp_path_factory) -> tuple[World, dict[str, Any]]:
    """A model with versions 1 and 2 released and 3 that may be promoted, and all that is known of it. Made once."""
    world = World(mlflow_client, unique_model_name())
    cli = Cli(mlflow_server.uri, tmp_path_factory.mktemp("settled"), forks)
    for ndcg in (0.80, 0.82):
        released(cli, world, ndcg)
    validated(cli, world, 0.84)
    return world, world.snapshot()


@pytest.fixture
def untouched(settled: tuple[World, dict[str, Any]]) -> Iterator[World]:
    """`settled` for tests of what changes nothing, and the proof that nothing changed."""
    world, as_it_was = settled
    yield world
    assert world.snapshot() == as_it_was


@pytest.fixture
def proxy(mlflow_server: Server) -> Iterator[FaultProxy]:
    """A proxy before the real server, without faults so far."""
    with fault_proxy(mlflow_server.uri) as running:
        yield running


@pytest.fixture
def faulty(cli: Cli, proxy: FaultProxy) -> Cli:
    """As `cli`, through the proxy."""
    return cli.at(proxy.uri)


@pytest.fixture
def api() -> Iterator[Any]:
    """GitHub's REST and GraphQL API, as far as the commands ask it."""
    with github_api() as running:
        yield running


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A real Redis."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def own_redis(tmp_path: Path) -> Iterator[RedisServer]:
    """A real Redis that the test may break."""
    with redis_server(tmp_path) as server:
        yield server
