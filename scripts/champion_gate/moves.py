"""Promotion and rollback: which move is allowed, and what it consists of. `move_writes` carries it out."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

from champion_gate import artifact_digest, conventions, holds, lineage, moving, verdict
from champion_gate.errors import BadInput, GateError, OutsideWorldFailed, Refused
from champion_gate.gate import champion_of, judged_version, resolve
from champion_gate.github import Context, annotate, log
from champion_gate.holds import Hold
from champion_gate.lineage import Entry
from champion_gate.move_writes import Moved, Plan, carry_out, version_tags
from champion_gate.moving import Rules, Turn
from champion_gate.registry import Model, Registry, Version
from champion_gate.release_log import HOLD_TAG, ReleaseLog
from champion_gate.text import one_line
from champion_gate.verdict import NONE


@dataclass(frozen=True)
class Approved:
    """Who let a release happen: a reviewer of the run's environment, or else whom the job names.

    `by_reviewer` is True only for a person other than who started the run; `comment` is what they wrote.
    """

    by: str
    by_reviewer: bool = False
    comment: str = ""
    environment: str = ""


@dataclass(frozen=True)
class Promotion:
    """What is to be promoted, and what its verdict must show.

    The version is `number`, or else what `from_alias` names. `keys` are the signing keys that are taken. With
    `override_reason` the verdict may be against it, and with `reinstate` the version may have been rolled back.
    """

    approved: Approved
    number: str = ""
    from_alias: str = conventions.CHALLENGER
    to_alias: str = conventions.CHAMPION
    previous_alias: str = ""
    expected: verdict.Expected = field(default_factory=verdict.Expected)
    max_age: timedelta = verdict.MAX_AGE
    keys: tuple[str, ...] = ()
    verify_artifacts: bool = False
    override_reason: str = ""
    reinstate: str = ""
    team: str = ""
    dry_run: bool = False


@dataclass(frozen=True)
class Rollback:
    """What is to be taken back, and how far: `steps` good releases, or to a version that was champion."""

    reason: str
    approved: Approved
    to_version: str = ""
    from_version: str = ""
    steps: int = 1
    champion_alias: str = conventions.CHAMPION
    hold: bool = False
    override_reason: str = ""
    team: str = ""
    dry_run: bool = False


def promote(registry: Registry, model_name: str, job: Context, asked: Promotion, rules: Rules) -> Moved:
    """Make a version champion, if its verdict says so.

    Raises:
        BadInput: there is no such model, version or alias.
        Refused: there is no passed verdict for this version and alias against the current champion, or the
            version is in quarantine, or the model is on hold, or somebody moved the alias by hand.
        OutsideWorldFailed: the registry or Redis failed, or another move is open.
    """
    with _turn(registry, model_name, asked.to_alias, job, rules, "promotion", asked.team, asked.dry_run) as turn:
        return _promote(registry, job, asked, turn, rules.expect_champion)


def _promote(registry: Registry, job: Context, asked: Promotion, turn: Turn, expected: str) -> Moved:
    model, release_log, entries = turn.model, turn.release_log, turn.entries
    from_alias, to_alias = asked.from_alias, asked.to_alias
    previous_alias = asked.previous_alias or conventions.previous_alias(to_alias)
    number = asked.number or model.aliases.get(from_alias) or _dropped(model, entries, from_alias, to_alias) or ""
    number = number or resolve(model, from_alias, registry.uri)
    champion = model.aliases.get(to_alias)
    if champion == number:
        run_id = next((e.run_id for e in reversed(lineage.finished(entries, to_alias)) if e.to_version == number), "")
        previous = model.aliases.get(previous_alias)
        reason = f"Version {number} is '{to_alias}' already."
        return Moved(model.name, "promotion", to_alias, previous, number, False, run_id, reason, asked.dry_run)
    _not_on_hold(model)
    _is_champion(to_alias, champion, expected)
    version = registry.version(model.name, number)
    if champion is None:
        champion_of(registry, model, to_alias, release_log)  # tells "gone" from "never released"
    _not_quarantined(entries, number, asked.reinstate)
    judged, why, override = _verdict(registry, model, version, champion or NONE, asked, job)
    if override:
        why = f"OVERRIDE by {asked.approved.by}: {override.rstrip('.')}. The verdict says: {why}"
        annotate("warning", "Override", f"Version {number} is promoted against its verdict. {why}")
    now = _now()
    run_tags = {
        "gate.from": champion or NONE,
        "gate.to": number,
        "gate.time": now,
        "gate.from_alias": from_alias,
        "gate.previous_alias": previous_alias,
        **_approval_tags(asked.approved),
        "gate.verdict": judged.outcome.value if judged else NONE,
        "gate.verdict_run": judged.gate_run_id if judged else "",
        "gate.policy_digest": judged.policy_digest if judged else "",
        "gate.basis": judged.basis if judged else "",
        "gate.override": override,
        "gate.reinstated": asked.reinstate,
        "gate.reason": why,
    }
    tags = version_tags("promotion", run_tags)
    marks = {"gate.override": override, "gate.reinstated": asked.reinstate}
    tags[number] |= {key: value for key, value in marks.items() if value}
    plan = Plan(
        "promotion",
        to_alias,
        champion,
        number,
        before={previous_alias: model.aliases.get(previous_alias), to_alias: champion},
        after={previous_alias: champion, to_alias: number} if champion else {to_alias: number},
        # A release that goes from one champion alias to the next stays what the first one serves.
        drop={} if from_alias in lineage.set_by_moves(entries) else {from_alias: number},
        version_tags=tags,
        run_tags=run_tags,
    )
    return carry_out(registry, release_log, plan, entries, job, turn.lease, dry_run=asked.dry_run)


def rollback(registry: Registry, model_name: str, job: Context, asked: Rollback, rules: Rules) -> Moved:
    """Take the champion back to the last good version, which needs no evaluation.

    Raises:
        BadInput: there is no such model, no champion, or nothing to go back to.
        Refused: the champion is not `from_version`, or the target was taken back itself or never was champion, or
            somebody moved the alias by hand.
        OutsideWorldFailed: the registry or Redis failed, or another move is open.
    """
    # Who names the champion that is bad knows what is there, whoever set it.
    rules = replace(rules, expect_champion=rules.expect_champion or asked.from_version)
    with _turn(registry, model_name, asked.champion_alias, job, rules, "rollback", asked.team, asked.dry_run) as turn:
        return _roll_back(registry, job, asked, turn, rules.expect_champion)


def _roll_back(registry: Registry, job: Context, asked: Rollback, turn: Turn, expected: str) -> Moved:
    model, entries = turn.model, turn.entries
    if again := _same_job(entries, asked.champion_alias, job):  # and who lifted the hold since, meant it
        said = f"This job took version {again.from_version} back already."
        return _moved_before(model, again, said, asked.dry_run)
    if not asked.hold or asked.dry_run:
        return _take_back(registry, job, asked, turn, expected)
    _set_hold(registry, model, job, asked.reason)  # first: whatever comes then, nothing is promoted
    try:
        return replace(_take_back(registry, job, asked, turn, expected), hold=True)
    except GateError as error:
        why = f"{error.why} Promotions are on hold, as you asked.".strip()
        raise type(error)(error.what, why, error.do) from error


def _take_back(registry: Registry, job: Context, asked: Rollback, turn: Turn, expected: str) -> Moved:
    model, release_log, entries = turn.model, turn.release_log, turn.entries
    champion_alias, from_version, to_version = asked.champion_alias, asked.from_version, asked.to_version
    serving = model.aliases.get(champion_alias)
    bad = registry.find_version(model.name, serving) if serving else None  # None, too, if deleted under its alias
    if not release_log.team:
        release_log = ReleaseLog.find(registry, model, asked.team, bad)
    previous_alias = _previous_alias(entries, champion_alias)
    if again := _finished_for_another(entries, turn.settled, asked, serving):
        said = f"{one_line(again.actor, 80)} had begun to take version {again.from_version} back; that is finished now."
        return _moved_before(model, again, said, asked.dry_run)
    if serving is None:
        champion_of(registry, model, champion_alias, release_log)  # tells "gone" from "never released"
    champion = resolve(model, champion_alias, registry.uri, "Nothing was released under it yet.")
    for named_version in (from_version, expected):
        _is_champion(champion_alias, champion, named_version)
    target: str | None = to_version
    good: Version | None = None
    if not target:
        before = lineage.champions_before(entries, champion_alias, champion)
        good = _nth_good(registry, model.name, before, asked.steps)
        target = good.number if good else None
    if not target and asked.steps == 1 and not lineage.finished(entries, champion_alias):
        target = model.aliases.get(previous_alias)
    if not target or target == champion:
        steps = f" {asked.steps} steps" if asked.steps > 1 else ""
        raise BadInput(
            f"There is nothing to go back{steps} to: version {champion} is '{champion_alias}', "
            + ("and to-version is the same." if to_version else "and no good release before it is known."),
            "Neither the release log nor an alias names an earlier champion that was not taken back.",
            "Name a version with to-version, or promote a new one.",
        )
    named = good or registry.version(model.name, target)
    override = _override(entries, model, champion_alias, previous_alias, target, asked)
    _not_taken_back(entries, target)
    if to_version and not _has_files(registry, named):
        raise Refused(
            f"Nothing is left of the files of version {target}: it cannot be served.",
            "They were deleted from the artifact store, though the registry still knows the version.",
            "Leave to-version out, and the last good release that has its files is taken.",
        )
    before_target = lineage.champions_before(entries, champion_alias, target)
    further = next((n for n in before_target if n != champion and registry.find_version(model.name, n)), None)
    after: dict[str, str | None] = {previous_alias: further, champion_alias: target}
    if bad is not None:
        after[conventions.rolled_back_alias(champion_alias)] = champion
    run_tags = {
        "gate.from": champion,
        "gate.to": target,
        "gate.from_there": str(bad is not None).lower(),
        "gate.time": _now(),
        "gate.reason": asked.reason,
        "gate.previous_alias": previous_alias,
        "gate.hold": str(asked.hold).lower(),
        "gate.override": override,
        **_approval_tags(asked.approved),
    }
    plan = Plan(
        "rollback",
        champion_alias,
        champion,
        target,
        before={alias: model.aliases.get(alias) for alias in after},
        after=after,
        drop={},
        version_tags=version_tags("rollback", run_tags),
        run_tags=run_tags,
    )
    return carry_out(registry, release_log, plan, entries, job, turn.lease, dry_run=asked.dry_run)


def release_hold(
    registry: Registry,
    model_name: str,
    job: Context,
    reason: str,
    rules: Rules,
    team: str = "",
    *,
    dry_run: bool = False,
) -> str:
    """Lift the hold of a model, and write so into its release log; returns what the hold said, or an empty text.

    A dry run only says it.

    Raises:
        BadInput: there is no such model.
        OutsideWorldFailed: the registry or Redis failed.
    """
    model = registry.model(model_name)
    if dry_run:
        return holds.parse(model.tags[HOLD_TAG]).sentence() if HOLD_TAG in model.tags else ""
    with moving.leased(registry, model, job, rules, "hold release"):
        model = registry.model(model_name)
        tag = model.tags.get(HOLD_TAG)
        if tag is None:
            return ""
        said = holds.parse(tag).sentence()
        release_log = ReleaseLog.find(registry, model, team).made()
        tags = {"gate.reason": reason, "gate.held": said}
        run_id = release_log.write("hold release", lineage.OPEN, "", job, from_version=None, to_version=None, tags=tags)
        registry.delete_model_tag(model.name, HOLD_TAG)
        release_log.close(run_id, lineage.DONE)
        log(f"The hold on {model.name} is lifted.")
        return said


def _turn(
    registry: Registry, name: str, alias: str, job: Context, rules: Rules, operation: str, team: str, dry_run: bool
) -> AbstractContextManager[Turn]:
    if dry_run:
        return nullcontext(moving.look(registry, name, team))
    return moving.turn(registry, name, alias, job, rules, operation, team)


def _set_hold(registry: Registry, model: Model, job: Context, reason: str) -> None:
    if HOLD_TAG not in model.tags:
        registry.set_model_tag(model.name, HOLD_TAG, Hold(job.actor, _now(), reason).text())
        annotate("warning", "On hold", f"Nothing of '{model.name}' is promoted until somebody lifts the hold.")


def _not_on_hold(model: Model) -> None:
    if (hold := model.tags.get(HOLD_TAG)) is not None:  # an empty one, too: whoever set it meant it
        raise Refused(
            f"Promotions of '{one_line(model.name, 120)}' are on hold.",
            holds.parse(hold).sentence().rstrip(".") + ".",
            "Ask them; it is lifted by rollback with release-hold.",
        )


def _not_quarantined(entries: Sequence[Entry], number: str, reinstate: str = "") -> None:
    if (bad := lineage.quarantined(entries).get(number)) and not reinstate:
        raise _quarantine(
            bad,
            "Whatever a gate says, it is not promoted again. Train and register a new version, or say with reinstate "
            "why this one is good after all.",
        )


def _not_taken_back(entries: Sequence[Entry], target: str) -> None:
    if bad := lineage.quarantined(entries).get(target):
        raise _quarantine(bad, "Name another version, or promote this one by promote-alias with reinstate.")


def _quarantine(bad: Entry, do: str) -> Refused:
    return Refused(
        f"Version {bad.from_version} is in quarantine: it was rolled back by {one_line(bad.actor, 80)}.",
        f"The reason was: {one_line(bad.reason, 500).rstrip('.')}.",
        do,
    )


def _nth_good(registry: Registry, name: str, versions: Sequence[str], n: int) -> Version | None:
    """The n-th of the versions that can be served, from 1 on."""
    left = n
    for number in versions:
        version = registry.find_version(name, number)
        if version is None:
            continue
        if not _has_files(registry, version):
            annotate("warning", "Files gone", f"Nothing is left of the files of version {number}: it is passed over.")
            continue
        left -= 1
        if not left:
            return version
    return None


def _has_files(registry: Registry, version: Version) -> bool:
    """Whether the version's files are there, as far as can be told from here.

    Where the store is out of this job's reach, a champion that is known to be bad goes all the same: its predecessor
    was served before.
    """
    try:
        return registry.has_files(version)
    except OutsideWorldFailed as error:
        said = f"Whether the files of version {version.number} are still there was not seen. {error}"
        annotate("warning", "Files not seen", said)
        return True


def _previous_alias(entries: Sequence[Entry], alias: str) -> str:
    """The alias that the last promotion kept the champion before under."""
    kept = [e.previous_alias for e in lineage.finished(entries, alias) if e.previous_alias]
    return kept[-1] if kept else conventions.previous_alias(alias)


def _override(
    entries: Sequence[Entry], model: Model, alias: str, previous_alias: str, target: str, asked: Rollback
) -> str:
    """A rollback goes to what served before: else why it is overridden; empty where it need not be.

    Where the log knows nothing yet, a person's word must do.
    """
    known = lineage.ever_champion(entries, alias)
    if not known or target in known or model.aliases.get(previous_alias) == target:
        return ""
    if asked.override_reason:
        if not asked.approved.by_reviewer:
            raise _no_reviewer()
        annotate("warning", "Override", f"Version {target} never was '{alias}'. {asked.override_reason}")
        return asked.override_reason
    raise Refused(
        f"Version {target} never was '{alias}': that would be a promotion without a gate.",
        f"The release log knows: {', '.join(sorted(known, key=int))}.",
        "Use validate-model and promote-alias for it.",
    )


def _approval_tags(approved: Approved) -> dict[str, str]:
    return {
        "gate.approved_by": approved.by,
        "gate.approved_by_reviewer": str(approved.by_reviewer).lower(),
        "gate.approval_comment": approved.comment,
        "gate.approval_environment": approved.environment,
    }


def _is_champion(alias: str, champion: str | None, named: str) -> None:
    """See that the version that the caller named as champion is it, if they named one."""
    if named and named != champion:
        raise Refused(
            f"'{alias}' is version {champion or NONE}, not {named}: nothing was moved.",
            "Somebody promoted or rolled back meanwhile, or another number was meant.",
            "Look at `history`, and ask again for the version that is champion now.",
        )


def _no_reviewer() -> Refused:
    return Refused(
        "override-reason is given, and nobody else than who started this run approved it.",
        "A verdict is overridden only with an approval by another person, a reviewer of the job's environment.",
        "Put this step into a job with an `environment:` that has required reviewers, and give it a github-token with "
        "`actions: read`.",
    )


def _verdict(
    registry: Registry, model: Model, version: Version, champion: str, asked: Promotion, job: Context
) -> tuple[verdict.Verdict | None, str, str]:
    """The verdict, what it rests on or what is against it, and why it is overridden: empty where it allows this."""
    try:
        judged = _passed_verdict(registry, model, version, champion, asked)
    except Refused as refused:
        if not asked.override_reason or job.is_pull_request:
            raise
        overridden = _readable_verdict(version, asked)
        if overridden is not None and overridden.purpose != "release":
            raise  # what a pull request judged is promoted by nobody
        if not asked.approved.by_reviewer:
            raise _no_reviewer() from refused
        return overridden, f"{refused.what} {refused.why}", asked.override_reason
    files = judged.artifacts_digest if asked.verify_artifacts else None  # `_passed_verdict` compared them
    unverified = replace(asked.expected, artifacts_digest=files).unverified(judged)
    if not asked.keys and verdict.is_signed(version.tags[verdict.tag_name(asked.to_alias)]):
        unverified.append("signature (no signing-key is given)")
    if unverified:
        log(f"Recorded, not verified: {', '.join(unverified)}.")
    return judged, " ".join(check.reason for check in judged.checks if check.counts), ""


def _readable_verdict(version: Version, asked: Promotion) -> verdict.Verdict | None:
    """The verdict that is overridden, for the log; None where there is none that this promotion can rely on."""
    try:
        return verdict.parse(version.tags.get(verdict.tag_name(asked.to_alias), ""), asked.to_alias, asked.keys)
    except Refused:
        return None


def _passed_verdict(
    registry: Registry, model: Model, version: Version, champion: str, asked: Promotion
) -> verdict.Verdict:
    alias = asked.to_alias
    tag = version.tags.get(verdict.tag_name(alias))
    if not tag:
        raise Refused(
            f"Version {version.number} of '{one_line(model.name, 120)}' has no verdict against '{alias}'.",
            "Only a version that a gate has passed is promoted.",
            "Run validate-model on it first.",
        )
    judged = verdict.parse(tag, alias, asked.keys)
    facts = verdict.Facts(
        verdict.JudgedModel(name=model.name, created=model.created),
        judged_version(version),
        alias,
        champion,
        judged.baseline == NONE or registry.find_version(model.name, judged.baseline) is not None,
    )
    expected = asked.expected
    if asked.verify_artifacts:
        with tempfile.TemporaryDirectory(prefix="champion-gate-", ignore_cleanup_errors=True) as folder:
            now = artifact_digest.of_folder(registry.download_model(version, Path(folder)))
        expected = replace(expected, artifacts_digest=now)
    if found := verdict.objections(judged, facts, datetime.now(timezone.utc), expected, asked.max_age):
        raise Refused(
            f"The verdict of version {version.number} does not allow this promotion:",
            "; ".join(found) + ".",
            "Run validate-model in a workflow that no pull request started, and promote that verdict."
            if judged.purpose == "check"
            else "Run validate-model again, if things have changed since.",
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


def _finished_for_another(
    entries: Sequence[Entry], settled: frozenset[str], asked: Rollback, serving: str | None
) -> Entry | None:
    """The rollback that another job left open and this one just finished, if it is what is asked for here, too.

    Who saw the bad champion, and asks to take it back after a job that did so was killed, does not mean the good one.
    """
    last = lineage.expected(entries, asked.champion_alias)
    if last is None or last.kind != "rollback" or last.run_id not in settled or last.to_version != serving:
        return None
    if asked.from_version not in ("", last.from_version) or asked.to_version not in ("", last.to_version):
        return None
    if asked.steps > 1:
        raise Refused(
            f"A rollback from version {last.from_version} to {last.to_version} was open, and is finished now.",
            f"Whether {asked.steps} steps are meant from there or from here cannot be told.",
            f"See whether version {last.to_version} is good; if not, ask again.",
        )
    return last


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
