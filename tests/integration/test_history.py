"""history on a real registry: the whole log, or an error; never an empty page that should not be."""

from __future__ import annotations

import json
from datetime import datetime, timezone

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


# -- marks, what others did, and what was when


def test_a_killed_promotion_is_open_then_recovered_and_one_that_is_not_named_was_abandoned(cli, world):
    first = released(cli, world, 0.80)
    second = released(cli, world, 0.82)
    last = world.log("promotion")[-1].info.run_id
    # As a job leaves it that was killed before its last two writes.
    world.client.set_tag(last, "gate.state", "open")
    world.client.set_registered_model_tag(world.name, "gate.open_move", last)
    assert history(cli, world).json()[0]["mark"] == "open"
    assert "is still open" in cli("history", "--model-name", world.name, "--at", "2999-01-01").flat()
    world.client.delete_registered_model_tag(world.name, "gate.open_move")
    rows = history(cli, world).json()
    assert [(row["kind"], row["mark"]) for row in rows[:2]] == [
        ("by hand", "moved by others"),
        ("promotion", "abandoned"),
    ], "the alias is not where the log says, and the move that was to set it is given up"
    assert (rows[0]["from"], rows[0]["to"], rows[0]["actor"], rows[0]["between"][1]) == (first, second, "", None)
    world.client.set_tag(last, "gate.state", "done")
    world.client.set_tag(last, "gate.recovered_by", "bob")
    row = history(cli, world).json()[0]
    assert (row["mark"], row["recovered_by"]) == ("done, recovered", "bob")
    assert "recovered by bob" in cli("history", "--model-name", world.name).flat()


def test_an_alias_moved_by_hand_is_shown_as_moved_by_others(cli, world):
    first = released(cli, world, 0.80)
    by_hand = world.version(0.81, alias="champion")
    row = history(cli, world).json()[0]
    assert (row["kind"], row["mark"], row["alias"], row["from"], row["to"], row["run_id"]) == (
        *("by hand", "moved by others", "champion", first, by_hand, ""),
    )
    assert f"moved by others: {first} -> {by_hand}" in cli("history", "--model-name", world.name).stdout
    number = validated(cli, world, 0.84)
    done = promote(cli, world, "--expect-champion", by_hand)
    assert done.exit_code == 0, done.text
    rows = [row for row in history(cli, world).json() if row["kind"] != "gate"]
    assert [(row["kind"], row["from"], row["to"]) for row in rows] == [
        ("promotion", by_hand, number),
        ("by hand", first, by_hand),
        ("promotion", None, first),
    ]
    assert rows[1]["between"] == [rows[2]["time"], rows[0]["time"]]
    assert not [row for row in history(cli, world, "--champion-alias", "eu").json() if row["kind"] == "by hand"]


def test_what_was_champion_at_a_time(cli, world):
    released(cli, world, 0.80)
    second = released(cli, world, 0.82)
    started = [run.info.start_time for run in world.log("promotion")]
    seconds = [datetime.fromtimestamp(time // 1000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ") for time in started]
    now = history(cli, world, "--at", seconds[1]).json()
    assert (now["model"], now["at"]) == (world.name, seconds[1])
    champion = now["champions"]["champion"]
    assert (champion["version"], champion["actor"], champion["kind"], champion["since"], champion["until"]) == (
        *(second, "ada", "promotion", seconds[1], None),
    )
    assert champion["run_id"] == world.log("promotion")[1].info.run_id
    assert (champion["moved_by_others"], champion["clocks_agree"], champion["open_move"]) == (None, True, "")
    before = history(cli, world, "--at", "2020-02-29", "--champion-alias", "champion").json()["champions"]["champion"]
    assert (before["version"], before["since"], before["until"], before["actor"]) == (None, None, seconds[0], "")
    done = cli("history", "--model-name", world.name, "--at", "2999-01-01T00:00+01:00")
    assert f"champion: version {second}, since {seconds[1]} (promotion by ada)." in done.stdout
    assert f"champion\\: version {second}, since" in done.summary
    other = history(cli, world, "--at", "2999-01-01", "--champion-alias", "eu").json()
    assert other["champions"]["eu"]["version"] is None


def test_a_time_that_is_none_is_bad_input_and_a_deleted_log_is_an_error_at_any_time(cli, world, mlflow_client):
    released(cli, world, 0.80)
    done = history(cli, world, "--at", "yesterday")
    assert done.exit_code == 2
    assert "2026-11-25T14:30:00Z" in done.text
    mlflow_client.delete_experiment(world.log_experiment)
    assert history(cli, world, "--at", "2026-11-25").exit_code == 3


def test_a_hold_comes_first_and_the_summary_has_one_chart_and_the_table(cli, world):
    released(cli, world, 0.80)
    released(cli, world, 0.82)
    rollback(cli, world, "--hold", reason="clicks fell by a tenth")
    done = cli("history", "--model-name", world.name)
    assert done.stdout.startswith("ON HOLD, nothing is promoted: ada set it on ")
    assert "clicks fell by a tenth" in done.stdout.splitlines()[0]
    assert done.summary.index("On hold") < done.summary.index("```mermaid") < done.summary.index("| time |")
    assert done.summary.count("```mermaid") == 1
    listed = history(cli, world)
    assert listed.json()[0]["kind"] == "rollback"
    assert "ON HOLD" in listed.stderr


def test_overrides_and_reinstatements_are_in_it(cli, world):
    released(cli, world, 0.80)
    move = world.log("promotion")[-1].info.run_id
    for name in ("override", "reinstated"):
        world.client.set_tag(move, f"gate.{name}", f"because of {name}")
    row = history(cli, world).json()[0]
    assert (row["mark"], row["override"]) == ("done, override, reinstated", "because of override")
    assert row["reinstated"] == "because of reinstated"
    assert set(row) >= {"recovered_by", "approved_by"}
    table = cli("history", "--model-name", world.name).flat()
    assert "override: because of override; reinstated: because of reinstated" in table
