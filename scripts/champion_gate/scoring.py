"""Runs one model on rows of features, in its own environment, shut in: scores come out, and nothing else.

The model is a stranger's program (loading it runs its pickle). It gets features, never labels, another model's files
or this process's environment; what it answers is checked byte by byte. One that cannot be loaded and asked so
cannot be served either.
"""

from __future__ import annotations

import contextlib
import json
import os
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from champion_gate import child_process, github, isolation, model_environment, process_family
from champion_gate.child_process import Child, Ended, Limits
from champion_gate.errors import BadInput, OutsideWorldFailed
from champion_gate.job_files import JobFiles
from champion_gate.model_files import ModelFailed, ModelFiles, read_model
from champion_gate.text import one_line

__all__ = ["ModelFailed", "ModelFiles", "Options", "Scorer", "open_scorer", "read_model"]

_SCORER = Path(__file__).with_name("scorer.py")
_LONGEST_SENTENCE = 8192
_INT64 = np.iinfo(np.int64)


@dataclass(frozen=True)
class Options:
    """How models are scored."""

    isolation: Literal["auto", "sandbox", "process"] = "auto"
    environment: Literal["model", "current"] = "model"
    """The model's own, made from its requirements, or the caller's: the first Python on PATH."""
    timeout: float = 600.0
    """Seconds in which a model is waited for, loading and all batches together. Its environment takes its own time."""
    memory_mb: int = 4096
    """What all processes of a model may hold together. Each of its temporary folders holds a quarter of that."""
    allow_source_builds: bool = False
    """Take the requirements as they are: URLs, paths, options, packages that are built here by running their code."""


class Scorer:
    """A loaded model."""

    def __init__(self, model: ModelFiles, child: Child, isolation_name: str) -> None:
        self.isolation = isolation_name
        """How it is shut in, as the verdict says it."""
        self._model = model
        self._child = child

    def score(self, columns: Mapping[str, NDArray[Any] | Sequence[str | None]], rows: int) -> NDArray[np.float64]:
        """The model's scores of `rows` rows, shape (rows,), finite.

        Each column has `rows` values: numbers or booleans as an array, text as a sequence of str and None. They reach
        the model as a data frame, in this order, cast to the types of its signature where it has one; columns that
        the signature does not name are left out.

        Raises:
            ModelFailed: the model failed, or did not answer with one finite number a row, or not within its limits.
            ValueError: a column has another length than `rows`.
        """
        if not self._child.quiet():
            raise self._failed("cannot be believed: it wrote an answer that nobody asked for.")
        self._child.send(_request(columns, rows))
        scores = np.empty(rows, np.dtype("<f8"))
        self._answer(b"VALS", scores.data.cast("B") if rows else memoryview(b""), "could not score the data")
        wrong = ~np.isfinite(scores)
        if wrong.any():
            first = int(wrong.argmax())
            raise self._failed(
                f"gave scores that are no numbers: {int(wrong.sum())} of {rows}, the first is {scores[first]} for row "
                f"{first + 1} of this batch."
            )
        return scores.astype(np.float64, copy=False)

    def load(self) -> None:
        """Wait until the model is loaded.

        Raises:
            ModelFailed: it cannot be loaded, or not within its limits.
            OutsideWorldFailed: this machine could not start its process.
        """
        try:
            self._answer(b"HERE", memoryview(b""), "could not be given a process")
        except ModelFailed as failed:  # nothing of the model ran so far
            raise OutsideWorldFailed(
                failed.what,
                f"It is to be shut in by {self.isolation}. {failed.why}",
                "Check what the last lines say, or choose another isolation or environment for scoring.",
            ) from failed
        self._answer(b"REDY", memoryview(b""), "cannot be loaded")

    def _answer(self, tag: bytes, into: memoryview, failure: str) -> None:
        header = bytearray(12)
        try:
            self._child.receive(memoryview(header))
            came, length = struct.unpack("<4sQ", header)
            if came == b"FAIL" and length <= _LONGEST_SENTENCE:
                sentence = bytearray(length)
                self._child.receive(memoryview(sentence))
                self._child.end()  # so that its last words are complete
                raise self._failed(f"{failure}: {one_line(sentence.decode('utf-8', 'replace'), 1000)}.")
            if came != tag or length != len(into):
                self._child.end()
                raise self._failed(f"{failure}: its answer is not what was asked for.")
            self._child.receive(into)
        except Ended as ended:
            raise self._failed(f"{failure}: {ended}.") from ended

    def _failed(self, what: str) -> ModelFailed:
        words = self._child.last_words()
        return self._model.failed(
            what,
            f"Its last lines: {' | '.join(words)}" if words else "It printed nothing.",
            "A model that cannot be loaded and asked cannot be served. Try mlflow.pyfunc.load_model(...).predict(...) "
            "on this data, in an environment made of its requirements.txt.",
        )


@contextmanager
def open_scorer(model: ModelFiles, options: Options) -> Iterator[Scorer]:
    """The model, loaded in a process that is shut in; that and all its children are gone at the end of the block.

    Use it in the thread that opened it.

    Raises:
        ModelFailed: the model cannot be loaded, or did what no model does.
        BadInput: its requirements are refused, there is no such Python, or no sandbox where one is demanded.
        OutsideWorldFailed: its environment could not be installed, or its process not be started.
        Cancelled: SIGINT or SIGTERM arrived.
    """
    how = isolation.find(options.isolation)
    interpreter = model_environment.interpreter_for(
        model, options.environment, allow_source_builds=options.allow_source_builds
    )
    github.log(f"{model.label} is scored in isolation: {how.name}")
    if how.name != "process":
        _make_readable(model.folder)

    def arguments(seen: Callable[[str], str]) -> list[str]:
        settings = {
            "model": seen("model"),
            "prefix": str(interpreter.prefix),
            "sites": list(map(str, interpreter.sites)),
            "parent": os.getpid() if how.name == "process" else 0,
            "limits": _limits(options.memory_mb),
        }
        return [seen("scorer.py"), json.dumps(settings)]

    files = {"model": model.folder, "scorer.py": _SCORER}
    limits = Limits(options.timeout, options.memory_mb)
    with JobFiles(model), child_process.started(how, interpreter, files, arguments, limits) as child:
        scorer = Scorer(model, child, how.name)
        scorer.load()
        yield scorer


def _limits(memory_mb: int) -> dict[str, int]:
    """What scorer.py sets for itself, by the names of the module `resource`; the watch over all processes is ours."""
    limits = {
        **process_family.MARK,
        "RLIMIT_CORE": 0,
        "RLIMIT_FSIZE": child_process.FILE_BYTES,
        # Memory that is reserved; what is held is watched. Twice as much, as libraries reserve more than they use.
        "RLIMIT_DATA": 2 * memory_mb * 1024 * 1024,
    }
    with contextlib.suppress(OSError):  # there is no /proc on macOS
        # The system counts the threads of a user, whatever they run: those that are there now are not the model's.
        threads = int(Path("/proc/loadavg").read_text(encoding="ascii").split()[3].partition("/")[2])
        limits["RLIMIT_NPROC"] = threads + 4 * child_process.PROCESSES
    return limits


def _make_readable(folder: Path) -> None:
    """Lets another user read a model that was downloaded for this one alone: a sandbox has another."""
    for path, _, names in os.walk(folder):
        for each in (Path(path), *(Path(path, name) for name in names)):
            status = each.lstat()
            wanted = status.st_mode | (0o555 if each.is_dir() else 0o444)
            if not each.is_symlink() and status.st_mode != wanted:
                with contextlib.suppress(PermissionError):  # somebody else's, who let us read it
                    each.chmod(wanted)


def _request(columns: Mapping[str, NDArray[Any] | Sequence[str | None]], rows: int) -> list[memoryview | bytes]:
    """A request as scorer.py reads it; arrays that need no cast are not copied."""
    described: list[dict[str, str]] = []
    parts: list[memoryview | bytes] = []
    for name, values in columns.items():
        if len(values) != rows:
            raise ValueError(f"column {name!r} has {len(values)} values, and there are {rows} rows")
        kind, buffers = (
            _numeric(name, values) if isinstance(values, np.ndarray) and values.dtype.kind in "biuf" else _text(values)
        )
        described.append({"name": name, "kind": kind})
        parts += buffers
    header = json.dumps({"rows": rows, "columns": described}).encode()
    length = 4 + len(header) + sum(memoryview(part).nbytes for part in parts)
    return [struct.pack("<4sQI", b"SCOR", length, len(header)), header, *parts]


def _numeric(name: str, values: NDArray[Any]) -> tuple[str, list[memoryview | bytes]]:
    kind = values.dtype.kind
    if kind == "f":
        dtype = "float32" if values.dtype.itemsize <= 4 else "float64"
    elif kind == "b":
        dtype = "bool"
    else:
        dtype = "int32" if values.dtype.itemsize <= 4 and values.dtype != np.uint32 else "int64"
        if values.dtype == np.uint64 and len(values) and values.max() > _INT64.max:
            raise BadInput(
                f"Column '{one_line(name, 100)}' has integers above {_INT64.max}.",
                "No type of a model's signature holds them.",
                "Store it as a floating-point number.",
            )
    array = np.ascontiguousarray(values, np.dtype(dtype).newbyteorder("<"))
    return dtype, [array.data.cast("B") if len(array) else b""]


def _text(values: Any) -> tuple[str, list[memoryview | bytes]]:
    raw = [b"" if value is None else str(value).encode("utf-8", "replace") for value in values]
    offsets = np.zeros(len(raw) + 1, "<i8")
    np.cumsum([len(each) for each in raw], out=offsets[1:])
    missing = bytes(value is None for value in values)
    return "text", [offsets.data.cast("B"), missing, b"".join(raw)]
