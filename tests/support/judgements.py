"""Judged versions to show, decided by the real rule on generated figures."""

from __future__ import annotations

from datetime import datetime, timezone

import numpy as np

from champion_gate.decision import Basis, Evidence, Figures, Side, SliceKey, decide
from champion_gate.gate import Judged
from champion_gate.github import Context
from champion_gate.lineage import Entry
from champion_gate.per_query import Dataset, PerQuery
from champion_gate.policy import Policy, from_yaml
from champion_gate.registry import Model, Version
from champion_gate.statistics import Moments, PairMoments, by_group

POLICY = """
metrics:
  - name: ndcg@10
    threshold: 0.5
slices:
  - column: language
    required: [de]
"""
CREATED = 1_764_000_000_000
LANGUAGES = ("de", "en", "fr", "it", "es", "nl", "pl")


def policy(text: str = POLICY) -> Policy:
    return from_yaml(text, "policy.yml")


def version(number: str, name: str = "search-ranker", source: str = "models:/m-4f1c") -> Version:
    return Version(name, number, CREATED + int(number) * 86_400_000, f"{int(number):032x}", source, "READY", {})


def job(**fields: object) -> Context:
    known = {
        "actor": "ada",
        "commit": "8f14e45fceea167a5a36dedd4bea2543f2e1a0c7",
        "branch": "main",
        "repository": "acme/search",
        "run_id": "991",
        "run_url": "https://github.com/acme/search/actions/runs/991",
        "event": "push",
    }
    return Context(**{**known, **fields})


def move(number: int, kind: str = "promotion", state: str = "done", **fields: object) -> Entry:
    known = {
        "run_id": f"run-{number}",
        "kind": kind,
        "state": state,
        "alias": "champion",
        "from_version": str(number - 1) if number > 1 else None,
        "to_version": str(number),
        "previous": None,
        "operation_id": f"operation-{number}",
        "fence": number,
        "actor": "ada",
        "commit": "8f14e45fceea167a",
        "reason": "",
        "verdict": "passed",
        "time": CREATED + number * 86_400_000,
        "model_created": CREATED,
    }
    return Entry(**{**known, **fields})


def per_query(
    n: int = 1500,
    shift: float = 0.004,
    *,
    ties: float = 0.45,
    noise: float = 0.09,
    slices: dict[str, tuple[str, ...]] | None = None,
    lost: dict[str, float] | None = None,
    metrics: tuple[str, ...] = ("ndcg@10",),
    empty: int = 0,
    seed: int = 7,
) -> PerQuery:
    """Figures that move by `shift` in the mean; those of slices in `lost` by so much more. `empty` ones are NaN."""
    rng = np.random.default_rng(seed)
    columns = {}
    for name, values in ({"language": LANGUAGES} if slices is None else slices).items():
        weights = 1 / np.arange(1, len(values) + 1)
        columns[name] = [values[i] for i in rng.choice(len(values), n, p=weights / weights.sum())]
    sides: dict[str, dict[str, np.ndarray]] = {"challenger": {}, "champion": {}}
    for metric in metrics:
        champion = rng.beta(5, 1.6, n)
        moved = rng.random(n) >= ties
        challenger = champion + moved * rng.normal(shift / max(1e-9, 1 - ties), noise, n)
        for value, amount in (lost or {}).items():
            inside = np.array([value in row for row in zip(*columns.values(), strict=True)])
            challenger = challenger - inside * amount
        champion[:empty] = challenger[:empty] = np.nan
        sides["champion"][metric] = champion
        sides["challenger"][metric] = np.clip(challenger, 0, 1)
    ids = [f"q-{i:05d}" for i in range(n)]
    return PerQuery(ids, rng.integers(5, 60, n), columns, sides)


def figures(table: PerQuery, asked: Policy) -> dict[str, Figures]:
    """The sums that the decision takes, as evidence.py makes them."""
    found = {}
    for policy_of_metric, ranking in asked.rank_metrics():
        sides = {who: values[ranking.name] for who, values in table.values.items() if ranking.name in values}
        challenger = sides.pop("challenger")
        there = np.isfinite(challenger)
        empty = int((~there).sum())
        if policy_of_metric.empty_queries != "skip":
            challenger, there = np.nan_to_num(challenger), np.ones(len(challenger), dtype=bool)
            sides = {who: np.nan_to_num(values) for who, values in sides.items()}
        pairs = {who: PairMoments.of(values[there], challenger[there]) for who, values in sides.items()}
        slices = {}
        for column, of_query in table.slices.items() if "champion" in sides else ():
            names, groups = np.unique(np.array(of_query, dtype=object).astype(str), return_inverse=True)
            sums = by_group(sides["champion"][there], challenger[there], groups[there], len(names))
            slices |= {SliceKey(column, str(name)): each for name, each in zip(names, sums, strict=True)}
        found[ranking.name] = Figures(Moments.of(challenger[there]), pairs, slices, empty)
    return found


def on_queries(table: PerQuery | None = None, asked: Policy | None = None, **fields: object) -> Judged:
    """Judged on the same queries; without a champion where the table has no figures of one.

    A baseline's number is `pinned`, 3 if not told otherwise.
    """
    table, asked = table or per_query(), asked or policy()
    sums = figures(table, asked)
    champion = Side("6", fields.pop("champion_metrics", {})) if "champion" in table.values else None
    pinned = str(fields.pop("pinned", "3"))
    baseline = Side(pinned) if "baseline" in table.values else None
    challenger = Side("7", fields.pop("challenger_metrics", {}))
    columns = frozenset(table.slices)
    evidence = Evidence(challenger, champion, Basis.QUERIES, baseline, sums, columns)
    decision = fields.pop("decision", None) or decide(asked, evidence)
    first = sums[next(iter(sums))]
    dataset = Dataset(
        "evaluation data",
        "judged-2026-11.parquet",
        "s3://acme-search/evaluation/judged-2026-11.parquet",
        "sha256:5d41402abc4b2a76b9719d911017c592ae1f3b6c2ff5d2a6c8a4bb2b1b3d9a10",
        len(table.query_ids),
        int(table.documents.sum()),
    )
    known = {
        "model": Model("search-ranker", CREATED, {"champion": "6", "challenger": "7"}, {}),
        "version": version("7"),
        "champion": version("6") if champion else None,
        "policy": asked,
        "decision": decision,
        "metric": first.challenger.mean,
        "champion_metric": first.pairs["champion"].mean_p if champion else None,
        "gate_run_id": "9c1f5d9b4e0a4b0f8d3c",
        "job": job(),
        "champion_alias": "champion",
        "baseline": version(pinned) if baseline else None,
        "dataset": dataset,
        "per_query": table,
        "isolation": "sandbox (bubblewrap)",
        "entries": tuple(move(i) for i in range(6, 0, -1)) if champion else (),
        "time": datetime(2026, 11, 25, 9, 30, tzinfo=timezone.utc),
        "report": "runs:/9c1f5d9b4e0a4b0f8d3c/report.html",
        "promotable": decision.outcome.value == "passed",
    }
    return Judged(**{**known, **fields})


def on_runs(value: float | None, was: float | None, asked: Policy | None = None, **fields: object) -> Judged:
    """Judged by one figure a side, from the runs' metrics; a first release if `was` is None."""
    asked = asked or policy("metrics: [{name: val_ndcg_at_10, threshold: 0.5}]")
    name = asked.metrics[0].in_runs
    more = fields.pop("more", {})
    challenger = Side("7", {**({} if value is None else {name: value}), **more}, "d1")
    champion = None if was is None else Side("6", {name: was, **more}, "d1")
    decision = decide(asked, Evidence(challenger, champion))
    return on_queries(
        asked=policy(),
        **{
            "policy": asked,
            "decision": decision,
            "metric": value,
            "champion_metric": was,
            "champion": version("6") if champion else None,
            "dataset": None,
            "per_query": None,
            "isolation": None,
            "entries": tuple(move(i) for i in range(6, 0, -1)) if champion else (),
            "promotable": decision.outcome.value == "passed",
            **fields,
        },
    )


TRACEBACK = (
    "Traceback (most recent call last): |   line 41, in load | ModuleNotFoundError: No module named '<lightgbm>'"
)


def unloadable(who: str = "Challenger version 7", printed: str = TRACEBACK) -> str:
    """Why a model could not be loaded and asked, as scoring.py says it."""
    return (
        f"{who} cannot be loaded: ModuleNotFoundError: No module named '<lightgbm>'. Its last lines: {printed} "
        "A model that cannot be loaded and asked cannot be served. Try mlflow.pyfunc.load_model(...)."
    )


def unservable(reason: str | None = None) -> Judged:
    """Judged on a challenger that cannot be loaded."""
    evidence = Evidence(Side("7", scoring_problem=reason or unloadable()), Side("6"), Basis.QUERIES)
    decision = decide(policy(), evidence)
    return on_queries(decision=decision, metric=None, champion_metric=None, per_query=None, promotable=False)


def without_the_champion() -> Judged:
    """Judged though the champion cannot be loaded."""
    table = per_query(metrics=("ndcg@10", "mrr@10"))
    asked = policy("metrics: [{name: ndcg@10}, {name: mrr@10}]")
    champion = Side("6", scoring_problem=unloadable("Champion version 6"))
    decision = decide(asked, Evidence(Side("7"), champion, Basis.QUERIES, None, figures(table, asked)))
    del table.values["champion"]
    fields = {"champion": version("6"), "champion_metric": None, "decision": decision, "promotable": False}
    return on_queries(table, asked, **fields)


def open_in_a_slice(**fields: object) -> Judged:
    """Both metrics hold on all queries; the second one is open in the required slice `language=it`."""
    text = """
metrics:
  - name: ndcg@10
  - {name: mrr@10, relevant-from: 3}
min-queries: 50
slices:
  - {column: language, required: [it]}
"""
    table = per_query(noise=0.05, metrics=("ndcg@10", "mrr@10"))
    inside = np.array([value == "it" for value in table.slices["language"]])
    table.values["challenger"]["mrr@10"][inside] *= 0.948
    for values in table.values.values():
        values["ndcg@10"][:6] = np.nan
        values["mrr@10"][:88] = np.nan
    return on_queries(table, policy(text), **fields)


def noisy_slices() -> Judged:
    """All holds, and of slices that are not required some are too noisy to show it."""
    text = "metrics: [{name: ndcg@10, min-queries: 30}]\nslices: [{column: language, max-regression: 0.02}]"
    return on_queries(per_query(shift=0.0, noise=0.12), policy(text))
