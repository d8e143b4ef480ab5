"""A move, write by write, and what is done when one of the writes fails.

The order is: the move's run, `gate.open_move`, the previous champion's alias, the champion alias, the versions'
tags, the run's state, and `gate.open_move` again. MLflow has no compare-and-set on aliases: the lease keeps two moves
apart. Without one they are told apart by what is read back, not prevented.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from champion_gate import lineage, signals
from champion_gate.errors import GateError, LeaseLost, OutsideWorldFailed, Refused, TimedOut, UnclearAnswer
from champion_gate.github import Context, annotate, log
from champion_gate.lineage import Entry, Kind
from champion_gate.registry import Model, Registry
from champion_gate.release_log import OPEN_MOVE_TAG, ReleaseLog
from champion_gate.text import one_line
from champion_gate.verdict import NONE

if TYPE_CHECKING:
    from champion_gate.lease import Lease


@dataclass(frozen=True)
class Moved:
    """What a move came to; versions are numbers, None where there is none."""

    model_name: str
    kind: Kind
    alias: str
    from_version: str | None
    to_version: str
    changed: bool
    run_id: str
    reason: str
    dry_run: bool = False
    aliases: Mapping[str, str | None] = field(default_factory=dict)
    basis: str = ""
    """What the verdict of a promotion rests on, such as `judged queries`."""
    hold: bool = False
    """Whether it was asked to stop promotions, too."""


@dataclass(frozen=True)
class Plan:
    """A move as it will be written: aliases to set or drop (None), tags of versions, and tags of the log's run."""

    kind: Kind
    alias: str
    from_version: str | None
    to_version: str
    before: Mapping[str, str | None]
    after: Mapping[str, str | None]
    drop: Mapping[str, str]
    version_tags: Mapping[str, Mapping[str, str]]
    run_tags: Mapping[str, str]


def carry_out(
    registry: Registry,
    release_log: ReleaseLog,
    plan: Plan,
    entries: Sequence[Entry],
    job: Context,
    lease: Lease | None,
    *,
    dry_run: bool,
) -> Moved:
    """Carry out a move that is allowed: all of it, or none of it where that can be had.

    Raises:
        Refused: the champion moved since it was read.
        OutsideWorldFailed: the registry or Redis failed, the lease was lost, or another move began. The move was
            undone, or stays open for the next one to settle, and says so.
        Cancelled: SIGINT or SIGTERM; as above.
    """
    model = release_log.model
    reason = plan.run_tags.get("gate.reason", "")
    release_log.check_team()
    if dry_run:
        return _moved(model, plan, "", reason, changed=False, dry_run=True)
    release_log = release_log.made()
    # A Redis that was flushed counts from 1 again; the log does not.
    fence = max(lineage.highest_fence(entries) + 1, lease.fence if lease else 0)
    run_id = release_log.write(
        plan.kind,
        lineage.OPEN,
        plan.alias,
        job,
        from_version=plan.from_version,
        to_version=plan.to_version,
        tags={
            "gate.previous": plan.before.get(plan.run_tags["gate.previous_alias"]) or NONE,
            "gate.fence": str(fence),
            "gate.leased": str(lease is not None).lower(),
            # What another job needs to finish this, or to undo it.
            **{f"gate.{name}": _json(value) for name, value in _aliases_of(plan).items()},
            **plan.run_tags,
        },
    )
    touched = False
    try:
        registry.set_model_tag(model.name, OPEN_MOVE_TAG, run_id)
        if lease is None:
            _still(registry, model, plan, run_id)
        else:
            lease.confirm()
        touched = True
        log(f"Moving '{plan.alias}' of {model.name} from version {plan.from_version or NONE} to {plan.to_version}.")
        with signals.deferred():  # a write in flight is waited for, so that we know what it did
            set_aliases(registry, model.name, plan.after, plan.alias)
        aliases = _read_back(registry, model.name, plan)
        finish(release_log, plan, run_id, aliases, {}, leased=lease is not None)
    except BaseException as error:
        finished = _settle(release_log, plan, run_id, error, job, touched=touched, leased=lease is not None)
        if not finished or not isinstance(error, GateError):
            raise
        annotate("warning", "Move finished after an error", str(error))
    return _moved(model, plan, run_id, reason, changed=True, dry_run=False)


def _aliases_of(plan: Plan) -> dict[str, Mapping[str, str | None]]:
    return {"before": plan.before, "after": plan.after, "drop": plan.drop}


def _json(value: Mapping[str, str | None]) -> str:
    return json.dumps(dict(value), sort_keys=True, separators=(",", ":"))


def version_tags(kind: str, run_tags: Mapping[str, str]) -> dict[str, dict[str, str]]:
    """The tags for people on the versions of a move, from the tags of its run: also for who finishes it later."""
    when = run_tags.get("gate.time", "")
    if kind == "promotion":
        approved = run_tags.get("gate.approved_by", "")
        return {run_tags["gate.to"]: {"approved_by": approved, "approval_date": when, "promoted_at": when}}
    if run_tags.get("gate.from_there", "true") != "true":
        return {}  # the version that was taken back is deleted
    return {run_tags["gate.from"]: {"rollback_reason": run_tags.get("gate.reason", ""), "rolled_back_at": when}}


def set_aliases(registry: Registry, name: str, aliases: Mapping[str, str | None], champion_alias: str) -> None:
    """Point the aliases; the champion's comes after the others that are set, and what is dropped comes last."""
    for alias, number in sorted(aliases.items(), key=lambda item: (item[1] is None, item[0] == champion_alias)):
        if number is not None:
            registry.set_alias(name, alias, number)
        elif alias in registry.model(name).aliases:
            registry.delete_alias(name, alias)


def differing(aliases: Mapping[str, str | None], model: Model) -> dict[str, str | None]:
    """Those of `aliases` that the model does not have so; None stands for one that is not there."""
    return {alias: number for alias, number in aliases.items() if model.aliases.get(alias) != number}


def _still(registry: Registry, model: Model, plan: Plan, run_id: str) -> None:
    """The last look before the first alias moves: nobody else moved, or is moving."""
    now = registry.model(model.name)
    if now.created != model.created or now.aliases.get(plan.alias) != plan.from_version:
        raise Refused(
            f"'{plan.alias}' is now version {now.aliases.get(plan.alias, NONE)}, "
            f"and was {plan.from_version or NONE} a moment ago.",
            "Somebody else moved it; nothing was moved here.",
            "Run the gate again against the champion of now.",
        )
    if now.tags.get(OPEN_MOVE_TAG) != run_id:
        raise OutsideWorldFailed(
            f"Another move of '{one_line(model.name, 120)}' began at the same time.",
            f"Its run in the release log is {one_line(now.tags.get(OPEN_MOVE_TAG, NONE), 60)}.",
            "Run this again when it is done, and put both jobs into one concurrency group.",
        )


def _read_back(registry: Registry, name: str, plan: Plan) -> Mapping[str, str]:
    now = registry.model(name)
    if wrong := differing(plan.after, now):
        shown = ", ".join(f"'{alias}' is {now.aliases.get(alias, NONE)}" for alias in wrong)
        raise OutsideWorldFailed(
            f"The aliases are not what was written: {shown}.",
            "Somebody else moved them at the same time.",
            "Look at `history`, and decide which version should serve.",
        )
    return now.aliases


def finish(
    release_log: ReleaseLog,
    plan: Plan,
    run_id: str,
    aliases: Mapping[str, str],
    tags: Mapping[str, str],
    *,
    leased: bool = True,
) -> None:
    """What follows once the champion alias stands: tags, the alias that is no longer needed, the move's state.

    `aliases` is what the model has, `tags` is for the move's run.
    """
    registry, name = release_log.registry, release_log.model.name
    for number, about in plan.version_tags.items():
        registry.set_version_tags(name, number, about)
    for alias, number in plan.drop.items():
        if aliases.get(alias) == number:
            try:
                registry.delete_alias(name, alias)
            except LeaseLost:
                raise
            except GateError as error:
                annotate("warning", "Alias kept", f"The alias '{alias}' still names version {number}. {error}")
    close(release_log, run_id, lineage.DONE, tags, leased=leased)


def _settle(
    release_log: ReleaseLog,
    plan: Plan,
    run_id: str,
    error: BaseException,
    job: Context,
    *,
    touched: bool,
    leased: bool,
) -> bool:
    """After a failure half-way: finish the move if the champion alias moved, undo it if it did not.

    Where somebody else moved the alias, or the registry is out of reach, the move stays open and says so.
    `touched` says whether this move wrote any alias yet. If `error` is a write that got no answer in time, it may land
    after all, so the move is not called undone. One that got an unclear answer is, marked as one whose write may
    still land, as of any move that was settled for want of knowing better.

    Returns:
        Whether the move was finished.
    """
    registry, name = release_log.registry, release_log.model.name
    late = isinstance(error, TimedOut)
    unclear = {"gate.recovered_by": job.actor} if touched and isinstance(error, UnclearAnswer) else {}
    try:
        now = registry.model(name)
        champion, ours = now.aliases.get(plan.alias), now.tags.get(OPEN_MOVE_TAG) == run_id
        if touched and champion == plan.to_version:
            if ours:
                set_aliases(registry, name, differing(plan.after, now), plan.alias)
            finish(release_log, plan, run_id, now.aliases, {}, leased=leased)
            log(f"'{plan.alias}' is version {plan.to_version}: the move was finished.")
            return True
        if not touched or (champion == plan.from_version and not late) or not ours:
            if touched and ours:
                set_aliases(registry, name, differing(plan.before, now), plan.alias)
            close(release_log, run_id, lineage.UNDONE, unclear, leased=leased)
            log(f"'{plan.alias}' is version {champion or NONE}: the move was undone.")
            return False
        if champion == plan.from_version:
            left = f"A write got no answer in time and may still land; '{plan.alias}' is {champion or NONE} so far."
        else:
            left = f"'{plan.alias}' names version {champion or NONE}, which this move did not set."
    except GateError as error:
        left = f"It could be neither finished nor undone: {error}"
    annotate("error", "Move left open", f"The move {run_id} of '{name}' is still open. {left}")
    return False


def close(release_log: ReleaseLog, run_id: str, state: str, tags: Mapping[str, str], *, leased: bool = True) -> None:
    """Write the move's last state, and take its name off the model; without a lease, if it is still ours."""
    release_log.close(run_id, state, tags=tags)
    registry, name = release_log.registry, release_log.model.name
    if leased or registry.model(name).tags.get(OPEN_MOVE_TAG) == run_id:
        registry.delete_model_tag(name, OPEN_MOVE_TAG)


def _moved(model: Model, plan: Plan, run_id: str, reason: str, *, changed: bool, dry_run: bool) -> Moved:
    aliases = {**plan.after, **dict.fromkeys(plan.drop)}
    return Moved(
        model.name,
        plan.kind,
        plan.alias,
        plan.from_version,
        plan.to_version,
        changed,
        run_id,
        reason,
        dry_run,
        aliases,
        plan.run_tags.get("gate.basis", ""),
    )
