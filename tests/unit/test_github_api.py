"""GitHub's API, as far as no network is needed: where a token may go, and when to wait."""

import time

import pytest

from champion_gate import github_api


@pytest.mark.parametrize(
    ("url", "server", "allowed"),
    [
        ("https://api.github.com", "https://github.com", True),
        ("http://api.github.com", "https://github.com", False),
        ("http://127.0.0.1:8080", "https://github.com", True),
        ("http://[::1]:8080", "https://github.com", True),
        ("http://localhost:3000/api/v3", "http://localhost:3000", True),
        ("http://git.acme.example/api/v3", "http://git.acme.example", True),
        ("http://git.acme.example/api/v3", "https://git.acme.example", False),
        ("http://evil.example/api/v3", "http://git.acme.example", False),
        ("https://api.github.com@evil.example", "https://github.com", False),
        ("ftp://api.github.com", "https://github.com", False),
        ("https://", "https://github.com", False),
        ("http://[::1", "http://[::1", False),
        ("", "", False),
    ],
)
def test_a_token_goes_over_https_unless_the_server_has_nothing_else(url, server, allowed):
    assert github_api._may_carry_a_token(url, server) is allowed


def limit(status, document=None, **headers):
    answer = github_api.Answer(status, {key.replace("_", "-"): value for key, value in headers.items()}, document)
    return github_api._limited_for(answer)


def test_a_rate_limit_says_how_long():
    soon = str(int(time.time()) + 30)
    assert limit(429, Retry_After="3") == 3
    assert limit(403, **{"x-ratelimit-remaining": "0", "x-ratelimit-reset": soon}) == pytest.approx(30, abs=5)
    assert limit(429, Retry_After="Mon, 02 Jan 2090 00:00:00 GMT") > 60
    assert limit(429, Retry_After="Mon, 02 Jan 2006 00:00:00 GMT") < 0


def test_a_rate_limit_that_does_not_say_is_endless():
    assert limit(429) == float("inf")
    assert limit(403, {"message": "You have exceeded a secondary rate limit."}) == float("inf")
    assert limit(403, **{"x-ratelimit-remaining": "0", "x-ratelimit-reset": "nan"}) == float("inf")
    assert limit(429, Retry_After="1e999") == float("inf")


def test_a_refusal_is_no_rate_limit():
    assert limit(403, {"message": "Resource not accessible by integration"}) is None
    assert limit(403, **{"x-ratelimit-remaining": "12"}) is None
    assert limit(404) is None


@pytest.mark.parametrize("text", ["acme/search", "a-b_c/x.y-z_1", "acme/..."])
def test_a_repository_is_an_owner_and_a_name(text):
    assert github_api.names_a_repository(text)


@pytest.mark.parametrize(
    "text", ["", "acme", "acme/", "/x", "acme/..", "acme/.", "a/b/c", "a/b?c", "a/b#", "a/b\n", "ä/b"]
)
def test_what_could_lead_elsewhere_is_no_repository(text):
    assert not github_api.names_a_repository(text)


def test_what_github_says_is_shown_on_one_line_and_cut():
    answer = github_api.Answer(422, {}, {"message": "no\n::error::x", "errors": [{"code": "\x1b[31m" * 100}]})
    said = answer.said()
    assert said.startswith("422: no\\n::error::x: ")
    assert len(said) == 300
    assert said.isprintable()


@pytest.mark.parametrize("document", [None, [], "x", {}, {"message": None}])
def test_an_answer_that_says_nothing_is_shown_by_its_status(document):
    assert github_api.Answer(404, {}, document).said() == "404"
