"""Promotion and rollback: moves of the champion alias, written so that each can be explained afterwards.

The order of writes is: the move's run, `gate.open_move`, `previous-champion`, the champion alias, the
versions' tags, the run's state, and `gate.open_move` again. MLflow has no compare-and-set on aliases; two
moves at once are told apart by what is read back, not prevented.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timezone

from champion_gate import conventions, lineage, signals, verdict
from champion_gate.errors import BadInput, GateError, OutsideWorldFailed, Refused, TimedOut
from champion_gate.gate import champion_of, judged_version, resolve
from champion_gate.github import Context, annotate, log
from champion_gate.lineage import Entry, Kind
from champion_gate.registry import Model, Registry, Version
from champion_gate.release_log import HOLD_TAG, OPEN_MOVE_TAG, ReleaseLog
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
    previous: str | None
    changed: bool
    run_id: str
    reason: str
    dry_run: bool = False
    aliases: Mapping[str, str | None] = field(default_factory=dict)


@dataclass(frozen=True)
class _Plan:
    """A move as it will be written: aliases to set or drop (None), tags of versions, and tags of the log's run."""

    kind: Kind
    alias: str
    from_version: str | None
    to_version: str
    previous: str | None
    before: Mapping[str, str | None]
    after: Mapping[str, str | None]
    drop: Mapping[str, str]
    version_tags: Mapping[str, Mapping[str, str]]
    run_tags: Mapping[str, str]


def promote(
    registry: Registry,
    model_name: str,
    job: Context,
    *,
    number: str = "",
    from_alias: str = conventions.CHALLENGER,
    to_alias: str = conventions.CHAMPION,
    previous_alias: str = "",
    approved_by: str = "",
    team: str = "",
    dry_run: bool = False,
) -> Moved:
    """Make a version champion, if its verdict says so.

    Raises:
        BadInput: there is no such model, version or alias.
        Refused: there is no passed verdict for this version and alias against the current champion, or the
            version is in quarantine, or the model is on hold.
        OutsideWorldFailed: the registry failed, or another move is open.
    """
    model = registry.model(model_name)
    previous_alias = previous_alias or conventions.previous_alias(to_alias)
    release_log = ReleaseLog.find(registry, model, team)
    _no_open_move(registry, model)
    entries = release_log.moves()
    number = number or model.aliases.get(from_alias) or _dropped(model, entries, from_alias, to_alias) or ""
    number = number or resolve(model, from_alias, registry.uri)
    champion = model.aliases.get(to_alias)
    if champion == number:
        run_id = next((e.run_id for e in reversed(lineage.finished(entries, to_alias)) if e.to_version == number), "")
        previous = model.aliases.get(previous_alias)
        reason = f"Version {number} is '{to_alias}' already."
        return Moved(model.name, "promotion", to_alias, previous, number, previous, False, run_id, reason, dry_run)
    _not_on_hold(model)
    version = registry.version(model.name, number)
    champion_version = champion_of(registry, model, to_alias, release_log)
    _not_quarantined(entries, number)
    judged = _passed_verdict(model, version, champion_version, to_alias)
    now = _now()
    approved = approved_by or job.actor
    plan = _Plan(
        "promotion",
        to_alias,
        champion,
        number,
        model.aliases.get(previous_alias),
        before={previous_alias: model.aliases.get(previous_alias), to_alias: champion},
        after={previous_alias: champion, to_alias: number} if champion else {to_alias: number},
        drop={from_alias: number},
        version_tags={number: {"approved_by": approved, "approval_date": now, "promoted_at": now}},
        run_tags={
            "gate.from_alias": from_alias,
            "gate.previous_alias": previous_alias,
            "gate.approved_by": approved,
            "gate.verdict": judged.outcome.value,
            "gate.verdict_run": judged.gate_run_id,
            "gate.policy_digest": judged.policy_digest,
            "gate.reason": " ".join(check.reason for check in judged.checks),
        },
    )
    return _carry_out(registry, release_log, plan, entries, job, dry_run)


def rollback(
    registry: Registry,
    model_name: str,
    job: Context,
    *,
    reason: str,
    to_version: str = "",
    from_version: str = "",
    champion_alias: str = conventions.CHAMPION,
    team: str = "",
    dry_run: bool = False,
) -> Moved:
    """Take the champion back to the last good version, which needs no evaluation.

    Raises:
        BadInput: there is no such model, no champion, or nothing to go back to.
        Refused: the champion is not `from_version`, or the target was taken back itself or never was champion.
        OutsideWorldFailed: the registry failed, or another move is open.
    """
    model = registry.model(model_name)
    serving = model.aliases.get(champion_alias)
    bad = registry.find_version(model.name, serving) if serving else None  # None, too, if deleted under its alias
    release_log = ReleaseLog.find(registry, model, team, bad)
    _no_open_move(registry, model)
    entries = release_log.moves()
    previous_alias = _previous_alias(entries, champion_alias)
    if again := _same_job(entries, champion_alias, job):
        said = f"This job took version {again.from_version} back already."
        return _moved_before(model, again, said, dry_run)
    if serving is None:
        champion_of(registry, model, champion_alias, release_log)  # tells "gone" from "never released"
    champion = resolve(model, champion_alias, registry.uri, "Nothing was released under it yet.")
    if from_version and from_version != champion:
        raise Refused(
            f"'{champion_alias}' is version {champion}, not {from_version}: nothing was taken back.",
            "Somebody promoted or rolled back meanwhile.",
            "Look at `history`, and ask again for the version that is champion now.",
        )
    target: str | None = to_version
    if not target:
        target = _first_there(registry, model.name, lineage.champions_before(entries, champion_alias, champion))
    if not target and not lineage.finished(entries, champion_alias):
        target = model.aliases.get(previous_alias)
    if not target or target == champion:
        raise BadInput(
            f"There is nothing to go back to: version {champion} is '{champion_alias}', "
            + ("and to-version is the same." if to_version else "and no good release before it is known."),
            "Neither the release log nor an alias names an earlier champion that was not taken back.",
            "Name a version with to-version, or promote a new one.",
        )
    registry.version(model.name, target)
    _was_champion(entries, model, champion_alias, previous_alias, target)
    _not_quarantined(entries, target)
    further = _first_there(registry, model.name, lineage.champions_before(entries, champion_alias, target))
    after: dict[str, str | None] = {previous_alias: further, champion_alias: target}
    version_tags: dict[str, dict[str, str]] = {}
    if bad is not None:
        after[conventions.rolled_back_alias(champion_alias)] = champion
        version_tags[champion] = {"rollback_reason": reason, "rolled_back_at": _now()}
    plan = _Plan(
        "rollback",
        champion_alias,
        champion,
        target,
        model.aliases.get(previous_alias),
        before={alias: model.aliases.get(alias) for alias in after},
        after=after,
        drop={},
        version_tags=version_tags,
        run_tags={"gate.reason": reason, "gate.previous_alias": previous_alias},
    )
    return _carry_out(registry, release_log, plan, entries, job, dry_run)


def _carry_out(
    registry: Registry,
    release_log: ReleaseLog,
    plan: _Plan,
    entries: Sequence[Entry],
    job: Context,
    dry_run: bool,
) -> Moved:
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
        tags={"gate.previous": plan.previous or NONE, "gate.fence": str(fence), **plan.run_tags},
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


def _still(registry: Registry, model: Model, plan: _Plan, run_id: str) -> None:
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


def _read_back(registry: Registry, name: str, plan: _Plan) -> None:
    aliases = registry.model(name).aliases
    wrong = {alias: aliases.get(alias) for alias, number in plan.after.items() if aliases.get(alias) != number}
    if wrong:
        shown = ", ".join(f"'{alias}' is {number or NONE}" for alias, number in wrong.items())
        raise OutsideWorldFailed(
            f"The aliases are not what was written: {shown}.",
            "Somebody else moved them at the same time.",
            "Look at `history`, and decide which version should serve.",
        )


def _finish(release_log: ReleaseLog, plan: _Plan, run_id: str) -> None:
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


def _settle(release_log: ReleaseLog, plan: _Plan, run_id: str, *, touched: bool, late: bool) -> bool:
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


def _no_open_move(registry: Registry, model: Model) -> None:
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


def _not_on_hold(model: Model) -> None:
    if hold := model.tags.get(HOLD_TAG):
        raise Refused(
            f"Promotions of '{one_line(model.name, 120)}' are on hold.",
            f"The hold says: {one_line(hold, 500)}.",
            f"Ask who set it; a person lifts it by deleting the model's tag {HOLD_TAG}.",
        )


def _not_quarantined(entries: Sequence[Entry], number: str) -> None:
    if bad := lineage.quarantined(entries).get(number):
        raise Refused(
            f"Version {number} is in quarantine: it was rolled back by {one_line(bad.actor, 80)}.",
            f"The reason was: {one_line(bad.reason, 500).rstrip('.')}.",
            "Whatever a gate says, it is not promoted again. Train and register a new version.",
        )


def _first_there(registry: Registry, name: str, versions: Sequence[str]) -> str | None:
    """The first of the versions that was not deleted."""
    return next((number for number in versions if registry.find_version(name, number) is not None), None)


def _previous_alias(entries: Sequence[Entry], alias: str) -> str:
    """The alias that the last promotion kept the champion before under."""
    kept = [e.previous_alias for e in lineage.finished(entries, alias) if e.previous_alias]
    return kept[-1] if kept else conventions.previous_alias(alias)


def _was_champion(entries: Sequence[Entry], model: Model, alias: str, previous_alias: str, target: str) -> None:
    """A rollback goes to what served before. Where the log knows nothing yet, a person's word must do."""
    known = lineage.ever_champion(entries, alias)
    if known and target not in known and model.aliases.get(previous_alias) != target:
        raise Refused(
            f"Version {target} never was '{alias}': that would be a promotion without a gate.",
            f"The release log knows: {', '.join(sorted(known, key=int))}.",
            "Use validate-model and promote-alias for it.",
        )


def _passed_verdict(model: Model, version: Version, champion: Version | None, alias: str) -> verdict.Verdict:
    tag = version.tags.get(verdict.tag_name(alias))
    if not tag:
        raise Refused(
            f"Version {version.number} of '{one_line(model.name, 120)}' has no verdict against '{alias}'.",
            "Only a version that a gate has passed is promoted.",
            "Run validate-model on it first.",
        )
    judged = verdict.parse(tag, alias)
    facts = verdict.Facts(
        verdict.JudgedModel(name=model.name, created=model.created),
        judged_version(version),
        alias,
        champion.number if champion else NONE,
    )
    if found := verdict.objections(judged, facts, datetime.now(timezone.utc)):
        raise Refused(
            f"The verdict of version {version.number} does not allow this promotion:",
            "; ".join(found) + ".",
            "Run validate-model again, if things have changed since.",
        )
    return judged


def _dropped(model: Model, entries: Sequence[Entry], from_alias: str, to_alias: str) -> str | None:
    """What `from_alias` named, when the last promotion dropped it and still stands: asked again, nothing is to do."""
    last = lineage.last_promotion_from(entries, to_alias, from_alias)
    return last.to_version if last and last.to_version == model.aliases.get(to_alias) else None


def _same_job(entries: Sequence[Entry], alias: str, job: Context) -> Entry | None:
    """The rollback that this very job (by GITHUB_RUN_ID) made before: re-running a job is not a second rollback."""
    rollbacks = [e for e in lineage.finished(entries, alias) if e.kind == "rollback"]
    return next((e for e in reversed(rollbacks) if job.run_id and e.github_run == job.run_id), None)


def _moved_before(model: Model, entry: Entry, reason: str, dry_run: bool) -> Moved:
    to_version = entry.to_version or NONE
    return Moved(
        model.name,
        entry.kind,
        entry.alias,
        entry.from_version,
        to_version,
        entry.previous,
        False,
        entry.run_id,
        reason,
        dry_run,
    )


def _moved(model: Model, plan: _Plan, run_id: str, reason: str, *, changed: bool, dry_run: bool) -> Moved:
    aliases = {**plan.after, **dict.fromkeys(plan.drop)}
    return Moved(
        model.name,
        plan.kind,
        plan.alias,
        plan.from_version,
        plan.to_version,
        plan.previous,
        changed,
        run_id,
        reason,
        dry_run,
        aliases,
    )


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
