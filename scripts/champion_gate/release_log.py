"""The release log: one MLflow experiment per model, with one run per gate, promotion and rollback.

Its id stands in the model's tag `gate.release_log`. A log that was deleted or cannot be read is an error,
never an empty history.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping

from champion_gate import conventions, lineage
from champion_gate.errors import BadInput, OutsideWorldFailed
from champion_gate.github import Context
from champion_gate.lineage import Entry, Kind
from champion_gate.registry import OPERATION_ID, Experiment, Model, Registry, Run, Version
from champion_gate.text import one_line
from champion_gate.verdict import NONE

LOG_TAG = "gate.release_log"
OPEN_MOVE_TAG = "gate.open_move"
HOLD_TAG = "gate.hold"
_DIGITS = 18
"""Of a number in a tag. What is longer counted nothing here: Python would refuse to read it, and Redis to count on."""


class ReleaseLog:
    """The log of one registered model, as it is now; `experiment_id` is empty while nothing was written yet."""

    def __init__(self, registry: Registry, model: Model, experiment_id: str, team: str) -> None:
        self.registry = registry
        self.model = model
        self.experiment_id = experiment_id
        self.team = team

    @classmethod
    def find(cls, registry: Registry, model: Model, team: str = "", version: Version | None = None) -> ReleaseLog:
        """The model's log, for reading: by the model's tag, else by the name that it would be made under.

        Args:
            registry: where to look.
            model: the registered model.
            team: the team as given; else the model's tag, the log's own name or the tag of `version`'s run says.
            version: the version in question, if there is one.

        Raises:
            OutsideWorldFailed: the model names a log that was deleted or is not there, or has one and does not name it.
            BadInput: the team cannot be part of a name.
        """
        team = team or model.tags.get("team", "")
        if experiment_id := model.tags.get(LOG_TAG, ""):
            if team:
                return cls(registry, model, experiment_id, team)  # `_read` sees whether it is still there
            there = _there(registry, model, experiment_id)
            return cls(registry, model, there.id, there.name.strip("/").partition("/")[0])
        if not team and version is not None and version.run_id:
            run = registry.find_run(version.run_id)
            team = run.tags.get("team", "") if run else ""
        found = registry.find_experiment(name=_log_name(conventions.team_name(team), model.name)) if team else None
        if found is not None and found.deleted:
            raise _gone(model.name, found.id)
        if found is None:
            _not_hidden(registry, model)
        return cls(registry, model, found.id if found else "", team)

    def check_team(self) -> None:
        """See that the log can be made, if it was not yet.

        Raises:
            BadInput: nothing says for which team.
        """
        if not self.team and not self.experiment_id:
            raise BadInput(
                f"The team of '{one_line(self.model.name, 120)}' is not known.",
                "It names the release log, and neither the model nor the version's run has a tag 'team'.",
                "Set the input 'team' once; it is not needed after the first release.",
            )

    def made(self) -> ReleaseLog:
        """This log, made and named by the model's tag if it was not yet.

        Raises:
            BadInput: it has to be made, and nothing says for which team.
        """
        if self.experiment_id and self.model.tags.get(LOG_TAG) == self.experiment_id:
            return self
        self.check_team()
        experiment_id = self.experiment_id or self.registry.ensure_experiment(_log_name(self.team, self.model.name)).id
        self.registry.set_model_tag(self.model.name, LOG_TAG, experiment_id)
        return ReleaseLog(self.registry, self.model, experiment_id, self.team)

    def entries(self) -> list[Entry]:
        """All entries, newest first; those of an earlier model of this name are marked."""
        return self._read("")

    def moves(self) -> list[Entry]:
        """The promotions and rollbacks; cheaper than `entries` where gates are many."""
        return self._read("tags.`gate.kind` != 'gate'")

    def gates_on(self, tag: str, value: str) -> list[Run]:
        """The gate runs with this value of a tag, newest first; those of an earlier model of this name left out."""
        if not self.experiment_id:
            return []
        runs = self.registry.search_runs(self.experiment_id, f"tags.`gate.kind` = 'gate' and tags.`{tag}` = '{value}'")
        return [run for run in runs if _number(run.tags.get("gate.model_created", "")) == self.model.created]

    def _read(self, condition: str) -> list[Entry]:
        runs = self.registry.search_runs(self.experiment_id, condition) if self.experiment_id else []
        if not runs and self.experiment_id:
            # The runs of a deleted experiment are not found: an empty answer alone is no empty history.
            _there(self.registry, self.model, self.experiment_id)
        return [_entry(run, self.model.created) for run in runs if "gate.kind" in run.tags]

    def write(
        self,
        kind: Kind,
        state: str,
        alias: str,
        job: Context,
        *,
        from_version: str | None,
        to_version: str | None,
        tags: Mapping[str, str],
    ) -> str:
        """Write one entry as a run with all its tags in one call; returns the run's id."""
        all_tags = {
            "gate.kind": kind,
            "gate.state": state,
            "gate.model": self.model.name,
            "gate.model_created": str(self.model.created),
            "gate.alias": alias,
            "gate.from": from_version or NONE,
            "gate.to": to_version or NONE,
            OPERATION_ID: uuid.uuid4().hex,
            "gate.actor": job.actor,
            "gate.commit": job.commit,
            "gate.repository": job.repository,
            "gate.github_run": job.run_id,
            "gate.workflow_url": job.run_url,
            "team": self.team,
            "owner": job.actor,
            "git.commit": job.commit,
            "environment": "release",
            "purpose": kind,
            **tags,
        }
        name = f"{kind} {from_version or NONE} to {to_version or NONE}"
        return self.registry.create_run(self.experiment_id, name, all_tags).id

    def close(
        self,
        run_id: str,
        state: str,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write an entry's last state, and end its run: FINISHED if it is done, else FAILED."""
        self.registry.log(run_id, metrics=metrics, tags={"gate.state": state, **(tags or {})})
        self.registry.end_run(run_id, "FINISHED" if state == lineage.DONE else "FAILED")


def _there(registry: Registry, model: Model, experiment_id: str) -> Experiment:
    found = registry.find_experiment(id=experiment_id)
    if found is None or found.deleted:
        raise _gone(model.name, experiment_id)
    return found


def _not_hidden(registry: Registry, model: Model) -> None:
    """See that a model without a log has none: a tag that somebody deleted must not make its history empty."""
    for experiment in registry.experiments_that_end_in(_log_name("", model.name).removeprefix("/")):
        if experiment.deleted:
            raise _gone(model.name, experiment.id)
        if registry.search_runs(experiment.id, f"tags.`gate.model_created` = '{model.created}'"):
            raise OutsideWorldFailed(
                f"'{one_line(model.name, 120)}' has a release log, and does not name it.",
                f"It is the experiment {one_line(experiment.name, 200)}, and the model's tag {LOG_TAG} is gone.",
                f"Set the model's tag {LOG_TAG} to {experiment.id} again.",
            )


def _gone(model_name: str, experiment_id: str) -> OutsideWorldFailed:
    return OutsideWorldFailed(
        f"The release log of '{one_line(model_name, 120)}' was deleted.",
        "Without it nobody can say what was released before, or taken back.",
        f"Restore it: mlflow experiments restore --experiment-id {one_line(experiment_id, 60)}",
    )


def _log_name(team: str, model: str) -> str:
    return f"/{team}/{model}/releases"


def _entry(run: Run, model_created: int) -> Entry:
    tags = run.tags
    created = _number(tags.get("gate.model_created", ""))
    return Entry(
        run_id=run.id,
        kind=_kind(tags["gate.kind"]),
        state=tags.get("gate.state", ""),
        alias=tags.get("gate.alias", ""),
        from_version=_version(tags, "gate.from"),
        to_version=_version(tags, "gate.to"),
        previous=_version(tags, "gate.previous"),
        operation_id=tags.get(OPERATION_ID, ""),
        fence=_number(tags.get("gate.fence", "")),
        actor=tags.get("gate.actor", ""),
        commit=tags.get("gate.commit", ""),
        reason=tags.get("gate.reason", ""),
        verdict=tags.get("gate.verdict", ""),
        time=run.start,
        model_created=created,
        from_alias=tags.get("gate.from_alias") or None,
        previous_alias=tags.get("gate.previous_alias") or None,
        github_run=tags.get("gate.github_run", ""),
        after=_aliases(tags.get("gate.after", "")),
        before=_aliases(tags.get("gate.before", "")),
        recovered_by=tags.get("gate.recovered_by", ""),
        override=tags.get("gate.override", ""),
        held=tags.get("gate.held", ""),
        reinstated=tags.get("gate.reinstated", ""),
        earlier_model=created != model_created,
        approved_by=tags.get("gate.approved_by", ""),
    )


def _aliases(text: str) -> dict[str, str | None]:
    """The aliases that a move's tag names; an empty map if it holds none that can be read."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    pairs = found.items() if isinstance(found, dict) else ()
    return {alias: number for alias, number in pairs if number is None or isinstance(number, str)}


def _kind(text: str) -> Kind:
    if text in ("gate", "promotion", "rollback", "hold release"):
        return text  # type: ignore[return-value]  # narrowed by the test above, which mypy does not follow
    raise OutsideWorldFailed(
        f"The release log holds a run of the unknown kind '{one_line(text, 60)}'.",
        "It was written by a newer version of this gate, or by hand.",
        "Use the newest version of this gate, or delete that run if it is not the gate's.",
    )


def _version(tags: Mapping[str, str], key: str) -> str | None:
    value = tags.get(key, NONE)
    return None if value in ("", NONE) else value


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _DIGITS else 0
