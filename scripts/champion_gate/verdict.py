"""The verdict as a document: its canonical bytes, and what it is bound to. Pure.

A verdict is one tag on the judged version, `gate.verdict.<alias>`, written once: the only thing that a
promotion trusts.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from champion_gate.decision import Outcome
from champion_gate.errors import Refused
from champion_gate.text import TAG_BYTES, fit_tag, one_line

NONE = "none"
"""Stands for a version where there is none: no champion, no baseline."""
MAX_AGE = timedelta(days=7)
MAX_AHEAD = timedelta(minutes=5)
# Leaves room for a signature in the same tag.
_DOCUMENT_BYTES = TAG_BYTES - 400


def tag_name(alias: str) -> str:
    """The tag of a version that holds its verdict against `alias`."""
    return f"gate.verdict.{alias}"


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class JudgedModel(_Document):
    """The registered model: its name and, since a name can be used again, when it was made (Unix ms)."""

    name: str
    created: int


class JudgedVersion(_Document):
    """The judged version; `created` is in Unix ms, `source` where its files are."""

    number: str
    created: int
    run_id: str
    source: str


class CheckRecord(_Document):
    """One check, as `decision.Check` had it."""

    name: str
    metric: str
    outcome: Outcome
    reason: str
    counts: bool = True
    """Whether it took part in the decision."""


class Verdict(_Document):
    """What was decided, and exactly of what."""

    schema_version: Literal[1] = Field(default=1, alias="schema")
    outcome: Outcome
    basis: str
    purpose: Literal["release", "check"]
    """`check`: reached in a pull request, and never promotable."""
    model: JudgedModel
    version: JudgedVersion
    alias: str
    champion: str
    """The champion's version number, or `none`."""
    baseline: str = NONE
    policy_digest: str
    dataset_digest: str | None
    metric_options: dict[str, str]
    """How the ranking metrics were computed, by name; long ones by their digest."""
    isolation: str | None = None
    """How the models were shut in while they were scored, such as `sandbox (bubblewrap)`; null if none was."""
    promote_inconclusive: bool = False
    """Whether the policy lets an inconclusive verdict be promoted, and the gate was asked to pass it."""
    repository: str
    commit: str
    time: datetime
    gate_run_id: str
    checks: tuple[CheckRecord, ...]
    checks_left_out: int = 0
    """How many checks the tag had no room for: such as count least and agree with the outcome. verdict.json has all."""

    @property
    def promotable(self) -> bool:
        """Whether the outcome is one that may be promoted."""
        return self.outcome is Outcome.PASSED or (self.outcome is Outcome.INCONCLUSIVE and self.promote_inconclusive)

    def canonical(self) -> str:
        """The verdict as canonical JSON (sorted keys, no spaces, ASCII), short enough for one tag.

        Where it would be too long, the reasons of its checks are shortened, then checks are left out: first those
        that do not count, then those that passed, the last ones first. verdict.json in the gate run has them whole.

        Raises:
            ValueError: it does not fit even so.
        """
        kept = list(self.checks)
        droppable = sorted(kept, key=lambda c: (not c.counts, c.outcome is Outcome.PASSED), reverse=True)
        text = ""
        while True:
            for limit in (2000, 500, 120, 0):
                text = self._canonical(kept, limit)
                if len(text) <= _DOCUMENT_BYTES:
                    return text
            if len(kept) <= 1:
                raise ValueError(f"the verdict has {len(text)} bytes, and a tag holds {_DOCUMENT_BYTES}")
            # An eighth at a time: there may be thousands of slices.
            going = {id(check) for check in droppable[: max(1, len(kept) // 8)]}
            droppable = droppable[len(going) :]
            kept = [check for check in kept if id(check) not in going]

    def _canonical(self, checks: list[CheckRecord], limit: int) -> str:
        cut = tuple(c.model_copy(update={"reason": fit_tag(c.reason, limit) if limit else ""}) for c in checks)
        changed = {"checks": cut, "checks_left_out": self.checks_left_out + len(self.checks) - len(cut)}
        document = self.model_copy(update=changed).model_dump(mode="json", by_alias=True)
        return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def parse(tag: str, alias: str) -> Verdict:
    """The verdict that a tag holds.

    Raises:
        Refused: it holds none that can be read.
    """
    try:
        return Verdict.model_validate_json(tag)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the document"
        raise Refused(
            f"The tag {tag_name(alias)} holds no verdict: {one_line(where, 80)}: {one_line(first['msg'], 200)}.",
            "It was written by another version of this gate, or by hand.",
            "Run validate-model again.",
        ) from error


@dataclass(frozen=True)
class Facts:
    """What the registry says now, to hold a verdict against."""

    model: JudgedModel
    version: JudgedVersion
    alias: str
    champion: str
    """The current champion's version number, or `none`."""


def objections(verdict: Verdict, facts: Facts, now: datetime) -> list[str]:
    """Why a verdict does not allow this promotion; empty if it does.

    Args:
        verdict: as read back from the registry.
        facts: what the registry says of the version, the alias and the champion at this moment.
        now: the time, with time zone.
    """

    def name(number: str) -> str:
        return number if number == NONE else f"version {one_line(number, 20)}"

    found: list[str] = []
    if not verdict.promotable:
        reasons = " ".join(c.reason for c in verdict.checks if c.counts and c.outcome is not Outcome.PASSED)
        found.append(f"the verdict is {verdict.outcome.value}: {one_line(reasons, 600).rstrip('.')}")
    elif not any(check.counts and check.outcome is verdict.outcome for check in verdict.checks):
        found.append("the verdict rests on no check")
    if verdict.purpose != "release":
        found.append("it was reached in a pull request (purpose: check), which never promotes")
    if verdict.model.name != facts.model.name:
        found.append(f"it speaks of the model '{one_line(verdict.model.name, 80)}'")
    if verdict.model.created != facts.model.created:
        found.append("the model was deleted and made anew since")
    if verdict.version.number != facts.version.number:
        found.append(f"it speaks of {name(verdict.version.number)}")
    elif verdict.version != facts.version:
        found.append("the version was replaced since (its creation time, run or source differs)")
    if verdict.alias != facts.alias:
        found.append(f"it was reached against the alias '{one_line(verdict.alias, 80)}'")
    if verdict.champion != facts.champion:
        found.append(
            f"it was reached against {name(verdict.champion)}, and '{facts.alias}' is now {name(facts.champion)}"
        )
    if verdict.time.tzinfo is None or verdict.time > now + MAX_AHEAD:
        found.append("it is dated in the future")
    elif now - verdict.time > MAX_AGE:
        found.append(f"it is {(now - verdict.time).days} days old, and {MAX_AGE.days} is the limit")
    return found
