"""Measures NDCG@10 per query in one process: ours, and what else there is, as ratios to one sort of the scores.

The sort is NumPy's, of all queries as one 2-D array: less than that nobody can do who ranks. It and the fast
candidates run in turn, and the fastest round of each counts; the slow ones run once. All results are compared with
ours. Nothing is asserted about time: the targets stand beside what was measured.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

from champion_gate.ndcg import ndcg  # noqa: E402 - found by the line above
from champion_gate.rank_metric import RankMetric  # noqa: E402
from champion_gate.rank_metrics import Judged  # noqa: E402
from tests.support.progress import progress  # noqa: E402

K = 10
SORT = "one 2-D argsort of the scores"
CHUNK = 5000
"""Queries whose dictionaries are in memory at a time."""
SAMPLE = 1000
"""Queries that scikit-learn's loop is measured on."""


@dataclass(frozen=True)
class Queries:
    """Judged and scored queries; `offsets` says which rows belong to which."""

    labels: np.ndarray
    scores: np.ndarray
    offsets: np.ndarray

    @property
    def square(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels and scores with a row for each query, where all have the same size."""
        shape = (len(self.offsets) - 1, -1)
        return self.labels.reshape(shape), self.scores.reshape(shape)


@dataclass(frozen=True)
class Measured:
    """One line of the table."""

    name: str
    seconds: float
    remark: str = ""


def made_up(sizes: np.ndarray, seed: int) -> Queries:
    """Labels 0 to 4, the higher the rarer, and continuous scores that know a little of them."""
    random = np.random.default_rng(seed)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    labels = random.choice(5, offsets[-1], p=[0.5, 0.25, 0.15, 0.07, 0.03]).astype(float)
    return Queries(labels, labels + 3 * random.standard_normal(offsets[-1]), offsets)


def ragged_sizes(documents: int, rows: int) -> np.ndarray:
    """5 to twice `documents` for each query, so many that they have `rows` rows."""
    sizes = np.random.default_rng(3).integers(min(5, documents), 2 * documents + 1, rows // documents + 100)
    return sizes[np.cumsum(sizes) <= rows]


def in_turn(candidates: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """The fastest of some rounds, in seconds, of each candidate."""
    best = dict.fromkeys(candidates, float("inf"))
    for done in range(rounds):
        for name, run in candidates.items():
            progress(f"round {done + 1} of {rounds}: {name}")
            started = time.perf_counter()
            run()
            best[name] = min(best[name], time.perf_counter() - started)
    return best


def agree(name: str, expected: np.ndarray, found: np.ndarray) -> None:
    """Stop where another library has other figures; without a relevant document they say 0, and we nothing."""
    gap = np.abs(np.nan_to_num(expected) - np.nan_to_num(found)).max(initial=0.0)
    if not gap <= 1e-12:
        sys.exit(f"ndcg: {name} differs from ours by up to {gap:.3g}")


# -- other libraries, on queries of one size and with linear gain, which all of them have


def ranx(queries: Queries, expected: np.ndarray, rounds: int) -> list[Measured]:
    """Its compiled functions on its own arrays, compiled before."""
    progress("ranx: compiling")
    from ranx.metrics import ndcg as theirs

    def arrays() -> list[np.ndarray]:
        found = []
        for values in queries.square:
            order = np.argsort(-values, axis=1)
            found.append(np.stack([order.astype(float), np.take_along_axis(values, order, axis=1)], axis=2))
        return found

    qrels, run = arrays()
    theirs(qrels[:10], run[:10], K)
    best = in_turn({"build": arrays, "measure": lambda: theirs(qrels, run, K)}, rounds)
    agree("ranx", expected, theirs(qrels, run, K))
    return [
        Measured("ranx, on its sorted arrays", best["measure"], "all cores; ties in no order"),
        Measured("  and sorting them", best["build"]),
    ]


def polars(queries: Queries, expected: np.ndarray, rounds: int) -> list[Measured]:
    """A group-by, as one would write it in a notebook."""
    import polars as pl

    name = np.repeat(np.arange(len(queries.offsets) - 1), np.diff(queries.offsets))
    frame = pl.DataFrame({"query": name, "label": queries.labels, "score": queries.scores})
    discounts = pl.int_range(2, pl.min_horizontal(pl.len(), K) + 2).log(2)

    def dcg(ordered: pl.Expr) -> pl.Expr:
        return (ordered.head(K) / discounts).sum()

    def run() -> np.ndarray:
        reached, best = (
            dcg(pl.col("label").sort_by("score", descending=True)),
            dcg(pl.col("label").sort(descending=True)),
        )
        found = frame.group_by("query").agg(value=reached / best).sort("query")
        return found["value"].to_numpy()

    agree("polars", expected, run())
    return [Measured("polars, group-by", in_turn({"polars": run}, rounds)["polars"], "all cores; ties in no order")]


def pytrec_eval(queries: Queries, expected: np.ndarray, _: int) -> list[Measured]:
    """trec_eval by its Python binding, which takes dictionaries."""
    import pytrec_eval as theirs

    labels, scores = queries.square
    names = [f"d{i}" for i in range(labels.shape[1])]
    building = measuring = 0.0
    found = np.zeros(len(labels))
    for first in range(0, len(labels), CHUNK):
        progress(f"pytrec_eval: query {first} of {len(labels)}")
        started = time.perf_counter()
        part = range(first, min(first + CHUNK, len(labels)))
        qrels = {f"q{i}": dict(zip(names, labels[i].astype(int).tolist(), strict=True)) for i in part}
        run = {f"q{i}": dict(zip(names, scores[i].tolist(), strict=True)) for i in part}
        built = time.perf_counter()
        values = theirs.RelevanceEvaluator(qrels, {f"ndcg_cut.{K}"}).evaluate(run)
        measuring += time.perf_counter() - built
        building += built - started
        found[first : part.stop] = [values[f"q{i}"][f"ndcg_cut_{K}"] for i in part]
    # trec_eval keeps scores in single precision, in which a few of them tie, and breaks ties by name.
    clear = np.diff(np.sort(scores.astype(np.float32), axis=1), axis=1).all(axis=1)
    agree("pytrec_eval", expected[clear], found[clear])
    return [
        Measured("pytrec_eval, on its dictionaries", measuring, "ties by document name"),
        Measured("  and building them", building),
    ]


def scikit_learn(queries: Queries, expected: np.ndarray, _: int) -> list[Measured]:
    """A call for each query, since it only returns means; on a sample."""
    from sklearn.metrics import ndcg_score

    labels, scores = (values[:SAMPLE, None] for values in queries.square)
    progress(f"scikit-learn: {len(labels)} queries")
    started = time.perf_counter()
    found = np.array([ndcg_score(*pair, k=K) for pair in zip(labels, scores, strict=True)])
    taken = (time.perf_counter() - started) * len(expected) / len(found)
    agree("scikit-learn", expected[:SAMPLE], found)
    return [Measured("scikit-learn, query by query", taken, f"extrapolated from {len(found)} queries; exact ties")]


OTHERS = {"ranx": ranx, "polars": polars, "pytrec_eval": pytrec_eval, "scikit-learn": scikit_learn}


def ours(square: Queries, ragged: Queries, rounds: int) -> tuple[float, list[Measured]]:
    """The sort, and this project's functions in the cases that matter."""
    _, scores = square.square
    tied = np.round(square.scores, 1)
    metric = [RankMetric("ndcg", K)]

    def both_sides() -> None:
        judged = Judged(square.labels, square.offsets)
        judged.measure(metric, square.scores)
        judged.measure(metric, tied)

    candidates: dict[str, Callable[[], Any]] = {
        SORT: lambda: np.argsort(scores, axis=1),
        "queries of one size": lambda: ndcg(square.labels, square.scores, square.offsets, K),
        "ragged queries": lambda: ndcg(ragged.labels, ragged.scores, ragged.offsets, K),
        "one size, scores that tie": lambda: ndcg(square.labels, tied, square.offsets, K),
        "one size, both of these rankings": both_sides,
    }
    best = in_turn(candidates, rounds)
    remarks = {"queries of one size": "target <= 2.5x", "ragged queries": "target <= 5x"}
    return best[SORT], [Measured(name, taken, remarks.get(name, "")) for name, taken in best.items()]


def main() -> None:
    """Measures what the arguments ask for."""
    parser = argparse.ArgumentParser(prog="tests/benchmarks/ndcg", description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=100_000, help="how many (default: 100000)")
    parser.add_argument("--documents", type=int, default=100, help="of each query (default: 100)")
    parser.add_argument("--rounds", type=int, default=7, help="runs of each fast candidate (default: 7)")
    parser.add_argument("--only", choices=["ours", *OTHERS], action="append", help="beside the sort; can be repeated")
    arguments = parser.parse_args()
    if min(arguments.queries, arguments.documents - 1, arguments.rounds) < 1:
        parser.error("at least 1 query, 2 documents and 1 round are needed")
    rows = arguments.queries * arguments.documents
    progress(f"making up {rows} rows")
    square = made_up(np.full(arguments.queries, arguments.documents), 1)
    ragged = made_up(ragged_sizes(arguments.documents, rows), 2)
    sort, lines = ours(square, ragged, arguments.rounds)
    expected = ndcg(square.labels, square.scores, square.offsets, K, gain="linear")
    for name, measure in OTHERS.items():
        if arguments.only is None or name in arguments.only:
            lines += measure(square, expected, arguments.rounds)
    progress("")
    print(f"\nNDCG@{K} of {arguments.queries} queries x {arguments.documents} documents ", end="")
    print(f"(ragged: {len(ragged.offsets) - 1} queries, {len(ragged.scores)} rows)\n")
    for line in lines:
        print(f"  {line.name:<36} {line.seconds:9.3f} s {line.seconds / sort:8.2f}x   {line.remark}".rstrip())
    if arguments.only != ["ours"]:
        print("\nThe other libraries' figures are ours, to 1e-12.")


if __name__ == "__main__":
    main()
