"""A time limit on a call that knows none of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


class NoAnswer(Exception):
    """The time limit of a call passed."""


def bounded(call: Callable[[], T], seconds: float) -> T:
    """`call()` with a time limit on all of it: name look-up, connecting, and answers that drip.

    In a daemon thread, since no socket option limits a whole request and a signal does not end a name look-up.

    Raises:
        NoAnswer: the limit passed; the call may still take effect.
    """
    results: queue.SimpleQueue[tuple[bool, Any]] = queue.SimpleQueue()

    def work() -> None:
        try:
            results.put((True, call()))
        except BaseException as error:  # noqa: BLE001  (handed over to the caller, who raises it)
            results.put((False, error))

    threading.Thread(target=work, daemon=True).start()
    try:
        ok, value = results.get(timeout=max(seconds, 0.01))
    except queue.Empty:
        raise NoAnswer from None
    if not ok:
        raise value
    result: T = value
    return result
