"""The demo: releases of a real ranker and a rollback, on an MLflow server of its own.

Started by scripts/demo with an interpreter's standard library only. What it shows it also checks, and it asks the
registry itself, not the commands that it shows.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import shlex
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

SCRIPTS = Path(__file__).resolve().parent
ROOT = SCRIPTS.parent
sys.path.insert(0, str(SCRIPTS))  # an isolated Python does not look beside the script

from launch import cache_root  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator

MODEL = "search-ranker"
LOG = f"/search/{MODEL}/releases"
PYTHON = "scripts/run --python example"
TRAIN = f"{PYTHON} examples/search-ranker/train.py"
UI_PORT = 5001  # on a Mac, 5000 is taken

SERVER_LIMIT = 120.0
# What is told to end has clean-up of its own to do: a training is ended, and its run marked as ended.
GRACE = 10.0

DESCRIPTION = """\
Shows the life of a model on this machine: a first release, a better one, one of which the gate cannot be sure, a worse
one that it refuses, and a rollback. Starts MLflow on SQLite on a free local port, trains a real search ranker four
times, and stops MLflow in the end. Takes about a minute; the first time it also installs what it needs, below the cache
folder.
"""


class DemoFailed(Exception):
    """Something is not as the demo says it is."""


class Stopped(Exception):
    """A signal asked the demo to end."""


class Screen:
    """What the person at the terminal sees."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.steps = 0
        self.is_terminal = sys.stdout.isatty()
        plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
        self.has_colors = self.is_terminal and not plain

    def line(self, text: str = "", style: str = "") -> None:
        """Print one line, in a style if the terminal has any."""
        print(f"\x1b[{style}m{text}\x1b[0m" if style and self.has_colors else text, flush=True)

    def heading(self, text: str) -> None:
        """Begin a step."""
        self.steps += 1
        self.line()
        self.line(f"== {self.steps}. {text}  [{self.elapsed():.0f} s]", "1")

    def command(self, *lines: str) -> None:
        """Show what a user would type."""
        self.line("$ " + " \\\n    ".join(lines), "36")

    def checked(self, text: str) -> None:
        """Say what was found to be right."""
        self.line(f"checked: {text}", "32")

    def elapsed(self) -> float:
        """Seconds since the demo began."""
        return time.monotonic() - self.started


class Processes:
    """What the demo started, each in a session of its own, so that it can be ended with all its children.

    A signal only leaves a note, and everything that waits looks at it: nothing is started and then forgotten.
    """

    def __init__(self) -> None:
        self.running: list[subprocess.Popen[bytes]] = []
        self.signum = 0
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(each) is not signal.SIG_IGN:
                signal.signal(each, self._note)

    def _note(self, signum: int, _frame: object) -> None:
        self.signum = self.signum or signum

    def start(self, command: str, **settings: Any) -> subprocess.Popen[bytes]:
        """Start a command, given as a line of bash, in the project's folder.

        Raises:
            Stopped: a signal arrived before.
        """
        self.pause(0)
        process: subprocess.Popen[bytes] = subprocess.Popen(
            ["bash", "--noprofile", "--norc", "-c", f"exec {command}"],
            stdin=subprocess.DEVNULL,
            cwd=ROOT,
            start_new_session=True,
            **settings,
        )
        self.running.append(process)
        return process

    def wait(self, process: subprocess.Popen[bytes]) -> int:
        """The exit code of a command, once it has ended.

        Raises:
            Stopped: a signal arrived first.
        """
        while process.poll() is None:
            self.pause(0.02)
        self.running.remove(process)
        return process.returncode

    def pause(self, seconds: float) -> None:
        """Sleep for a short time.

        Raises:
            Stopped: a signal arrived.
        """
        time.sleep(seconds)
        if self.signum:
            raise Stopped

    def end(self, process: subprocess.Popen[bytes], signum: int) -> None:
        """Ask a process and its children to end, then insist."""
        for each, patience in ((signum, GRACE), (signal.SIGKILL, None)):
            with contextlib.suppress(ProcessLookupError, PermissionError):  # macOS: the latter for zombies
                os.killpg(process.pid, each)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(patience)
        self.running.remove(process)

    def end_all(self) -> None:
        """End what still runs, the youngest first: a command tells the server how its run ended."""
        for process in reversed(self.running.copy()):
            self.end(process, self.signum or signal.SIGTERM)


class Registry:
    """The MLflow server, asked without MLflow."""

    def __init__(self, uri: str) -> None:
        self.uri = uri
        # A proxy that the caller's environment names is for other hosts.
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))

    def ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        """What the server answers to a GET, or with a body to a POST."""
        request = urllib.request.Request(  # noqa: S310  (the address is the demo's own)
            f"{self.uri}/api/2.0/mlflow/{path}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with self._opener.open(request, timeout=20) as answer:
            return json.load(answer)

    def answers(self) -> bool:
        """Whether the API works; the /health page answers before the database does."""
        try:
            self.ask("registered-models/search?max_results=1")
        except (OSError, ValueError):
            return False
        return True

    def aliases(self) -> dict[str, str]:
        """The version that each alias of the model names."""
        model = self.ask(f"registered-models/get?name={MODEL}")["registered_model"]
        return {entry["alias"]: entry["version"] for entry in model.get("aliases", [])}

    def outcome(self, version: str) -> str:
        """What the gate said of a version."""
        found = self.ask(f"model-versions/get?name={MODEL}&version={version}")["model_version"]
        return next((tag["value"] for tag in found.get("tags", []) if tag["key"] == "gate.outcome"), "")

    def log_entries(self) -> Counter[str]:
        """How many gates, promotions and rollbacks the release log holds."""
        log = self.ask(f"experiments/get-by-name?experiment_name={LOG}")["experiment"]["experiment_id"]
        runs = self.ask("runs/search", {"experiment_ids": [log], "max_results": 1000}).get("runs", [])
        tags = [tag for run in runs for tag in run["data"].get("tags", [])]
        return Counter(tag["value"] for tag in tags if tag["key"] == "gate.kind")


class Demo:
    """The demo itself: `run` tells the story, in the order of the methods below it."""

    def __init__(self, state: Path, screen: Screen, processes: Processes) -> None:
        self.state = state
        self.screen = screen
        self.processes = processes
        self.environment = _environment()
        self.registry = Registry("")
        self.data_options: tuple[str, ...] = ()

    def run(self) -> None:
        """Show every step, and check what it did.

        Raises:
            DemoFailed: a step did not do what it should.
            Stopped: a signal arrived.
        """
        self.prepare()
        self.first_release()
        self.better_release()
        self.doubtful_release()
        self.worse_release()
        self.rollback()
        self.history()
        self.screen.line()
        self.screen.line(f"Done in {self.screen.elapsed():.0f} s. To see it all in MLflow's own pages, run", "1")
        server, *options = self.server_command(UI_PORT)
        self.screen.command(f"MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false {server}", *options)
        self.screen.line(f"and open http://127.0.0.1:{UI_PORT}/#/models/{MODEL}")
        self.screen.line()
        self.screen.line("The gate's reports are pages to open in a browser:", "1")
        for report in sorted((self.state / "reports").iterdir()):
            self.screen.line(f"  {report}")

    def prepare(self) -> None:
        """Make what is needed. The server takes longest, so the rest is made while it starts."""
        self.screen.heading("Make what is needed, and start MLflow on SQLite")
        if Path.cwd() != ROOT:
            self.screen.command(f"cd {shlex.quote(str(ROOT))}")
        environment = Path(self.output_of(f"{PYTHON} -c 'import sys; print(sys.prefix)'").strip())
        # MLflow takes 8 to 25 s to lay out an empty database; how it looks depends on the environment alone.
        empty_database = Path(cache_root(), "demo", f"empty-{environment.name}.db")
        server = Server(self, empty_database)
        server.start()
        self.output_of("scripts/run --python registry -c ''")
        self.output_of("scripts/run --python scoring -c ''")
        make_data = f"{PYTHON} examples/search-ranker/data.py --output {shlex.quote(str(self.state / 'data'))}"
        self.screen.command(make_data)
        versions = self.output_of(make_data)
        self.screen.line(versions.strip())
        self.data_options = tuple(f"--{line.replace('=', ' ')}" for line in versions.split())
        self.registry = server.wait_until_it_answers()
        self.environment["MLFLOW_TRACKING_URI"] = self.registry.uri
        self.screen.command(f"export MLFLOW_TRACKING_URI={self.registry.uri}")

    def first_release(self) -> None:
        """A model that has no champion yet: the three commands one by one."""
        self.screen.heading("Train a first ranker, on text features only, and register it")
        self.show(
            "scripts/run train-and-register",
            f"--experiment-name /search/ranking/training --model-name {MODEL}",
            *self.data_options,
            f"-- {TRAIN} --rounds 40 --features bm25_title,bm25_body,exact_match",
        )
        self.check({"challenger": "1"})
        self.screen.heading("Gate it on judged queries: there is no champion to compare with, so a threshold decides")
        self.show(f"scripts/run validate-model --model-name {MODEL}", *self.gate_options("1"))
        self.check({"challenger": "1"}, judged=("1", "passed"))
        self.screen.heading("Promote it: serving loads the alias 'champion', so moving it is the deployment")
        self.show(f"scripts/run promote-alias --model-name {MODEL}")
        self.check({"champion": "1"})

    def better_release(self) -> None:
        """A model that beats the champion."""
        self.screen.heading("Release a better one, that knows clicks and prices too: the three steps in one command")
        self.release("2", "--rounds 100")
        self.check({"champion": "2", "previous-champion": "1"}, judged=("2", "passed"))

    def doubtful_release(self) -> None:
        """A model that keeps 98 % of the champion's NDCG, as far as these queries tell: which is not far enough."""
        self.screen.heading("Release a smaller one, about 2 % worse: the gate cannot be sure, and says so")
        self.release("3", "--rounds 40", expected=4)
        aliases = {"champion": "2", "previous-champion": "1", "challenger": "3"}
        self.check(aliases, judged=("3", "inconclusive"))

    def worse_release(self) -> None:
        """A model that the gate must stop."""
        self.screen.heading("Release a worse one, whose click rates stand on the wrong rows: the gate must say no")
        self.release("4", "--rounds 100 --break-feature ctr", expected=1)
        aliases = {"champion": "2", "previous-champion": "1", "challenger": "4"}
        self.check(aliases, judged=("4", "failed"))

    def rollback(self) -> None:
        """A champion that passed the gate and is bad nevertheless."""
        self.screen.heading("Take the last release back")
        reason = "Fewer purchases on mobile since the release"
        self.show(f"scripts/run rollback --model-name {MODEL} --reason {shlex.quote(reason)}")
        self.check({"champion": "1", "rolled-back": "2", "challenger": "4"})

    def history(self) -> None:
        """What all this left behind."""
        self.screen.heading("Read what happened: who, when, what, and why")
        self.show(f"scripts/run history --model-name {MODEL}")
        entries = self.registry.log_entries()
        right = {"gate": 4, "promotion": 2, "rollback": 1}
        if entries != right:
            raise DemoFailed(f"The release log holds {dict(entries)}; {right} is right.")
        self.screen.checked("the release log holds 4 gates, 2 promotions and 1 rollback")

    def gate_options(self, version: str) -> tuple[str, ...]:
        """What the gate of a version is told: by which policy, on which queries, and where its report goes."""
        report = shlex.quote(str(self.state / "reports" / f"version-{version}.html"))
        data = shlex.quote(str(self.state / "data" / "evaluation.parquet"))
        return (
            f"--policy examples/search-ranker/policy.yml --evaluation-data {data}",
            f"--document-column document_id --report-file {report}",
        )

    def release(self, version: str, training: str, expected: int = 0) -> None:
        """Train, validate and promote in one command."""
        self.show(
            "scripts/run release",
            f"--experiment-name /search/ranking/training --model-name {MODEL}",
            *self.data_options,
            *self.gate_options(version),
            f"-- {TRAIN} {training}",
            expected=expected,
        )

    def show(self, *lines: str, expected: int = 0) -> None:
        """Show a command, and run just that.

        Raises:
            DemoFailed: it ended with another exit code than expected.
        """
        self.screen.command(*lines)
        started = time.monotonic()
        code = self.processes.wait(self.processes.start(" ".join(lines), env=self.environment))
        self.screen.line(f"(exit code {code}, {time.monotonic() - started:.1f} s)", "2")
        if code != expected:
            raise DemoFailed(f"'{lines[0]}' ended with exit code {code}; {expected} is right.")

    def output_of(self, command: str) -> str:
        """What a command of the preparations prints. It is short, so no pipe fills up.

        Raises:
            DemoFailed: it did not succeed; it said itself why.
        """
        process = self.processes.start(command, env=self.environment, stdout=subprocess.PIPE)
        code = self.processes.wait(process)
        assert process.stdout is not None  # noqa: S101  (it was asked for)
        with process.stdout as pipe:
            output = pipe.read().decode()
        if code != 0:
            raise DemoFailed(f"'{command}' ended with exit code {code}.")
        return output

    def check(self, aliases: dict[str, str], judged: tuple[str, str] | None = None) -> None:
        """Ask the registry whether these are all the aliases, and this the gate's answer to this version.

        Raises:
            DemoFailed: they are not.
        """
        found = self.registry.aliases()
        if found != aliases:
            raise DemoFailed(f"The aliases are {found}; {aliases} is right.")
        words = [f"{alias} is version {version}" for alias, version in aliases.items()]
        if judged is not None:
            version, outcome = judged
            answer = self.registry.outcome(version)
            if answer != outcome:
                raise DemoFailed(f"The gate's answer to version {version} is '{answer}'; '{outcome}' is right.")
            words.insert(0, f"version {version} {outcome}")
        self.screen.checked(", ".join(words))

    def server_command(self, port: int) -> tuple[str, ...]:
        """How an MLflow server on this demo's state is started."""
        database = shlex.quote(f"sqlite:///{self.state / 'mlflow.db'}")
        artifacts = shlex.quote(str(self.state / "artifacts"))
        return (
            f"{PYTHON} -m mlflow server --host 127.0.0.1 --port {port} --workers 1",
            f"--backend-store-uri {database}",
            f"--artifacts-destination {artifacts}",
        )


class Server:
    """The demo's MLflow server."""

    def __init__(self, demo: Demo, empty_database: Path) -> None:
        self.demo = demo
        self.empty_database = empty_database
        self.database = demo.state / "mlflow.db"
        self.log = demo.state / "server.log"
        self.attempts = 0

    def start(self) -> None:
        """Start it on a port that is free now."""
        self.attempts += 1
        self.started = time.monotonic()
        if self.empty_database.exists():
            shutil.copyfile(self.empty_database, self.database)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.registry = Registry(f"http://127.0.0.1:{port}")
        command = self.demo.server_command(port)
        self.demo.screen.command(*command)
        with self.log.open("wb") as log:
            self.process = self.demo.processes.start(
                " ".join(command), env=self.demo.environment, stdout=log, stderr=subprocess.STDOUT
            )

    def wait_until_it_answers(self) -> Registry:
        """Its API, once it works.

        Raises:
            DemoFailed: it ended, more than once, or was silent for too long.
        """
        screen, told = self.demo.screen, 0.0
        # Whether it runs is asked last: what answers may be another server, that took the port first.
        while not (self.registry.answers() and self.process.poll() is None):
            waited = time.monotonic() - self.started
            if self.process.poll() is not None and self.attempts < 3:
                self.start_again()
            elif self.process.poll() is not None or waited > SERVER_LIMIT:
                tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])
                raise DemoFailed(f"MLflow did not start within {waited:.0f} s. The end of its log:\n{tail}")
            elif waited - told >= 5:
                told = waited
                screen.line(f"waiting for MLflow ... {waited:.0f} s", "2")
            self.demo.processes.pause(0.1)
        screen.line(f"MLflow answers after {time.monotonic() - self.started:.0f} s.")
        if not self.empty_database.exists():
            self.keep_empty_database()
        return self.registry

    def start_again(self) -> None:
        """Start it on another port, and on a new database in case the kept one is to blame."""
        self.demo.processes.wait(self.process)
        self.demo.screen.line("MLflow ended at once; starting it again.")
        self.empty_database.unlink(missing_ok=True)
        self.database.unlink(missing_ok=True)
        self.start()

    def keep_empty_database(self) -> None:
        """Copy the database for the next demo, before anything is written to it."""
        copy = self.empty_database.with_name(f".new-{self.demo.state.name}.db")
        self.empty_database.parent.mkdir(parents=True, exist_ok=True)
        try:
            with (
                contextlib.closing(sqlite3.connect(self.database)) as source,
                contextlib.closing(sqlite3.connect(copy)) as target,
            ):
                source.backup(target)
            copy.replace(self.empty_database)
        finally:
            copy.unlink(missing_ok=True)


def _environment() -> dict[str, str]:
    """What the commands get: the caller's environment, without a job or a server that it may speak of."""
    foreign = ("CHAMPION_GATE_", "GITHUB_", "INPUT_", "MLFLOW_")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(foreign)}
    local = ",".join(filter(None, (kept.get("NO_PROXY") or kept.get("no_proxy"), "127.0.0.1")))
    return kept | {
        "NO_PROXY": local,
        "no_proxy": local,
        "MLFLOW_DISABLE_TELEMETRY": "true",
        # It would start eight more processes, with 2 GB between them, for work that a registry does not have.
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    }


@contextlib.contextmanager
def _locked(folder: Path, *, wait: bool) -> Iterator[bool]:
    """Whether the lock on a folder was free; it is held in the block, and gone when this process is."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            yield False
        else:
            yield True
    finally:
        os.close(handle)


@contextlib.contextmanager
def _state_folder(keep: Path | None) -> Iterator[Path]:
    """Where the demo's server keeps everything: `keep`, or a folder that stays until the next demo is done."""
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
        yield keep
        return
    demos = Path(cache_root(), "demo")
    demos.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        with _locked(demos, wait=True):
            state = Path(tempfile.mkdtemp(prefix="run-", dir=demos))
            stack.enter_context(_locked(state, wait=True))
        try:
            yield state
        except (Stopped, BrokenPipeError):
            shutil.rmtree(state)
            raise
        # Those before it, also one that was killed; but not one that runs right now.
        with _locked(demos, wait=True):
            for other in demos.glob("run-*"):
                if other != state:
                    with _locked(other, wait=False) as unused:
                        if unused:
                            shutil.rmtree(other)


def _arguments(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/demo", description=DESCRIPTION)
    parser.add_argument(
        "--keep",
        type=lambda text: Path(text).absolute(),
        metavar="DIR",
        help="put MLflow's database, artifacts and log into this new or empty folder, and leave them there; "
        "otherwise they stay below the cache folder until the next demo is done",
    )
    options = parser.parse_args(argv)
    if options.keep and options.keep.exists() and not (options.keep.is_dir() and not any(options.keep.iterdir())):
        parser.error(f"--keep {options.keep}: it exists and is not an empty folder")
    return options


def main(argv: list[str]) -> int:
    """Run the demo.

    Returns:
        0 when everything was as it should be, 1 when something was not, 2 for bad input, 128 + N for signal N.
    """
    options = _arguments(argv)
    screen = Screen()
    processes = Processes()
    try:
        with _state_folder(options.keep) as state:
            until = "" if options.keep else " until the next demo is done"
            try:
                Demo(state, screen, processes).run()
                screen.line(f"Its database and artifacts stay in {state}{until}.")
            except DemoFailed as failure:
                print(f"demo: error: {failure}", file=sys.stderr)
                print(f"MLflow's log and database are in {state}{until}.", file=sys.stderr)
                return 1
            finally:
                processes.end_all()
    except Stopped:
        print("demo: stopped; nothing of it runs any more.", file=sys.stderr)
        return 128 + processes.signum
    except BrokenPipeError:
        # Whoever read this has gone, as `head` does. What Python would still flush has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
