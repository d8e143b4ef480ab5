"""Starts commands without paying for `import mlflow` each time: imports it once, then forks for every command.

Each command is a process of its own, runs the script file as `__main__`, with its own environment, folder and
files for stdout and stderr. One JSON line on stdin per command; two on stdout: its process id, its exit code.
"""

from __future__ import annotations

import contextlib
import json
import os
import runpy
import sys
from pathlib import Path
from typing import Any


def preload() -> None:
    import click  # noqa: F401
    import jinja2  # noqa: F401
    import mlflow
    import mlflow.entities
    import mlflow.store.model_registry.rest_store
    import mlflow.store.tracking.rest_store
    import pydantic  # noqa: F401
    import rich.console
    import rich.table  # noqa: F401

    assert mlflow.MlflowClient


def serve() -> dict[str, Any] | None:
    """Fork for each request; returns it in the child, and None in the parent at the end."""
    for line in sys.stdin:
        request: dict[str, Any] = json.loads(line)
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            return request
        print(json.dumps({"pid": pid}), flush=True)
        _, status = os.waitpid(pid, 0)
        print(json.dumps({"exit": os.waitstatus_to_exitcode(status)}), flush=True)
    return None


def become(request: dict[str, Any]) -> None:
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    out = os.open(request["stdout"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    err = os.open(request["stderr"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    for source, target in ((nothing, 0), (out, 1), (err, 2)):
        os.dup2(source, target)
        os.close(source)
    os.environ.clear()
    os.environ.update(request["env"])
    os.chdir(request["cwd"])
    script, *_ = sys.argv = request["argv"]
    sys.path[0] = str(Path(script).parent)


if __name__ == "__main__":
    preload()
    print(json.dumps({"ready": True}), flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        asked = serve()
        if asked is None:
            sys.exit(0)
        become(asked)
    runpy.run_path(sys.argv[0], run_name="__main__")
