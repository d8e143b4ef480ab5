"""The MLflow versions that a release is tried with, and an environment of each: server and client together."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

import launch  # noqa: E402 - found by the line above
from launcher.environments import make_environment  # noqa: E402

# By lock, the newest Python that it runs on, if that is not the newest of all.
NEWEST_PYTHON = {"mlflow-2.9": (3, 11)}


def cache_home() -> Path:
    """The folder that has what launcher and uv keep, for who runs the tests or for this job."""
    return Path(launch.cache_root()).parent


@dataclass(frozen=True)
class Mlflow:
    """An MLflow in an environment of its own; without a lock, the one that the tests have themselves."""

    version: str
    lock: Path | None = None

    @property
    def problem(self) -> str:
        """Why it cannot be had under this Python; empty if it can."""
        newest = NEWEST_PYTHON.get(self.lock.stem, sys.version_info[:2]) if self.lock else sys.version_info[:2]
        if sys.version_info[:2] <= newest:
            return ""
        return f"MLflow {self.version} needs Python {'.'.join(map(str, newest))} or older, put first on PATH"

    def python(self) -> str:
        """The interpreter of its environment, which is made if it is missing."""
        if self.lock is None:
            return sys.executable
        root, name = launch.cache_root(), launch.environment_name(self.lock.stem, self.lock.read_bytes())
        make_environment(root, name, str(self.lock))
        return str(Path(root, name, "bin", "python"))


def known() -> list[Mlflow]:
    """All of them, oldest first."""
    locks = Path(__file__).parent.glob("mlflow-*.txt")
    old = [Mlflow(_pinned(lock), lock) for lock in locks]
    return [*sorted(old, key=lambda each: tuple(map(int, each.version.split(".")))), Mlflow(version("mlflow"))]


def _pinned(lock: Path) -> str:
    found = re.search(r"^mlflow==(\S+)", lock.read_text(encoding="utf-8"), re.MULTILINE)
    assert found, lock
    return found[1]
