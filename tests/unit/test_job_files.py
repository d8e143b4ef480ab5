"""Files of the job that somebody wrote to while a model ran are as they were, and the model is named."""

from __future__ import annotations

import pytest

from champion_gate.job_files import JobFiles
from champion_gate.model_files import ModelFailed, ModelFiles

MODEL = ModelFiles.__new__(ModelFiles)
object.__setattr__(MODEL, "label", "challenger version 7")


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    temp = tmp_path / "temp"
    temp.mkdir()
    for name in ("GITHUB_OUTPUT", "GITHUB_ENV"):
        (temp / name).write_text(f"{name}=before\n")
        monkeypatch.setenv(name, str(temp / name))
    (tmp_path / "elsewhere").write_text("before")
    monkeypatch.setenv("ELSEWHERE", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("RUNNER_TEMP", str(temp))
    return temp / "GITHUB_OUTPUT"


def append(path):
    path.write_text(path.read_text() + "verdict=passed\n")


def rewrite(path):
    path.write_text("GITHUB_OUTPUT=BEFORE\n")


def remove(path):
    path.unlink()


def link(path):
    path.unlink()
    path.symlink_to(path.parent.parent / "elsewhere")


def folder(path):
    path.unlink()
    (path / "a").mkdir(parents=True)


@pytest.mark.parametrize("deed", [append, rewrite, remove, link, folder])
def test_they_are_put_back_whatever_was_done_to_them(outputs, tmp_path, deed):
    told = pytest.raises(ModelFailed, match=r"Challenger version 7 wrote to files of this job .*: GITHUB_OUTPUT")
    with told, JobFiles(MODEL):
        deed(outputs)
    assert not outputs.is_symlink()
    assert outputs.read_text() == "GITHUB_OUTPUT=before\n"
    assert (tmp_path / "elsewhere").read_text() == "before"


def test_nothing_is_said_of_a_model_that_left_them_alone(outputs):
    with JobFiles(MODEL):
        (outputs.parent / "new").write_text("x")
    assert outputs.read_text() == "GITHUB_OUTPUT=before\n"


def test_an_error_in_between_stays_the_error(outputs, capsys):
    failed = pytest.raises(FileNotFoundError)
    with failed, JobFiles(MODEL):
        remove(outputs)
        append(outputs)
    assert outputs.read_text() == "GITHUB_OUTPUT=before\n"
    assert "GITHUB_OUTPUT" in capsys.readouterr().err


def test_without_a_runner_there_is_nothing_to_guard(outputs, monkeypatch):
    monkeypatch.delenv("RUNNER_TEMP")
    with JobFiles(MODEL):
        append(outputs)
