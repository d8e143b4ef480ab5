"""A move, write by write, and what is done when one of the writes fails.

The order is: the move's run, `gate.open_move`, the previous champion's alias, the champion alias, the versions'
tags, the run's state, and `gate.open_move` again. MLflow has no compare-and-set on aliases; two moves at once
are told apart by what is read back, not prevented.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

from champion_gate import lineage, signals
from champion_gate.errors import GateError, OutsideWorldFailed, Refused, TimedOut
from champion_gate.github import Context, annotate, log
from champion_gate.lineage import Entry, Kind
from champion_gate.registry import Model, Registry
from champion_gate.release_log import OPEN_MOVE_TAG, ReleaseLog
from champion_gate.text import one_line
from champion_gate.verdict import NONE


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


def no_open_move(registry: Registry, model: Model) -> None:
    """See that nobody else is in the middle of a move.

    Raises:
        OutsideWorldFailed: a move is open, whether its job is at work or was killed.
    """
    run_id = model.tags.get(OPEN_MOVE_TAG)
    if not run_id:
        return
    run = registry.find_run(run_id)
    began = datetime.fromtimestamp(run.start / 1000, timezone.utc).isoformat(timespec="seconds") if run else "unknown"
    who = one_line(run.tags.get("gate.actor", "unknown"), 80) if run else "unknown"
    raise OutsideWorldFailed(
        f"A move of '{one_line(model.name, 120)}' is open: run {one_line(run_id, 60)}, begun {began} by {who}.",
        "Another job is at work, or one was killed half-way.",
        f"Wait for that job. If none is running, check the aliases and delete the model's tag {OPEN_MOVE_TAG}.",
    )


def carry_out(
    registry: Registry,
    release_log: ReleaseLog,
    plan: Plan,
    entries: Sequence[Entry],
    job: Context,
    dry_run: bool,
) -> Moved:
    """Carry out a move that is allowed: all of it, or none of it where that can be had.

    Raises:
        Refused: the champion moved since it was read.
        OutsideWorldFailed: the registry failed, or another move began. The move was undone, or stays open and says so.
        Cancelled: SIGINT or SIGTERM; as above.
    """
    model = release_log.model
    reason = plan.run_tags.get("gate.reason", "")
    release_log.check_team()
    if dry_run:
        return _moved(model, plan, "", reason, changed=False, dry_run=True)
    release_log = release_log.made()
    fence = lineage.highest_fence(entries) + 1
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
            **plan.run_tags,
        },
    )
    touched = False
    try:
        registry.set_model_tag(model.name, OPEN_MOVE_TAG, run_id)
        _still(registry, model, plan, run_id)
        touched = True
        log(f"Moving '{plan.alias}' of {model.name} from version {plan.from_version or NONE} to {plan.to_version}.")
        with signals.deferred():  # a write in flight is waited for, so that we know what it did
            _set_aliases(registry, model.name, plan.after, plan.alias)
        _read_back(registry, model.name, plan)
        _finish(release_log, plan, run_id)
    except BaseException as error:
        late = isinstance(error, TimedOut)
        finished = _settle(release_log, plan, run_id, touched=touched, late=late)
        if not finished or not isinstance(error, GateError):
            raise
        annotate("warning", "Move finished after an error", str(error))
    return _moved(model, plan, run_id, reason, changed=True, dry_run=False)


def _set_aliases(registry: Registry, name: str, aliases: Mapping[str, str | None], champion_alias: str) -> None:
    """Point the aliases; the champion's comes after the others that are set, and what is dropped comes last."""
    for alias, number in sorted(aliases.items(), key=lambda item: (item[1] is None, item[0] == champion_alias)):
        if number is not None:
            registry.set_alias(name, alias, number)
        elif alias in registry.model(name).aliases:
            registry.delete_alias(name, alias)


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


def _read_back(registry: Registry, name: str, plan: Plan) -> None:
    aliases = registry.model(name).aliases
    wrong = {alias: aliases.get(alias) for alias, number in plan.after.items() if aliases.get(alias) != number}
    if wrong:
        shown = ", ".join(f"'{alias}' is {number or NONE}" for alias, number in wrong.items())
        raise OutsideWorldFailed(
            f"The aliases are not what was written: {shown}.",
            "Somebody else moved them at the same time.",
            "Look at `history`, and decide which version should serve.",
        )


def _finish(release_log: ReleaseLog, plan: Plan, run_id: str) -> None:
    """What follows once the champion alias stands: tags, the alias that is no longer needed, the move's state."""
    registry, name = release_log.registry, release_log.model.name
    for number, tags in plan.version_tags.items():
        registry.set_version_tags(name, number, tags)
    aliases = registry.model(name).aliases
    for alias, number in plan.drop.items():
        if aliases.get(alias) == number:
            try:
                registry.delete_alias(name, alias)
            except GateError as error:
                annotate("warning", "Alias kept", f"The alias '{alias}' still names version {number}. {error}")
    _close(release_log, run_id, lineage.DONE)


def _settle(release_log: ReleaseLog, plan: Plan, run_id: str, *, touched: bool, late: bool) -> bool:
    """After a failure half-way: finish the move if the champion alias moved, undo it if it did not.

    Where somebody else moved the alias, or the registry is out of reach, the move stays open and says so.
    `touched` says whether this move wrote any alias yet, `late` that a write got no answer in time: it may land
    after all, so the move is not called undone.

    Returns:
        Whether the move was finished.
    """
    registry, name = release_log.registry, release_log.model.name
    try:
        now = registry.model(name)
        champion, ours = now.aliases.get(plan.alias), now.tags.get(OPEN_MOVE_TAG) == run_id
        if touched and champion == plan.to_version:
            if ours:
                missing = {a: n for a, n in plan.after.items() if now.aliases.get(a) != n}
                _set_aliases(registry, name, missing, plan.alias)
            _finish(release_log, plan, run_id)
            log(f"'{plan.alias}' is version {plan.to_version}: the move was finished.")
            return True
        if not touched or (champion == plan.from_version and not late) or not ours:
            if touched and ours:
                changed = {a: n for a, n in plan.before.items() if now.aliases.get(a) != n}
                _set_aliases(registry, name, changed, plan.alias)
            _close(release_log, run_id, lineage.UNDONE)
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


def _close(release_log: ReleaseLog, run_id: str, state: str) -> None:
    release_log.close(run_id, state)
    registry, name = release_log.registry, release_log.model.name
    if registry.model(name).tags.get(OPEN_MOVE_TAG) == run_id:
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
