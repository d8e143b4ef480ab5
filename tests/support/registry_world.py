"""Arranges one registered model on a real server with MLflow's own client, and looks at what became of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

METRIC = "val_ndcg_at_10"
DATA = "2026-11-01"


def logged_model(client: MlflowClient, run_id: str) -> str:
    """Where a run keeps its model: a folder with one file, which is enough of a model for whoever moves aliases."""
    client.log_text(run_id, "flavors: {}\n", "model/MLmodel")
    return f"{client.get_run(run_id).info.artifact_uri}/model"


@dataclass
class World:
    """One registered model, its training runs and its release log."""

    client: MlflowClient
    name: str
    team: str = "search"
    runs: dict[str, str] = field(default_factory=dict)
    """Version number to the run it came from."""

    @property
    def experiment(self) -> str:
        return f"/{self.team}/{self.name}/training"

    def run(
        self,
        metrics: Mapping[str, float] | None = None,
        *,
        data: str | None = DATA,
        evaluation: str | None = None,
        status: str = "FINISHED",
        tags: Mapping[str, str] | None = None,
    ) -> Run:
        """A training run as train-and-register leaves it."""
        found = self.client.get_experiment_by_name(self.experiment)
        experiment = found.experiment_id if found else self.client.create_experiment(self.experiment)
        required = {"team": self.team, "owner": "ada", "git.commit": "c0ffee" * 6 + "c0ff", "environment": "ci"}
        all_tags = {**required, "purpose": "training", **(tags or {})}
        if data is not None:
            all_tags["data.version"] = data
        if evaluation is not None:
            all_tags["evaluation.data.version"] = evaluation
        run = self.client.create_run(experiment, tags=all_tags)
        for key, value in (metrics or {}).items():
            self.client.log_metric(run.info.run_id, key, value)
        self.client.set_terminated(run.info.run_id, status)
        return run

    def version(self, ndcg: float | None = None, *, alias: str | None = "challenger", **run: Any) -> str:
        """A version whose run has this NDCG (or `metrics=`), with `alias` pointing at it; its number."""
        from mlflow.exceptions import RestException

        metrics = run.pop("metrics", {}) if ndcg is None else {METRIC: ndcg, **run.pop("metrics", {})}
        made = self.run(metrics, **run)
        try:
            self.client.get_registered_model(self.name)
        except RestException:
            self.client.create_registered_model(self.name, tags={"team": self.team})
        version = self.client.create_model_version(
            self.name, logged_model(self.client, made.info.run_id), made.info.run_id, await_creation_for=0
        )
        number = str(version.version)
        self.runs[number] = made.info.run_id
        if alias is not None:
            self.point(alias, number)
        return number

    def point(self, alias: str, number: str) -> None:
        """Move an alias by hand."""
        self.client.set_registered_model_alias(self.name, alias, number)

    def lose_files(self, number: str) -> None:
        """Delete a version's files, as a clean-up of the artifact store does; the registry does not notice."""
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        source = self.client.get_model_version_download_uri(self.name, number)
        get_artifact_repository(source, self.client.tracking_uri).delete_artifacts()

    def delete_model(self) -> None:
        self.client.delete_registered_model(self.name)

    @property
    def aliases(self) -> dict[str, str]:
        """Where each alias points."""
        return {k: str(v) for k, v in dict(self.client.get_registered_model(self.name).aliases).items()}

    @property
    def champion(self) -> str | None:
        return self.aliases.get("champion")

    @property
    def tags(self) -> dict[str, str]:
        """The registered model's tags."""
        return dict(self.client.get_registered_model(self.name).tags)

    def version_tags(self, number: str) -> dict[str, str]:
        return dict(self.client.get_model_version(self.name, number).tags)

    def verdict(self, number: str, alias: str = "champion") -> dict[str, Any]:
        """The verdict on a version, as its tag holds it."""
        document: dict[str, Any] = json.loads(self.version_tags(number)[f"gate.verdict.{alias}"])
        return document

    @property
    def log_experiment(self) -> str | None:
        """The id of the release log's experiment, as the model's tag says."""
        return self.tags.get("gate.release_log")

    def log(self, kind: str = "") -> list[Run]:
        """The runs of the release log, oldest first; of one kind, or all."""
        experiment = self.log_experiment
        if experiment is None:
            return []
        found = list(self.client.search_runs([experiment], max_results=1000))
        mine = [run for run in found if kind in ("", run.data.tags.get("gate.kind"))]
        return sorted(mine, key=lambda run: (run.info.start_time, run.info.run_id))

    def last(self, kind: str) -> dict[str, str]:
        """The tags of the last run of a kind in the release log."""
        return dict(self.log(kind)[-1].data.tags)

    def snapshot(self) -> dict[str, Any]:
        """All that a release could change about this model, to hold two moments against each other."""
        from mlflow.entities import ViewType
        from mlflow.exceptions import RestException

        try:
            model = self.client.get_registered_model(self.name)
        except RestException:
            seen: dict[str, Any] = {"model": None}
        else:
            found = self.client.search_model_versions(f"name = '{self.name}'")
            versions = [self.client.get_model_version(self.name, v.version) for v in found]
            seen = {
                "model": {"tags": dict(model.tags), "description": model.description},
                "aliases": {k: str(v) for k, v in dict(model.aliases).items()},
                "versions": {str(v.version): (dict(v.tags), v.description, v.source) for v in versions},
            }
        experiments = self.client.search_experiments(
            view_type=ViewType.ALL, filter_string=f"name LIKE '/{self.team}/{self.name}/%'"
        )
        for experiment in experiments:
            runs = self.client.search_runs([experiment.experiment_id], run_view_type=ViewType.ALL, max_results=1000)
            seen[experiment.name] = {
                run.info.run_id: (
                    run.info.status,
                    run.info.lifecycle_stage,
                    dict(run.data.tags),
                    {key: str(value) for key, value in run.data.metrics.items()},
                )
                for run in runs
            }
        return seen
