"""Workflows that a user could have written, run by a real runner against a real registry."""

from __future__ import annotations

import itertools
import re
from pathlib import Path

import pytest

from tests.support.registry_world import logged_model

HERE = Path(__file__).resolve().parent
TRAINING = {"train.py": (HERE / "ranker" / "train.py").read_text(encoding="utf-8")}

pytestmark = pytest.mark.slow


def workflow(name: str) -> str:
    return (HERE / "workflows" / f"{name}.yml").read_text(encoding="utf-8")


def aliases(client, model: str) -> dict[str, str]:
    return {alias: str(version) for alias, version in client.get_registered_model(model).aliases.items()}


def add_version(client, model: str, ndcg: float, alias: str) -> str:
    """A version as training leaves it: a run with tags and a metric, registered, with an alias."""
    experiment = client.get_experiment_by_name("/search/ranking/training")
    where = experiment.experiment_id if experiment else client.create_experiment("/search/ranking/training")
    run = client.create_run(where, tags={"team": "search", "data.version": "q", "evaluation.data.version": "queries-1"})
    client.log_metric(run.info.run_id, "val_ndcg_at_10", ndcg)
    client.set_terminated(run.info.run_id)
    if not client.search_registered_models(f"name='{model}'"):
        client.create_registered_model(model)
    version = client.create_model_version(model, logged_model(client, run.info.run_id), run.info.run_id)
    client.set_registered_model_alias(model, alias, version.version)
    return str(version.version)


def test_the_four_actions_release_twice_and_take_the_second_release_back(runner, mlflow_client, model_name):
    ran = runner.run(workflow("four-actions"), variables={"MODEL": model_name}, files=TRAINING)

    assert ran.success, ran.log
    assert aliases(mlflow_client, model_name) == {"champion": "1", "rolled-back": "2"}

    first, second = (mlflow_client.get_model_version(model_name, number) for number in "12")
    run = mlflow_client.get_run(first.run_id)
    assert run.info.status == "FINISHED"
    assert run.data.tags["ticket"] == "SEARCH-12"
    assert run.data.tags["note"] == 'a = b, "quoted"'
    assert run.data.tags["owner"] == "ada"
    assert second.tags["approved_by"] == "grace"
    assert second.tags["rollback_reason"] == "Clicks fell by a tenth"

    assert ran["train-first"].outputs == {
        "run-id": first.run_id,
        "version": "1",
        "model-uri": f"models:/{model_name}/1",
    }
    validated = ran["validate-first"].outputs
    assert validated.pop("reason")
    assert mlflow_client.get_run(validated.pop("gate-run-id")).data.tags["gate.kind"] == "gate"
    assert float(validated.pop("metric")) == 0.70
    assert validated.pop("report-uri").endswith("/report.html")
    assert validated.pop("basis") == "point estimate"
    known = {"verdict": "passed", "version": "1", "champion-version": "", "champion-metric": ""}
    no_queries = ("dataset-digest", "queries", "ratio-lower", "ratio-upper", "queries-needed")
    assert validated == known | dict.fromkeys(no_queries, "")
    validated = ran["validate-second"].outputs
    assert (validated["verdict"], validated["version"], validated["champion-version"]) == ("passed", "2", "1")
    assert (float(validated["metric"]), float(validated["champion-metric"])) == (0.74, 0.70)

    for step, expected in (
        ("promote-first", {"version": "1", "previous-version": "", "changed": "true"}),
        ("promote-second", {"version": "2", "previous-version": "1", "changed": "true"}),
        ("rollback", {"version": "1", "rolled-back-version": "2", "changed": "true"}),
    ):
        outputs = dict(ran[step].outputs)
        assert mlflow_client.get_run(outputs.pop("release-run-id")).data.tags["gate.state"] == "done"
        assert outputs == expected


def test_a_failing_gate_fails_its_step_says_so_and_moves_nothing(runner, mlflow_client, model_name):
    champion = add_version(mlflow_client, model_name, 0.70, "champion")
    challenger = add_version(mlflow_client, model_name, 0.60, "challenger")
    before = aliases(mlflow_client, model_name)

    ran = runner.run(workflow("refusals"), variables={"MODEL": model_name})

    assert ran.success, ran.log
    for step in ("worse", "release-worse"):
        assert ran[step].outcome == "failure"
        assert ran[step].outputs["verdict"] == "failed"
        assert ran[step].outputs["version"] == challenger
        assert ran[step].outputs["champion-version"] == champion
    assert ran["release-worse"].outputs["changed"] != "true"
    assert ran["promote-worse"].outcome == "failure"
    assert ran["promote-worse"].outputs.get("changed") != "true"
    assert aliases(mlflow_client, model_name) == before

    # How a command ended, and which input it named, is in the runner's log and annotations only.
    for step, name in (("nameless", "model-name"), ("not-a-number", "max-regression")):
        assert ran[step].outcome == "failure"
        assert not {*ran[step].outputs.values()} - {"", "false"}  # changed is false
        assert f"The input '{name}'" in ran.log
    codes = re.findall(r"exit status (\d+)", ran.log)
    assert [code for code, _ in itertools.groupby(codes)] == ["1", "2"]


def test_text_of_strangers_is_recorded_and_never_run(runner, mlflow_client, model_name):
    add_version(mlflow_client, model_name, 0.70, "champion")
    line = (
        '"double" \'single\' $(touch "$RESULTS/pwned") `touch "$RESULTS/pwned"` ${HOME} ; touch "$RESULTS/pwned" #'
        " ::set-output name=version::999 %0A::set-output name=version::999 \x1b[31m | <b> @here"
    )
    text = "\n".join(
        (
            "first line",
            line,
            "::set-output name=version::999",
            "::add-mask::passed",
            "::stop-commands::x",
            "##[error]not mine",
            "%0Aversion=999",
            "version=999",
            "verdict<<EOF",
            "passed",
            "EOF",
            "\r\ttabbed",
            "x" * 10_000,
        )
    )

    ran = runner.run(
        workflow("hostile"),
        event="workflow_dispatch",
        inputs={"text": text, "line": line},
        variables={"MODEL": model_name},
        files=TRAINING,
    )

    assert ran.success, ran.log
    assert not (ran.results / "pwned").exists()
    assert not [name for name in ("set-output name", "add-mask", "stop-commands") if f"⚙  ::{name}" in ran.log]
    released, rolled_back = ran["release"].outputs, ran["rollback"].outputs
    assert (released["version"], released["verdict"], released["changed"]) == ("2", "passed", "true")
    assert (rolled_back["version"], rolled_back["rolled-back-version"]) == ("1", "2")
    assert set(rolled_back) == {"version", "rolled-back-version", "changed", "release-run-id"}
    assert aliases(mlflow_client, model_name) == {"champion": "1", "rolled-back": "2"}

    for refused in ("model-name", "metric", "from-alias", "experiment-name"):
        assert ran[refused].outcome == "failure"
        assert not {*ran[refused].outputs.values()} - {"", "false"}

    version = mlflow_client.get_model_version(model_name, "2")
    tags = mlflow_client.get_run(version.run_id).data.tags
    assert tags["owner"] == tags["data.version"] == tags["note"] == line
    # Longer text is cut at the end, where the servers cannot keep it all.
    kept = text[:4900]
    for recorded in (version.description, *map(version.tags.get, ("training_data", "approved_by", "rollback_reason"))):
        assert recorded.startswith(kept)
