"""rollback on a real registry: back to what was good, as far back as there is something good, and never by mistake."""

from __future__ import annotations

import pytest

from tests.support.steps import promote, released, rollback, validated
from tests.support.verdicts import judged


def test_champion_goes_back_and_the_bad_version_is_marked(cli, world):
    good = released(cli, world, 0.80)
    bad = released(cli, world, 0.82)
    done = rollback(cli, world, reason="clicks fell by 9 %")
    assert done.exit_code == 0, done.text
    assert (done.outputs["version"], done.outputs["rolled-back-version"]) == (good, bad)
    assert done.outputs["changed"] == "true"
    assert world.aliases == {"champion": good, "rolled-back": bad}, "there is nothing further back"
    tags = world.version_tags(bad)
    assert tags["rollback_reason"] == "clicks fell by 9 %"
    assert tags["rolled_back_at"]
    assert "rollback_reason" not in world.version_tags(good)


def test_the_move_is_a_run_in_the_log_and_is_closed(cli, world):
    good, bad = released(cli, world, 0.80), released(cli, world, 0.82)
    done = rollback(cli, world, reason="clicks fell")
    run = world.log("rollback")[-1]
    tags = run.data.tags
    assert (run.info.run_id, run.info.status) == (done.outputs["release-run-id"], "FINISHED")
    assert (tags["gate.state"], tags["gate.from"], tags["gate.to"]) == ("done", bad, good)
    assert tags["gate.previous"] == good, "what previous-champion was, to restore it"
    assert tags["gate.reason"] == "clicks fell"
    assert "gate.open_move" not in world.tags


def test_previous_champion_points_one_further_back(cli, world):
    first, second, third = (released(cli, world, ndcg) for ndcg in (0.80, 0.82, 0.84))
    assert rollback(cli, world).exit_code == 0
    assert world.aliases == {"champion": second, "previous-champion": first, "rolled-back": third}


def test_second_rollback_goes_further_back_then_says_that_there_is_nothing(cli, world):
    first, second, third = (released(cli, world, ndcg) for ndcg in (0.80, 0.82, 0.84))
    assert rollback(cli, world).outputs["version"] == second
    assert rollback(cli, world).outputs["version"] == first
    assert world.aliases == {"champion": first, "rolled-back": second}
    before = world.snapshot()
    done = rollback(cli, world)
    assert done.exit_code == 2, done.text
    assert "nothing to go back to" in done.flat()
    assert world.snapshot() == before
    assert "rollback_reason" not in world.version_tags(first), "the good version is never tagged"
    for bad in (second, third):
        assert world.version_tags(bad)["rollback_reason"]


def test_rollback_after_a_new_release_skips_what_was_taken_back(cli, world):
    good = released(cli, world, 0.80)
    bad = released(cli, world, 0.82)
    assert rollback(cli, world).exit_code == 0
    newer = released(cli, world, 0.81)
    assert world.aliases["previous-champion"] == good
    done = rollback(cli, world)
    assert (done.outputs["version"], done.outputs["rolled-back-version"]) == (good, newer)
    assert bad not in (world.champion, world.aliases.get("previous-champion"))


def test_first_release_has_nothing_to_go_back_to(cli, world):
    number = released(cli, world, 0.80)
    before = world.snapshot()
    done = rollback(cli, world)
    assert done.exit_code == 2
    assert "nothing to go back to" in done.flat()
    assert world.snapshot() == before
    assert world.champion == number


def test_without_a_log_the_alias_previous_champion_is_believed(cli, world):
    good = world.version(0.80, alias="previous-champion")
    bad = world.version(0.82, alias="champion")
    done = rollback(cli, world)
    assert done.exit_code == 0, done.text
    assert (world.champion, world.aliases["rolled-back"]) == (good, bad)
    again = rollback(cli, world)
    assert again.exit_code == 2, "and the second rollback does not go forth again"
    assert world.champion == good


def test_to_version_goes_back_several_steps(cli, world):
    first, _, third = (released(cli, world, ndcg) for ndcg in (0.80, 0.82, 0.84))
    done = rollback(cli, world, "--to-version", first)
    assert done.exit_code == 0, done.text
    assert world.aliases == {"champion": first, "rolled-back": third}


def test_to_version_that_never_was_champion_is_refused(cli, untouched):
    done = rollback(cli, untouched, "--to-version", 3)
    assert done.exit_code == 1, done.text


def test_to_version_that_was_taken_back_is_refused(cli, world):
    released(cli, world, 0.80)
    bad = released(cli, world, 0.82)
    assert rollback(cli, world).exit_code == 0
    before = world.snapshot()
    done = rollback(cli, world, "--to-version", bad)
    assert done.exit_code == 1, done.text
    assert "quarantine" in done.flat()
    assert world.snapshot() == before


def test_to_version_that_is_champion_is_nothing_to_go_back_to(cli, untouched):
    assert rollback(cli, untouched, "--to-version", 2).exit_code == 2


def test_a_version_whose_files_are_gone_is_passed_over(cli, world):
    first, second, third = (released(cli, world, ndcg) for ndcg in (0.80, 0.82, 0.84))
    world.lose_files(second)
    done = rollback(cli, world)
    assert done.exit_code == 0, done.text
    assert f"version {second}" in done.flat(), "and that is said"
    assert (world.champion, world.aliases["rolled-back"]) == (first, third)


def test_to_version_whose_files_are_gone_is_refused(cli, world):
    first, second = released(cli, world, 0.80), released(cli, world, 0.82)
    world.lose_files(first)
    before = world.snapshot()
    done = rollback(cli, world, "--to-version", first)
    assert done.exit_code == 1, done.text
    assert "files" in done.text
    assert rollback(cli, world).exit_code == 2, "and there is nothing else to go back to"
    assert world.snapshot() == before
    assert world.champion == second


def test_a_store_out_of_reach_is_said_and_stops_no_rollback(cli, world, mlflow_client):
    mlflow_client.create_registered_model(world.name, tags={"team": world.team})
    for number in ("1", "2"):
        mlflow_client.create_model_version(world.name, f"s3://acme-models/{number}", await_creation_for=0)
        judged(mlflow_client, world.name, number)
        assert promote(cli, world, "--version", number).exit_code == 0
    nowhere = {"MLFLOW_S3_ENDPOINT_URL": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"}
    done = rollback(cli, world, AWS_ACCESS_KEY_ID="test", AWS_SECRET_ACCESS_KEY="test", **nowhere)
    assert done.exit_code == 0, done.text
    assert world.champion == "1"
    assert any("Files not seen" in line for line in done.annotations("warning"))


def test_from_version_guards_against_taking_back_the_wrong_one(cli, untouched):
    done = rollback(cli, untouched, "--from-version", 1)
    assert done.exit_code == 1, done.text
    assert "version 2" in done.text


def test_the_same_workflow_run_again_changes_nothing(cli, world):
    first, second, _ = (released(cli, world, ndcg) for ndcg in (0.80, 0.82, 0.84))
    once = rollback(cli, world, GITHUB_RUN_ID="900100")
    before = world.snapshot()
    again = rollback(cli, world, GITHUB_RUN_ID="900100", GITHUB_RUN_ATTEMPT="2")
    assert again.exit_code == 0, again.text
    assert again.outputs == {**once.outputs, "changed": "false"}
    assert world.snapshot() == before
    assert rollback(cli, world, GITHUB_RUN_ID="900101").outputs["version"] == first, "another run goes on"
    assert second == once.outputs["version"]


def test_outside_github_two_rollbacks_are_two(cli, world):
    for ndcg in (0.80, 0.82, 0.84):
        released(cli, world, ndcg)
    assert rollback(cli, world, github=False).exit_code == 0
    assert rollback(cli, world, github=False).exit_code == 0
    assert len(world.log("rollback")) == 2


def test_reason_is_required(cli, untouched):
    for arguments in ((), ("--reason", ""), ("--reason", "   ")):
        done = cli("rollback", "--model-name", untouched.name, *arguments)
        assert done.exit_code == 2, done.text
        assert "reason" in done.text


def test_dry_run_changes_nothing(cli, untouched):
    done = rollback(cli, untouched, "--dry-run", "--from-version", 2)
    assert done.exit_code == 0, done.text
    assert (done.outputs["version"], done.outputs["rolled-back-version"]) == ("1", "2")
    assert done.outputs["changed"] == "false"


def test_another_champion_alias_has_marks_of_its_own(cli, world):
    numbers = []
    for ndcg in (0.80, 0.82):
        numbers.append(validated(cli, world, ndcg, "--champion-alias", "champion-eu"))
        assert promote(cli, world, "--to-alias", "champion-eu").exit_code == 0
    done = rollback(cli, world, "--champion-alias", "champion-eu")
    assert done.exit_code == 0, done.text
    assert world.aliases == {"champion-eu": numbers[0], "rolled-back-champion-eu": numbers[1]}


def test_a_rollback_may_happen_while_promotions_are_on_hold(cli, world):
    good, _ = released(cli, world, 0.80), released(cli, world, 0.82)
    world.client.set_registered_model_tag(world.name, "gate.hold", '{"why": "holidays"}')
    assert rollback(cli, world).exit_code == 0
    assert world.champion == good


@pytest.mark.parametrize("option", ["--from-version", "--expect-champion"])
def test_champion_moved_by_hand_has_a_way_back_for_who_names_it(cli, world, option):
    good = released(cli, world, 0.80)
    by_hand = world.version(0.5, alias="champion")
    done = rollback(cli, world)
    assert done.exit_code == 1, done.text
    assert f"the release log says {good}" in done.flat()
    assert world.champion == by_hand
    done = rollback(cli, world, option, by_hand)
    assert done.exit_code == 0, done.text
    assert (world.champion, world.aliases["rolled-back"]) == (good, by_hand)


def test_champion_alias_deleted_though_released_is_exit_3(cli, world):
    released(cli, world, 0.80)
    released(cli, world, 0.82)
    world.client.delete_registered_model_alias(world.name, "champion")
    before = world.snapshot()
    done = rollback(cli, world)
    assert done.exit_code == 3
    assert "champion missing" in done.flat().lower()
    assert world.snapshot() == before


def test_target_that_was_deleted_is_passed_over(cli, world):
    first, second, third = (released(cli, world, ndcg) for ndcg in (0.80, 0.82, 0.84))
    world.client.delete_model_version(world.name, second)
    before = world.snapshot()
    assert rollback(cli, world, "--to-version", second).exit_code == 2, "asked for by number, it is missed"
    assert world.snapshot() == before
    done = rollback(cli, world)
    assert (done.exit_code, done.outputs["version"]) == (0, first), done.text
    assert (world.champion, world.aliases["rolled-back"]) == (first, third)


def test_nothing_was_ever_champion(cli, world):
    world.version(0.80)
    before = world.snapshot()
    assert rollback(cli, world).exit_code == 2
    assert cli("rollback", "--model-name", f"{world.name}x", "--reason", "r").exit_code == 2
    assert world.snapshot() == before


@pytest.mark.parametrize(
    ("option", "value"), [("to-version", "v1"), ("from-version", "0"), ("champion-alias", "latest")]
)
def test_wrong_input_is_named_as_the_workflow_spells_it(cli, untouched, option, value):
    done = rollback(cli, untouched, f"--{option}", value)
    assert done.exit_code == 2
    assert option in done.text
