"""The Python that a model runs in: made from what its files ask for, or the caller's own.

An environment is installed by uv from wheels, so that nothing of it runs before it is shut in, and kept for next time.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import NormalizedName, canonicalize_name

from champion_gate import github, interpreter
from champion_gate.errors import BadInput, OutsideWorldFailed
from champion_gate.interpreter import Interpreter
from champion_gate.model_files import ModelFiles
from champion_gate.text import one_line
from launch import cache_root
from launcher.environments import CANNOT_WRITE, CannotInstall, Maker, exclusive

# What a Python behind a version manager's shim needs to be found.
_KEPT = ("HOME", "PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
_KEPT_OF_MANAGERS = ("PYENV_", "ASDF_", "MISE_", "CONDA_")
_NEEDED = ("mlflow", "numpy", "pandas")


@dataclass(frozen=True)
class _Wanted:
    """What an environment is made of: lines of a requirements file, and a Python as "3.11"."""

    python: str
    lines: tuple[str, ...]
    source_builds: bool
    marker: str = ""
    """What else makes it another environment."""

    @property
    def name(self) -> str:
        """The folder of this environment."""
        parts = (
            self.python,
            *self.lines,
            str(self.source_builds),
            self.marker,
            *platform.uname()[::4],
            *platform.libc_ver(),
        )
        digest = hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
        return f"model-cp{self.python.replace('.', '')}-{digest[:20]}"


def interpreter_for(
    model: ModelFiles, environment: Literal["model", "current"], *, allow_source_builds: bool
) -> Interpreter:
    """The Python that a model is scored in.

    Raises:
        BadInput: the model's requirements are refused, or its Python is not to be had, or (`current`) the caller's
            lacks MLflow.
        ModelFailed: no set of packages meets its requirements.
        OutsideWorldFailed: a package index did not do its part, or the environment cannot be written.
    """
    if environment == "current":
        return _current()
    return _installed(_wanted(model, allow_source_builds=allow_source_builds), model)


def _current() -> Interpreter:
    """The first Python on PATH that runs."""
    kept = {name: value for name, value in os.environ.items() if name in _KEPT or name.startswith(_KEPT_OF_MANAGERS)}
    problems = []
    for name in ("python3", "python"):
        program = shutil.which(name)
        if program is None:
            continue
        try:
            found = interpreter.trusted(program, kept)
        except OSError as error:
            problems.append(f"{program}: {one_line(str(error), 200)}")
            continue
        missing = [package for package in _NEEDED if not any((site / package).is_dir() for site in found.sites)]
        if missing:
            raise BadInput(
                f"The environment 'current' ({program}) has no {', '.join(missing)}.",
                "Models are loaded by MLflow there. Packages of a user's own folder, of PYTHONPATH and editable ones "
                "do not count: where the model is shut in, they are not seen.",
                "Install the model's requirements before this step, or set scoring-environment: model.",
            )
        return found
    raise BadInput(
        "There is no Python for the environment 'current'.",
        f"Tried: {'; '.join(problems)}." if problems else "PATH has neither python3 nor python.",
        "Add actions/setup-python before this step, or set scoring-environment: model.",
    )


def _wanted(model: ModelFiles, *, allow_source_builds: bool) -> _Wanted:
    if not model.python:
        raise BadInput(
            f"{model.name} does not say which Python it needs.",
            "Its python_env.yaml, conda.yaml and MLmodel name none.",
            "Log it again with MLflow 2 or later, or set scoring-environment: current.",
        )
    if allow_source_builds:
        names = _bare(model.requirements)
        lines = (*_with_mlflow(names, model), *_tools(names, model), *model.requirements.splitlines())
        # It may hold paths into the model, or links whose content changes: such an environment is this model's alone.
        return _Wanted(model.python, lines, source_builds=True, marker=_digest_of(model.folder))
    own = [_requirement(line, model) for line in _logical_lines(model.requirements)]
    names = {canonicalize_name(requirement.name) for requirement in own}
    sorted_lines = sorted({*map(str, own), *_tools(names, model)})
    return _Wanted(model.python, (*_with_mlflow(names, model), *sorted_lines), source_builds=False)


def _tools(names: Iterable[str], model: ModelFiles) -> list[str]:
    """Setuptools, if the model's requirements do not name it: old MLflow and its friends do not start without it."""
    if "setuptools" in names:
        return []
    tools = [_requirement(line, model) for line in model.build_requirements if _bare(line) == {"setuptools"}]
    return [_with_pkg_resources(tool) for tool in tools]


def _with_pkg_resources(setuptools: Requirement) -> str:
    """Where MLflow could not tell which setuptools there was, any will do that old MLflow starts with."""
    return str(setuptools) if setuptools.specifier else "setuptools<82"


def _with_mlflow(names: Iterable[str], model: ModelFiles) -> list[str]:
    """MLflow as the model was logged with it, if its requirements do not name one."""
    if {"mlflow", "mlflow-skinny"} & set(names) or not re.fullmatch(r"[\w.+!-]+", model.mlflow_version):
        return []
    return [f"mlflow=={model.mlflow_version}"]


def _bare(text: str) -> set[NormalizedName]:
    """The package names of a requirements file as far as they are plain."""
    found = (re.match(r"\s*([A-Za-z0-9][\w.-]*)", line) for line in text.splitlines())
    return {canonicalize_name(match[1]) for match in found if match}


def _logical_lines(text: str) -> list[str]:
    """The lines of a requirements file that ask for something: joined at a backslash, without comments."""
    joined = re.sub(r"\\\r?\n", " ", text)
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in joined.splitlines())
    return [line for line in lines if line]


def _requirement(line: str, model: ModelFiles) -> Requirement:
    try:
        requirement = Requirement(line)
    except InvalidRequirement:
        requirement = None
    if requirement is None or requirement.url is not None:
        kind = "an option" if line.startswith("-") else "no name of a package with versions"
        raise BadInput(
            f"{model.name} has a requirement that is refused: '{one_line(line, 200)}'.",
            f"It is {kind}; by options, URLs and paths a model chooses where packages come from, or has code run.",
            "Log the model with plain requirements (name==version), or trust it with allow-source-builds: true, or set "
            "scoring-environment: current.",
        )
    return requirement


def _installed(wanted: _Wanted, model: ModelFiles) -> Interpreter:
    root = Path(cache_root())
    folder = root / wanted.name
    try:
        if not os.access(folder / "bin" / "python", os.X_OK):
            with exclusive(root) as guard:
                # The model's process may be another user's.
                maker = Maker(root, guard, umask=0o022)
                maker.complete(wanted.name, Path("bin", "python"), lambda new: _install(maker, new, wanted, model))
        return _without_running_it(folder)
    except OSError as error:
        what, _, do = CANNOT_WRITE.format(root=root, error=error).partition("\n")
        raise OutsideWorldFailed(f"{what[:1].upper()}{what[1:]}", "", do) from error


def _without_running_it(folder: Path) -> Interpreter:
    base = interpreter.base_of(folder / "bin" / "python", {"PATH": os.defpath})
    return interpreter.with_packages_of(base, folder)


def _install(maker: Maker, folder: Path, wanted: _Wanted, model: ModelFiles) -> None:
    started = time.monotonic()
    what = f"the environment of {one_line(model.label, 200)}"
    environment = maker.sources.for_strangers(os.environ)
    github.log(f"installing {what} (Python {wanted.python}, {len(wanted.lines)} requirements) ...")
    try:
        maker.run(
            *("venv", "--no-project", "--relocatable", "--python", wanted.python, folder),
            what=what,
            environment=environment,
        )
    except CannotInstall as error:
        raise BadInput(
            f"Python {wanted.python}, which {one_line(model.label, 200)} needs, is not to be had: {_said(error)}.",
            "It is not on this machine, and uv could not fetch it.",
            f"Add actions/setup-python with python-version: '{wanted.python}', or set scoring-environment: current.",
        ) from error
    python = folder / "bin" / "python"
    requirements = folder / "requirements.txt"
    requirements.write_text("\n".join(wanted.lines) + "\n", encoding="utf-8")
    options = ["--python", str(python), *(["--no-index"] if maker.sources.no_index else [])]
    if wanted.source_builds:
        # Options and paths in a requirements file are seen from the folder that it is in.
        options += ["--directory", str(model.folder)]
    else:
        options += ["--only-binary", ":all:"]
    try:
        maker.run("pip", "install", *options, "--requirement", requirements, what=what, environment=environment)
    except CannotInstall as error:
        raise _not_installed(error, model) from error
    sites = list(folder.glob("lib/python*/site-packages"))
    _compile(python, sites)
    _open_to_all(folder)
    packages = sum(len(list(site.glob("*.dist-info"))) for site in sites)
    github.log(f"{packages} packages, {time.monotonic() - started:.1f} s")


def _not_installed(error: CannotInstall, model: ModelFiles) -> Exception:
    """Whose fault it is that an environment could not be installed."""
    said = _said(error)
    label = one_line(model.label, 200)
    unknown = re.search(r"not found in the (package registry|provided package locations)", error.said)
    if "No solution found" not in error.said or unknown:
        return OutsideWorldFailed(
            f"The environment of {label} could not be installed: {said}.",
            "A package index did not answer, or does not know a package; nothing is known of the model.",
            "Check that this machine reaches the index that has the model's packages (UV_INDEX or PIP_INDEX_URL, "
            "HTTPS_PROXY, SSL_CERT_FILE), or set scoring-environment: current.",
        )
    if re.search(r"\bwheels?\b", error.said):
        return BadInput(
            f"The environment of {label} cannot be made of wheels alone: {said}.",
            "To build a package is to run code of strangers outside of any sandbox.",
            "If you trust the model and its packages, set allow-source-builds: true; or scoring-environment: current.",
        )
    return model.failed(
        f"has requirements that no set of packages meets: {said}.",
        "So it cannot be served in an environment of its own either.",
        "Log it again with requirements that can be installed together.",
    )


def _compile(python: Path, sites: Sequence[Path]) -> None:
    """Compile the packages once, for every process that reads them; where they are read-only, none could keep it.

    uv can do it as well, but starts an interpreter for it that runs the packages' start-up code. A third of the files
    are the packages' own tests, which nobody imports.
    """
    subprocess.run(
        [python, "-I", "-S", "-m", "compileall", "-q", "-j", "0", "-x", "/tests?/", *sites],
        env={"PATH": os.defpath},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        umask=0o022,
        check=False,  # some packages carry files for other Pythons
    )


def _open_to_all(folder: Path) -> None:
    """Lets every user read an environment, also one from a cache that is its owner's alone."""
    for path, _, names in os.walk(folder):
        for each in (Path(path), *(Path(path, name) for name in names)):
            mode = each.lstat().st_mode
            wanted = mode | (0o055 if mode & 0o100 else 0o044)
            if mode != wanted and not each.is_symlink():
                each.chmod(wanted)


def _digest_of(folder: Path) -> str:
    """A digest of all files of a folder and their names."""
    digest = hashlib.sha256()
    for path in sorted(each for each in folder.rglob("*") if each.is_file() and not each.is_symlink()):
        with path.open("rb") as file:
            content = hashlib.sha256()
            while chunk := file.read(1024 * 1024):
                content.update(chunk)
        digest.update(f"{path.relative_to(folder)}\0{content.hexdigest()}\0".encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _said(error: CannotInstall) -> str:
    lines = [re.sub(r"^(error|cause):\s*", "", line.strip()) for line in error.said.splitlines()]
    kept = [line for line in lines if line and not line.startswith(("Using ", "Creating ", "Activate "))]
    return one_line("; ".join(kept[:6]), 800).rstrip(".") or one_line(str(error), 400)
