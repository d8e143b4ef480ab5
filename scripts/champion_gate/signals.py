"""SIGINT and SIGTERM as one exception, `Cancelled`, raised once and where it can be cleaned up after."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from champion_gate.errors import Cancelled

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _State:
    ours = False
    deferring = False
    taken = 0


def take() -> None:
    """From now on, the first SIGINT or SIGTERM raises Cancelled in the main thread."""
    _State.ours = True
    for number in _SIGNALS:
        signal.signal(number, _cancel)


def retake() -> None:
    """Take the signals again, if they are ours, after a library was imported that put a handler before them.

    polars does, and so does MLflow, which imports it where it is installed. Theirs calls ours, and then lets a system
    call that waits go on waiting: for a training command, for hours.
    """
    if _State.ours and not _State.taken:
        take()


@contextmanager
def deferred() -> Iterator[None]:
    """Raise Cancelled only after this block: for steps that must not end half-way, such as starting a process."""
    before = _State.taken  # who cleans up after a signal is not told of it again
    _State.deferring = True
    try:
        yield
    finally:
        _State.deferring = False
    if _State.taken and not before:
        raise Cancelled(_State.taken)


def taken() -> int:
    """The signal that arrived; 0 if none did."""
    return _State.taken


def _cancel(number: int, _: Any) -> None:
    # What follows is clean-up, and a second signal must not cut it short.
    for each in _SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    _State.taken = number
    if not _State.deferring:
        raise Cancelled(number)
