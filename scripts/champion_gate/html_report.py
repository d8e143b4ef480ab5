"""A verdict as one HTML file that needs nothing else: no network, no script, no font. The prose is in `templates/`."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
from markupsafe import Markup

from champion_gate import charts
from champion_gate.charts import Histogram, Scale, Span
from champion_gate.decision import Check, Estimate, Outcome, SliceKey
from champion_gate.text import one_line
from champion_gate.verdict_view import (
    NO_CHAMPION,
    OPTIONAL_SLICES,
    Asked,
    Counts,
    Row,
    View,
    advice,
    bounds,
    figure,
    gist,
    interval,
    kind,
    policy_lines,
    reason,
    short,
    signed,
    slice_word,
    web_address,
)

if TYPE_CHECKING:
    from champion_gate.gate import Judged
    from champion_gate.policy import MetricPolicy
    from champion_gate.registry import Version

_TEMPLATES = Path(__file__).parent / "templates"
# What a file shows at most, so that a browser opens it at once whatever was judged.
_SLICES = 200
_QUERIES = 10
_METRICS_WITH_QUERIES = 5
_MOVES = 20
_REASONS = 20
_SLICE_ROWS = 10
_COLUMNS = 4


@dataclass(frozen=True)
class _Figure:
    """A chart with what it says in words; `svg` is markup."""

    heading: str
    svg: Markup
    caption: str
    title: str = ""
    """What a pointer on the caption shows."""


@dataclass(frozen=True)
class _Fact:
    """A figure at the top: its name, what belongs to it, and what a pointer on that shows."""

    name: str
    value: str
    more: str
    title: str = ""


@dataclass(frozen=True)
class _Metric:
    """What one metric came to."""

    name: str
    outcome: str
    slices: str
    """How many of its slices failed or are open; empty if none."""
    counts: bool
    from_runs: bool
    figures: Sequence[_Figure]
    notes: Sequence[str]
    differences: Histogram | None
    histogram: Markup | None
    shares: Markup | None


@dataclass(frozen=True)
class _Slice:
    value: str
    required: bool
    outcome: str
    word: str
    queries: str
    svg: Markup | None
    interval: str
    asked: str
    reason: str


@dataclass(frozen=True)
class _Slices:
    """The slices of one metric."""

    metric: str
    axis: Markup
    columns: Mapping[str, Sequence[_Slice]]
    counts: Counts
    left_out: Counts | None


def render(judged: Judged) -> str:
    """The report on a verdict.

    Its size is bounded whatever was judged: it says what it leaves out. Texts of others are escaped, and a content
    security policy forbids everything but the style sheet that is in the file.
    """
    view = View(judged)
    css = (_TEMPLATES / "report.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    paired = list(view.differences)
    rendered = (
        _environment()
        .get_template("report.html.j2")
        .render(
            j=judged,
            v=view,
            o=view.outcome.value,
            css=Markup(css),  # noqa: S704  (ours)
            csp=f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'",
            facts=_facts(view),
            metrics=[_metric(view, name, f"m{i}") for i, name in enumerate(view.metrics)],
            rows=[*view.rows, *view.slice_rows[:_SLICE_ROWS]],
            slices_left_out=max(0, len(view.slice_rows) - _SLICE_ROWS),
            bounds=view.bounds,
            no_champion=NO_CHAMPION,
            optional_slices=OPTIONAL_SLICES if view.has_optional_slices else "",
            reasons=[
                (heading, said[:_REASONS], max(0, len(said) - _REASONS))
                for heading, said in (
                    (
                        "Why it failed" if judged.decision.outcome.value == "failed" else "Why it is open",
                        view.open_reasons(counts=True),
                    ),
                    ("What is only reported", view.open_reasons(counts=False)),
                )
            ],
            slices=_slices(view),
            queries=[(name, *view.extremes(name, _QUERIES)) for name in paired[:_METRICS_WITH_QUERIES]],
            queries_left_out=paired[_METRICS_WITH_QUERIES:],
            moves=judged.entries[:_MOVES],
            moves_left_out=max(0, len(judged.entries) - _MOVES),
            provenance=_provenance(view),
            run_address=web_address(judged.job.run_url),
            policy_yaml=policy_lines(judged.policy),
        )
    )
    # A lone surrogate in a name could not be written to a file.
    return rendered.encode("utf-8", "replace").decode("utf-8")


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        autoescape=True,
        finalize=_printable,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "figure": figure,
        "short": short,
        "why": lambda entry: short(gist(entry.kind, entry.reason)),
        "minus": lambda shown: shown.replace("-", charts.MINUS),
        "signed": signed,
        "thousands": "{:,}".format,
        "when": _when,
        "stamp": _stamp,
    }
    return environment


def _printable(value: object) -> object:
    if isinstance(value, Markup):
        return value
    return "" if value is None else one_line(str(value))


def _when(milliseconds: int) -> str:
    return _stamp(datetime.fromtimestamp(milliseconds / 1000, timezone.utc))


def _stamp(time: datetime) -> str:
    return time.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")


def _facts(view: View) -> list[_Fact]:
    """What stands at the top: the figures that the verdict rests on."""
    judged, row = view.judged, view.leading
    found = []
    if row is not None and row.challenger is not None:
        found.append(_Fact(f"Version {judged.version.number}", figure(row.challenger), row.of))
        found += _against(view, row)
    if judged.dataset is not None:
        size = f"{judged.dataset.documents:,} documents"
        more = f"{size}; {view.unmeasured}" if view.unmeasured else size
        found.append(_Fact("Judged queries", f"{judged.dataset.queries:,}", more))
    return found


def _against(view: View, row: Row) -> list[_Fact]:
    """What the leading row compares with, and what came of it."""
    if row.check.name == "threshold":
        compared = next((other for other in view.of_metric(row.metric) if other.check.name == "champion"), None)
        beside = [_Fact("Threshold", str(row.asked or "-"), row.metric)]
        return beside if compared is None else [*beside, *_against(view, compared)[:1]]
    if row.reference is None or not row.against:
        return []
    e = row.check.estimate
    found = [_Fact(row.against[:1].upper() + row.against[1:].replace(" version", ""), figure(row.reference), row.of)]
    between = interval(e).partition(" ")[2].strip("()") if e else "no bounds"
    title = bounds(e.confidence) if e else ""
    if row.ratio is not None:
        found.append(_Fact("Ratio", f"{row.ratio:.4f}", between, title))
    elif row.difference is not None:
        found.append(_Fact("Difference", signed(row.difference), between, title))
    return found


# -- metrics


def _metric(view: View, name: str, id_: str) -> _Metric:
    rows = view.of_metric(name)
    figures, notes = [], []
    for i, row in enumerate(rows):
        drawn = _figure(view, row, f"{id_}-{i}")
        if drawn is not None:
            figures.append(drawn)
        else:
            notes.append(reason(row.check))
    paired = view.differences.get(name)
    shown = None if paired is None else charts.histogram(paired.values)
    return _Metric(
        name=name,
        outcome=view.kind_of(name),
        slices=_open_slices(view, name),
        counts=any(row.check.counts for row in rows),
        from_runs=any(row.point and row.check.name != "threshold" for row in rows) and not view.is_point_estimate,
        figures=figures,
        notes=notes,
        differences=shown,
        histogram=None
        if shown is None
        else _markup(
            charts.histogram_chart(
                shown, title=f"Differences of {name} by query, challenger minus champion", id_=f"{id_}-h"
            )
        ),
        shares=None
        if shown is None
        else _markup(charts.shares_chart(shown, title=f"Queries lost, tied and won on {name}", id_=f"{id_}-w")),
    )


def _open_slices(view: View, metric: str) -> str:
    """Such as `1 slice failed, 2 slices open`: what the figures of the whole metric do not show."""
    found = [row.check.outcome for row in view.slice_rows if row.metric == metric]
    counted = [
        (found.count(outcome), word) for outcome, word in ((Outcome.FAILED, "failed"), (Outcome.INCONCLUSIVE, "open"))
    ]
    return ", ".join(f"{n:,} {'slice' if n == 1 else 'slices'} {word}" for n, word in counted if n)


def _figure(view: View, row: Row, id_: str) -> _Figure | None:
    """The chart of one check; None where it has no figures to draw."""
    check, outcome = row.check, row.check.outcome.value
    if check.name == "threshold" and row.challenger is not None and row.asked is not None:
        drawn = charts.threshold_chart(
            row.challenger,
            row.asked.value,
            ends=(0.0, 1.0) if _is_share(view.policy_of(row.metric), row) else None,
            outcome=outcome,
            title=f"{row.metric} against the threshold",
            id_=id_,
        )
        return _Figure("Threshold", _markup(drawn), check.reason)
    if check.name not in ("champion", "baseline") or row.asked is None:
        return None
    span = _span(row)
    if span is None:
        return None
    caption = check.reason if check.estimate is None else _caption(check.estimate)
    drawn = charts.interval_chart(
        span,
        even=0.0 if row.asked.is_difference else 1.0,
        asked=row.asked.value,
        at_most=row.asked.at_most,
        outcome=outcome,
        labels=(_short(row), str(row.asked), f"{'0' if row.asked.is_difference else '1'}: equal"),
        title=f"{row.metric} against {row.against}",
        description=caption,
        id_=id_,
    )
    title = bounds(check.estimate.confidence) if check.estimate else ""
    return _Figure(f"Against {row.against}", _markup(drawn), caption, title)


def _span(row: Row) -> Span | None:
    e, absolute = row.check.estimate, bool(row.asked and row.asked.is_difference)
    if e is None:
        value = row.difference if absolute else row.ratio
        return None if value is None else Span(value)
    if absolute:
        return Span(e.difference, e.difference_lower, e.difference_upper) if e.n > 1 else Span(e.difference)
    return None if e.ratio is None else Span(e.ratio, e.ratio_lower, e.ratio_upper)


def _short(row: Row) -> str:
    value = row.difference if row.asked and row.asked.is_difference else row.ratio
    if value is None:
        return ""
    return signed(value) if row.asked and row.asked.is_difference else f"{value:.4f}"


def _caption(e: Estimate) -> str:
    kind = "Difference" if e.absolute else "Ratio"
    asked = Asked(e.margin, e.absolute)
    said = (
        f"{kind} {interval(e)} at {e.confidence * 100:.4g}% one-sided confidence, on {e.n:,} queries; asked: {asked}."
    )
    settled = e.n >= e.least_queries and (e.lower >= 0 or e.upper < 0)
    return said if settled else f"{said} {advice(e)}"


def _is_share(policy: MetricPolicy | None, row: Row) -> bool:
    """Whether a metric lies between 0 and 1, as far as its name and its figures tell."""
    return policy is not None and policy.rank_metric is not None and 0 <= (row.challenger or 0.0) <= 1


# -- slices


def _slices(view: View) -> list[_Slices]:
    by_metric: dict[str, list[Check]] = {name: [] for name in view.metrics}
    for check in view.slices:
        by_metric.setdefault(check.metric, []).append(check)
    by_metric = {name: checks for name, checks in by_metric.items() if checks}
    most = max(10, _SLICES // max(1, len(by_metric)))
    return [_forest(metric, checks, most, f"s{i}") for i, (metric, checks) in enumerate(by_metric.items())]


def _forest(metric: str, checks: list[Check], most: int, id_: str) -> _Slices:
    shown, rest = checks[:most], checks[most:]
    estimates = [check.estimate for check in shown if check.estimate is not None and check.counts]
    spans = [
        (e.ratio_lower, e.ratio_upper) for e in estimates if e.ratio_lower is not None and e.ratio_upper is not None
    ]
    marks = [1.0, *(check.estimate.margin for check in shown if check.estimate is not None)]
    scale = charts.scale_of_slices([(low, high) for low, high in spans], marks)
    columns: dict[str, list[_Slice]] = {}
    for i, check in enumerate(shown):
        columns.setdefault(check.slice.column if check.slice else "", []).append(_slice(check, scale, f"{id_}-{i}"))
    return _Slices(
        metric,
        _markup(charts.forest_axis(scale, id_=f"{id_}-axis")),
        columns,
        View.counts(checks),
        View.counts(rest) if rest else None,
    )


def _slice(check: Check, scale: Scale, id_: str) -> _Slice:
    e, key = check.estimate, check.slice or SliceKey("", "")
    outcome, word = kind(check), slice_word(check)
    drawn = None
    if e is not None and e.ratio is not None:
        drawn = charts.forest_row(
            Span(e.ratio, e.ratio_lower, e.ratio_upper),
            scale,
            asked=e.margin,
            outcome=outcome,
            title=f"{key}: {word}",
            description=interval(e),
            id_=id_,
        )
    return _Slice(
        value=key.value,
        required=check.required,
        outcome=outcome,
        word=word,
        queries="0" if e is None else f"{e.n:,}",
        svg=None if drawn is None else _markup(drawn),
        interval="" if e is None else interval(e),
        asked="" if e is None else str(Asked(e.margin, e.absolute)),
        reason=check.reason,
    )


# -- provenance


def _provenance(view: View) -> list[tuple[str, list[tuple[str, str]]]]:
    """Groups of names and values: what was judged, by what, where and when."""
    judged, job = view.judged, view.judged.job
    model = [
        ("registered model", judged.model.name),
        ("created", _when(judged.model.created)),
        ("alias", judged.champion_alias),
        *_version("challenger", judged.version),
        *(_version("champion", judged.champion) if judged.champion else [("champion", "none: first release")]),
        *_baseline(judged.baseline, judged.champion),
    ]
    groups = [("Model", model)]
    if judged.dataset is not None:
        d = judged.dataset
        data = [
            ("kind", d.kind),
            ("name", d.name),
            ("source", d.source),
            ("digest", d.digest),
            ("size", f"{d.queries:,} queries, {d.documents:,} documents"),
            ("queries", view.unmeasured),
            *(("note", note) for note in d.notes[:_REASONS]),
            *((metric.name, _options(metric.options())) for _, metric in judged.policy.rank_metrics()),
            ("models were scored", judged.isolation or "not by this gate"),
        ]
        groups.append(("Data and metrics", data))
    gate = [
        ("gate run", judged.gate_run_id),
        ("time", _stamp(judged.time)),
        ("repository", job.repository),
        ("branch", job.branch),
        ("commit", job.commit),
        ("started by", f"{job.actor} ({job.event})" if job.event else job.actor),
        ("policy digest", judged.policy.digest()),
    ]
    groups.append(("Gate", gate))
    return [(name, [(key, value) for key, value in group if value]) for name, group in groups]


def _version(who: str, version: Version) -> list[tuple[str, str]]:
    run = f", run {version.run_id}" if version.run_id else ", from no run"
    return [
        (who, f"version {version.number} of {_when(version.created)}{run}"),
        (f"{who}'s source", version.source),
    ]


def _baseline(version: Version | None, champion: Version | None) -> list[tuple[str, str]]:
    if version is None:
        return []
    same = champion is not None and version.number == champion.number
    return [("baseline", f"version {version.number}, the champion")] if same else _version("baseline", version)


def _options(options: Mapping[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in options.items())


def _markup(svg: str) -> Markup:
    return Markup(svg)  # noqa: S704  (charts.py escapes every text in it)
