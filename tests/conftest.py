"""What all tests can ask for. Nothing here starts before a test asks."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from xdist.scheduler import LoadScopeScheduling

# pytest's importlib mode puts no folder on the path; the tests' own helpers are imported as `tests.support`.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support import compose
from tests.support.names import unique_model_name
from tests.support.server import Server
from tests.support.server import mlflow_server as running_server

if TYPE_CHECKING:
    from mlflow import MlflowClient

# A shell without job control starts what it puts in the background with SIGINT ignored, and children inherit that: the
# tests that press Ctrl-C would wait for ever. A handler in this process becomes the default in theirs.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def measured(record_property) -> Callable[[str], None]:
    """Says a line at the end of the run, from whichever process the test ran in."""
    return lambda line: record_property("measured", line)


def pytest_terminal_summary(terminalreporter) -> None:
    """What the tests measured, so that a run says more than that it passed."""
    reports = [each for of_kind in terminalreporter.stats.values() for each in of_kind]
    properties = [p for each in reports if getattr(each, "when", "") == "call" for p in each.user_properties]
    if lines := [text for name, text in properties if name == "measured"]:
        terminalreporter.section("measured")
        terminalreporter.write_line("\n".join(lines))


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--stack`, see scripts/test."""
    parser.addoption(
        "--stack",
        choices=("containers", "wheels", "auto"),
        default="auto",
        help="what the servers of tests/integration/stack run in: containers if an engine answers, else wheels",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Containers that are demanded are not replaced by anything else."""
    if config.getoption("--stack") == "containers" and (missing := compose.missing()):
        raise pytest.UsageError(f"--stack containers, but {missing}")


class ByFile(LoadScopeScheduling):
    """Which tests run in one process: those of a file, and all that share the stack or an engine."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = nodeid.partition("::")[0]
        return "stack" if Path(file).parent.name in ("stack", "docker") else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """Files in their order: those that take long come first."""
    config.option.loadscopereorder = False
    return ByFile(config, log)


def pytest_report_header(config: pytest.Config) -> str:
    """What `--stack` comes to here."""
    return f"stack: {config.getoption('--stack')}, {compose.missing() or 'a container engine answers'}"


@pytest.fixture(scope="session")
def engine(request: pytest.FixtureRequest) -> None:
    """A container engine, for tests of what only containers show; they are skipped where there is none."""
    if request.config.getoption("--stack") == "wheels":
        pytest.skip("no container engine is used: --stack wheels")
    if missing := compose.missing():
        pytest.skip(f"no container engine: {missing}")


@pytest.fixture(scope="session")
def mlflow_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A real MLflow server, started once; `.uri` is its address."""
    with running_server(tmp_path_factory.mktemp("mlflow")) as server:
        yield server


@pytest.fixture(scope="session")
def mlflow_client(mlflow_server: Server) -> MlflowClient:
    """MLflow's own client, to arrange and to look."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
        from mlflow import MlflowClient

        return MlflowClient(mlflow_server.uri)


@pytest.fixture
def model_name() -> str:
    """The name of a model that no other test uses."""
    return unique_model_name()
