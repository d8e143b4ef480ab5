"""history: what was released, when, by whom, and why."""

from __future__ import annotations

import shutil
import sys
from typing import Any

import click

from champion_gate import conventions
from champion_gate.cli import Result, command, option, run
from champion_gate.text import one_line

OUTPUTS: tuple[str, ...] = ()


@command("history")
@option("--model-name", required=True, help="Registered model.")
@option("--champion-alias", help="Show the moves and gates of this alias only. Default: all.")
@option("--limit", type=click.IntRange(min=1), default=50, help="How many entries, newest first.")
@option("--team", help="Team that the release log stands under. Default: the model's tag.")
def main(**given: Any) -> Result:
    """Print the release log of a model, newest first.

    A log that was deleted or cannot be read is an error (exit code 3), never an empty history.
    """
    from champion_gate import report
    from champion_gate.registry import Registry
    from champion_gate.release_log import ReleaseLog

    registry = Registry.connect(given["registry_timeout"])
    model = registry.model(conventions.readable_model_name(given["model_name"]))
    alias = given["champion_alias"] and conventions.alias_name(given["champion_alias"], "champion-alias")
    entries = ReleaseLog.find(registry, model, given["team"] or "").entries()
    shown = [entry for entry in entries if alias in (None, entry.alias)][: given["limit"]]
    rows = [
        {
            "time": report.when(e.time),
            "kind": e.kind,
            "state": e.state,
            "alias": e.alias,
            "from": e.from_version,
            "to": e.to_version,
            "actor": e.actor,
            "commit": e.commit,
            "verdict": e.verdict,
            "reason": e.reason,
            "run_id": e.run_id,
            "earlier_model": e.earlier_model,
        }
        for e in shown
    ]
    return Result({}, report.history(model.name, shown), _table(model.name, rows, alias), json=rows)


def _table(model_name: str, rows: list[dict[str, Any]], alias: str | None) -> str:
    """One line an entry, as wide as the terminal; what does not fit is in --json."""
    if not rows:
        return f"{one_line(model_name)} has no releases{f' under the alias {alias}' if alias else ''} yet."
    from io import StringIO

    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    title = Text(f"Releases of {one_line(model_name)}")
    table = Table(title=title, title_justify="left", box=SIMPLE_HEAD, collapse_padding=True, pad_edge=False)
    headers = ("time", "what", "state", "alias", "version", "who", "commit", "verdict", "reason")
    lines = [[one_line(cell, 200) for cell in _cells(row)] for row in rows]
    widths = [min(20, max(len(header), *(len(line[i]) for line in lines))) for i, header in enumerate(headers[:-1])]
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


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    before, version = row["from"] or "none", row["to"] or "none"
    return (
        row["time"][:16].replace("T", " "),
        row["kind"] + (", earlier model" if row["earlier_model"] else ""),
        row["state"],
        row["alias"],
        f"{version} vs {before}" if row["kind"] == "gate" else f"{before} → {version}",
        row["actor"],
        row["commit"][:8],
        row["verdict"] or "-",
        row["reason"],
    )


if __name__ == "__main__":
    run(main)
