"""What an environment is made of, from what a model's files ask for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from champion_gate.errors import BadInput, OutsideWorldFailed
from champion_gate.model_environment import _not_installed, _wanted
from champion_gate.model_files import ModelFailed, ModelFiles
from launcher.environments import CannotInstall

MODEL = ModelFiles(
    folder=Path(__file__).parent,
    label="challenger version 7",
    columns=None,
    mlflow_version="2.18.0",
    python="3.11",
    requirements="",
    build_requirements=("pip==24", "setuptools==75.1.0", "wheel"),
)


def wanted(requirements="", *, trust=False, **other):
    return _wanted(replace(MODEL, requirements=requirements, **other), allow_source_builds=trust)


def test_requirements_are_taken_as_what_they_ask_for():
    text = "# a comment\nNumPy == 1.26.4 # why\n\nscikit-learn[a,b] >= 1.2,\\\n  < 2 ; python_version > '3'\nmlflow"
    lines = wanted(text)
    assert lines.lines == (
        "NumPy==1.26.4",
        "mlflow",
        'scikit-learn[a,b]<2,>=1.2; python_version > "3"',
        "setuptools==75.1.0",
    )


def test_mlflow_is_added_as_the_model_was_logged_with_it():
    assert "mlflow==2.18.0" in wanted("numpy==1.26.4").lines
    for own in ("mlflow", "mlflow-skinny==2.9.2", "MLflow_Skinny"):
        assert [line for line in wanted(own).lines if "flow" in line.lower()] == [own]
    assert wanted("x", mlflow_version="", build_requirements=()).lines == ("x",)
    assert wanted("x", mlflow_version="2.0 --index-url=x", build_requirements=()).lines == ("x",)


def test_setuptools_of_the_model_s_own_requirements_counts():
    assert "setuptools==75.1.0" not in wanted("setuptools==68").lines


def test_setuptools_that_nobody_pinned_has_what_mlflow_2_9_imports():
    assert wanted("mlflow==2.9.2", build_requirements=("pip", "setuptools")).lines == ("mlflow==2.9.2", "setuptools<82")


def test_the_same_requirements_are_the_same_environment():
    assert wanted("a==1\nb==2").name == wanted("b==2\n\na == 1\n").name
    others = [wanted("a==2"), wanted("a==1", python="3.10"), wanted("a==1", trust=True)]
    names = {wanted("a==1").name, *(other.name for other in others)}
    assert len(names) == 4
    assert all(name.startswith("model-cp3") for name in names)


def test_a_model_without_a_python_is_refused():
    with pytest.raises(BadInput, match="does not say which Python it needs"):
        wanted(python="")


def test_build_requirements_are_no_way_around():
    with pytest.raises(BadInput, match="is refused"):
        wanted(build_requirements=("setuptools @ https://files.test/setuptools.whl",))


def test_with_trust_the_lines_are_taken_as_they_are():
    text = "--extra-index-url https://index.test\n-e ./code\nmlflow @ git+https://git.test/mlflow"
    assert wanted(text, trust=True).lines == ("setuptools==75.1.0", *text.splitlines())
    assert wanted("-e ./code", trust=True).lines == ("mlflow==2.18.0", "setuptools==75.1.0", "-e ./code")
    assert wanted("setuptools==68", trust=True).lines == ("mlflow==2.18.0", "setuptools==68")


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("error: Failed to fetch: https://index.test\n  cause: dns error", OutsideWorldFailed),
        ("  x No solution found ...\n  because numpy was not found in the package registry", OutsideWorldFailed),
        ("  x No solution found ...\n  because there is no version of numpy==99.1", ModelFailed),
        ("error: No solution found ...\n  cause: Because docopt==0.6.2 has no usable wheels", BadInput),
        ("error: something new", OutsideWorldFailed),
    ],
)
def test_whose_fault_an_installation_is(said, kind):
    error = _not_installed(CannotInstall("message", 3, said), MODEL)
    assert isinstance(error, kind)
    assert "challenger version 7" in str(error).lower()
