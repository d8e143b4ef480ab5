"""Runs a workflow as a user wrote it: `act` on this machine, in a repository of its own, with our actions as `@v1`.

Two steps are put around those of the workflow. The first gives the job what a runner's image has (a `python` with
MLflow) and a temporary folder that outlives the job, so that the gate's environment is made once for all tests. The
last writes down what the steps said, which is what the tests judge besides the registry.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.actions.action_files import ROOT

ACTION = "champion-gate/champion-gate@v1"
ACTOR = "ada"
_SHIPPED = ("action.yml", "actions", "scripts", "requirements")
_FIRST_STEP = """\
      - name: What the runner's image has
        run: |
          echo "$IMAGE_PATH" >> "$GITHUB_PATH"
          echo "RUNNER_TEMP=$IMAGE_TEMP" >> "$GITHUB_ENV"
"""
_LAST_STEP = """\
      - name: What the steps said
        if: ${{ always() }}
        run: printf '%s' "$STEPS" > "$RESULTS/steps.json"
        env:
          STEPS: ${{ toJSON(steps) }}
"""
_EMPTY_ACTION = "name: x\ndescription: x\nruns:\n  using: composite\n  steps:\n    - {run: 'true', shell: bash}\n"
_run_ids = itertools.count(int(time.time()) * 1000)


@dataclass(frozen=True)
class Step:
    """What a workflow can know of one of its steps."""

    outcome: str
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class Ran:
    """How a workflow run ended, what its steps with an id said, and the folder that its `RESULTS` named."""

    success: bool
    steps: Mapping[str, Step]
    results: Path
    log: str

    def __getitem__(self, step: str) -> Step:
        assert step in self.steps, self.log
        return self.steps[step]


def find_act() -> str | None:
    """The `act` to use: as `CHAMPION_GATE_TEST_ACT` says, else the one on PATH."""
    return os.environ.get("CHAMPION_GATE_TEST_ACT") or shutil.which("act")


class Runner:
    """A machine that runs workflows. `folder` holds all it makes."""

    def __init__(self, act: str, folder: Path, tracking_uri: str) -> None:
        self._act = act
        self._folder = folder
        self._uri = tracking_uri
        self._numbers = itertools.count(1)
        self._checkout = folder / "champion-gate"
        self._checkout.mkdir()
        for name in _SHIPPED:
            source = ROOT / name
            if source.is_dir():
                unwanted = shutil.ignore_patterns("__pycache__", ".*_cache")
                shutil.copytree(source, self._checkout / name, ignore=unwanted)
            else:
                shutil.copy2(source, self._checkout / name)
        self._empty = folder / "empty-action"
        self._empty.mkdir()
        (self._empty / "action.yml").write_text(_EMPTY_ACTION)
        (folder / "temp").mkdir()
        image = folder / "image"
        image.mkdir()
        self._program(image / "python", f'exec {shlex.quote(sys.executable)} "$@"')
        # What `pip install` would bring is in that interpreter's environment already.
        self._program(image / "pip", "exit 0")

    @staticmethod
    def _program(path: Path, body: str) -> None:
        path.write_text(f"#!/bin/sh\n{body}\n")
        path.chmod(0o755)

    def run(
        self,
        workflow: str,
        *,
        event: str = "push",
        run_id: str | None = None,
        inputs: Mapping[str, str] | None = None,
        variables: Mapping[str, str] | None = None,
        files: Mapping[str, str] | None = None,
        payload: Mapping[str, Any] | None = None,
    ) -> Ran:
        """Run the one job of `workflow` in a repository that holds `files`.

        `variables` are the repository's (`vars.X`); `MLFLOW_TRACKING_URI` is always among them. `payload` is what else
        the event says. Each call is a workflow
        run of its own unless `run_id` says otherwise.
        """
        folder = self._folder / f"run-{next(self._numbers)}"
        repository, results = folder / "repository", folder / "results"
        results.mkdir(parents=True)
        path = repository / ".github" / "workflows" / "workflow.yml"
        for name, text in {**(files or {}), str(path): self._between(workflow)}.items():
            file = repository / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")
        self._commit(repository)
        (folder / "event.json").write_text(json.dumps({"inputs": dict(inputs or {}), **(payload or {})}))
        values = {"MLFLOW_TRACKING_URI": self._uri, **(variables or {})}
        job = {
            "RESULTS": str(results),
            "IMAGE_PATH": str(self._folder / "image"),
            "IMAGE_TEMP": str(self._folder / "temp"),
            "GITHUB_RUN_ID": run_id or new_run_id(),
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        log, code = self._start(
            [
                *(self._act, event, "--workflows", str(path), "--eventpath", str(folder / "event.json")),
                *("--platform", "ubuntu-latest=-self-hosted", "--pull=false", "--rm", "--actor", ACTOR),
                *("--local-repository", f"{ACTION}={self._checkout}"),
                *self._replaced(workflow),
                *(part for name, value in values.items() for part in ("--var", f"{name}={value}")),
                *(part for name, value in job.items() for part in ("--env", f"{name}={value}")),
            ],
            repository,
            folder / "log",
        )
        said = results / "steps.json"
        assert said.is_file(), f"the job did not get to its end:\n{log}"
        steps = {
            name: Step(step["outcome"], step["outputs"])
            for name, step in json.loads(said.read_text(encoding="utf-8")).items()
        }
        return Ran(code == 0, steps, results, log)

    @staticmethod
    def _between(workflow: str) -> str:
        # As text, since YAML written anew would not be the user's workflow any more.
        assert len(re.findall(r"^    steps:$", workflow, re.MULTILINE)) == 1, "one job, with its steps at the end"
        return workflow.replace("    steps:\n", "    steps:\n" + _FIRST_STEP, 1).rstrip("\n") + "\n" + _LAST_STEP

    def _replaced(self, workflow: str) -> list[str]:
        # act itself does what actions/checkout does. Any other action of others does nothing here.
        others = set(re.findall(r"uses: (?!champion-gate/|actions/checkout@)([\w./-]+@\w+)", workflow))
        return [part for other in sorted(others) for part in ("--local-repository", f"{other}={self._empty}")]

    @staticmethod
    def _commit(repository: Path) -> None:
        identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "commit.gpgsign=false")
        for command in (
            ("init", "--quiet", "--initial-branch=main"),
            ("remote", "add", "origin", "https://github.com/acme/search.git"),
            ("add", "--all"),
            (*identity, "commit", "--quiet", "--message", "A ranker"),
        ):
            subprocess.run(["git", *command], cwd=repository, check=True, capture_output=True)

    @staticmethod
    def _start(command: list[str], folder: Path, log: Path) -> tuple[str, int]:
        # What this process was started with is no business of the job.
        foreign = ("MLFLOW_", "CHAMPION_GATE_", "GITHUB_", "RUNNER_", "INPUT_", "ACT", "PYTHON", "VIRTUAL_ENV")
        env = {key: value for key, value in os.environ.items() if not key.startswith(foreign)}
        with (
            log.open("wb") as out,
            subprocess.Popen(
                command,
                cwd=folder,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            ) as act,
        ):
            try:
                code = act.wait(timeout=300)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(act.pid, signal.SIGKILL)
        return log.read_bytes().decode("utf-8", "replace"), code


def new_run_id() -> str:
    """The id of a workflow run that no other has."""
    return str(next(_run_ids))


def document(workflow: str) -> dict[str, Any]:
    """A workflow as data. Unlike YAML 1.1, `on` is a word and not true."""
    import yaml

    class Loader(yaml.SafeLoader):
        pass

    Loader.yaml_implicit_resolvers = {
        first: [(tag, regexp) for tag, regexp in resolvers if tag != "tag:yaml.org,2002:bool"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))
    loaded: dict[str, Any] = yaml.load(workflow, Loader)
    return loaded
