"""What the release workflow does, against a stand-in for GitHub: what it refuses, and what can be run again."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import gh

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / ".github/scripts/release.py"
_spec = importlib.util.spec_from_file_location("release_script", SCRIPT)
assert _spec
assert _spec.loader
release = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(release)

OLD, COMMIT, LATER = "a" * 40, "b" * 40, "c" * 40
CHANGELOG = """# Changelog

## [Unreleased]

## [1.3.0] - 2026-11-25

### Added

- **A thing.** Why.

## [1.2.0] - 2026-10-01

Older.
"""


class Repository:
    """A checkout of version 1.3.0, and the repository on GitHub that it comes from."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        scripts = folder / ".github/scripts"
        scripts.mkdir(parents=True)
        self.script = scripts / "release.py"
        self.script.write_bytes(SCRIPT.read_bytes())
        self.write("pyproject.toml", '[project]\nname = "x"\nversion = "1.3.0"\n')
        self.write("CHANGELOG.md", CHANGELOG)
        self.programs = folder / "programs"
        self.programs.mkdir()
        gh.make(self.programs)
        self.file = folder / "state.json"
        self.state = gh.repository()
        self.state["tags"] = {"v1": OLD, "v1.2.0": OLD, "v1.10.0-rc.1": OLD, "vault": OLD}

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, encoding="utf-8")

    def step(self, *arguments: str, commit: str = COMMIT, ref: str = "refs/heads/main") -> subprocess.CompletedProcess:
        self.file.write_text(json.dumps(self.state), encoding="utf-8")
        ran = subprocess.run(
            [sys.executable, str(self.script), *arguments],
            env={
                "PATH": f"{self.programs}{os.pathsep}{os.environ['PATH']}",
                "GH_TOKEN": "t",
                "GH_STATE": str(self.file),
                "GITHUB_REPOSITORY": "acme/gate",
                "GITHUB_REF": ref,
                "GITHUB_SHA": commit,
            },
            capture_output=True,
            text=True,
            check=False,
        )
        self.state = json.loads(self.file.read_text(encoding="utf-8"))
        return ran

    def done(self, *arguments: str, **options: str) -> str:
        ran = self.step(*arguments, **options)
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout

    def refused(self, *arguments: str, **options: str) -> str:
        """What the step says; it must have changed nothing."""
        before = {name: value for name, value in self.state.items() if name != "asked"}
        ran = self.step(*arguments, **options)
        assert ran.returncode == 1, ran.stdout + ran.stderr
        assert {name: value for name, value in self.state.items() if name != "asked"} == before
        (line,) = ran.stdout.splitlines()
        assert not ran.stderr
        return line.removeprefix("::error::")


@pytest.fixture
def repository(tmp_path) -> Repository:
    return Repository(tmp_path)


def test_a_release_is_drafted_published_and_found_under_its_major_version(repository):
    repository.done("check", "1.3.0")
    repository.done("draft", "1.3.0")
    (draft,) = repository.state["releases"]
    assert (draft["draft"], draft["tag_name"], draft["target_commitish"]) == (True, "v1.3.0", COMMIT)
    assert draft["body"] == "### Added\n\n- **A thing.** Why."
    assert "v1.3.0" not in repository.state["tags"]

    repository.done("publish", "1.3.0")
    (published,) = repository.state["releases"]
    assert (published["draft"], published["immutable"]) == (False, True)
    assert repository.state["tags"]["v1.3.0"] == COMMIT
    assert repository.state["tags"]["v1"] == OLD

    repository.done("move-major", "1.3.0")
    assert repository.state["tags"]["v1"] == COMMIT


def test_every_step_can_be_run_again(repository):
    for step in ("check", "draft", "draft", "publish", "publish", "move-major", "move-major"):
        repository.done(step, "1.3.0")
    assert len(repository.state["releases"]) == 1
    assert repository.state["tags"]["v1"] == repository.state["tags"]["v1.3.0"] == COMMIT


def test_the_first_release_of_a_major_version_makes_its_tag(repository):
    repository.write("pyproject.toml", '[project]\nversion = "2.0.0"\n')
    repository.write("CHANGELOG.md", CHANGELOG.replace("1.3.0", "2.0.0"))
    for step in ("check", "draft", "publish", "move-major"):
        repository.done(step, "2.0.0")
    assert repository.state["tags"]["v2"] == COMMIT
    assert repository.state["tags"]["v1"] == OLD


def test_the_very_first_release_has_nothing_before_it(repository):
    repository.state["tags"] = {}
    for step in ("check", "draft", "publish", "move-major"):
        repository.done(step, "1.3.0")
    assert repository.state["tags"] == {"v1.3.0": COMMIT, "v1": COMMIT}


@pytest.mark.parametrize(
    "version",
    [
        "",
        "1.3",
        "v1.3.0",
        "1.3.0 ",
        "1.3.0\n",
        "01.3.0",
        "1.3.0-rc.1",
        "1.3.0+x",
        "1.3.0.0",
        "\uff11.3.0",
        "-1.3.0",
        "--help",
        "latest",
        "../1.3.0",
        "$(touch pwned)",
        "`touch pwned`",
        '1.3.0"; touch pwned; "',
        "1.3.0\n::error::forged",
        "1.3.0 --draft=false",
        "9" * 500 + ".0.0",
    ],
)
def test_what_is_no_version_is_refused(version):
    with pytest.raises(release.Refused, match="is no version"):
        release.parsed(version)


@pytest.mark.parametrize("step", ["check", "draft", "publish", "move-major"])
def test_what_is_no_version_gets_nowhere(repository, step):
    for version in ('1.3.0"; touch pwned; "$(touch pwned)', "1.3.0\n::notice::forged"):
        assert "is no version" in repository.refused(step, version)
    assert repository.state["asked"] == []
    assert not list(repository.folder.rglob("pwned"))


@pytest.mark.parametrize("arguments", [(), ("check",), ("release", "1.3.0"), ("check", "1.3.0", "1.3.1")])
def test_a_step_that_there_is_not_is_refused(repository, arguments):
    ran = repository.step(*arguments)
    assert ran.returncode == 2
    assert "STEP" in ran.stderr


def test_the_version_is_the_one_that_the_project_names(repository):
    repository.write("CHANGELOG.md", CHANGELOG.replace("1.3.0", "1.4.0"))
    assert "pyproject.toml says version 1.3.0" in repository.refused("check", "1.4.0")
    assert "pyproject.toml says version 1.3.0" in repository.refused("draft", "1.4.0")


@pytest.mark.parametrize(
    ("changelog", "said"),
    [
        (CHANGELOG.replace("## [1.3.0] - 2026-11-25\n", ""), "has no [1.3.0]"),
        (CHANGELOG.replace(" - 2026-11-25", ""), "no date"),
        (CHANGELOG.replace("2026-11-25", "2026-11-31"), "no date"),
        (CHANGELOG.replace("2026-11-25", "25.11.2026"), "no date"),
        (CHANGELOG.replace("2026-11-25", "20261125"), "no date"),
        (CHANGELOG.replace("2026-11-25", "2026-11-25 [YANKED]"), "no date"),
        (CHANGELOG.replace("## [Unreleased]\n", "## [Unreleased]\n\n- More.\n"), "under [Unreleased]"),
        (CHANGELOG.replace("### Added\n\n- **A thing.** Why.\n", ""), "says nothing"),
        (CHANGELOG.replace("[1.2.0]", "[1.3.0]"), "twice"),
        (CHANGELOG.replace("## [1.3.0]", "## [1.4.0] - 2026-12-01\n\nMore.\n\n## [1.3.0]"), "not the first"),
        ("", "has no [1.3.0]"),
    ],
)
def test_the_changelog_speaks_of_exactly_this_version(repository, changelog, said):
    repository.write("CHANGELOG.md", changelog)
    assert said in repository.refused("check", "1.3.0")
    assert said in repository.refused("draft", "1.3.0")
    assert repository.state["releases"] == []


def test_notes_are_the_version_s_part_and_no_more():
    assert release.notes(CHANGELOG, "1.3.0") == "### Added\n\n- **A thing.** Why."
    assert release.notes(CHANGELOG.replace("## [Unreleased]\n\n", ""), "1.3.0").endswith("Why.")
    only = "## [0.1.0] - 2026-01-02\nFirst.\n### [1.0.0]\nnot a heading of a version\n"
    assert release.notes(only, "0.1.0") == "First.\n### [1.0.0]\nnot a heading of a version"


def test_a_release_is_made_of_main_only(repository):
    assert "made of main" in repository.refused("check", "1.3.0", ref="refs/heads/feature")
    assert "made of main" in repository.refused("check", "1.3.0", ref="refs/tags/main")


@pytest.mark.parametrize("tags", [{"v1.3.0": OLD}, {"v1.3.0": COMMIT}])
def test_a_version_is_released_once(repository, tags):
    repository.state["tags"] |= tags
    assert "already" in repository.refused("check", "1.3.0")


@pytest.mark.parametrize("newest", ["1.3.1", "1.10.0", "2.0.0"])
def test_a_version_is_above_all_that_were_released(repository, newest):
    repository.state["tags"][f"v{newest}"] = OLD
    assert f"v{newest}, the newest release" in repository.refused("check", "1.3.0")


@pytest.mark.parametrize("environment", [None, {}, {"protection_rules": [{"type": "branch_policy"}]}])
def test_an_environment_that_asks_nobody_is_no_gate(repository, environment):
    repository.state["environments"] = {"release": environment} if environment is not None else {}
    assert "no required reviewers" in repository.refused("check", "1.3.0")


def test_an_environment_that_lost_its_reviewers_stops_the_publication(repository):
    repository.done("draft", "1.3.0")
    repository.state["environments"] = {"release": {"protection_rules": []}}
    assert "no required reviewers" in repository.refused("publish", "1.3.0")


def test_a_new_try_replaces_the_draft_of_the_last_one(repository):
    repository.done("draft", "1.3.0", commit=LATER)
    repository.done("draft", "1.3.0")
    (draft,) = repository.state["releases"]
    assert draft["target_commitish"] == COMMIT


def test_drafts_are_found_behind_many_releases(repository):
    many = [{"id": 1000 + number, "tag_name": f"v0.0.{number}", "draft": False} for number in range(250)]
    repository.done("draft", "1.3.0", commit=LATER)
    repository.state["releases"] = many + repository.state["releases"]
    repository.done("draft", "1.3.0")
    mine = [each for each in repository.state["releases"] if each["tag_name"] == "v1.3.0"]
    assert [each["target_commitish"] for each in mine] == [COMMIT]


def test_what_is_published_is_not_drafted_again(repository):
    for step in ("draft", "publish"):
        repository.done(step, "1.3.0")
    assert "published already" in repository.refused("draft", "1.3.0")


def test_only_the_commit_that_was_tested_is_published(repository):
    assert "0 releases of v1.3.0" in repository.refused("publish", "1.3.0")
    repository.done("draft", "1.3.0", commit=LATER)
    assert f"{COMMIT} was tested" in repository.refused("publish", "1.3.0")


def test_a_tag_that_somebody_made_in_the_meantime_is_not_published(repository):
    repository.done("draft", "1.3.0")
    repository.state["tags"]["v1.3.0"] = LATER
    assert "already" in repository.refused("publish", "1.3.0")
    repository.state["releases"][0]["draft"] = False
    assert f"names {LATER}" in repository.refused("publish", "1.3.0")


def test_a_newer_release_in_the_meantime_stops_the_publication(repository):
    repository.done("draft", "1.3.0")
    repository.state["tags"]["v1.4.0"] = LATER
    assert "not above v1.4.0" in repository.refused("publish", "1.3.0")


@pytest.mark.parametrize("main", [[], [{**gh.WORKFLOWS[0], "sha": "2"}], [*gh.WORKFLOWS, {"path": "x", "sha": "1"}]])
def test_other_workflows_on_main_are_told_before_github_refuses_the_tag(repository, main):
    repository.done("draft", "1.3.0")
    repository.state["workflows"]["main"] = main
    assert "Workflows have changed on main" in repository.refused("publish", "1.3.0")


def test_nothing_points_at_a_release_that_can_be_changed(repository):
    repository.state["immutable_releases"] = False
    repository.done("draft", "1.3.0")
    ran = repository.step("publish", "1.3.0")
    assert ran.returncode == 1
    assert "Enable immutable releases" in ran.stdout
    assert repository.state["tags"]["v1"] == OLD


def test_the_major_tag_follows_no_release_that_is_not_there(repository):
    assert "Publish the release first" in repository.refused("move-major", "1.3.0")
    repository.state["tags"]["v1.3.0"] = LATER
    assert "Publish the release first" in repository.refused("move-major", "1.3.0")


def test_an_old_run_that_is_started_again_does_not_take_the_major_tag_back(repository):
    repository.state["tags"] |= {"v1.3.0": COMMIT, "v1.4.0": LATER, "v1": LATER, "v2.0.0": OLD}
    assert "belongs to v1.4.0" in repository.refused("move-major", "1.3.0")


def test_an_annotated_major_tag_is_understood(repository):
    repository.state["tags"] |= {"v1.3.0": COMMIT, "v1": {"type": "tag", "sha": "f00"}}
    repository.state["tag_objects"] = {"f00": {"object": {"type": "commit", "sha": OLD}}}
    assert f"before, it named {OLD}" in repository.done("move-major", "1.3.0")
    assert repository.state["tags"]["v1"] == COMMIT


@pytest.mark.parametrize("answer", ["Not Found (HTTP 404)", "Server Error (HTTP 502)", "Bad credentials (HTTP 401)"])
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
def test_no_answer_from_github_is_no_release(repository, method, answer):
    if method != "POST":
        repository.done("draft", "1.3.0")
    if method == "PATCH":
        repository.state["tags"]["v1.1.0"] = OLD
    repository.state["refused"] = {method: answer}
    step = {"GET": "check", "POST": "draft", "PATCH": "publish"}[method]
    assert repository.refused(step, "1.3.0")
    assert "v1.3.0" not in repository.state["tags"]


def test_what_github_says_cannot_forge_a_command(repository):
    repository.state["refused"] = {"GET": "no\n::notice::forged\r\n%0A (HTTP 500)"}
    said = repository.refused("check", "1.3.0")
    assert "%0A::notice::forged%0A%250A" in said


@pytest.mark.parametrize("variable", ["GITHUB_REPOSITORY", "GITHUB_REF", "GITHUB_SHA"])
def test_outside_its_workflow_it_does_nothing(tmp_path, variable, monkeypatch):
    for name in ("GITHUB_REPOSITORY", "GITHUB_REF", "GITHUB_SHA"):
        monkeypatch.setenv(name, "x")
    monkeypatch.delenv(variable)
    with pytest.raises(release.Refused, match=variable):
        release._setting(variable)


def test_this_project_has_a_version_that_can_be_released_in_one_place():
    version = release.tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
    assert release.parsed(version)
    found = release.sections((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"))
    assert next(iter(found)) == "Unreleased"
    assert all(release.parsed(name) for name in list(found)[1:])
