"""A model that means harm, under every isolation that this machine offers: what it gets, leaves, and can say.

The gate of these tests is a process of its own (tests/support/scoring_driver.py) in a job of its own: a home with
credentials, a workspace, a runner's folders, and secrets in its environment.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from champion_gate.isolation import find
from tests.support import hostile_model
from tests.support.models import isolations, quick_packages, working, write_model

ROOT = Path(__file__).parents[2]
HOSTILE = Path(hostile_model.__file__)
SECRET = "s3cret-of-the-job"
DEEDS = [deed.__name__ for deed in hostile_model.DEEDS]
# What no isolation lets through.
NEVER = {
    "secret_in_own_environment",
    "secret_in_other_environments",
    "memory_of_the_gate",
    "ptrace_of_the_gate",
    "open_files_of_the_gate",
    "end_of_the_gate",
    "a_full_home",
    "privileges",
    "sudo",
    "a_mount",
    "another_user",
    "higher_limits",
}
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="macOS has no /proc, and no sandbox of ours")


@dataclass(frozen=True)
class Job:
    """Where a gate runs, and the gate."""

    folder: Path
    packages: Path
    started: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def outputs(self) -> Path:
        return self.folder / "temp" / "set_output"

    @property
    def variables(self) -> Path:
        return self.folder / "temp" / "set_env"

    def start(self, model: Path, isolation: str, rows: int = 4, **options: object) -> subprocess.Popen[str]:
        working(isolation)
        spec = {"model": str(model), "isolation": isolation, "rows": rows, "options": options}
        spec |= {"packages": str(self.packages)}
        process = subprocess.Popen(
            [sys.executable, "-s", "-m", "tests.support.scoring_driver", json.dumps(spec)],
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'scripts'}",
                "HOME": str(self.folder / "home"),
                "GITHUB_OUTPUT": str(self.outputs),
                "GITHUB_ENV": str(self.variables),
                "GITHUB_WORKSPACE": str(self.folder / "workspace"),
                "RUNNER_TEMP": str(self.folder / "temp"),
                "TMPDIR": str(self.folder / "tmp"),
                "MLFLOW_TRACKING_TOKEN": SECRET,
                "AWS_SECRET_ACCESS_KEY": SECRET,
                "CHAMPION_GATE_SIGNING_KEY": SECRET,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def run(self, model: Path, isolation: str, rows: int = 4, **options: object) -> tuple[dict[str, object], str]:
        """What the gate's process printed: its result, and its log."""
        process = self.start(model, isolation, rows, **options)
        out, err = process.communicate(timeout=120)
        assert out, err
        return json.loads(out), err

    def model(self, source: str, name: str = "stranger") -> Path:
        return write_model(self.folder / name, source)


@pytest.fixture(scope="module")
def packages(tmp_path_factory):
    return quick_packages(tmp_path_factory.mktemp("packages"))


@pytest.fixture
def job(tmp_path, packages):
    folder = tmp_path / "a job, with spaces"
    for name in ("home/.aws", "workspace", "temp", "tmp"):
        (folder / name).mkdir(parents=True)
    (folder / "home" / ".aws" / "credentials").write_text(f"aws_secret_access_key = {SECRET}\n")
    (folder / "workspace" / "train.py").write_text("pass\n")
    made = Job(folder, packages)
    made.outputs.write_text("earlier=value\n")
    made.variables.write_text("")
    yield made
    for process in made.started:
        process.kill()
        process.communicate()


@pytest.fixture(params=isolations())
def isolation(request):
    return request.param


@pytest.fixture(params=["sandbox", "process"])
def either(request):
    """What does not depend on how a sandbox is made is tried in the strongest one, and without."""
    return find(request.param).name


@contextlib.contextmanager
def listeners(folder: Path):
    """A TCP port, a socket in a folder, and one without: each says hello."""
    sockets = [socket.socket(), socket.socket(socket.AF_UNIX), socket.socket(socket.AF_UNIX)]
    # A socket's path has its limit at 107 bytes, a test's folder has not: another name leads there.
    short = Path(tempfile.mkdtemp())
    (short / "job").symlink_to(folder)
    path = str(short / "job" / "engine.sock")
    for each, address in zip(sockets, [("127.0.0.1", 0), path, f"\0{path}"], strict=True):
        each.bind(address)
        each.listen()
        threading.Thread(target=greet, args=(each,), daemon=True).start()
    Path(path).chmod(0o777)
    try:
        yield sockets[0].getsockname()[1], path
    finally:
        for each in sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)  # who waits in accept() holds it otherwise
            each.close()
        shutil.rmtree(short)


def greet(listener: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            with connection:
                connection.sendall(b"hello")


def running(token: str) -> list[str]:
    """Processes whose command line holds a token."""
    listed = subprocess.run(["ps", "-ww", "-eo", "pid=,stat=,args="], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if token in line and " ps " not in line]


def gone(token: str, seconds: float = 15) -> bool:
    limit = time.monotonic() + seconds
    while running(token):
        if time.monotonic() > limit:
            return False
        time.sleep(0.1)
    return True


def token_of(job: Job) -> str:
    return f"token-of-{job.folder.parent.name}"


def targets(job: Job, **more: object) -> str:
    """Where what the hostile model looks for is."""
    found = {
        "secret": SECRET,
        "home": str(job.folder / "home"),
        "outputs": str(job.outputs),
        "variables": str(job.variables),
        "runner_temp": str(job.folder / "temp"),
        "workspace": str(job.folder / "workspace"),
        "other_model": str(write_model(job.folder / "champion", "") / "MLmodel"),
        "user": os.getuid(),
        "harmless": True,
    }
    return json.dumps(found | more)


def test_a_hostile_model_gets_nothing_that_is_not_its_own(job, isolation):
    model = job.model(HOSTILE.read_text())
    with listeners(job.folder / "temp") as (port, path):
        at = targets(job, port=port, socket=path, harmless=isolation == "process")
        (model / "data" / "targets.json").write_text(at)
        came, err = job.run(model, isolation, len(DEEDS))
    assert SECRET not in json.dumps(came) + err
    assert job.outputs.read_text() == "earlier=value\n"
    assert job.variables.read_text() == ""
    assert list((job.folder / "workspace").iterdir()) == [job.folder / "workspace" / "train.py"]
    if isolation == "process":
        # It may write where its user may. That does not count, and is told.
        assert came["error"] == "ModelFailed", came
        assert "GITHUB_ENV, GITHUB_OUTPUT" in came["message"]
        return
    assert "scores" in came, came
    assert [deed for deed, score in zip(DEEDS, came["scores"], strict=True) if score] == []


def test_where_nobody_shuts_it_in_the_same_model_gets_what_it_wants(job):
    # Else the other tests would say nothing. What would change this machine is left out.
    deeds = {each for each in DEEDS if each not in NEVER} - {"writing_outside"}
    deeds |= {"secret_in_own_environment", "secret_in_other_environments"}
    code = """
        import json, sys
        from tests.support.hostile_model import DEEDS, attempt
        at, wanted = json.loads(sys.argv[1]), sys.argv[2].split()
        worked = [each.__name__ for each in DEEDS if each.__name__ in wanted and attempt(each, at)]
        print(json.dumps(worked), file=sys.stderr)
        """
    with listeners(job.folder / "temp") as (port, path):
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                textwrap.dedent(code),
                targets(job, port=port, socket=path, gate=0),
                " ".join(deeds),
            ],
            cwd=ROOT,
            env={"SECRET": SECRET},
            capture_output=True,
            text=True,
            check=True,
        )
    assert set(json.loads(done.stderr)) == deeds
    assert job.variables.read_text() != ""


def test_a_process_of_its_own_is_given_no_secret(job, tmp_path):
    source = HOSTILE.read_text().replace("DEEDS]", f"DEEDS if function.__name__ in {NEVER!r}]")
    model = job.model(source)
    (model / "data" / "targets.json").write_text(targets(job))
    came, err = job.run(model, "process", len(NEVER))
    tried = [deed for deed in DEEDS if deed in NEVER]
    assert [deed for deed, score in zip(tried, came["scores"], strict=True) if score] == [], err


ENDLESS = """
import os, signal, subprocess, sys, time

STUBBORN = (
    "import os, signal, time\\n"
    "for number in (1, 2, 15): signal.signal(number, signal.SIG_IGN)\\n"
    "if os.fork(): os._exit(0)\\n"
    "os.setsid()\\n"
    "if os.fork(): os._exit(0)\\n"
    "time.sleep(600)\\n"
)


def _load_pyfunc(path):
    for number in (1, 2, 15):
        signal.signal(number, signal.SIG_IGN)
    for _ in range(3):
        subprocess.Popen([sys.executable, "-c", STUBBORN, "{token}"], start_new_session=True)
    print("never", flush=True)
    time.sleep(600)
"""


def until_it_hangs(process: subprocess.Popen[str], job: Job) -> None:
    while not running(token_of(job)):
        assert process.poll() is None
        time.sleep(0.05)


def endless(job: Job) -> Path:
    return job.model(ENDLESS.replace("{token}", token_of(job)))


def test_a_model_that_never_answers_is_ended_with_its_children_and_daemons(job, either):
    came, _ = job.run(endless(job), either, timeout=6)
    assert came["error"] == "ModelFailed"
    failure = (
        "Challenger version 7 of search-ranker cannot be loaded: it was over its time limit of 6 s (scoring-timeout)."
    )
    assert came["message"].startswith(failure), came
    assert "never" in came["message"]
    assert gone(token_of(job))
    assert list((job.folder / "tmp").iterdir()) == []


def test_daemons_of_a_model_that_answers_are_ended_too(job, either):
    source = ENDLESS.replace("{token}", token_of(job)).replace("time.sleep(600)\n", "return Model()\n")
    source += "\n\nclass Model:\n    def predict(self, data):\n        return [0.0] * len(data)\n"
    came, err = job.run(job.model(source), either)
    assert came.get("scores") == [0.0] * 4, err
    assert gone(token_of(job))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_cancelled_gate_leaves_nothing_of_the_model(job, either, number):
    process = job.start(endless(job), either)
    until_it_hangs(process, job)
    started = time.monotonic()
    process.send_signal(number)
    process.communicate(timeout=30)
    assert process.returncode == 128 + number
    assert time.monotonic() - started < 7
    assert gone(token_of(job))


def test_a_gate_that_is_killed_takes_the_model_along(job, isolation):
    # In a mere process, a daemon has nobody who ends it then; the model itself has.
    source = "import time\n\n\ndef _load_pyfunc(path):\n    time.sleep(600)\n"
    model = job.model(source, token_of(job)) if isolation == "process" else endless(job)
    process = job.start(model, isolation)
    until_it_hangs(process, job)
    process.kill()
    process.communicate(timeout=30)
    assert gone(token_of(job))


def test_a_model_that_kills_the_gate_gets_no_verdict(job):
    process = job.start(job.model("import os\n\n\ndef predict(data):\n    os.kill(os.getppid(), 9)\n"), "process")
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (-9, "")


GREEDY = """
import subprocess, sys, time

HOLD = "held = bytes(range(256)) * 400_000; import time; time.sleep(600)"


def _load_pyfunc(path):
    for _ in range(8):
        subprocess.Popen([sys.executable, "-c", HOLD, "{token}"])
    time.sleep(600)
"""


def test_memory_is_counted_over_all_children(job, isolation):
    # None of the nine has more than 100 MB. Docker's engine ends one of them, and the model waits for ever.
    seconds = 4 if isolation == "sandbox (docker)" else 30
    came, _ = job.run(job.model(GREEDY.replace("{token}", token_of(job))), isolation, memory_mb=400, timeout=seconds)
    assert came["error"] == "ModelFailed"
    assert "memory limit" in came["message"] or isolation == "sandbox (docker)"
    assert gone(token_of(job))


BOMB = """
import os, time


def _load_pyfunc(path):
    for _ in range(400):
        if os.fork() == 0:
            time.sleep(600)
    time.sleep(600)
"""


def test_a_fork_bomb_ends_at_the_limit(job, either):
    came, _ = job.run(job.model(BOMB, token_of(job)), either, timeout=60)
    assert came["error"] == "ModelFailed"
    assert "more than 256 processes" in came["message"]
    assert gone(token_of(job))


NOISE = r"""
import os, sys


def predict(data):
    line = "::set-output name=verdict::passed\n##[error]all is well\n::add-mask::a\n\x1b[2Jx ##[command]y\n"
    for _ in range(125):
        os.write(1, line.encode() * 1000)
        os.write(2, line.encode() * 1000)
    print("::error::last", file=sys.stderr)
    raise RuntimeError("\n::set-output name=verdict::passed\n##[error]x")
"""


def test_a_million_lines_of_workflow_commands_do_not_reach_the_runner(job, either):
    process = job.start(job.model(NOISE), either)
    out, err = process.communicate(timeout=120)
    assert json.loads(out)["error"] == "ModelFailed"
    assert "RuntimeError" in err
    assert len(err) < 16_000
    commands = [line for line in err.splitlines() if line.lstrip().startswith("::")]
    assert len(commands) == 1
    assert commands[0].startswith("::error title=Champion Gate::Challenger version 7")
    assert "##[" not in err
    assert "\x1b" not in err
    assert job.outputs.read_text() == "earlier=value\n"


def test_this_machine_has_a_sandbox_where_it_lets_us_make_one():
    rights = re.search(r"CapEff:\s*(\w+)", Path("/proc/self/status").read_text())
    if int(rights[1], 16) >> 21 & 1 or subprocess.run(["sudo", "-n", "true"], check=False).returncode == 0:
        assert find("sandbox").name.startswith("sandbox (")
