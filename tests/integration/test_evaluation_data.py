"""validate-model --evaluation-data: real models of a real registry, scored now in processes of their own."""

from __future__ import annotations

import os
import signal
import time

import polars as pl
import pytest

from tests.support import judged
from tests.support.names import unique_model_name
from tests.support.registry_world import World

DATA = judged.queries()
CURRENT = ("--environment", "current")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def rankers(mlflow_client, mlflow_server, tmp_path_factory) -> World:
    """A registered model with four real rankers; version 1 is champion. Tests leave it as it is."""
    world = World(mlflow_client, unique_model_name())
    folder = tmp_path_factory.mktemp("rankers")
    for feature, sign in (("good", 1.0), ("poor", 1.0), ("good", 2.0), ("missing", 1.0)):
        number = judged.log_ranker(mlflow_client, mlflow_server.uri, world.name, feature, folder, sign=sign)
    assert number == "4"
    world.point("champion", "1")
    return world


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "judged.parquet"
    DATA.write_parquet(path)
    return path


def gate(cli, world, number, path, *arguments, **env):
    given = ("--model-name", world.name, "--version", number, "--evaluation-data", path)
    return cli("validate-model", *given, *CURRENT, *arguments, **env)


def test_both_models_are_scored_on_the_same_queries_and_the_worse_one_fails(cli, rankers, data):
    done = gate(cli, rankers, 2, data, "--document-column", "document_id", "--slice-column", "device")
    assert (done.exit_code, done.outputs["verdict"]) == (1, "failed"), done.text
    from champion_gate.ndcg import ndcg

    offsets = pl.Series(range(0, DATA.height + 1, 12)).to_numpy()
    for feature, output in (("poor", "metric"), ("good", "champion-metric")):
        values = ndcg(DATA["label"].cast(pl.Float64).to_numpy(), DATA[feature].to_numpy(), offsets)
        assert float(done.outputs[output]) == pytest.approx(values[values == values].mean(), abs=1e-12)
    assert rankers.verdict("2")["isolation"]
    assert rankers.verdict("2")["isolation"] in done.flat()


def test_the_champion_is_not_scored_again_on_the_same_data(cli, rankers, data, tmp_path):
    first = gate(cli, rankers, 3, data)
    assert first.exit_code == 0, first.text
    again = gate(cli, rankers, 3, data)
    assert again.exit_code == 0, again.text
    assert "was scored on this data before" in again.stderr
    assert "champion version 1 is scored" not in again.stderr
    assert again.outputs["champion-metric"] == first.outputs["champion-metric"]
    # On other queries, or by other rules, it is.
    other = tmp_path / "other.parquet"
    judged.queries(seed=2).write_parquet(other)
    policy = tmp_path / "policy.yml"
    policy.write_text("metrics: [{name: ndcg@10, gain: linear}]")
    for path, arguments in ((other, ()), (data, ("--policy", policy))):
        assert "was scored on this data before" not in gate(cli, rankers, 3, path, *arguments).stderr


def test_a_release_does_not_rest_on_what_a_pull_request_found_nor_on_another_environment(cli, rankers, tmp_path):
    path = tmp_path / "fourth.parquet"
    judged.queries(seed=4).write_parquet(path)
    in_pull_request = {"GITHUB_EVENT_NAME": "pull_request"}
    assert gate(cli, rankers, 3, path, **in_pull_request).exit_code == 0
    said = "was scored on this data before"
    assert said not in gate(cli, rankers, 3, path).stderr
    assert said in gate(cli, rankers, 3, path).stderr
    assert said in gate(cli, rankers, 3, path, **in_pull_request).stderr
    given = ("--model-name", rankers.name, "--version", 3, "--evaluation-data", path)
    done = cli("validate-model", *given, timeout=300, XDG_CACHE_HOME=None)
    assert done.exit_code == 0, done.text
    assert said not in done.stderr


def test_a_table_in_the_log_that_was_changed_is_not_used(cli, rankers, data, mlflow_client, tmp_path):
    path = tmp_path / "third.parquet"
    judged.queries(seed=3).write_parquet(path)
    first = gate(cli, rankers, 3, path)
    run_id = first.outputs["gate-run-id"]
    table = mlflow_client.download_artifacts(run_id, "per_query.parquet", str(tmp_path))
    forged = tmp_path / "forged" / "per_query.parquet"
    forged.parent.mkdir()
    pl.read_parquet(table).with_columns(pl.col("champion/ndcg@10") * 0.5).write_parquet(forged)
    mlflow_client.log_artifact(run_id, str(forged))
    done = gate(cli, rankers, 3, path)
    assert done.exit_code == 0, done.text
    assert "is not the file that the gate wrote" in done.stderr
    assert done.outputs["champion-metric"] == first.outputs["champion-metric"]


def test_a_challenger_that_cannot_be_asked_fails_and_says_why(cli, rankers, data):
    done = gate(cli, rankers, 4, data)
    assert (done.exit_code, done.outputs["verdict"]) == (1, "failed"), done.text
    assert "missing" in done.outputs["reason"], "the column that its code asks for"
    assert "challenger version 4" in done.outputs["reason"].lower()
    check = rankers.verdict("4")["checks"][0]
    assert (check["name"], check["outcome"]) == ("servable", "failed")


def test_a_champion_that_cannot_be_asked_leaves_it_open(cli, rankers, data):
    rankers.point("broken-champion", "4")
    done = gate(cli, rankers, 3, data, "--champion-alias", "broken-champion", "--threshold", 0.1)
    assert (done.exit_code, done.outputs["verdict"]) == (4, "inconclusive"), done.text
    assert "champion version 4" in done.outputs["reason"].lower()


def test_features_that_a_model_needs_and_the_table_lacks_are_bad_input(cli, rankers, tmp_path):
    path = tmp_path / "judged.csv"
    DATA.drop("poor").write_csv(path)
    done = gate(cli, rankers, 2, path)
    assert done.exit_code == 2
    for word in ("judged.csv", "poor", "version 2"):
        assert word in done.flat()


def test_bad_data_is_found_before_any_model_is_run(cli, rankers, tmp_path):
    path = tmp_path / "judged.parquet"
    DATA.with_columns(label=pl.lit(-1)).write_parquet(path)
    done = gate(cli, rankers, 2, path)
    assert done.exit_code == 2
    assert "Fetching" not in done.stderr


def test_data_comes_from_the_runs_artifacts_and_datasets_too(cli, rankers, data, mlflow_client):
    run_id = mlflow_client.get_model_version(rankers.name, "3").run_id
    mlflow_client.log_artifact(run_id, str(data), "evaluation")
    there = gate(cli, rankers, 3, data)
    fetched = gate(cli, rankers, 3, f"runs:/{run_id}/evaluation/judged.parquet")
    assert fetched.exit_code == there.exit_code == 0, fetched.text
    assert fetched.outputs["dataset-digest"] == there.outputs["dataset-digest"]
    missing = gate(cli, rankers, 3, f"runs:/{run_id}/evaluation/nothing.parquet")
    assert missing.exit_code in (2, 3)
    assert not missing.outputs.get("verdict")


def test_a_policy_that_demands_a_sandbox_is_kept(cli, rankers, data, tmp_path):
    policy = tmp_path / "policy.yml"
    policy.write_text("metrics: [{name: ndcg@10}]\nisolation: sandbox")
    done = gate(cli, rankers, 3, data, "--policy", policy, "--isolation", "process")
    assert done.exit_code == 2
    assert "isolation" in done.text
    # What was scored without one before does not count for it either.
    other = tmp_path / "sandbox.parquet"
    judged.queries(seed=7).write_parquet(other)
    assert gate(cli, rankers, 3, other, "--isolation", "process").exit_code == 0
    assert rankers.verdict("3")["isolation"] == "process"
    again = gate(cli, rankers, 3, other)
    assert rankers.verdict("3")["isolation"] == "process", "the champion's figures are of a model that was not shut in"
    assert "was scored on this data before" in again.stderr
    done = gate(cli, rankers, 3, other, "--policy", policy)
    assert "was scored on this data before" not in done.stderr
    if done.exit_code != 2:  # a machine without any says so
        assert done.exit_code == 0, done.text
        assert rankers.verdict("3")["isolation"].startswith("sandbox")


def test_each_model_gets_an_environment_made_from_its_requirements(cli, rankers, data):
    given = ("--model-name", rankers.name, "--version", 3, "--evaluation-data", data)
    done = cli("validate-model", *given, timeout=300, XDG_CACHE_HOME=None)
    assert done.exit_code == 0, done.text
    again = cli("validate-model", *given, timeout=300)
    assert "installing the environment" not in again.stderr


def test_a_release_is_judged_on_queries_too(cli, world, data, tmp_path, mlflow_client, mlflow_server):
    judged.log_ranker(mlflow_client, mlflow_server.uri, world.name, "poor", tmp_path)
    world.point("champion", "1")
    judged.log_ranker(mlflow_client, mlflow_server.uri, world.name, "good", tmp_path)
    report = tmp_path / "reports" / "verdict.html"
    done = cli(
        *("release", "--model-name", world.name, "--evaluation-data", data, "--scoring-environment", "current"),
        *("--report-file", report),
    )
    assert (done.exit_code, done.outputs["verdict"], done.outputs["changed"]) == (0, "passed", "true"), done.text
    assert world.champion == "2"
    assert "passed" in report.read_text(encoding="utf-8")


def test_where_the_store_takes_no_files_the_verdict_stands_and_says_so(cli, proxy, rankers, data):
    proxy.when("PUT", "mlflow-artifacts").answer(403)
    done = gate(cli.at(proxy.uri), rankers, 3, data)
    assert done.exit_code == 0, done.text
    assert done.annotations("warning")
    assert done.outputs["report-uri"] == ""
    assert rankers.verdict("3")["outcome"] == "passed"


def test_python_on_path_that_has_no_mlflow_is_an_error_that_says_what_to_do(cli, rankers, data):
    done = gate(cli, rankers, 3, data, PATH="/usr/bin:/bin")
    assert done.exit_code in (1, 2)
    assert "mlflow" in done.flat().lower()


@pytest.mark.parametrize(("number", "exit_code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_cancelled_gate_ends_at_once_and_leaves_no_verdict(cli, rankers, data, number, exit_code):
    before = rankers.version_tags("2")
    given = ("--model-name", rankers.name, "--version", 2, "--evaluation-data", data, *CURRENT)
    with cli.start("validate-model", *given) as process:
        for line in process.stderr:
            if "is scored in isolation" in line:
                break
        began = time.monotonic()
        os.killpg(process.pid, number)
        assert process.wait(timeout=30) == exit_code
    assert time.monotonic() - began < 7
    assert rankers.version_tags("2") == before
