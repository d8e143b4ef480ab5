"""The verdict as a document: its canonical bytes, and what it is bound to. Pure.

A verdict is one tag on the judged version, `gate.verdict.<alias>`, written once: the only thing that a
promotion trusts.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, StrictInt, ValidationError

from champion_gate import signing
from champion_gate.decision import Outcome
from champion_gate.errors import Refused
from champion_gate.text import TAG_BYTES, fit_tag, one_line

NONE = "none"
"""Stands for a version where there is none: no champion, no baseline."""
MAX_AGE = timedelta(days=7)
MAX_AHEAD = timedelta(minutes=5)
_SIGNATURE = "signature"
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
    created: StrictInt


class JudgedVersion(_Document):
    """The judged version; `created` is in Unix ms, `source` where its files are."""

    number: str
    created: StrictInt
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
    artifacts_digest: str | None = None
    """SHA-256 of the model's files that were judged; null if they were not looked at."""
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
        return _dump(self.model_copy(update=changed).model_dump(mode="json", by_alias=True))


def signed(canonical: str, keys: Sequence[str]) -> str:
    """A canonical verdict as its tag holds it: with the signature of the first key in it, if there is a key."""
    if not keys:
        return canonical
    return _dump({**json.loads(canonical), _SIGNATURE: signing.sign(canonical, keys[0])})


def is_signed(tag: str) -> bool:
    """Whether a tag with a verdict holds a signature, of whatever key."""
    return _SIGNATURE in json.loads(tag)


def parse(tag: str, alias: str, keys: Sequence[str] = ()) -> Verdict:
    """The verdict that a tag holds; with keys, only if one of them signed it.

    The tag must be spelled as this gate spells it, byte for byte: of two spellings, or of a name that stands there
    twice, another reader could read something else than what was signed.

    Raises:
        Refused: it holds none that can be read, or its signature is missing or wrong.
    """
    try:
        document = json.loads(tag, object_pairs_hook=_each_name_once)
        if not isinstance(document, dict):
            raise ValueError("it is no JSON object")  # noqa: TRY004, TRY301  (one way out for all that is no verdict)
        canonical = _dump(document) == tag
        signature = document.pop(_SIGNATURE, None)
        if keys:
            _check_signature(_dump(document), signature, alias, keys)
        found = Verdict.model_validate_json(_dump(document))
        if not canonical:
            raise ValueError("it is not spelled as this gate writes it")  # noqa: TRY301
        return found  # noqa: TRY300
    except (ValidationError, ValueError, RecursionError) as error:
        where, why = "the document", str(error)
        if isinstance(error, ValidationError):
            first = error.errors()[0]
            where, why = ".".join(str(part) for part in first["loc"]) or where, first["msg"]
        raise Refused(
            f"The tag {tag_name(alias)} holds no verdict: {one_line(where, 80)}: {one_line(why, 200)}.",
            "It was written by another version of this gate, or by hand.",
            "Run validate-model again.",
        ) from error


def _check_signature(canonical: str, signature: object, alias: str, keys: Sequence[str]) -> None:
    if not isinstance(signature, str):
        raise Refused(
            f"The verdict in the tag {tag_name(alias)} is not signed.",
            "This promotion has a signing key, and takes no verdict that was not signed with it.",
            "Give validate-model the same signing-key, and run it again.",
        )
    if not signing.is_signed_by(canonical, signature, keys):
        raise Refused(
            f"The signature of the verdict in the tag {tag_name(alias)} is wrong.",
            "The verdict was changed after the gate, or signed with a key that this promotion does not have.",
            "Run validate-model again. If nobody changed the keys, look into the tag's history: somebody forged it.",
        )


def _each_name_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands in it twice")
    return found


def _dump(document: object) -> str:
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


@dataclass(frozen=True)
class Facts:
    """What the registry says now, to hold a verdict against."""

    model: JudgedModel
    version: JudgedVersion
    alias: str
    champion: str
    """The current champion's version number, or `none`."""
    baseline_there: bool = True
    """Whether the version that the verdict names as its baseline is still there."""


@dataclass(frozen=True)
class Expected:
    """What a promotion asks of a verdict beyond what the registry says; None asks for nothing."""

    policy_digest: str | None = None
    dataset_digest: str | None = None
    commit: str | None = None
    artifacts_digest: str | None = None
    """SHA-256 of the model's files as they are now."""

    def unverified(self, verdict: Verdict) -> list[str]:
        """What the verdict records and this promotion was not asked to verify."""
        given = {
            "policy": (self.policy_digest, verdict.policy_digest),
            "dataset": (self.dataset_digest, verdict.dataset_digest),
            "commit": (self.commit, verdict.commit),
            "files": (self.artifacts_digest, verdict.artifacts_digest),
        }
        return [f"{name} {recorded[:19]}" for name, (asked, recorded) in given.items() if asked is None and recorded]


def objections(
    verdict: Verdict,
    facts: Facts,
    now: datetime,
    expected: Expected | None = None,
    max_age: timedelta = MAX_AGE,
) -> list[str]:
    """Why a verdict does not allow this promotion; empty if it does.

    Args:
        verdict: as read back from the registry.
        facts: what the registry says of the version, the alias and the champion at this moment.
        now: the time, with time zone.
        expected: what else was asked for.
        max_age: how old the verdict may be.
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
    elif now - verdict.time > max_age:
        found.append(f"it is {_age(now - verdict.time)} old, and {_age(max_age)} is the limit")
    if not facts.baseline_there:
        found.append(f"its baseline {name(verdict.baseline)} is not there any more")
    expected = expected or Expected()
    for what, asked, recorded in (
        ("by another policy", expected.policy_digest, verdict.policy_digest),
        ("on another dataset", expected.dataset_digest, verdict.dataset_digest),
        ("for another commit", expected.commit, verdict.commit),
        ("of other model files", expected.artifacts_digest, verdict.artifacts_digest),
    ):
        if asked is not None and asked != recorded:
            found.append(f"it was reached {what}: {one_line(recorded or NONE, 80)}, not {one_line(asked, 80)}")
    return found


def _age(age: timedelta) -> str:
    hours = int(age.total_seconds() // 3600)
    return f"{hours // 24} days" if hours >= 48 else f"{hours} hours" if hours else f"{int(age.total_seconds())} s"
