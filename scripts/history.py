"""history: what was released, when, by whom, and why."""

from __future__ import annotations

import shutil
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from champion_gate import conventions
from champion_gate.cli import Annotation, Result, command, option, prints_json, run
from champion_gate.text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from champion_gate.holds import Hold
    from champion_gate.lineage import Entry
    from champion_gate.registry import Model, Registry
    from champion_gate.timeline import Row, Span, Story

OUTPUTS: tuple[str, ...] = ()
_READINGS = 3


@command("history")
@option("--model-name", required=True, help="Registered model.")
@option("--champion-alias", help="Show the moves and gates of this alias only. Default: all.")
@option(
    "--at",
    help="Show what was champion at this time by the log: ISO 8601, in UTC unless it names a time zone, or a date.",
)
@option("--limit", type=click.IntRange(min=1), default=50, help="How many lines, newest first.")
@option("--team", help="Team that the release log stands under. Default: the model's tag.")
def main(**given: Any) -> Result:
    """Print the release log of a model, newest first, and what others did to its aliases.

    A log that was deleted or cannot be read is an error (exit code 3), never an empty history.

    With --at, a move counts from the second in which its run began. The order of moves is the log's, not that of the
    jobs' clocks: a move whose clock contradicts it counts from the nearest time that fits, and that is said. What
    others set by hand has no time; it is named with the two times that it lies between.
    """
    from champion_gate import holds, report, timeline
    from champion_gate.registry import Registry
    from champion_gate.release_log import HOLD_TAG

    name = conventions.readable_model_name(given["model_name"])
    alias = conventions.alias_name(given["champion_alias"], "champion-alias") if given["champion_alias"] else None
    at = timeline.read_time(given["at"]) if given["at"] else None
    registry = Registry.connect(given["registry_timeout"])
    model, story = _read(registry, name, given["team"] or "")
    if at is not None:
        return _at(model.name, story, at, alias)
    rows = [row for row in story.rows if alias in (None, row.alias)][: given["limit"]]
    spans = [span for span in story.spans if alias in (None, span.alias)]
    hold = holds.parse(model.tags[HOLD_TAG]) if HOLD_TAG in model.tags else None
    markdown = report.history(model.name, rows, spans, hold, int(time.time() * 1000))
    text = _held(hold) + _table(model.name, rows, alias)
    # In the list of rows there is no place for it.
    said = Annotation("warning", "On hold", _held(hold).strip()) if hold and prints_json() else None
    return Result({}, markdown, text, json=[_fields(row) for row in rows], annotation=said)


def _read(registry: Registry, name: str, team: str) -> tuple[Model, Story]:
    """The model and its story, of one moment if that can be had: a move may begin or end between two answers."""
    from champion_gate import timeline
    from champion_gate.release_log import OPEN_MOVE_TAG, ReleaseLog

    model = registry.model(name)
    for _ in range(_READINGS):
        before = model
        entries = ReleaseLog.find(registry, before, team).entries()
        model = registry.model(name)
        if model == before:
            return model, timeline.tell(entries, model.aliases, model.tags.get(OPEN_MOVE_TAG, ""))
    entries = ReleaseLog.find(registry, model, team).entries()
    return model, timeline.tell(entries, None, model.tags.get(OPEN_MOVE_TAG, ""))


def _fields(row: Row) -> dict[str, Any]:
    """A line as --json has it. `between` is set where nobody knows the time: after the one, before the other."""
    from champion_gate import report

    change, e = row.change, row.entry
    between = [_when(change.since), _when(change.until)] if change else None
    versions = change or e
    return {
        "time": report.when(e.time) if e else next((moment for moment in between or () if moment), None),
        "kind": change.kind if change else e and e.kind,
        "state": e.state if e else "",
        "mark": row.mark,
        "alias": row.alias,
        "from": versions and versions.from_version,
        "to": versions and versions.to_version,
        "actor": e.actor if e else "",
        "commit": e.commit if e else "",
        "verdict": e.verdict if e else "",
        "reason": change.sentence() if change else e and e.reason,
        "recovered_by": e.recovered_by if e else "",
        "override": e.override if e else "",
        "reinstated": e.reinstated if e else "",
        "approved_by": e.approved_by if e else "",
        "run_id": e.run_id if e else "",
        "earlier_model": bool(e and e.earlier_model),
        "between": between,
    }


def _at(model_name: str, story: Story, at: int, alias: str | None) -> Result:
    from champion_gate import report, timeline

    spans = timeline.champions_at(story, at, alias)
    markdown, text = report.champions(model_name, spans, at, story.open_move)
    found = {
        "model": model_name,
        "at": report.when(at),
        "champions": {name: _span(span, story.open_move) for name, span in spans.items()},
    }
    return Result({}, markdown, text, json=found)


def _span(span: Span, current: Entry | None) -> dict[str, Any]:
    """What an alias named, as --json has it; `clocks_agree` is false where the times are only the nearest that fit."""
    move, change = span.move, span.change
    return {
        "version": span.version,
        "since": _when(span.since),
        "until": _when(span.until),
        "actor": move.actor if move else "",
        "kind": move.kind if move else "",
        "approved_by": move.approved_by if move else "",
        "run_id": move.run_id if move else "",
        "moved_by_others": change
        and {
            "kind": change.kind,
            "from": change.from_version,
            "to": change.to_version,
            "between": [_when(change.since), _when(change.until)],
        },
        "clocks_agree": span.sure,
        "open_move": current.run_id if current and current.alias == span.alias and span.until is None else "",
    }


def _when(moment: int | None) -> str | None:
    from champion_gate import report

    return None if moment is None else report.when(moment)


def _held(hold: Hold | None) -> str:
    return f"ON HOLD, nothing is promoted: {hold.sentence()}\n\n" if hold else ""


def _table(model_name: str, rows: Sequence[Row], alias: str | None) -> str:
    """One line an entry, as wide as the terminal; what does not fit is in --json."""
    if not rows:
        return f"{one_line(model_name)} has no releases{f' under the alias {alias}' if alias else ''} yet."
    from io import StringIO

    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from champion_gate import report

    title = Text(f"Releases of {one_line(model_name)}")
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    headers = report.HISTORY_COLUMNS
    lines = [_short(report.cells(row)) for row in rows]
    most = [27 if header == "state" else 20 for header in headers]
    widths = [min(most[i], max(len(headers[i]), *(len(line[i]) for line in lines))) for i in range(len(headers) - 1)]
    columns = shutil.get_terminal_size((160, 24)).columns if sys.stdout.isatty() else 160
    # The reason gets what the facts leave, and is cut there.
    widths.append(max(24, columns - sum(widths) - 2 * len(widths) - 2))
    for header, width in zip(headers, widths, strict=True):
        table.add_column(header, no_wrap=True, overflow="ellipsis", width=width)
    for line in lines:
        table.add_row(*(Text(cell) for cell in line))
    out = StringIO()
    Console(file=out, width=sum(widths) + 3 * len(widths)).print(table)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines())


def _short(cells: tuple[str, ...]) -> tuple[str, ...]:
    return (cells[0][:16].replace("T", " "), *cells[1:])


if __name__ == "__main__":
    run(main)
