"""A ranking metric's name and options: all that its value depends on beside labels and scores. Pure, without NumPy.

Policies speak of metrics where nothing is measured, in an environment that has no NumPy; `rank_metrics` measures.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Literal

Gain = Literal["exp", "linear"] | tuple[tuple[float, float], ...]
TieRule = Literal["average", "pessimistic"]
Kind = Literal["ndcg", "mrr", "map", "recall"]
MAX_K = 100_000

_NAME = re.compile(r"(?:val_)?(ndcg|mrr|map|recall)(?:@|_at_)([1-9][0-9]{0,5})")


def parse_name(text: str) -> tuple[Kind, int] | None:
    """The kind and k of `ndcg@10`, `ndcg_at_10` and both with `val_` before; None for any other name."""
    match = _NAME.fullmatch(text)
    if not match or int(match[2]) > MAX_K:
        return None
    kinds: dict[str, Kind] = {"ndcg": "ndcg", "mrr": "mrr", "map": "map", "recall": "recall"}
    return kinds[match[1]], int(match[2])


@dataclass(frozen=True)
class RankMetric:
    """One metric, with all that its value depends on beside labels and scores.

    `ndcg` is described in the module of that name. With R relevant documents in a query, retrieved or not:

    - `mrr` is 1 / rank of the first relevant document, 0 if that is beyond k.
    - `map` is the sum of the precision at the rank of each relevant document down to k, divided by R, not by
      min(R, k): trec_eval's `map_cut`.
    - `recall` is the share of the R that is ranked down to k.

    Attributes:
        kind: what is measured.
        k: the ranks that count, 1 to 100 000.
        gain: of `ndcg` only: 2^label - 1, the label, or pairs of label and gain.
        ties: what a tie earns: the mean over all orders, or the least.
        relevant_from: of all others: the least label that is relevant.
        empty_queries: what callers do with queries of which nothing is relevant; `measure` leaves them NaN.

    Raises:
        ValueError: a number that makes no metric.
    """

    kind: Kind
    k: int
    gain: Gain = "exp"
    ties: TieRule = "average"
    relevant_from: float = 1.0
    empty_queries: Literal["skip", "zero"] = "skip"

    def __post_init__(self) -> None:
        if not 1 <= self.k <= MAX_K:
            raise ValueError(f"k is {self.k}, and lies between 1 and {MAX_K}")
        if not math.isfinite(self.relevant_from):
            raise ValueError(f"relevant-from is {self.relevant_from}, and no label is")
        if isinstance(self.gain, str):
            return
        if not all(0 <= number < math.inf for pair in self.gain for number in pair):
            raise ValueError("gain: labels and gains are not negative, and finite")
        if len(dict(self.gain)) < len(self.gain):
            raise ValueError("gain: a label is there twice")
        # In one order, so that equal tables are equal.
        object.__setattr__(self, "gain", tuple(sorted(self.gain)))

    @property
    def name(self) -> str:
        """Such as `ndcg@10`."""
        return f"{self.kind}@{self.k}"

    def options(self) -> dict[str, str]:
        """What the name does not say, in one spelling for equal metrics: what a verdict is bound to."""
        if self.kind != "ndcg":
            own = {"relevant-from": _number(self.relevant_from)}
        elif isinstance(self.gain, str):
            own = {"gain": self.gain}
        else:
            own = {"gain": "; ".join(f"{_number(label)}={_number(gain)}" for label, gain in self.gain)}
        return {**own, "ties": self.ties, "empty-queries": self.empty_queries}


def _number(value: float) -> str:
    return repr(float(value) + 0.0).removesuffix(".0")  # -0.0 is 0
