"""Small models on disk as MLflow keeps them, without a server, and quick places to load them in."""

from __future__ import annotations

import json
import os
import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from champion_gate import isolation
from champion_gate.interpreter import Interpreter, trusted
from champion_gate.isolation import Isolation

PYTHON = "{}.{}".format(*sys.version_info[:2])

# What MLflow 2.9 to 2.18 write for a pyfunc with a loader of its own; 3.x writes the same and more.
MLMODEL = """\
artifact_path: model
flavors:
  python_function:
    code: code
    data: data
    env:
      conda: conda.yaml
      virtualenv: python_env.yaml
    loader_module: {loader}
    python_version: {python}.1
mlflow_version: {mlflow}
model_size_bytes: 1234
model_uuid: 4ac3e2a5e6f94b7f8c0a5c2f2a3d4e5f
run_id: 0123456789abcdef0123456789abcdef
utc_time_created: '2024-01-10 10:00:00.000000'
"""
SIGNATURE = """\
signature:
  inputs: '{inputs}'
  outputs: '[{{"type": "double", "required": true}}]'
  params: null
"""


def write_model(
    folder: Path,
    source: str,
    *,
    inputs: Mapping[str, str] | Sequence[Mapping[str, object]] | None = None,
    requirements: str = "",
    python: str = PYTHON,
    mlflow: str = "2.9.2",
) -> Path:
    """A model whose loader is `source`: a module that defines `_load_pyfunc(path)`, or only `predict(data)`.

    `inputs` is its signature: column -> type, or what MLflow writes as JSON.
    """
    loader = f"loader_of_{folder.name.replace('-', '_')}"
    (folder / "code").mkdir(parents=True)
    (folder / "data").mkdir()
    text = textwrap.dedent(source)
    if "def _load_pyfunc" not in text:
        text += "\n\ndef _load_pyfunc(path):\n    import sys\n\n    return sys.modules[__name__]\n"
    (folder / "code" / f"{loader}.py").write_text(text, encoding="utf-8")
    (folder / "data" / "weights.txt").write_text("0.5", encoding="utf-8")
    mlmodel = MLMODEL.format(loader=loader, python=python, mlflow=mlflow)
    if inputs is not None:
        columns = (
            [{"type": kind, "name": name, "required": True} for name, kind in inputs.items()]
            if isinstance(inputs, Mapping)
            else list(inputs)
        )
        mlmodel += SIGNATURE.format(inputs=json.dumps(columns))
    (folder / "MLmodel").write_text(mlmodel, encoding="utf-8")
    (folder / "requirements.txt").write_text(requirements, encoding="utf-8")
    (folder / "python_env.yaml").write_text(
        f"python: {python}.1\nbuild_dependencies:\n- pip==23.3.2\n- setuptools\n- wheel\n"
        "dependencies:\n- -r requirements.txt\n",
        encoding="utf-8",
    )
    pip = "".join(f"  - {line}\n" for line in requirements.splitlines())
    (folder / "conda.yaml").write_text(
        f"channels:\n- conda-forge\ndependencies:\n- python={python}.1\n- pip<=23.3.2\n- pip:\n{pip}name: mlflow-env\n",
        encoding="utf-8",
    )
    return folder


@contextmanager
def python_on_path() -> Iterator[None]:
    """The environment that runs the tests, as the activated one of a caller."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
        yield


# MLflow's place taken by what scorer.py needs of it: tests of what goes wrong would mostly wait for its import.
QUICK_MLFLOW = """\
import importlib, os, sys, types


def load_model(folder):
    code = os.path.join(folder, "code")
    sys.path.insert(0, code)
    [name] = [file[:-3] for file in os.listdir(code) if file.endswith(".py")]
    return importlib.import_module(name)._load_pyfunc(os.path.join(folder, "data"))
"""


def quick_packages(folder: Path) -> Path:
    """A folder of packages to put before the others: there is almost no MLflow in it."""
    (folder / "mlflow").mkdir(parents=True)
    (folder / "mlflow" / "__init__.py").touch()
    (folder / "mlflow" / "pyfunc.py").write_text(QUICK_MLFLOW, encoding="utf-8")
    return folder


def quick_interpreter(packages: Path) -> Interpreter:
    """The Python of the tests with `quick_packages` before its own."""
    whole = trusted(sys.executable, os.environ)
    return replace(whole, sites=(packages, *whole.sites), folders=(packages, *whole.folders))


def isolations() -> list[str]:
    """The names of all isolations that this machine has the tools for; Docker's always, so that its absence is seen."""
    found = [each.name for each in isolation.sandboxes() if not each.missing() or isinstance(each, isolation.Docker)]
    return [*dict.fromkeys(found), isolation.Process.name]


def working(name: str) -> Isolation:
    """An isolation by its name; skips the test where this machine does not let it work, and says why."""
    named = [each for each in (*isolation.sandboxes(), isolation.Process()) if each.name == name]
    for each in named:
        if not each.problem:
            return each
    pytest.skip(f"{name} does not work here: {'; '.join(each.problem for each in named)}")
