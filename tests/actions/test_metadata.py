"""The action.yml files say what the scripts do: every input, every output, every default."""

from __future__ import annotations

import importlib
import re
from typing import Any

import click
import pytest

from tests.actions import action_files, readme_tables
from tests.actions.action_files import FOLDERS, ROOT, ActionFile

# Options that no workflow can have a use for, by command ("*" for all).
NO_INPUT = {
    ("*", "json"): "outputs reach a workflow by GITHUB_OUTPUT",
    ("*", "help"): "docs/reference.md has the same text",
}
# Arguments are not options; the one there is has an input that does the same.
NO_ARGUMENT = {
    "train-and-register": {"argv": "the input `command`"},
    "release": {"argv": "the input `command`"},
}


@pytest.fixture(params=FOLDERS)
def action(request) -> ActionFile:
    return action_files.read(request.param)


def script(action: ActionFile) -> Any:
    return importlib.import_module(action.script)


def options(action: ActionFile) -> dict[str, click.Option]:
    """The script's options by each of their long names, without the dashes and the `--no-` of a switch."""
    main = script(action).main
    assert isinstance(main, click.Command)
    found = {}
    for param in main.get_params(click.Context(main)):
        if isinstance(param, click.Option):
            found |= {name[2:]: param for name in param.opts if name.startswith("--")}
    return {name: param for name, param in found.items() if ("*", name) not in NO_INPUT}


def test_every_folder_with_an_action_is_looked_at():
    found = {
        path.parent.relative_to(ROOT).as_posix() for path in [ROOT / "action.yml", *ROOT.glob("actions/*/action.yml")]
    }
    assert found == set(FOLDERS)


def test_every_input_is_mapped_and_nothing_else_is(action):
    expected = {
        f"CHAMPION_GATE_{name.upper().replace('-', '_')}": f"${{{{ inputs.{name} }}}}" for name in action.inputs
    }
    assert action.steps[0]["env"] == expected


def test_it_is_one_step_that_executes_one_command(action):
    assert action.document["runs"]["using"] == "composite"
    (step,) = action.steps
    assert step["shell"] == "bash"
    # "../.." leads out of actions/<name>; `./` would mean the caller's workspace.
    way = "" if action.folder == "." else "/../.."
    folder = "release" if action.folder == "." else action.folder.removeprefix("actions/")
    assert step["run"] == f'exec "$GITHUB_ACTION_PATH{way}/scripts/run" {folder}'
    assert set(step) == {"id", "name", "shell", "run", "env"}


def test_no_expression_is_pasted_into_a_command(action):
    assert all("${{" not in step["run"] for step in action.steps)


def test_every_output_is_taken_from_the_step(action):
    (step,) = action.steps
    for name, output in action.outputs.items():
        assert output["value"] == f"${{{{ steps.{step['id']}.outputs.{name} }}}}"
        assert output["description"].endswith(".")


def test_it_can_be_listed(action):
    document = action.document
    assert set(document) == {"name", "description", "author", "branding", "inputs", "outputs", "runs"}
    assert set(document["branding"]) == {"icon", "color"}
    assert document["branding"]["color"] in {"white", "black", "yellow", "blue", "green", "orange", "red", "purple"}
    # The Marketplace refuses longer ones for the root action.
    assert action.folder != "." or len(document["description"]) <= 125


def test_an_input_says_what_leaving_it_empty_means(action):
    for name, spec in action.inputs.items():
        text = spec["description"]
        ends = (
            re.search(r" Default: `[^`]+`\.$", text),
            re.search(r" Empty: [^.]+\.$", text),
            re.search(r" Required(, here or [^.]+| with `command`)?\.$", text),
        )
        assert sum(map(bool, ends)) == 1, name
        # The scripts hold the defaults; an empty string means "not given". A token only the runner can give.
        assert set(spec) <= {"description", "required"} | ({"default"} if name == "github-token" else set()), name
        assert spec.get("required", False) is text.endswith(" Required."), name


def test_every_option_of_the_script_has_an_input(action):
    missing = set(options(action)) - set(action.inputs)
    assert not missing


def test_every_input_is_an_option_of_the_script(action):
    assert not set(action.inputs) - set(options(action))


def test_every_argument_of_the_script_has_a_reason_to_be_no_input(action):
    main = script(action).main
    arguments = {param.name for param in main.params if isinstance(param, click.Argument)}
    assert arguments == set(NO_ARGUMENT.get(action.command, {})) & arguments


def test_the_default_that_a_description_names_is_the_script_s(action):
    for name, option in options(action).items():
        said = action_files.said_default(action.inputs[name]["description"])
        default = option.to_info_dict()["default"]
        if isinstance(default, bool):
            assert said == str(default).lower(), name
        elif default is None or default in ((), ""):
            assert said is None, name
        elif f"--{name}" == option.opts[0]:
            assert said is not None, name
            number = isinstance(default, (int, float))
            assert (float(said) if number else said) == default, name


def test_what_the_script_requires_is_said_to_be_required(action):
    for name, option in options(action).items():
        if option.required and f"--{name}" == option.opts[0]:
            assert " Required" in action.inputs[name]["description"], name


def test_the_outputs_are_those_that_the_script_declares(action):
    assert tuple(action.outputs) == tuple(script(action).OUTPUTS)


def test_an_input_that_means_the_same_everywhere_reads_the_same_everywhere():
    said: dict[str, set[str]] = {}
    for folder in FOLDERS:
        for name, spec in action_files.read(folder).inputs.items():
            said.setdefault(name, set()).add(spec["description"])
    for name in (
        "registry-timeout",
        "debug",
        "max-regression",
        "threshold-ndcg",
        "allow-different-data",
        "dry-run",
        "tag",
    ):
        assert len(said[name]) == 1, name


@pytest.mark.parametrize("folder", FOLDERS)
@pytest.mark.parametrize("kind", ["inputs", "outputs"])
def test_the_reference_has_a_table_for_every_action(folder, kind):
    assert (folder, kind) in readme_tables.marked(readme_tables.REFERENCE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", readme_tables.generated(), ids=lambda path: path.name)
def test_what_is_generated_is_current(path):
    assert path.read_text(encoding="utf-8") == readme_tables.generated()[path], f"run {readme_tables.COMMAND}"
