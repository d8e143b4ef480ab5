"""Sufficient statistics of paired figures: all that the decision needs of any number of queries. Pure.

Centred sums that merge (Chan, Golub, LeVeque 1983, "Algorithms for computing the sample variance"), so that a
table too large for memory, or for one machine, can be summed in parts. They are kept of the reference p and of the
difference e = c - p, not of p and c: where the two sides are nearly equal, var(c) - 2 cov + var(p) would cancel.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

TIE = 1e-12
"""Differences below this are ties: what the order of a sum may make of equal rankings."""


@dataclass(frozen=True)
class Moments:
    """Of one side: how many queries, their mean, and the sum of squared distances from it."""

    n: int = 0
    mean: float = 0.0
    m2: float = 0.0

    @classmethod
    def of(cls, values: Floats) -> Moments:
        """The moments of finite values, shape (queries,)."""
        if not len(values):
            return cls()
        mean = float(values.mean())
        return cls(len(values), mean, float(((values - mean) ** 2).sum()))

    def __add__(self, other: Moments) -> Moments:
        n = self.n + other.n
        if not self.n or not other.n:
            return other if not self.n else self
        gap = other.mean - self.mean
        return Moments(n, self.mean + gap * other.n / n, self.m2 + other.m2 + gap * gap * self.n * other.n / n)

    @property
    def variance(self) -> float:
        """The sample variance; 0 below two queries."""
        return self.m2 / (self.n - 1) if self.n > 1 else 0.0


@dataclass(frozen=True)
class PairMoments:
    """Of a reference p (champion or baseline) and the challenger's difference from it, e = c - p, per query.

    Attributes:
        n: how many queries.
        mean_p: mean of p.
        mean_e: mean of e.
        m2_p: sum of (p - mean_p)^2.
        m2_e: sum of (e - mean_e)^2.
        c_pe: sum of (p - mean_p)(e - mean_e).
        min_e: the worst difference; infinite if there is no query.
        max_e: the best difference; minus infinite if there is no query.
        wins: queries with e > 0.
        ties: queries with e = 0, up to rounding.
        losses: queries with e < 0.
    """

    n: int = 0
    mean_p: float = 0.0
    mean_e: float = 0.0
    m2_p: float = 0.0
    m2_e: float = 0.0
    c_pe: float = 0.0
    min_e: float = math.inf
    max_e: float = -math.inf
    wins: int = 0
    ties: int = 0
    losses: int = 0

    @classmethod
    def of(cls, reference: Floats, challenger: Floats) -> PairMoments:
        """The moments of finite figures on the same queries, shape (queries,) each.

        Raises:
            ValueError: the shapes differ, or a figure is not finite.
        """
        import numpy as np  # not at the top: a gate on run metrics alone has no NumPy

        (only,) = by_group(reference, challenger, np.zeros(len(reference), dtype=np.int64), 1)
        return only

    def __add__(self, other: PairMoments) -> PairMoments:
        if not self.n or not other.n:
            return other if not self.n else self
        n = self.n + other.n
        gap_p, gap_e, share = other.mean_p - self.mean_p, other.mean_e - self.mean_e, self.n * other.n / n
        return PairMoments(
            n,
            self.mean_p + gap_p * other.n / n,
            self.mean_e + gap_e * other.n / n,
            self.m2_p + other.m2_p + gap_p * gap_p * share,
            self.m2_e + other.m2_e + gap_e * gap_e * share,
            self.c_pe + other.c_pe + gap_p * gap_e * share,
            min(self.min_e, other.min_e),
            max(self.max_e, other.max_e),
            self.wins + other.wins,
            self.ties + other.ties,
            self.losses + other.losses,
        )

    @property
    def mean_c(self) -> float:
        """The challenger's mean."""
        return self.mean_p + self.mean_e

    def loss_beyond(self, share: float, amount: float = 0.0) -> tuple[float, float]:
        """Mean and variance of d = c - (1 - share) p + amount: below 0 where more is lost than is allowed.

        What rounding alone makes of constant differences counts as no variance, and as no loss.
        """
        mean = self.mean_e + share * self.mean_p + amount
        if abs(mean) <= TIE:
            mean = 0.0
        if self.n < 2:
            return mean, 0.0
        parts = self.m2_e + share * share * self.m2_p
        total = parts + 2 * share * self.c_pe
        return mean, 0.0 if total <= TIE * parts + self.n * TIE * TIE else total / (self.n - 1)


def by_group(reference: Floats, challenger: Floats, groups: NDArray[np.int64], count: int) -> list[PairMoments]:
    """The moments of each group of queries, such as those of one slice.

    Args:
        reference: figures of champion or baseline, shape (queries,).
        challenger: figures of the challenger on the same queries.
        groups: the group of each query, from 0 up to, not including, `count`.
        count: how many groups there are.

    Raises:
        ValueError: the shapes differ, or a figure is not finite.
    """
    import numpy as np

    if not reference.shape == challenger.shape == groups.shape:
        raise ValueError(f"the sides have {len(reference)} and {len(challenger)} figures")
    if not (np.isfinite(reference).all() and np.isfinite(challenger).all()):
        raise ValueError("a figure is not finite")
    e = challenger - reference

    def sums(values: Floats | NDArray[np.bool_]) -> Floats:
        return np.bincount(groups, weights=values, minlength=count).astype(np.float64, copy=False)

    n = np.bincount(groups, minlength=count)
    divisor = np.maximum(n, 1)
    mean_p, mean_e = sums(reference) / divisor, sums(e) / divisor
    from_p, from_e = reference - mean_p[groups], e - mean_e[groups]
    m2_p, m2_e, c_pe = sums(from_p * from_p), sums(from_e * from_e), sums(from_p * from_e)
    low, high = np.full(count, math.inf), np.full(count, -math.inf)
    np.minimum.at(low, groups, e)
    np.maximum.at(high, groups, e)
    wins, losses = sums(e > TIE), sums(e < -TIE)
    return [
        PairMoments(
            int(n[g]),
            float(mean_p[g]),
            float(mean_e[g]),
            float(m2_p[g]),
            float(m2_e[g]),
            float(c_pe[g]),
            float(low[g]),
            float(high[g]),
            int(wins[g]),
            int(n[g] - wins[g] - losses[g]),
            int(losses[g]),
        )
        for g in range(count)
    ]


def holm(p_values: Sequence[float], alpha: float) -> list[bool]:
    """Which null hypotheses Holm's step-down procedure rejects at family-wise error rate `alpha` (Holm 1979)."""
    rejected = [False] * len(p_values)
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        if p_values[index] > alpha / (len(p_values) - rank):
            break
        rejected[index] = True
    return rejected
