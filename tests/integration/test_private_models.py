"""A server that shows nobody what belongs to others: a team releases there as anywhere, and only what is its own."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from tests.support.cli import Cli
from tests.support.names import unique_model_name
from tests.support.server import Server, mlflow_server
from tests.support.steps import train

AUTH = """\
[mlflow]
database_uri = sqlite:///{folder}/users.db
admin_username = admin
default_permission = NO_PERMISSIONS
auth_cache_ttl_seconds = 60
"""


class Teams:
    """The server, and users of it that have no rights but to what they made themselves."""

    def __init__(self, server: Server, password: str) -> None:
        self.server = server
        self._admin = ("admin", password)

    def user(self, name: str) -> dict[str, str]:
        """MLflow's variables of a new user."""
        account = {"username": name, "password": secrets.token_hex(12)}
        uri = f"{self.server.uri}/api/2.0/mlflow/users/create"
        requests.post(uri, json=account, auth=self._admin, timeout=60).raise_for_status()
        return {f"MLFLOW_TRACKING_{key.upper()}": value for key, value in account.items()}


@pytest.fixture(scope="module")
def teams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Teams]:
    folder: Path = tmp_path_factory.mktemp("private")
    settings = folder / "auth.ini"
    settings.write_text(AUTH.format(folder=folder))
    password = secrets.token_hex(12)
    variables = {
        "MLFLOW_AUTH_CONFIG_PATH": str(settings),
        "MLFLOW_AUTH_ADMIN_PASSWORD": password,
        "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(24),
    }
    with mlflow_server(folder, options=["--app-name", "basic-auth"], variables=variables) as server:
        yield Teams(server, password)


def test_a_team_releases_and_another_one_cannot_take_the_name(teams, tmp_path, forks):
    model = unique_model_name()
    ours = Cli(teams.server.uri, tmp_path, forks, teams.user("search-ci"))
    for ndcg, version in ((0.80, "1"), (0.85, "2")):
        trained = train(ours, "/search/ranking/training", model, ndcg)
        assert (trained.exit_code, trained.outputs["version"]) == (0, version), trained.text
        released = ours("release", "--model-name", model, "--version", version, "--threshold", 0.75)
        assert (released.exit_code, released.outputs["changed"]) == (0, "true"), released.text
    back = ours("rollback", "--model-name", model, "--reason", "clicks fell")
    assert (back.exit_code, back.outputs["version"]) == (0, "1"), back.text
    told = ours("history", "--model-name", model, "--json").json()
    assert [row["kind"] for row in told] == ["rollback", "promotion", "gate", "promotion", "gate"]

    theirs = Cli(teams.server.uri, tmp_path, forks, teams.user("ads-ci"))
    mark = tmp_path / "trained"
    refused = train(theirs, "/ads/ranking/training", model, 0.99, more=f"environment={mark}")
    assert refused.exit_code == 3, refused.text
    assert "not permitted (403)" in refused.text
    assert not mark.exists()  # before hours of training
    assert ours("history", "--model-name", model, "--json").json() == told


def test_a_new_name_that_is_not_well_formed_is_not_made_there_either(teams, tmp_path, forks):
    user = teams.user("names-ci")
    refused = train(Cli(teams.server.uri, tmp_path, forks, user), "/search/ranking/training", "Search Ranker", 0.80)
    assert refused.exit_code == 2, refused.text
    account = (user["MLFLOW_TRACKING_USERNAME"], user["MLFLOW_TRACKING_PASSWORD"])
    uri = f"{teams.server.uri}/api/2.0/mlflow/registered-models/search"
    assert requests.get(uri, auth=account, timeout=60).json() == {}
