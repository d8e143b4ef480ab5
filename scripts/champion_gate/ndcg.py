"""NDCG@k per query: NumPy, exact where scores tie, and about as fast as sorting the scores. Pure.

Rows of one query lie next to each other: those of query i are `offsets[i]:offsets[i + 1]`. Queries are taken together
by their number of documents, in blocks that fit the processor's cache, so that nothing is sorted, padded or copied
across queries, and the memory that is needed beside the input does not grow with it.

Tied scores: McSherry and Najork 2008, "Computing Information Retrieval Performance Measures Efficiently in the
Presence of Tied Scores". A tie shares the mean gain of its documents, which is the expectation over all its orders.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from champion_gate.rank_metric import Gain, TieRule

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
Bools = NDArray[np.bool_]
Scalar = TypeVar("Scalar", bound=np.generic)

_BLOCK_ROWS = 1 << 16
_SORTED_WHOLE = 256
"""Up to so many documents, sorting all is as fast as finding the best ones first."""
_LARGEST_EXP_LABEL = 1023.0
_LARGEST_GAIN = 2.0**959
"""So many that the gains of 2^64 documents can be summed."""
_EXP_SCALE = 2.0**-64
"""NDCG is a ratio, which a power of two leaves as it is, to the last bit."""


def ndcg(
    labels: ArrayLike,
    scores: ArrayLike,
    offsets: ArrayLike,
    k: int = 10,
    gain: Gain = "exp",
    ties: TieRule = "average",
) -> Floats:
    """NDCG@k of each query, shape (queries,); NaN where no document gains anything.

    The gain of a document is discounted by 1 / log2(rank + 1); the ideal ranking is by gain, of all documents, cut at
    k as well (Järvelin and Kekäläinen 2002; with exponential gain Burges et al. 2005).

    Args:
        labels: relevance, shape (rows,), finite and not negative.
        scores: shape (rows,), higher ranks first. Minus infinity: judged and not retrieved, takes no rank.
        offsets: shape (queries + 1,), from 0 to the number of rows, never falling; a query may have no rows.
        k: ranks that count, from 1 on.
        gain: "exp" is 2^label - 1, "linear" the label, a table pairs of label and gain.
        ties: what a tie gains: its mean over all orders, or "pessimistic", the least of them.

    Raises:
        ValueError: shapes or offsets do not fit, a score is NaN or infinite, a label is negative, not finite, too
            large for its gain to be summed, or not in the table.
    """
    judged, bounds = checked_labels(labels, offsets)
    ranked = checked_scores(scores, len(judged))
    if k < 1:
        raise ValueError(f"k is {k}, and ranks start at 1")
    reached, best = np.zeros(len(bounds) - 1), np.zeros(len(bounds) - 1)
    for block in blocks(bounds):
        of_block = block.of(judged)
        best[block.queries] = ideal_dcg(falling(of_block), k, gain)
        for rows, ranking in rank(of_block, block.of(ranked), k):
            reached[block.queries[rows]] = dcg(ranking, k, gain, ties)
    return share(reached, best)


def share(reached: Floats, best: Floats) -> Floats:
    """`reached` / `best`, at most 1 whatever rounding does; NaN where nothing can be reached."""
    ratio = np.full(len(best), np.nan)
    np.divide(reached, best, out=ratio, where=best > 0)
    np.minimum(ratio, 1.0, out=ratio)
    return ratio


# -- input


def checked_labels(labels: ArrayLike, offsets: ArrayLike) -> tuple[Floats, Integers]:
    """Both as contiguous arrays that fit each other.

    Raises:
        ValueError: they do not.
    """
    judged = _rows(labels, "labels")
    bounds = np.ascontiguousarray(offsets, dtype=np.int64)
    if bounds.ndim != 1 or not len(bounds):
        raise ValueError(f"offsets have the shape {bounds.shape} and not (queries + 1,)")
    if bounds[0] != 0 or bounds[-1] != len(judged) or (np.diff(bounds) < 0).any():
        raise ValueError(f"offsets do not rise from 0 to the {len(judged)} rows")
    return judged, bounds


def checked_scores(scores: ArrayLike, rows: int) -> Floats:
    """A contiguous array with a score for each row.

    Raises:
        ValueError: there are more or fewer.
    """
    found = _rows(scores, "scores")
    if len(found) != rows:
        raise ValueError(f"there are {len(found)} scores for {rows} labels")
    return found


def _rows(values: ArrayLike, name: str) -> Floats:
    found = np.ascontiguousarray(values, dtype=np.float64)
    if found.ndim != 1:
        raise ValueError(f"{name} have the shape {found.shape} and not (rows,)")
    return found


@dataclass(frozen=True)
class Block:
    """Some queries with the same number of documents."""

    queries: Integers
    """Their indices, rising."""
    starts: Integers
    """The first row of each."""
    size: int
    """Documents of each."""

    def of(self, rows: Floats) -> Floats:
        """The rows of these queries, shape (queries, size); a view where they lie next to each other."""
        first, count = int(self.starts[0]), len(self.starts)
        if self.starts[-1] - first == (count - 1) * self.size:
            return rows[first : first + count * self.size].reshape(count, self.size)
        # Every run of `size` rows is a row of this view, so that one lookup copies whole queries.
        runs = np.lib.stride_tricks.as_strided(rows, (len(rows) - self.size + 1, self.size), rows.strides * 2)
        return runs[self.starts]


def blocks(offsets: Integers) -> Iterator[Block]:
    """All queries that have rows, those of one size together."""
    sizes = np.diff(offsets)
    by_size = np.argsort(sizes, kind="stable")
    sizes = sizes[by_size]
    cuts = np.flatnonzero(np.diff(sizes)) + 1
    for group in np.split(by_size, cuts) if len(by_size) else []:
        size = int(offsets[group[0] + 1] - offsets[group[0]])
        if not size:
            continue
        step = max(1, _BLOCK_ROWS // size)
        for i in range(0, len(group), step):
            queries = group[i : i + step]
            yield Block(queries, offsets[queries], size)


# -- rankings


@dataclass(frozen=True)
class Ties:
    """Which positions of some rankings share a score; each single position is a tie of one.

    Positions are counted through all rankings, row by row; no tie spans two rows.
    """

    firsts: Integers
    """The first position of each tie, rising."""
    shape: tuple[int, int]

    @cached_property
    def sizes(self) -> Integers:
        """How many positions each tie has."""
        return np.diff(self.firsts, append=self.shape[0] * self.shape[1])

    @cached_property
    def of_positions(self) -> Integers:
        """The tie of each position, all positions in a row."""
        return np.repeat(np.arange(len(self.firsts)), self.sizes)

    @cached_property
    def places(self) -> Integers:
        """How many positions of its tie each position has before it."""
        positions: Integers = np.arange(self.shape[0] * self.shape[1], dtype=np.int64)
        return positions.reshape(self.shape) - self.spread(self.firsts)

    def spread(self, per_tie: NDArray[Scalar]) -> NDArray[Scalar]:
        """A value of each tie at each of its positions."""
        return per_tie.take(self.of_positions).reshape(self.shape)

    def sums(self, values: Floats) -> Floats:
        """The sum of `values` over each tie, shape (ties,)."""
        return np.asarray(np.bincount(self.of_positions, weights=values.ravel()), dtype=np.float64)

    def mean(self, values: Floats) -> Floats:
        """The mean of `values` over each tie, at each of its positions."""
        return self.spread(self.sums(values) / self.sizes)

    def lowest_first(self, values: Floats) -> Floats:
        """`values`, those of each tie in rising order."""
        flat = values.ravel()
        return flat[np.lexsort((flat, self.of_positions))].reshape(self.shape)


@dataclass(frozen=True)
class Ranking:
    """The best documents of some queries of one size, best first; arrays have the shape (queries, depth)."""

    labels: Floats
    retrieved: Bools | None
    """None if all are."""
    ties: Ties | None
    """None if there are none."""

    def down_to(self, k: int) -> Ranking:
        """What is needed of it to measure k ranks: all where there are ties, whose documents share what they bring."""
        if self.ties is not None or k >= self.labels.shape[1]:
            return self
        return Ranking(self.labels[:, :k], None if self.retrieved is None else self.retrieved[:, :k], None)

    def values(self, of_documents: Floats) -> Floats:
        """What documents bring, nothing where they are not retrieved."""
        return of_documents if self.retrieved is None else np.where(self.retrieved, of_documents, 0.0)


def rank(labels: Floats, scores: Floats, depth: int) -> list[tuple[slice | Integers, Ranking]]:
    """The rankings of a block of queries, shape (queries, documents) each, down to `depth`.

    Those without ties, with ties, and with a tie that crosses `depth` (which is there as a whole) come apart, each
    with the rows that it is of.

    Raises:
        ValueError: a score is NaN or infinite.
    """
    queries, size = scores.shape
    depth = min(depth, size)
    row = np.arange(0, queries * size, size)[:, None]
    order = _best_first(scores, min(depth + 1, size))
    top = order[:, : depth + 1] + row
    best = scores.take(top)
    # NaN sorts above all numbers, so both show at the top.
    if not best[:, 0].max() < np.inf:
        raise ValueError("a score is NaN or infinite")
    tied = best[:, 1:] == best[:, :-1]
    missing = bool(best[:, -1].min() == -np.inf)
    if missing:
        tied &= best[:, 1:] != -np.inf
    if not tied.any():
        return [(slice(None), _ranking(labels, best[:, :depth], top[:, :depth], missing))]
    crosses = tied[:, depth - 1] if size > depth else np.zeros(queries, dtype=np.bool_)
    has_ties = tied.any(axis=1)
    clear, within, crossing = map(np.flatnonzero, (~has_ties, has_ties & ~crosses, crosses))
    found: list[tuple[slice | Integers, Ranking]] = []
    if len(clear):
        found.append((clear, _ranking(labels, best[clear, :depth], top[clear, :depth], missing)))
    if len(within):
        found.append((within, _ranking(labels, best[within, :depth], top[within, :depth], missing, tied=True)))
    if len(crossing):
        deepest = int((scores[crossing] >= best[crossing, depth - 1, None]).sum(axis=1).max())
        deep = order[crossing, :deepest] if order.shape[1] == size else _best_first(scores[crossing], deepest)
        deep = deep[:, :deepest] + row[crossing]
        found.append((crossing, _ranking(labels, scores.take(deep), deep, missing, tied=True)))
    return found


def _best_first(scores: Floats, count: int) -> Integers:
    """The documents with the `count` highest scores of each query, or all of them, best first."""
    size = scores.shape[1]
    if size <= _SORTED_WHOLE or count > size // 4:
        return np.argsort(scores, axis=1)[:, ::-1]
    near = np.argpartition(scores, size - count, axis=1)[:, size - count :]
    order = np.argsort(np.take_along_axis(scores, near, axis=1), axis=1)[:, ::-1]
    return np.take_along_axis(near, order, axis=1)


def _ranking(labels: Floats, best: Floats, order: Integers, missing: bool, tied: bool = False) -> Ranking:
    ties = None
    if tied:
        starts = np.ones(best.shape, dtype=np.bool_)
        np.not_equal(best[:, 1:], best[:, :-1], out=starts[:, 1:])
        ties = Ties(np.flatnonzero(starts), best.shape)
    return Ranking(labels.take(order), best != -np.inf if missing else None, ties)


# -- gains


def falling(labels: Floats) -> Floats:
    """The labels of each query from the largest down, shape (queries, documents).

    Raises:
        ValueError: a label is negative or not finite.
    """
    ordered = np.sort(labels, axis=1)[:, ::-1]
    if not (ordered[:, 0].max() < np.inf and ordered[:, -1].min() >= 0):
        raise ValueError("a label is negative or not finite")
    return ordered


def gains(labels: Floats, gain: Gain) -> Floats:
    """What documents with these labels gain, up to a factor that all of them share.

    Raises:
        ValueError: a label is not in the table, or its gain is too large to be summed.
    """
    if gain == "exp":
        if labels.size and labels.max() > _LARGEST_EXP_LABEL:
            raise ValueError(f"2^{labels.max():g} - 1, the exponential gain of a label, is more than a number can hold")
        return (np.exp2(labels) - 1) * _EXP_SCALE
    if gain == "linear":
        found = labels
    else:
        keys, values = np.array(sorted(gain), dtype=np.float64).reshape(-1, 2).T
        at = np.minimum(np.searchsorted(keys, labels), len(keys) - 1)
        unknown = labels[keys[at] != labels] if len(keys) else labels
        if unknown.size:
            raise ValueError(f"the label {unknown.flat[0]:.17g} has no gain in the table")
        found = values[at]
    if found.size and found.max() > _LARGEST_GAIN:
        raise ValueError(f"the gain {found.max():g} is too large to be summed")
    return found


def ideal_dcg(ordered: Floats, k: int, gain: Gain) -> Floats:
    """The DCG@k of the best ranking of each query, shape (queries,), from what `falling` gives."""
    if isinstance(gain, tuple):  # a table may give the higher label less
        return _discounted(np.sort(gains(ordered, gain), axis=1)[:, ::-1][:, :k])
    return _discounted(gains(np.ascontiguousarray(ordered[:, :k]), gain))


def dcg(ranking: Ranking, k: int, gain: Gain, ties: TieRule) -> Floats:
    """The DCG@k of each ranking, shape (queries,)."""
    ranking = ranking.down_to(k)
    values = ranking.values(gains(ranking.labels, gain))
    if ranking.ties is not None:
        values = ranking.ties.mean(values) if ties == "average" else ranking.ties.lowest_first(values)
    return _discounted(values[:, :k])


def _discounted(values: Floats) -> Floats:
    discounts = 1 / np.log2(np.arange(2, values.shape[1] + 2))
    total: Floats = (values * discounts).sum(axis=1)
    return total
