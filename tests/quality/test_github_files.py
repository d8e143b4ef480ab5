"""What GitHub reads of this repository: forms, Dependabot, and the workflows that call what is here."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
import yaml

from tests.actions import action_files
from tests.actions.runner import document
from tests.support import github_files

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
FORMS = sorted(path for path in (GITHUB / "ISSUE_TEMPLATE").iterdir() if path.name != "config.yml")
WORKFLOWS = sorted((GITHUB / "workflows").iterdir())
YAML = [path for path in ROOT.rglob("*.yml") if not {".git", "node_modules"} & set(path.parts)]


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def workflow(name: str) -> dict:
    return document(read(GITHUB / "workflows" / f"{name}.yml"))


# Issue forms and the pull request template.


def test_there_are_forms_and_no_other_way_to_open_an_issue():
    assert [path.name for path in FORMS] == ["bug.yml", "feature.yml"]
    config = yaml.safe_load(read(GITHUB / "ISSUE_TEMPLATE/config.yml"))
    assert config == {"blank_issues_enabled": False}


@pytest.mark.parametrize("form", FORMS, ids=lambda path: path.stem)
def test_github_can_show_a_form(form):
    assert github_files.problems_of_form(read(form)) == []


def test_a_bug_report_says_what_is_needed_to_reproduce_it():
    body = yaml.safe_load(read(GITHUB / "ISSUE_TEMPLATE/bug.yml"))["body"]
    required = {element["id"] for element in body if element.get("validations", {}).get("required")}
    assert required == {"step", "log", "expected", "version", "server", "runner"}
    assert "SECURITY.md" in body[0]["attributes"]["value"]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("name: Something went wrong\n", "", "name is no text"),
        ("name: Something went wrong", "name: ' '", "name is no text"),
        ("description: An action or a command did not do what its documentation says.\n", "", "description is no text"),
        ("labels: [bug]", "lables: [bug]", "has the key lables"),
        ("  - type: input\n    id: version", "  - type: text\n    id: version", "has the type text"),
        ("id: version", "id: server", "the id server is there twice"),
        ("id: version", "id: the version", "has the id 'the version'"),
        ("label: Version of Champion Gate", "label: MLflow server", "the label MLflow server is there twice"),
        ("      label: What it said\n", "", "has no label"),
        ("render: yaml", "rendered: yaml", "has the attribute rendered"),
        ("        - Self-hosted runner\n", "        - Without GitHub\n", "has the option Without GitHub twice"),
        ("        - No Redis\n", "        - None\n", "has the option None"),
        ("        - No Redis\n", "        - 6\n", "an option that is no text"),
        ("required: true", "required: 'yes'", "has other validations"),
        ("    validations:", "    validation:", "has the key validation,"),
        ("body:", "body: []\nold:", "has no body"),
        ("name: Something went wrong", "name: [", "is no YAML"),
    ],
)
def test_a_form_that_github_does_not_show_is_found(old, new, problem):
    text = read(GITHUB / "ISSUE_TEMPLATE/bug.yml")
    assert old in text
    assert any(problem in each for each in github_files.problems_of_form(text.replace(old, new, 1)))


def test_a_form_that_asks_nothing_is_found():
    text = "name: x\ndescription: x\nbody: [{type: markdown, attributes: {value: x}}]"
    assert github_files.problems_of_form(text) == ["asks nothing"]
    assert github_files.problems_of_form("[]") == ["is no mapping"]


def test_a_pull_request_is_asked_for_its_reason_and_its_test():
    text = read(GITHUB / "pull_request_template.md")
    assert text.startswith("<!-- What changes")
    assert len(re.findall(r"^- \[ \] ", text, re.MULTILINE)) == 4


# Dependabot.


def test_dependabot_looks_at_every_folder_that_uses_an_action():
    used = github_files.folders_that_use(YAML)
    assert {"/.github/workflows", "/workflow-templates"} <= used
    assert github_files.problems_of_dependabot(read(GITHUB / "dependabot.yml"), used) == []


def test_an_action_that_used_another_would_be_looked_at():
    folders = {"/" if each == "." else f"/{each}" for each in action_files.FOLDERS}
    assert github_files.problems_of_dependabot(read(GITHUB / "dependabot.yml"), folders) == []


def test_dependabot_looks_at_every_lock():
    updates = yaml.safe_load(read(GITHUB / "dependabot.yml"))["updates"]
    (pip,) = (update for update in updates if update["package-ecosystem"] == "pip")
    locks = [*ROOT.glob("requirements/*.txt"), *ROOT.glob("examples/server/**/requirements.txt")]
    assert set(pip["directories"]) == {f"/{lock.parent.relative_to(ROOT).as_posix()}" for lock in locks}


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("/workflow-templates", "/templates", "there is no /templates"),
        ("/workflow-templates", "/tests/actions", "/workflow-templates says `uses:` and is not looked at"),
        ("/tests/actions/workflows", "/actions", "/tests/actions/workflows says `uses:` and is not looked at"),
        ("[/, ", "[", "/.github/workflows says `uses:` and is not looked at"),
        ("cooldown: { default-days: 7 }", "cooldown: { default-days: 1 }", "younger than a week"),
        ("    cooldown: { default-days: 7 }\n", "", "younger than a week"),
        ("schedule: { interval: weekly }", "schedule: { interval: often }", "has no schedule"),
        ("directory: /examples/server\n", "directory: examples/server\n", "does not begin at the root"),
        ("version: 2", "version: 1", "is not version 2"),
    ],
)
def test_what_dependabot_would_not_see_is_found(old, new, problem):
    text = read(GITHUB / "dependabot.yml")
    assert old in text
    used = github_files.folders_that_use(YAML)
    assert any(problem in each for each in github_files.problems_of_dependabot(text.replace(old, new, 1), used))


# The workflows of this repository.


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_a_workflow_calls_what_there_is(path):
    assert github_files.problems_of_self_references(read(path)) == []


@pytest.mark.parametrize(
    ("name", "old", "new", "problem"),
    [
        (
            "self-test",
            "uses: $/actions/rollback",
            "uses: $/actions/roll-back",
            "there is no action $/actions/roll-back",
        ),
        ("self-test", "uses: $/actions/rollback", "uses: $/actions/rollback/", "there is no action"),
        ("self-test", "from-version:", "from:", "$/actions/rollback has no input from"),
        ("self-test", "          reason: Clicks fell by a tenth\n", "", "$/actions/rollback needs reason"),
        ("self-test", 'threshold: "0.60"', 'treshold: "0.60"', "has no input treshold"),
        ("ci", "$/.github/workflows/self-test.yml", "$/.github/workflows/test.yml", "there is no workflow"),
        ("ci", "$/.github/workflows/self-test.yml", "$/.github/workflows/release.yml", "cannot be called"),
        (
            "release",
            "      contents: read # what the jobs of CI ask for",
            "      actions: read # x",
            "needs contents: read",
        ),
    ],
)
def test_a_call_of_what_there_is_not_is_found(name, old, new, problem):
    text = read(GITHUB / "workflows" / f"{name}.yml")
    assert old in text
    assert any(problem in each for each in github_files.problems_of_self_references(text.replace(old, new, 1)))


def test_the_self_test_calls_every_action_that_writes():
    steps = workflow("self-test")["jobs"]["self-test"]["steps"]
    called = {step["uses"].removeprefix("$/") or "." for step in steps if step.get("uses", "").startswith("$/")}
    assert called == set(action_files.FOLDERS) - {"actions/history"}


def test_ci_runs_each_python_that_the_project_supports_and_both_kinds_of_servers():
    matrix = workflow("ci")["jobs"]["test"]["strategy"]["matrix"]["include"]
    assert [row["python"] for row in matrix] == ["3.10", "3.11", "3.12", "3.13"]
    lowest = tomllib.loads(read(ROOT / "pyproject.toml"))["project"]["requires-python"].removeprefix(">=")
    assert matrix[0]["python"] == lowest
    assert {row["stack"] for row in matrix} == {"containers", "wheels"}


def test_service_containers_are_those_of_a_digest():
    rows = workflow("self-test")["jobs"]["self-test"]["strategy"]["matrix"]["include"]
    images = [row[name] for row in rows for name in ("postgres", "redis") if row[name]]
    assert len(images) == 2
    assert all(re.fullmatch(r"[a-z]+:[\w.-]+@sha256:[0-9a-f]{64}", image) for image in images)


def test_a_release_waits_for_all_of_ci_and_for_reviewers():
    jobs = workflow("release")["jobs"]
    assert jobs["validate"]["uses"] == "$/.github/workflows/ci.yml"
    assert jobs["publish"]["environment"] == "release"
    assert set(jobs["publish"]["needs"]) == {"draft", "validate"}
    assert jobs["move-major"]["needs"] == "publish"
    # Nothing runs whatever the jobs before it said.
    assert [name for name, job in jobs.items() if "if" in job or "continue-on-error" in job] == []
    # Where something is written, nothing runs but the checkout and the script of the release.
    writing = {name: job for name, job in jobs.items() if "write" in job["permissions"].values()}
    assert set(writing) == {"draft", "publish", "move-major"}
    for job in writing.values():
        checkout, step = job["steps"]
        assert checkout["uses"].startswith("actions/checkout@")
        assert checkout["with"] == {"persist-credentials": False}
        assert step["run"].startswith("python3 .github/scripts/release.py ")


def test_ci_is_what_a_release_runs():
    on = workflow("ci")["on"]
    assert set(on) == {"push", "pull_request", "workflow_call"}
    assert workflow("ci")["jobs"]["self-test"]["uses"] == "$/.github/workflows/self-test.yml"


# What people read.


@pytest.mark.parametrize("name", ["SECURITY.md", "CONTRIBUTING.md"])
def test_links_and_files_named_in_it_exist(name):
    text = read(ROOT / name)
    links = re.findall(r"\]\((?!https://)([^)#]+)", text)
    named = re.findall(r"(?<![\w./-])((?:\./)?(?:\.ci|scripts|tests|requirements|docs)/[\w./-]*\w)", text)
    named += re.findall(r"`([\w-]+\.(?:py|toml|md))`", text)
    inside = {path.name for path in (ROOT / "scripts/champion_gate").iterdir()}
    assert [each for each in links if not (ROOT / each).exists()] == []
    assert [each for each in named if not (ROOT / each).exists() and each not in inside] == []


def test_contributing_fits_on_one_screen():
    assert len(read(ROOT / "CONTRIBUTING.md").splitlines()) <= 50


def test_a_release_is_described_as_it_is_made():
    text = read(ROOT / "CONTRIBUTING.md")
    for word in ("environment `release`", "required reviewers", "immutable releases", "`All of CI`"):
        assert word in text
    assert workflow("ci")["jobs"]["gate"]["name"] == "All of CI"


def test_an_action_on_the_marketplace_has_a_face():
    faces = [tuple(action_files.read(folder).document["branding"].values()) for folder in action_files.FOLDERS]
    assert len(set(faces)) == len(faces)
    # The icons of Feather 4.28 that these actions use; GitHub knows all of them but coffee, columns and the brands'.
    assert {icon for icon, _ in faces} <= {"award", "check-circle", "clock", "rotate-ccw", "upload-cloud"}
