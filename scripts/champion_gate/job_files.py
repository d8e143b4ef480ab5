"""Files that speak for this job: a runner hands them out by variables, and reads them when the step is over.

A process of the same user may write to them, and a model that is not in a sandbox could so set the outputs of this
step, or the environment of the next. So they are put back as they were.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from types import TracebackType

from champion_gate import github
from champion_gate.model_files import ModelFiles

_LARGEST = 32 * 1024 * 1024


class JobFiles:
    """For the time of a block, nobody's writing to these files counts.

    Raises:
        ModelFailed: at the end of the block, if somebody wrote; `model` is the one that ran meanwhile.
    """

    def __init__(self, model: ModelFiles) -> None:
        self._model = model

    def __enter__(self) -> None:
        self._before = {name: (path, path.read_bytes()) for name, path in _named_files().items()}

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        changed = [name for name, (path, content) in self._before.items() if _put_back(path, content)]
        if not changed:
            return
        names = ", ".join(sorted(changed))
        failure = self._model.failed(
            f"wrote to files of this job that are none of a model's business: {names}.",
            "They steer this step and the next ones. They are as they were before.",
            "Do not release this model. Find out who made it, and score in a sandbox.",
        )
        if kind is None:
            raise failure
        github.log(str(failure))


def _named_files() -> dict[str, Path]:
    """The files that a variable names and that we may write to, where there is a runner."""
    found = {}
    for name, value in os.environ.items() if "RUNNER_TEMP" in os.environ else ():
        path = Path(value)
        with contextlib.suppress(OSError, ValueError):
            if path.is_absolute() and path.is_file() and os.access(path, os.W_OK) and path.stat().st_size < _LARGEST:
                found[name] = path
    return found


def _put_back(path: Path, content: bytes) -> bool:
    """Give a file its old content; whether it had another."""
    with contextlib.suppress(OSError):
        if not path.is_symlink() and path.stat().st_size == len(content) and path.read_bytes() == content:
            return False
    with contextlib.suppress(OSError):  # that it changed is said either way
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.is_symlink() or not path.is_file():
            path.unlink(missing_ok=True)
        path.write_bytes(content)
    return True
