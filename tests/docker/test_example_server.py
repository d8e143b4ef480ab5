"""examples/server, which people copy: what is seen in its files, and what it does when started as they start it."""

from __future__ import annotations

import re
import stat
import subprocess
import time
import urllib.request

import pytest
import yaml

from tests.support import compose
from tests.support.cli import Cli
from tests.support.compose import ComposeStack, Project
from tests.support.names import unique_model_name
from tests.support.registry_world import World
from tests.support.stack import JOBS
from tests.support.steps import history, promote, rollback, validated

FILE = yaml.safe_load((compose.SERVER / "compose.yml").read_text(encoding="utf-8"))
SERVICES = FILE["services"]
DOCKERFILE = (compose.SERVER / "mlflow" / "Dockerfile").read_text(encoding="utf-8")


def test_every_image_is_named_with_its_version():
    images = [service["image"] for service in SERVICES.values()] + re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert len(images) == len(SERVICES) + 1
    assert [image for image in images if not re.fullmatch(r"[a-z0-9/-]+:v?\d+(\.\d+){1,2}(-slim)?", image)] == []


def test_the_image_of_mlflow_is_named_after_the_version_that_is_locked():
    lock = (compose.SERVER / "mlflow" / "requirements.txt").read_text(encoding="utf-8")
    locked = re.search(r"^mlflow==(\S+)", lock, re.MULTILINE)
    assert locked
    assert SERVICES["mlflow"]["image"] == f"champion-gate/mlflow:{locked[1]}"


def test_only_the_proxy_is_reached_from_outside():
    assert [name for name, service in SERVICES.items() if "ports" in service] == ["proxy"]


def test_every_service_says_whether_it_is_well_and_comes_back_after_a_restart():
    assert [name for name, service in SERVICES.items() if "healthcheck" not in service] == []
    assert {service["restart"] for service in SERVICES.values()} == {"unless-stopped"}


def test_no_secret_is_in_the_files_and_none_is_left_to_a_default():
    text = (compose.SERVER / "compose.yml").read_text(encoding="utf-8")
    secrets = set(re.findall(r"\$\{(\w+(?:PASSWORD|KEY))\b", text))
    assert secrets == {
        "POSTGRES_PASSWORD",
        "MLFLOW_ADMIN_PASSWORD",
        "MLFLOW_SECRET_KEY",
        "S3_SECRET_KEY",
        "REDIS_PASSWORD",
    }
    for name in secrets:
        assert f"${{{name}:?" in text, f"where {name} is not set, nothing may start"
        assert f"${{{name}:-" not in text
    assert {".env", "tls/"} <= set((compose.SERVER / ".gitignore").read_text().split())


def test_make_secrets_makes_new_ones_and_replaces_none(tmp_path):
    folder = compose.server_folder(tmp_path)
    made = {path: path.read_text() for path in (folder / ".env", *(folder / "tls").iterdir())}
    assert {path.name for path in made} == {".env", "ca.crt", "server.crt", "server.key"}
    for name in (".env", "tls/server.key"):
        assert stat.S_IMODE((folder / name).stat().st_mode) == 0o600
    values = [line.partition("=")[2] for line in made[folder / ".env"].splitlines()]
    assert len(set(values)) == len(values) == 6
    subprocess.run([folder / "make-secrets", "other.example.com"], check=True, capture_output=True)
    assert {path: path.read_text() for path in made} == made
    other = compose.server_folder(tmp_path / "other")
    assert not set(values[1:]) & {line.partition("=")[2] for line in (other / ".env").read_text().splitlines()}


@pytest.mark.parametrize("host", ["", "a;b", "$(id)", "-x", "a b", "https://host"])
def test_make_secrets_refuses_what_is_no_host(tmp_path, host):
    script = tmp_path / "make-secrets"
    script.write_bytes((compose.SERVER / "make-secrets").read_bytes())
    done = subprocess.run(["bash", script, host], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "usage" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["make-secrets"]


# -- started


@pytest.fixture(scope="module")
def project(engine, tmp_path_factory):
    folder = compose.server_folder(
        tmp_path_factory.mktemp("example"), HTTPS_ADDRESS="127.0.0.1:", REDIS_ADDRESS="127.0.0.1:", MLFLOW_WORKERS="1"
    )
    project = Project(compose.project_name("example"), folder)
    if missing := project.missing_image():
        pytest.skip(f"no container engine that has the images: {missing}")
    try:
        project("up", "--detach", "--wait")
        yield project
    finally:
        project.down()


@pytest.mark.slow
def test_what_was_released_is_still_there_after_all_containers_were_made_anew(project, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    passwords = {}

    def signed_in():
        stack = ComposeStack(project, passwords)  # its ports are others each time
        if JOBS not in passwords:
            stack.add_user()
        for variable, value in stack.variables().items():
            monkeypatch.setenv(variable, value)
        world = World(MlflowClient(stack.uri), name)
        return Cli(stack.uri, tmp_path, None, stack.variables()), world, ("--redis-url", stack.redis_url)

    name = unique_model_name()
    cli, world, lease = signed_in()
    for ndcg in (0.80, 0.82):
        validated(cli, world, ndcg)
        done = promote(cli, world, *lease)
        assert done.exit_code == 0, done.text
    project("down")  # the volumes stay
    project("up", "--detach", "--wait")
    cli, world, lease = signed_in()
    assert world.aliases == {"champion": "2", "previous-champion": "1"}
    done = rollback(cli, world, *lease)
    assert done.exit_code == 0, done.text
    assert world.champion == "1"
    assert [row["kind"] for row in history(cli, world).json()] == ["rollback", *("promotion", "gate") * 2]
    fences = [int(run.data.tags["gate.fence"]) for run in world.log() if "gate.fence" in run.data.tags]
    assert fences == sorted(set(fences))


@pytest.mark.slow
def test_without_its_database_the_server_is_not_well_though_it_says_so(project):
    stack = ComposeStack(project, {})
    with stack.outage("postgres"):
        deadline = time.monotonic() + 120
        while "unhealthy" not in project("ps", "--format", "{{.Health}}", "mlflow"):
            assert time.monotonic() < deadline
            time.sleep(1)
        with urllib.request.urlopen(f"{stack.uri}/health", timeout=10, context=stack.context()) as answer:
            assert answer.status == 200
