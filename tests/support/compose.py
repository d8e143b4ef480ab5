"""Docker Compose as the tests call it, and the servers of examples/server in it."""

from __future__ import annotations

import functools
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

from tests.support.stack import ADMIN, S3, Stack

ROOT = Path(__file__).resolve().parents[2]
SERVER = ROOT / "examples" / "server"
START_LIMIT = 600
PREFIX = "champion-gate-test-"
PROJECT_LABEL = "com.docker.compose.project"
LOCAL_LABEL = "champion-gate.local-image"
"""On the images that tests/docker/local-images made; it makes them anew itself."""


def command() -> list[str]:
    """How Compose is called: as `CHAMPION_GATE_TEST_COMPOSE` says, else as Docker's plugin."""
    return shlex.split(os.environ.get("CHAMPION_GATE_TEST_COMPOSE", "")) or ["docker", "compose"]


@functools.cache
def missing() -> str:
    """What of a container engine is missing here; empty if nothing is."""
    for what, asked in (
        ("no container engine answers to `docker version`", ["docker", "version", "--format", "{{.Server.Version}}"]),
        (f"there is no Docker Compose: `{shlex.join(command())}`", [*command(), "version"]),
    ):
        try:
            subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=True)
        except (OSError, subprocess.SubprocessError):
            return what
    return ""


def server_folder(folder: Path, **settings: str) -> Path:
    """A copy of examples/server for localhost, with secrets made as a user makes them, and these settings."""
    copy = folder / "server"
    shutil.copytree(SERVER, copy, ignore=shutil.ignore_patterns(".env*", "tls"))
    subprocess.run([copy / "make-secrets", "localhost"], check=True, capture_output=True)
    with (copy / ".env").open("a") as file:
        file.writelines(f"{name}={value}\n" for name, value in settings.items())
    return copy


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _docker(*arguments: str) -> str:
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, timeout=60, check=True).stdout.strip()


def project_name(what: str) -> str:
    """The name of this process's own project; those of test processes that are gone are removed first."""
    listing = ("--filter", f"label={PROJECT_LABEL}", "--format", f'{{{{.Label "{PROJECT_LABEL}"}}}}')
    names = _docker("ps", "--all", *listing).split() + _docker("volume", "ls", *listing).split()
    for name in sorted(set(names)):
        of_tests = re.fullmatch(rf"{PREFIX}\w+-(\d+)", name)
        if of_tests and not _runs(int(of_tests[1])):
            remove = [*command(), "--project-name", name, "down", "--volumes", "--remove-orphans", "--timeout", "5"]
            subprocess.run(remove, capture_output=True, timeout=START_LIMIT, check=True)
    return f"{PREFIX}{what}-{os.getpid()}"


class Project:
    """One Compose project: `folder` holds its first file and its .env; `more` are files that change something."""

    def __init__(self, name: str, folder: Path, *more: Path) -> None:
        self.name = name
        self.folder = folder
        self.files = [folder / "compose.yml", *more]
        pairs = (line.split("=", 1) for line in (folder / ".env").read_text().splitlines())
        self.settings = dict(pairs)

    def __call__(self, *arguments: str, timeout: float = START_LIMIT) -> str:
        """What Compose says to these arguments.

        Raises:
            RuntimeError: it failed.
        """
        files = [part for file in self.files for part in ("--file", str(file))]
        done = subprocess.run(
            [*command(), "--project-name", self.name, *files, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(
                f"docker compose {shlex.join(arguments)} ended with {done.returncode}:\n{done.stdout[-4000:]}"
            )
        return done.stdout

    def missing_image(self) -> str:
        """Why an image is not to be had; empty if all are here, or were pulled or built just now."""
        for image in self("config", "--images").split():
            try:
                label = _docker("image", "inspect", "--format", f'{{{{index .Config.Labels "{LOCAL_LABEL}"}}}}', image)
            except subprocess.CalledProcessError:
                label = None  # there is no such image
            ours = image.startswith("champion-gate/")
            try:
                if ours and not label:
                    self("build", "mlflow")  # also where it is here already: its files may have changed since
                elif label is None:
                    self("pull", "--ignore-buildable")
            except (RuntimeError, subprocess.SubprocessError) as error:
                return f"the image {image} is not here, and cannot be had: {str(error).strip().splitlines()[-1]}"
        return ""

    def address(self, service: str, port: int) -> str:
        """Where a port of a service is reached from here."""
        return self("port", service, str(port)).strip().splitlines()[-1]

    def told(self) -> str:
        """What its services said last."""
        return self("logs", "--no-color", "--tail", "40")

    def down(self) -> None:
        """Remove it, with its volumes."""
        self("down", "--volumes", "--remove-orphans", "--timeout", "5")


class ComposeStack(Stack):
    """A project that runs; its S3 is within reach where tests/docker/compose.yml is part of it."""

    kind = "containers"

    def __init__(self, project: Project, passwords: dict[str, str] | None = None) -> None:
        self._project = project
        settings, authority = project.settings, project.folder / "tls" / "ca.crt"
        self.workers = int(settings["MLFLOW_WORKERS"])
        https, redis = (project.address("proxy", port).rpartition(":")[2] for port in (8443, 6380))
        known = {} if passwords is None else passwords
        known[ADMIN] = settings["MLFLOW_ADMIN_PASSWORD"]
        redis_url = f"rediss://:{settings['REDIS_PASSWORD']}@localhost:{redis}/0?ssl_ca_certs={authority}"
        super().__init__(f"https://localhost:{https}", authority, redis_url, known)

    @property
    def s3(self) -> S3:
        return S3(f"http://{self._project.address('s3', 7070)}", "mlflow", self._project.settings["S3_SECRET_KEY"])

    def _stop(self, service: str) -> None:
        self._project("stop", "--timeout", "5", service)

    def _start(self, service: str) -> None:
        self._project("up", "--detach", "--wait", "--no-recreate", service)

    def _ask(self, query: str) -> Any:
        psql = ("psql", "--username=mlflow", "--dbname=mlflow", "--tuples-only", "--no-align", "--command", query)
        return self._project("exec", "--no-TTY", "postgres", *psql).strip()
