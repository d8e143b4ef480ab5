"""S3's API from a wheel: moto's server, in a process of its own."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.support.server import LEASH, free_port

START_LIMIT = 60.0


@contextlib.contextmanager
def s3_server(folder: Path) -> Iterator[str]:
    """The address of an S3 without buckets, which believes whatever credentials it is shown."""
    port = free_port()
    uri = f"http://127.0.0.1:{port}"
    log = folder / "s3.log"
    command = [sys.executable, str(LEASH), sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as out, subprocess.Popen(command, stdin=subprocess.PIPE, stdout=out, stderr=out) as leash:
        try:
            _wait(uri, leash, log)
            yield uri
        finally:
            assert leash.stdin is not None
            leash.stdin.close()
            leash.wait(timeout=20)


def _wait(uri: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_LIMIT
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{uri}/moto-api/data.json", timeout=5):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"The S3 server did not start. It said:\n{log.read_text(errors='replace')[-2000:]}")
