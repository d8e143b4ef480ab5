"""What can go wrong, by whose fault it is: each error carries the exit code of its kind.

An error says what happened, why, and what to do next, in that order.
"""

from __future__ import annotations

EXIT_REFUSED = 1
EXIT_BAD_INPUT = 2
EXIT_OUTSIDE_WORLD = 3
EXIT_INCONCLUSIVE = 4
EXIT_TRAINING_FAILED = 5


class GateError(Exception):
    """An expected failure, shown to people without a traceback.

    `what` happened, `why`, and what to `do` next; the last two may be empty.
    """

    exit_code = EXIT_OUTSIDE_WORLD

    def __init__(self, what: str, why: str = "", do: str = "") -> None:
        super().__init__(" ".join(part for part in (what, why, do) if part))
        self.what = what
        self.why = why
        self.do = do


class Refused(GateError):
    """The question was understood, and the answer is no. Nothing moved."""

    exit_code = EXIT_REFUSED


class BadInput(GateError):
    """The input is wrong, or names something that is not there. Nothing was done."""

    exit_code = EXIT_BAD_INPUT


class OutsideWorldFailed(GateError):
    """The registry (or another service) did not do its part. Nothing was decided."""

    exit_code = EXIT_OUTSIDE_WORLD


class UnclearAnswer(OutsideWorldFailed):
    """A request was sent and no usable answer came back: it may or may not have taken effect."""


class TimedOut(UnclearAnswer):
    """A request was sent and no answer came in time: it may take effect later."""


class LeaseLost(OutsideWorldFailed):
    """The lease is not ours any more, or will not be by the time that a write is done."""


class TrainingFailed(GateError):
    """The training command failed, or ran out of time."""

    exit_code = EXIT_TRAINING_FAILED


class Cancelled(BaseException):
    """SIGINT or SIGTERM arrived. Not an Exception, so that no `except Exception` swallows it."""

    def __init__(self, signal_number: int) -> None:
        super().__init__(f"cancelled by signal {signal_number}")
        self.signal_number = signal_number

    @property
    def exit_code(self) -> int:
        """What a shell says of a process that this signal ended."""
        return 128 + self.signal_number
