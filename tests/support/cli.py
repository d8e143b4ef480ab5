"""Runs a command as a user does: a process with a clean environment, judged by what it leaves behind."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "scripts"
COMMIT = "5e1fc0de" * 5
ACTOR = "ada"
REPOSITORY = "acme/search"
# What a person's terminal has set; the rest of this process's environment is no business of a command.
_KEPT = ("LANG", "LC_ALL", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "TMPDIR")
_github_runs = itertools.count(int(time.time()) * 1000)


@dataclass(frozen=True)
class Result:
    """How a command ended, what it said, and what it wrote for GitHub."""

    exit_code: int
    stdout: str
    stderr: str
    outputs: Mapping[str, str]
    summary: str
    seconds: float

    @property
    def text(self) -> str:
        """All that a person could read."""
        return "\n".join((self.stdout, self.stderr, self.summary))

    def annotations(self, level: str) -> list[str]:
        """The workflow commands of a level. The runner reads them in both streams."""
        lines = (self.stdout + "\n" + self.stderr).splitlines()
        return [line for line in lines if line.startswith(f"::{level} ")]

    def json(self) -> Any:
        """stdout as one JSON document."""
        return json.loads(self.stdout)

    def flat(self) -> str:
        """`text` without markup, backslashes and line breaks, to look for words in."""
        return re.sub(r"\s+", " ", re.sub(r"[\\`*]", "", self.text))


def parse_outputs(text: str) -> dict[str, str]:
    """What a file written for GITHUB_OUTPUT says, read as the runner reads it.

    Raises:
        ValueError: the runner would refuse the file.
    """
    found: dict[str, str] = {}
    lines = iter(text.split("\n"))
    for line in lines:
        if not line:
            continue
        heredoc, equals = line.find("<<"), line.find("=")
        if heredoc >= 0 and (equals < 0 or heredoc < equals):
            key, delimiter = line[:heredoc], line[heredoc + 2 :]
            value: list[str] = []
            for part in lines:
                if part == delimiter:
                    break
                value.append(part)
            else:
                raise ValueError(f"no end {delimiter!r} for {key!r}")
            found[key] = "\n".join(value)
        elif equals > 0:
            found[line[:equals]] = line[equals + 1 :]
        else:
            raise ValueError(f"a line that is no output: {line!r}")
    return found


class ForkServer:
    """Commands from a process that has imported MLflow already."""

    def __init__(self) -> None:
        self.pid = 0
        """The command that runs at this moment; 0 if none does."""
        self._process = subprocess.Popen(
            [sys.executable, "-E", "-s", str(Path(__file__).with_name("forkserver.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**_person(), "MLFLOW_DISABLE_TELEMETRY": "true"},
            text=True,
            start_new_session=True,
        )
        assert self._read() == {"ready": True}

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {}
        return answer

    def run(self, argv: list[str], env: Mapping[str, str], cwd: Path, out: Path, err: Path, timeout: float) -> int:
        assert self._process.stdin is not None
        request = {"argv": argv, "env": dict(env), "cwd": str(cwd), "stdout": str(out), "stderr": str(err)}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        pid = self.pid = self._read()["pid"]
        with _killed_after(pid, timeout) as killed:
            code: int = self._read()["exit"]
        self.pid = 0
        if killed():
            raise subprocess.TimeoutExpired(argv, timeout, out.read_bytes(), err.read_bytes())
        return code

    def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.communicate()


@contextlib.contextmanager
def _killed_after(pid: int, timeout: float) -> Iterator[Any]:
    import threading

    fired = threading.Event()

    def kill() -> None:
        fired.set()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(pid, signal.SIGKILL)

    timer = threading.Timer(timeout, kill)
    timer.start()
    try:
        yield fired.is_set
    finally:
        timer.cancel()


def _person() -> dict[str, str]:
    # The folder of this interpreter comes first, as in an activated environment: training scripts find `python` there.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    return {"PATH": path, "LANG": "C.UTF-8"} | {key: os.environ[key] for key in _KEPT if key in os.environ}


class Cli:
    """Runs `scripts/<name>.py` against one registry.

    `folder` is the working directory and the home of the commands. They run as a step of a GitHub job does, unless
    `github=False`. Each runs as if in a workflow run of its own; `GITHUB_RUN_ID=...` names one. `variables` are set for
    all of them.
    """

    def __init__(
        self,
        tracking_uri: str,
        folder: Path,
        forks: ForkServer | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> None:
        self.uri = tracking_uri
        self.folder = folder
        self.variables = dict(variables or {})
        self._forks = forks
        self._count = itertools.count()
        self._plain = {"pid": 0}

    def at(self, tracking_uri: str) -> Cli:
        """The same, speaking to another address."""
        other = Cli(tracking_uri, self.folder, self._forks, self.variables)
        other._count = self._count
        other._plain = self._plain
        return other

    def kill(self) -> None:
        """kill -9 the command that runs at this moment, here or at another address; for other threads than its own."""
        os.kill(self._forks.pid if self._forks is not None else self._plain["pid"], signal.SIGKILL)

    def environment(self, *, github: bool = True, **extra: str | None) -> dict[str, str]:
        """The environment of a command; an `extra` of None unsets a variable."""
        number = next(self._count)
        env = {**_person(), "HOME": str(self.folder), "MLFLOW_TRACKING_URI": self.uri, **self.variables}
        if github:
            for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
                path = self.folder / f"{name.lower()}-{number}"
                path.touch()
                env[name] = str(path)
            env |= {
                "GITHUB_ACTIONS": "true",
                "GITHUB_ACTOR": ACTOR,
                "GITHUB_EVENT_NAME": "push",
                "GITHUB_JOB": "release",
                "GITHUB_REF": "refs/heads/main",
                "GITHUB_REF_NAME": "main",
                "GITHUB_REPOSITORY": REPOSITORY,
                "GITHUB_RUN_ATTEMPT": "1",
                "GITHUB_RUN_ID": str(next(_github_runs)),
                "GITHUB_SERVER_URL": "https://github.com",
                "GITHUB_SHA": COMMIT,
                "GITHUB_WORKFLOW": "release",
                "GITHUB_WORKSPACE": str(self.folder),
                "RUNNER_TEMP": str(self.folder),
            }
        env |= {key: value for key, value in extra.items() if value is not None}
        return {key: value for key, value in env.items() if extra.get(key, "") is not None}

    def argv(self, command: str, arguments: tuple[object, ...]) -> list[str]:
        """The script and its arguments."""
        script = SCRIPTS / f"{command.replace('-', '_')}.py"
        assert script.is_file(), f"no script for {command}"
        return [str(script), *map(str, arguments)]

    def __call__(
        self, command: str, *arguments: object, github: bool = True, timeout: float = 90, **env: str | None
    ) -> Result:
        """Run `command` to its end, in a process of its own."""
        environment = self.environment(github=github, **env)
        number = next(self._count)
        out, err = self.folder / f"stdout-{number}", self.folder / f"stderr-{number}"
        argv = self.argv(command, arguments)
        began = time.monotonic()
        if self._forks is not None:
            code = self._forks.run(argv, environment, self.folder, out, err, timeout)
        else:
            with (
                out.open("wb") as stdout,
                err.open("wb") as stderr,
                subprocess.Popen(
                    [sys.executable, "-E", "-s", *argv],
                    env=environment,
                    cwd=self.folder,
                    stdin=subprocess.DEVNULL,
                    stdout=stdout,
                    stderr=stderr,
                ) as process,
            ):
                self._plain["pid"] = process.pid
                try:
                    code = process.wait(timeout)
                except BaseException:
                    process.kill()
                    raise
        seconds = time.monotonic() - began
        texts = [path.read_bytes().decode("utf-8") for path in (out, err)]
        return Result(code, *texts, *self._for_github(environment), seconds)

    @contextlib.contextmanager
    def start(self, command: str, *arguments: object, **env: str | None) -> Iterator[subprocess.Popen[str]]:
        """A started `command`, for tests that send signals: a plain process, in a group of its own."""
        with subprocess.Popen(
            [sys.executable, "-E", "-s", *self.argv(command, arguments)],
            env=self.environment(**env),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        ) as process:
            try:
                yield process
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)

    @staticmethod
    def _for_github(environment: Mapping[str, str]) -> tuple[dict[str, str], str]:
        if "GITHUB_OUTPUT" not in environment:
            return {}, ""
        outputs = Path(environment["GITHUB_OUTPUT"]).read_bytes().decode("utf-8")
        summary = Path(environment["GITHUB_STEP_SUMMARY"]).read_bytes().decode("utf-8")
        return parse_outputs(outputs), summary
