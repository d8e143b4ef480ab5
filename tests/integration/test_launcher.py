"""scripts/run as steps and people start it: real processes, real installs, from an index on the loopback device.

A scratch project holds this project's launcher, locks of tiny wheels that are made here, and commands that tell what
they see. So nothing here depends on a network, but for the one test that fetches uv itself.
"""

from __future__ import annotations

import base64
import hashlib
import http.server
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
import zipfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BASE_PYTHON = Path(sys.executable).resolve()
TELL = "import json, os, sys; print(json.dumps({'argv': sys.argv, 'path': sys.path, 'env': dict(os.environ)}))"


def wheel(name: str, version: str = "1.0", remark: str = "") -> tuple[str, bytes]:
    """A wheel of one module, and its file name."""
    info = f"{name}-{version}.dist-info"
    members = {
        f"{name}.py": f'version = "{version}"  # {remark}\n\n\ndef main():\n    print("{name} {version}")\n',
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {name}:main\n",
    }
    record = ""
    for path, text in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        record += f"{path},sha256={digest},{len(text.encode())}\n"
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for path, text in {**members, f"{info}/RECORD": f"{record}{info}/RECORD,,\n"}.items():
            archive.writestr(path, text)
    return f"{name}-{version}-py3-none-any.whl", content.getvalue()


class Index(http.server.ThreadingHTTPServer):
    """A package index with a password, that can keep a download waiting."""

    daemon_threads = True

    def __init__(self, wheels: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), IndexAnswers)
        self.wheels = wheels
        self.requests: list[str] = []
        self.open = threading.Event()
        self.open.set()
        self.asked = threading.Event()
        self.url = f"http://reader:s3cret@127.0.0.1:{self.server_port}/simple/"


class IndexAnswers(http.server.BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        if self.headers.get("Authorization") != "Basic " + base64.b64encode(b"reader:s3cret").decode():
            self.answer(401, b"who are you?", ("WWW-Authenticate", "Basic"))
            return
        self.server.requests.append(self.path)
        name = self.path.rstrip("/").rsplit("/", 1)[-1]
        if name in self.server.wheels:
            self.server.asked.set()
            self.server.open.wait(60)
            self.answer(200, self.server.wheels[name])
            return
        links = [f'<a href="/files/{file}">{file}</a>' for file in self.server.wheels if file.startswith(f"{name}-")]
        self.answer(200 if links else 404, "\n".join(links).encode(), ("Content-Type", "text/html"))

    def answer(self, status: int, body: bytes, *headers: tuple[str, str]) -> None:
        try:
            self.send_response(status)
            for header in headers:
                self.send_header(*header)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
        except OSError:
            self.close_connection = True  # the other side was killed, as some tests want

    def log_message(self, *_args) -> None:
        pass


@dataclass
class Project:
    """A scratch checkout with the launcher in it, and a machine that is empty but for Python and uv."""

    folder: Path
    index: Index
    environ: dict[str, str] = field(default_factory=dict)

    @property
    def cache(self) -> Path:
        return Path(self.environ["HOME"], ".cache", "champion-gate")

    def lock(self, *wheels: tuple[str, bytes]) -> None:
        """Makes the lock of the registry commands."""
        lines = []
        for file, content in wheels:
            name, version = file.split("-")[:2]
            lines.append(f"{name}=={version} \\\n    --hash=sha256:{hashlib.sha256(content).hexdigest()}\n")
            self.index.wheels[file] = content
        (self.folder / "requirements" / "registry.txt").write_text("".join(lines), encoding="utf-8")

    def command(self, name: str, text: str) -> None:
        (self.folder / "scripts" / f"{name}.py").write_text(text, encoding="utf-8")

    def start(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.folder / "scripts" / "run", *arguments],
            env=self.environ | environ,
            cwd=self.folder.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*arguments, **environ)
        out, err = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def environments(self) -> list[Path]:
        return sorted(self.cache.glob("registry-*"))

    def leftovers(self) -> list[Path]:
        return sorted(self.cache.glob(".new-*"))


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "a checkout"
    (folder / "requirements").mkdir(parents=True)
    shutil.copytree(ROOT / "scripts" / "launcher", folder / "scripts" / "launcher")
    for name in ("run", "launch.py"):
        shutil.copy(ROOT / "scripts" / name, folder / "scripts" / name)
    shutil.copy(ROOT / "requirements" / "uv.txt", folder / "requirements" / "uv.txt")
    tools = tmp_path / "tools with a space"
    tools.mkdir()
    (tools / "python3").symlink_to(BASE_PYTHON)
    (tools / "uv").symlink_to(Path(sys.executable).parent / "uv")
    index = Index({})
    threading.Thread(target=index.serve_forever, args=(0.02,), daemon=True).start()
    environ = {"HOME": str(tmp_path / "home"), "PATH": f"{tools}:/usr/bin:/bin", "UV_DEFAULT_INDEX": index.url}
    made = Project(folder, index, environ)
    made.lock(wheel("tinyone"))
    made.command("validate_model", TELL)
    yield made
    index.open.set()
    index.shutdown()
    index.server_close()


def ended(condition, seconds: float = 15) -> bool:
    """Whether a condition comes true in time."""
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            return False
        time.sleep(0.05)
    return True


def processes_under(folder: Path) -> list[str]:
    """Command lines of running processes that speak of a folder."""
    listed = subprocess.run(["ps", "-eo", "pid=,args="], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(folder) in line and " ps " not in line]


def test_a_command_runs_in_its_environment_with_the_caller_s_own_variables(project):
    mine = {
        "PYTHONPATH": "/elsewhere",
        "PYTHONHOME": "/elsewhere",
        "CHAMPION_GATE_MODEL_NAME": "a\nb",
        "ODD": "$(no) 'q'",
    }
    first = project.run("validate-model", "--model-name", "two words", "", "*", **mine)
    assert first.returncode == 0, first.stderr
    assert "installing requirements/registry.txt" in first.stderr
    assert "1 packages" in first.stderr
    seen = json.loads(first.stdout)
    assert seen["argv"][1:] == ["--model-name", "two words", "", "*"]
    assert seen["path"][0] == str(project.folder / "scripts")
    assert "/elsewhere" not in seen["path"]
    by_bash = {"_", "PWD", "OLDPWD", "SHLVL"}
    added = {"LC_CTYPE", "__CF_USER_TEXT_ENCODING"}  # by Python in the C locale, and by macOS
    given = project.environ | mine
    assert {name: value for name, value in seen["env"].items() if name not in by_bash | added} == given

    again = project.run("validate-model", **mine)
    assert (again.returncode, again.stderr) == (0, "")
    [environment] = project.environments()
    assert project.leftovers() == []
    # Programs of the environment know its final place.
    program = subprocess.run([environment / "bin" / "tinyone"], capture_output=True, text=True, check=True)
    assert program.stdout == "tinyone 1.0\n"


def test_a_changed_lock_gets_another_environment(project):
    project.command("validate_model", "import tinyone; print(tinyone.version)")
    assert project.run("validate-model").stdout == "1.0\n"
    project.lock(wheel("tinyone", "2.0"))
    assert project.run("validate-model").stdout == "2.0\n"
    assert len(project.environments()) == 2


def test_environments_of_a_job_stay_with_the_job(project, tmp_path):
    assert project.run("validate-model", RUNNER_TEMP=str(tmp_path / "job")).returncode == 0
    assert len(list((tmp_path / "job" / "champion-gate").glob("registry-*"))) == 1
    assert not project.cache.exists()


def test_signals_reach_the_command(project):
    project.command(
        "validate_model",
        "import signal, sys, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(42))\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)\n",
    )
    process = project.start("validate-model")
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    process.communicate(timeout=15)
    assert process.returncode == 42


def test_two_steps_that_start_together_make_one_environment(project):
    project.index.open.clear()
    steps = [project.start("validate-model") for _ in range(3)]
    assert project.index.asked.wait(30)
    time.sleep(0.5)
    project.index.open.set()
    results = [step.communicate(timeout=60) for step in steps]
    assert [step.returncode for step in steps] == [0, 0, 0], results
    assert sum("installing requirements" in err for _, err in results) == 1
    assert sum("another step is installing" in err for _, err in results) >= 1
    assert len(project.environments()) == 1
    assert project.leftovers() == []


def test_a_step_that_was_killed_half_way_does_not_break_the_next(project):
    project.index.open.clear()
    killed = project.start("validate-model")
    assert project.index.asked.wait(30)
    killed.kill()  # the launcher alone: its uv lives on for a while, and must not disturb the next one
    killed.communicate(timeout=30)
    assert project.environments() == []
    following = project.start("validate-model")
    time.sleep(0.5)
    project.index.open.set()
    out, err = following.communicate(timeout=90)
    assert following.returncode == 0, err
    assert json.loads(out)
    assert len(project.environments()) == 1
    assert project.leftovers() == []


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_cancelled_set_up_ends_at_once_and_leaves_nothing(project, signum, code):
    project.index.open.clear()
    step = project.start("validate-model")
    assert project.index.asked.wait(30)
    started = time.monotonic()
    step.send_signal(signum)
    out, err = step.communicate(timeout=15)
    assert time.monotonic() - started < 5
    assert (step.returncode, out) == (code, "")
    assert "Traceback" not in err
    assert project.leftovers() == []
    assert ended(lambda: processes_under(project.cache) == [])


def test_an_environment_whose_python_is_gone_is_made_again(project):
    assert project.run("validate-model").returncode == 0
    [environment] = project.environments()
    python = environment / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3")
    again = project.run("validate-model")
    assert again.returncode == 0, again.stderr
    assert "installing" in again.stderr
    assert project.environments() == [environment]


def script(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    return path


def test_the_first_python_that_is_new_enough_is_taken(project, tmp_path):
    broken = script(tmp_path / "broken" / "python3", "#!/bin/sh\nexit 127\n")
    old = script(tmp_path / "old" / "python3", "#!/bin/sh\necho 3.8.10\nexit 1\n")
    path = f"{broken.parent}:{old.parent}:{project.environ['PATH']}"
    result = project.run("validate-model", PATH=path)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["env"]["PATH"] == path


def test_no_python_that_is_new_enough_is_bad_input_that_names_what_there_is(project, tmp_path):
    old = script(tmp_path / "old" / "python3", "#!/bin/sh\necho 3.8.10\nexit 1\n")
    bash = tmp_path / "bash"
    bash.mkdir()
    (bash / "bash").symlink_to(shutil.which("bash"))
    result = project.run("validate-model", PATH=f"{old.parent}:{bash}")
    assert result.returncode == 2
    assert f"{old} (3.8.10)" in result.stderr
    assert "found: none" in project.run("validate-model", PATH=str(bash)).stderr


def test_other_systems_are_refused(project):
    result = project.run("validate-model", OSTYPE="msys")
    assert result.returncode == 2
    assert "Linux and macOS" in result.stderr


@pytest.mark.parametrize("arguments", [(), ("validate",), ("",), ("--version",), ("../validate-model",)])
def test_an_unknown_command_is_bad_input_that_lists_the_commands(project, arguments):
    result = project.run(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert "validate-model" in result.stderr
    assert not project.cache.exists()


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_the_commands(project, flag):
    result = project.run(flag)
    assert (result.returncode, result.stderr) == (0, "")
    assert "promote-alias" in result.stdout


def test_python_itself_can_be_run_in_an_environment(project):
    result = project.run("--python", "registry", "-c", "import tinyone; print(tinyone.version)")
    assert result.stdout == "1.0\n", result.stderr
    unknown = project.run("--python", "nothing")
    assert unknown.returncode == 2
    assert "registry" in unknown.stderr


def test_pip_s_settings_reach_uv(project, tmp_path):
    conf = tmp_path / "home" / ".config" / "pip" / "pip.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text(f"[global]\nindex-url = {project.index.url}\ntarget = /nowhere\n", encoding="utf-8")
    del project.environ["UV_DEFAULT_INDEX"]
    result = project.run("validate-model", PIP_FIND_LINKS=str(tmp_path / "missing"))
    assert result.returncode == 0, result.stderr
    assert any(path.endswith(".whl") for path in project.index.requests)


def test_a_folder_of_wheels_is_enough(project, tmp_path):
    wheels = tmp_path / "home" / "wheels"
    wheels.mkdir(parents=True)
    for file, content in project.index.wheels.items():
        (wheels / file).write_bytes(content)
    del project.environ["UV_DEFAULT_INDEX"]
    result = project.run("validate-model", PIP_NO_INDEX="1", PIP_FIND_LINKS=str(wheels))
    assert result.returncode == 0, result.stderr
    assert project.index.requests == []


def test_settings_that_would_change_what_is_installed_do_not_count(project, tmp_path):
    (project.folder.parent / "uv.toml").write_text('exclude-newer = "2001-01-01T00:00:00Z"\n', encoding="utf-8")
    hostile = {
        "UV_TARGET": str(tmp_path / "elsewhere"),
        "UV_EXCLUDE_NEWER": "2001-01-01T00:00:00Z",
        "UV_OFFLINE": "1",
        "UV_PYTHON": "2.7",
        "PIP_TARGET": str(tmp_path / "elsewhere"),
        "VIRTUAL_ENV": str(tmp_path / "elsewhere"),
    }
    result = project.run("validate-model", **hostile)
    assert result.returncode == 0, result.stderr
    assert not (tmp_path / "elsewhere").exists()


def test_a_file_with_another_hash_is_refused(project):
    file, content = wheel("tinyone", remark="not what was locked")
    project.index.wheels[file] = content
    result = project.run("validate-model")
    assert result.returncode == 3
    assert "hash" in result.stderr.lower()
    assert project.environments() == []


def test_a_failed_set_up_says_what_to_check_and_keeps_credentials_to_itself(project):
    project.index.wheels.clear()
    result = project.run("validate-model")
    assert (result.returncode, result.stdout) == (3, "")
    assert "tinyone" in result.stderr
    assert "UV_DEFAULT_INDEX" in result.stderr
    assert "s3cret" not in result.stderr
    assert "Traceback" not in result.stderr
    assert project.environments() == project.leftovers() == []


def test_a_cache_that_cannot_be_written_is_named(project, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    result = project.run("validate-model", XDG_CACHE_HOME=str(tmp_path / "file"))
    assert result.returncode == 3
    assert str(tmp_path / "file") in result.stderr
    assert "XDG_CACHE_HOME" in result.stderr


@pytest.mark.slow
def test_without_a_recent_uv_the_pinned_one_is_fetched(project, tmp_path):
    tools = tmp_path / "bare"
    script(tools / "uv", "#!/bin/sh\necho uv 0.4.30\n")
    (tools / "python3").symlink_to(BASE_PYTHON)
    # uv comes from where this machine gets packages, the tiny wheel from a folder.
    wheels = tmp_path / "wheels"
    wheels.mkdir()
    for file, content in project.index.wheels.items():
        (wheels / file).write_bytes(content)
    del project.environ["UV_DEFAULT_INDEX"]
    theirs = {
        name: value
        for name, value in os.environ.items()
        if name.startswith(("PIP_", "UV_", "SSL_")) or name.upper().endswith("_PROXY")
    }
    result = project.run("validate-model", **theirs | {"PATH": f"{tools}:/usr/bin:/bin", "UV_FIND_LINKS": str(wheels)})
    assert result.returncode == 0, result.stderr
    assert len(list(project.cache.glob("uv-*"))) == 1
    assert project.leftovers() == []
