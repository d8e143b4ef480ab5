"""What a verdict says, in figures and in words, whatever it is shown in: Markdown, plain text or HTML. Pure.

Texts of others are returned as they are, or as they stand in a check's reason: escaping is the templates' business.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from champion_gate import charts, lineage
from champion_gate.decision import BASELINE, CHAMPION, Basis, Check, Estimate, Outcome

if TYPE_CHECKING:
    from champion_gate.gate import Judged
    from champion_gate.policy import MetricPolicy, Policy

_WEB = re.compile(r"https?://[A-Za-z0-9._~:/?#@!$&*+,;=%-]{1,2000}")
_FIRST = {"servable": 0, "figure": 1, CHAMPION: 2, "threshold": 3, BASELINE: 4}
_COLUMNS = 4
_POLICY_LINES = 400
_BREAKS = re.compile(r"\r?\n|\\n| \| | (?=Its last lines: )|(?<=Its last lines: )| (?=A model that cannot be loaded )")
_ORDER = {Outcome.FAILED: 0, Outcome.INCONCLUSIVE: 1, Outcome.PASSED: 2}


@dataclass(frozen=True)
class Asked:
    """What a comparison asks for: a ratio, a difference or a value that must be reached, or must not be exceeded."""

    value: float
    is_difference: bool = False
    at_most: bool = False

    def __str__(self) -> str:
        shown = signed(self.value) if self.is_difference else f"{self.value:.6g}"
        return f"{'≤' if self.at_most else '≥'}\N{NO-BREAK SPACE}{shown}"


@dataclass(frozen=True)
class Row:
    """One check of a whole metric, with its figures as far as they are known."""

    check: Check
    metric: str
    against: str
    """Such as `champion version 6`; `threshold`; empty where the check compares with nothing."""
    challenger: float | None
    reference: float | None
    asked: Asked | None
    point: bool
    """Whether it compares two figures without a spread."""

    @property
    def ratio(self) -> float | None:
        """Challenger / reference; None where that says nothing."""
        if self.check.name not in (CHAMPION, BASELINE) or (self.asked and self.asked.is_difference):
            return None
        if self.check.estimate is not None:
            return self.check.estimate.ratio
        if self.challenger is None or self.reference is None or self.reference <= 0:
            return None
        ratio = self.challenger / self.reference
        return ratio if math.isfinite(ratio) else None

    @property
    def difference(self) -> float | None:
        """Challenger - reference, where a difference is asked for."""
        if not (self.asked and self.asked.is_difference):
            return None
        if self.check.estimate is not None:
            return self.check.estimate.difference
        return None if self.challenger is None or self.reference is None else self.challenger - self.reference

    @property
    def compared(self) -> str:
        """The ratio or difference with its bounds, as text; empty where there is none."""
        if self.check.estimate is not None:
            return interval(self.check.estimate)
        if self.ratio is not None:
            return f"{self.ratio:.4f}"
        return "" if self.difference is None else signed(self.difference)


@dataclass(frozen=True)
class Query:
    """One judged query, with both sides' figures."""

    id: str
    documents: int
    slices: Sequence[tuple[str, str]]
    """Columns with their values, the first ones of many."""
    champion: float
    challenger: float

    @property
    def difference(self) -> float:
        """Challenger - champion."""
        return self.challenger - self.champion


@dataclass(frozen=True)
class Counts:
    """How many slices came to what."""

    failed: int
    inconclusive: int
    passed: int
    too_few: int

    def __str__(self) -> str:
        parts = [
            (self.failed, "lost more than it may" if self.failed == 1 else "lost more than they may"),
            (self.inconclusive, "open"),
            (self.passed, "held"),
            (self.too_few, "with too few queries to judge"),
        ]
        return ", ".join(f"{count:,} {said}" for count, said in parts if count) or "none"


class View:
    """One verdict, arranged for people."""

    def __init__(self, judged: Judged) -> None:
        self.judged = judged
        self.decision = judged.decision
        self.outcome = judged.decision.outcome
        self._policies: dict[str, MetricPolicy] = {}
        for metric in judged.policy.metrics:
            self._policies |= {metric.in_runs: metric, metric.key: metric}

    @property
    def is_point_estimate(self) -> bool:
        """Whether one figure a side is all there is."""
        return self.decision.basis is Basis.POINT_ESTIMATE

    @property
    def subject(self) -> str:
        """What was judged against what: `version 7 against champion version 6`."""
        champion = self.judged.champion
        against = f"champion version {champion.number}" if champion else "the thresholds: a first release"
        return f"version {self.judged.version.number} against {against}"

    @property
    def may_be_promoted(self) -> bool:
        """Whether the outcome allows a promotion, by this run or by a later one on the default branch."""
        return (self.outcome is Outcome.PASSED or self.judged.promotable) and not self.quarantined

    @property
    def quarantined(self) -> bool:
        """Whether this version was rolled back before, and is not promoted again whatever the verdict."""
        return self.judged.version.number in lineage.quarantined(self.judged.entries)

    @property
    def unservable(self) -> list[Check]:
        """Why the model could not be loaded and asked, if that decided."""
        return [check for check in self.decision.checks if check.name == "servable"]

    def policy_of(self, metric: str) -> MetricPolicy | None:
        """The line of the policy that a check's metric comes from."""
        return self._policies.get(metric)

    # -- figures

    @cached_property
    def rows(self) -> list[Row]:
        """The checks of whole metrics, in the order of the policy."""
        return [self._row(check) for check in self.decision.checks if check.slice is None]

    @property
    def metrics(self) -> list[str]:
        """The metrics that were looked at, in the order of the policy."""
        return list(dict.fromkeys(row.metric for row in self.rows if row.metric))

    def of_metric(self, metric: str) -> list[Row]:
        """The checks of one whole metric."""
        return [row for row in self.rows if row.metric == metric]

    def outcome_of(self, metric: str) -> Outcome:
        """What the checks of one whole metric came to."""
        return min((row.check.outcome for row in self.of_metric(metric)), key=_ORDER.__getitem__)

    def _row(self, check: Check) -> Row:
        policy, e = self.policy_of(check.metric), check.estimate
        challenger, asked, against = check.value, None, ""
        if check.name == "threshold" and policy and policy.threshold is not None:
            against = "threshold"
            asked = Asked(policy.threshold, at_most=policy.direction == "lower")
        elif check.name in (CHAMPION, BASELINE):
            version = self.judged.champion if check.name == CHAMPION else self.judged.baseline
            against = f"{check.name} version {version.number}" if version else check.name
            asked = self._asked(check, policy)
        return Row(check, check.metric, against, challenger, check.reference, asked, point=bool(against) and e is None)

    def _asked(self, check: Check, policy: MetricPolicy | None) -> Asked | None:
        if check.estimate is not None:
            return Asked(check.estimate.margin, check.estimate.absolute)
        if policy is None:
            return None
        lower = policy.direction == "lower"
        if policy.max_loss is not None:
            return Asked(policy.max_loss if lower else -policy.max_loss, is_difference=True, at_most=lower)
        margin, pinned = policy.max_regression, self.judged.policy.baseline
        if check.name == BASELINE and pinned and pinned.max_regression is not None:
            margin = pinned.max_regression
        return Asked(1 + margin if lower else 1 - margin, at_most=lower)

    # -- slices

    @cached_property
    def slices(self) -> list[Check]:
        """The checks of slices, those first that a reader must see: lost, open, required, held, too few queries."""

        def place(check: Check) -> tuple[int, float]:
            e = check.estimate
            if not check.counts:
                return 4, -(e.n if e else 0)
            kind = _ORDER[check.outcome] if check.outcome is not Outcome.PASSED else (2 if check.required else 3)
            return kind, e.ratio if e and e.ratio is not None else -math.inf

        return sorted((check for check in self.decision.checks if check.slice is not None), key=place)

    @property
    def notable_slices(self) -> list[Check]:
        """The slices that were lost, are open or are required."""
        return [c for c in self.slices if c.counts and (c.required or c.outcome is not Outcome.PASSED)]

    @staticmethod
    def counts(slices: Sequence[Check]) -> Counts:
        """How many of these slices came to what."""
        judged = [check.outcome for check in slices if check.counts]
        return Counts(
            failed=judged.count(Outcome.FAILED),
            inconclusive=judged.count(Outcome.INCONCLUSIVE),
            passed=judged.count(Outcome.PASSED),
            too_few=len(slices) - len(judged),
        )

    # -- queries

    @cached_property
    def differences(self) -> dict[str, charts.Differences]:
        """By metric, challenger - champion of each query; empty where there are no figures per query of both."""
        values = self.judged.per_query.values if self.judged.per_query else {}
        found = {}
        for name, champion in values.get(CHAMPION, {}).items():
            challenger, policy = values.get("challenger", {}).get(name), self.policy_of(name)
            if challenger is not None:
                as_zero = policy is not None and policy.empty_queries != "skip"
                found[name] = charts.differences(champion, challenger, empty_as_zero=as_zero)
        return found

    def extremes(self, metric: str, count: int) -> tuple[list[Query], list[Query]]:
        """The queries that lost most on a metric and those that won most, the furthest first."""
        paired = self.differences[metric]
        lost, won = charts.extremes(paired.values, count)
        return [self._query(metric, int(paired.rows[i])) for i in lost], [
            self._query(metric, int(paired.rows[i])) for i in won
        ]

    def _query(self, metric: str, row: int) -> Query:
        table = self.judged.per_query
        assert table is not None  # noqa: S101  (there are differences of it)
        return Query(
            table.query_ids[row],
            int(table.documents[row]),
            [(column, values[row]) for column, values in list(table.slices.items())[:_COLUMNS]],
            _or_zero(table.values[CHAMPION][metric][row]),
            _or_zero(table.values["challenger"][metric][row]),
        )

    # -- words

    @property
    def deciding(self) -> list[Check]:
        """The checks that the outcome rests on; the one that says most first, those of slices last."""
        found = [check for check in self.decision.checks if check.counts and check.outcome is self.outcome]
        return sorted(found, key=lambda check: (check.slice is not None, _FIRST.get(check.name, len(_FIRST))))

    def open_reasons(self, *, counts: bool) -> list[str]:
        """Why whole metrics did not pass, failures before what is open; of those that count, or that are reported."""
        found = [
            row.check
            for row in self.rows
            if row.check.counts is counts and row.check.outcome is not Outcome.PASSED and row.check.name != "servable"
        ]
        return [check.reason for check in sorted(found, key=lambda c: _ORDER[c.outcome])]

    def reasons(self, most: int) -> list[Check]:
        """The checks with something to say, `most` at most: of whole metrics all, of slices those that did not hold."""
        found = [c for c in self.decision.checks if c.name != "servable" and c.slice is None]
        found += [c for c in self.notable_slices if c.outcome is not Outcome.PASSED]
        return sorted(found, key=lambda c: (not c.counts, _ORDER[c.outcome], c.slice is not None))[:most]

    @cached_property
    def headline(self) -> str:
        """The verdict in one sentence, or two where something is left to be done."""
        deciding = self.deciding
        if not deciding:
            return "Nothing that counts was checked."
        lead = "First release: " if self.decision.first_release else ""
        said = lead + self._said(deciding[0])
        more = len(deciding) - 1
        if not more:
            return said
        if self.outcome is Outcome.PASSED:
            return f"{said} The other check held, too." if more == 1 else f"{said} All {more:,} other checks held, too."
        word = "failed" if self.outcome is Outcome.FAILED else "stayed open"
        return f"{said} {more:,} more {'check' if more == 1 else 'checks'} {word}."

    def _said(self, check: Check) -> str:
        e, number = check.estimate, self.judged.version.number
        if check.name == "servable":
            return f"The model of version {number} could not be loaded and asked."
        if e is None or e.n < e.least_queries:
            return check.reason
        if check.slice is not None:
            subject, reference = f"In the slice {check.slice}, version {number}", "the champion"
        else:
            row = next(row for row in self.rows if row.check is check)
            subject, reference = f"Version {number}", row.against
        found = _difference_said(check, e, reference) if e.absolute else _ratio_said(check, e, reference)
        if not found:
            return check.reason
        sure = f"({e.confidence * 100:.4g}% confidence, {e.n:,} queries)"
        if check.outcome is Outcome.INCONCLUSIVE:
            return f"{subject} {found}: too noisy to tell {sure}. {advice(e)}"
        return f"{subject} {found} {sure}."


def _ratio_said(check: Check, e: Estimate, reference: str) -> str:
    """What a ratio shows, from the verb on; empty where a check's own reason says it better."""
    low, high = e.ratio_lower, e.ratio_upper
    if low is None or high is None:
        return ""
    asked = f"{e.margin * 100:.6g}% is asked for"
    if check.outcome is Outcome.PASSED:
        if low > 1:
            return f"is better than {reference} on {check.metric}"
        return f"keeps at least {percent(low, e.margin)} of {reference}'s {check.metric}; {asked}"
    if check.outcome is Outcome.FAILED:
        # Holm's test of a slice has its own level, and may find a loss that these bounds do not.
        kept = percent(high, e.margin)
        return f"keeps at most {kept} of {reference}'s {check.metric}; {asked}" if high < e.margin else ""
    between = f"{percent(low, e.margin)} and {percent(high, e.margin)}"
    return f"keeps between {between} of {reference}'s {check.metric}, and {asked}"


def _difference_said(check: Check, e: Estimate, reference: str) -> str:
    """What a difference shows, likewise."""
    low, high, allowed = e.difference_lower, e.difference_upper, f"{-e.margin:.6g} may be lost"
    if check.outcome is Outcome.PASSED:
        if low > 0:
            return f"is better than {reference} on {check.metric}"
        return f"loses at most {-low:.4g} of {reference}'s {check.metric}; {allowed}"
    if check.outcome is Outcome.FAILED:
        return f"loses at least {-high:.4g} of {reference}'s {check.metric}; {allowed}"
    return f"is {signed(low)} to {signed(high)} beside {reference}'s {check.metric}, and {allowed}"


def _or_zero(value: float) -> float:
    return 0.0 if math.isnan(value) else float(value)


def advice(e: Estimate) -> str:
    """What would settle an open comparison."""
    if e.n < e.least_queries:
        return f"At least {e.least_queries:,} queries are needed; there are {e.n:,}."
    if e.needed is None:
        return "With no margin, no number of queries shows that two equal models are equal."
    if e.needed <= e.n:
        return f"More than the {e.n:,} queries are unlikely to help: it seems to be somewhat worse."
    return f"About {e.needed:,} queries would settle it if the models were equal; there are {e.n:,}."


def interval(e: Estimate) -> str:
    """The ratio with Fieller's bounds, or the difference with its bounds where that is asked for."""
    if e.absolute:
        return f"{signed(e.difference)} ({signed(e.difference_lower)} to {signed(e.difference_upper)})"
    if e.ratio is None:
        return ""
    if e.ratio_lower is None or e.ratio_upper is None:
        return f"{e.ratio:.4f} (too noisy for bounds)"
    return f"{e.ratio:.4f} ({e.ratio_lower:.4f} to {e.ratio_upper:.4f})"


def percent(value: float, beside: float) -> str:
    """`value` in per cent, with so many digits that it does not look like the other."""
    for digits in range(1, 7):
        shown = f"{value * 100:.{digits}f}%"
        if shown != f"{beside * 100:.{digits}f}%":
            return shown
    return shown


def figure(value: float | None) -> str:
    """A metric's value, short; a dash where there is none."""
    return "-" if value is None else f"{value:.6g}"


def signed(value: float) -> str:
    """A difference, with its sign (a true minus)."""
    shown = f"{value:+.4g}"
    return charts.MINUS + shown[1:] if shown[0] == "-" else shown


def web_address(url: str) -> str:
    """`url` if it is one of the web that can stand in any markup; else empty."""
    return url if _WEB.fullmatch(url) else ""


def lines(text: str, most: int = 40) -> list[str]:
    """Why a model failed, as lines: those that it printed stand between bars, or have their breaks spelled out."""
    return [line.rstrip() for line in _BREAKS.split(text) if line.strip()][-most:]


def policy_lines(policy: Policy) -> list[str]:
    """The policy as YAML, line by line, each to be escaped for itself."""
    found = [line[:300] for line in policy.yaml().splitlines()]
    if len(found) > _POLICY_LINES:
        return [*found[:_POLICY_LINES], f"# {len(found) - _POLICY_LINES:,} more lines are left out here."]
    return found
