"""Makes locked environments: once, whole or not at all, whoever else tries at the same time."""

from __future__ import annotations

import fcntl
import functools
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from launcher.package_sources import PackageSources

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import FrameType

# The oldest uv on PATH that is good enough: it knows every flag and variable used here.
OLDEST_UV = (0, 5, 0)
UV_LOCK = Path(__file__).parents[2] / "requirements" / "uv.txt"

MISSING_PIP = """\
uv cannot be installed: this machine has no uv {oldest} or later, and {python} has neither ensurepip nor pip.
On Debian and Ubuntu: apt-get install python3-venv. On a runner: add actions/setup-python or astral-sh/setup-uv \
before this step."""

FAILED_INSTALL = """\
{what} could not be installed ({program} ended with {code}):
{tail}
Check that this machine reaches its package index. A mirror, a proxy or a private certificate authority is named by \
UV_DEFAULT_INDEX or PIP_INDEX_URL, HTTPS_PROXY, and SSL_CERT_FILE; uv.toml and pip.conf are read too."""

CANNOT_WRITE = """\
an environment could not be made under {root}: {error}.
Check its rights and the free disk space, or set XDG_CACHE_HOME (on a runner: RUNNER_TEMP) to a local folder."""


class _Cancelled(BaseException):
    """A signal asked this process to end while it was installing."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


class CannotInstall(Exception):
    """Something is missing or failed; says what to do about it."""

    def __init__(self, message: str, code: int, said: str = "") -> None:
        super().__init__(message)
        self.code = code
        self.said = said
        """The last lines of the installer that failed, without credentials."""


def make_environment(root: str, name: str, lock: str) -> None:
    """Makes the environment `root/name` of a requirements file, or ends the process with what went wrong."""
    try:
        with _cancellable(), exclusive(Path(root)) as guard:
            Maker(Path(root), guard).environment(name, Path(lock))
    except CannotInstall as error:
        _end(error.code, str(error))
    except OSError as error:
        _end(3, CANNOT_WRITE.format(root=root, error=error))
    except _Cancelled as cancelled:
        sys.exit(128 + cancelled.signum)


class Maker:
    """Makes what is missing below `root`, while it holds the lock `guard`.

    `umask` is that of the files it makes, as `subprocess.Popen` takes it: -1 is the caller's own.
    """

    def __init__(self, root: Path, guard: int, umask: int = -1) -> None:
        self.root = root
        self.guard = guard
        self.umask = umask
        self.sources = PackageSources.of(os.environ)

    def environment(self, name: str, lock: Path) -> None:
        """The environment of a lock, complete."""

        def build(folder: Path) -> None:
            started, what = time.monotonic(), f"{lock.parent.name}/{lock.name}"
            _say(f"installing {what} (first use of this lock here) ...")
            # Entry points made relocatable survive the rename to the final name.
            self.run("venv", "--no-project", "--relocatable", "--python", sys.executable, folder, what=what)
            options = ["--no-index"] if self.sources.no_index else []
            python = folder / "bin" / "python"
            # Wheels only: building a package would run code that no hash in the lock speaks for.
            options += ["--python", str(python), "--require-hashes", "--only-binary", ":all:"]
            self.run("pip", "sync", *options, lock, what=what)
            packages = len(list(folder.glob("lib/python*/site-packages/*.dist-info")))
            _say(f"{packages} packages, {time.monotonic() - started:.1f} s")

        self.complete(name, Path("bin", "python"), build)

    @functools.cached_property
    def uv(self) -> tuple[Path, tuple[int, ...]]:
        """A uv that is recent enough, and its version: the one on PATH, else the pinned one."""
        on_path = shutil.which("uv")
        version = self.version_of(Path(on_path)) if on_path else None
        if on_path and version and version >= OLDEST_UV:
            return Path(on_path), version
        # The lock holds nothing but uv, whose wheels do not depend on the Python.
        pinned = re.search(r"^uv==([\d.]+)", UV_LOCK.read_text(encoding="utf-8"))
        assert pinned, UV_LOCK  # noqa: S101 - the lock is ours
        system = os.uname()
        name = f"uv-{pinned[1]}-{system.sysname}-{system.machine}".lower()
        self.complete(name, Path("bin", "uv"), self.install_uv)
        return self.root / name / "bin" / "uv", _numbers(pinned[1])

    def version_of(self, uv: Path) -> tuple[int, ...] | None:
        """The version of a uv, or None when it does not run, as a version manager's shim may not."""
        try:
            answer = subprocess.run(
                [uv, "--version"],
                env=self.sources.for_uv(os.environ),
                capture_output=True,
                text=True,
                check=True,
                timeout=30,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        found = re.match(r"uv (\d+\.\d+\.\d+)", answer.stdout)
        return _numbers(found[1]) if found else None

    def install_uv(self, folder: Path) -> None:
        """Puts the pinned uv into a folder, with the pip that Python brings along."""
        command: list[str | Path] = [sys.executable, "-I", *_pip()]
        command += ["install", "--quiet", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
        command += ["--target", folder, "--requirement", UV_LOCK]
        self.call(command, self.sources.for_pip(os.environ), what="uv")

    def run(self, *arguments: str | Path, what: str, environment: Mapping[str, str] | None = None) -> None:
        """Runs uv to make `what`, so that only what `sources` hands on of the caller's settings counts.

        Raises:
            CannotInstall: there is no uv, or it failed.
        """
        uv, version = self.uv
        # The flag was renamed in 0.11; without it a company's own certificate authority is not trusted.
        certificates = "--system-certs" if version >= (0, 11) else "--native-tls"
        command = [uv, *arguments, "--no-config", certificates]
        self.call(command, environment or self.sources.for_uv(os.environ), what=what)

    def call(self, command: Sequence[str | Path], environment: Mapping[str, str], what: str) -> None:
        """Runs an installer and turns its failure into an error."""
        # It inherits the lock: if this process is killed and the installer is not, the next one waits for its end.
        with subprocess.Popen(
            command,
            env=environment,
            cwd=self.root,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=(self.guard,),
            umask=self.umask,
            text=True,
            errors="replace",
        ) as process:
            try:
                output, _ = process.communicate()
            except BaseException:
                process.kill()
                raise
        if process.returncode:
            tail = "\n".join("  " + line for line in self.sources.redact(output).strip().splitlines()[-15:])
            program = Path(command[0]).name
            message = FAILED_INSTALL.format(what=what, program=program, code=process.returncode, tail=tail)
            raise CannotInstall(message, 3, tail)

    def complete(self, name: str, entry: Path, build: Callable[[Path], None]) -> None:
        """Makes `root/name` by `build`; the folder has that name only once it is whole."""
        final, temporary = self.root / name, self.root / f".new-{name}"
        if os.access(final / entry, os.X_OK):
            return
        # The lock is ours, so what is there was left by a process that was killed, or lost its Python.
        for leftover in (temporary, final):
            if leftover.exists():
                shutil.rmtree(leftover)
        try:
            build(temporary)
            temporary.rename(final)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)  # what stays is removed by the next one
            raise


def _pip() -> list[str | Path]:
    """The arguments that make this Python run a pip: the one it bundles for new environments, else its own."""
    try:
        import ensurepip
    except ImportError:  # Debian without python3-venv
        probe = subprocess.run([sys.executable, "-I", "-m", "pip", "--version"], capture_output=True, check=False)
        if probe.returncode:
            oldest = ".".join(map(str, OLDEST_UV))
            raise CannotInstall(MISSING_PIP.format(oldest=oldest, python=sys.executable), 2) from None
        return ["-m", "pip"]
    # Distributions keep the wheel in a folder of their own, and say where.
    folders = [sysconfig.get_config_var("WHEEL_PKG_DIR"), Path(ensurepip.__file__).parent / "_bundled"]
    for folder in filter(None, folders):
        for wheel in Path(folder).glob(f"pip-{ensurepip.version()}-*.whl"):
            return [wheel / "pip"]
    return ["-m", "pip"]


@contextmanager
def exclusive(root: Path) -> Iterator[int]:
    """Holds the lock of a cache folder; the system releases it however the process ends."""
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    guard = os.open(root / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        try:
            fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            _say("another step is installing; waiting for it ...")
            fcntl.flock(guard, fcntl.LOCK_EX)
        yield guard
    finally:
        os.close(guard)


@contextmanager
def _cancellable() -> Iterator[None]:
    """Lets SIGINT and SIGTERM end the set-up cleanly; a signal that the caller ignores stays ignored."""

    def cancel(signum: int, _frame: FrameType | None) -> NoReturn:
        for other in before:
            signal.signal(other, signal.SIG_IGN)  # the clean-up is short; a second signal must not break it
        raise _Cancelled(signum)

    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    before = {each: handler for each, handler in before.items() if handler is not signal.SIG_IGN}
    for each in before:
        signal.signal(each, cancel)
    yield
    for each, handler in before.items():
        signal.signal(each, handler)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def _say(text: str) -> None:
    print(f"champion-gate: {text}", file=sys.stderr, flush=True)


def _end(code: int, message: str) -> NoReturn:
    print(f"champion-gate: error: {message}", file=sys.stderr)
    sys.exit(code)
