"""Who approved a run, against a server that stands in for GitHub's API."""

from __future__ import annotations

import time

import pytest

from champion_gate import github_api as client
from champion_gate.approvals import approval
from champion_gate.errors import OutsideWorldFailed
from champion_gate.github import Context
from tests.support.fault_proxy import fault_proxy
from tests.support.github_api import User, github_api
from tests.support.server import free_port

TOKEN = "token-of-the-job"
APPROVALS = "/actions/runs/42/approvals"


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """Waits are short; what is tested is that they are taken and end, not how long they are."""
    monkeypatch.setattr(client, "BACKOFF", (0.01, 0.02))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def ask(uri, token=TOKEN, repository="acme/search", run_id="42"):
    return approval(
        Context(
            actor="ann",
            commit="abc",
            branch="main",
            repository=repository,
            run_id=run_id,
            run_url=f"https://github.com/acme/search/actions/runs/{run_id}",
            event="push",
            api_url=uri,
            graphql_url=f"{uri}/graphql",
            run_attempt=1,
        ),
        token,
    )


def failure(uri, **changes):
    with pytest.raises(OutsideWorldFailed) as raised:
        ask(uri, **changes)
    return str(raised.value)


def test_the_reviewer_of_the_run_approved_it(api):
    api.review("bea", "approved", "production", comment="The figures hold.")
    found = ask(api.uri)
    assert (found.reviewer, found.comment, found.environment) == ("bea", "The figures hold.", "production")
    assert len(api.requests) == 1
    assert api.requests[0].headers["Authorization"] == f"Bearer {TOKEN}"


def test_a_run_that_nobody_reviewed_has_no_approval(api):
    assert ask(api.uri) is None


def test_a_run_that_was_rejected_has_no_approval(api):
    api.review("bea", "approved", "production")
    api.review("cem", "rejected", "production", comment="Not today.")
    assert ask(api.uri) is None


def test_each_environment_is_looked_at_by_itself(api):
    api.review("bea", "approved", "staging", "production")
    api.review("cem", "rejected", "staging")
    found = ask(api.uri)
    assert (found.reviewer, found.environment) == ("bea", "production")


def test_another_runs_approval_is_not_this_runs(api):
    api.review("bea", "approved", "production", run="acme/search#43")
    api.review("bea", "approved", "production", run="acme/other#42")
    assert ask(api.uri) is None


def test_an_enterprise_server_is_asked_below_its_prefix(api):
    api.prefix = "/api/v3"
    api.review("bea", "approved", "production")
    assert ask(f"{api.uri}/api/v3").reviewer == "bea"
    assert api.requests[0].path.startswith(f"/api/v3/repos/acme/search{APPROVALS}")


def test_a_rejection_on_a_later_page_counts(api):
    api.reviews_per_page = 2
    for login in ("bea", "cem", "dan", "eli"):
        api.review(login, "approved", "production")
    assert ask(api.uri).also == ("dan", "cem", "bea")
    api.review("fay", "rejected", "production")
    assert ask(api.uri) is None
    assert len(api.requests) == 2 + 3


@pytest.mark.parametrize("pages", [2, 30])
def test_reviews_without_end_are_no_answer(api, monkeypatch, pages):
    monkeypatch.setattr(client, "_PAGES", pages)
    api.reviews_per_page = 1
    for _ in range(pages + 1):
        api.review("bea", "approved", "production")
    assert "does not end" in failure(api.uri)


def test_a_token_without_the_right_is_told_which_it_needs(api):
    api.users[TOKEN] = User("github-actions[bot]", 41898282, may_read_runs=False)
    said = failure(api.uri)
    assert "Resource not accessible by integration" in said
    assert "permissions: {actions: read, contents: read}" in said


def test_a_run_that_the_token_may_not_see_is_said(api):
    said = failure(api.uri, run_id="7")
    assert "no run 7 of acme/search" in said
    assert "actions: read" in said


def test_a_token_that_github_does_not_know_is_said_and_never_shown(api):
    api.refuse(401, document={"message": "Bad credentials: wrong-token\n::error::gotcha"})
    said = failure(api.uri, token="wrong-token")
    assert "does not know the token" in said
    assert "wrong-token" not in said
    assert "\n" not in said


@pytest.mark.parametrize("status", [400, 410, 422])
def test_another_refusal_shows_what_github_says(api, status):
    api.refuse(status, document={"message": "No such thing"})
    assert f"{status}: No such thing" in failure(api.uri)


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_servers_error_is_tried_again(api, status):
    api.review("bea", "approved", "production")
    api.refuse(status, times=2)
    assert ask(api.uri).reviewer == "bea"


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_server_that_stays_broken_is_no_answer(api, status):
    api.review("bea", "approved", "production")
    api.refuse(status)
    assert str(status) in failure(api.uri)
    assert len(api.requests) == 3


def test_a_rate_limit_that_ends_soon_is_waited_for(api):
    api.review("bea", "approved", "production")
    api.refuse(403, headers={"Retry-After": "1"}, times=1)
    assert ask(api.uri).reviewer == "bea"


def test_a_rate_limit_that_lasts_is_no_answer_and_no_missing_right(api):
    api.refuse(403, headers={"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(time.time()) + 3600)})
    said = failure(api.uri)
    assert "limits how often" in said
    assert "permissions" not in said
    assert len(api.requests) == 1


@pytest.mark.parametrize("fault", ["silence", "drip", "drop"])
def test_a_network_that_fails_is_no_answer(api, monkeypatch, fault):
    monkeypatch.setattr(client, "_SILENCE_SECONDS", 0.5)
    monkeypatch.setattr(client, "_REQUEST_SECONDS", 0.6)
    monkeypatch.setattr(client, "_TOTAL_SECONDS", 2.0)
    api.review("bea", "approved", "production")
    with fault_proxy(api.uri) as proxy:
        getattr(proxy.when("GET"), fault)()
        assert "no usable answer" in failure(proxy.uri)
        assert len(proxy.seen("GET")) > 1


def test_a_time_out_once_is_asked_again(api, monkeypatch):
    monkeypatch.setattr(client, "_SILENCE_SECONDS", 0.5)
    api.review("bea", "approved", "production")
    with fault_proxy(api.uri) as proxy:
        proxy.when("GET", times=1).silence()
        assert ask(proxy.uri).reviewer == "bea"


def test_nobody_at_the_address_is_no_answer():
    assert "no usable answer" in failure(f"http://127.0.0.1:{free_port()}")


@pytest.mark.parametrize(
    "document",
    [{"message": "hi"}, "hi", b"<html>Sign in</html>", b"[" * 100_000, b"", [{"state": "approved"}], [None], [[]]],
)
def test_something_else_in_githubs_place_is_no_answer(api, document):
    api.refuse(200, document=document)
    assert "not of GitHub's API" in failure(api.uri)


def test_a_token_is_not_led_to_another_host(api):
    with github_api() as elsewhere:
        elsewhere.review("mallory", "approved", "production")
        api.refuse(302, headers={"Location": f"{elsewhere.uri}/repos/acme/search{APPROVALS}"})
        assert "redirects" in failure(api.uri)
        assert elsewhere.requests == []


def test_a_renamed_repository_is_followed_on_the_same_host(api):
    api.review("bea", "approved", "production")
    api.refuse(301, path="/repos/acme/old", headers={"Location": f"/repos/acme/search{APPROVALS}"})
    assert ask(api.uri, repository="acme/old").reviewer == "bea"


def test_hostile_words_are_shown_on_one_line(api):
    api.review("mallory\n::add-mask::x", "approved", "prod\x1b[2Juction", comment="::error::no\n" + "x" * 5000)
    found = ask(api.uri)
    assert found.reviewer == "mallory\\n::add-mask::x"
    assert found.environment == "prod\\u001b[2Juction"
    assert found.comment.startswith(": :error::no\\n")
    assert len(found.comment) == 1000
