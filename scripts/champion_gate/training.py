"""One training: open the run, run the command, end the run, register what it logged, move the challenger.

Whatever happens to the command, its run ends FINISHED, FAILED or KILLED.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from champion_gate import conventions, lineage, moving, signals, training_command
from champion_gate.errors import BadInput, Cancelled, GateError, TrainingFailed
from champion_gate.github import Context, annotate, log
from champion_gate.moving import Rules
from champion_gate.registry import OPERATION_ID, Experiment, Logged, Model, NotPermitted, Registry, Run, Version
from champion_gate.release_log import ReleaseLog
from champion_gate.text import one_line
from champion_gate.training_command import Command, Ended

# What remains of GitHub's 7.5 s after the command's own grace.
_CANCEL_SECONDS = 3.0


@dataclass(frozen=True)
class Request:
    """What to train and how to register it; texts as given, empty where not."""

    experiment_name: str
    model_name: str
    data_version: str
    owner: str
    team: str = ""
    run_name: str = ""
    evaluation_data_version: str = ""
    environment: str = "ci"
    purpose: str = "training"
    training_data: str = ""
    tags: Mapping[str, str] | None = None
    description: str = ""
    metric: str = conventions.DEFAULT_METRIC
    logged_model: str = ""
    alias: str = conventions.CHALLENGER
    timeout: float | None = None


@dataclass(frozen=True)
class Trained:
    """The run, and the version registered from it."""

    run_id: str
    model_name: str
    version: str
    metric: str
    value: float | None
    alias: str

    @property
    def model_uri(self) -> str:
        """The version as MLflow loads it."""
        return f"models:/{self.model_name}/{self.version}"


def train(
    registry: Registry,
    request: Request,
    job: Context,
    command: Command,
    rules: Rules,
) -> Trained:
    """Train and register one version.

    Args:
        registry: where runs and versions go.
        request: names, tags, what to register.
        job: who asks for it, on which commit.
        command: the training command, with the caller's environment: it gets that, less CHAMPION_GATE_*, plus
            MLflow's variables.
        rules: how it gets its turn to point the alias.

    Raises:
        BadInput: a name is not well formed, or the command logged no model, or several.
        TrainingFailed: the command failed or ran out of time.
        Cancelled: SIGINT or SIGTERM; the run is KILLED then.
    """
    parts = conventions.experiment_name(request.experiment_name)
    team = conventions.team_name(request.team or parts.team)
    model_name = conventions.readable_model_name(request.model_name)
    metric = conventions.metric_name(request.metric)
    alias = request.alias if request.alias == conventions.NO_ALIAS else conventions.training_alias(request.alias)
    # Before hours of training, not after them.
    model = _own_model(registry, model_name, team)
    if model is None:
        conventions.new_model_name(model_name)
    else:
        _not_of_a_release(ReleaseLog.find(registry, model, team), alias)
    if model is not None and (problem := conventions.model_name_problem(model_name)):
        annotate("warning", "Model name", f"{conventions.MODEL_NAME_RULE} In '{model_name}' {problem}")
    experiment = registry.ensure_experiment(request.experiment_name)

    run = _trained_run(registry, experiment, request, _run_tags(request, team, job), command)

    version, value = _registered(registry, model_name, run, request, team, job, metric)
    if alias != conventions.NO_ALIAS:
        with moving.leased(registry, registry.model(model_name), job, rules, "training"):
            registry.set_alias(model_name, alias, version.number)
    return Trained(run.id, model_name, version.number, metric, value, "" if alias == conventions.NO_ALIAS else alias)


def _own_model(registry: Registry, model_name: str, team: str) -> Model | None:
    """The model, or None if there is none.

    A server that shows nobody what belongs to others (`default_permission = NO_PERMISSIONS`) says 403 of a model that
    does not exist, too. To make it is the only way to tell.
    """
    try:
        return registry.find_model(model_name)
    except NotPermitted:
        conventions.new_model_name(model_name)
        if not registry.create_model(model_name, {"team": team}, ""):
            raise
        return registry.find_model(model_name)


def _not_of_a_release(release_log: ReleaseLog, alias: str) -> None:
    """Refuse to move by training what promotions and rollbacks move: that would be a release without a gate."""
    if alias in (conventions.NO_ALIAS, conventions.CHALLENGER):
        return
    champions = {move.alias for move in lineage.finished(release_log.moves())}
    kept = {conventions.previous_alias(a) for a in champions} | {conventions.rolled_back_alias(a) for a in champions}
    if alias in champions | kept:
        raise BadInput(
            f"alias '{alias}' is not moved by training.",
            "The release log knows it as the alias of a release, and only promote-alias and rollback move it.",
            "Use 'challenger' (the default), another name, or 'none'.",
        )


def _run_tags(request: Request, team: str, job: Context) -> dict[str, str]:
    return {
        **(request.tags or {}),
        "team": team,
        "owner": request.owner,
        "git.commit": job.commit,
        "git.branch": job.branch,
        "git.repository": job.repository,
        "workflow.run_url": job.run_url,
        "workflow.actor": job.actor,
        "data.version": request.data_version,
        "environment": request.environment,
        "purpose": request.purpose,
        **({"evaluation.data.version": request.evaluation_data_version} if request.evaluation_data_version else {}),
        **({"training.data": request.training_data} if request.training_data else {}),
        **({"mlflow.note.content": request.description} if request.description else {}),
        # What MLflow's own client would set from the script.
        "mlflow.source.type": "PROJECT",
        "mlflow.source.git.commit": job.commit,
        "mlflow.user": job.actor,
    }


def _environment(caller: Mapping[str, str], run: Run, experiment: Experiment) -> dict[str, str]:
    environment = {key: value for key, value in caller.items() if not key.startswith("CHAMPION_GATE_")}
    # An id of another experiment beside our name would be refused by MLflow.
    environment.pop("MLFLOW_EXPERIMENT_ID", None)
    return {**environment, "MLFLOW_RUN_ID": run.id, "MLFLOW_EXPERIMENT_NAME": experiment.name}


def _trained_run(
    registry: Registry,
    experiment: Experiment,
    request: Request,
    tags: Mapping[str, str],
    command: Command,
) -> Run:
    """Open the run, run the command in it, and end it; returns the run as the command left it."""
    operation_id = uuid.uuid4().hex
    run, status, cancelled = None, "FAILED", False
    try:
        run = registry.create_run(experiment.id, request.run_name, {**tags, OPERATION_ID: operation_id})
        log(f"Run {run.id} in {experiment.name}: {one_line(' '.join(command.argv), 300)}")
        environment = _environment(command.environment, run, experiment)
        ended = training_command.run(replace(command, environment=environment), request.timeout)
        after = registry.find_run(run.id) if ended.exit_code == 0 else None
        if ended.timed_out:
            status = "KILLED"
        elif after is not None and after.status not in ("FAILED", "KILLED"):
            status = "FINISHED"
    except Cancelled:
        status, cancelled = "KILLED", True
        registry.timeout = min(registry.timeout, _CANCEL_SECONDS)
        raise
    finally:
        with signals.deferred():
            _end_run(registry, experiment, run, operation_id, status, wait=cancelled)
    if after is None or status != "FINISHED":
        raise _failure(ended, run, experiment, request.timeout)
    return after


def _end_run(
    registry: Registry, experiment: Experiment, run: Run | None, operation_id: str, status: str, *, wait: bool
) -> None:
    """End the run; one whose creation was cut short is looked for, since the server may have made it all the same."""
    deadline = time.monotonic() + (_CANCEL_SECONDS if wait else 0)
    try:
        runs = [run] if run else registry.search_runs(experiment.id, f"tags.`{OPERATION_ID}` = '{operation_id}'")
        while not runs and time.monotonic() < deadline:
            time.sleep(0.2)
            runs = registry.search_runs(experiment.id, f"tags.`{OPERATION_ID}` = '{operation_id}'")
        for each in runs:
            registry.end_run(each.id, status)
    except GateError as error:
        named = f"The run {run.id}" if run else "A run that this job may have opened"
        annotate("warning", "Run left open", f"{named} could not be ended as {status}: {error}")


def _failure(ended: Ended, run: Run, experiment: Experiment, timeout: float | None) -> TrainingFailed:
    if ended.timed_out:
        return TrainingFailed(
            f"The training command ran longer than {timeout:g} s and was ended.",
            f"Its run {run.id} is KILLED; nothing was registered.",
            "Raise the input 'timeout', or train less.",
        )
    if "does not match environment run ID" in ended.error_tail:
        return TrainingFailed(
            "The training script sets another experiment than the one it was given.",
            f"The run was opened in '{one_line(experiment.name, 120)}', and set_experiment() in the script names "
            "another; MLflow refuses to go on.",
            "Leave set_experiment() out of the script (MLFLOW_EXPERIMENT_NAME is set for it), or give its name as "
            "experiment-name.",
        )
    if ended.exit_code == 0:
        return TrainingFailed(
            "The training command said that all is well, but its run is marked FAILED.",
            f"The script caught an exception after MLflow had seen it (run {run.id}); nothing was registered.",
            "Let the script end with an error when training fails.",
        )
    how = f"signal {-ended.exit_code}" if ended.exit_code < 0 else f"exit code {ended.exit_code}"
    return TrainingFailed(
        f"The training command failed with {how}.",
        f"Its run {run.id} is FAILED; nothing was registered.",
        "See its output above.",
    )


def _registered(
    registry: Registry, model_name: str, run: Run, request: Request, team: str, job: Context, metric: str
) -> tuple[Version, float | None]:
    """The version that the script registered itself, or a new one of what it logged, tagged; and its metric."""
    runs = [run, *_descendants(registry, run)]
    own = [v for r in runs for v in _versions_of(registry, model_name, r)]
    if len(own) > 1 and request.logged_model:
        own = [v for v in own if request.logged_model in (v.number, v.source.rstrip("/").rpartition("/")[2])] or own
    if len(own) > 1:
        raise BadInput(
            f"The command registered {len(own)} versions of '{one_line(model_name, 120)}': "
            f"{', '.join(v.number for v in own)}.",
            "One of them must be the challenger, and nothing says which.",
            "Register one only, or name its number in 'logged-model'.",
        )
    chosen = None if own else _chosen(registry, runs, request.logged_model, model_name)
    source_run = next((r for r in runs if r.id == (own[0].run_id if own else chosen.run_id if chosen else "")), run)
    value = source_run.metrics.get(metric, run.metrics.get(metric))
    tags = {
        **(request.tags or {}),
        "training_data": request.training_data or request.data_version,
        "training_commit": job.commit,
        **({"validation_ndcg": repr(value)} if value is not None else {}),
    }
    if value is None:
        had = ", ".join(sorted(run.metrics)[:20]) or "none"
        annotate(
            "warning",
            "Metric missing",
            f"The run logged no metric {metric}, which a gate without judged queries asks for; it has: {had}.",
        )
    if chosen is None:
        log(f"The command registered version {own[0].number} itself.")
        _team_tag(registry, model_name, team)
        registry.set_version_tags(model_name, own[0].number, tags)
        return own[0], value
    registry.create_model(model_name, {"team": team}, "")
    _team_tag(registry, model_name, team)
    version = registry.create_version(model_name, chosen, tags, request.description, uuid.uuid4().hex)
    log(f"Registered version {version.number} of {model_name} from {chosen.source}.")
    return version, value


def _team_tag(registry: Registry, model_name: str, team: str) -> None:
    """The model's team is where its release log stands: set where missing, never changed."""
    model = registry.model(model_name)
    if "team" not in model.tags:
        registry.set_model_tag(model_name, "team", team)
    elif model.tags["team"] != team:
        annotate("warning", "Team", f"'{model_name}' belongs to team '{model.tags['team']}'; this run says '{team}'.")


def _descendants(registry: Registry, run: Run) -> list[Run]:
    found: list[Run] = []
    parents = [run]
    while parents:
        parent = parents.pop(0)
        children = registry.search_runs(run.experiment_id, f"tags.`mlflow.parentRunId` = '{parent.id}'")
        found += children
        parents += children
    return found


def _versions_of(registry: Registry, model_name: str, run: Run) -> list[Version]:
    return registry.versions(model_name, f"run_id = '{run.id}'")


def _chosen(registry: Registry, runs: Sequence[Run], name: str, model_name: str) -> Logged:
    logged = [model for run in runs for model in registry.logged_models(run)]
    listed = ", ".join(
        f"'{one_line(m.name, 80)}'" + ("" if m.run_id == runs[0].id else f" (child run {m.run_id})")
        for m in logged[:20]
    )
    if not logged:
        raise BadInput(
            f"The command logged no model to run {runs[0].id}, so there is no new version of "
            f"'{one_line(model_name, 120)}'.",
            "A model is logged with mlflow.<flavor>.log_model(), in the run that MLFLOW_RUN_ID names or a child of it.",
            "Log the model inside `with mlflow.start_run():`, without a run id of the script's own.",
        )
    wanted = [m for m in logged if name in (m.name, m.model_id)] if name else logged
    if not wanted:
        raise BadInput(
            f"The command logged no model named '{one_line(name, 120)}'.",
            f"It logged: {listed}.",
            "Correct 'logged-model'.",
        )
    if len(wanted) > 1:
        ids = ", ".join(m.model_id for m in wanted[:5] if m.model_id) if name else ""
        raise BadInput(
            f"The command logged {len(wanted)} models{f' named {one_line(name, 80)}' if name else ''}: {listed}.",
            "One of them is to be registered, and nothing says which.",
            "Name it in the input 'logged-model'" + (f", by its model id: {ids}." if ids else "."),
        )
    return wanted[0]
