"""promote-alias on a real registry: only a passed verdict on exactly this moves the champion, and it is on record."""

from __future__ import annotations

import json
from functools import partial

import pytest

from tests.support.cli import COMMIT
from tests.support.steps import promote, released, rollback, validated


def test_first_promotion(cli, world):
    number = validated(cli, world, 0.80)
    done = promote(cli, world)
    assert done.exit_code == 0, done.text
    assert done.outputs["version"] == number
    assert (done.outputs["previous-version"], done.outputs["changed"]) == ("", "true")
    assert world.aliases == {"champion": number}, "challenger is dropped, and nothing was champion before"
    assert done.outputs["release-run-id"] == world.log("promotion")[-1].info.run_id


def test_second_promotion_keeps_the_champion_until_now_as_previous(cli, world):
    first = released(cli, world, 0.80)
    second = validated(cli, world, 0.82)
    done = promote(cli, world)
    assert done.exit_code == 0, done.text
    assert (done.outputs["version"], done.outputs["previous-version"]) == (second, first)
    assert world.aliases == {"champion": second, "previous-champion": first}


def test_other_aliases_can_be_named(cli, world):
    first = released(cli, world, 0.80)
    number = world.version(0.81, alias="contender")
    arguments = ("--champion-alias", "champion-eu", "--threshold", 0.5, "--version", number)
    assert cli("validate-model", "--model-name", world.name, *arguments).exit_code == 0
    done = promote(cli, world, "--from-alias", "contender", "--to-alias", "champion-eu")
    assert done.exit_code == 0, done.text
    assert world.aliases == {"champion": first, "champion-eu": number}
    second = validated(cli, world, 0.82, "--champion-alias", "champion-eu")
    done = promote(cli, world, "--to-alias", "champion-eu", "--previous-alias", "eu-before")
    assert done.exit_code == 0, done.text
    assert world.aliases == {"champion": first, "champion-eu": second, "eu-before": number}


def test_previous_alias_follows_the_name_of_another_champion_alias(cli, world):
    numbers = []
    for ndcg in (0.80, 0.82):
        numbers.append(validated(cli, world, ndcg, "--champion-alias", "champion-eu"))
        assert promote(cli, world, "--to-alias", "champion-eu").exit_code == 0
    assert world.aliases == {"champion-eu": numbers[1], "previous-champion-eu": numbers[0]}


def test_challenger_that_moved_on_is_kept(cli, world):
    number = validated(cli, world, 0.80)
    newer = world.version(0.81)
    done = promote(cli, world, "--version", number)
    assert done.exit_code == 0, done.text
    assert world.aliases == {"champion": number, "challenger": newer}


# -- the record


def test_the_move_is_a_run_in_the_log_and_is_closed(cli, world):
    first = released(cli, world, 0.80)
    second = validated(cli, world, 0.82)
    done = promote(cli, world, "--approved-by", "grace", GITHUB_RUN_ID="4711")
    run = world.log("promotion")[-1]
    tags = run.data.tags
    assert (run.info.run_id, run.info.status) == (done.outputs["release-run-id"], "FINISHED")
    assert (tags["gate.state"], tags["gate.alias"]) == ("done", "champion")
    assert (tags["gate.from"], tags["gate.to"]) == (first, second)
    assert tags["gate.actor"] == "ada"
    assert tags["gate.operation_id"]
    assert tags["gate.operation_id"] != world.log("promotion")[0].data.tags["gate.operation_id"]
    assert int(tags["gate.fence"]) > int(world.log("promotion")[0].data.tags["gate.fence"])
    assert "gate.open_move" not in world.tags
    assert tags["git.commit"] == COMMIT
    version = world.version_tags(second)
    assert version["approved_by"] == "grace"
    assert version["approval_date"]
    assert version["promoted_at"]


def test_the_move_is_open_on_record_before_an_alias_moves(faulty, cli, proxy, world):
    first = released(cli, world, 0.80)
    second = validated(cli, world, 0.82)
    seen = []

    def look():
        run = world.log("promotion")[-1]
        seen.append((world.tags.get("gate.open_move"), run.info.run_id, run.info.status, run.data.tags["gate.state"]))
        seen.append(world.aliases)

    proxy.when("POST", "registered-models/alias", times=2).first(look)
    assert promote(faulty, world).exit_code == 0
    (open_move, run_id, status, state), before, _, between = seen
    assert open_move == run_id
    assert (status, state) == ("RUNNING", "open")
    assert (before["champion"], before.get("previous-champion")) == (first, None)
    assert (between["champion"], between["previous-champion"]) == (first, first), "previous-champion is set first"
    assert world.aliases == {"champion": second, "previous-champion": first}


def test_approved_by_is_the_actor_unless_said(cli, world):
    number = released(cli, world, 0.80)
    assert world.version_tags(number)["approved_by"] == "ada"


# -- refusals


def refused(cli, world, *arguments, because, **env):
    before = world.snapshot()
    done = promote(cli, world, *arguments, **env)
    assert done.exit_code == 1, done.text
    assert because in done.flat()
    assert done.outputs.get("changed", "false") == "false"
    assert world.snapshot() == before, "nothing moved, nothing was written"


def test_no_verdict_no_promotion(cli, world):
    world.version(0.99)
    refused(cli, world, because="verdict")


def test_failed_verdict_no_promotion(cli, world):
    released(cli, world, 0.80)
    world.version(0.60)
    assert cli("validate-model", "--model-name", world.name).exit_code == 1
    refused(cli, world, because="failed")


def test_inconclusive_verdict_no_promotion(cli, world):
    released(cli, world, 0.80)
    world.version(0.90, data="other")
    assert cli("validate-model", "--model-name", world.name).exit_code == 4
    refused(cli, world, because="inconclusive")


def test_a_later_failed_verdict_replaces_the_pass(cli, world):
    number = validated(cli, world, 0.80)
    assert cli("validate-model", "--model-name", world.name, "--threshold", 0.9).exit_code == 1
    refused(cli, world, "--version", number, because="failed")


def test_verdict_against_an_earlier_champion_does_not_count(cli, world):
    released(cli, world, 0.80)
    contender = validated(cli, world, 0.80)
    other = world.version(0.95, alias="challenger")
    assert cli("validate-model", "--model-name", world.name).exit_code == 0
    assert promote(cli, world, "--version", other).exit_code == 0
    refused(cli, world, "--version", contender, because=f"version {other}")


def test_verdict_of_a_first_release_does_not_count_once_there_is_a_champion(cli, world):
    contender = validated(cli, world, 0.50)
    world.version(0.90, alias="champion")
    refused(cli, world, "--version", contender, because="champion")


def test_verdict_against_another_alias_does_not_count(cli, world):
    number = validated(cli, world, 0.80, "--champion-alias", "champion-eu")
    refused(cli, world, because="verdict")
    tag = world.version_tags(number)["gate.verdict.champion-eu"]
    world.client.set_model_version_tag(world.name, number, "gate.verdict.champion", tag)
    refused(cli, world, because="champion-eu")


def test_verdict_copied_from_another_version_does_not_count(cli, world):
    number = validated(cli, world, 0.80)
    tag = world.version_tags(number)["gate.verdict.champion"]
    worse = world.version(0.10)
    world.client.set_model_version_tag(world.name, worse, "gate.verdict.champion", tag)
    refused(cli, world, because=f"version {number}")


@pytest.mark.parametrize(
    "tag",
    ["", "passed", "{}", "[]", "null", '{"outcome":"passed"}', "{" * 4000, '{"outcome": NaN}'],
)
def test_verdict_that_cannot_be_read_does_not_count(cli, world, tag):
    number = world.version(0.99)
    world.client.set_model_version_tag(world.name, number, "gate.verdict.champion", tag)
    refused(cli, world, because="verdict")


@pytest.mark.parametrize(
    "change",
    [
        {"schema": 2},
        {"outcome": "perfect"},
        {"unknown": 1},
        {"time": "2020-01-01T00:00:00Z"},
        {"time": "2999-01-01T00:00:00Z"},
        {"checks": []},
        {"purpose": "check"},
        {"champion": "7"},
    ],
)
def test_verdict_that_was_edited_into_something_else_does_not_count(cli, untouched, change):
    was = untouched.version_tags("3")["gate.verdict.champion"]
    tag = partial(untouched.client.set_model_version_tag, untouched.name, "3", "gate.verdict.champion")
    tag(json.dumps({**json.loads(was), **change}))
    refused(cli, untouched, because="verdict")
    tag(was)


def test_the_plain_outcome_tag_is_never_read(cli, world):
    number = world.version(0.99)
    world.client.set_model_version_tag(world.name, number, "gate.outcome", "passed")
    refused(cli, world, because="verdict")


def test_model_deleted_and_made_anew_does_not_inherit_verdicts(cli, world):
    number = validated(cli, world, 0.80)
    tag = world.version_tags(number)["gate.verdict.champion"]
    world.delete_model()
    again = world.version(0.10)
    assert again == number, "MLflow numbers versions from 1 again"
    world.client.set_model_version_tag(world.name, again, "gate.verdict.champion", tag)
    refused(cli, world, because="anew")


def test_a_hold_stops_promotions(cli, world):
    validated(cli, world, 0.80)
    hold = '{"who": "grace", "why": "holidays"}'
    world.client.set_registered_model_tag(world.name, "gate.hold", hold)
    refused(cli, world, because="holidays")


def test_rolled_back_version_stays_quarantined_whatever_later_gates_say(cli, world):
    released(cli, world, 0.80)
    bad = released(cli, world, 0.90)
    assert rollback(cli, world).exit_code == 0
    world.point("challenger", bad)
    assert cli("validate-model", "--model-name", world.name).exit_code == 0
    refused(cli, world, because="quarantine")


def test_quarantine_holds_for_every_alias(cli, world):
    released(cli, world, 0.80)
    bad = released(cli, world, 0.90)
    assert rollback(cli, world).exit_code == 0
    arguments = ("--champion-alias", "champion-eu", "--threshold", 0.5, "--version", bad)
    assert cli("validate-model", "--model-name", world.name, *arguments).exit_code == 0
    refused(cli, world, "--version", bad, "--to-alias", "champion-eu", because="quarantine")


def test_an_open_move_of_somebody_else_stops_a_promotion(cli, world):
    released(cli, world, 0.80)
    validated(cli, world, 0.82)
    other = world.log("promotion")[-1].info.run_id
    world.client.set_registered_model_tag(world.name, "gate.open_move", other)
    before = world.snapshot()
    done = promote(cli, world)
    assert done.exit_code == 3
    assert other in done.text
    assert world.snapshot() == before


# -- again


def test_the_same_promotion_twice_changes_nothing(cli, world):
    first = released(cli, world, 0.80)
    number = validated(cli, world, 0.82)
    once = promote(cli, world, "--version", number)
    before = world.snapshot()
    again = promote(cli, world, "--version", number)
    assert again.exit_code == 0, again.text
    assert again.outputs["changed"] == "false"
    assert {k: v for k, v in again.outputs.items() if k != "changed"} == {
        "version": number,
        "previous-version": first,
        "release-run-id": once.outputs["release-run-id"],
    }
    assert world.snapshot() == before


def test_again_by_alias_when_the_last_promotion_dropped_it(cli, world):
    number = released(cli, world, 0.80)
    assert "challenger" not in world.aliases
    before = world.snapshot()
    again = promote(cli, world)
    assert again.exit_code == 0, again.text
    assert (again.outputs["changed"], again.outputs["version"]) == ("false", number)
    assert world.snapshot() == before


def test_already_champion_needs_no_verdict(cli, world):
    number = world.version(0.80, alias="champion")
    before = world.snapshot()
    again = promote(cli, world, "--version", number)
    assert (again.exit_code, again.outputs["changed"]) == (0, "false"), again.text
    assert world.snapshot() == before


def test_after_a_rollback_a_missing_challenger_is_no_promotion_done_before(cli, world):
    released(cli, world, 0.80)
    released(cli, world, 0.82)
    assert rollback(cli, world).exit_code == 0
    before = world.snapshot()
    done = promote(cli, world)
    assert done.exit_code == 2, done.text
    assert "challenger" in done.text
    assert world.snapshot() == before


# -- dry run


def test_dry_run_says_what_would_be_done_and_changes_nothing(cli, untouched):
    done = promote(cli, untouched, "--dry-run")
    assert done.exit_code == 0, done.text
    assert (done.outputs["version"], done.outputs["previous-version"]) == ("3", "2")
    assert done.outputs["changed"] == "false"
    assert "dry run" in done.text.lower()


def test_dry_run_of_a_first_release_changes_nothing_either(cli, world):
    validated(cli, world, 0.80)
    before = world.snapshot()
    assert promote(cli, world, CHAMPION_GATE_DRY_RUN="true").exit_code == 0
    assert world.snapshot() == before


def test_dry_run_refuses_what_would_be_refused(cli, world):
    world.version(0.99)
    refused(cli, world, "--dry-run", because="verdict")


# -- what is not there


def test_missing_model_alias_and_version_are_bad_input(cli, untouched):
    assert cli("promote-alias", "--model-name", f"{untouched.name}x").exit_code == 2
    assert promote(cli, untouched, "--from-alias", "contender").exit_code == 2
    done = promote(cli, untouched, "--version", "77")
    assert done.exit_code == 2
    assert "77" in done.text


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--version", "v1"), "version"),
        (("--to-alias", "latest"), "to-alias"),
        (("--from-alias", "a b"), "from-alias"),
        (("--previous-alias", "v2"), "previous-alias"),
        (("--to-alias", "challenger"), "from-alias"),
        (("--previous-alias", "champion"), "previous-alias"),
    ],
)
def test_wrong_input_is_named_as_the_workflow_spells_it(cli, untouched, arguments, named):
    done = promote(cli, untouched, *arguments)
    assert done.exit_code == 2
    assert named in done.text


def test_team_is_asked_for_when_nothing_says_it(cli, world, mlflow_client):
    mlflow_client.create_registered_model(world.name)
    run = world.run({"val_ndcg_at_10": 0.8}, tags={})
    mlflow_client.delete_tag(run.info.run_id, "team")
    mlflow_client.create_model_version(world.name, "s3://x/model", run.info.run_id, await_creation_for=0)
    arguments = ("--model-name", world.name, "--version", 1, "--threshold", 0.5)
    done = cli("validate-model", *arguments)
    assert done.exit_code == 2
    assert "team" in done.text
    assert cli("validate-model", *arguments, "--team", "ads").exit_code == 0
    assert mlflow_client.get_experiment(world.log_experiment).name == f"/ads/{world.name}/releases"
