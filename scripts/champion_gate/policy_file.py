"""A policy's file, read with bounds."""

from __future__ import annotations

from pathlib import Path

from champion_gate.errors import BadInput

_BYTES = 1_000_000


def text(file: Path) -> str:
    """The text of a policy file.

    Raises:
        BadInput: it cannot be read.
    """
    try:
        with file.open("rb") as opened:
            return opened.read(_BYTES + 1).decode("utf-8")
    except (OSError, ValueError) as error:
        raise BadInput(
            f"The policy {file} cannot be read: {error}.",
            "Without it nobody knows what the challenger must show.",
            "Check the input 'policy'; the path is seen from the working directory. Is the repository checked out?",
        ) from error
