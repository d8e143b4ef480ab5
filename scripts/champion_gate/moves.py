"""Promotion and rollback: which move is allowed, and what it consists of. `move_writes` carries it out."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timezone

from champion_gate import conventions, lineage, verdict
from champion_gate.errors import BadInput, Refused
from champion_gate.gate import champion_of, judged_version, resolve
from champion_gate.github import Context
from champion_gate.lineage import Entry
from champion_gate.move_writes import Moved, Plan, carry_out, no_open_move
from champion_gate.registry import Model, Registry, Version
from champion_gate.release_log import HOLD_TAG, ReleaseLog
from champion_gate.text import one_line
from champion_gate.verdict import NONE


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
    no_open_move(registry, model)
    entries = release_log.moves()
    number = number or model.aliases.get(from_alias) or _dropped(model, entries, from_alias, to_alias) or ""
    number = number or resolve(model, from_alias, registry.uri)
    champion = model.aliases.get(to_alias)
    if champion == number:
        run_id = next((e.run_id for e in reversed(lineage.finished(entries, to_alias)) if e.to_version == number), "")
        previous = model.aliases.get(previous_alias)
        reason = f"Version {number} is '{to_alias}' already."
        return Moved(model.name, "promotion", to_alias, previous, number, False, run_id, reason, dry_run)
    _not_on_hold(model)
    version = registry.version(model.name, number)
    champion_version = champion_of(registry, model, to_alias, release_log)
    _not_quarantined(entries, number)
    judged = _passed_verdict(model, version, champion_version, to_alias)
    now = _now()
    approved = approved_by or job.actor
    plan = Plan(
        "promotion",
        to_alias,
        champion,
        number,
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
            "gate.basis": judged.basis,
            "gate.reason": " ".join(check.reason for check in judged.checks),
        },
    )
    return carry_out(registry, release_log, plan, entries, job, dry_run)


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
    no_open_move(registry, model)
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
    plan = Plan(
        "rollback",
        champion_alias,
        champion,
        target,
        before={alias: model.aliases.get(alias) for alias in after},
        after=after,
        drop={},
        version_tags=version_tags,
        run_tags={"gate.reason": reason, "gate.previous_alias": previous_alias},
    )
    return carry_out(registry, release_log, plan, entries, job, dry_run)


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
        False,
        entry.run_id,
        reason,
        dry_run,
    )


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="seconds")
