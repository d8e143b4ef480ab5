"""Progress on a terminal."""

from __future__ import annotations

import sys


def progress(text: str) -> None:
    """One line on the terminal that the next one replaces."""
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
