"""A model's way from training to a rollback, through TLS and sign-in, with its files in S3 and the lease in Redis."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.support import judged
from tests.support.cli import ROOT
from tests.support.names import unique_model_name
from tests.support.registry_world import World
from tests.support.steps import history, promote, released, rollback, train, validated

EXAMPLE = ROOT / "examples" / "search-ranker"


def objects(stack, prefix):
    """The keys of the store that begin so."""
    found = stack.s3.client().list_objects_v2(Bucket=stack.s3.bucket, Prefix=prefix)
    return [each["Key"] for each in found.get("Contents", [])]


def test_from_training_to_a_rollback_and_the_history_of_it(cli, world, lease, stack):
    for ndcg, champion in ((0.80, "1"), (0.85, "2")):
        trained = train(cli, world.experiment, world.name, ndcg, *lease)
        assert trained.exit_code == 0, trained.text
        run = world.client.get_run(trained.outputs["run-id"])
        experiment, run_id = run.info.experiment_id, run.info.run_id
        folder = f"artifacts/{experiment}/{run_id}/artifacts/model/"
        assert objects(stack, folder) == [folder + "MLmodel", folder + "weights.txt"]
        judgement = cli("validate-model", "--model-name", world.name, "--threshold", 0.75)
        assert judgement.exit_code == 0, judgement.text
        done = promote(cli, world, *lease, "--version", trained.outputs["version"])
        assert (done.exit_code, done.outputs["changed"]) == (0, "true"), done.text
        assert world.champion == trained.outputs["version"] == champion

    worse = train(cli, world.experiment, world.name, 0.60, *lease)
    assert cli("validate-model", "--model-name", world.name).exit_code == 1
    assert promote(cli, world, *lease, "--version", worse.outputs["version"]).exit_code == 1
    assert world.champion == "2"

    back = rollback(cli, world, *lease, reason="clicks fell")
    assert back.exit_code == 0, back.text
    assert world.aliases == {"champion": "1", "rolled-back": "2", "challenger": "3"}

    rows = history(cli, world).json()
    assert [(row["kind"], row["to"], row["verdict"]) for row in rows if row["kind"] == "gate"] == [
        ("gate", "3", "failed"),
        ("gate", "2", "passed"),
        ("gate", "1", "passed"),
    ]
    moves = [run.data.tags for run in world.log() if run.data.tags["gate.kind"] != "gate"]
    assert [(tags["gate.kind"], tags["gate.state"], tags["gate.leased"]) for tags in moves] == [
        ("promotion", "done", "true"),
        ("promotion", "done", "true"),
        ("rollback", "done", "true"),
    ]
    fences = [int(tags["gate.fence"]) for tags in moves]
    assert fences == sorted(set(fences))


@pytest.mark.slow
def test_the_examples_ranker_is_trained_and_judged_on_queries_that_lie_in_s3(cli, world, lease, stack, tmp_path):
    subprocess.run([sys.executable, EXAMPLE / "data.py", "--output", tmp_path], check=True, capture_output=True)
    s3 = stack.s3.client()
    s3.create_bucket(Bucket=world.name)
    s3.upload_file(str(tmp_path / "evaluation.parquet"), world.name, "eval/queries.parquet")
    done = cli(
        "release",
        *("--experiment-name", world.experiment, "--model-name", world.name, "--data-version", "2026-11-01", *lease),
        *("--evaluation-data", f"s3://{world.name}/eval/queries.parquet", "--document-column", "document_id"),
        *("--scoring-environment", "current", "--threshold", 0.5),
        *("--", "python", EXAMPLE / "train.py", "--data", tmp_path, "--rounds", 20),
        **stack.s3.variables(),
        timeout=300,
    )
    assert (done.exit_code, done.outputs["verdict"], done.outputs["changed"]) == (0, "passed", "true"), done.text
    assert world.champion == "1"
    gate = world.client.get_run(done.outputs["gate-run-id"])
    folder = f"artifacts/{gate.info.experiment_id}/{gate.info.run_id}/artifacts/"
    assert folder + "per_query.parquet" in objects(stack, folder)


def test_models_are_scored_that_only_the_server_can_fetch(cli, stack, mlflow_client, tmp_path):
    world = World(mlflow_client, unique_model_name())
    for feature in ("poor", "good"):
        judged.log_ranker(mlflow_client, stack.uri, world.name, feature, tmp_path)
    world.point("champion", "1")
    data = tmp_path / "judged.parquet"
    judged.queries().write_parquet(data)
    done = cli("validate-model", "--model-name", world.name, "--evaluation-data", data, "--environment", "current")
    assert (done.exit_code, done.outputs["verdict"]) == (0, "passed"), done.text


def test_jobs_that_promote_at_one_time_take_turns(cli, world, lease):
    released(cli, world, 0.80)
    numbers = [validated(cli, world, ndcg) for ndcg in (0.81, 0.82, 0.83)]
    # Each was judged against version 1: the first to come is promoted, and the others are to be judged anew.
    with contextlib.ExitStack() as running:
        arguments = ("--model-name", world.name, *lease, "--lock-timeout", "120")
        jobs = [running.enter_context(cli.start("promote-alias", "--version", each, *arguments)) for each in numbers]
        said = [job.communicate(timeout=120) for job in jobs]
    assert sorted(job.returncode for job in jobs) == [0, 1, 1], said
    promoted = [number for number, job in zip(numbers, jobs, strict=True) if job.returncode == 0]
    assert world.aliases["champion"] == promoted[0]
    assert world.aliases["previous-champion"] == "1"
    assert [run.data.tags["gate.state"] for run in world.log("promotion")] == ["done", "done"]
    assert "gate.open_move" not in world.tags


@pytest.mark.parametrize("service", ["postgres", "redis"])
def test_while_a_server_is_away_nothing_moves_and_afterwards_it_does(cli, waiting, lease, stack, service):
    before = waiting.snapshot()
    with stack.outage(service):
        done = promote(cli, waiting, *lease, "--registry-timeout", "10")
    assert done.exit_code == 3, done.text
    assert waiting.snapshot() == before
    done = promote(cli, waiting, *lease)
    assert (done.exit_code, done.outputs["changed"]) == (0, "true"), done.text
    assert waiting.champion == "3"


def test_the_pools_stay_within_what_the_database_allows(world, stack):
    world.version(0.80)
    seen = []

    def call(i):
        if i % 50 == 0:
            seen.append(stack.database_connections())
        return world.client.get_registered_model(world.name).name

    with ThreadPoolExecutor(32) as pool:
        assert set(pool.map(call, range(320))) == {world.name}
    # As examples/server/README.md says.
    assert 0 < max(seen) <= stack.workers * 3 * (4 + 2) + 1
