"""history on a real registry: the whole log, or an error; never an empty page that should not be."""

from __future__ import annotations

import json
from datetime import datetime

from tests.support.cli import COMMIT
from tests.support.steps import history, promote, released, rollback, validated

FIELDS = {"time", "kind", "state", "alias", "from", "to", "actor", "commit", "verdict", "reason", "run_id"}


def test_json_is_a_list_of_objects_newest_first(cli, world):
    first = released(cli, world, 0.80)
    second = released(cli, world, 0.82)
    rollback(cli, world, reason="clicks fell")
    rows = history(cli, world).json()
    assert [(row["kind"], row["state"], row["from"], row["to"]) for row in rows] == [
        ("rollback", "done", second, first),
        ("promotion", "done", first, second),
        ("gate", "done", first, second),
        ("promotion", "done", None, first),
        ("gate", "done", None, first),
    ]
    for row in rows:
        assert set(row) >= FIELDS
        assert (row["alias"], row["actor"], row["commit"]) == ("champion", "ada", COMMIT)
        datetime.fromisoformat(row["time"].replace("Z", "+00:00"))
    assert [row["run_id"] for row in rows] == [run.info.run_id for run in reversed(world.log())]
    assert rows[2]["verdict"] == "passed"
    assert rows[2]["reason"]
    assert rows[0]["reason"] == "clicks fell"


def test_failed_gates_are_in_it(cli, world):
    released(cli, world, 0.80)
    world.version(0.10)
    assert cli("validate-model", "--model-name", world.name).exit_code == 1
    newest = history(cli, world).json()[0]
    assert (newest["kind"], newest["verdict"]) == ("gate", "failed")


def test_table_for_people(cli, world):
    released(cli, world, 0.80)
    released(cli, world, 0.82)
    rollback(cli, world, reason="clicks fell")
    done = cli("history", "--model-name", world.name, github=False)
    assert done.exit_code == 0, done.text
    for word in ("rollback", "promotion", "gate", "champion", "ada", COMMIT[:7], "passed", "clicks fell"):
        assert word in done.stdout


def test_limit_and_alias(cli, world):
    released(cli, world, 0.80)
    number = validated(cli, world, 0.82, "--champion-alias", "champion-eu")
    assert promote(cli, world, "--to-alias", "champion-eu").exit_code == 0
    newest = history(cli, world, "--limit", 1).json()
    assert [(row["kind"], row["alias"]) for row in newest] == [("promotion", "champion-eu")]
    europe = history(cli, world, "--champion-alias", "champion-eu").json()
    assert [(row["kind"], row["to"]) for row in europe] == [("promotion", number), ("gate", number)]
    assert history(cli, world, "--limit", "0").exit_code == 2


def test_never_released_is_an_empty_list(cli, world):
    world.version(0.80)
    done = history(cli, world)
    assert (done.exit_code, done.json()) == (0, [])


def test_model_that_is_not_there_is_bad_input(cli, world):
    done = history(cli, world)
    assert done.exit_code == 2
    assert world.name in done.text


def test_log_that_was_deleted_is_an_error_not_an_empty_history(cli, world, mlflow_client):
    released(cli, world, 0.80)
    validated(cli, world, 0.82)
    mlflow_client.delete_experiment(world.log_experiment)
    before = world.snapshot()
    for done in (
        history(cli, world),
        promote(cli, world),
        rollback(cli, world),
        cli("validate-model", "--model-name", world.name),
    ):
        assert done.exit_code == 3, done.text
        assert "restore" in done.text.lower(), "what to do is said"
        assert not done.outputs.get("verdict")
    assert world.snapshot() == before


def test_log_that_the_model_names_but_that_never_was_is_an_error(cli, world):
    world.version(0.80)
    world.client.set_registered_model_tag(world.name, "gate.release_log", "999999999")
    assert history(cli, world).exit_code == 3
    assert cli("validate-model", "--model-name", world.name, "--threshold", 0.5).exit_code == 3


def test_earlier_model_of_the_same_name_is_shown_as_such_and_counts_for_nothing(cli, world):
    released(cli, world, 0.80)
    released(cli, world, 0.82)
    world.delete_model()
    number = world.version(0.50)
    done = cli("validate-model", "--model-name", world.name)
    assert done.exit_code == 2, "no champion and no threshold: the old releases do not count"
    assert cli("validate-model", "--model-name", world.name, "--threshold", 0.4).exit_code == 0
    assert promote(cli, world).exit_code == 0
    assert rollback(cli, world).exit_code == 2, "the old champions are nothing to go back to"
    assert world.champion == number
    rows = history(cli, world).json()
    assert len(rows) == 6
    old = cli("history", "--model-name", world.name, github=False)
    assert "earlier" in old.stdout


def test_hostile_reason_is_text_in_table_summary_and_json(cli, world, tmp_path):
    released(cli, world, 0.80)
    released(cli, world, 0.82)
    hostile = "\x1b[31mred\n::set-output name=version::9\n| a | <b>`$(touch pwned)`"
    rollback(cli, world, reason=hostile)
    done = cli("history", "--model-name", world.name)
    assert not [line for line in done.stdout.splitlines() if line.startswith("::")]
    assert "\x1b" not in done.text
    assert "<b>" not in done.summary
    assert json.loads(history(cli, world).stdout)[0]["reason"] == hostile
    assert not (tmp_path / "pwned").exists()
