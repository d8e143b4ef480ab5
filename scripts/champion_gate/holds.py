"""The hold on a model: a mark that stops promotions until a person lifts it. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from champion_gate.text import fit_tag, one_line

_WHY_BYTES = 3000


@dataclass(frozen=True)
class Hold:
    """Who set it, when (ISO 8601), and why."""

    who: str
    when: str
    why: str

    def text(self) -> str:
        """The hold as the model's tag holds it."""
        cut = {**asdict(self), "who": fit_tag(self.who, 200), "why": fit_tag(self.why, _WHY_BYTES)}
        return json.dumps(cut, sort_keys=True, ensure_ascii=False)

    def sentence(self) -> str:
        """The hold for people."""
        return f"{one_line(self.who, 80)} set it on {one_line(self.when, 40)}: {one_line(self.why, 500)}"


def parse(tag: str) -> Hold:
    """The hold that a tag holds. A tag in any other form is a hold, too: whoever set it meant it."""
    try:
        found = json.loads(tag)
        return Hold(*(str(found[name]) for name in ("who", "when", "why")))
    except (ValueError, KeyError, TypeError, RecursionError):
        return Hold("somebody", "an unknown day", tag)
