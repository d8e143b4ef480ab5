"""release, the whole release in one process: train when there is a command, validate, promote."""

from __future__ import annotations

import pytest

from tests.support.cli import ROOT
from tests.support.steps import released

TRAINER = ROOT / "tests" / "support" / "trainer.py"
METRIC = "val_ndcg_at_10"
OUTPUTS = {
    *("run-id", "version", "model-uri"),
    *("verdict", "champion-version", "metric", "champion-metric", "reason", "gate-run-id"),
    *("basis", "dataset-digest", "queries", "ratio-lower", "ratio-upper", "queries-needed", "report-uri"),
    *("previous-version", "changed", "release-run-id"),
}


@pytest.fixture
def release(cli, world):
    def run(ndcg, *options, steps=("model=model",), cli=cli, **env):
        return cli(
            "release",
            *("--experiment-name", world.experiment, "--model-name", world.name, "--data-version", "2026-11-01"),
            *options,
            *("--", "python", str(TRAINER), f"metric={METRIC}:{ndcg}", *steps),
            **env,
        )

    return run


def test_from_the_first_release_to_a_refused_one(release, world):
    first = release(0.80, "--threshold", 0.75)
    assert first.exit_code == 0, first.text
    assert set(first.outputs) == OUTPUTS
    assert (first.outputs["verdict"], first.outputs["changed"], first.outputs["version"]) == ("passed", "true", "1")
    assert world.aliases == {"champion": "1"}

    better = release(0.85)
    assert better.exit_code == 0, better.text
    assert (better.outputs["version"], better.outputs["previous-version"]) == ("2", "1")
    assert world.aliases == {"champion": "2", "previous-champion": "1"}

    worse = release(0.60)
    assert worse.exit_code == 1, worse.text
    assert worse.outputs["verdict"] == "failed"
    assert (worse.outputs["version"], worse.outputs["champion-version"]) == ("3", "2")
    assert worse.outputs["run-id"]
    assert worse.outputs.get("changed", "") != "true"
    assert worse.annotations("error")
    assert world.aliases == {"champion": "2", "previous-champion": "1", "challenger": "3"}


def test_promote_false_stops_after_the_verdict(release, world):
    done = release(0.80, "--threshold", 0.75, "--no-promote")
    assert done.exit_code == 0, done.text
    assert done.outputs["verdict"] == "passed"
    assert world.aliases == {"challenger": "1"}
    assert release(0.80, "--threshold", 0.75, CHAMPION_GATE_PROMOTE="false").exit_code == 0
    assert "champion" not in world.aliases


def test_without_a_command_what_is_challenger_is_released(cli, world):
    number = world.version(0.80)
    done = cli("release", "--model-name", world.name, "--threshold", 0.75)
    assert done.exit_code == 0, done.text
    assert (world.champion, done.outputs["version"]) == (number, number)


def test_without_a_command_a_number_can_be_released(cli, world):
    number = world.version(0.80)
    world.version(0.90)
    done = cli("release", "--model-name", world.name, "--threshold", 0.75, "--version", number)
    assert done.exit_code == 0, done.text
    assert world.champion == number


def test_failed_training_is_exit_5_and_nothing_is_judged(release, world):
    done = release(0.80, "--threshold", 0.75, steps=("model=model", "exit=1"))
    assert done.exit_code == 5, done.text
    assert not done.outputs.get("verdict")
    assert world.snapshot()["model"] is None, "nothing was registered"


def test_inconclusive_is_exit_4_and_nothing_moves(release, world):
    number = world.version(0.80, data="other", alias="champion")
    done = release(0.90)
    assert (done.exit_code, done.outputs["verdict"]) == (4, "inconclusive"), done.text
    assert world.champion == number


def test_first_release_without_a_threshold_is_bad_input(release, world):
    done = release(0.90)
    assert done.exit_code == 2, done.text
    assert "threshold" in done.stdout + done.stderr
    assert not done.outputs["run-id"], "and that is known before the training"
    assert world.snapshot() == {"model": None}


def test_bad_policy_is_said_before_hours_of_training(release, world, tmp_path):
    for options in (("--threshold", "1.5"), ("--max-regression", "2"), ("--champion-alias", "latest")):
        done = release(0.90, *options, steps=(f"environment={tmp_path / 'trained'}",))
        assert done.exit_code == 2, done.text
        assert not (tmp_path / "trained").exists(), options


def test_the_trained_number_is_the_one_that_is_promoted_though_the_alias_moves(release, faulty, proxy, world):
    other = []

    def move():
        if not other:
            other.append(world.version(0.10))  # takes the alias challenger away

    # Between the registration and the gate's first look at the model's aliases.
    proxy.when("GET", "registered-models/get", skip=1).first(lambda: world_has_challenger(world) and move())
    done = release(0.80, "--threshold", 0.75, cli=faulty)
    assert done.exit_code == 0, done.text
    assert other, "the alias did move meanwhile"
    assert world.champion == done.outputs["version"] == "1"
    assert world.aliases["challenger"] == other[0]


def world_has_challenger(world):
    return "challenger" in world.snapshot().get("aliases", {})


def test_version_and_command_exclude_each_other(release, world):
    done = release(0.80, "--version", "1", "--threshold", 0.75)
    assert done.exit_code == 2
    assert "version" in done.text


def test_outside_github_json_has_all_outputs(cli, world):
    released(cli, world, 0.80)
    world.version(0.82)
    done = cli("release", "--model-name", world.name, "--json", github=False)
    assert done.exit_code == 0, done.text
    assert set(done.json()) >= OUTPUTS - {"run-id", "model-uri"}
