"""history without a model's name: every model with a release log, and what of them waits for a person."""

from __future__ import annotations

import json

import pytest

from tests.support.names import letters, unique_model_name
from tests.support.registry_world import World
from tests.support.steps import released, rollback


@pytest.fixture
def team() -> str:
    """A team that no other test's models belong to."""
    return f"team-{letters()}"


@pytest.fixture
def worlds(mlflow_client, team) -> list[World]:
    """Two models of this team, by name, not made yet."""
    names = sorted(unique_model_name() for _ in range(2))
    return [World(mlflow_client, name, team) for name in names]


def test_all_models_are_told_with_their_champions_holds_and_open_moves(cli, worlds, team, tmp_path):
    one, two = worlds
    released(cli, one, 0.80)
    second = released(cli, one, 0.82)
    released(cli, two, 0.80)
    released(cli, two, 0.82)
    rollback(cli, two, "--hold", reason="clicks fell")
    # As a job leaves it that was killed before its last two writes.
    move = one.log("promotion")[-1].info.run_id
    one.client.set_tag(move, "gate.state", "open")
    one.client.set_registered_model_tag(one.name, "gate.open_move", move)

    done = cli("history", "--team", team, "--json-file", tmp_path / "kept" / "history.json")
    assert done.exit_code == 0, done.text
    lists = {name: json.loads(value) for name, value in done.outputs.items()}
    assert lists == {
        "models": [one.name, two.name],
        "open-moves": [one.name],
        "holds": [two.name],
        "moved-by-others": [],
    }
    (warning,) = done.annotations("warning")
    assert f"Open moves: {one.name}. On hold: {two.name}." in warning

    found = {each["model"]: each for each in json.loads((tmp_path / "kept" / "history.json").read_text())}
    assert list(found) == [one.name, two.name]
    assert found[one.name]["open_move"] == move
    assert found[two.name]["champions"] == {"champion": "1"}
    assert (found[two.name]["hold"]["who"], found[two.name]["hold"]["why"]) == ("ada", "clicks fell")
    assert [row["kind"] for row in found[two.name]["rows"]] == [
        *("rollback", "promotion", "gate", "promotion", "gate"),
    ]
    table, *histories = done.summary.split("## Releases of ")[1:]
    assert table.startswith("all models")
    assert [text.split("\n")[0].replace("\\", "") for text in histories] == [one.name, two.name]
    line = next(line for line in done.flat().splitlines() if two.name in line)
    assert f"promotion of champion 1 → {second} by ada, since" in line
    assert "ada set it on" in line


def test_a_log_that_was_deleted_does_not_hide_the_other_models_and_is_no_success(cli, worlds, team, mlflow_client):
    lost, kept = worlds
    released(cli, lost, 0.80)
    number = released(cli, kept, 0.80)
    mlflow_client.delete_experiment(lost.log_experiment)
    done = cli("history", "--team", team, "--json")
    assert done.exit_code == 3
    first, second = done.json()
    assert "was deleted" in first["problem"]
    assert (first["rows"], first["champions"]) == ([], {})
    assert (second["problem"], second["champions"]) == ("", {"champion": number})
    (error,) = done.annotations("error")
    assert "Restore it" in error
    shown = cli("history", "--team", team)
    assert "cannot be read: The release log of" in shown.flat()
    assert kept.name in shown.summary.replace("\\", "")


def test_a_log_that_one_may_not_read_is_that_model_s_problem_and_a_silent_server_is_everybody_s(
    cli, faulty, proxy, worlds, team
):
    for world in worlds:
        released(cli, world, 0.80)
    proxy.when("POST", "runs/search", f'"{worlds[0].log_experiment}"').answer(
        403, b'{"error_code": "PERMISSION_DENIED", "message": "Permission denied"}'
    )
    first, second = faulty("history", "--team", team, "--json").json()
    assert "not permitted (403)" in first["problem"]
    assert (second["problem"], len(second["rows"])) == ("", 2)

    # From the first log on, nothing is answered.
    proxy.when("POST", "runs/search").first(lambda: proxy.when().answer(503))
    done = faulty("history", "--team", team, "--registry-timeout", "2")
    assert done.exit_code == 3
    assert not done.outputs.get("models")
    assert not done.summary.startswith("## Releases")


def test_an_alias_moved_by_hand_is_named(cli, worlds, team):
    one, _ = worlds
    first = released(cli, one, 0.80)
    by_hand = one.version(0.81, alias="champion")
    done = cli("history", "--team", team)
    assert json.loads(done.outputs["moved-by-others"]) == [one.name]
    assert f"moved by others: {first} → {by_hand}" in done.flat().replace("->", "→")
    assert f"champion {by_hand}" in done.flat()


def test_a_model_that_nothing_was_released_of_is_not_listed(cli, worlds, team):
    one, two = worlds
    one.version(0.80)
    done = cli("history", "--team", team, "--json")
    assert (done.exit_code, done.json()) == (0, [])
    assert set(done.outputs.values()) == {"[]"}
    shown = cli("history", "--team", team, github=False)
    assert "No registered model that can be seen here" in shown.stdout
    released(cli, two, 0.80)
    assert [each["model"] for each in cli("history", "--team", team, "--json").json()] == [two.name]


def test_the_champions_of_all_models_at_a_time(cli, worlds, team):
    for world in worlds:
        released(cli, world, 0.80)
    done = cli("history", "--team", team, "--at", "2999-01-01", "--json")
    assert [(each["model"], each["champions"]["champion"]["version"]) for each in done.json()] == [
        (world.name, "1") for world in worlds
    ]
    assert cli("history", "--team", team, "--at", "2999-01-01").summary.count("## Champions of") == 2


def test_one_model_has_the_same_outputs_and_file(cli, world, tmp_path):
    released(cli, world, 0.80)
    file = tmp_path / "history.json"
    done = cli("history", "--model-name", world.name, "--json-file", file, "--json")
    assert json.loads(done.outputs["models"]) == [world.name]
    assert [done.outputs[name] for name in ("open-moves", "holds", "moved-by-others")] == ["[]"] * 3
    assert json.loads(file.read_text()) == done.json()


def test_a_file_that_cannot_be_written_is_bad_input(cli, world, tmp_path):
    released(cli, world, 0.80)
    done = cli("history", "--model-name", world.name, "--json-file", tmp_path)
    assert done.exit_code == 2
    assert "json-file" in done.text
