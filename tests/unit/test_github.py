"""What the runner is told: outputs that cannot be forged, a summary below its limit, annotations of one line."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from champion_gate import github

HOSTILE = ["a\nb=c", "x\n::set-output name=v::1", "%0A", "EOF", "value-\nother=1", "$(id) `id` \"'", "a\x00\x1b[31m"]


def read_outputs(path):
    """As the runner reads the file: name<<delimiter, lines, delimiter."""
    found, lines = {}, path.read_text(encoding="utf-8").split("\n")
    while lines and lines[0]:
        name, delimiter = lines.pop(0).split("<<")
        value = []
        while lines[0] != delimiter:
            value.append(lines.pop(0))
        lines.pop(0)
        found[name] = "\n".join(value)
    return found


@pytest.mark.parametrize("value", HOSTILE)
def test_an_output_is_one_output_whatever_it_holds(tmp_path, monkeypatch, value):
    path = tmp_path / "output"
    monkeypatch.setenv("GITHUB_OUTPUT", str(path))
    github.write_outputs({"reason": value, "version": "3"})
    outputs = read_outputs(path)
    assert outputs.keys() == {"reason", "version"}
    assert outputs["version"] == "3"
    assert "\n" not in outputs["reason"]


@pytest.mark.parametrize("value", HOSTILE)
def test_an_annotation_is_one_command(monkeypatch, capsys, tmp_path, value):
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    github.annotate("error", value, value)
    out = capsys.readouterr().err
    assert out.count("\n") == 1
    assert out.startswith("::error title=")
    assert "\r" not in out


@given(st.text(max_size=300), st.text(max_size=300))
def test_properties_of_an_annotation_cannot_be_added(title, message):
    shown = github._command_value(title)
    assert "\n" not in shown
    assert "%" not in shown.replace("%25", "").replace("%0A", "").replace("%0D", "")


def test_a_summary_stays_below_the_runners_limit(tmp_path, monkeypatch):
    path = tmp_path / "summary"
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    assert github.write_summary("é" * 1024 * 1024)
    assert path.stat().st_size < 1024 * 1024
    assert "Cut here" in path.read_text(encoding="utf-8")


def test_outside_github_nothing_is_written(monkeypatch):
    monkeypatch.delenv("GITHUB_OUTPUT", raising=False)
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)
    github.write_outputs({"version": "1"})
    assert not github.write_summary("x")
    assert not github.on_github()


def test_the_job_is_read_from_the_runner(monkeypatch):
    values = {
        "GITHUB_ACTOR": "ann",
        "GITHUB_SHA": "abc",
        "GITHUB_REF_NAME": "main",
        "GITHUB_REPOSITORY": "acme/search",
        "GITHUB_RUN_ID": "42",
        "GITHUB_SERVER_URL": "https://git.acme.example",
        "GITHUB_EVENT_NAME": "pull_request_target",
    }
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("GITHUB_HEAD_REF", raising=False)
    job = github.context()
    assert (job.actor, job.commit, job.branch, job.repository) == ("ann", "abc", "main", "acme/search")
    assert job.run_url == "https://git.acme.example/acme/search/actions/runs/42"
    assert job.is_pull_request


@pytest.mark.parametrize(
    ("event", "name", "judges_a_pull_request"),
    [
        ({"workflow_run": {"event": "pull_request", "pull_requests": []}}, "workflow_run", True),
        (
            {"workflow_run": {"event": "push", "head_repository": {"id": 2}}, "repository": {"id": 1}},
            "workflow_run",
            True,
        ),
        (
            {"workflow_run": {"event": "push", "head_repository": {"id": 1}}, "repository": {"id": 1}},
            "workflow_run",
            False,
        ),
        ({}, "push", False),
        ({}, "pull_request_target", True),
    ],
)
def test_code_that_nobody_merged_is_told_by_what_started_the_workflow(
    monkeypatch, tmp_path, event, name, judges_a_pull_request
):
    path = tmp_path / "event.json"
    path.write_text(json.dumps(event))
    monkeypatch.setenv("GITHUB_EVENT_PATH", str(path))
    monkeypatch.setenv("GITHUB_EVENT_NAME", name)
    monkeypatch.setenv("GITHUB_REF", "refs/heads/main")
    assert github.context().is_pull_request is judges_a_pull_request
