"""The workflows of this repository under `act`: they do what they are for, before GitHub is the first to run them."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from tests.actions.action_files import ROOT
from tests.support import gh
from tests.support.postgres_server import postgres_server
from tests.support.redis_server import redis_server

pytestmark = pytest.mark.slow

FOLDER = ROOT / ".github" / "workflows"
OURS = "champion-gate/champion-gate"


def workflow(name: str) -> str:
    return (FOLDER / f"{name}.yml").read_text(encoding="utf-8")


def checked_in(*patterns: str) -> dict[str, str]:
    """Files of this repository, for the one that the runner makes."""
    found = [path for pattern in patterns for path in ROOT.glob(pattern) if path.is_file()]
    assert found
    return {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in found}


def self_test(**matrix: str) -> str:
    """The self-test for one machine of its matrix, without containers, and with our actions as `@v1`."""
    text = workflow("self-test").replace("workflow_call:", "push:")
    text = re.sub(r"uses: [.$]/(\S*)", lambda match: f"uses: {f'{OURS}/{match[1]}'.rstrip('/')}@v1", text)
    for block in ("strategy", "services"):
        text, replaced = re.subn(rf"^    {block}:\n(?:      .*\n)+", "", text, flags=re.MULTILINE)
        assert replaced == 1
    for name, value in matrix.items():
        text = text.replace(f"${{{{ matrix.{name.replace('_', '-')} }}}}", value)
    assert "matrix" not in text
    return text


def one_job(text: str, job: str) -> str:
    """A workflow that has only this job, which waits for no other."""
    head, body = text.split("\njobs:\n")
    jobs = dict(re.findall(r"^(?:  )([\w-]+):.*\n((?:    .*\n|\n)*)", body, re.MULTILINE))
    steps = re.sub(r"^    (needs|environment):.*\n", "", jobs[job], flags=re.MULTILINE)
    return f"{head}\njobs:\n  {job}:\n{steps}".replace("runs-on: ubuntu-24.04", "runs-on: ubuntu-latest")


def test_the_self_test_passes_on_postgresql_and_redis(runner, tmp_path):
    files = checked_in(".github/scripts/*", "examples/search-ranker/*", "tests/actions/ranker/*.py")
    with postgres_server() as postgres, redis_server(tmp_path) as redis:
        ran = runner.run(
            self_test(os="ubuntu-latest", database=postgres.uri, redis_url=redis.url, isolation="auto"),
            files=files,
            timeout=900,
        )
    assert ran.success, ran.log
    outcomes = {name: step.outcome for name, step in ran.steps.items()}
    assert {name for name, outcome in outcomes.items() if outcome == "failure"} == {"worse", "again"}
    assert len(re.findall(r"as expected: ", ran.log)) == 11
    assert ran["release"].outputs["queries"]


def test_the_release_workflow_makes_a_release_of_the_commit_that_it_is_started_on(runner, tmp_path):
    gh.make(tmp_path)
    state = tmp_path / "state.json"
    state.write_text(json.dumps(gh.repository()), encoding="utf-8")
    # CI itself is what these tests are part of.
    text = re.sub(r"^  validate:.*\n(?:    .*\n|\n)*", "", workflow("release"), flags=re.MULTILINE)
    text = text.replace("needs: [draft, validate]", "needs: draft").replace("ubuntu-24.04", "ubuntu-latest")
    files = {
        **checked_in(".github/scripts/release.py"),
        "pyproject.toml": '[project]\nversion = "1.2.3"\n',
        "CHANGELOG.md": "## [1.2.3] - 2026-11-25\n\nIt is *there*; `$(touch pwned)` ${{ github.token }}\n",
    }
    ran = runner.run(
        text,
        event="workflow_dispatch",
        inputs={"version": "1.2.3"},
        secrets={"GITHUB_TOKEN": "t"},
        files=files,
        environment={"GH_STATE": str(state)},
        programs=tmp_path,
    )
    assert ran.success, ran.log
    assert set(ran.jobs) == {"check", "draft", "publish", "move-major"}
    left = json.loads(state.read_text(encoding="utf-8"))
    (release,) = left["releases"]
    assert release["immutable"]
    assert release["body"] == "It is *there*; `$(touch pwned)` ${{ github.token }}"
    assert re.fullmatch("[0-9a-f]{40}", release["target_commitish"])
    assert left["tags"] == dict.fromkeys(["v1.2.3", "v1"], release["target_commitish"])


@pytest.mark.parametrize("expected", ["champion=2", ""])
def test_the_self_test_would_find_another_champion(expected):
    command = ["bash", str(ROOT / ".github/scripts/expect"), "champion=1", expected]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (1, f"::error::expected: {expected}, found: champion=1\n")


@pytest.mark.parametrize(
    ("version", "said"),
    [
        ("v1.0.0", "is no version"),
        ('1.0.0"; touch "$RESULTS/pwned"; "', "is no version"),
        ("$(touch $RESULTS/pwned)", "is no version"),
        ("999.0.0", "pyproject.toml says version"),
    ],
)
def test_the_release_workflow_stops_at_a_version_that_is_none(runner, tmp_path, version, said):
    gh.make(tmp_path)
    state = tmp_path / "state.json"
    state.write_text(json.dumps(gh.repository()), encoding="utf-8")
    ran = runner.run(
        one_job(workflow("release"), "check"),
        event="workflow_dispatch",
        inputs={"version": version},
        files=checked_in(".github/scripts/release.py", "pyproject.toml", "CHANGELOG.md"),
        environment={"GH_STATE": str(state)},
        programs=tmp_path,
    )
    assert not ran.success
    assert said in ran.log
    assert json.loads(state.read_text(encoding="utf-8"))["asked"] == []  # it did not come that far
    assert not (ran.results / "pwned").exists()
