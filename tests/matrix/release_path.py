"""A model's way from training to a rollback by the commands, with models that one MLflow client logs and serves."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tests.matrix.versions import cache_home
from tests.support import judged
from tests.support.cli import Cli, Result
from tests.support.registry_world import World
from tests.support.steps import history, promote, rollback

if TYPE_CHECKING:
    from mlflow import MlflowClient

HERE = Path(__file__).parent
STEPS = ("trained", "first release", "better one", "worse one refused", "rolled back", "history")
# What a model's environment may take to be installed.
INSTALLING = 900


@dataclass
class Walk:
    """How far it came: the steps that did as they should, and why it ended where it did."""

    done: list[str] = field(default_factory=list)
    problem: str = ""
    model: str = ""
    """What the served model's own files say it was logged with."""


class _Stopped(Exception):
    pass


class ReleasePath:
    """One model's life on the server of `cli`; its trainings and its serving run in `client_python`."""

    def __init__(self, cli: Cli, client: MlflowClient, name: str, client_python: str) -> None:
        self.cli = cli
        self.world = World(client, name)
        self.python = client_python
        self.data = cli.folder / "judged.parquet"
        self.walk = Walk()

    def go(self) -> Walk:
        """All steps, up to the first that does not do as it should."""
        judged.queries().write_parquet(self.data)
        try:
            with self._step("trained"):
                for number, features in (("1", "good"), ("2", "good,poor"), ("3", "poor")):
                    self._train(features, number)
            with self._step("first release"):
                self._gate("1", "passed", "--threshold", "0.5")
                self._promote("1")
            with self._step("better one"):
                self._gate("2", "passed")
                self._gate("2", "passed", "--evaluation-data", self.data)
                self._promote("2")
                self._serves("2")
            with self._step("worse one refused"):
                self._gate("3", "failed")
                self._refused("3")
                self._gate("3", "failed", "--evaluation-data", self.data)
                self._refused("3")
            with self._step("rolled back"):
                self._done(rollback(self.cli, self.world), 0, changed="true", version="1")
                self._aliases(champion="1", **{"rolled-back": "2", "challenger": "3"})
                self._serves("1")
            with self._step("history"):
                self._told()
        except _Stopped:
            pass
        return self.walk

    @contextmanager
    def _step(self, name: str) -> Iterator[None]:
        from mlflow.exceptions import MlflowException

        try:
            yield
        except (AssertionError, LookupError, ValueError, MlflowException, subprocess.TimeoutExpired) as error:
            self.walk.problem = f"{name}: {error}"
            raise _Stopped from error
        self.walk.done.append(name)

    def _train(self, features: str, number: str) -> None:
        done = self.cli(
            "train-and-register",
            *("--experiment-name", self.world.experiment, "--model-name", self.world.name, "--data-version", "d1"),
            *("--", self.python, HERE / "train.py", "--data", self.data, "--features", features),
            timeout=INSTALLING,
        )
        self._done(done, 0, version=number)
        run = self.world.client.get_run(done.outputs["run-id"])
        assert (run.info.status, "val_ndcg_at_10" in run.data.metrics) == ("FINISHED", True), run
        self.world.runs[number] = done.outputs["run-id"]
        assert self.world.aliases["challenger"] == number, self.world.aliases

    def _gate(self, number: str, verdict: str, *evidence: object) -> None:
        # In the cache that the next one finds, not in this job's.
        cache = {"RUNNER_TEMP": None, "XDG_CACHE_HOME": str(cache_home())}
        given = ("--model-name", self.world.name, "--version", number, *evidence)
        done = self.cli("validate-model", *given, timeout=INSTALLING, **cache)
        basis = "judged queries" if "--evaluation-data" in evidence else "point estimate"
        self._done(done, {"passed": 0, "failed": 1}[verdict], verdict=verdict, basis=basis)

    def _promote(self, number: str) -> None:
        self._done(promote(self.cli, self.world, "--version", number), 0, changed="true")
        self._aliases(champion=number)

    def _refused(self, number: str) -> None:
        before = self.world.aliases
        self._done(promote(self.cli, self.world, "--version", number), 1)
        assert self.world.aliases == before, self.world.aliases

    def _serves(self, number: str) -> None:
        ran = subprocess.run(
            [self.python, HERE / "serve.py", self.world.name, self.data],
            env=self.cli.environment(github=False),
            cwd=self.cli.folder,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert ran.returncode == 0, f"serving failed: {ran.stderr[-3000:]}"
        said = json.loads(ran.stdout.splitlines()[-1])
        assert said["run_id"] == self.world.runs[number], said
        self.walk.model = f"MLflow {said['mlflow']}, Python {said['python']}"

    def _told(self) -> None:
        done = history(self.cli, self.world)
        self._done(done, 0)
        rows = [(row["kind"], row["from"], row["to"], row["state"], row["verdict"]) for row in done.json()]
        assert rows == [
            ("rollback", "2", "1", "done", ""),
            ("gate", "2", "3", "done", "failed"),
            ("gate", "2", "3", "done", "failed"),
            ("promotion", "1", "2", "done", "passed"),
            ("gate", "1", "2", "done", "passed"),
            ("gate", "1", "2", "done", "passed"),
            ("promotion", None, "1", "done", "passed"),
            ("gate", None, "1", "done", "passed"),
        ], rows

    def _done(self, done: Result, code: int, **outputs: str) -> None:
        got = {name: done.outputs.get(name) for name in outputs}
        assert (done.exit_code, got) == (code, outputs), f"exit code {done.exit_code}, {got}:\n{done.text[-4000:]}"

    def _aliases(self, **expected: str) -> None:
        aliases = self.world.aliases
        assert {alias: aliases.get(alias) for alias in expected} == expected, aliases
