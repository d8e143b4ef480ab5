"""A process with all its descendants: who they are, how much memory they hold, and their end.

A descendant that left its parent (a daemon) is found, too: on Linux this process adopts it, as a subreaper, and knows
it by a mark that it inherited and cannot take off: it may not use message queues, which no program misses.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_PR_SET_DUMPABLE, _PR_SET_CHILD_SUBREAPER = 4, 36
# A limit of 0 cannot be lowered, and only who may break all limits can raise it.
MARK = {"RLIMIT_MSGQUEUE": 0}
_LIMIT_NAME = "Max msgqueue size"
_ASKING_SECONDS = 0.2
_LINUX = sys.platform.startswith("linux")


@dataclass(frozen=True)
class _Process:
    parent: int
    started: str
    """With the id it names a process; the id alone may be given again."""
    state: str


def hide_this_process() -> None:
    """From now on, no process of the same user may read this one's environment or memory (Linux; ptrace(2))."""
    if _LINUX:
        ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)


@contextmanager
def adopting_orphans() -> Iterator[None]:
    """For the time of a block, descendants whose parents end become children of this process (Linux; prctl(2))."""
    _adopt(1)
    try:
        yield
    finally:
        _adopt(-1)


def _adopt(more: int) -> None:
    with _adopting_lock:
        _adopting[0] += more
        if _LINUX:
            ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(_adopting[0] > 0), 0, 0, 0)


_adopting = [0]
"""How many blocks want it."""
_adopting_lock = threading.Lock()


class Family:
    """The descendants of a child of this process, and the child itself. Safe to use from several threads."""

    def __init__(self, leader: int, before: Iterable[int]) -> None:
        """`leader` is the child, `before` are the children that this process had already when it started it."""
        self._lock = threading.RLock()
        self._not_theirs = set(before)
        self._known: dict[int, str] = {}
        self._leader = leader
        _leaders.add(leader)

    def members(self) -> set[int]:
        """The ids of those who live now."""
        with self._lock:
            table = _table()
            self._known = {
                pid: started for pid, started in self._known.items() if pid in table and table[pid].started == started
            }
            if self._leader in table and self._leader not in self._known:
                self._known[self._leader] = table[self._leader].started
            found = True
            while found:
                found = False
                for pid, process in table.items():
                    if pid not in self._known and (process.parent in self._known or self._is_orphan(pid, process)):
                        self._known[pid] = process.started
                        found = True
            return {pid for pid in self._known if table[pid].state != "Z"}

    def end(self, kill: Callable[[list[int]], None], seconds: float = 5.0) -> bool:
        """Kill them until none is left; whether that was reached in time."""
        deadline = time.monotonic() + seconds
        while members := self.members():
            if time.monotonic() > deadline:
                return False
            kill(sorted(members))
            self.reap()
            time.sleep(0.01)
        self.reap()
        return True

    def reap(self) -> None:
        """Take note of the ends of adopted children, so that no zombies stay. The leader is left to who started it."""
        with self._lock:
            for pid in set(self._known) - {self._leader}:
                with contextlib.suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)

    def forget(self) -> None:
        """The leader's end was seen; its id may be given to somebody else."""
        _leaders.discard(self._leader)

    def _is_orphan(self, pid: int, process: _Process) -> bool:
        mine = process.parent == os.getpid() and pid not in self._not_theirs and pid not in _leaders
        return mine and _marked(pid)


_leaders: set[int] = set()
"""Children that a family of their own speaks for."""


def children() -> set[int]:
    """The ids of this process's children."""
    own = os.getpid()
    return {pid for pid, process in _table().items() if process.parent == own}


def resident(pids: Iterable[int]) -> int:
    """Bytes that processes hold; pages that a fork shares count for each. Files that they map do not count."""
    if not _LINUX:
        listed = subprocess.run(["ps", "-axo", "pid=,rss="], capture_output=True, text=True, check=False)
        sizes = {int(pid): int(size) for pid, size in (line.split() for line in listed.stdout.splitlines())}
        return sum(sizes.get(pid, 0) for pid in pids) * 1024
    fields = re.compile(r"^(?:RssAnon|RssShmem):\s*(\d+)", re.MULTILINE)
    return sum(int(size) for pid in pids for size in fields.findall(_read(f"/proc/{pid}/status"))) * 1024


def held(pids: Iterable[int]) -> int:
    """As `resident`, but a page that several share is divided by their number, where the system tells.

    That takes the system some time. Of a horde, some are asked, and the others are taken to be like them.
    """
    asked, total, bound = [], 0, time.monotonic() + _ASKING_SECONDS
    pids = list(pids)
    for pid in pids:
        total += shares(_read(f"/proc/{pid}/smaps_rollup")) or resident([pid])
        asked.append(pid)
        if time.monotonic() > bound:
            break
    return total * resident(pids) // max(1, resident(asked)) if len(asked) < len(pids) else total


def shares(text: str) -> int:
    """The bytes of memory in the text of one or more files /proc/PID/smaps_rollup."""
    return sum(map(int, re.findall(r"^(?:Pss_Anon|Pss_Shmem):\s*(\d+)", text, re.MULTILINE))) * 1024


def kill(pids: list[int]) -> None:
    """SIGKILL to each; they are stopped first, so that none can fork while the others are killed."""
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)


def _marked(pid: int) -> bool:
    """Whether a process has the hard limit that scorer.py gives itself, and this one has not."""
    return _is_marked(pid) and not _is_marked(os.getpid())


def _is_marked(pid: int) -> bool:
    return re.search(rf"^{_LIMIT_NAME}\s+0\s+0\b", _read(f"/proc/{pid}/limits"), re.MULTILINE) is not None


def _read(file: str) -> str:
    """A file of /proc; empty if it is not there (any more), or not ours to read."""
    try:
        return Path(file).read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _table() -> dict[int, _Process]:
    """All processes that can be seen."""
    if not _LINUX:
        listed = subprocess.run(
            ["ps", "-axo", "pid=,ppid=,lstart=,state="], capture_output=True, text=True, check=False
        )
        rows = [line.split() for line in listed.stdout.splitlines()]
        return {int(row[0]): _Process(int(row[1]), " ".join(row[2:-1]), row[-1][:1]) for row in rows if len(row) > 3}
    table = {}
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            gone = contextlib.suppress(OSError, IndexError)
            with gone, open(f"{entry.path}/stat", "rb") as file:  # noqa: PTH123  (a hot path)
                # The name, in brackets, may hold anything.
                fields = file.read().rpartition(b")")[2].split()
                table[int(entry.name)] = _Process(int(fields[1]), fields[19].decode(), fields[0].decode())
    return table
