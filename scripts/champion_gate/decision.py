"""The rule that decides a release: evidence and policy in, outcome and reasons out.

Pure: no I/O, no MLflow, no clock. A reader finds here, and nowhere else, what passes.

On judged queries the challenger must be shown to lose no more than the margin (a paired, one-sided t-test of
non-inferiority on the differences per query); from run metrics alone there is no spread to test, and the bare rule
applies. docs/decision.md explains the rule in plain words.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from enum import Enum

from champion_gate import conventions
from champion_gate.errors import BadInput
from champion_gate.policy import MetricPolicy, Policy, SlicePolicy
from champion_gate.statistics import TIE, Moments, PairMoments, holm
from champion_gate.text import one_line

POWER = 0.80
"""The power for which the number of queries that are needed is computed."""
_SIZES_LIMIT = 1e6  # whose square is more queries than anybody has
CHAMPION = "champion"
BASELINE = "baseline"


class Outcome(str, Enum):
    """What a check, or all of them together, came to."""

    PASSED = "passed"
    FAILED = "failed"
    INCONCLUSIVE = "inconclusive"


class Basis(str, Enum):
    """What kind of evidence was judged."""

    POINT_ESTIMATE = "point estimate"
    """One figure for each side, without a spread: noise cannot be told from loss."""
    QUERIES = "judged queries"
    """Figures of both sides on each of the same queries."""


@dataclass(frozen=True)
class Side:
    """What is known of one version: its run's metrics and the data they were measured on."""

    version: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Latest value of each metric of the run, as logged; may hold NaN."""
    data_version: str | None = None
    evaluation_data_version: str | None = None
    problem: str | None = None
    """Why nothing can be believed of this version (its run failed or was deleted); None if all is well."""
    metrics_problem: str | None = None
    """Why there are no run metrics; judged queries do not need them."""
    scoring_problem: str | None = None
    """Why the model could not be loaded and asked."""


@dataclass(frozen=True)
class SliceKey:
    """One slice: the queries whose `column` has `value`."""

    column: str
    value: str

    def __str__(self) -> str:
        return f"{one_line(self.column, 60)}={one_line(self.value, 60)}"


@dataclass(frozen=True)
class Figures:
    """What the judged queries say of one ranking metric, as sufficient statistics.

    `pairs` holds champion and baseline as references, where there are any; `slices` is against the champion.
    """

    challenger: Moments
    pairs: Mapping[str, PairMoments] = field(default_factory=dict)
    slices: Mapping[SliceKey, PairMoments] = field(default_factory=dict)
    empty: int = 0
    """Queries without a relevant document."""


@dataclass(frozen=True)
class Evidence:
    """The figures of challenger, champion and baseline; `champion` is None at a first release.

    `figures` has an entry for each ranking metric (by `MetricPolicy.key`) that judged queries were measured by; all
    other metrics are read from the runs.
    """

    challenger: Side
    champion: Side | None
    basis: Basis = Basis.POINT_ESTIMATE
    baseline: Side | None = None
    figures: Mapping[str, Figures] = field(default_factory=dict)
    slice_columns: frozenset[str] = frozenset()
    """The slice columns that the judged queries have."""


@dataclass(frozen=True)
class Estimate:
    """What a paired comparison found, with its margin; `lower` and `upper` bound the mean of d (see `compare`)."""

    n: int
    reference: float
    challenger: float
    margin: float
    """The least ratio that is asked for, 1 - max-regression; with max-loss, minus what may be lost."""
    absolute: bool
    """Whether `margin` is a difference and not a ratio."""
    lower: float
    upper: float
    difference: float
    difference_lower: float
    difference_upper: float
    ratio: float | None
    ratio_lower: float | None
    ratio_upper: float | None
    """Fieller's bounds of challenger / reference; None where they do not exist."""
    wins: int
    ties: int
    losses: int
    confidence: float
    least_queries: int
    needed: int | None
    """How many queries would settle it, with 80 % power, if the models were equal; None if no number would."""
    needed_as_measured: int | None
    """The same if the models differ as they were measured to; None if the challenger is at the margin or below."""
    p_value: float
    """One-sided, of the null hypothesis that no more is lost than the margin."""


@dataclass(frozen=True)
class Check:
    """One comparison of the evidence with one line of the policy."""

    name: str
    """`servable`, `figure`, `threshold`, `champion`, `baseline` or `slice`."""
    metric: str
    outcome: Outcome
    reason: str
    counts: bool = True
    """Whether it takes part in the decision; reported otherwise."""
    slice: SliceKey | None = None
    required: bool = False
    estimate: Estimate | None = None
    value: float | None = None
    """The challenger's figure that was compared; None if it has none."""
    reference: float | None = None
    """What it was compared with: the champion's or baseline's figure, or the threshold."""


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
        deciding = [check for check in self.checks if check.counts and check.outcome is self.outcome]
        said = [check.reason for check in deciding]
        if self.outcome is Outcome.PASSED:
            # Slices that hold are many, and say nothing that the whole does not.
            said = [check.reason for check in deciding if check.slice is None]
            if held := len(deciding) - len(said):
                said.append(f"{held} slices did not fail." if held > 1 else "1 slice did not fail.")
        lead = "First release. " if self.first_release else ""
        return lead + " ".join(said)


def decide(policy: Policy, evidence: Evidence) -> Decision:
    """Judge a challenger.

    Any failed check fails, else any inconclusive one leaves it open, else all passed. Checks that do not count
    (report-only metrics, slices with too few queries) are shown and decide nothing.

    Raises:
        BadInput: there is no champion and no threshold, so nothing could decide.
    """
    if evidence.champion is None:
        something_decides(policy)
    checks = _sound(evidence.challenger)
    if not checks:
        for metric in policy.metrics:
            figures = evidence.figures.get(metric.key)
            found = (
                _from_runs(policy, metric, evidence) if figures is None else _paired(policy, metric, evidence, figures)
            )
            checks += [replace(check, counts=check.counts and not metric.report_only) for check in found]
        checks += _slices(policy, evidence)
    outcomes = {check.outcome for check in checks if check.counts}
    outcome = next((o for o in (Outcome.FAILED, Outcome.INCONCLUSIVE) if o in outcomes), Outcome.PASSED)
    return Decision(outcome, evidence.basis, tuple(checks), first_release=evidence.champion is None)


def something_decides(policy: Policy) -> None:
    """See that a policy can decide a first release.

    Raises:
        BadInput: it has no threshold, and there is no champion to compare with.
    """
    if all(metric.threshold is None or metric.report_only for metric in policy.metrics):
        raise BadInput(
            "Nothing can decide this release: there is no champion to compare with, and no threshold.",
            "A first release is decided by absolute thresholds alone.",
            "Set the input 'threshold' (or a metric's `threshold:` in the policy), for example 0.75.",
        )


def _sound(challenger: Side) -> list[Check]:
    """Why this version is not looked at further: its run failed, or the model cannot be loaded and asked."""
    if challenger.problem is not None:
        return [Check("figure", "", Outcome.FAILED, challenger.problem)]
    if challenger.scoring_problem is not None:
        return [Check("servable", "", Outcome.FAILED, challenger.scoring_problem)]
    return []


# -- judged queries


def _paired(policy: Policy, metric: MetricPolicy, evidence: Evidence, figures: Figures) -> list[Check]:
    key, challenger = metric.key, figures.challenger
    version = evidence.challenger.version
    if not challenger.n:
        none = f"No query has a relevant document ({figures.empty} have none), so {key} cannot be measured."
        return [Check("figure", key, Outcome.INCONCLUSIVE, none)]
    checks = []
    if metric.threshold is not None:
        checks.append(_threshold(metric, key, challenger.mean, version, f" on {challenger.n} queries"))
    for name, side in ((CHAMPION, evidence.champion), (BASELINE, evidence.baseline)):
        if side is None:
            continue
        if side.scoring_problem is not None:
            open_ = f"{side.scoring_problem} So there is nothing to compare with."
            checks.append(Check(name, key, Outcome.INCONCLUSIVE, open_))
            continue
        asked = _against_baseline(policy, metric) if name == BASELINE else metric
        checks.append(_compared(policy, asked, figures.pairs[name], name, version, side.version))
    if not checks:
        said = f"{key} is {challenger.mean:.6g}."
        checks.append(Check("figure", key, Outcome.PASSED, said, counts=False, value=challenger.mean))
    return checks


def _against_baseline(policy: Policy, metric: MetricPolicy) -> MetricPolicy:
    """The metric with the margin that it has against the baseline: the baseline's own, if the policy gives it one."""
    if policy.baseline is None or policy.baseline.max_regression is None:
        return metric
    return metric.model_copy(update={"max_regression": policy.baseline.max_regression, "max_loss": None})


def _compared(
    policy: Policy,
    metric: MetricPolicy,
    pairs: PairMoments,
    name: str,
    version: str,
    reference: str,
) -> Check:
    margin = metric.max_regression
    estimate = compare(
        pairs,
        margin,
        policy.confidence_of(metric),
        policy.least_queries(metric, 0.0 if metric.max_loss is not None else margin),
        metric.max_loss,
    )
    outcome, why = _judged(estimate)
    reason = (
        f"{metric.key} {estimate.challenger:.6g} of version {version} against {estimate.reference:.6g} of {name} "
        f"version {reference} on {estimate.n} queries: {_interval(estimate)}. {why}"
    )
    figures = (estimate.challenger, estimate.reference)
    return Check(name, metric.key, outcome, reason, True, None, False, estimate, *figures)


def compare(
    pairs: PairMoments, max_regression: float, confidence: float, least_queries: int, max_loss: float | None = None
) -> Estimate:
    """Non-inferiority of the challenger, by a paired t-test.

    With p the reference's and c the challenger's figure of a query and m the margin, d = c - (1 - m) p has the mean
    0 where exactly the margin is lost. The bounds are mean(d) -/+ t(n-1, confidence) s_d / sqrt(n). The ratio
    mean(c) / mean(p) has Fieller's bounds (Fieller 1954), whose lower one is at least 1 - m exactly where mean(d)'s
    is at least 0.

    Args:
        pairs: sufficient statistics of the queries.
        max_regression: m, the share of the reference that may be lost.
        confidence: one-sided, of each bound.
        least_queries: below this nothing is decided.
        max_loss: an absolute margin in the metric's unit, in place of `max_regression`.
    """
    share, amount = (max_regression, 0.0) if max_loss is None else (0.0, max_loss)
    mean, variance = pairs.loss_beyond(share, amount)
    quantile = _t_quantile(confidence, pairs.n - 1)
    error = math.sqrt(variance / pairs.n) if pairs.n else math.inf
    spread = quantile * error if error else 0.0
    difference, its_variance = pairs.loss_beyond(0.0)
    half = quantile * math.sqrt(its_variance / pairs.n) if its_variance else 0.0
    if pairs.n < 2:
        spread = half = math.inf
    ratio, low, high = _fieller(pairs, quantile)
    return Estimate(
        n=pairs.n,
        reference=pairs.mean_p,
        challenger=pairs.mean_c,
        margin=1 - share if max_loss is None else -amount,
        absolute=max_loss is not None,
        lower=_no_rounding(mean - spread),
        upper=_no_rounding(mean + spread),
        difference=difference,
        difference_lower=difference - half,
        difference_upper=difference + half,
        ratio=ratio,
        ratio_lower=low,
        ratio_upper=high,
        wins=pairs.wins,
        ties=pairs.ties,
        losses=pairs.losses,
        confidence=confidence,
        least_queries=least_queries,
        needed=_needed(math.sqrt(variance), share * pairs.mean_p + amount, confidence),
        needed_as_measured=_needed(math.sqrt(variance), mean, confidence),
        p_value=_p_value(mean, error, pairs.n),
    )


def _judged(e: Estimate) -> tuple[Outcome, str]:
    if e.n < e.least_queries:
        return Outcome.INCONCLUSIVE, f"The policy needs at least {e.least_queries} queries to tell loss from noise."
    if not e.absolute and e.reference <= 0:
        return Outcome.INCONCLUSIVE, "A share of what is not above 0 is no margin; give the metric a max-loss."
    if not e.absolute and e.ratio_lower is None:
        return Outcome.INCONCLUSIVE, "The reference's mean is too close to zero for a ratio, as noisy as it is."
    asked = f"{e.margin:+.6g}" if e.absolute else f"{e.margin:.4g}"
    if e.lower >= 0:
        return Outcome.PASSED, f"The lower bound reaches the {asked} that is asked for."
    if e.upper < 0:
        return Outcome.FAILED, f"Even the upper bound is below the {asked} that is asked for."
    return (
        Outcome.INCONCLUSIVE,
        f"The {asked} that is asked for lies between the bounds: too noisy to tell. {_advice(e)}",
    )


def _advice(e: Estimate) -> str:
    if e.needed is None:
        return "With so narrow a margin, no number of queries shows that two equal models are equal."
    if e.needed > e.n:
        return f"About {e.needed} queries would settle it if the models were equal."
    said = "More queries are unlikely to help: equal models would have passed by now."
    if e.needed_as_measured is not None and not e.absolute and e.ratio is not None:
        said += f" If the ratio stays at {e.ratio:.4f}, about {e.needed_as_measured} would settle it."
    return said


def _interval(e: Estimate) -> str:
    counts = f"{e.wins} won, {e.ties} tied, {e.losses} lost"
    if e.absolute or e.ratio is None or e.ratio_lower is None or e.ratio_upper is None:
        bounds = f"{e.difference_lower:+.4g} to {e.difference_upper:+.4g}"
        return f"difference {e.difference:+.4g} ({bounds} at {100 * e.confidence:.4g}%), {counts}"
    bounds = f"{e.ratio_lower:.4f} to {e.ratio_upper:.4f}"
    return f"ratio {e.ratio:.4f} ({bounds} at {100 * e.confidence:.4g}%), {counts}"


def _fieller(pairs: PairMoments, quantile: float) -> tuple[float | None, float | None, float | None]:
    """The ratio of means c / p and its bounds; None where there is none, or where Fieller's g is not below 1.

    Of e / p, plus one: the same bounds, without the cancellation where c and p are close.
    """
    if pairs.n < 2 or pairs.mean_p <= 0:
        return None, None, None
    p, e = pairs.mean_p, pairs.mean_e
    scale = quantile * quantile / (pairs.n - 1) / pairs.n
    if pairs.m2_p == 0 and pairs.m2_e == 0:
        return 1 + e / p, 1 + e / p, 1 + e / p
    pp, ee, pe = scale * pairs.m2_p, scale * pairs.m2_e, scale * pairs.c_pe
    if pp >= p * p:
        return 1 + e / p, None, None
    middle, divisor = e * p - pe, p * p - pp
    root = math.sqrt(max(0.0, middle * middle - divisor * (e * e - ee)))
    return 1 + e / p, 1 + (middle - root) / divisor, 1 + (middle + root) / divisor


def _needed(deviation: float, margin: float, confidence: float) -> int | None:
    if margin <= 0:
        return None
    from scipy.special import ndtri

    sizes = (float(ndtri(confidence)) + float(ndtri(POWER))) * deviation / margin
    return max(2, math.ceil(sizes**2)) if sizes < _SIZES_LIMIT else None


def _t_quantile(confidence: float, degrees: int) -> float:
    if degrees < 1:
        return math.inf
    from scipy.special import stdtrit  # not scipy.stats, which takes a second to import

    return float(stdtrit(degrees, confidence))


def _p_value(mean: float, error: float, n: int) -> float:
    if n < 2:
        return 1.0
    if error == 0:
        return 0.0 if mean < 0 else 1.0
    from scipy.special import stdtr

    return float(stdtr(n - 1, mean / error))


def _no_rounding(value: float) -> float:
    return 0.0 if abs(value) <= TIE else value


# -- slices


def _slices(policy: Policy, evidence: Evidence) -> list[Check]:
    """Required slices must show that they hold; of all others none may show that it does not (Holm)."""
    if evidence.champion is None or evidence.champion.scoring_problem is not None:
        return []
    checks: list[Check] = []
    optional: list[tuple[MetricPolicy, SlicePolicy, SliceKey, Estimate]] = []
    for metric in policy.metrics:
        figures = evidence.figures.get(metric.key)
        for column in policy.slices if metric.rank_metric and not metric.report_only else ():
            checks += [
                _required(policy, metric, column, SliceKey(column.column, value), evidence, figures)
                for value in column.required
            ]
            for key, pairs in figures.slices.items() if figures else ():
                if key.column == column.column and key.value not in column.required:
                    estimate = _slice_estimate(policy, metric, column, pairs)
                    if estimate.n >= estimate.least_queries:
                        optional.append((metric, column, key, estimate))
                    else:
                        few = f"{key}: {estimate.n} queries, too few to judge."
                        checks.append(_slice_check(metric, key, Outcome.INCONCLUSIVE, few, estimate, counts=False))
    rejected = holm([estimate.p_value for *_, estimate in optional], 1 - policy.confidence)
    for (metric, column, key, estimate), lost in zip(optional, rejected, strict=True):
        said = f"{metric.key} of {key} on {estimate.n} queries: {_interval(estimate)}."
        margin = f"more than the {column.max_regression:.2%} that a slice may lose"
        if lost:
            reason = f"{said} It lost {margin} (p = {estimate.p_value:.2g}, Holm over {len(optional)})."
        else:
            reason = f"{said} It did not show to lose {margin}."
        checks.append(_slice_check(metric, key, Outcome.FAILED if lost else Outcome.PASSED, reason, estimate))
    return checks


def _slice_estimate(policy: Policy, metric: MetricPolicy, column: SlicePolicy, pairs: PairMoments) -> Estimate:
    margin = column.max_regression
    return compare(pairs, margin, policy.confidence_of(metric), policy.least_queries(metric, margin, column))


def _slice_check(
    metric: MetricPolicy,
    key: SliceKey,
    outcome: Outcome,
    reason: str,
    estimate: Estimate | None,
    *,
    counts: bool = True,
    required: bool = False,
) -> Check:
    return Check("slice", metric.key, outcome, reason, counts, key, required, estimate)


def _required(
    policy: Policy,
    metric: MetricPolicy,
    column: SlicePolicy,
    key: SliceKey,
    evidence: Evidence,
    figures: Figures | None,
) -> Check:
    if figures is None:
        reason = f"{key} is required, and run metrics know no slices. Give the gate judged queries."
        return _slice_check(metric, key, Outcome.INCONCLUSIVE, reason, None, required=True)
    pairs = figures.slices.get(key)
    if pairs is None or not pairs.n:
        known = sorted(k.value for k in figures.slices if k.column == key.column)
        there = ", ".join(one_line(value, 40) for value in known[:10]) or "none"
        reason = f"{key} is required, and no query is in it; there are: {there}."
        if key.column not in evidence.slice_columns:
            reason = f"{key} is required, and the judged queries have no column '{one_line(key.column, 60)}'."
        return _slice_check(metric, key, Outcome.INCONCLUSIVE, reason, None, required=True)
    estimate = _slice_estimate(policy, metric, column, pairs)
    outcome, why = _judged(estimate)
    reason = f"{metric.key} of the required {key} on {estimate.n} queries: {_interval(estimate)}. {why}"
    return _slice_check(metric, key, outcome, reason, estimate, required=True)


# -- run metrics


def _from_runs(policy: Policy, metric: MetricPolicy, evidence: Evidence) -> list[Check]:
    name, challenger = metric.in_runs, evidence.challenger
    if problem := figure_problem(name, challenger, "challenger"):
        return [Check("figure", name, Outcome.FAILED, problem)]
    checks = []
    if metric.threshold is not None:
        checks.append(_threshold(metric, name, challenger.metrics[name], challenger.version))
    differs = policy.allow_different_data or metric.allow_different_data
    if evidence.champion is not None:
        checks.append(_point(metric, challenger, evidence.champion, CHAMPION, differs))
    if evidence.baseline is not None:
        checks.append(_point(_against_baseline(policy, metric), challenger, evidence.baseline, BASELINE, differs))
    if not checks:
        said = f"{name} is {challenger.metrics[name]:.6g}."
        checks.append(Check("figure", name, Outcome.PASSED, said, counts=False, value=challenger.metrics[name]))
    return checks


def figure_problem(metric: str, side: Side, who: str) -> str | None:
    """Why a side's run metric `metric` cannot be used; None if it can."""
    if problem := side.problem or side.metrics_problem:
        return problem
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


def _threshold(metric: MetricPolicy, name: str, value: float, version: str, measured: str = "") -> Check:
    threshold = metric.threshold
    assert threshold is not None  # noqa: S101  (the callers see to it)
    if metric.direction == "lower":
        reached, said = value <= threshold, ("stays within", "is above")
    else:
        reached, said = value >= threshold, ("reaches", "is below")
    reason = f"{name} {value:.6g} of version {version}{measured} {said[not reached]} the threshold {threshold:.6g}."
    outcome = Outcome.PASSED if reached else Outcome.FAILED
    return Check("threshold", name, outcome, reason, value=value, reference=threshold)


def _point(metric: MetricPolicy, challenger: Side, reference: Side, who: str, allow_different_data: bool) -> Check:
    """The bare rule on two run metrics: at most the margin may be lost."""
    name, margin = metric.in_runs, metric.max_regression
    now = challenger.metrics[name]
    if problem := figure_problem(name, reference, who):
        said = problem + " So there is nothing to compare with."
        return Check(who, name, Outcome.INCONCLUSIVE, said, value=now)
    was = reference.metrics[name]

    def check(outcome: Outcome, reason: str) -> Check:
        return Check(who, name, outcome, reason, value=now, reference=was)

    if not allow_different_data and (difference := data_difference(challenger, reference, who)):
        return check(Outcome.INCONCLUSIVE, difference)
    lower_is_better = metric.direction == "lower"
    # In decimals, as the figures are written: 0.784 is 98 % of 0.8, which binary fractions miss.
    was_, now_, margin_ = Decimal(repr(was)), Decimal(repr(now)), Decimal(repr(margin))
    if metric.max_loss is not None:
        loss = Decimal(repr(metric.max_loss))
        held = now_ <= was_ + loss if lower_is_better else now_ >= was_ - loss
        reason = (
            f"{name} {now:.6g} of version {challenger.version} is {now - was:+.6g} against {was:.6g} of {who} "
            f"version {reference.version}, and {metric.max_loss:.6g} may be lost."
        )
        return check(Outcome.PASSED if held else Outcome.FAILED, reason)
    if was <= 0:
        return check(
            Outcome.INCONCLUSIVE,
            f"{name} of {who} version {reference.version} is {was:.6g}: a share of it is no margin. Give the metric "
            "a max-loss in the policy.",
        )
    held = now_ <= (1 + margin_) * was_ if lower_is_better else now_ >= (1 - margin_) * was_
    reason = (
        f"{name} {now:.6g} of version {challenger.version} is {_change((now - was) / was)} {was:.6g} of {who} "
        f"version {reference.version}; it may be {margin:.2%} {'higher' if lower_is_better else 'lower'}."
    )
    return check(Outcome.PASSED if held else Outcome.FAILED, reason)


def _change(share: float) -> str:
    shown = f"{abs(share):.2%}"
    return "equal to" if shown == "0.00%" else f"{shown} {'below' if share < 0 else 'above'}"


def data_difference(challenger: Side, reference: Side, who: str = CHAMPION) -> str | None:
    """Why two run metrics may not be compared: they were not measured on the same data, as far as is known.

    Both must name the same `evaluation.data.version`; where neither names one, the same `data.version`.
    """
    key, mine, theirs = (
        "evaluation.data.version",
        challenger.evaluation_data_version,
        reference.evaluation_data_version,
    )
    if mine is None and theirs is None:
        key, mine, theirs = "data.version", challenger.data_version, reference.data_version
    if mine is not None and mine == theirs:
        return None

    def named(value: str | None) -> str:
        return "none" if value is None else f"'{one_line(value, 80)}'"

    return (
        f"Not measured on the same data: {key} is {named(mine)} for challenger version {challenger.version} and "
        f"{named(theirs)} for {who} version {reference.version}. Evaluate both on one data set, or say "
        "allow-different-data."
    )
