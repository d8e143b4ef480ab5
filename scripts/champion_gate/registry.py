"""The only file that calls MLflow: typed answers, typed errors, a time limit on every look-up.

MLflow's own client retries for up to 20 minutes, retries creates, and lets a silent proxy's empty answer
pass for "nothing there". Here retries are ours and bounded, creates are sent once and looked up after an
unclear answer, and an answer that does not speak of what was asked for is an error.
"""

from __future__ import annotations

import json
import math
import os
import re
import ssl
import tempfile
import time
import uuid
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from champion_gate import signals
from champion_gate.errors import BadInput, GateError, OutsideWorldFailed, TimedOut, UnclearAnswer
from champion_gate.github import hide, log, without_secrets
from champion_gate.text import fit_tag, one_line
from champion_gate.time_limit import NoAnswer, bounded

if TYPE_CHECKING:
    from mlflow import MlflowClient

T = TypeVar("T")

OPERATION_ID = "gate.operation_id"
_SECRETS = (
    "MLFLOW_TRACKING_PASSWORD",
    "MLFLOW_TRACKING_TOKEN",
    "DATABRICKS_TOKEN",
    "DATABRICKS_CLIENT_SECRET",
)
_SCHEMES = ("http", "https", "databricks", "databricks-uc", "uc")
# Waits between attempts of a look-up, in seconds; the deadline ends them.
_BACKOFF = (0.5, 1.0, 2.0, 4.0, 8.0)
# The longest that one file, or one model, may be under way to us.
_TRANSFER_SECONDS = 3600.0
# A file of ours must be stored at this many bytes a second, beside the time of two look-ups.
_UPLOAD_SPEED = 250_000
_TRANSIENT = {
    "INTERNAL_ERROR",
    "TEMPORARILY_UNAVAILABLE",
    "RESOURCE_EXHAUSTED",
    "REQUEST_LIMIT_EXCEEDED",
    "ABORTED",
}


class NotFound(OutsideWorldFailed):
    """The registry answered that what was asked for does not exist."""


class AlreadyExists(OutsideWorldFailed):
    """The registry answered that what was to be made exists already."""


class NotPermitted(OutsideWorldFailed):
    """The registry answered that this account may not do that, or may not know whether there is such a thing."""


@dataclass(frozen=True)
class Model:
    """A registered model; `created` in Unix ms, `aliases` to version numbers."""

    name: str
    created: int
    aliases: Mapping[str, str]
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Version:
    """A model version; `created` in Unix ms, `run_id` empty if it came from no run."""

    name: str
    number: str
    created: int
    run_id: str
    source: str
    status: str
    tags: Mapping[str, str]


@dataclass(frozen=True)
class Run:
    """An MLflow run; `start` in Unix ms, `artifact_uri` where its files are."""

    id: str
    experiment_id: str
    status: str
    metrics: Mapping[str, float]
    tags: Mapping[str, str]
    start: int
    artifact_uri: str
    deleted: bool


@dataclass(frozen=True)
class Experiment:
    """An MLflow experiment."""

    id: str
    name: str
    deleted: bool


@dataclass(frozen=True)
class Logged:
    """A model that a run logged: a LoggedModel (3.x, with `model_id`), or a folder of the run's artifacts (2.x)."""

    name: str
    run_id: str
    source: str
    model_id: str | None


def shown_uri(uri: str) -> str:
    """A URI without its credentials and query, for people; however badly it is formed."""
    head, rest = _split_uri(uri)
    # Up to the last '@', anything may be part of a password.
    return (head + rest.rpartition("@")[2]).partition("?")[0]


def _split_uri(uri: str) -> tuple[str, str]:
    match = re.match(r"[a-z+-]+:/+", uri)
    return (match[0], uri[match.end() :]) if match else ("", uri)


class Registry:
    """The MLflow server that the environment names.

    Every method raises OutsideWorldFailed within `timeout` seconds when the server does not answer as it should.
    """

    def __init__(self, client: MlflowClient, uri: str, timeout: float) -> None:
        self._client = client
        self.uri = shown_uri(uri)
        self._registry_uri = uri
        self.timeout = timeout
        self.before_write: Callable[[float], None] | None = None
        """Called before each write with the seconds that it may take; raises if the write must not be sent."""

    @classmethod
    def connect(cls, timeout: float = 30.0) -> Registry:
        """The registry that MLflow's own environment variables name. Opens no connection yet.

        Raises:
            BadInput: MLFLOW_TRACKING_URI is unset, or it or MLFLOW_REGISTRY_URI names no server.
        """
        uris = {"MLFLOW_TRACKING_URI": os.environ.get("MLFLOW_TRACKING_URI", "").strip()}
        if registry := os.environ.get("MLFLOW_REGISTRY_URI", "").strip():
            uris["MLFLOW_REGISTRY_URI"] = registry
        secrets = [os.environ.get(name, "") for name in _SECRETS]
        for variable, uri in uris.items():
            secrets += _check_uri(variable, uri)
        hide(secrets)
        os.environ.update(
            # One attempt a request: retries are ours, since MLflow's repeat creates and last for minutes.
            MLFLOW_HTTP_REQUEST_MAX_RETRIES="0",
            MLFLOW_HTTP_REQUEST_TIMEOUT=str(max(1, math.ceil(timeout / 3))),
            MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT="true",
            MLFLOW_DISABLE_TELEMETRY="true",
            MLFLOW_LOGGING_LEVEL="WARNING",
            MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR="false",
        )
        # Where the server keeps its artifacts in S3, MLflow 3.17 fetches them past it, from an endpoint that often only
        # the server reaches. Through the server they can always be had; who wants it otherwise sets this.
        os.environ.setdefault("MLFLOW_ENABLE_PROXY_MULTIPART_DOWNLOAD", "false")
        from mlflow import MlflowClient  # 2 s: not before it is needed, and after the settings

        signals.retake()
        client = MlflowClient(uris["MLFLOW_TRACKING_URI"], uris.get("MLFLOW_REGISTRY_URI"))
        return cls(client, uris.get("MLFLOW_REGISTRY_URI", uris["MLFLOW_TRACKING_URI"]), timeout)

    @cached_property
    def _models(self) -> Any:
        """MLflow's client without the look that `MlflowClient` takes before each call, to see that it is no prompt.

        Who calls it has read the model, and a prompt is not found.
        """
        # What MlflowClient itself writes by.
        return self._client._get_registry_client()  # type: ignore[no-untyped-call]  # noqa: SLF001

    # -- registered models and versions

    def find_model(self, name: str) -> Model | None:
        """The registered model with its aliases and tags, in one call; None if the registry says there is none."""
        try:
            answer = self._look_up(f"the model '{name}'", lambda: self._client.get_registered_model(name))
        except NotFound:
            return None
        # An empty answer parses as a model without aliases; "no champion" must not come from that.
        self._same(name, answer.name, "the model")
        return Model(
            answer.name,
            int(answer.creation_timestamp),
            {alias: str(number) for alias, number in dict(answer.aliases).items()},
            dict(answer.tags),
        )

    def model(self, name: str) -> Model:
        """As `find_model`.

        Raises:
            BadInput: there is none; says which there are.
        """
        found = self.find_model(name)
        if found is None:
            names = self.model_names()
            raise BadInput(
                f"There is no registered model '{one_line(name, 120)}' at {self.uri}.",
                f"It has: {', '.join(one_line(n, 80) for n in names)}." if names else "It has no models at all.",
                "Check the input 'model-name', and MLFLOW_TRACKING_URI.",
            )
        return found

    def model_names(self, limit: int = 20) -> list[str]:
        """Names of registered models, for a message."""
        # The client hides prompts by a condition that matches nothing on a 2.x server, unless one names that key.
        shown = "name != 'mlflow.prompt.is_prompt'"
        answer = self._look_up("the models", lambda: self._client.search_registered_models(shown, limit))
        return [model.name for model in answer]

    def models_with(self, any_of: Collection[str], all_of: Mapping[str, str]) -> list[str]:
        """Names of the models that have a tag of one of these keys, and each of these tags, in their order."""
        shown = "name != 'mlflow.prompt.is_prompt'"  # as in `model_names`
        pages = self._pages("models", lambda token: self._client.search_registered_models(shown, 200, page_token=token))
        tags = {model.name: dict(model.tags) for model in pages}
        return sorted(
            name for name, own in tags.items() if not own.keys().isdisjoint(any_of) and all_of.items() <= own.items()
        )

    def find_version(self, name: str, number: str) -> Version | None:
        """The version, or None if the registry says there is none."""
        try:
            answer = self._look_up(f"version {number}", lambda: self._client.get_model_version(name, number))
        except NotFound:
            return None
        self._same(f"{name}/{number}", f"{answer.name}/{answer.version}", "the version")
        return _version(answer)

    def version(self, name: str, number: str) -> Version:
        """As `find_version`.

        Raises:
            BadInput: there is none; says which there are.
        """
        found = self.find_version(name, number)
        if found is None:
            numbers = sorted((v.number for v in self.versions(name, "")), key=int)
            raise BadInput(
                f"'{one_line(name, 120)}' at {self.uri} has no version {number}.",
                f"It has: {', '.join(numbers[-20:])}." if numbers else "It has no versions.",
                "Check the version's number.",
            )
        return found

    def versions(self, name: str, condition: str) -> list[Version]:
        """The versions of a model that meet a search condition (`run_id = '...'`), or all."""
        quote = '"' if "'" in name else "'"
        query = f"name = {quote}{name}{quote}" + (f" and {condition}" if condition else "")
        pages = self._pages("versions", lambda token: self._client.search_model_versions(query, 200, page_token=token))
        return [_version(answer) for answer in pages]

    def create_model(self, name: str, tags: Mapping[str, str], description: str) -> bool:
        """Make a registered model; False if there is one of this name."""
        try:
            self._write(
                "make the model",
                lambda: self._client.create_registered_model(name, dict(tags), description),
            )
        except AlreadyExists:
            return False
        except UnclearAnswer:
            if self.find_model(name) is None:
                raise
        return True

    def create_version(
        self, name: str, logged: Logged, tags: Mapping[str, str], description: str, operation_id: str
    ) -> Version:
        """Register a logged model as a version, once: after an unclear answer the version is looked for."""
        all_tags = _tags({**tags, OPERATION_ID: operation_id})
        extra: dict[str, Any] = {"model_id": logged.model_id} if logged.model_id else {}

        def create() -> Any:
            return self._client.create_model_version(
                name,
                logged.source,
                logged.run_id or None,
                all_tags,
                description=fit_tag(description) or None,
                await_creation_for=int(self.timeout),
                **extra,
            )

        try:
            return _version(self._write("register the version", create))
        except UnclearAnswer:
            made = [v for v in self.versions(name, "") if v.tags.get(OPERATION_ID) == operation_id]
            if not made:
                raise
            return min(made, key=lambda version: int(version.number))

    def set_version_tags(self, name: str, number: str, tags: Mapping[str, str]) -> None:
        """Set tags of a version, one call each."""
        for key, value in _tags(tags).items():
            self._set(f"the tag {key}", partial(self._models.set_model_version_tag, name, number, key, value))

    def set_model_tag(self, name: str, key: str, value: str) -> None:
        """Set a tag of a registered model."""
        self._set(f"the tag {key}", lambda: self._models.set_registered_model_tag(name, key, fit_tag(value)))

    def delete_model_tag(self, name: str, key: str) -> None:
        """Drop a tag of a registered model."""
        self._set(f"the tag {key}", lambda: self._models.delete_registered_model_tag(name, key))

    def set_alias(self, name: str, alias: str, number: str) -> None:
        """Point an alias at a version. Sent once: who repeats it may overwrite what came between."""
        self._write(f"set the alias {alias}", lambda: self._models.set_registered_model_alias(name, alias, number))

    def delete_alias(self, name: str, alias: str) -> None:
        """Drop an alias. Sent once."""
        self._write(f"drop the alias {alias}", lambda: self._models.delete_registered_model_alias(name, alias))

    # -- runs and experiments

    def find_run(self, run_id: str) -> Run | None:
        """A run with the latest value of each metric, or None if the server says there is none."""
        try:
            answer = self._look_up(f"the run {run_id}", lambda: self._client.get_run(run_id))
        except NotFound:
            return None
        self._same(run_id, answer.info.run_id, "the run")
        return _run(answer)

    def search_runs(self, experiment_id: str, condition: str) -> list[Run]:
        """All active runs of an experiment that meet a search condition, newest first."""
        pages = self._pages(
            "runs",
            lambda token: self._client.search_runs(
                [experiment_id],
                condition,
                max_results=1000,
                order_by=["attributes.start_time DESC"],
                page_token=token,
            ),
        )
        return [_run(answer) for answer in pages]

    def find_experiment(self, *, id: str = "", name: str = "") -> Experiment | None:
        """An experiment by id or name, deleted ones too; None if the server says there is none."""
        answer: Any
        try:
            if id:
                answer = self._look_up(f"experiment {id}", lambda: self._client.get_experiment(id))
            else:
                answer = self._look_up(f"experiment {name}", lambda: self._client.get_experiment_by_name(name))
        except NotFound:
            return None
        if answer is None:
            return None
        self._same(id or name, answer.experiment_id if id else answer.name, "the experiment")
        return Experiment(answer.experiment_id, answer.name, answer.lifecycle_stage == "deleted")

    def experiments_that_end_in(self, end: str) -> list[Experiment]:
        """The experiments whose names end so, deleted ones too."""
        from mlflow.entities import ViewType

        quote = '"' if "'" in end else "'"
        like = f"name LIKE {quote}%{end}{quote}"  # `_` and `%` in a name stand for anything there
        pages = self._pages(
            "experiments",
            lambda token: self._client.search_experiments(ViewType.ALL, 200, filter_string=like, page_token=token),
        )
        found = [Experiment(e.experiment_id, e.name, e.lifecycle_stage == "deleted") for e in pages]
        return [experiment for experiment in found if experiment.name.endswith(end)]

    def ensure_experiment(self, name: str) -> Experiment:
        """The experiment of this name, made if there is none.

        Raises:
            OutsideWorldFailed: it was deleted: its name cannot be used until it is restored.
        """
        found = self.find_experiment(name=name)
        if found is None:
            try:
                made = self._write("make the experiment", lambda: self._client.create_experiment(name))
                return Experiment(str(made), name, deleted=False)
            except (AlreadyExists, UnclearAnswer):
                found = self.find_experiment(name=name)
        if found is None:
            raise OutsideWorldFailed(
                f"The experiment '{one_line(name, 200)}' could not be made.",
                "The server did not say that it made it, and does not show it.",
                "Run this again when the server is well.",
            )
        if found.deleted:
            raise OutsideWorldFailed(
                f"The experiment '{one_line(name, 200)}' was deleted.",
                "MLflow keeps a deleted experiment's name.",
                f"Restore it: mlflow experiments restore --experiment-id {found.id}",
            )
        return found

    def create_run(self, experiment_id: str, name: str, tags: Mapping[str, str]) -> Run:
        """Open a run, once: after an unclear answer it is looked for by its operation id."""
        operation_id = tags.get(OPERATION_ID) or uuid.uuid4().hex
        all_tags = _tags({**tags, OPERATION_ID: operation_id})
        try:
            return _run(
                self._write(
                    "open a run",
                    lambda: self._client.create_run(experiment_id, tags=all_tags, run_name=fit_tag(name, 250) or None),
                )
            )
        except UnclearAnswer:
            made = self.search_runs(experiment_id, f"tags.`{OPERATION_ID}` = '{operation_id}'")
            if not made:
                raise
            return min(made, key=lambda run: (run.start, run.id))

    def log(
        self,
        run_id: str,
        *,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Write metrics and tags of a run in one call."""
        from mlflow.entities import Metric, RunTag

        now = int(time.time() * 1000)
        rows = [Metric(key, value, now, 0) for key, value in (metrics or {}).items()]
        labels = [RunTag(key, value) for key, value in _tags(tags or {}).items()]
        self._set("the run's figures", lambda: self._client.log_batch(run_id, metrics=rows, tags=labels))

    def end_run(self, run_id: str, status: str) -> None:
        """End a run as FINISHED, FAILED or KILLED."""
        self._set("the run's end", lambda: self._client.set_terminated(run_id, status))

    # -- files, and the data that runs name

    def download_model(self, version: Version, folder: Path) -> Path:
        """The files of a version, in a new folder below `folder`."""
        return self._download(f"models:/{version.name}/{version.number}", folder, f"version {version.number}")

    def has_files(self, version: Version) -> bool:
        """Whether there is anything left of the model that a version names.

        Raises:
            OutsideWorldFailed: its artifact store cannot be reached from here, or did not say.
        """
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        def listing() -> list[Any]:
            try:
                uri = self._models.get_model_version_download_uri(version.name, version.number)
                return get_artifact_repository(uri, self._client.tracking_uri, self._registry_uri).list_artifacts(None)
            except Exception as error:
                if _code(error) == "RESOURCE_DOES_NOT_EXIST":
                    return []  # a LoggedModel that was deleted
                raise

        # A rollback waits for this, and goes on without it.
        return bool(self._transfer(f"list the files of version {version.number}", listing, min(self.timeout, 10.0)))

    def download_artifact(self, run_id: str, path: str, folder: Path) -> Path:
        """A file or folder of a run's artifacts, below `folder`."""
        return self._download(f"runs:/{run_id}/{path}", folder, f"'{one_line(path, 120)}' of run {run_id}")

    def _download(self, uri: str, folder: Path, what: str) -> Path:
        from mlflow.artifacts import download_artifacts

        where = Path(tempfile.mkdtemp(dir=folder))
        uris = {"tracking_uri": self._client.tracking_uri, "registry_uri": self._registry_uri}
        return Path(self._transfer(f"download {what}", lambda: download_artifacts(uri, dst_path=str(where), **uris)))

    def log_artifact(self, run_id: str, file: Path) -> None:
        """Store a file as an artifact of a run; sent again, it is the same file."""
        limit = 2 * self.timeout + file.stat().st_size / _UPLOAD_SPEED
        self._transfer(f"store {file.name}", lambda: self._client.log_artifact(run_id, str(file)), limit)

    def log_dataset(self, run_id: str, name: str, digest: str, source: str, profile: Mapping[str, int]) -> None:
        """Name the data of an evaluation as an input of a run. MLflow keeps 36 characters of a digest."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        data = Dataset(
            name=fit_tag(name, 250),
            digest=digest[:36],
            source_type="code",
            source=json.dumps({"tags": {"location": fit_tag(source, 1000)}}),
            profile=json.dumps(dict(profile)),
        )
        entry = DatasetInput(data, [InputTag("mlflow.data.context", "evaluation")])
        self._set("the run's dataset", lambda: self._client.log_inputs(run_id, [entry]))

    def dataset_source(self, run_id: str, name: str) -> str | None:
        """Where the dataset of this name was read from that a run names as its input; None if it names none."""
        answer = self._look_up(f"the run {run_id}", lambda: self._client.get_run(run_id))
        self._same(run_id, answer.info.run_id, "the run")
        for entry in getattr(answer.inputs, "dataset_inputs", None) or []:
            if entry.dataset.name == name:
                try:
                    source = json.loads(entry.dataset.source)
                except ValueError:
                    return None
                found = (
                    source.get("uri") or source.get("url") or source.get("path") if isinstance(source, dict) else None
                )
                return found if isinstance(found, str) else None
        return None

    # -- what a training run logged

    def logged_models(self, run: Run) -> list[Logged]:
        """The models that a run logged: LoggedModels (3.x), what a 2.x client noted, else folders with an MLmodel."""
        found = self._logged_3x(run)
        # A 3.x client may note its LoggedModels as 2.x did, too.
        names = {model.name for model in found}
        found += [_run_artifact(run, path) for path in _noted_2x(run) if path not in names]
        return sorted(found or self._folders(run), key=lambda model: model.name)

    def _logged_3x(self, run: Run) -> list[Logged]:
        query = f"source_run_id = '{run.id}'"
        try:
            pages = self._pages(
                "logged models",
                lambda token: self._client.search_logged_models(
                    [run.experiment_id], filter_string=query, page_token=token
                ),
            )
        except _NoSuchEndpoint:
            return []  # a 2.x server: it has no LoggedModels
        own = [model for model in pages if model.source_run_id == run.id]
        return [Logged(model.name, run.id, f"models:/{model.model_id}", model.model_id) for model in own]

    def _folders(self, run: Run) -> list[Logged]:
        """The run's artifact folders that hold an MLmodel: a model that was logged as plain files."""
        # Not the client's list_artifacts: in 3.x it asks for LoggedModels, and fails on a 2.x server.
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        try:
            store = get_artifact_repository(run.artifact_uri)
        except ImportError as error:
            raise OutsideWorldFailed(
                f"The files of run {run.id} cannot be listed: {one_line(str(error), 200)}.",
                "They are in a store that is reached without MLflow's proxy.",
                "Log the model with log_model(), which notes where it is, or let the server proxy artifacts.",
            ) from error
        found: list[Logged] = []
        folders = [""]
        for _ in range(200):  # a run with more folders than this has no model where anybody would look
            if not folders:
                break
            folder = folders.pop(0)
            listing = self._look_up("the run's artifacts", partial(store.list_artifacts, folder or None))
            if folder and any(item.path == f"{folder}/MLmodel" for item in listing):
                found.append(_run_artifact(run, folder))
            elif folder.count("/") < 3:
                folders += [item.path for item in listing if item.is_dir]
        return found

    # -- one call

    def _look_up(self, what: str, call: Callable[[], T]) -> T:
        return self._attempts(f"look up {what}", call)

    def _set(self, what: str, call: Callable[[], Any]) -> None:
        """A write that does no harm when it is sent twice."""

        def permitted() -> Any:
            self._permit()
            return call()

        self._attempts(f"write {what}", permitted)

    def _write(self, what: str, call: Callable[[], T]) -> T:
        """A write that is sent once, and whose unclear answer is the caller's to look up."""
        self._permit()
        try:
            return bounded(call, self.timeout)
        except NoAnswer as error:
            raise TimedOut(*self._silence(what)) from error
        except Exception as error:
            raise self._explained(what, error, unclear=True) from error

    def _permit(self) -> None:
        if self.before_write is not None:
            self.before_write(self.timeout)

    def _attempts(self, what: str, call: Callable[[], T]) -> T:
        deadline = time.monotonic() + self.timeout
        for wait in (*_BACKOFF, None):
            try:
                return bounded(call, deadline - time.monotonic())
            except NoAnswer as error:
                raise OutsideWorldFailed(*self._silence(what)) from error
            except GateError:
                raise  # a write that is not permitted
            except Exception as error:
                explained = self._explained(what, error)
                left = deadline - time.monotonic()
                if wait is None or not _is_transient(error) or left <= wait:
                    raise explained from error
                if wait == _BACKOFF[1]:  # not at the first stumble, and once
                    log(f"{self.uri} does not answer as it should; trying again for up to {left:.0f} s.")
                time.sleep(wait)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _transfer(self, what: str, call: Callable[[], T], limit: float = _TRANSFER_SECONDS) -> T:
        """A file's way up or down, in `limit` seconds; each of its requests has MLflow's time limit, too."""
        for wait in (1.0, 4.0, None):
            try:
                return bounded(call, limit)
            except NoAnswer as error:
                raise OutsideWorldFailed(
                    f"Could not {what}: the artifact store of {self.uri} was not done with it within {limit:.0f} s.",
                    "",
                    "Check that the store is up and reachable from this runner.",
                ) from error
            except Exception as error:
                if wait is None or not _is_transient(error) or isinstance(error, ImportError):
                    raise self._stored(what, error) from error
                time.sleep(wait)
        raise AssertionError("unreachable: the last attempt returns or raises")

    def _stored(self, what: str, error: Exception) -> OutsideWorldFailed:
        said = one_line(without_secrets(str(error)), 400)
        if isinstance(error, ImportError):
            return OutsideWorldFailed(
                f"Could not {what}: {said}.",
                "The files are in a store that is reached without MLflow's proxy.",
                "Let the server proxy artifacts (--serve-artifacts), or use one whose files boto3 reaches.",
            )
        return OutsideWorldFailed(
            f"Could not {what}: the artifact store of {self.uri} did not do it.",
            said,
            "Check that the files are there, and that this job's credentials reach the store.",
        )

    def _pages(self, what: str, call: Callable[[str | None], Any]) -> list[Any]:
        rows: list[Any] = []
        token: str | None = None
        while True:
            page = self._look_up(what, partial(call, token))
            rows += page
            token = page.token
            if not token:
                return rows

    def _same(self, asked: str, answered: str, what: str) -> None:
        if str(answered) != asked:
            raise OutsideWorldFailed(
                f"{self.uri} did not answer for {what} '{one_line(asked, 120)}'.",
                f"Its answer speaks of '{one_line(str(answered), 120)}': something else answers in MLflow's place.",
                "Check MLFLOW_TRACKING_URI, and proxies on the way.",
            )

    def _silence(self, what: str) -> tuple[str, str, str]:
        return (
            f"Could not {what}: {self.uri} did not answer within {self.timeout:g} s.",
            "Nothing was decided on a guess.",
            "Check that the server is up and reachable from this runner; registry-timeout raises the limit.",
        )

    def _explained(self, what: str, error: Exception, *, unclear: bool = False) -> OutsideWorldFailed | BadInput:
        """`error` as one of ours. Its text is cut and freed of secrets, since servers and proxies echo much."""
        code = _code(error)
        said = without_secrets(str(error))
        head = f"Could not {what} at {self.uri}:"
        body = one_line(said.partition("(Caused by ")[2].removesuffix(")") or said, 400)
        if code in ("RESOURCE_DOES_NOT_EXIST", "NOT_FOUND"):
            return NotFound(f"{head} it does not exist.", body)
        if code in ("RESOURCE_ALREADY_EXISTS", "ALREADY_EXISTS"):
            return AlreadyExists(f"{head} it exists already.", body)
        if code in ("UNAUTHENTICATED", "CUSTOMER_UNAUTHORIZED"):
            return OutsideWorldFailed(
                f"{head} not logged in (401).",
                body,
                "Check MLFLOW_TRACKING_USERNAME and _PASSWORD, or MLFLOW_TRACKING_TOKEN.",
            )
        if code == "PERMISSION_DENIED":
            return NotPermitted(
                f"{head} not permitted (403).",
                body,
                "Give the account of this job EDIT permission on the model and its experiments; if the answer speaks "
                "of the host, add this host name to the server's --allowed-hosts.",
            )
        if code == "ENDPOINT_NOT_FOUND":
            return _NoSuchEndpoint(
                f"{head} there is no MLflow API (404).",
                body,
                "Check MLFLOW_TRACKING_URI, and leave '/api' off its end.",
            )
        if code == "INVALID_PARAMETER_VALUE":
            return BadInput(f"{head} it was refused.", body, "Check the names and values given.")
        if _has_unknown_certificate(error):
            return OutsideWorldFailed(
                f"{head} its certificate is not trusted.",
                body,
                "Name the file with your own authority's certificate in MLFLOW_TRACKING_SERVER_CERT_PATH.",
            )
        kind: type[OutsideWorldFailed] = OutsideWorldFailed
        if unclear:
            kind = TimedOut if "timed out" in said or "timeout" in said else UnclearAnswer
        return kind(
            f"{head} no usable answer.",
            body,
            "Check that the server is up, and that the URL is that of MLflow itself, not of a login page.",
        )


class _NoSuchEndpoint(OutsideWorldFailed):
    """The server has no such API: an older MLflow, or no MLflow at all."""


def _check_uri(variable: str, uri: str) -> list[str]:
    """Refuse what is no server's address; return the secrets that the URI holds."""
    if not uri:
        raise BadInput(
            f"{variable} is not set.",
            "It names the MLflow server that holds the registry.",
            f"Set it in the workflow's env, or export it in a shell, for example {variable}: https://mlflow.example.com",
        )
    shown = one_line(shown_uri(uri), 120)
    try:
        parts = urlsplit(uri)
        named = parts.scheme in _SCHEMES and (parts.scheme not in ("http", "https") or bool(parts.hostname))
    except ValueError:
        named = False
    if not named:
        raise BadInput(
            f"{variable} '{shown}' does not name a server.",
            "A release needs a registry that others see too; a local path or database would be one of its own.",
            f"Did you mean http://{shown}?"
            if re.fullmatch(r"[\w.-]+:\d+(/.*)?", shown)
            else "Give the address of an MLflow server, for example https://mlflow.example.com",
        )
    userinfo = _split_uri(uri)[1].rpartition("@")[0]
    return [userinfo, *userinfo.split(":", 1)[1:]]


def _code(error: Exception) -> str:
    return str(getattr(error, "error_code", ""))


def _is_transient(error: Exception) -> bool:
    # A login page, and a certificate that nobody here knows, are the same at every attempt.
    if "valid JSON" in str(error) or _has_unknown_certificate(error):
        return False
    return _code(error) in _TRANSIENT or not _code(error)


def _has_unknown_certificate(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _tags(tags: Mapping[str, str]) -> dict[str, str]:
    return {key: fit_tag(value) for key, value in tags.items()}


def _version(answer: Any) -> Version:
    return Version(
        answer.name,
        str(answer.version),
        int(answer.creation_timestamp or 0),
        answer.run_id or "",
        answer.source or "",
        str(answer.status),
        dict(answer.tags),
    )


def _run(answer: Any) -> Run:
    info, data = answer.info, answer.data
    return Run(
        info.run_id,
        info.experiment_id,
        str(info.status),
        dict(data.metrics),
        dict(data.tags),
        int(info.start_time or 0),
        info.artifact_uri or "",
        info.lifecycle_stage == "deleted",
    )


def _run_artifact(run: Run, path: str) -> Logged:
    return Logged(path, run.id, f"{run.artifact_uri.rstrip('/')}/{path}", None)


def _noted_2x(run: Run) -> list[str]:
    """Artifact paths of the models that a 2.x client logged: it notes them in a tag of the run."""
    try:
        notes = json.loads(run.tags.get("mlflow.log-model.history", "[]"))
    except ValueError:
        return []  # cut at the tag's limit; the folders will tell
    paths = [note.get("artifact_path") for note in notes if isinstance(note, dict)] if isinstance(notes, list) else []
    return list(dict.fromkeys(path for path in paths if isinstance(path, str) and path))
