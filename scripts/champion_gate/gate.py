"""One gate: find challenger and champion, gather the evidence, decide, and write the verdict."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timezone

from champion_gate import evidence, lineage, verdict
from champion_gate.decision import Decision, decide, something_decides
from champion_gate.errors import BadInput, GateError, OutsideWorldFailed
from champion_gate.github import Context, annotate, log
from champion_gate.policy import Policy
from champion_gate.registry import Model, Registry, Version
from champion_gate.release_log import ReleaseLog
from champion_gate.text import one_line


@dataclass(frozen=True)
class Judged:
    """What a gate came to, and where it stands."""

    model: Model
    version: Version
    champion: Version | None
    policy: Policy
    decision: Decision
    metric: float | None
    champion_metric: float | None
    gate_run_id: str
    job: Context
    champion_alias: str


def resolve(
    model: Model, alias: str, registry_uri: str, do: str = "Run train-and-register first, or name a version."
) -> str:
    """The number of the version that `alias` names.

    Raises:
        BadInput: the model has no such alias; says which it has, and what to `do`.
    """
    number = model.aliases.get(alias)
    if number is None:
        there = ", ".join(f"{name} (version {n})" for name, n in sorted(model.aliases.items()))
        raise BadInput(
            f"'{one_line(model.name, 120)}' at {registry_uri} has no alias '{alias}'.",
            f"It has: {one_line(there)}." if there else "It has no aliases.",
            do,
        )
    return number


def champion_of(registry: Registry, model: Model, alias: str, log_of_model: ReleaseLog) -> Version | None:
    """The champion, or None at a first release.

    "No champion" is only: the registry answered that the model has no such alias, and the log knows of no move of it.

    Raises:
        OutsideWorldFailed: it was released before, but the alias is gone or dangles.
    """
    number = model.aliases.get(alias)
    if number is None:
        moves = lineage.finished(log_of_model.moves(), alias)
        if not moves:
            return None
        raise OutsideWorldFailed(
            f"Champion missing: '{one_line(model.name, 120)}' has no alias '{alias}', though version "
            f"{moves[-1].to_version} was released under it.",
            "Somebody deleted the alias; this is no first release.",
            f"Set the alias '{alias}' again by hand (to version {moves[-1].to_version}, if that is what should serve).",
        )
    champion = registry.find_version(model.name, number)
    if champion is None:
        raise OutsideWorldFailed(
            f"Champion missing: the alias '{alias}' names version {number}, which was deleted.",
            "Older MLflow servers leave such aliases behind.",
            f"Set the alias '{alias}' to a version that exists.",
        )
    return champion


def decidable(registry: Registry, model_name: str, policy: Policy, champion_alias: str) -> None:
    """See before a training that a gate could decide on what comes of it.

    Raises:
        BadInput: there is neither a champion nor a threshold.
        OutsideWorldFailed: the champion is missing, or the registry did not answer.
    """
    model = registry.find_model(model_name)
    champion = champion_of(registry, model, champion_alias, ReleaseLog.find(registry, model)) if model else None
    if champion is None:
        something_decides(policy)


def validate(
    registry: Registry,
    model_name: str,
    policy: Policy,
    job: Context,
    *,
    champion_alias: str,
    alias: str = "",
    number: str = "",
    team: str = "",
) -> Judged:
    """Judge one version, given by `number` or else by `alias`, against what `champion_alias` names.

    Writes the verdict as a gate run in the release log, and as one tag of the version.

    Raises:
        BadInput: there is no such model, alias or version, or nothing could decide.
        OutsideWorldFailed: the registry did not answer; there is no verdict then.
    """
    model = registry.model(model_name)
    version = registry.version(model.name, number or resolve(model, alias, registry.uri))
    release_log = ReleaseLog.find(registry, model, team, version)
    champion = champion_of(registry, model, champion_alias, release_log)
    log(
        f"Judging version {version.number} of {model.name} against "
        + (f"champion version {champion.number}." if champion else "the thresholds: there is no champion yet.")
    )
    if version.number in lineage.quarantined(release_log.moves()):
        said = f"Version {version.number} was rolled back before: whatever this verdict says, it is not promoted again."
        annotate("warning", "In quarantine", said)
    figures = evidence.from_runs(registry, version, champion)
    decision = decide(policy, figures)
    metric = policy.metrics[0].name
    value = figures.challenger.metrics.get(metric)
    champion_value = figures.champion.metrics.get(metric) if figures.champion else None

    release_log = release_log.made()
    data_version = figures.challenger.evaluation_data_version or figures.challenger.data_version
    gate_run_id = release_log.write(
        "gate",
        lineage.OPEN,
        champion_alias,
        job,
        from_version=champion.number if champion else None,
        to_version=version.number,
        tags={
            "gate.verdict": decision.outcome.value,
            "gate.reason": decision.reason,
            "gate.basis": decision.basis.value,
            "gate.policy_digest": policy.digest(),
            "data.version": data_version or "",
            **{f"gate.check.{i}.{c.name}": f"{c.outcome.value}: {c.reason}" for i, c in enumerate(decision.checks)},
        },
    )
    try:
        logged = {f"{who}.{metric}": v for who, v in (("challenger", value), ("champion", champion_value))}
        release_log.close(gate_run_id, lineage.DONE, {key: v for key, v in logged.items() if v is not None})
        document = _document(model, version, champion, champion_alias, policy, decision, job, gate_run_id)
        # The verdict is the last write: whatever fails before it, there is none.
        outcome_tags = {"gate.outcome": decision.outcome.value, verdict.tag_name(champion_alias): document.canonical()}
        registry.set_version_tags(model.name, version.number, outcome_tags)
    except BaseException:
        _give_up(release_log, gate_run_id)
        raise
    return Judged(model, version, champion, policy, decision, value, champion_value, gate_run_id, job, champion_alias)


def _give_up(release_log: ReleaseLog, gate_run_id: str) -> None:
    """Say in the log that this gate came to no verdict, if the registry still takes it."""
    release_log.registry.timeout = min(release_log.registry.timeout, 3.0)  # it has failed just now
    try:
        release_log.close(gate_run_id, lineage.UNDONE)
    except GateError as error:
        log(f"The gate's run {gate_run_id} could not be closed: {error}")


def _document(
    model: Model,
    version: Version,
    champion: Version | None,
    alias: str,
    policy: Policy,
    decision: Decision,
    job: Context,
    gate_run_id: str,
) -> verdict.Verdict:
    return verdict.Verdict(
        outcome=decision.outcome,
        basis=decision.basis.value,
        purpose="check" if job.is_pull_request else "release",
        model=verdict.JudgedModel(name=model.name, created=model.created),
        version=judged_version(version),
        alias=alias,
        champion=champion.number if champion else verdict.NONE,
        policy_digest=policy.digest(),
        dataset_digest=None,
        metric_options={},
        repository=one_line(job.repository, 200),
        commit=one_line(job.commit, 64),
        time=datetime.now(timezone.utc),
        gate_run_id=gate_run_id,
        checks=tuple(
            verdict.CheckRecord(name=c.name, metric=c.metric, outcome=c.outcome, reason=c.reason)
            for c in decision.checks
        ),
    )


def judged_version(version: Version) -> verdict.JudgedVersion:
    """What a verdict is bound to of a version. A long source is bound by its digest, so that the tag can hold it."""
    source = version.source
    if len(source) > 400:
        source = "sha256:" + hashlib.sha256(source.encode()).hexdigest()
    return verdict.JudgedVersion(number=version.number, created=version.created, run_id=version.run_id, source=source)
