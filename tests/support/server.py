"""A real MLflow server for the length of a test session.

`CHAMPION_GATE_TEST_SERVER_PYTHON` names the interpreter of another environment, to run the same tests against the
MLflow server that is installed there; tests of what only MLflow 3 has fail on an older one.
"""

from __future__ import annotations

import contextlib
import os
import random
import shlex
import socket
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.certificates import Certificate

LEASH = Path(__file__).with_name("leash.py")
START_LIMIT = 120.0


@dataclass(frozen=True)
class Server:
    """Where the server answers, and the file that holds what it said."""

    uri: str
    log: Path


def free_port() -> int:
    """A TCP port that nobody listens on at this moment, below those that systems hand out themselves.

    One of those may be another server's, or a client's, by the time that a slow server listens on it.
    """
    for port in random.SystemRandom().sample(range(15000, 30000), 100):
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise RuntimeError("100 ports were tried, and all are taken")


@contextlib.contextmanager
def mlflow_server(
    folder: Path,
    database: str = "",
    *,
    artifacts: str = "",
    options: Sequence[str] = (),
    variables: Mapping[str, str] | None = None,
    tls: Certificate | None = None,
) -> Iterator[Server]:
    """An MLflow server on the database of this URI, or on SQLite, that serves the artifacts of a place, or of `folder`.

    `options` and `variables` are what else it is started with. With `tls` it is reached as localhost.
    """
    port = free_port()
    server = Server(f"https://localhost:{port}" if tls else f"http://127.0.0.1:{port}", folder / "server.log")
    python = os.environ.get("CHAMPION_GATE_TEST_SERVER_PYTHON") or sys.executable
    command = [
        *(sys.executable, str(LEASH), python, "-m", "mlflow", "server"),
        *("--backend-store-uri", database or f"sqlite:///{folder / 'mlflow.db'}"),
        *("--artifacts-destination", artifacts or str(folder / "artifacts"), "--serve-artifacts"),
        *("--host", "127.0.0.1", "--port", str(port), "--workers", "1"),
        *options,
    ]
    if tls:
        command += [
            "--uvicorn-opts",
            shlex.join(["--ssl-certfile", str(tls.certificate), "--ssl-keyfile", str(tls.key)]),
        ]
    environment = {
        key: value for key, value in os.environ.items() if not key.startswith(("MLFLOW_", "CHAMPION_GATE_", "GITHUB_"))
    }
    # Without this a 3.x server starts eight more processes, with 2 GB between them.
    environment |= {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    environment |= variables or {}
    context = ssl.create_default_context(cafile=str(tls.authority)) if tls else None
    with (
        server.log.open("wb") as log,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=subprocess.STDOUT, env=environment, cwd=folder
        ) as leash,
    ):
        try:
            _wait(server, leash, context)
            yield server
        finally:
            if (code := leash.poll()) is not None:
                said = server.log.read_text(errors="replace")[-4000:]
                print(
                    f"The MLflow server at {server.uri} ended by itself, with {code}. It said:\n{said}", file=sys.stderr
                )
            assert leash.stdin is not None
            leash.stdin.close()
            leash.wait(timeout=20)


def _lives(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(timeout=0.5)
    except subprocess.TimeoutExpired:
        return True
    return False


def _wait(server: Server, process: subprocess.Popen[bytes], context: ssl.SSLContext | None) -> None:
    # /health answers before the database does, so the API is asked.
    url = f"{server.uri}/api/2.0/mlflow/registered-models/search?max_results=1"
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=5, context=context) as answer:
                up = answer.status == 200
        except OSError as error:
            up = isinstance(error, urllib.error.HTTPError) and error.code == 401  # it wants to know who asks
        # It may be another server that answers, which was given the same port at the same time: ours ends then.
        if up and _lives(process):
            return
        time.sleep(0.2)
    raise RuntimeError(f"The MLflow server did not start. It said:\n{server.log.read_text(errors='replace')[-4000:]}")
