"""history: what was released, when, by whom, and why."""

from __future__ import annotations

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
    return Result({}, report.history(model.name, shown), _table(model.name, rows), json=rows)


def _table(model_name: str, rows: list[dict[str, Any]]) -> str:
    if not rows:
        return f"{one_line(model_name)} has no releases yet."
    from io import StringIO

    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(f"Releases of {one_line(model_name)}"), title_justify="left", box=SIMPLE_HEAD)
    for column in ("time", "what", "state", "alias", "from", "to", "who", "commit", "verdict"):
        table.add_column(column, no_wrap=True, overflow="ellipsis", max_width=20)
    table.add_column("reason", overflow="fold", ratio=1)
    for row in rows:
        cells = (
            row["time"][:16].replace("T", " "),
            row["kind"] + (" (earlier model)" if row["earlier_model"] else ""),
            row["state"],
            row["alias"],
            row["from"] or "-",
            row["to"] or "-",
            row["actor"],
            row["commit"][:8],
            row["verdict"] or "-",
            one_line(row["reason"], 160),
        )
        table.add_row(*(Text(one_line(cell, 200)) for cell in cells))
    out = StringIO()
    Console(file=out, width=max(140, Console().width)).print(table)
    return out.getvalue().rstrip("\n")


if __name__ == "__main__":
    run(main)
