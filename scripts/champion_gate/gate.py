"""One gate: find challenger and champion, gather the evidence, decide, and write the verdict."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from champion_gate import artifact_digest, conventions, lineage, verdict, verdict_json
from champion_gate.decision import BASELINE, CHAMPION, Basis, Decision, Outcome, decide, something_decides
from champion_gate.errors import BadInput, GateError, OutsideWorldFailed, Refused
from champion_gate.evidence import CHALLENGER, Gathered, Gatherer, Sources
from champion_gate.github import Context, annotate, log
from champion_gate.lineage import Entry
from champion_gate.policy import Policy
from champion_gate.registry import Model, Registry, Version
from champion_gate.release_log import ReleaseLog
from champion_gate.text import one_line

if TYPE_CHECKING:
    from champion_gate.per_query import Dataset, PerQuery
    from champion_gate.scoring import Options

REPORT = "report.html"
VERDICT = "verdict.json"
# Characters that a verdict holds as they are: of a metric's options, of all of them together, of a version's source.
_OPTIONS, _ALL_OPTIONS, _SOURCE = 200, 1000, 400


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
    baseline: Version | None = None
    dataset: Dataset | None = None
    """The judged queries; None where the run metrics decide."""
    per_query: PerQuery | None = None
    isolation: str | None = None
    """How the models were shut in, such as `sandbox (bubblewrap)`; None if none was scored."""
    entries: tuple[Entry, ...] = ()
    """The release log before this gate, newest first."""
    time: datetime = field(default_factory=lambda: datetime.now(timezone.utc))
    report: str = ""
    """Where the HTML report is, as `runs:/<gate run>/report.html`; empty if it could not be stored."""
    html: str = ""
    """The report itself."""
    artifacts_digest: str | None = None
    """SHA-256 of the model's files; None if they were not looked at."""
    promotable: bool = False
    """Whether promote-alias will take this verdict, as things are."""


@dataclass(frozen=True)
class Question:
    """What a gate is asked, beside the model and the policy.

    The version to judge is `number`, or else what `alias` names. `champion_number` is what the caller believes to be
    the champion, whose scores a table holds; empty asks for none in particular.
    """

    champion_alias: str
    alias: str = ""
    number: str = ""
    team: str = ""
    champion_number: str = ""
    pass_inconclusive: bool = False
    keys: tuple[str, ...] = ()
    """Signing keys; the first one signs the verdict."""
    hash_files: bool = False
    """Whether to hash the model's files though they are not needed for anything else."""


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
    question: Question,
    sources: Sources,
    scoring: Options | None,
) -> Judged:
    """Judge one version against the champion, and the baseline if the policy names one.

    Writes the verdict as a gate run in the release log, and as one tag of the version.

    Args:
        registry: where the model is.
        model_name: the registered model.
        policy: what the version must show.
        job: who asks.
        question: which version, against which alias.
        sources: the judged queries, if any.
        scoring: how models are run; may be None where `sources` names no evaluation data.

    Raises:
        BadInput: there is no such model, alias or version, nothing could decide, or the data cannot be used.
        Refused: another version is champion than the caller believes.
        OutsideWorldFailed: the registry or a storage did not answer; there is no verdict then.
    """
    model = registry.model(model_name)
    version = registry.version(model.name, question.number or resolve(model, question.alias, registry.uri))
    release_log = ReleaseLog.find(registry, model, question.team, version)
    champion = champion_of(registry, model, question.champion_alias, release_log)
    if champion is None:
        something_decides(policy)
    _as_believed(champion, question)
    if not sources.location:
        _nothing_better_known(model, version, champion, question.champion_alias)
    baseline = _baseline(registry, model, policy, version)
    against = [f"champion version {champion.number}" if champion else "the thresholds: there is no champion yet"]
    against += [f"baseline version {baseline.number}"] if baseline else []
    log(f"Judging version {version.number} of {model.name} against {' and '.join(against)}.")
    moves = release_log.moves()
    if version.number in lineage.quarantined(moves):
        said = f"Version {version.number} was rolled back before: whatever this verdict says, it is not promoted again."
        annotate("warning", "In quarantine", said)
    versions = {CHALLENGER: version, CHAMPION: champion, BASELINE: baseline}
    there = {who: each for who, each in versions.items() if each is not None}
    with tempfile.TemporaryDirectory(prefix="champion-gate-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        gathered = Gatherer(registry, release_log, policy, there, folder, _purpose(job)).gather(sources, scoring)
        files = gathered.artifacts_digest
        if files is None and question.hash_files:
            files = artifact_digest.of_folder(registry.download_model(version, folder))
        decision = decide(policy, gathered.evidence)
        judged = Judged(
            model,
            version,
            champion,
            policy,
            decision,
            _value(policy, gathered, CHALLENGER),
            _value(policy, gathered, CHAMPION),
            "",
            job,
            question.champion_alias,
            baseline,
            gathered.dataset,
            gathered.per_query,
            gathered.isolation,
            tuple(reversed(lineage.by_time(moves))),
            artifacts_digest=files,
        )
        return _record(registry, release_log.made(), judged, gathered, question, there, folder)


def _purpose(job: Context) -> Literal["release", "check"]:
    return "check" if job.is_pull_request else "release"


def _as_believed(champion: Version | None, question: Question) -> None:
    if question.champion_number and (champion is None or champion.number != question.champion_number):
        now = f"version {champion.number}" if champion else "no version"
        raise Refused(
            f"'{question.champion_alias}' names {now}, not version {question.champion_number}: nothing was judged.",
            "Somebody promoted or rolled back meanwhile, so what was measured is of another champion.",
            "Measure the challenger against the champion of now.",
        )


def _nothing_better_known(model: Model, version: Version, champion: Version | None, alias: str) -> None:
    """See that run metrics are not asked for a verdict that judged queries refused.

    Raises:
        Refused: they did, for this version against this champion.
    """
    tag = version.tags.get(verdict.tag_name(alias))
    if not tag:
        return
    try:
        before = verdict.parse(tag, alias)
    except Refused:
        return  # whatever the tag holds, it is no verdict
    same = (before.model.created, before.version, before.champion) == (
        model.created,
        judged_version(version),
        champion.number if champion else verdict.NONE,
    )
    if same and before.basis == Basis.QUERIES.value and before.outcome is not Outcome.PASSED:
        raise Refused(
            f"Version {version.number} was judged on queries already, and the verdict is {before.outcome.value}.",
            "Two run metrics are weaker evidence: they do not replace it, whatever they say.",
            "Give the gate judged queries again, or judge a new version.",
        )


def _baseline(registry: Registry, model: Model, policy: Policy, version: Version) -> Version | None:
    if policy.baseline is None:
        return None
    if policy.baseline.version == version.number:
        raise BadInput(
            f"Version {version.number} is the baseline itself.",
            "A version that is compared with itself always holds.",
            "Pin an earlier version as the baseline.",
        )
    return registry.version(model.name, policy.baseline.version)


def _value(policy: Policy, gathered: Gathered, who: str) -> float | None:
    """A side's value of the first metric."""
    metric, evidence = policy.metrics[0], gathered.evidence
    side = evidence.challenger if who == CHALLENGER else evidence.champion
    if side is None:
        return None
    if evidence.basis is Basis.POINT_ESTIMATE or metric.rank_metric is None:
        return side.metrics.get(metric.in_runs)
    figures = evidence.figures.get(metric.key)
    if figures is None:
        return None
    if who == CHALLENGER:
        return figures.challenger.mean if figures.challenger.n else None
    return figures.pairs[who].mean_p if who in figures.pairs else None


def _record(
    registry: Registry,
    release_log: ReleaseLog,
    judged: Judged,
    gathered: Gathered,
    question: Question,
    versions: Mapping[str, Version],
    folder: Path,
) -> Judged:
    """Write the gate run with its files, and last of all the verdict."""
    decision, version = judged.decision, judged.version
    table = gathered.per_query.write(folder) if gathered.per_query else None
    gate_run_id = release_log.write(
        "gate",
        lineage.OPEN,
        judged.champion_alias,
        judged.job,
        from_version=judged.champion.number if judged.champion else None,
        to_version=version.number,
        tags=_tags(judged, gathered, versions, table),
    )
    judged = replace(judged, gate_run_id=gate_run_id)
    try:
        document = _document(judged, question)
        judged = replace(judged, promotable=document.promotable and document.purpose == "release")
        judged = _store_files(registry, judged, document, table, folder)
        release_log.close(gate_run_id, lineage.DONE, _run_metrics(judged))
        # The verdict is the last write: whatever fails before it, there is none.
        tag = verdict.tag_name(judged.champion_alias)
        outcome_tags = {
            "gate.outcome": decision.outcome.value,
            tag: verdict.signed(document.canonical(), question.keys),
        }
        registry.set_version_tags(judged.model.name, version.number, outcome_tags)
    except BaseException:
        _give_up(release_log, gate_run_id)
        raise
    return judged


def _tags(judged: Judged, gathered: Gathered, versions: Mapping[str, Version], table: Path | None) -> dict[str, str]:
    decision, challenger = judged.decision, gathered.evidence.challenger
    found = {
        "gate.verdict": decision.outcome.value,
        "gate.reason": decision.reason,
        "gate.basis": decision.basis.value,
        "gate.policy_digest": judged.policy.digest(),
        "data.version": challenger.evaluation_data_version or challenger.data_version or "",
    }
    # The first of many slices are enough in tags; verdict.json has all checks.
    for i, check in enumerate(decision.checks[:40]):
        found[f"gate.check.{i}.{check.name}"] = f"{check.outcome.value}: {check.reason}"
    if gathered.dataset is not None and gathered.per_query is not None:
        from champion_gate import earlier_gates

        measured = {who: versions[who] for who in gathered.per_query.values}
        metrics = [metric for _, metric in judged.policy.rank_metrics()]
        of = earlier_gates.Asked(gathered.dataset.digest, metrics, gathered.scored_in, _purpose(judged.job))
        found |= earlier_gates.tags(of, measured, table)
        found[earlier_gates.ISOLATION_TAG] = judged.isolation or "none"
    return found


def _store_files(
    registry: Registry, judged: Judged, document: verdict.Verdict, table: Path | None, folder: Path
) -> Judged:
    """Store report, full verdict and per-query table with the gate run.

    They are for people, and for the next gate to save work: where the artifact store takes none, the verdict stands.
    """
    from champion_gate import html_report

    judged = replace(judged, report=f"runs:/{judged.gate_run_id}/{REPORT}")
    judged = replace(judged, html=html_report.render(judged))
    (folder / REPORT).write_text(judged.html, encoding="utf-8")
    (folder / VERDICT).write_text(verdict_json.full(document, judged), encoding="utf-8")
    try:
        for file in filter(None, (folder / VERDICT, table, folder / REPORT)):
            registry.log_artifact(judged.gate_run_id, file)
        if judged.dataset is not None:
            counts = {"queries": judged.dataset.queries, "documents": judged.dataset.documents}
            digest = judged.dataset.digest.removeprefix("sha256:")
            registry.log_dataset(judged.gate_run_id, judged.dataset.name, digest, judged.dataset.source, counts)
    except OutsideWorldFailed as error:
        annotate("warning", "Report not stored", f"The gate decided, but its files could not be stored. {error}")
        return replace(judged, report="")
    return judged


def _run_metrics(judged: Judged) -> dict[str, float]:
    """The figures of a gate, as metrics of its run; MLflow refuses '@' in their names."""
    found: dict[str, float] = {}
    for side, value in ((CHALLENGER, judged.metric), (CHAMPION, judged.champion_metric)):
        metric = judged.policy.metrics[0]
        name = metric.in_runs if judged.dataset is None else conventions.metric_name(metric.key)
        if value is not None:
            found[f"{side}.{name}"] = value
    for check in judged.decision.checks:
        e, name = check.estimate, conventions.metric_name(check.metric or "figure")
        if e is None or check.slice is not None:
            continue
        found |= {f"challenger.{name}": e.challenger, f"{check.name}.{name}": e.reference, f"queries.{name}": e.n}
        bounds = {"ratio": e.ratio, "ratio_lower": e.ratio_lower, "ratio_upper": e.ratio_upper}
        found |= {f"{check.name}.{name}.{key}": value for key, value in bounds.items() if value is not None}
    return found


def _give_up(release_log: ReleaseLog, gate_run_id: str) -> None:
    """Say in the log that this gate came to no verdict, if the registry still takes it."""
    release_log.registry.timeout = min(release_log.registry.timeout, 3.0)  # it has failed just now
    try:
        release_log.close(gate_run_id, lineage.UNDONE)
    except GateError as error:
        log(f"The gate's run {gate_run_id} could not be closed: {error}")


def _document(judged: Judged, question: Question) -> verdict.Verdict:
    decision, policy = judged.decision, judged.policy
    return verdict.Verdict(
        outcome=decision.outcome,
        basis=decision.basis.value,
        purpose=_purpose(judged.job),
        model=verdict.JudgedModel(name=judged.model.name, created=judged.model.created),
        version=judged_version(judged.version),
        alias=judged.champion_alias,
        champion=judged.champion.number if judged.champion else verdict.NONE,
        baseline=judged.baseline.number if judged.baseline else verdict.NONE,
        policy_digest=policy.digest(),
        dataset_digest=judged.dataset.digest if judged.dataset else None,
        metric_options={} if judged.dataset is None else _metric_options(policy),
        isolation=judged.isolation,
        promote_inconclusive=policy.promote_inconclusive and question.pass_inconclusive,
        repository=one_line(judged.job.repository, 200),
        commit=one_line(judged.job.commit, 64),
        time=judged.time,
        gate_run_id=judged.gate_run_id,
        artifacts_digest=judged.artifacts_digest,
        checks=tuple(
            verdict.CheckRecord(
                name=f"{c.name} {c.slice}" if c.slice else c.name,
                metric=c.metric,
                outcome=c.outcome,
                reason=c.reason,
                counts=c.counts,
            )
            for c in decision.checks
        ),
    )


def _metric_options(policy: Policy) -> dict[str, str]:
    """How each ranking metric was computed; those of very many as one digest, so that a tag can hold them."""
    texts = {
        metric.name: ", ".join(f"{key} {value}" for key, value in metric.options().items())
        for _, metric in policy.rank_metrics()
    }
    found = {name: text if len(text) <= _OPTIONS else _digest(text) for name, text in texts.items()}
    whole = json.dumps(texts, sort_keys=True)
    return found if len(json.dumps(found)) <= _ALL_OPTIONS else {"all": _digest(whole)}


def _digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def judged_version(version: Version) -> verdict.JudgedVersion:
    """What a verdict is bound to of a version. A long source is bound by its digest, so that the tag can hold it."""
    source = version.source
    if len(json.dumps(source)) - 2 > _SOURCE:  # as the tag spells it: in ASCII
        source = _digest(source)
    return verdict.JudgedVersion(number=version.number, created=version.created, run_id=version.run_id, source=source)
