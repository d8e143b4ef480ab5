"""Runs the training command: its own process group, output streamed, ended with its children."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from champion_gate import process_family, signals
from champion_gate.errors import BadInput
from champion_gate.text import one_line

# GitHub sends SIGINT, 7.5 s later SIGTERM, 2.5 s later SIGKILL; the run's end must be written in that time too.
GRACE_SECONDS = 3.0
_TAIL_BYTES = 64 * 1024


@dataclass(frozen=True)
class Command:
    """What to run, where, with which environment; `output` is the file descriptor for its stdout, None for ours."""

    argv: Sequence[str]
    directory: Path
    environment: Mapping[str, str]
    output: int | None = None


@dataclass(frozen=True)
class Ended:
    """How the command ended: its exit code (negative: minus the signal), or the time limit."""

    exit_code: int
    timed_out: bool
    error_tail: str
    """The last 64 KiB of what it wrote to stderr."""


def argv_of(command: str, words: Sequence[str], directory: Path) -> list[str]:
    """The command as an argument list: `words` as they are, or `command` for bash, as GitHub runs a step.

    Raises:
        BadInput: none is given, or both, or there is no such program or directory.
    """
    if bool(command) == bool(words):
        raise BadInput(
            "Two training commands are given." if command else "There is no training command.",
            "It comes after '--', or as the input 'command'.",
            "For example: -- python train.py",
        )
    try:
        there = directory.is_dir()
    except OSError:  # too long for a path, for one
        there = False
    if not there:
        raise BadInput(
            f"working-directory '{one_line(str(directory), 200)}' is not a directory.",
            "The training command is started in it.",
            "Check the path; it is relative to where this step runs.",
        )
    if command:
        return ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", command]
    # A path is relative to the working directory, as exec takes it.
    found = shutil.which(words[0] if os.sep not in words[0] else os.path.join(directory.absolute(), words[0]))  # noqa: PTH118  (keeps ./)
    if found is None:
        raise BadInput(
            f"There is no program '{one_line(words[0], 200)}' to train with.",
            "It is neither on PATH nor an executable file in the working directory.",
            "Check the command after '--'; a shell line goes into 'command'.",
        )
    return list(words)


def run(command: Command, timeout: float | None) -> Ended:
    """Run the command to its end, its time limit (seconds), or until this process is cancelled.

    Its output goes to ours as it comes. Whatever ends it early ends its whole process group: SIGINT first,
    then SIGKILL after `GRACE_SECONDS`.

    Raises:
        Cancelled: SIGINT or SIGTERM arrived meanwhile; nothing of the command is left then.
    """
    process = None
    process_family.hide_this_process()  # our own environment may hold what the command's does not
    try:
        with signals.deferred():
            process = subprocess.Popen(
                command.argv,
                cwd=command.directory,
                env=dict(command.environment),
                stdin=subprocess.DEVNULL,
                stdout=command.output,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        tail = _Tail(process)
        exit_code = process.wait(timeout)
    except OSError as error:
        raise BadInput(
            f"The training command could not be started: {one_line(str(error), 300)}.",
            "The system does not take the file for a program.",
            "Check its first line (#!) and that it is made for this machine, or call it by its interpreter.",
        ) from error
    except subprocess.TimeoutExpired:
        return Ended(_end(process), timed_out=True, error_tail=tail.text())
    except BaseException:
        _end(process)
        raise
    return Ended(exit_code, timed_out=False, error_tail=tail.text())


class _Tail:
    """Passes the command's stderr on to ours, and keeps the end of it."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None  # noqa: S101  (it was asked for)
        self._pipe = process.stderr
        self._kept = b""
        self._thread = threading.Thread(target=self._pump, daemon=True)
        self._thread.start()

    def _pump(self) -> None:
        while chunk := os.read(self._pipe.fileno(), 65536):
            self._kept = (self._kept + chunk)[-_TAIL_BYTES:]
            sys.stderr.buffer.write(chunk)
            sys.stderr.buffer.flush()

    def text(self) -> str:
        # A background process of the command may hold the pipe open for ever.
        self._thread.join(timeout=1.0)
        return self._kept.decode("utf-8", "replace")


def _end(process: subprocess.Popen[bytes] | None) -> int:
    """End the command's process group; returns the exit code of its leader."""
    if process is None:
        return 0  # it was never started
    for number in (signal.SIGINT, signal.SIGKILL):
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:
            break  # nobody of the group is left
        deadline = time.monotonic() + GRACE_SECONDS
        while number == signal.SIGINT and time.monotonic() < deadline and _alive(process):
            time.sleep(0.05)
    return process.wait()


def _alive(process: subprocess.Popen[bytes]) -> bool:
    process.poll()  # reap the leader, so that only its children keep the group
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True
