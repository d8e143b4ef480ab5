"""How a program of strangers can be shut in on this machine, and how strongly: tried out, not guessed.

`sandbox` is an allow-list: the program sees the system's /usr, its own Python, the files it is shown, and a /tmp of its
own; no other process, no network, no home, no workspace. `process` only keeps it from what this process knows.
"""

from __future__ import annotations

import csv
import functools
import hashlib
import io
import os
import secrets
import shutil
import subprocess
import sys
import tarfile
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from champion_gate import github, interpreter, process_family
from champion_gate.errors import BadInput
from champion_gate.interpreter import Interpreter
from champion_gate.text import one_line

Wanted = Literal["auto", "sandbox", "process"]

NOBODY = 65534
# Of /etc, what the dynamic linker and the C library read: nothing that is about this machine's users or services.
_SYSTEM = (
    *("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32"),
    *("/etc/ld.so.cache", "/etc/alternatives", "/etc/localtime"),
)
_PASSWD = f"root:x:0:0::/:/usr/sbin/nologin\nnobody:x:{NOBODY}:{NOBODY}::/tmp:/usr/sbin/nologin\n"
_GROUP = f"root:x:0:\nnogroup:x:{NOBODY}:\n"
_SYSTEM_PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
# Tells what is wrong with a sandbox, seen from inside. Arguments: a file that must not be there, a user not to be.
_PROBE = """
import os, socket, sys
found = []
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
if len([name for name in os.listdir("/proc") if name.isdigit()]) > 8:
    found.append("other processes are seen")
if os.getuid() in (0, int(sys.argv[2])) or os.getgid() == 0:
    found.append("it has the user %d" % os.getuid())
if int(status["CapEff"], 16) or int(status["CapPrm"], 16):
    found.append("it has capabilities")
if os.path.exists(sys.argv[1]):
    found.append("files outside are seen")
for folder in ("/", "/usr", "/etc", "/dev", "/shown"):
    try:
        open(folder + "/written", "w")
        found.append(folder + " can be written")
    except OSError:
        pass
try:
    socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(("192.0.2.1", 9))
    found.append("there is a network")
except OSError:
    pass
open("/tmp/written", "w").close()
open("/shown/file").close()
print("shut in" if not found else ", ".join(found))
"""


@dataclass(frozen=True)
class Program:
    """A Python program to shut in, with all that it is to see."""

    interpreter: Interpreter
    files: Mapping[str, Path]
    """What it is shown, under a name of its own: `Isolation.seen` says where."""
    arguments: Sequence[str]
    environment: Mapping[str, str]
    """Its whole environment."""
    memory_mb: int
    scratch: Path
    """A new folder, for this program only, that nobody else enters; `home` and `tmp` in it are the program's."""

    def __post_init__(self) -> None:
        for name, content in (("passwd", _PASSWD), ("group", _GROUP)):
            (self.scratch / name).write_text(content, encoding="ascii")
        for name in ("passwd", "group"):
            (self.scratch / name).chmod(0o644)
        for name in ("root", "home", "tmp"):
            (self.scratch / name).mkdir(exist_ok=True)

    @property
    def command(self) -> list[str]:
        """The program itself. No package's start-up code runs before it asks for that."""
        return [str(self.interpreter.program), "-I", "-S", "-B", "-X", "utf8", *self.arguments]

    @property
    def variables(self) -> list[str]:
        """Its environment as env(1) takes it."""
        return [f"{name}={value}" for name, value in self.environment.items()]

    @property
    def temporary_bytes(self) -> int:
        """What its temporary folders may hold, each: they are memory, too."""
        return max(64, self.memory_mb // 4) * 1024 * 1024

    def shown(self) -> list[tuple[str, str]]:
        """What a sandbox shows: pairs of a place outside and one inside, in an order to mount them."""
        pairs = [(place, place) for place in _SYSTEM if Path(place).exists()]
        pairs += [(str(self.scratch / name), f"/etc/{name}") for name in ("passwd", "group")]
        pairs += [(str(folder), str(folder)) for folder in self.interpreter.folders]
        return pairs + [(str(path.resolve()), f"/{name}") for name, path in self.files.items()]


class Isolation(ABC):
    """One way to shut a program in."""

    name: str
    """What the verdict calls it."""
    pids_are_ours = True
    """Whether the program's processes are descendants of this one."""

    @abstractmethod
    def missing(self) -> str:
        """What this machine lacks for it; empty if it can be tried."""

    @abstractmethod
    def command(self, program: Program) -> list[str]:
        """The command that runs the program shut in."""

    def environment(self, program: Program) -> dict[str, str]:  # noqa: ARG002
        """The environment of that command; the program's own where nothing comes between."""
        return {"PATH": _SYSTEM_PATH, "LANG": "C.UTF-8"}

    def seen(self, name: str, path: Path) -> str:  # noqa: ARG002
        """Where the program finds what it is shown under `name`."""
        return f"/{name}"

    def own_folders(self, scratch: Path) -> dict[str, str]:  # noqa: ARG002
        """HOME and TMPDIR of the program: empty, its own, and gone when it ends."""
        return {"HOME": "/tmp/home", "TMPDIR": "/tmp/tmp"}  # noqa: S108  (the sandbox's own)

    def kill(self, pids: list[int]) -> None:
        """SIGKILL to processes of a program that was shut in so."""
        process_family.kill(pids)

    def memory(self, pids: Iterable[int]) -> int:
        """Bytes that processes of such a program hold together."""
        return process_family.held(pids)

    def clear(self, program: Program) -> None:  # noqa: B027  (most have nothing to clear)
        """End what is not a descendant of this process."""

    @functools.cached_property
    def problem(self) -> str:
        """Why it does not work here; empty if it does. Found out by doing it."""
        missing = self.missing()
        return missing or self._tried()

    def _tried(self) -> str:
        with tempfile.TemporaryDirectory(prefix="champion-gate-") as folder:
            shown = Path(folder, "shown")
            shown.mkdir(mode=0o755)
            shown.chmod(0o755)
            (shown / "file").touch(0o644)
            (shown / "file").chmod(0o644)
            program = Program(
                interpreter.own(),
                {"shown": shown},
                ("-c", _PROBE, str(shown / "file"), str(os.getuid())),
                {"PATH": _SYSTEM_PATH},
                512,
                Path(folder),
            )
            try:
                done = subprocess.run(
                    self.command(program),
                    env=self.environment(program),
                    cwd="/",
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    text=True,
                    errors="replace",
                    start_new_session=True,
                    timeout=60,
                    check=False,
                )
            except (OSError, subprocess.SubprocessError) as error:
                return one_line(str(error), 200)
            finally:
                self.clear(program)
        said = (done.stdout.strip() or done.stderr.strip()).splitlines()
        return "" if said == ["shut in"] else one_line(said[-1] if said else f"it ended with {done.returncode}", 200)


class Bubblewrap(Isolation):
    """By bubblewrap (https://github.com/containers/bubblewrap), in a user namespace."""

    name = "sandbox (bubblewrap)"

    def missing(self) -> str:
        """Whether there is a bwrap."""
        if not _linux():
            return "it is for Linux"
        return "" if shutil.which("bwrap") else "bwrap is not installed"

    def command(self, program: Program) -> list[str]:
        """A bwrap that shows what the program needs, and nothing else."""
        size = ["--size", str(program.temporary_bytes)] if "--size" in self._options else []
        fixed = ["--disable-userns", "--unshare-user"] if "--disable-userns" in self._options else []
        command = [shutil.which("bwrap") or "bwrap", "--unshare-all", *fixed, "--die-with-parent", "--new-session"]
        command += ["--uid", str(NOBODY), "--gid", str(NOBODY), "--cap-drop", "ALL", "--proc", "/proc", "--dev", "/dev"]
        command += [*size, "--tmpfs", "/dev/shm", "--remount-ro", "/dev", *size, "--tmpfs", "/tmp"]  # noqa: S108
        for outside, inside in program.shown():
            command += ["--ro-bind", outside, inside]
        command += ["--remount-ro", "/", "--chdir", "/tmp", "--", "/usr/bin/env", "-i"]  # noqa: S108
        return [*command, *program.variables, *program.command]

    @functools.cached_property
    def _options(self) -> str:
        return _output([shutil.which("bwrap") or "bwrap", "--help"])


class Namespaces(Isolation):
    """By util-linux: as root, or as root through sudo, or in a user namespace."""

    name = "sandbox (namespaces)"
    _SCRIPT = Path(__file__).with_name("namespaces.sh")

    def __init__(self, *, sudo: bool) -> None:
        self._sudo = sudo

    def missing(self) -> str:
        """Whether there are its tools, and for sudo its rights."""
        if not _linux():
            return "it is for Linux"
        for tool in ("bash", "unshare", "setpriv", "pivot_root", "mount"):
            if not shutil.which(tool, path=_SYSTEM_PATH):
                return f"{tool} is not installed"
        if self._sudo and (os.getuid() == 0 or not shutil.which("sudo")):
            return "there is no sudo to use"
        return ""

    def command(self, program: Program) -> list[str]:
        """The script beside this file, with what it is to show."""
        command = [*_leash(), "bash", str(self._SCRIPT), str(program.scratch / "root"), str(program.temporary_bytes)]
        for pair in program.shown():
            command += pair
        command += ["--", *program.variables, *program.command]
        return ["sudo", "-n", "--", *command] if self._sudo else command

    def kill(self, pids: list[int]) -> None:
        """As another user's, if they are."""
        if self._sudo:
            _output(["sudo", "-n", "--", "kill", "-KILL", *map(str, pids)])
        else:
            super().kill(pids)

    def memory(self, pids: Iterable[int]) -> int:
        """As another user's, if they are: only root is told how they share it."""
        pids = list(pids)
        files = [f"/proc/{pid}/smaps_rollup" for pid in pids] if self._sudo else []
        told = process_family.shares(_output(["sudo", "-n", "--", "cat", *files], strict=False)) if files else 0
        return told or super().memory(pids)


class Docker(Isolation):
    """By Docker, in an image with nothing but a /tmp in it: all else is mounted, and nothing is pulled."""

    name = "sandbox (docker)"
    pids_are_ours = False

    def missing(self) -> str:
        """Whether there is an engine to talk to."""
        if not _linux():
            return "it is for Linux"
        if not shutil.which("docker"):
            return "docker is not installed"
        return "" if _output(["docker", "version", "--format", "{{.Server.Version}}"]) else "no engine answers"

    def command(self, program: Program) -> list[str]:
        """A container without network, capabilities, and anything to write to but its own /tmp."""
        memory = f"{program.memory_mb}m"
        name = self._container(program)
        command = [*_leash("docker", "rm", "--force", name), "docker", "run", "--rm", "--interactive", f"--name={name}"]
        command += ["--log-driver=none", "--network=none", "--ipc=private", "--cap-drop=ALL", "--read-only"]
        command += ["--security-opt=no-new-privileges", f"--user={NOBODY}:{NOBODY}", "--pids-limit=512"]
        command += [f"--memory={memory}", f"--memory-swap={memory}", f"--shm-size={program.temporary_bytes}"]
        tmp = f"/tmp:rw,exec,nosuid,nodev,mode=1777,size={program.temporary_bytes}"  # noqa: S108  (the container's own)
        command += [f"--tmpfs={tmp}", "--workdir=/tmp"]
        for outside, inside in program.shown():
            command += ["--mount", _comma_separated("type=bind", f"source={outside}", f"target={inside}", "readonly")]
        command += [f"--env={variable}" for variable in program.variables]
        return [*command, self._image, *program.command]

    def environment(self, program: Program) -> dict[str, str]:  # noqa: ARG002
        """What the client needs to find its engine."""
        return _for_the_client()

    def clear(self, program: Program) -> None:
        """Removes the container, if it is still there."""
        _output(["docker", "rm", "--force", self._container(program)])

    def _container(self, program: Program) -> str:
        return f"champion-gate-{hashlib.sha256(str(program.scratch).encode()).hexdigest()[:16]}-{self._unique}"

    @functools.cached_property
    def _unique(self) -> str:
        return secrets.token_hex(4)  # another job on this machine may have a folder of the same name

    @functools.cached_property
    def _image(self) -> str:
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w") as archive:
            folder = tarfile.TarInfo("tmp")  # a container's /tmp has the rights of the folder below
            folder.type, folder.mode = tarfile.DIRTYPE, 0o1777
            archive.addfile(folder)
        tag = f"champion-gate-empty:{hashlib.sha256(content.getvalue()).hexdigest()[:12]}"
        if not _output(["docker", "image", "inspect", "--format", "{{.Id}}", tag]):
            _output(["docker", "import", "-", tag], content.getvalue())
        return tag


class Process(Isolation):
    """A process of its own and no more: secrets are not passed to it; files of the same user it can reach."""

    name = "process"

    def missing(self) -> str:
        """Nothing: it works everywhere."""
        return ""

    def command(self, program: Program) -> list[str]:
        """The program itself."""
        return program.command

    def environment(self, program: Program) -> dict[str, str]:
        """The program's."""
        return dict(program.environment)

    def seen(self, name: str, path: Path) -> str:  # noqa: ARG002
        """Where it is."""
        return str(path.resolve())

    def own_folders(self, scratch: Path) -> dict[str, str]:
        """Two folders beside each other."""
        return {"HOME": str(scratch / "home"), "TMPDIR": str(scratch / "tmp")}

    @functools.cached_property
    def problem(self) -> str:
        """None."""
        return ""


@functools.cache
def sandboxes() -> tuple[Isolation, ...]:
    """Every kind of sandbox, the strongest first; `problem` says which of them work here.

    As root, namespaces come first: their program is another user outside, too, and in bubblewrap's it stays root there.
    """
    direct, bubblewrap = Namespaces(sudo=False), Bubblewrap()
    first = (direct, bubblewrap) if os.getuid() == 0 else (bubblewrap, direct)
    return (*first, Namespaces(sudo=True), Docker())


@functools.cache
def find(wanted: Wanted) -> Isolation:
    """The isolation that is asked for; `auto` is the strongest that works here.

    Raises:
        BadInput: a sandbox is demanded, and none works here.
    """
    if wanted == "process":
        return Process()
    for sandbox in sandboxes():
        if not sandbox.problem:
            return sandbox
    tried = "; ".join(f"{each.name.removeprefix('sandbox ')}: {each.problem}" for each in sandboxes())
    if wanted == "sandbox":
        raise BadInput(
            "A sandbox is demanded for scoring, and this machine has none that works.",
            f"Tried: {tried}.",
            "On Debian and Ubuntu: apt-get install bubblewrap. Or, in a job without secrets, set isolation: process.",
        )
    github.log(f"No kind of sandbox works on this machine. Tried: {tried}.")
    return Process()


def _leash(*after: str) -> list[str]:
    """What goes before a command that must not outlive this process; `after` it, another one is run."""
    return ["bash", str(Path(__file__).with_name("leash.sh")), str(os.getpid()), *after, "--"]


def _linux() -> bool:
    return sys.platform.startswith("linux")


def _for_the_client() -> dict[str, str]:
    """What of our environment a command of the system gets: where a Docker engine is, and nothing else."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "XDG_RUNTIME_DIR") if name in os.environ}
    return kept | {name: value for name, value in os.environ.items() if name.startswith("DOCKER_")}


def _output(command: list[str], given: bytes = b"", *, strict: bool = True) -> str:
    """What a command says; empty if it does not run, or (if `strict`) fails."""
    try:
        done = subprocess.run(command, env=_for_the_client(), input=given, capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 or not strict else ""


def _comma_separated(*fields: str) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(fields)
    return line.getvalue()
