"""The rule that decides a release: evidence and policy in, outcome and reasons out.

Pure: no I/O, no MLflow, no clock. A reader finds here, and nowhere else, what passes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum

from champion_gate import conventions
from champion_gate.errors import BadInput
from champion_gate.policy import MetricPolicy, Policy
from champion_gate.text import one_line


class Outcome(str, Enum):
    """What a check, or all of them together, came to."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"


class Basis(str, Enum):
    """What kind of evidence was judged."""

    POINT_ESTIMATE = "point estimate"
    """One figure for each side, without a spread: noise cannot be told from loss."""


@dataclass(frozen=True)
class Side:
    """What is known of one version: its run's metrics and the data they were measured on."""

    version: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Latest value of each metric of the run, as logged; may hold NaN."""
    data_version: str | None = None
    evaluation_data_version: str | None = None
    problem: str | None = None
    """Why nothing can be believed of this version (its run is missing, or failed); None if all is well."""


@dataclass(frozen=True)
class Evidence:
    """The figures of challenger and champion; `champion` is None at a first release."""

    challenger: Side
    champion: Side | None
    basis: Basis = Basis.POINT_ESTIMATE


@dataclass(frozen=True)
class Check:
    """One comparison of the evidence with one line of the policy."""

    name: str
    metric: str
    outcome: Outcome
    reason: str


@dataclass(frozen=True)
class Decision:
    """The outcome of all checks, with their reasons."""

    outcome: Outcome
    basis: Basis
    checks: tuple[Check, ...]
    first_release: bool

    @property
    def reason(self) -> str:
        """In a sentence: why it failed or stayed open, or what the pass rests on."""
        deciding = [check.reason for check in self.checks if check.outcome is self.outcome]
        lead = "First release. " if self.first_release else ""
        return lead + " ".join(deciding)


def decide(policy: Policy, evidence: Evidence) -> Decision:
    """Judge a challenger.

    Any failed check fails, else any inconclusive one leaves it open, else all passed.

    Raises:
        BadInput: there is no champion and no threshold, so nothing could decide.
    """
    champion = evidence.champion
    if champion is None:
        something_decides(policy)
    checks: list[Check] = []
    for metric in policy.metrics:
        sound = _challenger_figure(metric, evidence.challenger)
        if sound.outcome is not Outcome.PASSED:
            checks.append(sound)
            continue
        if metric.threshold is not None:
            checks.append(_threshold(metric, metric.threshold, evidence.challenger))
        if champion is not None:
            checks.append(_comparison(metric, evidence.challenger, champion, policy.allow_different_data))
    outcomes = {check.outcome for check in checks}
    outcome = next((o for o in (Outcome.FAILED, Outcome.INCONCLUSIVE) if o in outcomes), Outcome.PASSED)
    return Decision(outcome, evidence.basis, tuple(checks), first_release=champion is None)


def something_decides(policy: Policy) -> None:
    """See that a policy can decide a first release.

    Raises:
        BadInput: it has no threshold, and there is no champion to compare with.
    """
    if all(metric.threshold is None for metric in policy.metrics):
        raise BadInput(
            "Nothing can decide this release: there is no champion to compare with, and no threshold.",
            "A first release is decided by absolute thresholds alone.",
            "Set the input 'threshold', for example 0.75.",
        )


def figure_problem(metric: str, side: Side, who: str) -> str | None:
    """Why a side's figure for `metric` cannot be used; None if it can."""
    if side.problem is not None:
        return side.problem
    value = side.metrics.get(metric)
    if value is None:
        logged = ", ".join(one_line(name, 60) for name in sorted(side.metrics)[:20]) or "none"
        return f"The run of {who} version {side.version} has no metric {metric}; it has: {logged}."
    # MLflow's SQL stores keep an infinity as the largest float.
    if not math.isfinite(value) or abs(value) >= math.nextafter(math.inf, 0):
        return f"{metric} of {who} version {side.version} is {value}, which is not a figure."
    if conventions.is_ndcg(metric) and not 0 <= value <= 1:
        return f"{metric} of {who} version {side.version} is {value}, and an NDCG lies between 0 and 1."
    return None


def _challenger_figure(metric: MetricPolicy, challenger: Side) -> Check:
    problem = figure_problem(metric.name, challenger, "challenger")
    return Check("figure", metric.name, Outcome.FAILED if problem else Outcome.PASSED, problem or "")


def _threshold(metric: MetricPolicy, threshold: float, challenger: Side) -> Check:
    value = challenger.metrics[metric.name]
    reached = value >= threshold
    reason = (
        f"{metric.name} {value:.6g} of version {challenger.version} "
        f"{'reaches' if reached else 'is below'} the threshold {threshold:.6g}."
    )
    return Check("threshold", metric.name, Outcome.PASSED if reached else Outcome.FAILED, reason)


def _comparison(metric: MetricPolicy, challenger: Side, champion: Side, allow_different_data: bool) -> Check:
    def check(outcome: Outcome, reason: str) -> Check:
        return Check("champion", metric.name, outcome, reason)

    if problem := figure_problem(metric.name, champion, "champion"):
        return check(Outcome.INCONCLUSIVE, problem + " So there is nothing to compare with.")
    if not allow_different_data and (difference := data_difference(challenger, champion)):
        return check(Outcome.INCONCLUSIVE, difference)
    was, now = champion.metrics[metric.name], challenger.metrics[metric.name]
    if was <= 0:
        return check(
            Outcome.INCONCLUSIVE,
            f"{metric.name} of champion version {champion.version} is {was:.6g}: a share of it is no margin.",
        )
    # In decimals, as the figures are written: 0.784 is 98 % of 0.8, which binary fractions miss.
    least = (1 - Decimal(repr(metric.max_regression))) * Decimal(repr(was))
    held = Decimal(repr(now)) >= least
    change = (now - was) / was
    reason = (
        f"{metric.name} {now:.6g} of version {challenger.version} is {change:+.2%} against {was:.6g} of champion "
        f"version {champion.version}, and {metric.max_regression:.2%} may be lost."
    )
    return check(Outcome.PASSED if held else Outcome.FAILED, reason)


def data_difference(challenger: Side, champion: Side) -> str | None:
    """Why two run metrics may not be compared: they were not measured on the same data, as far as is known.

    Both must name the same `evaluation.data.version`; where neither names one, the same `data.version`.
    """
    key, mine, theirs = (
        "evaluation.data.version",
        challenger.evaluation_data_version,
        champion.evaluation_data_version,
    )
    if mine is None and theirs is None:
        key, mine, theirs = "data.version", challenger.data_version, champion.data_version
    if mine is not None and mine == theirs:
        return None

    def named(value: str | None) -> str:
        return "none" if value is None else f"'{one_line(value, 80)}'"

    return (
        f"Not measured on the same data: {key} is {named(mine)} for challenger version {challenger.version} and "
        f"{named(theirs)} for champion version {champion.version}. Evaluate both on one data set, or say "
        "allow-different-data."
    )
