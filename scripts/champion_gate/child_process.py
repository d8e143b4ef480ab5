"""One program of strangers, from its start to its end and that of all its children: pipes, limits, last words.

It is believed nothing. What it writes to its answer pipe is read up to the length that was asked for; what else it says
is kept in part, never shown as it is; and whatever happens, none of its processes is left.
"""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from champion_gate import github, process_family, signals
from champion_gate.interpreter import Interpreter
from champion_gate.isolation import Isolation, Program
from champion_gate.process_family import Family
from champion_gate.text import one_line

PROCESSES = 256
"""How many processes a program may be. Threads count for the system's own, higher limit."""
OUTPUT_BYTES = 1024 * 1024 * 1024
"""How much it may print before that alone is reason to end it."""
FILE_BYTES = 1024 * 1024 * 1024
_HEAD_BYTES, _TAIL_BYTES = 4 * 1024, 64 * 1024
_LINES, _SHOWN = 15, 2000
"""How many lines of it an error shows, and characters."""
# Of a traceback, what helps nobody: the underlining, and how an import comes about.
_PADDING = re.compile(r'[ ^~]*$|  File "<frozen importlib')
_LOOK_SECONDS = 0.2
_LAST_WORDS_SECONDS = 1.0


class Ended(Exception):
    """The program is no more, or was ended; says in a few words why."""


@dataclass(frozen=True)
class Limits:
    """What a program may use: seconds in which it is waited for, in all; memory of all its processes together."""

    seconds: float
    memory_mb: int


class Child:
    """A running program. Use it in the thread that started it."""

    def __init__(
        self, process: subprocess.Popen[bytes], isolation: Isolation, program: Program, limits: Limits, family: Family
    ) -> None:
        assert process.stdin is not None  # noqa: S101  (they were asked for)
        assert process.stdout is not None  # noqa: S101
        assert process.stderr is not None  # noqa: S101
        self._process = process
        self._limits = limits
        self._family = family
        self._to, self._from = process.stdin, process.stdout
        for pipe in (self._to, self._from):
            os.set_blocking(pipe.fileno(), False)
        self._seconds_left = limits.seconds
        self._unsent: list[memoryview] = []
        self._warden = _Warden(process.stderr, isolation, program, limits, family)

    def send(self, parts: Sequence[memoryview | bytes]) -> None:
        """Start writing a request; it goes out while the answer is awaited."""
        self._unsent = [memoryview(part).cast("B") for part in parts if len(part)]

    def receive(self, into: memoryview) -> None:
        """Read exactly as many bytes of an answer as `into` has.

        Raises:
            Ended: there are no more, or a limit was reached; nothing of the program is left then.
        """
        started = time.monotonic()
        try:
            self._exchange(into, started + self._seconds_left)
        except Ended:
            self._warden.end()
            raise
        finally:
            self._seconds_left -= time.monotonic() - started

    def quiet(self) -> bool:
        """Whether it has written nothing that was not asked for."""
        try:
            return not os.read(self._from.fileno(), 1)
        except BlockingIOError:
            return True

    def last_words(self) -> list[str]:
        """The last lines of what it printed, each safe to show."""
        return self._warden.last_words()

    def end(self) -> bool:
        """End it, with all its children; whether none is left."""
        ended = self._warden.end()
        for pipe in (self._to, self._from):
            pipe.close()
        if ended:
            self._process.wait()
            self._family.forget()
        return ended

    def _exchange(self, into: memoryview, deadline: float) -> None:
        unsent = self._unsent
        with selectors.DefaultSelector() as selector:
            selector.register(self._from, selectors.EVENT_READ)
            if unsent:
                selector.register(self._to, selectors.EVENT_WRITE)
            while into:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise Ended(f"it was over its time limit of {self._limits.seconds:g} s (scoring-timeout)")
                for key, _ in selector.select(min(left, _LOOK_SECONDS)):
                    if key.fileobj is self._to:
                        if not self._write(unsent):
                            selector.unregister(self._to)
                    else:
                        into = into[self._read(into) :]
                if reason := self._warden.reason:
                    raise Ended(reason)
                if self._process.poll() is not None and into:
                    into = into[self._read_rest(into) :]
                    if into:
                        raise Ended(self._why(self._process.returncode))

    def _write(self, unsent: list[memoryview]) -> bool:
        """Write what the pipe takes; whether there is more, and somebody to read it."""
        try:
            written = os.writev(self._to.fileno(), unsent[:64])
        except BlockingIOError:
            return True
        except BrokenPipeError:
            unsent.clear()  # its answer, or its end, will say why
            return False
        while unsent and written >= len(unsent[0]):
            written -= len(unsent.pop(0))
        if unsent:
            unsent[0] = unsent[0][written:]
        return bool(unsent)

    def _read(self, into: memoryview) -> int:
        try:
            count = os.readv(self._from.fileno(), [into])
        except BlockingIOError:
            return 0
        if count == 0:
            # Its end follows, or it closed its own mouth.
            with contextlib.suppress(subprocess.TimeoutExpired):
                raise Ended(self._why(self._process.wait(_LAST_WORDS_SECONDS)))
            raise Ended("it closed the pipe for its answers")
        return count

    def _why(self, code: int) -> str:
        return self._warden.reason or _how(code, self._limits)

    def _read_rest(self, into: memoryview) -> int:
        """What was in the pipe when it ended; a child of it may hold the pipe open for ever."""
        total = 0
        with contextlib.suppress(Ended):
            while into[total:] and (count := self._read(into[total:])):
                total += count
        return total


class _Warden:
    """Watches a program from a thread: reads what it prints, and ends it at a limit."""

    def __init__(
        self, output: IO[bytes], isolation: Isolation, program: Program, limits: Limits, family: Family
    ) -> None:
        self.reason = ""
        """Why it ended the program, if it did."""
        self._output = output
        self._isolation = isolation
        self._program = program
        self._limits = limits
        self._family = family
        self._head, self._tail, self._printed = b"", b"", 0
        self._enough = threading.Event()
        os.set_blocking(output.fileno(), False)
        self._thread = threading.Thread(target=self._watch, name="warden", daemon=True)
        self._thread.start()

    def end(self) -> bool:
        """End the program and all its processes; whether none is left. Its last words are kept."""
        gone = self._kill()
        self._enough.set()
        self._thread.join()
        return gone

    def _kill(self) -> bool:
        self._isolation.clear(self._program)
        return self._family.end(self._isolation.kill)

    def last_words(self) -> list[str]:
        whole = self._printed <= len(self._tail)
        text = self._tail if whole else self._head + b"\n... [left out]\n" + self._tail
        said = [line.rstrip() for line in text.decode("utf-8", "replace").splitlines() if not _PADDING.match(line)]
        words: list[str] = []
        while said and len(words) < _LINES and sum(map(len, words)) < _SHOWN:
            words.insert(0, one_line(said.pop(), 300))
        return words

    def _watch(self) -> None:
        try:
            self._watch_until_enough()
        except Exception as error:  # noqa: BLE001  (a defect; what is not watched must not run)
            self.reason = f"its limits could not be watched ({type(error).__name__}: {one_line(str(error), 200)})"
            self._kill()

    def _watch_until_enough(self) -> None:
        listening, look = True, 0.0
        with self._output, selectors.DefaultSelector() as selector:
            selector.register(self._output, selectors.EVENT_READ)
            while not self._enough.is_set():
                if not listening:
                    self._enough.wait(_LOOK_SECONDS)
                elif selector.select(_LOOK_SECONDS):
                    listening = self._listen()
                if not self.reason and time.monotonic() > look:
                    self._look()
                    look = time.monotonic() + _LOOK_SECONDS
            until = time.monotonic() + _LAST_WORDS_SECONDS
            while listening and (left := until - time.monotonic()) > 0 and selector.select(left):
                listening = self._listen()

    def _listen(self) -> bool:
        """Read what was printed; whether more may come."""
        try:
            chunk = os.read(self._output.fileno(), 65536)
        except BlockingIOError:
            return True
        self._printed += len(chunk)
        if len(self._head) < _HEAD_BYTES:
            self._head = (self._head + chunk)[:_HEAD_BYTES]
        self._tail = (self._tail + chunk)[-_TAIL_BYTES:]
        return bool(chunk)

    def _look(self) -> None:
        """End the program if it is over a limit. Where its processes are an engine's, that one sees to most of them."""
        if self._printed > OUTPUT_BYTES:
            self.reason = f"it printed more than {OUTPUT_BYTES // 1024**2} MiB"
        elif self._isolation.pids_are_ours:
            members = self._family.members()
            if len(members) > PROCESSES:
                self.reason = f"it had more than {PROCESSES} processes"
            elif self._too_much(members):
                self.reason = f"it was over its memory limit of {self._limits.memory_mb} MB (scoring-memory)"
        if self.reason:
            self._kill()

    def _too_much(self, members: set[int]) -> bool:
        limit = self._limits.memory_mb * 1024**2
        # The first figure is an upper bound, and costs next to nothing.
        return process_family.resident(members) > limit and self._isolation.memory(members) > limit


@contextmanager
def started(
    isolation: Isolation,
    interpreter: Interpreter,
    files: Mapping[str, Path],
    arguments: Callable[[Callable[[str], str]], Sequence[str]],
    limits: Limits,
) -> Iterator[Child]:
    """Start a program, shut in; whatever happens in the block, it is over at the end of it.

    `arguments` makes the program's arguments; it is told how to learn where the program finds a file.

    Raises:
        Cancelled: SIGINT or SIGTERM arrived; nothing of the program is left then.
    """
    scratch = Path(tempfile.mkdtemp(prefix="champion-gate-"))
    try:
        environment = _environment(interpreter, isolation.own_folders(scratch))
        command = arguments(lambda name: isolation.seen(name, files[name]))
        program = Program(interpreter, files, command, environment, limits.memory_mb, scratch)
        shut_in = isolation.command(program)
        process_family.hide_this_process()
        with process_family.adopting_orphans():
            before = process_family.children()
            child: Child | None = None
            try:
                with signals.deferred():
                    process = subprocess.Popen(
                        shut_in,
                        env=isolation.environment(program),
                        cwd="/",
                        stdin=subprocess.PIPE,
                        stdout=subprocess.PIPE,
                        stderr=subprocess.PIPE,
                        bufsize=0,
                        start_new_session=True,
                    )
                    child = Child(process, isolation, program, limits, Family(process.pid, before))
                yield child
            finally:
                with signals.deferred():  # a signal now must not leave it half done
                    if child is not None and not child.end():
                        github.log(f"warning: some processes of {program.command[0]} could not be ended.")
    finally:
        with signals.deferred():
            _remove(scratch)


def _environment(interpreter: Interpreter, folders: Mapping[str, str]) -> dict[str, str]:
    """All that a program is told of this machine."""
    threads = str(min(8, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1))
    environment = {
        **folders,
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LANG": "C.UTF-8",
        "USER": "nobody",
        "LOGNAME": "nobody",
        # For programs that it starts; it finds its own packages by its arguments.
        "PYTHONPATH": os.pathsep.join(map(str, interpreter.sites)),
        "PYTHONNOUSERSITE": "1",
        # Libraries reserve memory for every thread: on a large machine more than the limit.
        **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMEXPR_MAX_THREADS"), threads),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "true",  # that is what all this is for
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if interpreter.libraries is not None:
        environment["LD_LIBRARY_PATH"] = str(interpreter.libraries)
    return environment


def _how(code: int, limits: Limits) -> str:
    if code in (-9, 137):
        return f"it was killed, as the system does it above the memory limit ({limits.memory_mb} MB, scoring-memory)"
    if code < 0 or code > 128:  # the latter is how a shell says it
        return f"it died of signal {-code if code < 0 else code - 128}"
    return f"it ended by itself, with exit code {code}"


def _remove(folder: Path) -> None:
    """Removes what a program left, whatever rights it gave that."""
    for path, folders, _ in os.walk(folder):
        for inner in (Path(path, name) for name in folders):
            if not inner.is_symlink():  # nobody is left who could make it one now
                with contextlib.suppress(OSError):
                    inner.chmod(0o700)
    shutil.rmtree(folder, ignore_errors=True)
