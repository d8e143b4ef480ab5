"""Results as Markdown for the job summary, and as plain text for a terminal. The prose is in `templates/`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime, timezone
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from champion_gate.decision import Outcome
from champion_gate.errors import GateError
from champion_gate.gate import Judged
from champion_gate.lineage import Entry
from champion_gate.move_writes import Moved
from champion_gate.text import markdown, one_line
from champion_gate.training import Trained

MARKS = {Outcome.PASSED.value: "✅", Outcome.FAILED.value: "❌", Outcome.INCONCLUSIVE.value: "❔"}


@cache
def _templates(escape: Callable[[str], str]) -> jinja2.Environment:
    # Every value is escaped for where it is shown, whatever the template says: texts may come from outside.
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=False,  # noqa: S701  (`finalize` escapes, for Markdown and plain text too)
        finalize=lambda value: escape("" if value is None else str(value)),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=False,
    )


def _both(name: str, **values: Any) -> tuple[str, str]:
    return (
        _templates(markdown).get_template(f"{name}.md.j2").render(values),
        _templates(one_line).get_template(f"{name}.txt.j2").render(values).rstrip(),
    )


def verdict(judged: Judged) -> tuple[str, str]:
    """A gate's verdict, as Markdown and as text."""
    return _both("verdict", j=judged, d=judged.decision, policy=judged.policy.metrics[0], marks=MARKS, figure=figure)


def move(moved: Moved) -> tuple[str, str]:
    """A promotion or rollback, as Markdown and as text."""
    return _both("move", m=moved)


def training(trained: Trained) -> tuple[str, str]:
    """A registered version, as Markdown and as text."""
    return _both("training", t=trained, figure=figure)


def history(model_name: str, entries: Sequence[Entry]) -> str:
    """The release log as a Markdown table."""
    template = _templates(markdown).get_template("history.md.j2")
    return template.render(model_name=model_name, entries=entries, when=when)


def error(failure: GateError) -> str:
    """An error as Markdown: what happened, why, what to do."""
    return _templates(markdown).get_template("error.md.j2").render(e=failure)


def figure(value: float | None) -> str:
    """A metric's value, short; a dash where there is none."""
    return "-" if value is None else f"{value:.6g}"


def when(milliseconds: int) -> str:
    """A time of MLflow (Unix ms) in ISO 8601, UTC."""
    return datetime.fromtimestamp(milliseconds / 1000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
