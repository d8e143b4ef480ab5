"""validate-model on tables that carry the scores of both models, and on TREC rankings: real registry, real files."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.support import judged

DATA = judged.queries()


@pytest.fixture
def pair(world):
    """A champion and a challenger whose runs know nothing of use."""
    world.version(metrics={"loss": 1.0, "latency": 50.0}, alias="champion")
    world.version(metrics={"loss": 1.0, "latency": 52.0})
    return world


def write(folder, frame, name="scores.parquet"):
    path = folder / name
    if name.endswith(".parquet"):
        frame.write_parquet(path)
    elif name.endswith(".csv"):
        frame.write_csv(path)
    else:
        frame.write_ndjson(path)
    return path


def gate(cli, world, path, *arguments, **env):
    return cli("validate-model", "--model-name", world.name, "--scores", path, *arguments, **env)


def test_a_better_challenger_passes_and_the_verdict_says_on_what(cli, pair, tmp_path, mlflow_client):
    table = judged.scored(DATA, challenger=DATA["good"], champion=judged.noisy(DATA, 0.5))
    done = gate(cli, pair, write(tmp_path, table), "--threshold", 0.5)
    assert done.exit_code == 0, done.text
    out = done.outputs
    assert (out["verdict"], out["basis"], out["queries"]) == ("passed", "judged queries", "300")
    assert float(out["metric"]) > float(out["champion-metric"])
    assert float(out["ratio-lower"]) >= 0.98
    verdict = pair.verdict("2")
    assert verdict["basis"] == "judged queries"
    assert verdict["dataset_digest"] == out["dataset-digest"]
    assert re.fullmatch(r"sha256:[0-9a-f]{64}", out["dataset-digest"])
    assert verdict["metric_options"]["ndcg@10"].startswith("gain exp")
    assert verdict["isolation"] is None

    run = mlflow_client.get_run(out["gate-run-id"])
    assert {entry.dataset.name for entry in run.inputs.dataset_inputs} == {"scores.parquet"}
    assert run.data.metrics["champion.ndcg_at_10.ratio"] > 1
    files = {item.path for item in mlflow_client.list_artifacts(run.info.run_id)}
    assert files == {"verdict.json", "per_query.parquet", "report.html"}
    document = json.loads(read(mlflow_client, run, "verdict.json", tmp_path))
    (check,) = [check for check in document["checks"] if check["name"] == "champion"]
    assert check["estimate"]["n"] == sum(check["estimate"][key] for key in ("wins", "ties", "losses"))
    per_query = pl.read_parquet(mlflow_client.download_artifacts(run.info.run_id, "per_query.parquet", str(tmp_path)))
    assert per_query.height == 300
    assert per_query["challenger/ndcg@10"].mean() == pytest.approx(float(out["metric"]))
    assert "<html" in read(mlflow_client, run, "report.html", tmp_path)


def read(client, run, name, folder):
    return Path(client.download_artifacts(run.info.run_id, name, str(folder))).read_text(encoding="utf-8")


def test_a_worse_challenger_fails_and_noise_is_inconclusive(cli, pair, tmp_path):
    worse = judged.scored(DATA, challenger=DATA["poor"], champion=DATA["good"])
    done = gate(cli, pair, write(tmp_path, worse))
    assert (done.exit_code, done.outputs["verdict"]) == (1, "failed")
    # Two rankers of one kind, with noise of their own: they differ on most queries, and hardly in the mean.
    fit = DATA["poor"].to_numpy()
    noise = np.random.default_rng(3).standard_normal((2, len(fit)))
    open_ = judged.scored(DATA, challenger=fit + 1.4 * noise[0], champion=fit + noise[1])
    done = gate(cli, pair, write(tmp_path, open_))
    assert (done.exit_code, done.outputs["verdict"]) == (4, "inconclusive")
    assert int(done.outputs["queries-needed"]) > 300
    assert done.outputs["queries-needed"] in done.flat().replace(",", "")
    assert pair.verdict("2")["outcome"] == "inconclusive"


def test_inconclusive_can_pass_the_step_and_is_promoted_only_if_the_policy_says_so(cli, pair, tmp_path):
    few = DATA.filter(pl.col("query_id") < "q00050")
    path = write(tmp_path, judged.scored(few, challenger=few["good"], champion=few["good"]))
    done = gate(cli, pair, path, "--on-inconclusive", "pass-with-warning")
    assert (done.exit_code, done.outputs["verdict"]) == (0, "inconclusive")
    assert done.annotations("warning")
    refused = cli("promote-alias", "--model-name", pair.name, "--version", 2)
    assert refused.exit_code == 1
    assert "inconclusive" in refused.text
    policy = tmp_path / "policy.yml"
    policy.write_text("metrics: [{name: ndcg@10}]\npromote-inconclusive: true\n")
    strict = gate(cli, pair, path, "--policy", policy)
    assert strict.exit_code == 4
    assert cli("promote-alias", "--model-name", pair.name, "--version", 2).exit_code == 1
    assert gate(cli, pair, path, "--policy", policy, "--on-inconclusive", "pass-with-warning").exit_code == 0
    promoted = cli("promote-alias", "--model-name", pair.name, "--version", 2)
    assert promoted.exit_code == 0, promoted.text
    assert pair.champion == "2"


def test_release_follows_the_same_rule(cli, pair, tmp_path):
    few = DATA.filter(pl.col("query_id") < "q00050")
    path = write(tmp_path, judged.scored(few, challenger=few["good"], champion=few["good"]))
    done = cli("release", "--model-name", pair.name, "--scores", path, "--on-inconclusive", "pass-with-warning")
    assert (done.exit_code, done.outputs["verdict"], done.outputs["changed"]) == (0, "inconclusive", "false")
    assert pair.champion == "1"
    table = judged.scored(DATA, challenger=DATA["good"], champion=judged.noisy(DATA, 0.5))
    done = cli("release", "--model-name", pair.name, "--scores", write(tmp_path, table))
    assert (done.exit_code, done.outputs["changed"]) == (0, "true"), done.text
    assert pair.champion == "2"


def test_a_first_release_needs_no_champion_column(cli, world, tmp_path):
    world.version(metrics={"loss": 1.0})
    path = write(tmp_path, judged.scored(DATA, challenger=DATA["good"]))
    done = gate(cli, world, path, "--threshold", 0.5)
    assert done.exit_code == 0, done.text
    assert gate(cli, world, path, "--threshold", 0.999).exit_code == 1
    done = gate(cli, world, path)
    assert done.exit_code == 2
    assert "threshold" in done.text


def test_an_artifact_store_that_drips_does_not_hold_up_the_verdict_for_long(cli, proxy, pair, tmp_path):
    proxy.when("PUT", "mlflow-artifacts").drip()
    path = write(tmp_path, judged.scored(DATA, challenger=DATA["good"], champion=DATA["good"]))
    done = gate(cli.at(proxy.uri), pair, path, "--registry-timeout", 5)
    assert (done.exit_code, done.outputs["report-uri"]) == (0, ""), done.text
    assert any("was not done with it" in line for line in done.annotations("warning"))
    assert pair.verdict("2")["outcome"] == "passed"


def test_the_first_evidence_that_is_given_counts(cli, pair, tmp_path):
    path = write(tmp_path, judged.scored(DATA, challenger=DATA["good"], champion=DATA["good"]))
    done = gate(cli, pair, path, "--qrels", tmp_path / "nowhere")
    assert done.exit_code == 0, done.text
    assert done.outputs["basis"] == "judged queries"


def test_run_metrics_do_not_replace_what_judged_queries_said(cli, pair, tmp_path):
    worse = write(tmp_path, judged.scored(DATA, challenger=DATA["poor"], champion=DATA["good"]))
    assert gate(cli, pair, worse).exit_code == 1
    before = pair.snapshot()
    done = cli("validate-model", "--model-name", pair.name, "--metric", "loss", "--max-regression", 0.5)
    assert done.exit_code == 1
    assert "judged queries" in done.text
    assert not done.outputs.get("verdict")
    assert pair.snapshot() == before
    # Against another champion it is another question.
    pair.version(metrics={"loss": 1.0}, alias="champion")
    done = cli("validate-model", "--model-name", pair.name, "--version", 2, "--metric", "loss")
    assert done.exit_code == 0, done.text


def test_another_champion_than_the_one_that_was_scored_is_refused(cli, pair, tmp_path):
    path = write(tmp_path, judged.scored(DATA, challenger=DATA["good"], champion=DATA["good"]))
    before = pair.snapshot()
    done = gate(cli, pair, path, "--champion-version", 7)
    assert done.exit_code == 1
    assert "version 1, not version 7" in done.text
    assert pair.snapshot() == before
    assert gate(cli, pair, path, "--champion-version", 1).exit_code == 0


def test_the_same_content_has_the_same_digest_in_any_format(cli, pair, tmp_path):
    table = judged.scored(DATA, challenger=DATA["good"], champion=DATA["good"])
    digests = {
        gate(cli, pair, write(tmp_path, table, name), "--document-column", "document_id").outputs["dataset-digest"]
        for name in ("scores.parquet", "scores.csv", "scores.jsonl")
    }
    assert len(digests) == 1
    assert "" not in digests


def test_slices_and_baseline_of_a_policy_are_judged(cli, pair, tmp_path):
    bad_on_mobile = np.where(DATA["device"].to_numpy() == "mobile", DATA["poor"].to_numpy(), DATA["good"].to_numpy())
    table = judged.scored(DATA, challenger=bad_on_mobile, champion=DATA["good"], baseline=DATA["good"])
    (tmp_path / ".github" / "champion-gate").mkdir(parents=True)
    policy = tmp_path / ".github" / "champion-gate" / f"{pair.name}.yml"
    policy.write_text(
        "metrics: [{name: ndcg@10, max-regression: 0.6}, {name: latency, direction: lower, max-regression: 0.1}]\n"
        "baseline: {version: 1, max-regression: 0.5}\nmin-queries: 50\n"
        "slices: [{column: device, required: [desktop], max-regression: 0.05}, {column: locale}]\n"
    )
    done = gate(cli, pair, write(tmp_path, table))
    assert (done.exit_code, done.outputs["verdict"]) == (1, "failed"), done.text
    assert "device=mobile" in done.outputs["reason"]
    assert "device=desktop" not in done.outputs["reason"]
    verdict = pair.verdict("2")
    assert verdict["baseline"] == "1"
    names = {check["name"]: check["outcome"] for check in verdict["checks"]}
    assert names["slice device=desktop"] == "passed"
    assert names["slice device=mobile"] == "failed"


def test_a_policy_file_and_inputs_that_say_the_same_are_not_both_taken(cli, pair, tmp_path):
    (tmp_path / ".github" / "champion-gate").mkdir(parents=True)
    (tmp_path / ".github" / "champion-gate" / f"{pair.name}.yml").write_text("metrics: [{name: ndcg@10}]")
    path = write(tmp_path, judged.scored(DATA, challenger=DATA["good"], champion=DATA["good"]))
    assert gate(cli, pair, path).exit_code == 0
    (tmp_path / ".github" / "champion-gate" / f"{pair.name}.yml").rename(tmp_path / "kept.yml")
    (tmp_path / ".github" / "champion-gate" / f"{pair.name}.yaml").write_text("metrics: [{name: ndcg@10}]")
    misnamed = gate(cli, pair, path)
    assert misnamed.exit_code == 2
    assert f"{pair.name}.yml" in misnamed.text
    (tmp_path / ".github" / "champion-gate" / f"{pair.name}.yaml").rename(
        tmp_path / ".github" / "champion-gate" / f"{pair.name}.yml"
    )
    for arguments in (("--threshold", 0.5), ("--metric", "val_mrr_at_5"), ("--slice-column", "device")):
        done = gate(cli, pair, path, *arguments)
        assert done.exit_code == 2
        assert arguments[0].lstrip("-") in done.text
    for value in ("0.1", "0"):
        assert gate(cli, pair, path, CHAMPION_GATE_MAX_REGRESSION=value).exit_code == 2


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_policy_file_that_is_there_and_cannot_be_read_is_not_passed_over(cli, pair, tmp_path, kind):
    file = tmp_path / ".github" / "champion-gate" / f"{pair.name}.yml"
    file.parent.mkdir(parents=True)
    {"link": lambda: file.symlink_to("gone.yml"), "pipe": lambda: os.mkfifo(file), "folder": file.mkdir}[kind]()
    path = write(tmp_path, judged.scored(DATA, challenger=DATA["good"], champion=DATA["good"]))
    done = gate(cli, pair, path)
    assert done.exit_code == 2, done.text
    assert f"{pair.name}.yml cannot be read" in done.flat()


def test_a_model_whose_name_is_too_long_for_a_policy_file_has_none(cli):
    done = cli("validate-model", "--model-name", "n" * 255)
    assert done.exit_code == 2, done.text
    assert "no registered model" in done.flat()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "empty"),
        ("metrics: []", "metrics"),
        ("metrics: [{name: ndcg@10, treshold: 1}]", "treshold"),
        ("metrics: [{name: ndcg@10, confidence: 0.9999, min-queries: 5}]", "cannot be reached"),
        ("metrics: [{name: ndcg@10}]\nslices: [{required: [mobile]}]", "column"),
        ("metrics: [{name: latency}]", "ranking metric"),
        ("metrics: [{name: ndcg@10}]\nbaseline: {version: 2}", "baseline"),
        ("metrics: [{name: ndcg@10}]\nbaseline: {version: 99}", "99"),
        (None, "cannot be read"),
    ],
)
def test_a_policy_that_cannot_be_used_is_bad_input(cli, pair, tmp_path, text, said):
    path = write(tmp_path, judged.scored(DATA, challenger=DATA["good"], champion=DATA["good"]))
    policy = tmp_path / "policy.yml"
    if text is not None:
        policy.write_text(text)
    before = pair.snapshot()
    done = gate(cli, pair, path, "--policy", policy)
    assert done.exit_code == 2
    assert said in done.flat()
    assert not done.outputs.get("verdict")
    assert pair.snapshot() == before


def test_the_verdict_of_a_policy_with_very_many_metrics_fits_its_tag(cli, pair, tmp_path):
    gains = ", ".join(f"{label}: {label / 7:.6f}" for label in range(20))
    metrics = ", ".join(f"{{name: ndcg@{k}, gain: {{{gains}}}}}" for k in range(1, 51))
    policy = tmp_path / "policy.yml"
    policy.write_text(f"metrics: [{metrics}]")
    path = write(tmp_path, judged.scored(DATA, challenger=DATA["good"], champion=DATA["good"]))
    done = gate(cli, pair, path, "--policy", policy)
    assert done.exit_code == 0, done.text
    assert set(pair.verdict("2")["metric_options"]) == {"all"}


def test_slices_are_told_apart_to_the_last_character(cli, pair, tmp_path):
    device = pl.when(pl.col("device") == "mobile").then(pl.lit("a")).otherwise(pl.lit("a\0"))
    table = judged.scored(DATA.with_columns(device=device), challenger=DATA["good"], champion=DATA["good"])
    done = gate(cli, pair, write(tmp_path, table), "--slice-column", "device", "--min-queries", 100)
    assert done.exit_code == 0, done.text
    assert sum(check["name"].startswith("slice") for check in pair.verdict("2")["checks"]) == 2


def test_a_required_slice_that_is_missing_leaves_it_open(cli, pair, tmp_path):
    policy = tmp_path / "policy.yml"
    policy.write_text("metrics: [{name: ndcg@10}]\nslices: [{column: device, required: [tablet]}]")
    path = write(tmp_path, judged.scored(DATA, challenger=DATA["good"], champion=DATA["good"]))
    done = gate(cli, pair, path, "--policy", policy)
    assert done.exit_code == 4
    assert "device=tablet" in done.outputs["reason"]


def bad(change):
    table = judged.scored(DATA, challenger=DATA["good"], champion=DATA["good"])
    return change(table)


def with_value(column, row, value):
    def change(table):
        values = table[column].to_list()
        values[row] = value
        return table.with_columns(pl.Series(column, values, strict=False))

    return change


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (with_value("challenger_score", 30, float("nan")), ("challenger_score", "q00002", "1")),
        (with_value("champion_score", 30, float("inf")), ("champion_score", "q00002")),
        (with_value("champion_score", 30, None), ("champion_score", "q00002")),
        (with_value("label", 30, -1), ("label", "q00002")),
        (with_value("label", 30, None), ("label", "q00002")),
        (with_value("document_id", 30, "d05"), ("document_id", "q00002", "d05")),
        (with_value("query_id", 30, None), ("query_id",)),
        (lambda table: table.drop("champion_score"), ("champion_score",)),
        (lambda table: table.drop("label"), ("label",)),
        (lambda table: table.clear(), ()),
        (lambda table: table.with_columns(label=pl.lit("good")), ("label",)),
    ],
)
def test_data_that_cannot_be_used_is_bad_input_that_names_it(cli, pair, tmp_path, change, named):
    path = write(tmp_path, bad(change))
    before = pair.snapshot()
    done = gate(cli, pair, path, "--document-column", "document_id")
    assert done.exit_code == 2, done.text
    for word in ("scores.parquet", *named):
        assert word in done.flat()
    assert not done.outputs.get("verdict")
    assert pair.snapshot() == before


def test_a_file_cut_short_or_missing_is_bad_input(cli, pair, tmp_path):
    path = write(tmp_path, judged.scored(DATA, challenger=DATA["good"], champion=DATA["good"]))
    before = pair.snapshot()
    raw = path.read_bytes()
    path.write_bytes(raw[: len(raw) // 2])
    done = gate(cli, pair, path)
    assert (done.exit_code, done.outputs.get("verdict", "")) == (2, ""), done.text
    assert "scores.parquet" in done.flat()
    done = gate(cli, pair, tmp_path / "nowhere.parquet")
    assert done.exit_code == 2
    assert "nowhere.parquet" in done.flat()
    assert pair.snapshot() == before


def test_queries_of_any_order_decide_the_same(cli, pair, tmp_path):
    table = judged.scored(DATA, challenger=DATA["good"], champion=judged.noisy(DATA, 0.5))
    one = gate(cli, pair, write(tmp_path, table), "--document-column", "document_id").outputs
    shuffled = table.sample(fraction=1.0, shuffle=True, seed=4)
    other = gate(cli, pair, write(tmp_path, shuffled), "--document-column", "document_id").outputs
    assert float(one["metric"]) == pytest.approx(float(other["metric"]), abs=1e-12)
    assert one["dataset-digest"] == other["dataset-digest"]


# -- TREC


def trec(folder, name, frame, score):
    rows = frame.with_columns(score=score).select("query_id", "document_id", "score").rows()
    path = folder / name
    path.write_text("".join(f"{q} Q0 {d} {i + 1} {s!r} run\n" for i, (q, d, s) in enumerate(rows)))
    return path


def qrels(folder, frame):
    path = folder / "qrels.txt"
    rows = frame.select("query_id", "document_id", "label").rows()
    path.write_text("".join(f"{q} 0 {d} {label}\n" for q, d, label in rows))
    return path


def rank(cli, world, folder, challenger, champion, *arguments):
    return cli(
        *("validate-model", "--model-name", world.name, "--qrels", qrels(folder, DATA)),
        *("--challenger-ranking", challenger, "--champion-ranking", champion, *arguments),
    )


def test_rankings_are_judged_by_their_qrels(cli, pair, tmp_path):
    good, poor = trec(tmp_path, "good.run", DATA, DATA["good"]), trec(tmp_path, "poor.run", DATA, DATA["poor"])
    done = rank(cli, pair, tmp_path, good, poor)
    assert done.exit_code == 0, done.text
    table = judged.scored(DATA, challenger=DATA["good"], champion=DATA["poor"])
    same = gate(cli, pair, write(tmp_path, table), "--document-column", "document_id")
    assert float(done.outputs["metric"]) == pytest.approx(float(same.outputs["metric"]), abs=1e-12)
    assert done.outputs["dataset-digest"] == same.outputs["dataset-digest"]
    assert rank(cli, pair, tmp_path, poor, good).exit_code == 1


def test_a_query_that_a_ranking_lacks_scores_zero_and_is_counted(cli, pair, tmp_path):
    good = trec(tmp_path, "good.run", DATA, DATA["good"])
    some = trec(tmp_path, "some.run", DATA.filter(pl.col("query_id") >= "q00100"), DATA["good"][1200:])
    done = rank(cli, pair, tmp_path, some, good)
    assert done.exit_code == 1, done.text
    assert "100" in done.flat()
    assert float(done.outputs["metric"]) < 0.7 * float(done.outputs["champion-metric"])


def test_a_query_that_only_the_champion_lacks_is_never_a_point_for_the_challenger(cli, pair, tmp_path):
    good = trec(tmp_path, "good.run", DATA, DATA["good"])
    some = trec(tmp_path, "some.run", DATA.filter(pl.col("query_id") >= "q00100"), DATA["good"][1200:])
    done = rank(cli, pair, tmp_path, good, some)
    assert (done.exit_code, done.outputs.get("verdict", "")) == (2, ""), done.text
    for word in ("some.run", "100 of the 300", "q00000"):
        assert word in done.flat()
    # What neither side answers counts 0 for both.
    done = rank(cli, pair, tmp_path, some, some)
    assert done.exit_code == 0, done.text


def test_a_missing_ranking_is_named(cli, pair, tmp_path):
    good = trec(tmp_path, "good.run", DATA, DATA["good"])
    done = cli(
        "validate-model", "--model-name", pair.name, "--qrels", qrels(tmp_path, DATA), "--champion-ranking", good
    )
    assert done.exit_code == 2
    assert "challenger-ranking" in done.text


def test_rankings_without_qrels_are_not_passed_over(cli, pair, tmp_path):
    good = trec(tmp_path, "good.run", DATA, DATA["good"])
    rankings = ("--challenger-ranking", good, "--champion-ranking", good)
    done = cli("validate-model", "--model-name", pair.name, "--metric", "loss", *rankings)
    assert done.exit_code == 2
    assert "qrels" in done.text
