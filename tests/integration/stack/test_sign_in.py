"""A server that does not let a job in, or not that far: never a pass, never "not there", and nothing moves."""

from __future__ import annotations

import pytest

from tests.support.stack import JOBS
from tests.support.steps import history, promote, rollback


def everything(cli, world, lease, **env):
    """Each command that reads or moves, with other variables than the jobs have."""
    return [
        cli("validate-model", "--model-name", world.name, "--threshold", 0.1, **env),
        promote(cli, world, *lease, **env),
        rollback(cli, world, *lease, **env),
        history(cli, world, **env),
    ]


def test_the_jobs_are_not_the_administrator(stack):
    assert stack.call(f"2.0/mlflow/users/get?username={JOBS}")["user"]["is_admin"] is False


@pytest.mark.parametrize(
    "variables",
    [
        {"MLFLOW_TRACKING_PASSWORD": "this-is-not-the-password"},
        {"MLFLOW_TRACKING_USERNAME": "somebody-else"},
        {"MLFLOW_TRACKING_USERNAME": None, "MLFLOW_TRACKING_PASSWORD": None},
    ],
    ids=["password", "user", "none"],
)
def test_who_is_not_known_gets_nothing(cli, waiting, lease, variables):
    before = waiting.snapshot()
    for done in everything(cli, waiting, lease, **variables):
        assert done.exit_code == 3, done.text
        assert "MLFLOW_TRACKING_USERNAME" in done.text or "credentials" in done.text
        assert "this-is-not-the-password" not in done.text
    assert waiting.snapshot() == before


def test_a_server_whose_certificate_is_not_known_is_not_spoken_to(cli, waiting, lease):
    before = waiting.snapshot()
    for done in everything(cli, waiting, lease, MLFLOW_TRACKING_SERVER_CERT_PATH=None):
        assert done.exit_code == 3, done.text
        assert "its certificate is not trusted" in done.text
        assert "trying again" not in done.text  # it will not be another one in a minute
    assert waiting.snapshot() == before


def test_the_certificate_may_come_from_the_variable_of_requests(cli, waiting, lease, stack):
    without = {"MLFLOW_TRACKING_SERVER_CERT_PATH": None}
    done = promote(cli, waiting, *lease, **without, REQUESTS_CA_BUNDLE=str(stack.authority))
    assert (done.exit_code, done.outputs["changed"]) == (0, "true"), done.text


def test_a_redis_whose_certificate_or_password_is_wrong_is_no_lease(cli, waiting, stack):
    before = waiting.snapshot()
    strange = stack.redis_url.partition("?")[0]
    password = stack.redis_url.partition("@")[0].rpartition(":")[2]
    for url in (strange, stack.redis_url.replace(password, "another")):
        done = promote(cli, waiting, "--redis-url", url)
        assert done.exit_code == 3, done.text
        assert password not in done.text
    assert waiting.snapshot() == before


def test_another_team_sees_the_history_and_moves_nothing(cli, waiting, lease, stack):
    before = waiting.snapshot()
    other = stack.variables(stack.add_user(f"reader-of-{waiting.name}"))
    seen = history(cli, waiting, **other)
    assert seen.exit_code == 0, seen.text
    assert seen.json() == history(cli, waiting).json()
    for done in (promote(cli, waiting, *lease, **other), rollback(cli, waiting, *lease, **other)):
        assert done.exit_code == 3, done.text
        assert "not permitted (403)" in done.text
    assert waiting.snapshot() == before
