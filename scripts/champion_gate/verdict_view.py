"""What a verdict says, in figures and in words, whatever it is shown in: Markdown, plain text or HTML. Pure.

Texts of others are returned as they are, or as they stand in a check's reason: escaping is the templates' business.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import yaml

from champion_gate import charts, lineage
from champion_gate.decision import BASELINE, CHAMPION, Basis, Check, Estimate, Outcome

if TYPE_CHECKING:
    from champion_gate.gate import Judged
    from champion_gate.policy import MetricPolicy, Policy, SlicePolicy

_WEB = re.compile(r"https?://[A-Za-z0-9._~:/?#@!$&*+,;=%-]{1,2000}")
_FIRST = {"servable": 0, "figure": 1, CHAMPION: 2, "threshold": 3, BASELINE: 4}
_COLUMNS = 4
_POLICY_LINES = 400
_OTHER_METRICS = 3
_BREAKS = re.compile(r"\r?\n|\\n| \| ")
_PRINTED = re.compile(r"\s*(?:Its last lines: |It printed nothing\.)")
_TO_DO = "A model that cannot be loaded and asked "
_NOTHING_LEFT = "So there is nothing to compare with."
_SENTENCES = re.compile(r"(?<=[.!?]) (?=[^\W\d_])")
_HEADLINE = 400
_ORDER = {Outcome.FAILED: 0, Outcome.INCONCLUSIVE: 1, Outcome.PASSED: 2}
_WORDS = {"passed": "held", "failed": "lost", "inconclusive": "open", "neutral": "not shown worse", "few": "too few"}
NO_CHAMPION = "no champion to compare with"
OPTIONAL_SLICES = (
    "A slice that is not required fails only if it surely lost more than asked (Holm's correction over all of them)."
)


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
    """One check of a whole metric or of a slice, with its figures as far as they are known."""

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
    def kind(self) -> str:
        """What it came to, for the eye; see `kind`."""
        return kind(self.check)

    @property
    def of(self) -> str:
        """The metric, and the slice where it is of one."""
        return f"{self.metric} in {self.check.slice}" if self.check.slice else self.metric

    @property
    def ratio(self) -> float | None:
        """Challenger / reference; None where that says nothing."""
        if self.check.name not in (CHAMPION, BASELINE, "slice") or (self.asked and self.asked.is_difference):
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
    held: int
    neutral: int
    """Not required, and not shown to have lost more than they may."""
    too_few: int

    def __str__(self) -> str:
        parts = [
            (self.failed, "lost more than it may" if self.failed == 1 else "lost more than they may"),
            (self.inconclusive, "open"),
            (self.held, "held"),
            (self.neutral, "not shown worse"),
            (self.too_few, "with too few queries to judge"),
        ]
        return ", ".join(f"{count:,} {said}" for count, said in parts if count) or "none"


@dataclass(frozen=True)
class Failure:
    """Why a model could not be loaded and asked, in parts."""

    what: str
    """In a sentence, with the last line of the exception."""
    do: str
    """What may be done about it; may be empty."""
    printed: list[str]
    """The last lines that the model printed."""


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
    def may_be_promoted(self) -> bool:
        """Whether the outcome allows a promotion, by this run or by a later one on the default branch."""
        return (self.outcome is Outcome.PASSED or self.judged.promotable) and not self.quarantined

    @property
    def quarantined(self) -> bool:
        """Whether this version was rolled back before, and is not promoted again whatever the verdict."""
        return self.judged.version.number in lineage.quarantined(self.judged.entries)

    @property
    def against(self) -> str:
        """What it was compared with, after the word: `champion version 6 and baseline version 3`; empty if nothing."""
        champion, baseline = self.judged.champion, self.judged.baseline
        if champion is None:
            return f"baseline version {baseline.number}" if baseline else ""
        if baseline is None:
            return f"{CHAMPION} version {champion.number}"
        if baseline.number == champion.number:
            return f"{CHAMPION} and {BASELINE} version {champion.number}"
        return f"{CHAMPION} version {champion.number} and {BASELINE} version {baseline.number}"

    @property
    def stays(self) -> str:
        """What the alias does where nothing is promoted, from the verb on."""
        return f"stays version {self.judged.champion.number}" if self.judged.champion else "still names no version"

    @property
    def why_not(self) -> str:
        """Why an open verdict is not promoted; empty for any other."""
        if self.outcome is not Outcome.INCONCLUSIVE or self.may_be_promoted or self.quarantined:
            return ""
        if not self.judged.policy.promote_inconclusive:
            return "the policy has no promote-inconclusive: true"
        if self.judged.job.is_pull_request:
            return "a pull request promotes nothing"
        return "on-inconclusive is not pass-with-warning"

    @property
    def unservable(self) -> bool:
        """Whether it decided that the model could not be loaded and asked."""
        return any(check.name == "servable" for check in self.decision.checks)

    @cached_property
    def failures(self) -> list[Failure]:
        """Why models could not be loaded and asked: the challenger, or what it was to be compared with."""
        found = [failure(check.reason) for check in self.checks if _is_failure(check)]
        return list({each.what: each for each in found}.values())

    @cached_property
    def checks(self) -> list[Check]:
        """The checks of the decision, without those against a baseline that is the champion and say the same."""
        champion, baseline = self.judged.champion, self.judged.baseline
        if champion is None or baseline is None or champion.number != baseline.number:
            return list(self.decision.checks)
        against = {check.metric: self._row(check) for check in self.decision.checks if check.name == CHAMPION}

        def is_twin(check: Check) -> bool:
            if check.name != BASELINE or check.metric not in against:
                return False
            mine, other = self._row(check), against[check.metric]
            return (mine.asked, mine.compared, check.outcome) == (other.asked, other.compared, other.check.outcome)

        twins = {check.metric for check in self.decision.checks if is_twin(check)}
        return [check for check in self.decision.checks if check.name != BASELINE or check.metric not in twins]

    def policy_of(self, metric: str) -> MetricPolicy | None:
        """The line of the policy that a check's metric comes from."""
        return self._policies.get(metric)

    # -- figures

    @cached_property
    def rows(self) -> list[Row]:
        """The checks of whole metrics, in the order of the policy."""
        there = {id(check) for check in self.checks}
        twins = {c.metric for c in self.decision.checks if id(c) not in there}
        found = [self._row(check) for check in self.checks if check.slice is None]
        return [
            replace(row, against=f"{CHAMPION} and {row.against.replace(CHAMPION, BASELINE)}")
            if row.check.name == CHAMPION and row.metric in twins
            else row
            for row in found
        ]

    @cached_property
    def slice_rows(self) -> list[Row]:
        """The slices that failed or are open, and so decide what the whole metrics do not show."""
        return [self._row(c) for c in self.slices if c.counts and c.outcome is not Outcome.PASSED]

    @cached_property
    def leading(self) -> Row | None:
        """The comparison whose figures speak for the verdict: the deciding one, or another of its metric."""
        if not self.deciding:
            return next(iter(self.rows), None)
        check = self.deciding[0]
        whole = self.of_metric(check.metric)
        whole.sort(key=lambda row: (row.check is not check, row.check.name != CHAMPION))
        found = [self._row(check), *whole] if check.slice else whole
        return next((row for row in found if row.challenger is not None), None)

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

    def kind_of(self, metric: str) -> str:
        """The same for the eye: `shown` where the metric was compared with nothing."""
        shown = all(row.kind == "shown" for row in self.of_metric(metric))
        return "shown" if shown else self.outcome_of(metric).value

    def _row(self, check: Check) -> Row:
        policy, e = self.policy_of(check.metric), check.estimate
        challenger, asked, against = check.value, None, ""
        if check.name == "threshold" and policy and policy.threshold is not None:
            against = "threshold"
            asked = Asked(policy.threshold, at_most=policy.direction == "lower")
        elif check.slice is not None:
            version = self.judged.champion
            against = f"{CHAMPION} version {version.number}" if version else CHAMPION
            asked = Asked(e.margin, e.absolute) if e else None
            mine, its = (e.challenger, e.reference) if e else (None, None)
            return Row(check, check.metric, against, mine, its, asked, point=False)
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
        """The checks of slices, those first that a reader must see.

        The order: lost, open, required, not shown worse, held, too few queries.
        """
        order = {"failed": 0, "inconclusive": 1, "neutral": 3, "passed": 4, "few": 5}

        def place(check: Check) -> tuple[int, float]:
            e, its_kind = check.estimate, kind(check)
            if its_kind == "few":
                return order["few"], -(e.n if e else 0)
            first = 2 if check.required and its_kind == "passed" else order[its_kind]
            return first, e.ratio if e and e.ratio is not None else -math.inf

        return sorted((check for check in self.decision.checks if check.slice is not None), key=place)

    @property
    def notable_slices(self) -> list[Check]:
        """The slices that were lost, are open or are required."""
        return [c for c in self.slices if c.counts and (c.required or c.outcome is not Outcome.PASSED)]

    @staticmethod
    def counts(slices: Sequence[Check]) -> Counts:
        """How many of these slices came to what."""
        kinds = [kind(check) for check in slices]
        return Counts(
            failed=kinds.count("failed"),
            inconclusive=kinds.count("inconclusive"),
            held=kinds.count("passed"),
            neutral=kinds.count("neutral"),
            too_few=kinds.count("few"),
        )

    @property
    def has_optional_slices(self) -> bool:
        """Whether a slice was judged that the policy does not require."""
        return any(check.counts and not check.required for check in self.slices)

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

    @cached_property
    def unmeasured(self) -> str:
        """How many queries have no relevant document, as `6 without a relevant document (88 for mrr@10, ...)`.

        Empty where all have one, or nobody knows.
        """
        if self.judged.per_query is None:
            return ""
        import numpy as np

        sides = self.judged.per_query.values
        values = sides.get("challenger") or next(iter(sides.values()), {})
        without = {name: int(np.isnan(figures).sum()) for name, figures in values.items()}
        if not any(without.values()):
            return ""
        most = next(iter(without.values()))
        others = [f"{n:,} for {name}{self._relevant_from(name)}" for name, n in without.items() if n != most]
        if len(others) > _OTHER_METRICS:
            others[_OTHER_METRICS:] = [f"other numbers for {len(others) - _OTHER_METRICS:,} more metrics"]
        said = f"{most:,} without a relevant document" if most else "none without a relevant document"
        return f"{said} ({'; '.join(others)})" if others else said

    def _relevant_from(self, metric: str) -> str:
        policy = self.policy_of(metric)
        ranking = policy.rank_metric if policy else None
        return f", relevant from {ranking.relevant_from:g}" if ranking and ranking.kind != "ndcg" else ""

    # -- words

    @property
    def bounds(self) -> str:
        """What kind of bounds the figures have; empty where there are none."""
        sure = {check.metric: check.estimate.confidence for check in self.checks if check.estimate}
        each = list(dict.fromkeys(sure.values()))
        if not each:
            return ""
        if len(each) == 1:
            return bounds(each[0])
        parts = [f"{bounds(c)} ({', '.join(m for m, its in sure.items() if its == c)})" for c in each]
        return "; ".join(parts)

    @property
    def deciding(self) -> list[Check]:
        """The checks that the outcome rests on; the one that says most first, those of slices last."""
        found = [check for check in self.checks if check.counts and check.outcome is self.outcome]
        return sorted(found, key=lambda check: (check.slice is not None, _FIRST.get(check.name, len(_FIRST))))

    def open_reasons(self, *, counts: bool) -> list[str]:
        """Why metrics and slices did not pass, failures before what is open; of those that count, or are reported."""
        found = [
            row.check
            for row in (*self.rows, *self.slice_rows)
            if row.check.counts is counts and row.check.outcome is not Outcome.PASSED and row.check.name != "servable"
        ]
        return [reason(check) for check in sorted(found, key=lambda c: (_ORDER[c.outcome], c.slice is not None))]

    def reasons(self, most: int) -> list[Check]:
        """The checks with something to say, `most` at most: of whole metrics all, of slices those that did not hold."""
        found = [c for c in self.checks if c.name != "servable" and c.slice is None]
        found += [row.check for row in self.slice_rows]
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
            return f"{said} {_also_held([kind(check) for check in deciding[1:]])}"
        word = "failed" if self.outcome is Outcome.FAILED else "stayed open"
        return f"{said} {more:,} more {'check' if more == 1 else 'checks'} {word}."

    def _said(self, check: Check) -> str:
        e, number = check.estimate, self.judged.version.number
        if e is None or e.n < e.least_queries:
            return reason(check)
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


def kind(check: Check) -> str:
    """What a check came to, for the eye: `passed`, `failed`, `inconclusive`, or one of three that stay grey.

    `few`: a slice with too few queries to judge. `neutral`: a slice that is not required, was not shown to lose more
    than it may, and was not shown to hold either. `shown`: a figure that nothing was there to compare with.
    """
    if check.outcome is Outcome.PASSED and check.name == "figure" and not check.counts:
        return "shown"
    if check.slice is None:
        return check.outcome.value
    if not check.counts:
        return "few"
    e = check.estimate
    held = check.required or (e is not None and e.lower >= 0 and (e.absolute or e.ratio_lower is not None))
    return "neutral" if check.outcome is Outcome.PASSED and not held else check.outcome.value


def slice_word(check: Check) -> str:
    """What a slice came to, in a word or three."""
    return _WORDS[kind(check)]


def reason(check: Check) -> str:
    """A check's reason; what a failed model printed is left to `failure`, and what is only shown says why."""
    if kind(check) == "shown":
        return f"{check.reason} There is {NO_CHAMPION}."
    if not _is_failure(check):
        return check.reason
    return f"{failure(check.reason).what} {_NOTHING_LEFT}" if check.name != "servable" else failure(check.reason).what


def failure(said: str) -> Failure:
    """The parts of why a model could not be loaded and asked: what happened, what it printed, what to do."""
    said = said.removesuffix(_NOTHING_LEFT).rstrip()
    found = _PRINTED.search(said)
    if found is None:
        what, *rest_of_it = _SENTENCES.split(said, maxsplit=1)
        do, printed = " ".join(rest_of_it), ""
    else:
        what, rest = said[: found.start()], said[found.end() :]
        printed, _, to_do = rest.rpartition(_TO_DO) if _TO_DO in rest else (rest, "", "")
        do = f"{_TO_DO}{to_do}" if to_do else ""
    what, *more = _BREAKS.split(what, maxsplit=1)
    return Failure(short(what.rstrip(), _HEADLINE), do.strip(), lines("\n".join([*more, printed])))


def _is_failure(check: Check) -> bool:
    """Whether it says why a model could not be loaded and asked."""
    if check.name == "servable":
        return True
    return check.estimate is None and check.reason.endswith(_NOTHING_LEFT) and bool(_PRINTED.search(check.reason))


def _also_held(kinds: Sequence[str]) -> str:
    """What the other checks of a verdict that passed came to."""
    neutral = kinds.count("neutral")
    held = len(kinds) - neutral
    slices = f"{neutral:,} {'slice was' if neutral == 1 else 'slices were'} not shown worse."
    if not held:
        return slices
    checks = "The other check held" if held == 1 else f"The {held:,} other checks held"
    return f"{checks}; {slices}" if neutral else f"{checks}."


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
        said = f"More than the {e.n:,} queries are unlikely to help: equal models would have passed by now."
        if e.needed_as_measured is None:
            return said
        what = "difference" if e.absolute else "ratio"
        return f"{said} If the {what} stays as it is, about {e.needed_as_measured:,} would settle it."
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


def bounds(confidence: float) -> str:
    """What two bounds are, each of a one-sided confidence: `two one-sided 95% bounds, together a 90% interval`."""
    return f"two one-sided {confidence * 100:.4g}% bounds, together a {confidence * 200 - 100:.4g}% interval"


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


def short(text: str, most: int = 200) -> str:
    """`text`, with an ellipsis where it had to be cut, at a space if there is one near."""
    if len(text) <= most:
        return text
    kept = text[: most - 2]
    space = kept.rfind(" ")
    return (kept[:space] if space > most // 2 else kept).rstrip(" ,;:.") + " …"


def gist(entry_kind: str, said: str) -> str:
    """Why a release was made, in a sentence; a person's reason is left whole.

    A promotion's reason is that of all checks of its verdict, one after the other: the comparison with the champion
    says most.
    """
    if entry_kind != "promotion":
        return said
    sentences = _SENTENCES.split(said)
    return next((each for each in sentences if f" of {CHAMPION} version " in each), sentences[0])


def lines(text: str, most: int = 40) -> list[str]:
    """What a model printed, as lines: they stand between bars, or have their breaks spelled out."""
    return [line.rstrip() for line in _BREAKS.split(text) if line.strip()][-most:]


def policy_lines(policy: Policy) -> list[str]:
    """The whole policy as it was applied, as YAML, line by line, each to be escaped for itself."""
    said = yaml.safe_dump(_applied(policy), sort_keys=False, allow_unicode=True, width=120)
    found = ["# As applied: with defaults, and with the queries that each comparison needs at least."]
    found += [line[:300] for line in said.splitlines()]
    if len(found) > _POLICY_LINES:
        return [*found[:_POLICY_LINES], f"# {len(found) - _POLICY_LINES:,} more lines are left out here."]
    return found


def _applied(policy: Policy) -> dict[str, Any]:
    """A policy's fields, those at their defaults too; without those that do not apply, such as the gain of an MRR."""
    document = policy.model_dump(by_alias=True, exclude_none=True)
    for metric, said in zip(policy.metrics, document["metrics"], strict=True):
        ranking, margin = metric.rank_metric, metric.max_regression
        unused = {"gain", "ties", "empty-queries", "relevant-from", "confidence", "min-queries"}
        if ranking is not None:
            unused = {"direction", "relevant-from" if ranking.kind == "ndcg" else "gain"}
            said |= {"run-metric": metric.in_runs, "confidence": policy.confidence_of(metric)}
            said["min-queries"] = policy.least_queries(metric, 0.0 if metric.max_loss is not None else margin)
        if metric.max_loss is not None:
            unused.add("max-regression")
        for field in unused:
            said.pop(field, None)
    if policy.baseline is not None and policy.baseline.max_regression is not None:
        document["baseline"]["min-queries"] = _least(policy, policy.baseline.max_regression)
    for column, said in zip(policy.slices, document["slices"], strict=True):
        said["min-queries"] = _least(policy, column.max_regression, column)
    return document


def _least(policy: Policy, margin: float, column: SlicePolicy | None = None) -> int | dict[str, int]:
    """How many queries a comparison needs at least, by metric where that differs."""
    metrics = [m for m in policy.metrics if m.rank_metric and not (column and m.report_only)]
    found = {m.key: policy.least_queries(m, margin, column) for m in metrics}
    return next(iter(found.values())) if len(set(found.values())) == 1 else found
