"""The action.yml files as the tests and the README tables read them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = (
    *(".", "actions/train-and-register", "actions/validate-model", "actions/promote-alias", "actions/rollback"),
    "actions/history",
)


@dataclass(frozen=True)
class ActionFile:
    """One action.yml. `folder` is relative to the repository; `command` is what it gives to scripts/run."""

    folder: str
    text: str
    document: dict[str, Any]

    @property
    def inputs(self) -> dict[str, dict[str, Any]]:
        """The inputs, by name."""
        return dict(self.document.get("inputs", {}))

    @property
    def outputs(self) -> dict[str, dict[str, Any]]:
        """The outputs, by name."""
        return dict(self.document.get("outputs", {}))

    @property
    def steps(self) -> list[dict[str, Any]]:
        """The composite's steps."""
        return list(self.document["runs"]["steps"])

    @property
    def command(self) -> str:
        """The command of scripts/run: the last word of the only step's `run`."""
        return str(self.steps[0]["run"]).split()[-1]

    @property
    def script(self) -> str:
        """The Python module under scripts/ that the command runs."""
        return self.command.replace("-", "_")


@cache
def read(folder: str) -> ActionFile:
    """The action in `folder`."""
    text = (ROOT / folder / "action.yml").read_text(encoding="utf-8")
    return ActionFile(folder, text, yaml.safe_load(text))


def said_default(description: str) -> str | None:
    """The default that a description names; None if it says instead that the input is required or what empty means."""
    match = re.search(r"Default: `([^`]*)`\.$", description)
    return match[1] if match else None
