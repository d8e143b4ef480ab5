"""scripts/demo as a person runs it: what it leaves in the registry, and that it leaves nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.server import free_port

if TYPE_CHECKING:
    from mlflow import MlflowClient

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LIMIT = 300  # the demo may have to install everything first


@dataclass
class Demo:
    """A demo that runs, and can be found with all it started by a mark in its environment."""

    arguments: list[str]
    root: Path = ROOT
    mark: str = field(default_factory=lambda: uuid.uuid4().hex)
    output: str = ""

    def __enter__(self) -> Demo:  # noqa: PYI034  (Self is new in Python 3.11)
        self.process = subprocess.Popen(
            [self.root / "scripts" / "demo", *self.arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self.root,
            env={**os.environ, "DEMO_TEST_MARK": self.mark},
            start_new_session=True,
        )
        self.started = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        for pid in self.left_over():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()

    def read_until(self, pattern: str) -> str:
        """Its output, up to the first line that matches."""
        assert self.process.stdout
        for line in self.process.stdout:
            self.output += line
            if re.search(pattern, line):
                return self.output
        pytest.fail(f"The demo ended before it said {pattern!r}:\n{self.output}")

    def wait(self) -> int:
        """Its exit code, with all of its output read."""
        self.output += self.process.communicate(timeout=LIMIT)[0]
        return self.process.returncode

    def state(self) -> Path:
        """The folder in which its server keeps everything."""
        found = re.search(r"sqlite:///(/.+?)/mlflow\.db", self.output)
        assert found, self.output
        return Path(found[1])

    def left_over(self) -> list[int]:
        """The processes that it started, and what those started, as far as they still run."""
        if not Path("/proc/self/environ").exists():  # macOS: the server is known by its database
            listing = subprocess.run(["ps", "-Awwo", "pid=,command="], check=True, capture_output=True, text=True)
            state = re.search(r"sqlite:///(/.+?)/mlflow\.db", self.output)
            lines = [line.split(None, 1) for line in listing.stdout.splitlines()]
            return [int(pid) for pid, command in lines if state and state[1] in command]
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            # A process that ended meanwhile cannot be read, and a zombie has no environment.
            with contextlib.suppress(OSError):
                if self.mark.encode() in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
        return found


@contextlib.contextmanager
def started_by_hand(command: str) -> Iterator[None]:
    """A line typed into a shell, which runs until the block ends."""
    with subprocess.Popen(
        ["bash", "-c", command],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGKILL)


def client_of(port: int) -> MlflowClient:
    """MLflow's client for the server on this port, once that answers."""
    from mlflow import MlflowClient
    from mlflow.exceptions import MlflowException

    client = MlflowClient(f"http://127.0.0.1:{port}")
    deadline = time.monotonic() + 60
    while True:
        try:
            client.search_registered_models(max_results=1)
        except MlflowException:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)
        else:
            return client


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A demo that ran to its end, and kept its state in a folder with a space in its name."""
    with Demo(["--keep", str(tmp_path_factory.mktemp("demo") / "my state")]) as demo:
        code = demo.wait()
        assert code == 0, demo.output
        yield demo


@pytest.fixture(scope="module")
def client(finished):
    """The registry of the finished demo, opened with the very command that the demo printed."""
    lines = finished.output.partition("To see it all in MLflow's own pages, run\n")[2]
    command = re.match(r"\$ ((?:.*\\\n)*.*)\n", lines)
    assert command, finished.output
    port = free_port()
    with pytest.MonkeyPatch.context() as patch, started_by_hand(command[1].replace("--port 5001", f"--port {port}")):
        # The client would retry for minutes while the server starts.
        patch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
        yield client_of(port)


def test_nothing_of_a_finished_demo_runs_on(finished):
    assert finished.left_over() == []


def test_output_that_goes_to_no_terminal_is_plain_and_complete(finished):
    assert "\x1b" not in finished.output
    headings = re.findall(r"^== (\d+)\. .+  \[\d+ s\]$", finished.output, re.MULTILINE)
    assert headings == [str(number) for number in range(1, 10)]
    assert re.findall(r"^\(exit code (\d)", finished.output, re.MULTILINE) == list("00004100")
    assert finished.output.count("\nchecked: ") == 8
    for command in ("train-and-register", "validate-model", "promote-alias", "release", "rollback", "history"):
        assert f"\n$ scripts/run {command} " in finished.output


def test_the_registry_holds_what_the_demo_tells(client):
    model = client.get_registered_model("search-ranker")
    assert model.aliases == {"champion": "1", "rolled-back": "2", "challenger": "4"}
    tags = {number: client.get_model_version("search-ranker", number).tags for number in "1234"}
    assert [tags[number]["gate.outcome"] for number in "1234"] == ["passed", "passed", "inconclusive", "failed"]
    assert "Fewer purchases" in tags["2"]["rollback_reason"]
    first, better, doubtful, worse = (float(tags[number]["validation_ndcg"]) for number in "1234")
    assert 0.65 < first < worse < 0.98 * better < doubtful
    verdict = json.loads(tags["2"]["gate.verdict.champion"])
    assert verdict["basis"] == "judged queries"
    assert verdict["isolation"]


def test_the_reports_are_where_the_demo_says(finished):
    reports = re.findall(r"^  (/.*version-\d\.html)$", finished.output, re.MULTILINE)
    assert [Path(report).name for report in reports] == [f"version-{number}.html" for number in "1234"]
    for report, outcome in zip(reports, ("passed", "passed", "inconclusive", "failed"), strict=True):
        assert outcome in Path(report).read_text(encoding="utf-8")


def test_all_runs_ended_and_name_the_data_they_used(client):
    training = client.get_experiment_by_name("/search/ranking/training")
    runs = client.search_runs([training.experiment_id])
    assert len(runs) == 4
    assert {run.info.status for run in runs} == {"FINISHED"}
    for run in runs:
        assert run.data.tags["data.version"] == run.data.params["train_data"]
        assert run.data.tags["evaluation.data.version"] == run.data.params["validation_data"]


def test_the_release_log_holds_every_gate_and_move(client):
    log = client.get_experiment_by_name("/search/search-ranker/releases")
    runs = client.search_runs([log.experiment_id], order_by=["attributes.start_time ASC"])
    kinds = [run.data.tags["gate.kind"] for run in runs]
    assert kinds == ["gate", "promotion", "gate", "promotion", "gate", "gate", "rollback"]
    assert {run.info.status for run in runs} == {"FINISHED"}


def test_serving_loads_the_first_ranker_again_and_it_ranks_as_it_did(client, monkeypatch):
    pytest.importorskip("xgboost", reason="the example's dependencies are not installed")
    import mlflow
    import pandas as pd

    # What mlflow.set_tracking_uri() and set_registry_uri() set stays in the environment, for all tests that come after.
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_REGISTRY_URI"):
        monkeypatch.setenv(name, client.tracking_uri)
    monkeypatch.syspath_prepend(str(ROOT / "examples" / "search-ranker"))
    import data
    import train

    try:
        _, validation = data.generate()
        champion = mlflow.pyfunc.load_model("models:/search-ranker@champion")
        features = champion.metadata.get_input_schema().input_names()
        table = pd.DataFrame(validation.columns(features), columns=features)
        values = train.ndcg_per_query(validation, champion.predict(table))
        version = client.get_model_version("search-ranker", "1")
        assert values[values == values].mean() == pytest.approx(float(version.tags["validation_ndcg"]), abs=1e-5)
    finally:
        for name in ("data", "train"):
            sys.modules.pop(name, None)


def test_ctrl_c_at_the_terminal_ends_the_training_and_leaves_nothing():
    with Demo([]) as demo:
        demo.read_until("^train +1500 queries")
        state = demo.state()
        assert state.is_dir()
        assert demo.left_over()
        os.killpg(demo.process.pid, signal.SIGINT)
        assert demo.wait() == 130
        assert demo.left_over() == []
        assert not state.exists()
        assert "Traceback" not in demo.output


def test_sigterm_to_the_demo_alone_ends_the_training_and_its_run(tmp_path):
    with Demo(["--keep", str(tmp_path / "state")]) as demo:
        demo.read_until("^train +1500 queries")
        demo.process.terminate()
        assert demo.wait() == 143
        assert demo.left_over() == []
    with contextlib.closing(sqlite3.connect(tmp_path / "state" / "mlflow.db")) as database:
        assert database.execute("SELECT status FROM runs").fetchall() == [("KILLED",)]
        assert database.execute("SELECT * FROM registered_models").fetchall() == []


def test_ctrl_c_while_the_server_starts_leaves_nothing():
    with Demo([]) as demo:
        demo.read_until("artifacts-destination")
        state = demo.state()
        demo.process.send_signal(signal.SIGINT)
        assert demo.wait() == 130
        assert demo.left_over() == []
        assert not state.exists()


def test_a_reader_that_goes_away_ends_the_demo_and_leaves_nothing():
    with Demo([]) as demo:
        demo.read_until("artifacts-destination")
        state = demo.state()
        demo.process.stdout.close()
        assert demo.process.wait(LIMIT) == 128 + signal.SIGPIPE
        assert demo.left_over() == []
        assert not state.exists()


def test_the_demo_says_so_when_something_is_not_as_it_should_be(tmp_path):
    for folder in ("scripts", "examples", "requirements"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    script = tmp_path / "examples" / "search-ranker" / "train.py"
    honest = "model = xgb.train("
    assert honest in script.read_text()
    # A model that learned from the wrong labels: the gate measures it itself, whatever the training logs.
    script.write_text(script.read_text().replace("split.labels, qid", "4 - split.labels, qid"))
    with Demo(["--keep", str(tmp_path / "state")], root=tmp_path) as demo:
        assert demo.wait() == 1
        command = "scripts/run validate-model --model-name search-ranker"
        assert f"demo: error: '{command}' ended with exit code 1; 0 is right." in demo.output
        assert demo.left_over() == []
    assert (tmp_path / "state" / "server.log").is_file()


def test_keep_takes_no_folder_that_is_in_use(tmp_path):
    (tmp_path / "mine").write_text("mine")
    answer = subprocess.run(
        [ROOT / "scripts" / "demo", "--keep", tmp_path], capture_output=True, text=True, check=False
    )
    assert answer.returncode == 2
    assert f"--keep {tmp_path}: it exists" in answer.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]
