"""The servers that the tests in this folder run on: in containers or from wheels, as `--stack` says.

The tests are the same for both. Beside those written here, they are some of the commands' own, imported: the ones that
show most about the way to a server. All sign in as a user that may change only what it made itself.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support import compose
from tests.support.cli import Cli
from tests.support.compose import ComposeStack, Project
from tests.support.fault_proxy import FaultProxy, fault_proxy
from tests.support.prepared import Template, template
from tests.support.registry_world import World
from tests.support.stack import Stack
from tests.support.wheel_stack import wheel_stack

if TYPE_CHECKING:
    from mlflow import MlflowClient

OVERRIDES = compose.ROOT / "tests" / "docker" / "compose.yml"
ANY_PORT = "127.0.0.1:"


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The containers, not started yet."""
    folder = compose.server_folder(
        tmp_path_factory.mktemp("stack"), HTTPS_ADDRESS=ANY_PORT, REDIS_ADDRESS=ANY_PORT, MLFLOW_WORKERS="2"
    )
    return Project(compose.project_name("stack"), folder, OVERRIDES)


# pytest-docker's: what it starts and stops.


@pytest.fixture(scope="session")
def docker_compose_command() -> str:
    return shlex.join(compose.command())


@pytest.fixture(scope="session")
def docker_compose_file(project: Project) -> list[str]:
    return [str(file) for file in project.files]


@pytest.fixture(scope="session")
def docker_compose_project_name(project: Project) -> str:
    return project.name


@pytest.fixture(scope="session")
def docker_setup() -> list[str]:
    return [f"up --detach --wait --wait-timeout {compose.START_LIMIT}"]


@pytest.fixture(scope="session")
def docker_cleanup() -> list[str]:
    return ["down --volumes --remove-orphans --timeout 5"]


@pytest.fixture(scope="session")
def stack(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """All servers, up and empty but for the user of the jobs."""
    wanted = request.config.getoption("--stack")
    why_not = "" if wanted == "containers" else wanted if wanted == "wheels" else compose.missing()
    if not why_not:
        project = request.getfixturevalue("project")
        missing = project.missing_image()
        assert not (missing and wanted == "containers"), missing
        if not missing:
            with _reported(project):
                request.getfixturevalue("docker_services")
                running = ComposeStack(project)
                running.add_user()
            yield running
            return
        why_not = missing
    with request.config.pluginmanager.get_plugin("capturemanager").global_and_fixture_disabled():
        print(f"\nstack: from wheels ({why_not})")
    with wheel_stack(tmp_path_factory.mktemp("wheels")) as running:
        running.add_user()
        yield running


@contextmanager
def _reported(project: Project) -> Iterator[None]:
    """What the containers said, if they do not come up; and none of them stays."""
    try:
        yield
    except BaseException as error:
        try:
            told = project.told()
        finally:
            project.down()
        if not isinstance(error, Exception):
            raise
        raise RuntimeError(f"The containers did not come up: {error}\nThey said:\n{told}") from error


# The same names as elsewhere, for other servers.


@pytest.fixture(scope="session")
def mlflow_server(stack: Stack) -> Stack:
    return stack


@pytest.fixture(scope="session")
def mlflow_client(stack: Stack) -> MlflowClient:
    from mlflow import MlflowClient

    return MlflowClient(stack.uri)


@pytest.fixture(autouse=True)
def _signed_in(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client of this process, too, signs in as the jobs do."""
    for name, value in stack.variables().items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def cli(stack: Stack, tmp_path: Path, forks) -> Cli:
    return Cli(stack.uri, tmp_path, forks, stack.variables())


@pytest.fixture
def proxy(stack: Stack) -> Iterator[FaultProxy]:
    with fault_proxy(stack.uri, stack.context()) as running:
        yield running


@pytest.fixture(scope="session")
def two_released(stack: Stack, mlflow_client: MlflowClient, forks, tmp_path_factory) -> Template:
    """Versions 1 and 2 released in turn, 3 with a passed verdict; to be copied."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in stack.variables().items():
            patch.setenv(name, value)
        return template(mlflow_client, Cli(stack.uri, tmp_path_factory.mktemp("two"), forks, stack.variables()), 2)


@pytest.fixture
def waiting(two_released: Template, _signed_in: None) -> World:
    """A model of the test's own: version 2 is champion, 1 was it before, 3 may be promoted."""
    return two_released.copy()


@pytest.fixture
def lease(stack: Stack) -> tuple[str, str]:
    """The options of a command that takes the lease."""
    return ("--redis-url", stack.redis_url)
