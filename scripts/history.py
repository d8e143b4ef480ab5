"""history: what was released, when, by whom, and why; of one model, or of all."""

from __future__ import annotations

import json
import shutil
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from champion_gate import conventions
from champion_gate.cli import Annotation, Result, command, option, prints_json, run
from champion_gate.errors import EXIT_OUTSIDE_WORLD, BadInput
from champion_gate.text import one_line

if TYPE_CHECKING:
    from collections.abc import Sequence

    from champion_gate.holds import Hold
    from champion_gate.lineage import Entry
    from champion_gate.overview import Told
    from champion_gate.timeline import Change, Row, Span

OUTPUTS = ("models", "open-moves", "holds", "moved-by-others")
# Longer outputs are cut.
_OUTPUT_CHARACTERS = 4000


@command("history", OUTPUTS)
@option("--model-name", help="Registered model. Default: all that have a release log, an open move or a hold.")
@option("--champion-alias", help="Show the moves and gates of this alias only. Default: all.")
@option(
    "--at",
    help="Show what was champion at this time by the log: ISO 8601, in UTC unless it names a time zone, or a date.",
)
@option("--limit", type=click.IntRange(min=1), default=50, help="How many lines of a model, newest first.")
@option("--team", help="Team that the release log stands under; without model-name: only the models of this team.")
@option("--json-file", help="File to write to what --json prints.")
def main(**given: Any) -> Result:
    """Print the release log of a model, newest first, and what others did to its aliases; or of all models.

    A log that was deleted or cannot be read is an error (exit code 3), never an empty history; of all models, the
    others are shown nevertheless.

    With --at, a move counts from the second in which its run began. The order of moves is the log's, not that of the
    jobs' clocks: a move whose clock contradicts it counts from the nearest time that fits, and that is said. What
    others set by hand has no time; it is named with the two times that it lies between.
    """
    from champion_gate import overview, timeline
    from champion_gate.registry import Registry

    name = conventions.readable_model_name(given["model_name"]) if given["model_name"] else ""
    alias = conventions.alias_name(given["champion_alias"], "champion-alias") if given["champion_alias"] else None
    at = timeline.read_time(given["at"]) if given["at"] else None
    team = given["team"] or ""
    registry = Registry.connect(given["registry_timeout"])
    told = [overview.read(registry, registry.model(name), team)] if name else overview.read_all(registry, team)
    if at is not None:
        result = _at(told[0], at, alias) if name else _all_at(told, at, alias)
    else:
        result = _one(told[0], alias, given["limit"]) if name else _all(told, alias, given["limit"])
    _write(given["json_file"], result.json)
    outputs = {kind: _listed(names) for kind, names in overview.names(told).items()}
    if not name:
        result = replace(result, exit_code=_code(told), annotation=_attention(told))
    return replace(result, outputs=outputs)


def _listed(names: list[str]) -> str:
    """Names as a workflow's `fromJSON` reads them; empty rather than cut, which would be no list."""
    text = json.dumps(names)
    return text if len(text) <= _OUTPUT_CHARACTERS else ""


def _one(told: Told, alias: str | None, limit: int) -> Result:
    rows = _rows(told, alias, limit)
    text = _held(told.hold) + _table(told.model.name, rows, alias)
    # In the list of rows there is no place for it.
    said = Annotation("warning", "On hold", _held(told.hold).strip()) if told.hold and prints_json() else None
    return Result({}, _markdown(told, alias, rows), text, json=[_fields(row) for row in rows], annotation=said)


def _all(told: Sequence[Told], alias: str | None, limit: int) -> Result:
    from champion_gate import report

    readable = [each for each in told if not each.problem]
    histories = [_markdown(each, alias, _rows(each, alias, limit)) for each in readable]
    text = "\n".join(map(_lines, told)) or report.NO_MODELS
    found = [
        {
            "model": each.model.name,
            "champions": each.champions,
            "open_move": each.open_move,
            "hold": each.hold and asdict(each.hold),
            "moved_by_others": [_others(change) for change in each.moved_by_others],
            "problem": each.problem,
            "rows": [_fields(row) for row in _rows(each, alias, limit)],
        }
        for each in told
    ]
    return Result({}, report.overview(told, histories), text, json=found)


def _lines(told: Told) -> str:
    """A model for a terminal: its name and champion, and below them what else there is to say."""
    from champion_gate import report

    name, champion, *more = report.overview_cells(told)
    known = [f"  {what}: {said}" for what, said in zip(report.OVERVIEW_COLUMNS[2:], more, strict=True) if said]
    return "\n".join([f"{name}: {champion}", *known])


def _rows(told: Told, alias: str | None, limit: int) -> list[Row]:
    return [row for row in told.story.rows if alias in (None, row.alias)][:limit]


def _markdown(told: Told, alias: str | None, rows: Sequence[Row]) -> str:
    from champion_gate import report

    spans = [span for span in told.story.spans if alias in (None, span.alias)]
    return report.history(told.model.name, rows, spans, told.hold, int(time.time() * 1000))


def _code(told: Sequence[Told]) -> int:
    return EXIT_OUTSIDE_WORLD if any(each.problem for each in told) else 0


def _attention(told: Sequence[Told]) -> Annotation | None:
    """What of all models waits for a person, for the workflow run's page."""
    from champion_gate import overview

    found = overview.names(told)
    unread = [f"{one_line(each.model.name, 120)} ({each.problem})" for each in told if each.problem]
    said = {
        "The release log cannot be read of": unread,
        "Open moves": found["open-moves"],
        "On hold": found["holds"],
        "Moved by others": found["moved-by-others"],
    }
    lines = [f"{what}: {', '.join(one_line(name, 500) for name in names)}." for what, names in said.items() if names]
    level: Literal["error", "warning"] = "error" if unread else "warning"
    return Annotation(level, "Models that wait for a person", " ".join(lines)) if lines else None


def _write(file: str | None, found: Any) -> None:
    """Write what --json prints.

    Raises:
        BadInput: the file cannot be written.
    """
    if not file:
        return
    try:
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise BadInput(
            f"The file {one_line(file, 200)} of 'json-file' could not be written: {error.strerror or error}.",
            "",
            "Name a file in a folder that this job may write to.",
        ) from error


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


def _at(told: Told, at: int, alias: str | None) -> Result:
    from champion_gate import report, timeline

    spans, current = timeline.champions_at(told.story, at, alias), told.story.open_move
    markdown, text = report.champions(told.model.name, spans, at, current)
    found = {
        "model": told.model.name,
        "at": report.when(at),
        "champions": {name: _span(span, current) for name, span in spans.items()},
    }
    return Result({}, markdown, text, json=found)


def _all_at(told: Sequence[Told], at: int, alias: str | None) -> Result:
    from champion_gate import report

    results = [_at(each, at, alias) for each in told if not each.problem]
    text = "\n\n".join(result.text for result in results) or report.NO_MODELS
    markdown = "\n".join(result.markdown for result in results) or report.NO_MODELS
    return Result({}, markdown, text, json=[result.json for result in results])


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
        "moved_by_others": change and _others(change),
        "clocks_agree": span.sure,
        "open_move": current.run_id if current and current.alias == span.alias and span.until is None else "",
    }


def _others(change: Change) -> dict[str, Any]:
    return {
        "kind": change.kind,
        "from": change.from_version,
        "to": change.to_version,
        "between": [_when(change.since), _when(change.until)],
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
