"""Simulates releases of equal and of worse models, and counts what is promoted: by this gate, and by the bare rule.

The bare rule is what people write by hand: promote if mean(c) >= 0.98 mean(p). Both rules see the same figures. The
gate is asked through `decision.decide`, with the default policy; nothing of it is written again here.

Generators, each with a challenger whose true mean is exactly the share (1 - loss) of the champion's:
  beta          per-query scores like NDCG's: Beta(2.4, 1.2), pairs independent but for a common query difficulty
  correlated    the same margins, joined by a Gaussian copula with correlation 0.9
  discrete      NDCG@10 of noisy rankings of 5 to 40 graded documents, most queries tied or nearly so
  collapse      the challenger is the champion, but a share `loss` of the queries falls to 0 (not smooth)
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "scripts")]

import numpy as np  # noqa: E402
from scipy import special, stats  # noqa: E402

from champion_gate import decision, policy  # noqa: E402
from champion_gate.decision import Basis, Evidence, Figures, Outcome, Side  # noqa: E402
from champion_gate.ndcg import ndcg  # noqa: E402
from champion_gate.statistics import Moments, PairMoments  # noqa: E402
from tests.support.progress import progress  # noqa: E402

SIZES = (50, 100, 200, 500, 1000, 2000, 5000, 10_000)
MARGIN = policy.DEFAULT_MAX_REGRESSION
LOSSES = (0.0, MARGIN, 0.03, 0.05)
AT_THE_MARGIN = 5
SMOOTH = ("beta", "correlated", "discrete")
POLICY = policy.from_yaml("metrics: [{name: ndcg@10}]", "the default policy")
_POOL = 200_000

Pair = tuple[Any, Any]


def copula(correlation: float) -> Pair:
    """Two sides with Beta(2.4, 1.2) margins, joined by a Gaussian copula."""
    rng = np.random.default_rng(20)
    common = rng.standard_normal(_POOL)
    sides = [math.sqrt(correlation) * common + math.sqrt(1 - correlation) * rng.standard_normal(_POOL) for _ in "pc"]
    p, c = (special.betaincinv(2.4, 1.2, stats.norm.cdf(side)) for side in sides)
    return p, c


def rankings() -> Pair:
    """NDCG@10 of two equally good rankers on queries of 5 to 40 documents graded 0 to 4."""
    rng = np.random.default_rng(20)
    offsets = np.concatenate([[0], np.cumsum(rng.integers(5, 41, _POOL))])
    fit = rng.standard_normal(offsets[-1])
    labels = np.searchsorted((0.4, 1.0, 1.6, 2.2), fit).astype(float)
    shared = fit + 0.5 * rng.standard_normal(offsets[-1])
    p, c = (ndcg(labels, np.round(shared + 0.25 * rng.standard_normal(offsets[-1]), 1), offsets) for _ in "pc")
    judged = np.isfinite(p)
    return p[judged], c[judged]


@cache
def pool(name: str) -> Pair:
    """All queries that there are, equal in the mean; a release's are drawn from them."""
    p, c = {"beta": partial(copula, 0.6), "correlated": partial(copula, 0.9), "discrete": rankings}[name]()
    return p, c * p.mean() / c.mean()


def smooth(name: str, rng: np.random.Generator, n: int, loss: float) -> Pair:
    """Queries drawn from a pool, whose challenger is scaled so that the truth is exact."""
    p, c = pool(name)
    drawn = rng.integers(0, len(p), n)
    return p[drawn], (1 - loss) * c[drawn]


def collapse(rng: np.random.Generator, n: int, loss: float) -> Pair:
    """The champion itself, except that some queries fall to 0."""
    p, _ = pool("beta")
    p = p[rng.integers(0, len(p), n)]
    return p, np.where(rng.random(n) < loss, 0.0, p)


GENERATORS: dict[str, Callable[[np.random.Generator, int, float], Pair]] = {
    **{name: partial(smooth, name) for name in SMOOTH},
    "collapse": collapse,
}


def gate(p: Any, c: Any) -> Outcome:
    """What the gate says."""
    figures = Figures(Moments.of(c), {decision.CHAMPION: PairMoments.of(p, c)})
    evidence = Evidence(Side("2"), Side("1"), Basis.QUERIES, figures={"ndcg@10": figures})
    return decision.decide(POLICY, evidence).outcome


def rates(task: tuple[str, int, float, int]) -> tuple[float, float, float, float]:
    """Shares promoted by the bare rule, and promoted, left open and failed by the gate."""
    name, n, loss, rounds = task
    rng = np.random.default_rng([SIZES.index(n) if n in SIZES else n, int(loss * 1000), len(name)])
    bare, outcomes = 0, dict.fromkeys(Outcome, 0)
    for _ in range(rounds):
        p, c = GENERATORS[name](rng, n, loss)
        bare += bool(c.mean() >= 0.98 * p.mean())
        outcomes[gate(p, c)] += 1
    counts = (bare, outcomes[Outcome.PASSED], outcomes[Outcome.INCONCLUSIVE], outcomes[Outcome.FAILED])
    return tuple(count / rounds for count in counts)  # type: ignore[return-value]


def main() -> None:
    """Print one table for each generator, and what the type I error came to."""
    parser = argparse.ArgumentParser(prog="tests/benchmarks/error_rates", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=4000, help="releases per cell (default: 4000)")
    parser.add_argument("--only", choices=GENERATORS, action="append", help="only this generator; repeatable")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES), metavar="N", help="numbers of queries")
    options = parser.parse_args()
    names = options.only or list(GENERATORS)
    # The rate that is promised is looked at more closely than the others.
    rounds = {loss: options.rounds * (AT_THE_MARGIN if loss == MARGIN else 1) for loss in LOSSES}
    tasks = [(name, n, loss, rounds[loss]) for name in names for n in options.sizes for loss in LOSSES]
    started, found = time.monotonic(), {}
    with ProcessPoolExecutor() as workers:
        for done, (task, result) in enumerate(zip(tasks, workers.map(rates, tasks), strict=True)):
            found[task[:3]] = result
            progress(f"{done + 1} of {len(tasks)} cells")
    print(f"Promoted, in % of {options.rounds} simulated releases: bare rule / this gate (left open by it)\n")
    for name in names:
        print(f"{name}\n\n| queries | equal | 2 % worse | 3 % worse | 5 % worse |\n|---:|---:|---:|---:|---:|")
        for n in options.sizes:
            cells = [found[name, n, loss] for loss in LOSSES]
            shown = [f"{100 * b:.1f} / {100 * p:.1f} ({100 * o:.0f})" for b, p, o, _ in cells]
            print(f"| {n} | " + " | ".join(shown) + " |")
        print()
    judged = [n for n in options.sizes if n >= policy.MIN_QUERIES]
    noise = 100 * math.sqrt(0.05 * 0.95 / rounds[MARGIN])
    for title, group in (("smooth generators", SMOOTH), ("collapses", ("collapse",))):
        errors = [100 * found[name, n, MARGIN][1] for name in group if name in names for n in judged]
        if errors:
            target = ", target <= 5.5 %" if group is SMOOTH else ""
            print(
                f"Type I error at the margin, {title}, from {min(judged)} queries on: at most {max(errors):.1f} %, "
                f"mean {np.mean(errors):.1f} % (the simulation's own standard error is {noise:.2f}{target})"
            )
    print(f"\n{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
