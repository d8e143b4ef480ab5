"""Releases models by the commands on every MLflow server that is promised, and writes down what came of it.

Each row of README.md's table is one walk of `release_path.py`: a server on an empty database, and a client that trains,
logs and serves. What did not work stands in the table; the exit code is 1 then.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import re
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from tests.matrix import versions
from tests.matrix.release_path import STEPS, ReleasePath, Walk
from tests.matrix.versions import Mlflow
from tests.support.cli import ROOT, Cli, ForkServer
from tests.support.names import unique_model_name
from tests.support.postgres_server import postgres_server
from tests.support.progress import progress
from tests.support.server import mlflow_server

PAGE = ROOT / "README.md"
DATABASES = ("SQLite", "PostgreSQL")
_TABLE = re.compile(r"(<!-- release path, by tests/matrix/run -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Row:
    """One walk: what it was on, as server, database and served model say themselves, and how far it came."""

    server: str
    database: str
    client: str
    walk: Walk

    def cells(self) -> list[str]:
        """As the table has it."""
        steps = ["yes"] * len(self.walk.done)
        if len(steps) < len(STEPS):
            steps += ["**no**", *["-"] * (len(STEPS) - len(steps) - 1)]
        return [self.server, self.database, self.walk.model or self.client, *steps]


def rows_wanted(known: Sequence[Mlflow]) -> list[tuple[Mlflow, str, Mlflow]]:
    """Server, database and client: each server with its own client, and the newest one with those older than it."""
    newest = known[-1]
    own = [(each, database, each) for each in known for database in DATABASES]
    return own + [(newest, DATABASES[-1], each) for each in known[:-1]]


@contextlib.contextmanager
def quick_commands() -> Iterator[ForkServer | None]:
    """What starts commands by forking: mostly they import MLflow. Where forking is fragile (macOS), nothing."""
    if sys.platform != "linux":
        yield None
        return
    forks = ForkServer()
    try:
        yield forks
    finally:
        forks.close()


def walk(server: Mlflow, database: str, client: Mlflow, forks: ForkServer | None) -> Row:
    """One row."""
    from mlflow import MlflowClient

    python, client_python = server.python(), client.python()
    with contextlib.ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="matrix-", ignore_cleanup_errors=True)))
        uri, named = running.enter_context(_empty(database, python))
        try:
            running.enter_context(_server_python(python))
            at = running.enter_context(mlflow_server(folder, uri))
        except RuntimeError as error:
            return Row(server.version, named, client.version, Walk(problem=str(error)))
        with urllib.request.urlopen(f"{at.uri}/version", timeout=30) as answer:
            answered = answer.read().decode()
        path = ReleasePath(Cli(at.uri, folder, forks), MlflowClient(at.uri), unique_model_name(), client_python)
        return Row(answered, named, client.version, path.go())


@contextlib.contextmanager
def _empty(database: str, python: str) -> Iterator[tuple[str, str]]:
    """An empty database for a server that runs in `python`: its URI for MLflow, and its name with its version."""
    if database == "PostgreSQL":
        with postgres_server() as postgres:
            yield postgres.uri, f"PostgreSQL {postgres.ask('SHOW server_version').split()[0]}"
    else:
        ask = [python, "-c", "import sqlite3; print(sqlite3.sqlite_version)"]
        yield "", f"SQLite {subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()}"


@contextlib.contextmanager
def _server_python(python: str) -> Iterator[None]:
    """Let `mlflow_server` run in another environment."""
    os.environ["CHAMPION_GATE_TEST_SERVER_PYTHON"] = python
    try:
        yield
    finally:
        del os.environ["CHAMPION_GATE_TEST_SERVER_PYTHON"]


def table(rows: Sequence[Row]) -> str:
    """What the page says of these rows."""
    lines = ["server", "database", "client", *STEPS], *(row.cells() for row in rows)
    head, *written = [f"| {' | '.join(cells)} |" for cells in lines]
    written = [head, "|---" * (3 + len(STEPS)) + "|", *written]
    own = f"`mlflow-skinny` {version('mlflow-skinny')} on Python {platform.python_version()}, {platform.system()}"
    return "\n".join(written) + f"\n\nThe commands ran with {own}.\n"


def page(text: str, rows: Sequence[Row]) -> str:
    """The page with its table made anew."""
    return _TABLE.sub(lambda match: f"{match[1]}\n{table(rows)}\n{match[2]}", text)


def main() -> int:
    """The command line of `tests/matrix/run`."""
    known = versions.known()
    parser = argparse.ArgumentParser(prog="tests/matrix/run", description=(__doc__ or "").partition("\n")[0])
    numbers = [each.version for each in known]
    parser.add_argument("--server", choices=numbers, help="these rows only; the page stays as it is")
    parser.add_argument("--database", choices=DATABASES, help="these rows only; the page stays as it is")
    options = parser.parse_args()
    wanted = [
        (server, database, client)
        for server, database, client in rows_wanted(known)
        if options.server in (None, server.version) and options.database in (None, database)
    ]
    problems = [each.problem for each in dict.fromkeys(each for row in wanted for each in (row[0], row[2]))]
    if any(problems):
        parser.error("; ".join(filter(None, problems)))
    rows = []
    with quick_commands() as forks:
        for number, (server, database, client) in enumerate(wanted, start=1):
            progress(f"{number} of {len(wanted)}: MLflow {server.version} on {database}, client {client.version}")
            rows.append(walk(server, database, client, forks))
    progress("")
    print(table(rows), end="")
    for row in rows:
        if row.walk.problem:
            print(f"{' / '.join(row.cells()[:3])}: {row.walk.problem}", file=sys.stderr)
    if len(wanted) == len(rows_wanted(known)):
        PAGE.write_text(page(PAGE.read_text(encoding="utf-8"), rows), encoding="utf-8")
    return int(any(row.walk.problem for row in rows))


if __name__ == "__main__":
    sys.exit(main())
