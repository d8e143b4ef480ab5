"""A Python that a model can run in: which program it is, and which folders it needs to see."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What of a prefix holds a Python and its packages. The rest of such a folder, maybe a home, is nobody's business.
_PARTS = ("bin", "lib", "lib32", "lib64")
_OF_THE_SYSTEM = ("/usr", "/bin", "/lib", "/lib32", "/lib64")
_BASE = """
import json, os, sys
real, base = os.path.realpath(sys.executable), os.path.realpath(sys.base_prefix)
version = "%d.%d" % sys.version_info[:2]
usual = os.path.join(base, "bin", "python" + version)
if not real.startswith(base + os.sep) and os.path.exists(usual):
    real = os.path.realpath(usual)  # a virtual environment with a copy of it
bases = sorted({base, os.path.realpath(sys.base_exec_prefix)})
print(json.dumps({"program": real, "version": version, "bases": bases}))
"""
_PACKAGES = """
import json, os, site, sys
sites = sorted({os.path.realpath(each) for each in site.getsitepackages() if os.path.isdir(each)})
print(json.dumps({"prefix": os.path.realpath(sys.prefix), "sites": sites}))
"""


@dataclass(frozen=True)
class Interpreter:
    """A base interpreter and the packages that it is to import. Paths have no links in them.

    A virtual environment is its base interpreter with other packages; started so, no link has to be followed where only
    a few folders are there to see.
    """

    program: Path
    version: str
    """As "3.11"."""
    prefix: Path
    sites: tuple[Path, ...]
    """The folders of its packages; empty where only the standard library is wanted."""
    folders: tuple[Path, ...]
    """All that it reads, but for the system's own folders."""
    libraries: Path | None
    """Where its own shared library is, if the system's linker does not know."""


def base_of(python: str | Path, environment: Mapping[str, str]) -> Interpreter:
    """The base interpreter of `python` without any packages. No code of a package runs meanwhile.

    Raises:
        OSError: it does not run, or gives no answer that can be understood.
    """
    answer = _ask(python, ["-I", "-S"], _BASE, environment)
    bases = [Path(base) for base in answer["bases"]]
    libraries = bases[0] / "lib"
    return Interpreter(
        program=Path(answer["program"]),
        version=answer["version"],
        prefix=bases[0],
        sites=(),
        folders=_needed(bases, ()),
        libraries=libraries if any(libraries.glob("libpython*")) and not _of_the_system(libraries) else None,
    )


def trusted(python: str | Path, environment: Mapping[str, str]) -> Interpreter:
    """`python` with its own packages, whose start-up code (`.pth` files) runs when it is asked where they are.

    Raises:
        OSError: as `base_of`.
    """
    answer = _ask(python, ["-I"], _PACKAGES, environment)
    return _with(base_of(python, environment), Path(answer["prefix"]), tuple(map(Path, answer["sites"])))


def with_packages_of(base: Interpreter, environment: Path) -> Interpreter:
    """A base interpreter with the packages of a virtual environment of strangers: nothing in it is run."""
    environment = environment.resolve()
    return _with(base, environment, tuple(sorted(environment.glob("lib/python*/site-packages"))))


def own() -> Interpreter:
    """The interpreter of this process, with the standard library only."""
    return base_of(sys.executable, os.environ)


def _with(base: Interpreter, prefix: Path, sites: tuple[Path, ...]) -> Interpreter:
    folders = _needed([base.prefix, prefix], (*base.folders, *sites))
    return Interpreter(base.program, base.version, prefix, sites, folders, base.libraries)


def _ask(python: str | Path, flags: list[str], question: str, environment: Mapping[str, str]) -> Any:
    try:
        done = subprocess.run(
            [python, *flags, "-c", question],
            env=dict(environment),
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=60,
            check=True,
        )
        return json.loads(done.stdout.strip().splitlines()[-1])
    except subprocess.SubprocessError as error:
        said = (getattr(error, "stderr", "") or str(error)).strip().splitlines()
        raise OSError(said[-1] if said else "it gave no answer") from error
    except (ValueError, IndexError) as error:
        raise OSError("it gave no answer that can be understood") from error


def _needed(prefixes: list[Path], more: tuple[Path, ...]) -> tuple[Path, ...]:
    """The folders to see, without links, and without those that the system's or another one covers."""
    parts = [prefix / part for prefix in prefixes for part in _PARTS]
    kept: list[Path] = []
    for folder in sorted({each.resolve() for each in (*parts, *more) if each.is_dir()}):
        if not _of_the_system(folder) and not any(folder.is_relative_to(above) for above in kept):
            kept.append(folder)
    return tuple(kept)


def _of_the_system(folder: Path) -> bool:
    return any(folder.is_relative_to(top) for top in _OF_THE_SYSTEM)
