"""Where data may be: a local path, S3, an artifact of a run, or a run's dataset; made a local file.

S3: https://docs.aws.amazon.com/AmazonS3/latest/API/API_GetObject.html, by boto3, whose own variables and files name
credentials, region and endpoint.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from champion_gate.errors import BadInput, GateError, OutsideWorldFailed
from champion_gate.github import hide, log, without_secrets
from champion_gate.text import one_line

FORMS = "a local path, s3://bucket/key, runs:/<run id>/<path> and datasets:/<name of an input of the challenger's run>"
CONNECT_SECONDS, READ_SECONDS = 10, 60
_ATTEMPTS = 3
_PART_BYTES = 1 << 20
_LOUD_BYTES = 64 << 20
"""Larger files than this are announced, and their progress shown."""
_PROGRESS_SECONDS = 10.0
_SECRETS = ("AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN")

FetchRunArtifact = Callable[[str, str, Path], Path]
"""Downloads (run id, path of the artifact) into a folder; returns where it is now."""
DatasetSource = Callable[[str], "str | None"]
"""Where the dataset of this name was read from, which is an input of the challenger's run; None if there is none."""


def local_file(
    location: str,
    folder: Path,
    fetch_run_artifact: FetchRunArtifact,
    dataset_source: DatasetSource | None = None,
) -> Path:
    """The local file of a location; what is not local is downloaded into a folder of its own below `folder`.

    A local path is returned as it is: who reads it finds out whether there is such a file.

    Raises:
        BadInput: the location is not well formed, or nothing is there.
        OutsideWorldFailed: the storage did not answer, or not to this account.
    """
    scheme, rest = _split(location)
    if not scheme:
        return Path(rest)
    if scheme == "file":
        return _file_uri(location)
    if scheme == "s3":
        bucket, _, key = rest.removeprefix("//").partition("/")
        return _from_s3(location, bucket, key, _place(location, folder))
    if scheme == "runs":
        return _from_run(location, rest, folder, fetch_run_artifact)
    if scheme == "datasets":
        source = _source_of(rest.strip("/"), dataset_source)
        return local_file(source, folder, fetch_run_artifact)
    raise BadInput(
        f"'{scheme}:' is no place that data is read from.",
        f"There are {FORMS}.",
        "Copy the file to one of these in an earlier step.",
    )


def _split(location: str) -> tuple[str, str]:
    """The scheme in lower case, and what follows it; an empty scheme for a local path."""
    match = re.match(r"([A-Za-z][A-Za-z0-9+.-]*):/", location)
    if not location.strip():
        raise BadInput("The place of the data is empty.", f"There are {FORMS}.", "Name the file.")
    return (match[1].lower(), location[match.end() - 1 :]) if match else ("", location)


def _file_uri(location: str) -> Path:
    parts = urlsplit(location)
    if parts.netloc not in ("", "localhost"):
        raise BadInput(
            f"'{_shown(location)}' is a file of another machine.",
            "Only files of this machine are read.",
            "Write file:///path, with three slashes, or the path alone.",
        )
    return Path(unquote(parts.path))


def _place(location: str, folder: Path) -> Path:
    """A path for the file of a location, below `folder`; its own, though other locations end in the same name."""
    name = re.sub(r"[^\w.-]", "_", location.rpartition("/")[2])[-100:].lstrip(".") or "data"
    place = folder / hashlib.sha256(location.encode("utf-8", "surrogateescape")).hexdigest()[:16]
    _make(place)
    return place / name


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _no_room(folder, error) from error


def _no_room(folder: Path, error: OSError) -> OutsideWorldFailed:
    said = one_line(error.strerror or str(error), 200)
    return OutsideWorldFailed(
        f"A download could not be stored in {one_line(str(folder), 200)}: {said}.",
        "Data is read from the disk, as it may be larger than memory.",
        "Make room there, or name another folder in TMPDIR.",
    )


def _shown(location: str) -> str:
    return one_line(without_secrets(location), 300)


# -- artifacts and datasets of runs


def _from_run(location: str, rest: str, folder: Path, fetch: FetchRunArtifact) -> Path:
    run_id, _, path = rest.lstrip("/").partition("/")
    steps = path.split("/")
    if not re.fullmatch(r"[A-Za-z0-9]{1,64}", run_id) or not path or any(step in ("", ".", "..") for step in steps):
        raise BadInput(
            f"'{_shown(location)}' names no file of a run.",
            "It has the form runs:/<run id>/<path>, and the path goes down only.",
            "For example runs:/0123456789abcdef0123456789abcdef/eval/queries.parquet",
        )
    _make(folder)
    found = fetch(run_id, path, folder)
    # What an artifact store calls its files must not lead out of our folder.
    if not found.resolve().is_relative_to(folder.resolve()):
        raise OutsideWorldFailed(
            f"'{_shown(location)}' did not come from the run's artifacts.",
            "The download leads to a file outside of its folder.",
            "Log the file itself to the run, not a link to it.",
        )
    return found


def _source_of(name: str, dataset_source: DatasetSource | None) -> str:
    shown = one_line(name, 120)
    source = dataset_source(name) if dataset_source is not None and name else None
    if source is None:
        raise BadInput(
            f"The challenger's run has no dataset '{shown}' among its inputs that names a source.",
            "datasets:/<name> is the dataset of that name that training logged by mlflow.log_input.",
            "Check the name on the run's page, or name the file itself.",
        )
    log(f"The dataset '{shown}' is at {_shown(source)}.")
    scheme, _ = _split(source)
    if scheme in ("s3", "runs"):
        return source
    path = _file_uri(source) if scheme == "file" else Path(source)
    if scheme in ("", "file") and path.resolve().is_relative_to(Path.cwd()):
        return str(path.resolve())
    # A run's author must not choose which of this machine's other files is read, and shown in an error.
    raise BadInput(
        f"The dataset '{shown}' of the challenger's run was read from '{_shown(source)}', which is not read here.",
        "Of a run's datasets, those in S3, in a run's artifacts, or in the folder that this step runs in are read.",
        "Log the dataset from such a place, or name the file itself.",
    )


# -- S3


def _from_s3(location: str, bucket: str, key: str, path: Path) -> Path:
    if not bucket or not key or key.endswith("/"):
        raise BadInput(
            f"'{_shown(location)}' names no object in S3.",
            "It has the form s3://bucket/key, and a key that ends in '/' is a folder.",
            "Name the file itself.",
        )
    if path.exists():
        return path  # it was downloaded before, whole: it gets its name at the end
    from botocore.exceptions import BotoCoreError, ClientError  # type: ignore[import-untyped]

    hide(os.environ.get(name, "") for name in _SECRETS)
    part = path.with_name(path.name + ".part")
    try:
        _download(_client(), bucket, key, part, location)
        part.rename(path)
    except (ClientError, BotoCoreError, ValueError) as error:
        raise _explained(error, _shown(location)) from error
    except OSError as error:
        raise _no_room(path.parent, error) from error
    finally:
        part.unlink(missing_ok=True)
    return path


def _client() -> Any:
    import boto3  # type: ignore[import-untyped]
    from botocore.config import Config  # type: ignore[import-untyped]

    # AWS's own variables are of this data; MLflow's names where its artifacts are, which is most often the same store.
    named = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    endpoint = None if named else os.environ.get("MLFLOW_S3_ENDPOINT_URL") or None
    config = Config(
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        retries={"max_attempts": _ATTEMPTS, "mode": "standard"},
    )
    return boto3.session.Session().client("s3", endpoint_url=endpoint, config=config)


def _download(client: Any, bucket: str, key: str, path: Path, location: str) -> None:
    """Read an object into a file; a transfer that breaks off is taken up again, if the object is still the same."""
    from botocore.exceptions import BotoCoreError

    done, size, tag = 0, 0, ""
    told = time.monotonic()
    with path.open("wb") as file:
        for attempt in range(1, _ATTEMPTS + 1):
            again = {"Range": f"bytes={done}-", "IfMatch": tag} if done else {}
            answer = client.get_object(Bucket=bucket, Key=key, **again)
            if not done:
                size, tag = answer["ContentLength"], answer["ETag"]
                if size > _LOUD_BYTES:
                    log(f"Downloading {_shown(location)}: {size / 1e6:,.0f} MB ...")
            try:
                for piece in answer["Body"].iter_chunks(_PART_BYTES):
                    file.write(piece)
                    done += len(piece)
                    if time.monotonic() - told > _PROGRESS_SECONDS:
                        told = time.monotonic()
                        log(f"Downloaded {done / 1e6:,.0f} of {size / 1e6:,.0f} MB ...")
            except BotoCoreError:
                if attempt == _ATTEMPTS:
                    raise
            if done >= size:
                return
    raise OutsideWorldFailed(
        f"{_shown(location)} could not be downloaded: it broke off after {done:,} of {size:,} bytes.",
        f"So it did {_ATTEMPTS} times.",
        "Run this again when the storage answers.",
    )


def _explained(error: Exception, shown: str) -> GateError:
    """What boto3 raised, as one of our errors; its text is cut and freed of secrets."""
    from botocore import exceptions as boto  # type: ignore[import-untyped]

    said = one_line(without_secrets(str(error)), 400)
    if isinstance(error, boto.ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        return _refusal(code, status, shown, said)
    if isinstance(error, (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError)):
        return OutsideWorldFailed(
            f"{shown} cannot be read: there are no AWS credentials.",
            said,
            "Log in before this step, for example by aws-actions/configure-aws-credentials, or set AWS_ACCESS_KEY_ID "
            "and AWS_SECRET_ACCESS_KEY.",
        )
    if isinstance(error, (boto.ParamValidationError, boto.ProfileNotFound, boto.InvalidRegionError, ValueError)):
        return BadInput(f"{shown} cannot be looked for: {said}", "", "Check the location, and the AWS variables.")
    return OutsideWorldFailed(
        f"{shown} cannot be read: the storage gave no usable answer.",
        said,
        "Check AWS_ENDPOINT_URL (or MLFLOW_S3_ENDPOINT_URL) and the region, and that the storage is reachable from "
        "this runner.",
    )


def _refusal(code: str, status: int, shown: str, said: str) -> GateError:
    if code in ("NoSuchKey", "NoSuchBucket", "404", "NotFound"):
        what = "bucket" if code == "NoSuchBucket" else "object"
        return BadInput(f"{shown} is not there.", f"S3 has no such {what}: {said}", "Check the bucket and the key.")
    if code == "InvalidObjectState":
        return OutsideWorldFailed(
            f"{shown} is in an archive.", said, "Restore the object from its storage class, and run this again."
        )
    if code == "PreconditionFailed":
        return OutsideWorldFailed(
            f"{shown} was changed while it was downloaded.", said, "Run this again when nothing writes to it any more."
        )
    if status in (401, 403):
        return OutsideWorldFailed(
            f"{shown} cannot be read: not permitted ({code or status}).",
            f"{said} S3 says so, too, of an object that is not there, to an account that may not list the bucket.",
            "Give the account of this job s3:GetObject and s3:ListBucket, and check that its login has not run out.",
        )
    return OutsideWorldFailed(
        f"{shown} cannot be read: the storage answered {code or status}.", said, "Run this again when it is well."
    )
