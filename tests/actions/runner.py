"""Runs a workflow as a user wrote it: `act` on this machine, in a repository of its own, with our actions as `@v1`.

Two steps are put around those of each job. The first gives the job what a runner's image has (a `python` with MLflow)
and a temporary folder that outlives the job, so that environments are made once for all tests. The last writes down
what the steps said, which is what the tests judge besides the registry.
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

import pytest

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
        run: printf '%s' "$STEPS" > "$RESULTS/$JOB.json"
        env:
          JOB: JOB_ID
          STEPS: ${{ toJSON(steps) }}
"""
_EMPTY_ACTION = "name: x\ndescription: x\nruns:\n  using: composite\n  steps:\n    - {run: 'true', shell: bash}\n"
# act does what actions/checkout does for the commit that it runs; for another one this does.
_CHECKOUT = """\
name: x
description: x
inputs:
  ref: {description: x}
  path: {description: x, default: .}
  persist-credentials: {description: x}
runs:
  using: composite
  steps:
    - shell: bash
      run: mkdir -p "$FOLDER" && git -C "$REPOSITORY" archive "$REF" | tar -x -C "$FOLDER"
      env:
        REF: ${{ inputs.ref }}
        FOLDER: ${{ inputs.path }}
"""
_run_ids = itertools.count(int(time.time()) * 1000)


@dataclass(frozen=True)
class Step:
    """What a workflow can know of one of its steps."""

    outcome: str
    outputs: Mapping[str, str]


@dataclass(frozen=True)
class Ran:
    """How a workflow run ended, what the steps with an id of each job said, and the folder that its `RESULTS` named."""

    success: bool
    jobs: Mapping[str, Mapping[str, Step]]
    """The jobs that were run; one that was skipped is not among them."""
    results: Path
    log: str

    @property
    def steps(self) -> Mapping[str, Step]:
        """The steps of all jobs."""
        return {name: step for steps in self.jobs.values() for name, step in steps.items()}

    def __getitem__(self, step: str) -> Step:
        assert step in self.steps, self.log
        return self.steps[step]


def make(folders: pytest.TempPathFactory, tracking_uri: str) -> Runner:
    """A runner for a test session; skips the test where there is no act.

    Test processes that run beside each other share what is installed, as jobs on a machine that is not new do.
    """
    alone = "PYTEST_XDIST_WORKER" not in os.environ
    temp = (folders.getbasetemp() if alone else folders.getbasetemp().parent) / "runner-temp"
    temp.mkdir(exist_ok=True)
    return Runner(find_act(), folders.mktemp("runner"), temp, tracking_uri)


def find_act() -> str:
    """The `act` to use: as `CHAMPION_GATE_TEST_ACT` says, else the one on PATH. Skips the test if there is none."""
    act = os.environ.get("CHAMPION_GATE_TEST_ACT") or shutil.which("act")
    if act is None:
        pytest.skip("no act, neither in CHAMPION_GATE_TEST_ACT nor on PATH; scripts/test installs it where Go is there")
    return act


class Runner:
    """A machine that runs workflows. `folder` holds all it makes, but for what its jobs have in `RUNNER_TEMP`."""

    def __init__(self, act: str, folder: Path, temp: Path, tracking_uri: str) -> None:
        self._act = act
        self._folder = folder
        self._temp = temp
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
        self._other_commit = folder / "checkout"
        self._other_commit.mkdir()
        (self._other_commit / "action.yml").write_text(_CHECKOUT)
        image = folder / "image"
        image.mkdir()
        for name in ("python", "python3"):
            self._program(image / name, f'exec {shlex.quote(sys.executable)} "$@"')
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
        secrets: Mapping[str, str] | None = None,
        environment: Mapping[str, str] | None = None,
        programs: Path | None = None,
        files: Mapping[str, str] | None = None,
        earlier: Mapping[str, str] | None = None,
        payload: Mapping[str, Any] | None = None,
        timeout: float = 300,
    ) -> Ran:
        """Run `workflow` in a repository that holds `files`.

        `variables` are the repository's (`vars.X`); `MLFLOW_TRACKING_URI` is among them unless it is set to nothing.
        `environment` is what else the runner has, `programs` a folder of what else is on its PATH. `earlier` are the
        files of a commit before; in `payload`, what else the event says, `EARLIER_COMMIT` stands for it. Each call is a
        workflow run of its own unless `run_id` says otherwise.
        """
        folder = self._folder / f"run-{next(self._numbers)}"
        repository, results = folder / "repository", folder / "results"
        results.mkdir(parents=True)
        path = repository / ".github" / "workflows" / "workflow.yml"
        first = self._commit(repository, earlier or {})
        self._commit(repository, {**(files or {}), str(path): self._between(workflow)})
        said = json.dumps({"inputs": dict(inputs or {}), **(payload or {})})
        (folder / "event.json").write_text(said.replace("EARLIER_COMMIT", first))
        values = {"MLFLOW_TRACKING_URI": self._uri, **(variables or {})}
        job = {
            "RESULTS": str(results),
            "REPOSITORY": str(repository),
            "IMAGE_PATH": os.pathsep.join(str(each) for each in (programs, self._folder / "image") if each),
            "IMAGE_TEMP": str(self._temp),
            "GITHUB_RUN_ID": run_id or new_run_id(),
            "MLFLOW_DISABLE_TELEMETRY": "true",
            **(environment or {}),
        }
        given = {"--var": values, "--secret": secrets or {}, "--env": job}
        command = [
            *(self._act, event, "--workflows", str(path), "--eventpath", str(folder / "event.json")),
            *("--platform", "ubuntu-latest=-self-hosted", "--platform", "self-hosted=-self-hosted"),
            *("--pull=false", "--rm", "--actor", ACTOR, "--local-repository", f"{ACTION}={self._checkout}"),
            *self._replaced(workflow),
        ]
        for option, pairs in given.items():
            for name, value in pairs.items():
                command += [option, f"{name}={value}"]
        try:
            log, code = self._start(command, repository, folder / "log", timeout)
        finally:
            _end_all_with(f"RESULTS={results}")
        jobs = {file.stem: self._said(file) for file in sorted(results.glob("*.json"))}
        assert jobs, f"no job got to its end:\n{log}"
        return Ran(code == 0, jobs, results, log)

    @staticmethod
    def _said(file: Path) -> dict[str, Step]:
        steps = json.loads(file.read_text(encoding="utf-8"))
        return {name: Step(step["outcome"], step["outputs"]) for name, step in steps.items()}

    @staticmethod
    def _between(workflow: str) -> str:
        # As text, since YAML written anew would not be the user's workflow any more.
        head, jobs, body = re.split(r"^(jobs:\n)", workflow, maxsplit=1, flags=re.MULTILINE)
        parts = [head, jobs]
        for job in re.split(r"^(?=  [\w-]+:)", body, flags=re.MULTILINE):
            header = re.match(r"  ([\w-]+):", job)
            if header is None:  # what stands before the first job
                parts.append(job)
                continue
            assert job.count("\n    steps:\n") == 1, "a job with its steps at the end"
            begun = job.replace("\n    steps:\n", "\n    steps:\n" + _FIRST_STEP, 1).rstrip("\n")
            parts.append(begun + "\n" + _LAST_STEP.replace("JOB_ID", header[1]))
        return "".join(parts)

    def _replaced(self, workflow: str) -> list[str]:
        others = set(re.findall(r"uses: (?!champion-gate/)([\w./-]+@\w+)", workflow))
        folders = {
            other: self._other_commit if other.startswith("actions/checkout@") else self._empty for other in others
        }
        return [part for other in sorted(others) for part in ("--local-repository", f"{other}={folders[other]}")]

    @staticmethod
    def _commit(repository: Path, files: Mapping[str, str]) -> str:
        """Write files, commit all that is there, and say the commit's id."""
        repository.mkdir(exist_ok=True)
        for name, text in files.items():
            file = repository / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8")

        def git(*arguments: str) -> str:
            run = subprocess.run(["git", *arguments], cwd=repository, check=True, capture_output=True, text=True)
            return run.stdout.strip()

        if not (repository / ".git").exists():
            git("init", "--quiet", "--initial-branch=main")
            git("remote", "add", "origin", "https://github.com/acme/search.git")
        git("add", "--all")
        identity = ("-c", "user.name=Ada", "-c", "user.email=ada@example.com", "-c", "commit.gpgsign=false")
        git(*identity, "commit", "--quiet", "--allow-empty", "--message", "A ranker")
        return git("rev-parse", "HEAD")

    @staticmethod
    def _start(command: list[str], folder: Path, log: Path, timeout: float) -> tuple[str, int]:
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
                code = act.wait(timeout=timeout)
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(act.pid, signal.SIGKILL)
        return log.read_bytes().decode("utf-8", "replace"), code


def _end_all_with(variable: str) -> None:
    """End what a job left running, which on GitHub ends with the machine. (Only Linux shows what has this variable.)"""
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if variable.encode() in (folder / "environ").read_bytes().split(b"\0"):
                os.kill(int(folder.name), signal.SIGTERM)


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
