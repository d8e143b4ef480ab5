"""The ranking metrics of a policy, per query: NDCG, reciprocal rank, average precision, recall. Pure.

Tied scores earn what all orders of the tie earn on average, in closed form (McSherry and Najork 2008, "Computing
Information Retrieval Performance Measures Efficiently in the Presence of Tied Scores"), or what the worst of them
earns. The layout of the arrays is that of `ndcg`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from champion_gate import ndcg
from champion_gate.ndcg import Block, Floats, Ranking
from champion_gate.rank_metric import Gain, RankMetric, parse_name

__all__ = ["Judged", "RankMetric", "measure", "parse_name"]

Base = tuple[Gain | float, int]
"""What the best that is to be reached depends on: gain and k, or the least relevant label."""


class Judged:
    """Judged queries that several rankings are measured on.

    What the best ranking of each query reaches depends on the labels alone: it is computed for the first ranking and
    kept for the next ones, a number a query for each k and gain.
    """

    def __init__(self, labels: ArrayLike, offsets: ArrayLike) -> None:
        """Take labels, shape (rows,), and offsets, shape (queries + 1,).

        Raises:
            ValueError: they do not fit each other. The labels themselves are looked at when something is measured.
        """
        self._labels, offsets_ = ndcg.checked_labels(labels, offsets)
        self._queries = len(offsets_) - 1
        self._blocks = list(ndcg.blocks(offsets_))
        self._best: dict[Base, Floats] = {}

    def measure(self, metrics: Sequence[RankMetric], scores: ArrayLike) -> list[Floats]:
        """The value of each metric for each query, shape (queries,); NaN where nothing is relevant.

        Each query is sorted once, however many metrics there are.

        Args:
            metrics: what to measure.
            scores: shape (rows,), higher ranks first. Minus infinity: judged and not retrieved, takes no rank.

        Raises:
            ValueError: the shape does not fit, a score is NaN or infinite, a label is negative, not finite, too large
                for its gain to be summed, or not in the table of gains.
        """
        rows = ndcg.checked_scores(scores, len(self._labels))
        if not metrics:
            return []
        best = {_base(metric): self._best.get(_base(metric)) for metric in metrics}
        unknown = {base: np.zeros(self._queries) for base, known in best.items() if known is None}
        reached = [np.zeros(self._queries) for _ in metrics]
        depth = max(metric.k for metric in metrics)
        for block in self._blocks:
            labels = block.of(self._labels)
            if unknown:
                _fill(unknown, block, ndcg.falling(labels))
            for part, ranking in ndcg.rank(labels, block.of(rows), depth):
                for metric, values in zip(metrics, reached, strict=True):
                    values[block.queries[part]] = _reached(metric, ranking)
        self._best |= unknown
        found = []
        for metric, values in zip(metrics, reached, strict=True):
            most = self._best[_base(metric)]
            found.append(ndcg.share(values, most if metric.kind != "mrr" else np.minimum(most, 1.0)))
        return found


def measure(metrics: Sequence[RankMetric], labels: ArrayLike, scores: ArrayLike, offsets: ArrayLike) -> list[Floats]:
    """The value of each metric for each query of one ranking: see `Judged`, which measures several.

    Raises:
        ValueError: as `Judged` and its `measure` do.
    """
    return Judged(labels, offsets).measure(metrics, scores)


def _base(metric: RankMetric) -> Base:
    return (metric.gain, metric.k) if metric.kind == "ndcg" else (float(metric.relevant_from), 0)


def _fill(unknown: dict[Base, Floats], block: Block, ordered: Floats) -> None:
    for (of, k), best in unknown.items():
        best[block.queries] = (ordered >= of).sum(axis=1) if isinstance(of, float) else ndcg.ideal_dcg(ordered, k, of)


def _reached(metric: RankMetric, ranking: Ranking) -> Floats:
    """DCG, reciprocal rank, sum of precisions, or number of relevant documents of each ranking."""
    if metric.kind == "ndcg":
        return ndcg.dcg(ranking, metric.k, metric.gain, metric.ties)
    ranking = ranking.down_to(metric.k)
    relevant = ranking.values((ranking.labels >= metric.relevant_from).astype(np.float64))
    if ranking.ties is not None and metric.ties == "average":
        return _EXPECTED[metric.kind](relevant, ranking.ties, metric.k)
    if ranking.ties is not None:
        relevant = ranking.ties.lowest_first(relevant)
    return _EXACT[metric.kind](relevant[:, : metric.k])


def _ranks(values: Floats) -> Floats:
    return np.arange(1.0, values.shape[1] + 1)


# -- without ties; relevant is 1 where a document is relevant, else 0, shape (queries, ranks)


def _reciprocal_rank(relevant: Floats) -> Floats:
    best: Floats = (relevant / _ranks(relevant)).max(axis=1)
    return best


def _precisions(relevant: Floats) -> Floats:
    total: Floats = (relevant * relevant.cumsum(axis=1) / _ranks(relevant)).sum(axis=1)
    return total


def _found(relevant: Floats) -> Floats:
    total: Floats = relevant.sum(axis=1)
    return total


# -- the means over all orders of each tie; t is its size, c the number of its relevant documents


def _expected_reciprocal_rank(relevant: Floats, ties: ndcg.Ties, k: int) -> Floats:
    """The sum over ranks of P(this one is the first relevant) / rank.

    At place j of a tie of which nothing relevant came yet, the next document is relevant with probability
    c / (t - j). That reaches 1 within the first tie that has a relevant document: what follows is multiplied by 0.
    """
    c = ties.spread(ties.sums(relevant))[:, :k]
    left = (ties.spread(ties.sizes) - ties.places)[:, :k]
    none_yet = np.ones(c.shape)
    np.cumprod(((left - c) / left)[:, :-1], axis=1, out=none_yet[:, 1:])
    total: Floats = (none_yet * c / left / _ranks(c)).sum(axis=1)
    return total


def _expected_precisions(relevant: Floats, ties: ndcg.Ties, k: int) -> Floats:
    """The sum over ranks of P(relevant) times the mean precision there, given that it is.

    With r relevant documents before the tie, place j has 1 + r + j (c - 1) / (t - 1) on average, itself included.
    """
    c, t = ties.sums(relevant), ties.sizes
    before = (relevant.cumsum(axis=1) - relevant).ravel()[ties.firsts]
    others = (c - 1) / np.maximum(t - 1, 1)
    counted = ties.spread(1 + before) + ties.places * ties.spread(others)
    values = (ties.spread(c / t) * counted)[:, :k]
    total: Floats = (values / _ranks(values)).sum(axis=1)
    return total


def _expected_found(relevant: Floats, ties: ndcg.Ties, k: int) -> Floats:
    return _found(ties.mean(relevant)[:, :k])


_EXACT = {"mrr": _reciprocal_rank, "map": _precisions, "recall": _found}
_EXPECTED = {"mrr": _expected_reciprocal_rank, "map": _expected_precisions, "recall": _expected_found}
