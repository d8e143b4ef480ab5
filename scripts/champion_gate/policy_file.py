"""A policy's file, read with bounds."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from champion_gate.errors import BadInput

_BYTES = 1_000_000


def text(file: Path) -> str:
    """The text of a policy file.

    Raises:
        BadInput: it cannot be read.
    """
    try:
        with os.fdopen(os.open(file, os.O_RDONLY | os.O_NONBLOCK), "rb") as opened:  # a pipe must not make us wait
            if not stat.S_ISREG(os.fstat(opened.fileno()).st_mode):
                raise _unreadable(file, "it is no file")
            return opened.read(_BYTES + 1).decode("utf-8")
    except (OSError, ValueError) as error:
        raise _unreadable(file, str(error)) from error


def _unreadable(file: Path, why: str) -> BadInput:
    return BadInput(
        f"The policy {file} cannot be read: {why}.",
        "Without it nobody knows what the challenger must show.",
        "Check the input 'policy'; the path is seen from the working directory. Is the repository checked out?",
    )
