"""validate-model on a real registry: what passes, what does not, and what it writes."""

from __future__ import annotations

import base64
import json
import math
import re

import pytest

from tests.support.cli import COMMIT, REPOSITORY

METRIC = "val_ndcg_at_10"


@pytest.fixture
def champion(world):
    """The number of a champion with an NDCG of 0.80; the model was never released by the gate."""
    return world.version(0.80, alias="champion")


def validate(cli, world, *arguments, **env):
    return cli("validate-model", "--model-name", world.name, *arguments, **env)


# -- the first release


def test_first_release_passes_on_its_threshold(cli, world):
    number = world.version(0.81)
    done = validate(cli, world, "--threshold", 0.75)
    assert done.exit_code == 0, done.text
    assert done.outputs["verdict"] == "passed"
    assert (done.outputs["version"], done.outputs["champion-version"]) == (number, "")
    assert float(done.outputs["metric"]) == 0.81
    assert "first release" in done.outputs["reason"].lower()
    assert world.verdict(number)["champion"] == "none"


def test_first_release_below_its_threshold_fails(cli, world):
    number = world.version(0.70)
    done = validate(cli, world, "--threshold", 0.75)
    assert (done.exit_code, done.outputs["verdict"]) == (1, "failed")
    assert world.verdict(number)["outcome"] == "failed"
    assert "champion" not in world.aliases


def test_no_champion_and_no_threshold_is_bad_input_that_names_threshold(cli, world):
    world.version(0.99)
    before = world.snapshot()
    done = validate(cli, world)
    assert done.exit_code == 2
    assert "threshold" in done.text
    assert not done.outputs.get("verdict")
    assert world.snapshot() == before


def test_threshold_has_a_second_name(cli, world):
    world.version(0.81)
    assert validate(cli, world, "--threshold-ndcg", 0.85).exit_code == 1
    assert validate(cli, world, CHAMPION_GATE_THRESHOLD_NDCG="0.75").exit_code == 0
    two = validate(cli, world, CHAMPION_GATE_THRESHOLD="0.75", CHAMPION_GATE_THRESHOLD_NDCG="0.85")
    assert two.exit_code == 2
    assert "threshold-ndcg" in two.text


# -- against a champion


def test_better_challenger_passes(cli, world, champion):
    number = world.version(0.82)
    done = validate(cli, world)
    assert done.exit_code == 0, done.text
    assert done.outputs["champion-version"] == champion
    assert (float(done.outputs["metric"]), float(done.outputs["champion-metric"])) == (0.82, 0.80)
    assert world.champion == champion, "validating moves nothing"
    assert world.aliases["challenger"] == number


@pytest.mark.parametrize(("ndcg", "exit_code"), [(0.784, 0), (0.7839, 1), (0.80, 0)])
def test_the_margin_is_two_percent_and_its_edge_passes(cli, world, champion, ndcg, exit_code):
    world.version(ndcg)
    assert validate(cli, world).exit_code == exit_code


def test_worse_challenger_fails_and_the_champion_stays(cli, world, champion):
    world.version(0.60)
    done = validate(cli, world)
    assert (done.exit_code, done.outputs["verdict"]) == (1, "failed")
    assert world.champion == champion
    assert done.annotations("error"), "a failure is an annotation"


def test_margin_is_the_users(cli, world, champion):
    world.version(0.70)
    assert validate(cli, world, "--max-regression", 0.20).exit_code == 0
    assert validate(cli, world, "--max-regression", 0).exit_code == 1


def test_threshold_binds_beside_a_champion(cli, world, champion):
    world.version(0.82)
    done = validate(cli, world, "--threshold", 0.85)
    assert done.exit_code == 1
    assert "0.85" in done.outputs["reason"]


def test_version_can_be_named_by_number_and_by_uri(cli, world, champion):
    number = world.version(0.82, alias=None)
    for arguments in (
        ("--model-name", world.name, "--version", number),
        ("--model-uri", f"models:/{world.name}/{number}"),
    ):
        done = cli("validate-model", *arguments)
        assert (done.exit_code, done.outputs["version"]) == (0, number), done.text
    world.point("contender", number)
    assert cli("validate-model", "--model-uri", f"models:/{world.name}@contender").outputs["version"] == number


def test_metric_with_at_sign_is_understood(cli, world, champion):
    world.version(0.82)
    done = validate(cli, world, "--metric", "val_ndcg@10")
    assert done.exit_code == 0, done.text


def test_another_champion_alias_has_its_own_verdict(cli, world, champion):
    number = world.version(0.70)
    done = validate(cli, world, "--champion-alias", "champion-eu", "--threshold", 0.65)
    assert done.exit_code == 0, done.text
    assert world.verdict(number, "champion-eu")["alias"] == "champion-eu"
    assert "gate.verdict.champion" not in world.version_tags(number)


# -- figures that are none


def test_champion_without_the_metric_is_never_a_pass(cli, world):
    world.version(metrics={"val_mrr": 0.5, "loss": 0.1}, alias="champion")
    number = world.version(0.99)
    done = validate(cli, world)
    assert done.exit_code == 4
    assert done.outputs["verdict"] == "inconclusive"
    assert "val_mrr" in done.text, "the metrics that do exist are listed"
    assert "loss" in done.text
    assert world.verdict(number)["outcome"] == "inconclusive"


def test_champion_without_the_metric_does_not_pass_on_a_threshold_either(cli, world):
    world.version(metrics={"val_mrr": 0.5}, alias="champion")
    world.version(0.99)
    assert validate(cli, world, "--threshold", 0.5).exit_code == 4


def test_challenger_without_the_metric_is_never_a_pass(cli, world, champion):
    world.version(metrics={"val_mrr": 0.5, "loss": 0.1})
    done = validate(cli, world)
    assert done.exit_code in (1, 4)
    assert done.outputs["verdict"] in ("failed", "inconclusive")
    assert "val_mrr" in done.text
    assert "loss" in done.text


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1.2, -0.1])
def test_challenger_figure_that_cannot_be_is_never_a_pass(cli, world, champion, value):
    world.version(value)
    done = validate(cli, world)
    assert done.exit_code in (1, 4)
    assert done.outputs["verdict"] in ("failed", "inconclusive")


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1.2, -0.1])
def test_champion_figure_that_cannot_be_is_never_a_pass(cli, world, value):
    world.version(value, alias="champion")
    world.version(0.99)
    done = validate(cli, world)
    assert done.exit_code in (1, 4)
    assert done.outputs["verdict"] in ("failed", "inconclusive")


def test_version_without_a_run_is_never_a_pass(cli, world, champion):
    other = world.client.create_model_version(world.name, "s3://elsewhere/model", None, await_creation_for=0)
    done = validate(cli, world, "--version", other.version)
    assert done.exit_code in (1, 4)
    assert done.outputs["verdict"] in ("failed", "inconclusive")


def test_version_of_a_failed_run_is_never_a_pass(cli, world, champion):
    world.version(0.99, status="FAILED")
    assert validate(cli, world).exit_code in (1, 4)


# -- same data or no comparison


def test_other_data_version_is_inconclusive_unless_the_user_says_so(cli, world):
    world.version(0.80, data="2026-10-01", alias="champion")
    world.version(0.90, data="2026-11-01")
    done = validate(cli, world)
    assert (done.exit_code, done.outputs["verdict"]) == (4, "inconclusive")
    assert "2026-10-01" in done.text
    assert "2026-11-01" in done.text
    assert validate(cli, world, "--allow-different-data").exit_code == 0
    assert validate(cli, world, CHAMPION_GATE_ALLOW_DIFFERENT_DATA="true").exit_code == 0
    assert validate(cli, world, CHAMPION_GATE_ALLOW_DIFFERENT_DATA="false").exit_code == 4


def test_same_evaluation_data_may_be_compared_though_trained_on_other_data(cli, world):
    world.version(0.80, data="2026-10-01", evaluation="gold-a", alias="champion")
    world.version(0.90, data="2026-11-01", evaluation="gold-a")
    assert validate(cli, world).exit_code == 0


@pytest.mark.parametrize(
    ("champion_data", "challenger_data"),
    [
        ({"evaluation": "gold-a"}, {"evaluation": "gold-b"}),
        ({"evaluation": "gold-a"}, {}),
        ({}, {"evaluation": "gold-a"}),
        ({"data": None}, {"data": None}),
        ({"data": None}, {}),
    ],
)
def test_data_that_is_other_or_unknown_is_inconclusive(cli, world, champion_data, challenger_data):
    world.version(0.80, alias="champion", **champion_data)
    world.version(0.90, **challenger_data)
    assert validate(cli, world).exit_code == 4


# -- what it writes


def test_verdict_is_one_tag_bound_to_what_was_judged(cli, world, champion):
    number = world.version(0.82)
    done = validate(cli, world)
    text = world.version_tags(number)["gate.verdict.champion"]
    verdict = json.loads(text)
    assert len(text.encode()) <= 5000
    assert text == json.dumps(verdict, sort_keys=True, separators=(",", ":"), ensure_ascii=True), "canonical"
    model = world.client.get_registered_model(world.name)
    version = world.client.get_model_version(world.name, number)
    assert verdict["outcome"] == "passed"
    assert verdict["basis"] == "point estimate"
    assert verdict["purpose"] == "release"
    assert verdict["model"] == {"name": world.name, "created": model.creation_timestamp}
    assert verdict["version"] == {
        "number": number,
        "created": version.creation_timestamp,
        "run_id": world.runs[number],
        "source": version.source,
    }
    assert (verdict["alias"], verdict["champion"], verdict["baseline"]) == ("champion", champion, "none")
    assert (verdict["repository"], verdict["commit"]) == (REPOSITORY, COMMIT)
    assert verdict["gate_run_id"] == done.outputs["gate-run-id"]
    assert verdict["policy_digest"]
    assert verdict["time"]
    assert world.version_tags(number)["gate.outcome"] == "passed"


def test_verdict_fits_its_tag_whatever_the_names(cli, world):
    metrics = {f"{METRIC}/{i:03d}{'x' * 200}": 0.5 for i in range(30)}
    world.version(metrics={**metrics, "other": 1.0}, alias="champion", data="d" * 4000)
    number = world.version(0.9, data="e" * 4000)
    done = validate(cli, world)
    assert done.exit_code == 4, done.text
    assert len(world.version_tags(number)["gate.verdict.champion"].encode()) <= 5000
    assert world.verdict(number)["outcome"] == "inconclusive"


def test_gate_is_a_run_in_the_release_log(cli, world, champion, mlflow_client):
    number = world.version(0.82)
    done = validate(cli, world)
    log = mlflow_client.get_experiment(world.log_experiment)
    assert log.name == f"/search/{world.name}/releases"
    (run,) = world.log()
    assert run.info.run_id == done.outputs["gate-run-id"]
    assert run.info.status == "FINISHED"
    tags = run.data.tags
    assert (tags["gate.kind"], tags["gate.alias"]) == ("gate", "champion")
    assert (tags["gate.from"], tags["gate.to"]) == (champion, number)
    assert tags["gate.actor"] == "ada"
    assert tags["gate.operation_id"]
    assert {"team", "owner", "git.commit", "data.version", "environment", "purpose"} <= set(tags)
    assert set(run.data.metrics.values()) == {0.82, 0.80}


def test_release_log_is_found_by_its_id_once_made(cli, world, champion, mlflow_client):
    world.version(0.82)
    validate(cli, world)
    log = world.log_experiment
    mlflow_client.rename_experiment(log, f"/search/{world.name}/renamed")
    validate(cli, world)
    assert world.log_experiment == log
    assert len(world.log("gate")) == 2


def test_report_is_understood_at_a_glance(cli, world, champion):
    number = world.version(0.60)
    done = validate(cli, world)
    head = done.summary.strip().splitlines()[0]
    assert head.startswith("#")
    assert world.name.replace("-", "") in head.replace("\\", "").replace("-", "")
    assert "failed" in head
    for shown in (number, champion, METRIC, "0.6", "0.8"):
        assert shown in done.summary.replace("\\", "")


def test_outside_github_the_report_is_on_stdout_and_logs_on_stderr(cli, world, champion):
    world.version(0.82)
    done = validate(cli, world, github=False)
    assert done.exit_code == 0
    assert "PASSED" in done.stdout.upper()
    assert "::" not in done.stdout
    printed = validate(cli, world, "--json", github=False)
    assert set(printed.json()) == {
        *("verdict", "version", "champion-version", "metric", "champion-metric", "reason", "gate-run-id"),
        *("basis", "dataset-digest", "queries", "ratio-lower", "ratio-upper", "queries-needed", "report-uri"),
    }


# -- what is not there


def test_missing_model_says_what_was_looked_for_where_and_what_exists(cli, world, mlflow_server):
    world.version(0.8)
    before = world.snapshot()
    done = cli("validate-model", "--model-name", f"{world.name}x", "--threshold", 0.5)
    assert done.exit_code == 2
    assert f"{world.name}x" in done.text
    assert mlflow_server.uri in done.text
    assert re.search(r"\bsearch-[a-z]{10}\b", done.text), "some of those that exist are listed"
    assert not done.outputs.get("verdict")
    assert world.snapshot() == before


def test_missing_alias_lists_the_aliases(cli, untouched):
    done = validate(cli, untouched, "--alias", "contender")
    assert done.exit_code == 2
    for alias in ("contender", "challenger", "previous-champion"):
        assert alias in done.text


def test_missing_version_lists_the_versions(cli, untouched):
    done = validate(cli, untouched, "--version", 77)
    assert done.exit_code == 2
    assert "77" in done.text
    assert "1, 2, 3" in done.text


def test_alias_onto_a_deleted_version_is_never_a_pass(cli, world, champion, mlflow_client):
    number = world.version(0.82)
    mlflow_client.delete_model_version(world.name, number)
    assert validate(cli, world).exit_code == 2


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--threshold", "high"), "threshold"),
        (("--threshold", "nan"), "threshold"),
        (("--threshold", "1.5"), "threshold"),
        (("--max-regression", "-0.1"), "max-regression"),
        (("--max-regression", "1.5"), "max-regression"),
        (("--max-regression", "nan"), "max-regression"),
        (("--version", "latest"), "version"),
        (("--alias", "latest"), "alias"),
        (("--champion-alias", "v2"), "champion-alias"),
        (("--metric", "ndcg;drop"), "metric"),
        (("--registry-timeout", "soon"), "registry-timeout"),
        (("--registry-timeout", "0"), "registry-timeout"),
    ],
)
def test_wrong_input_is_named_as_the_workflow_spells_it(cli, untouched, arguments, named):
    done = validate(cli, untouched, *arguments)
    assert done.exit_code == 2
    assert named in done.text


def test_empty_required_input_is_named(cli):
    done = cli("validate-model", CHAMPION_GATE_MODEL_NAME="")
    assert done.exit_code == 2
    assert "model-name" in done.text


def test_unknown_input_is_named(cli, world, champion):
    world.version(0.82)
    done = validate(cli, world, CHAMPION_GATE_TRESHOLD="0.9")
    assert done.exit_code == 2
    assert "treshold" in done.text
    assert "threshold" in done.text


@pytest.mark.parametrize("uri", [None, "", "mlruns", "./mlruns", "/var/mlruns", "file:///var/mlruns", "sqlite:///m.db"])
def test_unset_or_local_registry_is_bad_input_not_a_silent_local_store(cli, uri, tmp_path):
    done = cli("validate-model", "--model-name", "search-ranker", "--threshold", 0.5, MLFLOW_TRACKING_URI=uri)
    assert done.exit_code == 2
    assert "MLFLOW_TRACKING_URI" in done.text
    assert not list(tmp_path.rglob("mlruns"))
    assert not list(tmp_path.rglob("*.db"))


def test_registry_may_be_another_server_than_the_one_that_tracks(cli, world, proxy, champion):
    world.version(0.82)
    done = validate(cli, world, MLFLOW_REGISTRY_URI=proxy.uri)
    assert done.exit_code == 0, done.text
    assert proxy.seen("GET", "registered-models/get")
    assert not proxy.seen(path="/mlflow/runs/")
    local = validate(cli, world, MLFLOW_REGISTRY_URI="sqlite:///registry.db")
    assert local.exit_code == 2
    assert "MLFLOW_REGISTRY_URI" in local.text


def test_credentials_reach_the_server_and_nobody_else(cli, world, proxy, champion):
    world.version(0.82)
    uri = proxy.uri.replace("http://", "http://ada:hunter2@")
    assert validate(cli.at(uri), world).exit_code == 0
    env = {"MLFLOW_TRACKING_USERNAME": "ada", "MLFLOW_TRACKING_PASSWORD": "hunter2"}
    done = validate(cli.at(proxy.uri), world, **env)
    assert done.exit_code == 0
    assert "hunter2" not in done.text + str(world.snapshot())
    basic = base64.b64encode(b"ada:hunter2").decode()
    assert {request.headers.get("Authorization") for request in proxy.requests} == {f"Basic {basic}"}


def test_pull_request_verdict_never_promotes(cli, world, champion):
    number = world.version(0.82)
    done = validate(cli, world, GITHUB_EVENT_NAME="pull_request")
    assert done.exit_code == 0
    assert world.verdict(number)["purpose"] == "check"
    refused = cli("promote-alias", "--model-name", world.name, "--version", number)
    assert refused.exit_code == 1
    assert world.champion == champion
