"""Data in S3 (a real API server), in artifacts of runs (a real MLflow server), in datasets of runs, and local."""

from __future__ import annotations

import http.server
import json
import os
import socket
import threading
from pathlib import Path
from unittest import mock

import pytest

from champion_gate import locations
from champion_gate.errors import BadInput, OutsideWorldFailed
from champion_gate.locations import local_file
from champion_gate.registry import Registry
from tests.support.s3_server import s3_server
from tests.support.server import free_port

CONTENT = b"query_id,label,x\n1,1,0.5\n" * 1000


@pytest.fixture(scope="session")
def s3_address(tmp_path_factory):
    """Where moto's S3 answers."""
    with s3_server(tmp_path_factory.mktemp("s3")) as address:
        yield address


@pytest.fixture
def aws(monkeypatch, tmp_path):
    """AWS's variables, of a job that is logged in, and nothing else of this machine."""
    for name in [name for name in os.environ if name.startswith(("AWS_", "MLFLOW_S3_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-key")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setattr(locations, "CONNECT_SECONDS", 1)
    monkeypatch.setattr(locations, "READ_SECONDS", 1)
    return monkeypatch


@pytest.fixture
def s3(s3_address, aws):
    """A client of the S3 server, which AWS_ENDPOINT_URL names, and a bucket `data` with an object."""
    import boto3

    aws.setenv("AWS_ENDPOINT_URL", s3_address)
    client = boto3.client("s3", region_name="us-east-1")
    client.create_bucket(Bucket="data")
    client.put_object(Bucket="data", Key="eval/queries.csv", Body=CONTENT)
    return client


def fetched(location, folder, dataset_source=None):
    return local_file(location, folder, _no_run, dataset_source)


def _no_run(*arguments):
    raise AssertionError("no run was named")


def refused(location, folder, error=BadInput, **settings):
    with pytest.raises(error) as found:
        fetched(location, folder, **settings)
    assert found.value.do
    assert "a-secret-key" not in str(found.value)
    assert "\n" not in str(found.value)
    return str(found.value)


# -- local


@pytest.mark.parametrize("location", ["data/t.csv", "/data/t.csv", "t.csv", "../t.csv", "a:b.csv", "t 1%20.csv"])
def test_a_local_path_is_itself(tmp_path, location):
    assert fetched(location, tmp_path) == Path(location)


def test_a_file_uri_is_a_local_path(tmp_path):
    assert fetched("file:///data/t%201.csv", tmp_path) == Path("/data/t 1.csv")
    assert fetched("file:/data/t.csv", tmp_path) == Path("/data/t.csv")
    assert "another machine" in refused("file://host/data/t.csv", tmp_path)


@pytest.mark.parametrize("scheme", ["gs", "https", "abfss", "dbfs", "models", "mlflow-artifacts", "s3a"])
def test_another_scheme_lists_those_that_there_are(tmp_path, scheme):
    text = refused(f"{scheme}://user:a-secret-key@host/t.csv", tmp_path)
    assert f"'{scheme}:'" in text
    assert "s3://bucket/key" in text


def test_an_empty_location_is_refused(tmp_path):
    assert "empty" in refused(" ", tmp_path)


# -- S3


def test_an_object_of_s3_is_downloaded(s3, tmp_path):
    path = fetched("s3://data/eval/queries.csv", tmp_path)
    assert path.read_bytes() == CONTENT
    assert path.name == "queries.csv"
    assert path.is_relative_to(tmp_path)


def test_mlflows_endpoint_serves_where_aws_names_none(s3, s3_address, aws, tmp_path):
    aws.delenv("AWS_ENDPOINT_URL")
    aws.setenv("MLFLOW_S3_ENDPOINT_URL", s3_address)
    assert fetched("s3://data/eval/queries.csv", tmp_path).read_bytes() == CONTENT


def test_the_endpoint_of_aws_comes_before_mlflows(s3, aws, tmp_path):
    aws.setenv("MLFLOW_S3_ENDPOINT_URL", "http://127.0.0.1:1")
    assert fetched("s3://data/eval/queries.csv", tmp_path).read_bytes() == CONTENT


def test_objects_of_one_name_stay_apart(s3, tmp_path):
    s3.put_object(Bucket="data", Key="other/queries.csv", Body=b"other")
    first, second = (fetched(f"s3://data/{folder}/queries.csv", tmp_path) for folder in ("eval", "other"))
    assert (first.read_bytes(), second.read_bytes()) == (CONTENT, b"other")


@pytest.mark.parametrize("key", ["a b+c?d#e%20.csv", "../../up.csv", "dots/../..", "ünï.csv", "-x.csv", ".hidden"])
def test_no_key_leads_out_of_the_folder(s3, tmp_path, key):
    s3.put_object(Bucket="data", Key=key, Body=b"x")
    path = fetched(f"s3://data/{key}", tmp_path)
    assert path.resolve().is_relative_to(tmp_path.resolve())
    assert path.read_bytes() == b"x"


@pytest.mark.parametrize("location", ["s3://data", "s3://data/", "s3:///key", "s3://data/folder/", "s3:/data/key"])
def test_what_names_no_object_is_refused(s3, tmp_path, location):
    refused(location, tmp_path)


def test_an_object_or_bucket_that_is_not_there_is_bad_input(s3, tmp_path):
    assert "is not there" in refused("s3://data/none.csv", tmp_path)
    assert "no such bucket" in refused("s3://no-such-bucket/none.csv", tmp_path)
    assert list(tmp_path.rglob("*.csv*")) == []


def test_a_bucket_that_cannot_be_is_bad_input(s3, tmp_path):
    refused("s3://not a bucket/none.csv", tmp_path)


def test_an_archived_object_is_the_storages_fault(s3, tmp_path):
    s3.put_object(Bucket="data", Key="cold.csv", Body=b"x", StorageClass="GLACIER")
    assert "archive" in refused("s3://data/cold.csv", tmp_path, OutsideWorldFailed)


def test_without_credentials_it_says_how_to_log_in(s3, aws, tmp_path):
    aws.delenv("AWS_ACCESS_KEY_ID")
    aws.delenv("AWS_SECRET_ACCESS_KEY")
    text = refused("s3://data/eval/queries.csv", tmp_path, OutsideWorldFailed)
    assert "no AWS credentials" in text
    assert "configure-aws-credentials" in text


def test_half_of_the_credentials_are_none(s3, aws, tmp_path):
    aws.delenv("AWS_SECRET_ACCESS_KEY")
    assert "no AWS credentials" in refused("s3://data/eval/queries.csv", tmp_path, OutsideWorldFailed)


def test_an_endpoint_that_is_not_reached_is_the_storages_fault(aws, tmp_path):
    aws.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free_port()}")
    assert "AWS_ENDPOINT_URL" in refused("s3://data/t.csv", tmp_path, OutsideWorldFailed)


def test_an_endpoint_that_is_no_address_is_bad_input(aws, tmp_path):
    aws.setenv("AWS_ENDPOINT_URL", "not an address")
    assert "AWS variables" in refused("s3://data/t.csv", tmp_path)


def test_a_silent_endpoint_is_given_up(aws, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        aws.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        refused("s3://data/t.csv", tmp_path, OutsideWorldFailed)


class _Breaking(http.server.BaseHTTPRequestHandler):
    """An S3 that is refused, or sends half of what it announced: `script` says what each request gets."""

    script: list[str] = []  # noqa: RUF012
    asked: list[str | None] = []  # noqa: RUF012

    def do_GET(self):
        what = type(self).script.pop(0)
        type(self).asked.append(self.headers.get("Range"))
        if what in ("403", "412", "500"):
            codes = {"403": "AccessDenied", "412": "PreconditionFailed", "500": "InternalError"}
            body = f"<Error><Code>{codes[what]}</Code><Message>No.</Message></Error>".encode()
            self.send_response(int(what))
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)
            return
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").rstrip("-"))
        rest = CONTENT[start:]
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(rest)))
        self.send_header("ETag", '"tag"')
        self.end_headers()
        self.wfile.write(rest[: len(rest) // 2] if what == "half" else rest)
        self.close_connection = True

    def log_message(self, *arguments):
        pass


@pytest.fixture
def breaking(aws):
    """Sets what each request of an endpoint gets; its `asked` are the ranges that were asked for."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Breaking)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    aws.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_address[1]}")
    aws.setenv("AWS_MAX_ATTEMPTS", "1")
    _Breaking.asked = []

    def script(*answers):
        _Breaking.script = list(answers)
        return _Breaking

    yield script
    server.shutdown()
    server.server_close()


def test_no_rights_are_the_storages_fault(breaking, tmp_path):
    breaking("403")
    text = refused("s3://data/t.csv", tmp_path, OutsideWorldFailed)
    assert "not permitted (AccessDenied)" in text
    assert "s3:GetObject" in text


def test_a_broken_transfer_is_taken_up_where_it_broke_off(breaking, tmp_path):
    endpoint = breaking("half", "half", "whole")
    assert fetched("s3://data/t.csv", tmp_path).read_bytes() == CONTENT
    first, second, third = endpoint.asked
    assert first is None
    assert 0 < int(second[6:-1]) < int(third[6:-1]) < len(CONTENT)


def test_a_transfer_that_always_breaks_off_leaves_nothing(breaking, tmp_path):
    breaking("half", "half", "half")
    refused("s3://data/t.csv", tmp_path, OutsideWorldFailed)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_halves_of_two_objects_are_never_put_together(breaking, tmp_path):
    breaking("half", "412")
    assert "changed while it was downloaded" in refused("s3://data/t.csv", tmp_path, OutsideWorldFailed)


def test_a_failing_storage_is_the_storages_fault(breaking, tmp_path):
    breaking(*["500"] * 9)
    assert "InternalError" in refused("s3://data/t.csv", tmp_path, OutsideWorldFailed)


def test_a_large_download_says_so(s3, aws, tmp_path, capsys):
    aws.setattr(locations, "_LOUD_BYTES", 100)
    aws.setattr(locations, "_PROGRESS_SECONDS", -1.0)
    fetched("s3://data/eval/queries.csv", tmp_path)
    said = capsys.readouterr().err
    assert "Downloading s3://data/eval/queries.csv: 0 MB" in said
    assert "Downloaded 0 of 0 MB" in said


def test_no_room_for_a_download_is_the_worlds_fault(s3, tmp_path):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, hard))
    try:
        text = refused("s3://data/eval/queries.csv", tmp_path, OutsideWorldFailed)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "could not be stored" in text


# -- runs


@pytest.fixture
def registry(mlflow_server):
    # Connecting sets more of MLflow's variables, which the tests after this one must not see.
    with mock.patch.dict(os.environ, {"MLFLOW_TRACKING_URI": mlflow_server.uri}):
        yield Registry.connect()


@pytest.fixture
def run(mlflow_client, tmp_path):
    """The id of a run with an artifact eval/queries.csv and, as an input, a dataset `eval-set`."""
    from mlflow.entities import Dataset, DatasetInput

    made = mlflow_client.create_run("0")
    (tmp_path / "queries.csv").write_bytes(CONTENT)
    mlflow_client.log_artifact(made.info.run_id, str(tmp_path / "queries.csv"), "eval")
    source = json.dumps({"uri": f"runs:/{made.info.run_id}/eval/queries.csv"})
    mlflow_client.log_inputs(made.info.run_id, [DatasetInput(Dataset("eval-set", "1", "local", source))])
    return made.info.run_id


def test_an_artifact_of_a_run_is_downloaded(registry, run, tmp_path):
    folder = tmp_path / "work"
    path = local_file(f"runs:/{run}/eval/queries.csv", folder, registry.download_artifact)
    assert path.read_bytes() == CONTENT
    assert path.is_relative_to(folder)


def test_a_dataset_of_a_run_is_found_by_its_name(registry, run, tmp_path):
    path = local_file(
        "datasets:/eval-set", tmp_path, registry.download_artifact, lambda name: registry.dataset_source(run, name)
    )
    assert path.read_bytes() == CONTENT
    with pytest.raises(BadInput, match="no dataset 'other'"):
        local_file("datasets:/other", tmp_path, _no_run, lambda name: registry.dataset_source(run, name))


@pytest.mark.parametrize(
    "location",
    ["runs:/", "runs:/abc", "runs:/abc/", "runs:/abc/../x", "runs:/abc/a/../../x", "runs:/a.b/x", "runs:/abc//x"],
)
def test_what_names_no_file_of_a_run_is_refused(tmp_path, location):
    assert "names no file of a run" in refused(location, tmp_path)


def test_an_artifact_that_leads_out_of_its_folder_is_refused(tmp_path):
    def link(run_id, path, folder):
        found = folder / "link.csv"
        found.symlink_to("/etc/passwd")
        return found

    with pytest.raises(OutsideWorldFailed, match="outside of its folder"):
        local_file("runs:/abc/link.csv", tmp_path, link)


# -- where a run's dataset may be


def test_a_dataset_in_s3_is_downloaded(s3, tmp_path):
    path = fetched("datasets:/eval", tmp_path, {"eval": "s3://data/eval/queries.csv"}.get)
    assert path.read_bytes() == CONTENT


def test_a_dataset_in_the_workspace_is_read_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    for source in ("data/t.csv", f"{tmp_path}/data/t.csv", f"file://{tmp_path}/data/t.csv"):
        assert fetched("datasets:/eval", tmp_path, {"eval": source}.get) == tmp_path / "data/t.csv"


@pytest.mark.parametrize(
    "source",
    ["/etc/passwd", "../t.csv", "file:///etc/passwd", "https://host/t.csv", "datasets:/eval", "gs://bucket/key"],
)
def test_a_runs_author_does_not_choose_another_file_of_this_machine(tmp_path, monkeypatch, source):
    (tmp_path / "workspace").mkdir()
    monkeypatch.chdir(tmp_path / "workspace")
    assert "not read here" in refused("datasets:/eval", tmp_path, dataset_source={"eval": source}.get)


@pytest.mark.parametrize("location", ["datasets:/", "datasets:/none"])
def test_a_dataset_that_the_run_does_not_name_is_bad_input(tmp_path, location):
    assert "no dataset" in refused(location, tmp_path, dataset_source={}.get)
    assert "no dataset" in refused(location, tmp_path)
