"""Options as the actions give them: by variables, with two names, one a line, empty for not given."""

import importlib

import pytest
from click.testing import CliRunner

from champion_gate import cli
from champion_gate.cli import SECONDS, Result, command, option
from champion_gate.errors import Cancelled, OutsideWorldFailed, Refused

SEEN = {}


@command("try-it")
@option("--model-name", "--register-model", required=True)
@option("--tag", multiple=True)
@option("--threshold", "--threshold-ndcg", type=float)
@option("--timeout", type=SECONDS)
@option("--metric", default="ndcg")
@option("--dry-run", is_flag=True)
@option("--promote/--no-promote", default=True)
def try_it(**given):
    """Remember what was given."""
    SEEN.clear()
    SEEN.update(given)
    if given["metric"] == "refused":
        raise Refused("It is refused.", "So it is.", "Do better.")
    if given["metric"] == "silent":
        raise OutsideWorldFailed("Nobody answers.")
    if given["metric"] == "defect":
        raise KeyError("oh")
    if given["metric"] == "cancelled":
        raise Cancelled(15)
    return Result({"version": "3"}, "# done", "done")


@pytest.fixture
def run(monkeypatch):
    for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cli.signals, "take", lambda: None)

    def invoke(*args, **variables):
        SEEN.clear()
        return CliRunner().invoke(try_it, list(args), env={f"CHAMPION_GATE_{k}": v for k, v in variables.items()})

    return invoke


def test_inputs_come_from_variables_and_the_command_line_wins(run):
    assert run(MODEL_NAME="ranker", METRIC="mrr", DRY_RUN="true").exit_code == 0
    assert (SEEN["model_name"], SEEN["metric"], SEEN["dry_run"]) == ("ranker", "mrr", True)
    run("--metric", "map", MODEL_NAME="ranker", METRIC="mrr")
    assert SEEN["metric"] == "map"


def test_an_empty_variable_or_argument_is_not_given(run):
    run("--model-name", "r", "--threshold", "", METRIC="", DRY_RUN="", PROMOTE="", TIMEOUT="")
    assert SEEN["metric"] == "ndcg"
    assert SEEN["threshold"] is None
    assert SEEN["dry_run"] is False
    assert SEEN["promote"] is True
    assert SEEN["timeout"] is None


def test_a_required_input_that_is_empty_is_named(run):
    for result in (run(), run(MODEL_NAME=""), run("--model-name", ""), run("--model-name", " "), run(MODEL_NAME="  ")):
        assert result.exit_code == 2
        assert "'model-name'" in result.output
        assert "--model-name" in result.output


def test_either_name_of_an_option_will_do(run):
    run(REGISTER_MODEL="a")
    assert SEEN["model_name"] == "a"
    run("--register-model", "b")
    assert SEEN["model_name"] == "b"
    run("--model-name", "c", "--threshold-ndcg", "0.5")
    assert SEEN["threshold"] == 0.5
    run(MODEL_NAME="same", REGISTER_MODEL="same")
    assert SEEN["model_name"] == "same"


def test_two_different_values_for_one_option_are_refused(run):
    for result in (
        run("--model-name", "a", "--register-model", "b"),
        run(MODEL_NAME="a", REGISTER_MODEL="b"),
        run("--model-name", "a", "--threshold", "0.1", "--threshold-ndcg", "0.2"),
    ):
        assert result.exit_code == 2
        assert "two different values" in result.output
    assert not SEEN


def test_a_repeatable_input_has_one_value_a_line(run):
    run(MODEL_NAME="r", TAG="a=1 2\n\n  b=x=y \r\n")
    assert SEEN["tag"] == ("a=1 2", "b=x=y")
    run("--model-name", "r", "--tag", "a=1", "--tag", "", "--tag", "b=2\n3")
    assert SEEN["tag"] == ("a=1", "b=2\n3")


@pytest.mark.parametrize("value", ["-1", "0", "nan", "inf", "soon"])
def test_a_wrong_value_names_the_input(run, value):
    result = run(MODEL_NAME="r", TIMEOUT=value)
    assert result.exit_code == 2
    assert "timeout" in result.output


def test_a_boolean_is_true_or_false(run):
    run(MODEL_NAME="r", PROMOTE="false", DRY_RUN="False")
    assert (SEEN["promote"], SEEN["dry_run"]) == (False, False)
    result = run(MODEL_NAME="r", DRY_RUN="perhaps")
    assert result.exit_code == 2
    assert "dry-run" in result.output


def test_an_unknown_input_is_named_with_the_nearest_one(run):
    result = run(MODEL_NAME="r", TRESHOLD="0.9")
    assert result.exit_code == 2
    assert "'treshold'" in result.output
    assert "'threshold'" in result.output
    assert run("--model-name", "r", "--treshold", "1").exit_code == 2


def test_an_input_of_another_command_may_stand_in_the_environment(run):
    assert run(MODEL_NAME="r", TO_VERSION="3").exit_code == 0


@pytest.mark.parametrize(("metric", "code"), [("refused", 1), ("silent", 3), ("defect", 3), ("cancelled", 143)])
def test_errors_are_sentences_with_an_exit_code(run, metric, code):
    result = run("--model-name", "r", "--metric", metric)
    assert result.exit_code == code
    assert "Traceback" not in result.output


def test_debug_shows_where_an_error_came_from(run):
    result = run("--model-name", "r", "--metric", "defect", "--debug")
    assert "Traceback" in result.output
    assert "KeyError" in result.output


def test_an_error_says_what_why_and_what_to_do(run):
    result = run("--model-name", "r", "--metric", "refused")
    assert "It is refused. So it is. Do better." in result.output


def test_json_prints_the_outputs_and_nothing_else(run):
    result = run("--model-name", "r", "--json")
    assert result.stdout.strip() == '{\n  "version": "3"\n}'


def test_on_github_outputs_and_summary_are_files(run, monkeypatch, tmp_path):
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "o"))
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "s"))
    assert run("--model-name", "r").exit_code == 0
    assert "3" in (tmp_path / "o").read_text()
    assert "# done" in (tmp_path / "s").read_text()


def test_the_known_inputs_are_those_of_the_commands():
    names = ("history", "promote_alias", "release", "rollback", "train_and_register", "validate_model")
    options = [p for name in names for p in importlib.import_module(name).main.params if isinstance(p, cli.GateOption)]
    assert {name for each in options for name in each.inputs} - {"no-promote"} == cli.INPUTS
