"""What GitHub reads of this repository beside its actions: workflows, issue forms, Dependabot's settings, pages."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from champion_gate import errors
from tests.actions import action_files
from tests.actions.runner import document

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
FORMS = sorted(set((GITHUB / "ISSUE_TEMPLATE").glob("*.yml")) - {GITHUB / "ISSUE_TEMPLATE/config.yml"})
WORKFLOWS = {path.stem: path.read_text(encoding="utf-8") for path in sorted((GITHUB / "workflows").glob("*.yml"))}
OURS = "champion-gate/champion-gate"


def tracked() -> list[str]:
    """The files of this repository, new ones included."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [path for path in listed if (ROOT / path).is_file()]


def text(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


# -- issue forms


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_an_issue_form_can_be_shown(path):
    form = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert set(form) == {"name", "description", "labels", "body"}
    assert all(isinstance(form[key], str) for key in ("name", "description"))
    fields = [field for field in form["body"] if field["type"] != "markdown"]
    identifiers = [field["id"] for field in fields]
    assert len(identifiers) == len(set(identifiers)) > 0
    assert all(re.fullmatch(r"[a-z][a-z-]*", identifier) for identifier in identifiers)
    for field in fields:
        assert set(field) == {"type", "id", "attributes", "validations"}
        assert field["type"] in {"textarea", "input", "dropdown"}
        assert set(field["attributes"]) <= {"label", "description", "placeholder", "options", "render"}
        assert field["attributes"]["label"]
        assert isinstance(field["validations"]["required"], bool)
        if field["type"] == "dropdown":
            options = field["attributes"]["options"]
            assert len(options) == len(set(options))
            # GitHub takes these words for an answer of its own.
            assert all(isinstance(option, str) and option.lower() != "none" for option in options)
    assert any(field["validations"]["required"] for field in fields)


def test_there_is_a_form_for_each_kind_of_issue_and_each_has_its_name():
    assert [path.stem for path in FORMS] == ["bug", "idea", "verdict"]
    names = [yaml.safe_load(path.read_text(encoding="utf-8"))["name"] for path in FORMS]
    assert len(set(names)) == len(names)


def test_the_bug_form_knows_every_action_and_every_exit_code():
    fields = {field.get("id"): field for field in yaml.safe_load(text(".github/ISSUE_TEMPLATE/bug.yml"))["body"]}
    actions = {folder.removeprefix("actions/") for folder in action_files.FOLDERS if folder != "."}
    assert actions < set(fields["action"]["attributes"]["options"])
    codes = {value for name, value in vars(errors).items() if name.startswith("EXIT_")}
    asked = {option.split(":")[0] for option in fields["exit-code"]["attributes"]["options"]}
    assert {str(code) for code in codes} | {"0", "130 or 143"} <= asked


def test_issues_are_written_in_forms_and_vulnerabilities_are_not():
    config = yaml.safe_load(text(".github/ISSUE_TEMPLATE/config.yml"))
    assert set(config) == {"blank_issues_enabled", "contact_links"}
    assert config["blank_issues_enabled"] is False
    links = {link["url"].removeprefix(f"https://github.com/{OURS}") for link in config["contact_links"]}
    assert links == {"/security/advisories/new", "#troubleshooting"}
    assert all(set(link) == {"name", "url", "about"} for link in config["contact_links"])
    assert "\n## Troubleshooting\n" in text("README.md")


# -- pages


@pytest.mark.parametrize("page", ["SECURITY.md", "CONTRIBUTING.md", ".github/pull_request_template.md"])
def test_a_page_leads_to_what_is_there(page):
    named = re.findall(r"\]\((?!https?:)([^)#]+)", text(page))
    named += re.findall(r"`([\w./-]+/[\w.-]+|[\w-]+\.(?:md|toml|yml))`", text(page))
    named = [name for name in named if not name.startswith(("-", "tests.")) and not re.search(r"\s", name)]
    assert [
        name for name in named if not (ROOT / name).exists() and not (ROOT / "scripts/champion_gate" / name).exists()
    ] == []


def test_contributing_fits_on_a_screen_and_its_commands_are_there():
    page = text("CONTRIBUTING.md")
    assert len(page.splitlines()) <= 45
    commands = re.findall(r"^(scripts/\w+|requirements/\w+)", page, re.MULTILINE)
    assert set(commands) == {"scripts/test", "scripts/run"}
    assert f"## [{'1.2.3'}] - " in page  # the heading that the release script asks for
    assert "All of CI" in document(WORKFLOWS["ci"])["jobs"]["gate"]["name"]


# -- Dependabot


@pytest.fixture(scope="module")
def updates() -> dict[str, dict[str, Any]]:
    """What Dependabot looks after, by ecosystem."""
    settings = yaml.safe_load(text(".github/dependabot.yml"))
    assert set(settings) == {"version", "updates"}
    assert settings["version"] == 2
    found = {update["package-ecosystem"]: update for update in settings["updates"]}
    assert len(found) == len(settings["updates"])
    return found


def folders(update: dict[str, Any]) -> set[str]:
    """The folders of an entry, without the leading slash; patterns as GitHub reads them."""
    patterns = update.get("directories") or [update["directory"]]
    found = set()
    for pattern in patterns:
        assert pattern.startswith("/")
        named = [path for path in ([ROOT] if pattern == "/" else ROOT.glob(pattern[1:])) if path.is_dir()]
        assert named, f"Dependabot would stop: there is no folder {pattern}"
        found |= {path.relative_to(ROOT).as_posix() for path in named}
    return found


def test_every_entry_waits_before_it_takes_a_new_release(updates):
    assert {update["cooldown"]["default-days"] for update in updates.values()} == {14}
    # What GitHub refuses for the ecosystems without semantic versions.
    assert all(set(update["cooldown"]) == {"default-days"} for update in updates.values())


def test_dependabot_looks_into_every_folder_that_uses_an_action(updates):
    covered = folders(updates["github-actions"])
    covered |= {".github/workflows"} if "." in covered else set()
    workflows = [path for path in tracked() if path.endswith((".yml", ".yaml"))]
    uses = re.compile(r"^\s*(- )?uses: [\w-]+/", re.MULTILINE)
    using = {Path(path).parent.as_posix() for path in workflows if uses.search(text(path))}
    assert using
    assert using <= covered
    holding = {Path(path).parent.as_posix() for path in tracked() if Path(path).name in {"action.yml", "action.yaml"}}
    assert holding <= covered


@pytest.mark.parametrize(
    ("ecosystem", "pattern"),
    [
        ("pip", r"(.*/)?requirements(/\w+)?\.txt"),
        # What is below tests/docker makes or changes images of the other files, and names none of its own.
        ("docker", r"(?!tests/docker/)(.*/)?Dockerfile"),
        ("docker-compose", r"(?!tests/docker/)(.*/)?compose\.ya?ml"),
    ],
)
def test_dependabot_looks_into_every_folder_with_locks_or_images(updates, ecosystem, pattern):
    holding = {Path(path).parent.as_posix() for path in tracked() if re.fullmatch(pattern, path)}
    assert holding
    assert folders(updates[ecosystem]) == holding


def test_what_is_below_tests_docker_names_no_image_of_others():
    for path in tracked():
        if path.startswith("tests/docker/"):
            assert not re.search(r"^\s*image:", text(path), re.MULTILINE) or path.endswith("local-images")
            assert re.findall(r"^FROM (?!champion-gate/)(\S+)", text(path), re.MULTILINE) == []


def test_the_locks_are_left_to_their_compiler_but_for_security_updates(updates):
    assert updates["pip"]["open-pull-requests-limit"] == 0
    assert {name for name, update in updates.items() if "open-pull-requests-limit" in update} == {"pip"}


def test_zizmor_finds_nothing_in_its_settings():
    command = [Path(sys.executable).parent / "zizmor", "--offline", "--no-progress", "--persona=pedantic"]
    ran = subprocess.run([*command, GITHUB / "dependabot.yml"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_an_action_of_others_has_one_commit_everywhere():
    used: dict[str, set[str]] = {}
    for path in tracked():
        if path.endswith((".yml", ".yaml", ".md")):
            for action, pin in re.findall(r"uses: ([\w-]+/[\w./-]+)@([0-9a-f]{40} # v[\d.]+)", text(path)):
                used.setdefault(action, set()).add(pin)
    assert "actions/checkout" in used
    assert {action: pins for action, pins in used.items() if len(pins) > 1} == {}


# -- workflows


def jobs() -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (name, job, body) for name, workflow in WORKFLOWS.items() for job, body in document(workflow)["jobs"].items()
    ]


@pytest.mark.parametrize("name", WORKFLOWS)
def test_a_workflow_grants_nothing_that_it_does_not_explain(name):
    workflow = document(WORKFLOWS[name])
    assert workflow["permissions"] == {}
    for body in workflow["jobs"].values():
        assert "permissions" in body
        assert "uses" in body or body["timeout-minutes"] <= 90
    granted = re.findall(r"^ {6}[a-z-]+: (?:read|write)\b(.*)", WORKFLOWS[name], re.MULTILINE)
    assert [reason for reason in granted if not re.match(r" # \w", reason)] == []


def test_no_expression_is_pasted_into_a_command():
    for _, _, body in jobs():
        assert [step["run"] for step in body.get("steps", []) if "${{" in step.get("run", "")] == []


def test_only_the_jobs_of_a_release_may_write_and_they_run_nothing_but_its_script():
    writing = {
        (name, job) for name, job, body in jobs() if "write" in body["permissions"].values() and "uses" not in body
    }
    assert writing == {("release", job) for job in ("draft", "publish", "move-major")}
    for name, job, body in jobs():
        if (name, job) in writing:
            assert [step.get("uses", "").split("@")[0] or step["run"] for step in body["steps"]] == [
                "actions/checkout",
                f'python3 .github/scripts/release.py {job} "$VERSION"',
            ]


def test_nothing_is_published_before_ci_has_passed_and_a_reviewer_was_asked():
    release = document(WORKFLOWS["release"])
    assert set(release["on"]) == {"workflow_dispatch"}
    assert release["concurrency"]["cancel-in-progress"] is False
    stages = release["jobs"]
    assert stages["draft"]["needs"] == stages["validate"]["needs"] == "check"
    assert stages["validate"]["uses"] == "$/.github/workflows/ci.yml"
    assert set(stages["publish"]["needs"]) == {"draft", "validate"}
    assert stages["publish"]["environment"] == "release"
    assert stages["move-major"]["needs"] == "publish"
    assert not any("if" in stage or stage.get("continue-on-error") for stage in stages.values())
    # In a group of its own: CI is called by the release, and cancels what is in its group.
    assert release["concurrency"]["group"] != document(WORKFLOWS["ci"])["concurrency"]["group"]


def test_ci_calls_the_self_test_and_runs_every_python_that_the_project_supports():
    ci = document(WORKFLOWS["ci"])
    assert ci["jobs"]["self-test"]["uses"] == "$/.github/workflows/self-test.yml"
    matrix = ci["jobs"]["test"]["strategy"]["matrix"]["include"]
    assert [entry["python"] for entry in matrix] == ["3.10", "3.11", "3.12", "3.13"]
    assert {entry["stack"] for entry in matrix} == {"wheels", "containers"}


def test_what_a_workflow_uses_of_this_repository_is_there_and_is_given_what_it_has():
    # In actionlint's place, which does not know `$/` yet.
    seen = set()
    for name, job, body in jobs():
        for step in [body, *body.get("steps", [])]:
            uses = step.get("uses", "")
            assert uses != "$/", "the runner wants a folder behind it"
            if not uses.startswith(("$/", "./")):
                continue
            target = uses[2:] or "."
            seen.add(target)
            if target.endswith(".yml"):
                called = document(text(target))["on"]["workflow_call"] or {}
                assert set(step.get("with", {})) <= set(called.get("inputs", {}))
                continue
            action = action_files.read(target)
            given = set(step.get("with", {}))
            assert given <= set(action.inputs), f"{name}, {job}: {uses}"
            assert given >= {key for key, spec in action.inputs.items() if spec.get("required")}
            outputs = re.findall(rf"steps\.{step['id']}\.outputs\.([\w-]+)", WORKFLOWS[name])
            assert set(outputs) <= set(action.outputs), f"{name}, {job}: {uses}"
    assert seen >= {".", "actions/train-and-register", "actions/validate-model", "actions/promote-alias"}
    assert "actions/rollback" in seen


def test_the_self_test_reads_no_step_that_is_not_there():
    text_of = WORKFLOWS["self-test"]
    (job,) = document(text_of)["jobs"].values()
    named = {step["id"] for step in job["steps"] if "id" in step}
    assert set(re.findall(r"steps\.([\w-]+)\.", text_of)) <= named
    checks = [step for step in job["steps"] if ".github/scripts/expect" in step.get("run", "")]
    # An expectation that does not name a step's outcome or the registry's state would expect nothing.
    assert len(checks) == 5
    assert all("steps." in str(step["env"]) and "aliases.py" in step["run"] for step in checks)
    assert {step["id"] for step in job["steps"] if step.get("continue-on-error")} == {"worse", "again"}


def test_the_self_test_has_the_services_on_linux_only():
    (job,) = document(WORKFLOWS["self-test"])["jobs"].values()
    linux, macos = job["strategy"]["matrix"]["include"]
    assert [bool(linux[service]) for service in job["services"]] == [True, True]
    assert [macos[service] for service in job["services"]] == ["", ""]
    assert all(re.search(r":\d+\.\d+[\w.-]*@sha256:[0-9a-f]{64}$", linux[service]) for service in job["services"])


def test_the_type_checker_finds_nothing_in_the_release_script():
    mypy = Path(sys.executable).parent / "mypy"
    command = [mypy, "--strict", "--python-version", "3.12", ".github/scripts/release.py"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout
