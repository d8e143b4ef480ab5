"""The workflow templates: GitHub can show them, they keep the rules, and each check of that would find its fault."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.actions import templates
from tests.actions.templates import FOLDER, Template

NAMES = [
    *("model-check", "monthly-operations", "promote-model", "rollback-model", "train-and-register"),
    "weekly-operations",
]


def test_these_templates_are_there_and_nothing_else_is_beside_them():
    assert templates.names() == NAMES
    suffixes = (".yml", ".properties.json", ".svg")
    assert {path.name for path in FOLDER.iterdir()} == {name + suffix for name in NAMES for suffix in suffixes}


def test_github_can_show_them():
    assert templates.problems_as_shown() == []


@pytest.mark.parametrize("name", NAMES)
def test_a_template_keeps_the_rules(name):
    assert templates.problems_as_run(templates.read(name)) == []


@pytest.fixture
def copy(tmp_path) -> Path:
    """The templates, to break them."""
    return Path(shutil.copytree(FOLDER, tmp_path / "workflow-templates"))


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("name", " ", "name is required"),
        ("name", None, "name is required"),
        ("name", "Champion Gate: model check", "has the name of model-check"),
        ("description", None, "description is required"),
        ("icon", "rocket", "GitHub knows no icon"),
        ("iconName", "rocket", "there is no icon rocket.svg"),
        ("iconName", "rollback-model.svg", "there is no icon rollback-model.svg.svg"),
        ("categories", [], "the first of the categories"),
        ("categories", ["Python", "Deployment"], "the first of the categories"),
        ("categories", "Deployment", "categories is no list"),
        ("categories", None, "categories is no list"),
        ("filePatterns", ["("], "is no regular expression"),
        ("filePatterns", [7], "is no regular expression"),
    ],
)
def test_properties_that_github_does_not_read_are_found(copy, key, value, problem):
    file = copy / "rollback-model.properties.json"
    properties = json.loads(file.read_text())
    properties[key] = value
    file.write_text(json.dumps({name: each for name, each in properties.items() if each is not None}))
    assert any("rollback-model" in each and problem in each for each in templates.problems_as_shown(copy))


@pytest.mark.parametrize(
    ("file", "text", "problem"),
    [
        ("rollback-model.properties.json", None, "rollback-model.yml has no properties"),
        ("rollback-model.yml", None, "rollback-model.properties.json has no workflow"),
        ("rollback-model.svg", None, "there is no icon rollback-model.svg"),
        ("other.svg", "<svg/>", "other.svg is no template's icon"),
        ("rollback-model.properties.json", "{", "no JSON"),
        ("rollback-model.properties.json", "[]", "no JSON object"),
        ("rollback-model.svg", "<svg", "is no SVG"),
        ("rollback-model.svg", '<svg viewBox="0 0 1 1"/>', "is no SVG with a viewBox"),
        ("rollback-model.svg", '<svg xmlns="http://www.w3.org/2000/svg"/>', "is no SVG with a viewBox"),
        (
            "rollback-model.svg",
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1"><script/></svg>',
            "does more than draw",
        ),
        (
            "rollback-model.svg",
            '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 1 1" onload="x()"/>',
            "does more than draw",
        ),
    ],
)
def test_files_that_do_not_belong_together_are_found(copy, file, text, problem):
    if text is None:
        (copy / file).unlink()
    else:
        (copy / file).write_text(text)
    assert any(problem in each for each in templates.problems_as_shown(copy))


GATE = "champion-gate/champion-gate/actions/validate-model@v1"
FAULTS = [
    ("train-and-register", "# Trains a model", "\n# Trains a model", "does not begin with what it is for"),
    ("train-and-register", "# Trains a model", "# " + "Trains a model " * 9, "is wide"),
    (
        "weekly-operations",
        "permissions: {} # nothing;",
        "\n" * 120 + "permissions: {} # nothing;",
        "lines are more than",
    ),
    ("train-and-register", "[$default-branch]", "[$main-branch]", "GitHub knows no $main-branch"),
    (
        "train-and-register",
        "permissions: {} # nothing; each job asks",
        "permissions: # x\n  contents: read # to ask",
        "own",
    ),
    (
        "rollback-model",
        "    permissions:\n      actions: read # to read who",
        "    # x",
        "does not say its permissions",
    ),
    (
        "rollback-model",
        "actions: read # to read who approved",
        "actions: read\n      # who",
        "no reason for: actions: read",
    ),
    (
        "weekly-operations",
        "permissions: {} # nothing of this repository is read",
        "permissions: {}",
        "say why it needs none",
    ),
    ("weekly-operations", "concurrency:\n  group: weekly-operations\n  cancel-in-progress: false\n", "", "at once"),
    ("rollback-model", "cancel-in-progress: false", "cancel-in-progress: true", "may be cancelled while it moves"),
    ("promote-model", "promote-${{ inputs.model }}", "promote", "no group of its model"),
    ("train-and-register", GATE, GATE.replace("@v1", "@main"), "not by its major version"),
    ("train-and-register", "@3d3c42e5aac5ba805825da76410c181273ba90b1 # v7.0.1", "@v7 # v7.0.1", "not pinned"),
    ("train-and-register", "threshold: '0.60'", "treshold: '0.60'", "has no input treshold"),
    ("rollback-model", "          reason: ${{ inputs.reason }}\n", "", "actions/rollback needs reason"),
    ("train-and-register", "steps.gate.outputs.version", "steps.gate.outputs.number", "which there is not"),
    ("train-and-register", "steps.promote.outputs.version }}", "steps.gate.outputs.version }}", "which there is not"),
    ("train-and-register", "    needs: gate\n", "    needs: train\n", "takes outputs.version of gate"),
    ("train-and-register", '"model=$MODEL&', '"model=${{ env.MODEL }}&', "pastes an expression"),
    ("model-check", "command: python train.py", "command: python train.py ${{ github.ref }}", "pastes an expression"),
    ("train-and-register", "${{ needs.train.outputs.version }} # a number", "challenger # a number", "no number"),
    ("train-and-register", "evaluation-data: judged", "alias: challenger\n          evaluation-data: judged", "alias"),
    ("train-and-register", "${{ steps.train.outputs.version }}", "${{ steps.train.outputs.model-uri }}", "no number"),
    (
        "train-and-register",
        "data-version: queries",
        "signing-key: ${{ secrets.K }}\n          data-version: q",
        "signing key",
    ),
    ("train-and-register", "          signing-key: ${{ secrets.CHAMPION_GATE_SIGNING_KEY }}\n", "", "does not sign"),
    ("rollback-model", "          redis-url: ${{ secrets.CHAMPION_GATE_REDIS_URL }}\n", "", "without a lock"),
    ("model-check", "MLFLOW_TRACKING_URI: http://127.0.0.1:5000", "TOKEN: ${{ secrets.TOKEN }}", "strangers a secret"),
    ("model-check", "runs-on: ubuntu-latest # never", "runs-on: [self-hosted] # never", "strangers' code"),
    ("weekly-operations", "secrets.", "env.", "cannot log in"),
    ("promote-model", "    environment: production", "    # environment: production", "asks no reviewer"),
    ("promote-model", "steps.promote.outputs.changed == 'true'", "always()", "does not tell serving"),
    ("model-check", "  pull_request:\n", "  pull_request_target:\n", "with the rights of the repository"),
    ("model-check", "actions/validate-model@v1\n", "actions/promote-alias@v1\n", "promotes what nobody has merged"),
    ("model-check", "          alias: none #", "          #", "makes what nobody has merged a challenger"),
    ("train-and-register", "role-to-assume: ${{", "aws-access-key-id: ${{", "something else than a role"),
    ("train-and-register", " && !env.ACT", "", "where it cannot"),
    ("model-check", "AWS_CHECK_ROLE_ARN", "AWS_ROLE_ARN", "a role that is not for it"),
    ("train-and-register", "    environment: gate #", "    #", "holds the key where"),
    ("promote-model", "isolation: sandbox", "isolation: auto", "holds the key where"),
    ("train-and-register", "      id-token: write # to log in to AWS\n", "", "may not ask for the one that it needs"),
    ("rollback-model", "MLFLOW_TRACKING_TOKEN", "AWS_SECRET_ACCESS_KEY", "long-lived keys"),
]


@pytest.mark.parametrize(("name", "old", "new", "problem"), FAULTS)
def test_a_template_that_breaks_a_rule_is_found(name, old, new, problem):
    whole = templates.read(name)
    assert old in whole.text
    found = templates.problems_as_run(Template(name, whole.text.replace(old, new)))
    assert any(problem in each for each in found), found


@pytest.fixture
def filled_in(tmp_path) -> list[Path]:
    """The workflows as GitHub puts them into a repository."""
    files = []
    for name in NAMES:
        files.append(tmp_path / f"{name}.yml")
        files[-1].write_text(templates.read(name).workflow, encoding="utf-8")
    return files


def test_actionlint_finds_nothing(filled_in):
    actionlint = os.environ.get("CHAMPION_GATE_TEST_ACTIONLINT") or shutil.which("actionlint")
    if not actionlint:
        pytest.skip("actionlint is not installed: scripts/test installs it where Go is")
    shellcheck = Path(sys.executable).with_name("shellcheck")
    command = [actionlint, "-shellcheck", shellcheck, "-pyflakes=", *filled_in]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr


def test_zizmor_finds_nothing_but_our_own_tag(filled_in):
    zizmor = Path(sys.executable).with_name("zizmor")
    command = [zizmor, "--offline", "--no-progress", "--no-config", "--persona=pedantic", "--format=json", *filled_in]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert {finding["ident"] for finding in json.loads(found.stdout)} <= {"unpinned-uses"}, found.stdout
    # As this repository is checked: the moving tag is what users are shown, and all else is pinned.
    config = templates.ROOT / ".github" / "zizmor.yml"
    command = [*command[:3], f"--config={config}", "--persona=pedantic", *filled_in]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stdout + found.stderr
