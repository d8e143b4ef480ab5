"""The defects of the usual hand-written release scripts, one by one, and this gate without them.

Such a script looks the champion up in a try block, takes every failure for "no champion yet", compares what it
finds with `>`, and moves the alias to whatever `challenger` names by then.
"""

from __future__ import annotations

import math

import pytest

from tests.support.steps import promote, released, rollback, validated

LOOK_UPS = ("registered-models/get", "registered-models/alias")


@pytest.fixture
def worse(cli, world):
    """A champion of 0.80 and a challenger that a first release would pass."""
    champion = released(cli, world, 0.80)
    world.version(0.60)
    return champion


@pytest.mark.parametrize("fault", ["503", "403", "time-out"])
def test_champion_look_up_that_fails_is_not_a_first_release(faulty, proxy, world, worse, fault):
    before = world.snapshot()
    for path in LOOK_UPS:
        rule = proxy.when("GET", path)
        rule.silence() if fault == "time-out" else rule.answer(int(fault))
    for command in ("validate-model", "release"):
        done = faulty(command, "--model-name", world.name, "--threshold", "0.5", "--registry-timeout", "1.5")
        assert done.exit_code == 3, done.text
        assert not done.outputs.get("verdict")
    assert proxy.seen("GET", "registered-models/")
    assert world.snapshot() == before


def test_champion_that_lacks_the_metric_is_not_beaten(cli, world):
    champion = world.version(metrics={"val_mrr": 0.9}, alias="champion")
    world.version(0.99)
    done = cli("release", "--model-name", world.name, "--threshold", "0.5")
    assert (done.exit_code, world.champion) == (4, champion), done.text


def test_nan_challenger_does_not_slip_through_a_comparison(cli, world):
    champion = released(cli, world, 0.80)
    world.version(math.nan)
    done = cli("release", "--model-name", world.name, "--threshold", "0.5")
    assert done.exit_code in (1, 4), done.text
    assert world.champion == champion


def test_nan_challenger_does_not_become_the_first_champion(cli, world):
    world.version(math.nan)
    done = cli("release", "--model-name", world.name, "--threshold", "0.5")
    assert done.exit_code in (1, 4), done.text
    assert "champion" not in world.aliases


def test_first_promotion_works_without_a_champion_to_look_up(cli, world):
    number = validated(cli, world, 0.80)
    done = promote(cli, world)
    assert (done.exit_code, world.champion) == (0, number), done.text
    assert "previous-champion" not in world.aliases


def test_second_rollback_does_not_bring_the_bad_version_back(cli, world):
    good = released(cli, world, 0.80)
    bad = released(cli, world, 0.82)
    assert rollback(cli, world).exit_code == 0
    again = rollback(cli, world)
    assert again.exit_code == 2, again.text
    assert (world.champion, world.aliases["rolled-back"]) == (good, bad)
    assert not {"rollback_reason", "rolled_back_at"} & set(world.version_tags(good))


def test_challenger_alias_that_moves_after_validation_promotes_nothing(cli, world):
    champion = released(cli, world, 0.80)
    validated(cli, world, 0.82)
    world.version(0.10)  # a second training takes the alias
    done = promote(cli, world)
    assert done.exit_code == 1, done.text
    assert world.champion == champion


@pytest.mark.parametrize("when", range(1, 7))
def test_challenger_alias_that_moves_during_a_release_never_promotes_what_was_not_validated(
    faulty, cli, proxy, world, when
):
    champion = released(cli, world, 0.80)
    number = world.version(0.82)
    bad = world.version(0.10, alias=None)
    proxy.when("GET", "registered-models/get", skip=when - 1, times=1).first(lambda: world.point("challenger", bad))
    done = faulty("release", "--model-name", world.name)
    assert world.champion in (champion, number), done.text
    if done.exit_code == 0:
        assert (done.outputs["version"], world.champion) == (number, number)
    else:
        assert (done.exit_code, world.champion) == (1, champion)


@pytest.mark.parametrize("when", range(1, 4))
def test_champion_that_moves_during_a_promotion_is_not_overwritten(faulty, cli, proxy, world, when):
    released(cli, world, 0.80)
    number = validated(cli, world, 0.82)
    by_hand = world.version(0.95, alias=None)
    rule = proxy.when("GET", "registered-models/get", skip=when - 1, times=1)
    rule.first(lambda: world.point("champion", by_hand))
    done = promote(faulty, world, "--version", number)
    assert rule.hits >= when or done.exit_code != 0
    if world.champion == by_hand:
        assert done.exit_code in (1, 3), done.text
        assert "promoted_at" not in world.version_tags(number)
        assert world.tags.get("gate.open_move") is None or done.exit_code == 3
    else:
        assert (done.exit_code, world.champion) == (0, number), "it was moved before we looked, or after we were done"
        assert rule.hits < when


def test_model_deleted_and_made_anew_does_not_keep_its_verdicts(cli, world):
    number = validated(cli, world, 0.80)
    tags = world.version_tags(number)
    world.delete_model()
    again = world.version(0.10)
    for key, value in tags.items():
        world.client.set_model_version_tag(world.name, again, key, value)
    done = promote(cli, world)
    assert (again, done.exit_code) == (number, 1), done.text
    assert "champion" not in world.aliases


def test_champion_alias_deleted_by_hand_is_no_first_release(cli, world):
    released(cli, world, 0.80)
    world.version(0.60)
    world.client.delete_registered_model_alias(world.name, "champion")
    before = world.snapshot()
    for command in ("validate-model", "release"):
        done = cli(command, "--model-name", world.name, "--threshold", "0.5")
        assert done.exit_code == 3, done.text
        assert "champion missing" in done.flat().lower()
    assert world.snapshot() == before


def test_champion_version_deleted_under_its_alias_is_no_first_release(cli, world):
    first = released(cli, world, 0.80)
    number = world.version(0.60)
    world.client.delete_model_version(world.name, first)
    done = cli("validate-model", "--model-name", world.name, "--threshold", "0.5", "--version", number)
    assert done.exit_code == 3, done.text
    assert promote(cli, world, "--version", number).exit_code in (1, 3)
