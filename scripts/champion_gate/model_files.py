"""What a model's folder says of it: its inputs, its requirements, its Python. Written by strangers, so read as text.

Formats: https://mlflow.org/docs/latest/ml/model/ (MLmodel, requirements.txt, python_env.yaml, conda.yaml).
"""

from __future__ import annotations

import json
import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from champion_gate.errors import EXIT_REFUSED, GateError
from champion_gate.text import one_line

# Larger than any that MLflow writes; a signature of ten thousand columns has 700 kB.
_LARGEST_FILE = 4 * 1024 * 1024
_PYTHON = re.compile(r"(\d+\.\d+)(\.\d+)?")


class ModelFailed(GateError):
    """A model that cannot be loaded and asked: whatever else is true of it, it cannot be served."""

    exit_code = EXIT_REFUSED


@dataclass(frozen=True)
class ModelFiles:
    """A model on disk, and what its files say. None of it is checked: it is what somebody wrote."""

    folder: Path
    label: str
    """What messages call it, such as "challenger version 7 of search-ranker"."""
    columns: tuple[str, ...] | None
    """The names of the signature's inputs; None where it names none."""
    mlflow_version: str
    """The MLflow that logged it; empty where the model does not say."""
    python: str
    """Its Python as "3.11"; empty where the model does not say."""
    requirements: str
    """The text of requirements.txt, else the pip part of conda.yaml."""
    build_requirements: tuple[str, ...]
    """What python_env.yaml wants before the rest: pip, setuptools, wheel."""

    def failed(self, what: str, why: str = "", do: str = "") -> ModelFailed:
        """An error about this model; `what` goes on after its name."""
        return ModelFailed(f"{self.name} {what}", why, do)

    @property
    def name(self) -> str:
        """The label as a sentence begins."""
        return one_line(self.label[:1].upper() + self.label[1:], 300)


def read_model(folder: Path, label: str) -> ModelFiles:
    """What the files in a model's folder say; `label` names it in messages.

    Raises:
        ModelFailed: there is no MLmodel file, or one of its files cannot be understood.
    """
    mlmodel = _mapping(folder, "MLmodel", label)
    if mlmodel is None:
        raise _broken(label, "MLmodel", "there is no such file")
    flavor = _part(_part(mlmodel, "flavors"), "python_function")
    if not flavor:
        raise _broken(label, "MLmodel", "it has no flavor 'python_function', which is how MLflow serves a model")
    conda = _conda(_mapping(folder, "conda.yaml", label) or {})
    environment = _mapping(folder, "python_env.yaml", label) or {}
    requirements = _text(folder, "requirements.txt", label)
    pythons = (environment.get("python"), conda.python, flavor.get("python_version"))
    return ModelFiles(
        folder=folder,
        label=label,
        columns=_columns(_part(mlmodel, "signature").get("inputs"), label),
        mlflow_version=_plain(mlmodel.get("mlflow_version")),
        python=next((found[1] for each in pythons if (found := _PYTHON.match(_plain(each)))), ""),
        requirements=requirements if requirements is not None else conda.pip,
        build_requirements=tuple(map(_plain, _items(environment.get("build_dependencies")))),
    )


@dataclass(frozen=True)
class _Conda:
    python: str
    pip: str


def _conda(content: dict[str, Any]) -> _Conda:
    """Python and the pip packages of a conda.yaml; what conda alone has is left out, as MLflow's virtualenv does."""
    python, pip = "", ""
    for entry in _items(content.get("dependencies")):
        if isinstance(entry, dict):
            pip = "\n".join(map(_plain, _items(entry.get("pip"))))
        elif found := re.fullmatch(r"python\s*={1,2}\s*(\d+\.\d+[.\d]*)", _plain(entry)):
            python = found[1]
    return _Conda(python, pip)


def _columns(inputs: Any, label: str) -> tuple[str, ...] | None:
    if not _plain(inputs):
        return None
    try:
        entries = json.loads(_plain(inputs))
    except (ValueError, RecursionError) as error:
        raise _broken(label, "MLmodel", f"its signature is not JSON ({one_line(str(error), 100)})") from error
    found = [entry.get("name") if isinstance(entry, dict) else None for entry in _items(entries)]
    names = [name for name in found if isinstance(name, str)]
    if not names or len(names) < len(found):
        return None
    if len(set(names)) < len(names):
        raise _broken(label, "MLmodel", "its signature names an input twice")
    return tuple(names)


def _mapping(folder: Path, name: str, label: str) -> dict[str, Any] | None:
    """A YAML file as mappings, lists and strings. No tags, no merge keys, no numbers: nothing that could be costly."""
    text = _text(folder, name, label)
    if text is None:
        return None
    try:
        content = yaml.load(text, yaml.BaseLoader)  # noqa: S506  (it makes strings, lists and dicts only)
    except (yaml.YAMLError, ValueError, RecursionError, TypeError) as error:
        raise _broken(label, name, f"it is not YAML ({one_line(str(error), 200)})") from error
    if not isinstance(content, dict):
        raise _broken(label, name, "it holds no mapping")
    return content


def _text(folder: Path, name: str, label: str) -> str | None:
    """A file of the model, which may be anything: a link out of the folder, a pipe, too large, no text."""
    try:
        handle = os.open(folder / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _broken(label, name, f"it cannot be opened: {error.strerror}") from error
    with open(handle, "rb") as file:  # noqa: PTH123  (a descriptor, no path)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise _broken(label, name, "it is no regular file")
        raw = file.read(_LARGEST_FILE + 1)
    if len(raw) > _LARGEST_FILE:
        raise _broken(label, name, f"it is larger than {_LARGEST_FILE // 1024 // 1024} MiB")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise _broken(label, name, "it is not UTF-8") from error


def _part(content: dict[str, Any], key: str) -> dict[str, Any]:
    part = content.get(key)
    return part if isinstance(part, dict) else {}


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _plain(value: Any) -> str:
    return value.strip() if isinstance(value, str) else ""


def _broken(label: str, file: str, problem: str) -> ModelFailed:
    return ModelFailed(
        f"{one_line(label[:1].upper() + label[1:], 300)} cannot be read: something is wrong with its file {file}.",
        f"In short: {problem}.",
        "Log the model again with MLflow, and register that one.",
    )
