"""Names for tests that share one server: well formed, and never used twice."""

from __future__ import annotations

import random
import string

_random = random.SystemRandom()


def letters(count: int = 10) -> str:
    """Random letters. No digits: a word like `v2` is a version, which the conventions refuse."""
    return "".join(_random.choices(string.ascii_lowercase, k=count))


def unique_model_name(team: str = "search") -> str:
    """A product's name as the conventions want it."""
    return f"{team}-{letters()}"
