"""Edges where a release could go wrong quietly: found by reading, shown by running."""

from __future__ import annotations

import json
import signal
import time

import pytest

from tests.support.cli import ROOT
from tests.support.steps import history, promote, released, rollback, validated

TRAINER = ROOT / "tests" / "support" / "trainer.py"
METRIC = "val_ndcg_at_10"


@pytest.fixture
def release(cli, world):
    def run(ndcg, *options):
        names = ("--experiment-name", world.experiment, "--model-name", world.name, "--data-version", "2026-11-01")
        train = ("--", "python", str(TRAINER), f"metric={METRIC}:{ndcg}", "model=model")
        return cli("release", *names, *options, *train)

    return run


def test_training_does_not_move_the_alias_that_it_is_compared_with(release, world, mlflow_client):
    done = release(0.1, "--champion-alias", "production", "--alias", "production", "--threshold", "0.05")
    assert done.exit_code == 2
    assert "production" in done.flat()
    assert not mlflow_client.search_registered_models(f"name = '{world.name}'")


def test_training_does_not_move_an_alias_that_the_log_knows_of_releases(cli, world, release):
    assert release(0.8, "--champion-alias", "production", "--threshold", "0.5").exit_code == 0
    for alias in ("production", "previous-production", "rolled-back-production"):
        done = cli(
            "train-and-register",
            *(
                "--experiment-name",
                world.experiment,
                "--model-name",
                world.name,
                "--data-version",
                "d",
                "--alias",
                alias,
            ),
            *("--", "python", str(TRAINER), f"metric={METRIC}:0.1", "model=model"),
        )
        assert done.exit_code == 2, done.text
    assert world.aliases == {"production": "1"}


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ((), "threshold"),
        (("--threshold", "75"), "threshold"),
        (("--threshold", "0.5", "--max-regression", "2"), "max-regression"),
        (("--threshold", "0.5", "--champion-alias", "v1"), "v1"),
        (("--threshold", "0.5", "--previous-alias", "champion"), "champion"),
    ],
)
def test_a_release_that_cannot_be_judged_is_not_trained_first(release, world, mlflow_client, options, named):
    done = release(0.8, *options)
    assert done.exit_code == 2
    assert named in done.flat()
    experiment = mlflow_client.get_experiment_by_name(world.experiment)
    assert experiment is None or not mlflow_client.search_runs([experiment.experiment_id])


@pytest.mark.parametrize("command", ["train-and-register", "release"])
def test_the_training_command_gets_the_callers_settings_of_mlflow_and_not_ours(cli, world, tmp_path, command):
    names = ("--experiment-name", world.experiment, "--model-name", world.name, "--data-version", "2026-11-01")
    seen = tmp_path / "seen"
    threshold = ("--threshold", "0.5") if command == "release" else ()
    done = cli(command, *names, *threshold, "--command", f"env > '{seen}'; exit 7", MLFLOW_HTTP_REQUEST_TIMEOUT="77")
    assert done.exit_code == 5, done.text
    mlflow = dict(line.split("=", 1) for line in seen.read_text().splitlines() if line.startswith("MLFLOW_"))
    assert mlflow["MLFLOW_HTTP_REQUEST_TIMEOUT"] == "77"
    ours = {"MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_NAME"}
    assert set(mlflow) == ours | {"MLFLOW_HTTP_REQUEST_TIMEOUT"}


def test_a_deleted_version_further_back_does_not_stop_a_rollback(cli, world, mlflow_client):
    for ndcg in (0.7, 0.8, 0.9):
        released(cli, world, ndcg)
    mlflow_client.delete_model_version(world.name, "1")
    done = rollback(cli, world)
    assert done.exit_code == 0, done.text
    assert world.aliases == {"champion": "2", "rolled-back": "3"}


def test_a_rollback_steps_over_a_deleted_target(cli, world, mlflow_client):
    for ndcg in (0.7, 0.8, 0.9):
        released(cli, world, ndcg)
    mlflow_client.delete_model_version(world.name, "2")
    done = rollback(cli, world)
    assert done.exit_code == 0, done.text
    assert world.champion == "1"


def test_infinity_as_the_server_keeps_it_is_no_figure(cli, world, mlflow_client):
    number = world.version(0.8)
    run_id = mlflow_client.get_model_version(world.name, number).run_id
    mlflow_client.log_metric(run_id, "clicks", float("inf"))
    done = cli("validate-model", "--model-name", world.name, "--metric", "clicks", "--threshold", "0.5")
    assert done.exit_code == 1
    assert done.outputs["verdict"] == "failed"


def test_a_deleted_run_is_no_evidence_for_a_challenger(cli, world, mlflow_client):
    number = world.version(0.8)
    mlflow_client.delete_run(mlflow_client.get_model_version(world.name, number).run_id)
    done = cli("validate-model", "--model-name", world.name, "--threshold", "0.5")
    assert done.exit_code == 1
    assert "deleted" in done.outputs["reason"]


def test_a_write_that_lands_after_its_time_is_not_called_undone(faulty, cli, proxy, world):
    released(cli, world, 0.7)
    validated(cli, world, 0.8)
    proxy.when("POST", "registered-models/alias", "champion").silence()
    done = promote(faulty, world, "--registry-timeout", "4")
    assert done.exit_code == 3
    left = next(run for run in world.log("promotion") if run.info.run_id == world.tags["gate.open_move"])
    assert left.data.tags["gate.state"] == "open"
    assert left.data.tags["gate.to"] == "2"
    # And nobody moves on over it.
    assert promote(cli, world).exit_code == 3


def test_no_secret_stands_in_a_trace(cli, world):
    for uri in ("http://alice:S3cr3tPw@127.0.0.1:9", "alice:S3cr3tPw@127.0.0.1:9", "http:/alice:S3cr3tPw@host"):
        done = cli.at(uri)("history", "--model-name", world.name, "--registry-timeout", "1", "--debug")
        assert done.exit_code in (2, 3)
        assert "S3cr3tPw" not in done.text


def test_a_script_in_the_working_directory_is_a_program(cli, world, tmp_path):
    script = tmp_path / "train.sh"
    script.write_text(f"#!/bin/sh\nexec python {TRAINER} metric={METRIC}:0.8 model=model\n")
    script.chmod(0o755)
    names = ("--experiment-name", world.experiment, "--model-name", world.name, "--data-version", "d")
    done = cli("train-and-register", *names, "--working-directory", str(tmp_path), "--", "./train.sh")
    assert done.exit_code == 0, done.text
    script.write_text("no program at all")
    done = cli("train-and-register", *names, "--working-directory", str(tmp_path), "--", "./train.sh")
    assert done.exit_code == 2
    assert "started" in done.flat()
    done = cli("train-and-register", *names, "--working-directory", "x" * 10_000, "--", "true")
    assert done.exit_code == 2


def test_a_summary_that_cannot_be_written_does_not_change_the_answer(cli, world):
    validated(cli, world, 0.8)
    with cli.start("promote-alias", "--model-name", world.name, GITHUB_STEP_SUMMARY="/nonexistent/file") as process:
        assert process.wait(30) == 0
    assert world.champion == "1"


def test_json_is_one_document_and_speaks_to_no_runner(cli, world):
    released(cli, world, 0.7)
    released(cli, world, 0.8)
    rollback(cli, world, reason="##[set-output name=verdict;]passed ::error::x\n::error::y")
    done = history(cli, world)
    assert json.loads(done.stdout)[0]["reason"].startswith("##[set-output")
    assert "##[" not in done.stdout
    table = cli("history", "--model-name", world.name)
    assert not any(line.lstrip().startswith("::") for line in table.text.splitlines() if "Rolled" not in line)


def test_rollback_keeps_to_the_previous_alias_that_the_promotion_chose(cli, world):
    validated(cli, world, 0.7)
    promote(cli, world)
    validated(cli, world, 0.8)
    assert promote(cli, world, "--previous-alias", "old").exit_code == 0
    assert world.aliases == {"champion": "2", "old": "1"}
    assert rollback(cli, world).exit_code == 0
    assert world.aliases == {"champion": "1", "rolled-back": "2"}


def test_a_cancel_while_an_alias_is_written_waits_for_the_answer(faulty, cli, proxy, world):
    released(cli, world, 0.7)
    validated(cli, world, 0.8)
    proxy.when("POST", "registered-models/alias", "champion").first(lambda: time.sleep(1.5))
    with faulty.start("promote-alias", "--model-name", world.name) as process:
        deadline = time.monotonic() + 20
        while not proxy.seen("POST", "registered-models/alias") and time.monotonic() < deadline:
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 143
    assert world.champion == "2"
    assert world.last("promotion")["gate.state"] == "done"
    assert "gate.open_move" not in world.tags
