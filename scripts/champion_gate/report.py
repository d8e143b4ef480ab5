"""Results as Markdown for the job summary and the pull request, and as plain text. The prose is in `templates/`."""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cache
from itertools import compress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from champion_gate import charts
from champion_gate.decision import Check, Outcome
from champion_gate.errors import GateError
from champion_gate.text import markdown, one_line
from champion_gate.verdict_view import (
    NO_CHAMPION,
    OPTIONAL_SLICES,
    View,
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
    from champion_gate.holds import Hold
    from champion_gate.lineage import Entry
    from champion_gate.move_writes import Moved
    from champion_gate.overview import Told
    from champion_gate.timeline import Change, Row, Span
    from champion_gate.training import Trained

MARKS = {
    "passed": "✅",
    "failed": "❌",
    "inconclusive": "❔",
    "neutral": "⚪",
    "few": "·",
    "shown": "·",
}
# GitHub takes 1 MiB of summary from a step, in which a training and a promotion may report, too.
SUMMARY_BYTES = 700_000
# GitHub takes 65 536 characters of comment; bytes are counted here, of which there are never fewer.
COMMENT_BYTES = 65_000

ALL, NOTABLE, COUNTS, BARE = range(4)
"""How much is shown of the slices: all, those that were lost, are open or required, only how many; and of the rest."""
_ROWS = 150
_SLICE_ROWS = 5
_REASONS = 20
_QUERIES = 5
_MOVES = 5
_BARS = 40
_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_BINS_A_SIDE = 6
_TEXT_SLICES = 20
_SPECIAL = re.compile(r"[@`\[\]]")  # GitHub looks for mentions, and a reader of the source for links
_NOT_MERMAID = re.compile(r"[^A-Za-z0-9@._/: -]")


class _Ready(str):
    """Markup that this file made, and that is not to be escaped once more."""

    __slots__ = ()


@dataclass(frozen=True)
class _Chart:
    """A bar chart of Mermaid: its title, axes and bars, and the counts that it draws, if it draws some."""

    title: str
    x: _Ready
    y: _Ready
    bars: str
    counted: charts.Histogram | None = None


@cache
def _templates(escape: Callable[[str], str]) -> jinja2.Environment:
    # Every value is escaped for where it is shown, whatever the template says: texts may come from outside.
    def shown(value: object) -> str:
        return value if isinstance(value, _Ready) else escape("" if value is None else str(value))

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=False,  # noqa: S701  (`finalize` escapes, for Markdown and plain text too)
        finalize=shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
    )
    environment.filters |= {
        "figure": figure,
        "interval": interval,
        "signed": signed,
        "thousands": "{:,}".format,
        "when": when,
        "kind": kind,
        "reason": reason,
        "short": short,
        "why": lambda entry: short(gist(entry.kind, entry.reason)),
        "mermaid": lambda text: _Ready(_NOT_MERMAID.sub(" ", text)[:100]),
        "pre": lambda line: _Ready(_SPECIAL.sub(lambda m: f"&#{ord(m[0])};", html.escape(one_line(line)))),
        "word": slice_word,
    }
    return environment


def _both(name: str, **values: Any) -> tuple[str, str]:
    return (
        _templates(markdown).get_template(f"{name}.md.j2").render(values),
        _templates(one_line).get_template(f"{name}.txt.j2").render(values).rstrip(),
    )


def verdict(judged: Judged, limit: int = SUMMARY_BYTES) -> tuple[str, str]:
    """A gate's verdict, as Markdown of at most `limit` bytes for a job summary, and as text.

    The Markdown says less where it would be too long, and says so: first only of the slices that were lost, are open or
    required, then only of how many there are, then of nothing but what did not pass.
    """
    view = View(judged)
    values = _values(view)
    text = _templates(one_line).get_template("verdict.txt.j2").render(values, detail=ALL)
    return _fitting("verdict.md.j2", values, ALL, limit), _writable(re.sub(r"\n{2,}", "\n", text).strip("\n"))


def comment(judged: Judged, limit: int = COMMENT_BYTES) -> str:
    """A gate's verdict for those who read a pull request: shorter, and with what it means for them.

    At most `limit` bytes of Markdown.
    """
    return _fitting("comment.md.j2", _values(View(judged)), NOTABLE, limit)


def _fitting(template: str, values: dict[str, Any], most: int, limit: int) -> str:
    """The most that a template has to say in `limit` bytes."""
    found = ""
    for detail in range(most, BARE + 1):
        found = _templates(markdown).get_template(template).render(values, detail=detail)
        found = _writable(re.sub(r"\n{3,}", "\n\n", found).strip("\n") + "\n")
        if len(found.encode()) <= limit:
            return found
    notice = "\n\n_Cut here: GitHub shows no more._\n"
    room = limit - len(notice) - len("\n</pre>\n</details>")
    kept = found.encode()[:room].decode("utf-8", "ignore").rpartition("\n")[0]
    # What was opened by us, and never by others, whose texts are escaped.
    for tag in ("pre", "details"):
        kept += f"\n</{tag}>" * (kept.count(f"<{tag}") - kept.count(f"</{tag}>"))
    return kept + notice


def _writable(text: str) -> str:
    """`text` without lone surrogates, which no file and no request can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _values(view: View) -> dict[str, Any]:
    judged = view.judged
    by_metric: dict[str, list[Check]] = {name: [] for name in view.metrics}
    for check in view.slices:
        by_metric.setdefault(check.metric, []).append(check)
    main = next(iter(view.differences), None)
    return {
        "j": judged,
        "v": view,
        "d": judged.decision,
        "o": view.outcome.value,
        "marks": MARKS,
        "rows": view.rows[:_ROWS],
        "slice_rows": view.slice_rows[:_SLICE_ROWS],
        "no_champion": NO_CHAMPION,
        "optional_slices": OPTIONAL_SLICES,
        "open_rows": [row for row in view.rows if row.check.outcome is not Outcome.PASSED][:_REASONS],
        "slices": [(name, checks, *_parted(checks)) for name, checks in by_metric.items() if checks],
        "chart": _chart(view),
        "queries": (main, *view.extremes(main, _QUERIES)) if main else None,
        "moves": judged.entries[:_MOVES],
        "run_address": _Ready(web_address(judged.job.run_url)),
        "policy": judged.policy.metrics[0],
        "policy_yaml": policy_lines(judged.policy),
        "text_slices": view.notable_slices[:_TEXT_SLICES],
        "text_slices_left_out": max(0, len(view.notable_slices) - _TEXT_SLICES),
    }


def _parted(slices: Sequence[Check]) -> tuple[list[Check], list[Check]]:
    """The slices that a reader must see, and the others."""
    must = [check.counts and (check.required or check.outcome is not Outcome.PASSED) for check in slices]
    return list(compress(slices, must)), [check for check, seen in zip(slices, must, strict=True) if not seen]


def _chart(view: View) -> _Chart | None:
    """The one chart: differences by query where there are some, else the two sides as bars; None where neither is.

    Only numbers of ours, in a spelling that Mermaid reads (no exponents), get into it.
    https://mermaid.js.org/syntax/xyChart.html
    """
    for metric, paired in view.differences.items():
        counted = charts.histogram(paired.values, _BINS_A_SIDE)
        width = counted.edges[1] - counted.edges[0]
        if counted.wins + counted.losses and width > 1e-6:
            # Mermaid puts the middle of the first and of the last bar at the very ends of its axis.
            low, high = counted.edges[0] + width / 2, counted.edges[-1] - width / 2
            axis = f'"challenger - champion" {low:.7f} --> {high:.7f}'
            bars = ", ".join(str(count) for count in counted.counts)
            return _Chart(
                f"{metric}: how many queries changed by how much",
                _Ready(axis),
                _Ready(f'"queries" 0 --> {max(counted.counts)}'),
                bars,
                counted,
            )
    for row in sorted(view.rows, key=lambda row: row.check.name != "champion"):
        pair = (row.challenger, row.reference)
        if row.against and all(value is not None and 1e-3 <= value <= 1e9 for value in pair):
            bars = ", ".join(f"{value:.6f}" for value in pair if value is not None)
            axis = f'["challenger", "{row.check.name}"]'
            top = f"0 --> {1.1 * max(value for value in pair if value is not None):.6f}"
            return _Chart(row.metric, _Ready(axis), _Ready(top), bars)
    return None


def move(moved: Moved) -> tuple[str, str]:
    """A promotion or rollback, as Markdown and as text."""
    why = gist(moved.kind, moved.reason)
    return _both("move", m=moved, why=why, whole=moved.reason if moved.reason != why else "", basis=moved.basis)


def training(trained: Trained) -> tuple[str, str]:
    """A registered version, as Markdown and as text."""
    return _both("training", t=trained, figure=figure)


def history(
    model_name: str, rows: Sequence[Row], spans: Sequence[Span], hold: Hold | None, now: int, limit: int = SUMMARY_BYTES
) -> str:
    """A model's history as Markdown of at most `limit` bytes: the hold, a chart of champions, a table of all rows.

    `now` is Unix ms. Where it would be too long, the oldest rows are left out, and it says so.
    """
    template = _templates(markdown).get_template("history.md.j2")
    bars = [span for span in spans if span.version is not None]
    shown, count = "", len(rows)
    while True:
        values = {"rows": [cells(row) for row in rows[:count]], "left_out": len(rows) - count}
        shown = template.render(
            values, model_name=model_name, hold=hold, chart=_gantt(bars, now), bars=bars, most=_BARS
        )
        shown = _writable(re.sub(r"\n{3,}", "\n\n", shown).strip("\n") + "\n")
        if len(shown.encode()) <= limit or not count:
            return shown
        count //= 2


HISTORY_COLUMNS = ("time", "what", "state", "alias", "version", "who", "commit", "verdict", "why")


def cells(row: Row) -> tuple[str, ...]:
    """A line of the history, as texts in the order of `HISTORY_COLUMNS`; not escaped yet, but each is bounded."""
    if row.change:
        c = row.change
        versions = f"{c.from_version or 'none'} → {c.to_version or 'none'}"
        time = c.until if c.since is None else c.since
        texts = ["" if time is None else when(time), c.kind, row.mark, c.alias, versions, "", "", "", _said(c)]
    elif e := row.entry:
        before, version = e.from_version or "none", e.to_version or "none"
        versions = f"{version} vs {before}" if e.kind == "gate" else f"{before} → {version}"
        if not e.is_move and e.kind != "gate":
            versions = ""
        texts = [when(e.time), e.kind, row.mark, e.alias, versions, e.actor, e.commit[:8], e.verdict, _notes(e)]
    else:
        texts = [""] * len(HISTORY_COLUMNS)
    return tuple(one_line(text, 300) for text in texts)


NO_MODELS = "No registered model that can be seen here has a release log, an open move or a hold."
OVERVIEW_COLUMNS = ("model", "champion", "last move", "open move", "on hold", "moved by others")


def overview(told: Sequence[Told], histories: Sequence[str], limit: int = SUMMARY_BYTES) -> str:
    """All models as one table, and below it as many of their histories (Markdown, too) as fit in `limit` bytes."""
    template = _templates(markdown).get_template("overview.md.j2")
    count = len(histories)
    while True:
        values = {"rows": [overview_cells(each) for each in told], "left_out": len(histories) - count}
        found = template.render(
            values,
            columns=OVERVIEW_COLUMNS,
            no_models=NO_MODELS,
            histories=[_Ready(each) for each in histories[:count]],
        )
        shown = _writable(re.sub(r"\n{3,}", "\n\n", found).strip("\n") + "\n")
        if len(shown.encode()) <= limit or not count:
            return shown
        count //= 2


def overview_cells(told: Told) -> tuple[str, ...]:
    """A model's line, as texts in the order of `OVERVIEW_COLUMNS`; not escaped yet, but each is bounded."""
    champions = ", ".join(f"{alias} {number or 'none'}" for alias, number in told.champions.items())
    entries = (row.entry for row in told.story.rows if row.entry and not row.entry.earlier_model)
    last = next((e for e in entries if e.is_move and e.state == "done"), None)
    current = told.story.open_move
    texts = (
        told.model.name,
        f"cannot be read: {told.problem}" if told.problem else champions or "none yet",
        f"{_moved(last)}, {when(last.time)}" if last else "",
        f"{_moved(current)}, since {when(current.time)}" if current else told.open_move and f"run {told.open_move}",
        told.hold.sentence() if told.hold else "",
        "; ".join(_said(change) for change in told.moved_by_others),
    )
    return tuple(one_line(text, 500) for text in texts)


def _moved(e: Entry) -> str:
    versions = f"{e.from_version or 'none'} → {e.to_version or 'none'}"
    return f"{e.kind} of {e.alias} {versions} by {one_line(e.actor or 'unknown', 80)}"


def _notes(e: Entry) -> str:
    """What there is to say of an entry, what is out of the ordinary first."""
    notes = {
        "recovered by": e.recovered_by,
        # The reason of an override begins with it.
        "override:": e.override if e.override not in e.reason else "",
        "reinstated:": e.reinstated,
        "approved by": e.approved_by if e.approved_by != e.actor else "",
        "the hold:": e.held,
    }
    said = [f"{what} {one_line(note, 120)}" for what, note in notes.items() if note]
    return "; ".join([*said, *([e.reason] if e.reason else [])])


def _said(change: Change) -> str:
    since, until = (None if time is None else when(time) for time in (change.since, change.until))
    if since and until:
        return f"{change.sentence()} (between {since} and {until})"
    if since or until:
        return f"{change.sentence()} ({'after' if since else 'before'} {since or until})"
    return change.sentence()


def champions(model_name: str, spans: Mapping[str, Span], at: int, current: Entry | None) -> tuple[str, str]:
    """What the aliases named at a time (Unix ms), by the log, as Markdown and as text; `current` is the open move."""
    said = {alias: _sentences(span, at, current) for alias, span in spans.items()}
    heading = f"Champions of {one_line(model_name, 300)} at {when(at)}, by the release log"
    lines = [one_line(f"{one_line(alias, 200)}: {' '.join(sentences)}", 3000) for alias, sentences in said.items()]
    none = "The release log knows of no release at any time."
    rows = "\n".join(f"- {markdown(line, 3000)}" for line in lines or [none])
    return f"## {markdown(heading)}\n\n{_writable(rows)}\n", _writable("\n".join([heading, *(lines or [none])]))


def _sentences(span: Span, at: int, current: Entry | None) -> list[str]:
    until = "" if span.until is None else f", until {when(span.until)}"
    if span.move is None or span.since is None:
        return [f"none{until}. The log has no earlier release to it.", *_but(span)]
    by = f"{span.move.kind} by {one_line(span.move.actor or 'unknown', 80)}"
    version = f"version {span.version}" if span.version else "none"
    found = [f"{version}, since {when(span.since)} ({by}){until}.", *_but(span)]
    if current and current.alias == span.alias and span.until is None and current.time <= at:
        found.append(f"The move {current.run_id} to version {current.to_version or 'none'} is still open.")
    return found


def _but(span: Span) -> list[str]:
    """What makes a span less certain than it looks."""
    found = [f"It was {_said(span.change)}."] if span.change and not span.change.late else []
    found += [f"There was a {_said(span.change)}."] if span.change and span.change.late else []
    if not span.sure:
        found.append("The clocks of the jobs contradict the order of the moves; these times are the nearest that fit.")
    return found


def _gantt(bars: Sequence[Span], now: int) -> list[_Ready]:
    """The lines of a Mermaid chart of the newest champions; empty where there is none.

    Nothing of others gets into it but version numbers and well-formed aliases, behind a number.
    https://mermaid.js.org/syntax/gantt.html
    """
    drawn = sorted(bars, key=lambda span: span.since or 0)[-_BARS:]
    if not drawn:
        return []
    first, last = drawn[0].since or 0, max(now, *(span.since or 0 for span in drawn))
    days = "%Y-%m-%d" if last - first > 3 * 24 * 3600 * 1000 else "%m-%d %H:%M"
    found = ["gantt", "    dateFormat YYYY-MM-DD HH:mm:ss", f"    axisFormat {days}"]
    aliases = list(dict.fromkeys(span.alias for span in bars))
    for number, alias in enumerate(aliases, 1):
        of_alias = [span for span in drawn if span.alias == alias]
        if of_alias:
            name = f" {alias}" if re.fullmatch(r"[A-Za-z0-9_-]{1,60}", alias) else ""
            found.append(f"    section {number}{name}")
        for span in of_alias:
            back = span.next_move is not None and span.next_move.kind == "rollback"
            state = "crit, " if back else "active, " if span.until is None else "done, "
            since = span.since or 0
            until = max(since + 1000, now if span.until is None else span.until)
            times = [when(time).replace("T", " ").rstrip("Z") for time in (since, until)]
            label = f"version {_digits(span.version)}"
            if span.change:
                label += f" then {_digits(span.change.to_version)} by others"
            found.append(f"    {label} :{state}{', '.join(times)}")
    return [_Ready(line) for line in found]


def _digits(version: str | None) -> str:
    return version if version and re.fullmatch(r"[0-9]{1,9}", version) else "none" if version is None else "x"


def error(failure: GateError) -> str:
    """An error as Markdown: what happened, why, what to do."""
    return _templates(markdown).get_template("error.md.j2").render(e=failure)


def when(milliseconds: int) -> str:
    """A time of MLflow (Unix ms) in ISO 8601, UTC."""
    # A run may be given any start; years beyond 1 to 9999 have no date.
    seconds = min(max(milliseconds // 1000, -62135596800), 253402300799)
    return f"{(_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()}Z"
