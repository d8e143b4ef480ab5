"""The comment on a pull request, against a server that stands in for GitHub's API."""

from __future__ import annotations

import dataclasses
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from champion_gate import github_api as client
from champion_gate import pull_request
from champion_gate.github import Context, without_secrets
from champion_gate.pull_request import comment, marker_for
from tests.support.fault_proxy import fault_proxy
from tests.support.github_api import ACTIONS, User, github_api
from tests.support.server import free_port

TOKEN = "token-of-the-job"
MARKER = marker_for("product-search", "champion")
COMMENTS = "/issues/7/comments"
ANN = User("ann", 11)
STRANGER = User("mallory", 666)


@pytest.fixture(autouse=True)
def patience(monkeypatch):
    """Waits are short; what is tested is that they are taken and end, not how long they are."""
    for module in (client, pull_request):
        monkeypatch.setattr(module, "BACKOFF", (0.01, 0.02))
    monkeypatch.setattr(pull_request, "_SETTLING", (0.01, 0.02))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def job(uri, **changes):
    plain = Context(
        actor="ann",
        commit="abc",
        branch="better-ranker",
        repository="acme/search",
        run_id="42",
        run_url="https://github.com/acme/search/actions/runs/42",
        event="pull_request",
        api_url=uri,
        graphql_url=f"{uri}/graphql",
        pull_request=7,
    )
    return dataclasses.replace(plain, **changes)


def post(api, body="passed", *, token=TOKEN, marker=MARKER, **changes):
    return comment(job(api.uri, **changes), token, marker, body)


def text(body, marker=MARKER):
    return f"{marker}\n{body}"


# -- one comment, updated in place


def test_the_first_gate_writes_a_comment(api):
    posted = post(api)
    assert list(api.bodies().values()) == [text("passed")]
    assert posted.state == "created"
    assert posted.url == f"https://github.com/acme/search/pull/7#issuecomment-{next(iter(api.bodies()))}"


def test_nobody_is_asked_for_the_tokens_user_where_no_comment_could_be_ours(api):
    api.add(STRANGER, "Nice")
    post(api)
    assert [(each.method, each.path.partition("?")[0]) for each in api.requests] == [
        ("GET", f"/repos/acme/search{COMMENTS}"),
        ("POST", f"/repos/acme/search{COMMENTS}"),
        ("GET", f"/repos/acme/search{COMMENTS}"),
    ]


def test_the_second_gate_updates_it_in_place(api):
    post(api)
    again = post(api, "failed")
    assert again.state == "updated"
    assert list(api.bodies().values()) == [text("failed")]


def test_a_rerun_with_the_same_result_writes_nothing(api):
    post(api)
    writes = list(api.writes)
    again = post(api)
    assert again.state == "unchanged"
    assert again.url
    assert api.writes == writes


def test_other_line_ends_are_no_change(api):
    api.add(ACTIONS, text("passed\n\nwith room").replace("\n", "\r\n"))
    assert post(api, "passed\n\nwith room\n").state == "unchanged"


def test_two_models_and_two_aliases_have_a_comment_each(api):
    markers = [
        marker_for("product-search", "champion"),
        marker_for("product-search", "de"),
        marker_for("ads", "champion"),
    ]
    for round_ in ("first", "second"):
        for marker in markers:
            post(api, round_, marker=marker)
    assert sorted(api.bodies().values()) == sorted(text("second", marker) for marker in markers)


@pytest.mark.parametrize(
    "name", ["-->\n<script>", "@everyone", "a" * 10_000, "x\udcff", "champion-gate: -->", "\n\n# hi"]
)
def test_a_hostile_name_has_one_comment_like_any_other(api, name):
    marker = marker_for(name, name)
    post(api, "first", marker=marker)
    post(api, "second", marker=marker)
    assert list(api.bodies().values()) == [text("second", marker)]


# -- which comment is ours


def test_a_strangers_comment_with_our_marker_is_never_touched(api):
    forged = api.add(STRANGER, text("passed, trust me"))
    assert post(api).state == "created"
    assert post(api, "failed").state == "updated"
    assert api.bodies().pop(forged) == text("passed, trust me")
    assert list(api.bodies().values()) == [text("passed, trust me"), text("failed")]


@pytest.mark.parametrize(
    "stranger",
    [
        User("github-actions", 666),
        User("github-actions-bot", 667),
        User("other-app[bot]", 668),
        User("GitHub-Actions[bot]x", 669),
        None,
    ],
)
def test_somebody_with_a_name_like_ours_is_a_stranger(api, stranger):
    forged = api.add(stranger, text("forged"))
    assert post(api).state == "created"
    assert api.bodies()[forged] == text("forged")


@pytest.mark.parametrize(
    "body", [f"> {MARKER}\n> passed", f"See {MARKER}", f"\n{MARKER}", f"{MARKER} passed", MARKER[:-4]]
)
def test_our_users_comment_that_only_quotes_the_marker_is_left(api, body):
    quoting = api.add(ACTIONS, body)
    assert post(api).state == "created"
    assert api.bodies()[quoting] == body


def test_of_several_of_ours_the_newest_is_updated(api):
    numbers = [api.add(ACTIONS, text(body)) for body in ("one", "two", "three")]
    assert post(api).state == "updated"
    assert api.bodies() == dict(zip(numbers, [text("one"), text("two"), text("passed")], strict=True))


def test_a_comment_on_a_later_page_is_found(api):
    for number in range(250):
        api.add(STRANGER, f"comment {number}")
    own = api.add(ACTIONS, text("old"))
    for number in range(120):
        api.add(STRANGER, f"later {number}")
    assert post(api).state == "updated"
    assert api.bodies()[own] == text("passed")
    assert len(api.bodies()) == 371
    assert [each.path.rpartition("=")[2] for each in api.seen("GET", COMMENTS)] == ["1", "2", "3", "4"]


def test_pages_without_end_end_in_no_comment(api, monkeypatch):
    monkeypatch.setattr(client, "_PAGES", 3)
    for number in range(301):
        api.add(STRANGER, f"comment {number}")
    posted = post(api)
    assert (posted.state, posted.level) == ("not_posted", "warning")
    assert "more than 300 comments" in posted.reason
    assert api.writes == []


def test_a_next_page_elsewhere_is_not_followed(api):
    with github_api() as elsewhere:
        link = {"Link": f'<{elsewhere.uri}/repos/acme/search{COMMENTS}?page=2>; rel="next"'}
        api.refuse(200, "GET", COMMENTS, headers=link, document=[{"id": 1, "body": "x"}], times=1)
        assert post(api).state == "created"
        assert elsewhere.requests == []


# -- whose token it is


def test_graphql_may_leave_out_what_rest_adds_to_a_bots_name(api):
    api.viewer = {"login": "github-actions", "databaseId": None}
    own = api.add(ACTIONS, text("old"))
    impostor = api.add(User("github-actions", 666), text("forged"))
    assert post(api).state == "updated"
    assert api.bodies() == {own: text("passed"), impostor: text("forged")}


def test_without_graphql_the_job_is_taken_for_githubs_own_bot(api):
    api.has_graphql = False
    own = api.add(ACTIONS, text("old"))
    assert post(api).state == "updated"
    assert api.bodies() == {own: text("passed")}
    assert [each.path for each in api.requests[1:3]] == ["/graphql", "/user"]


@pytest.mark.parametrize("document", [{"errors": [{"message": "no"}]}, {"data": {"viewer": None}}, [], "x", b"<html>"])
def test_an_answer_of_graphql_that_names_nobody_is_as_none(api, document):
    api.refuse(200, "POST", "/graphql", document=document)
    own = api.add(ACTIONS, text("old"))
    assert post(api).state == "updated"
    assert api.bodies() == {own: text("passed")}


def test_a_users_own_token_updates_the_users_comment(api):
    api.users["token-of-ann"] = ANN
    for has_graphql in (True, False):
        api.has_graphql = has_graphql
        post(api, f"graphql {has_graphql}", token="token-of-ann")
    assert list(api.bodies().values()) == [text("graphql False")]


def test_a_user_who_was_renamed_is_the_same_user(api):
    api.users["token-of-ann"] = ANN
    own = api.add(dataclasses.replace(ANN, login="anna"), text("old"))
    assert post(api, token="token-of-ann").state == "updated"
    assert api.bodies() == {own: text("passed")}


def test_an_app_with_its_own_token_has_one_comment_even_where_graphql_is_shut(api):
    api.users["token-of-app"] = User("release-gate[bot]", 77)
    for has_graphql in (True, True, False, False):
        api.has_graphql = has_graphql
        post(api, f"graphql {has_graphql}, request {len(api.requests)}", token="token-of-app")
    (body,) = api.bodies().values()
    assert "graphql False" in body


def test_an_app_leaves_the_comment_of_another_app(api):
    api.users["token-of-app"] = User("release-gate[bot]", 77)
    others = api.add(ACTIONS, text("of GITHUB_TOKEN"))
    assert post(api, token="token-of-app").state == "created"
    assert post(api, "failed", token="token-of-app").state == "updated"
    assert sorted(api.bodies().values()) == [text("failed"), text("of GITHUB_TOKEN")]
    assert api.bodies()[others] == text("of GITHUB_TOKEN")


# -- several jobs at once


def test_a_comment_that_is_deleted_before_its_update_is_written_anew(api):
    own = api.add(ACTIONS, text("old"))
    with fault_proxy(api.uri) as proxy:
        proxy.when("PATCH", times=1).first(lambda: api.delete(own))
        assert post(proxy).state == "created"
    assert list(api.bodies().values()) == [text("passed")]


def test_a_comment_that_always_disappears_is_given_up(api):
    api.refuse(404, "PATCH")
    api.add(ACTIONS, text("old"))
    posted = post(api)
    assert (posted.state, posted.level) == ("not_posted", "warning")
    assert len(api.writes) == 3


def test_of_two_runs_that_both_found_none_one_comment_remains(api):
    with fault_proxy(api.uri) as proxy:
        proxy.when("POST", COMMENTS, times=1).first(lambda: api.add(ACTIONS, text("of the other run")))
        posted = post(proxy)
    (number,) = api.bodies()
    assert api.bodies()[number] == text("passed")
    assert posted.state == "updated"
    assert posted.url.endswith(f"-{number}")


def test_the_earlier_of_two_such_runs_keeps_its_comment(api):
    with fault_proxy(api.uri) as proxy:
        proxy.when("GET", COMMENTS, skip=1, times=1).first(lambda: api.add(ACTIONS, text("of the other run")))
        assert post(proxy).state == "created"
    assert list(api.bodies().values()) == [text("passed"), text("of the other run")]
    assert api.writes == ["POST"]


def test_of_many_runs_at_once_one_comment_remains(api):
    start = threading.Barrier(6)

    def run(number):
        start.wait(timeout=30)
        return post(api, f"of run {number}").state

    with ThreadPoolExecutor(6) as runs:
        states = list(runs.map(run, range(6)))
    assert set(states) <= {"created", "updated"}
    (body,) = api.bodies().values()
    assert body in {text(f"of run {number}") for number in range(6)}


def test_giving_way_that_fails_changes_no_answer(api):
    with fault_proxy(api.uri) as proxy:
        proxy.when("POST", COMMENTS, times=1).first(lambda: api.add(ACTIONS, text("of the other run")))
        proxy.when("PATCH").answer(403)
        assert post(proxy).state == "created"
    assert list(api.bodies().values()) == [text("of the other run"), text("passed")]


def test_a_strangers_marker_in_that_moment_makes_nobody_give_way(api):
    with fault_proxy(api.uri) as proxy:
        proxy.when("POST", COMMENTS, times=1).first(lambda: api.add(STRANGER, text("forged")))
        assert post(proxy).state == "created"
    assert list(api.bodies().values()) == [text("forged"), text("passed")]


# -- no rights, no pull request, no token


def test_a_fork_without_rights_is_told_where_the_report_is(api):
    api.users[TOKEN] = dataclasses.replace(ACTIONS, may_write=False)
    posted = post(api, from_fork=True)
    assert (posted.state, posted.level) == ("not_posted", "notice")
    for part in ("403", "Resource not accessible by integration", "fork", "summary", "pull-requests: write", "#7"):
        assert part in posted.reason
    assert api.bodies() == {}


@pytest.mark.parametrize("status", [403, 404])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_job_without_rights_is_told_which_it_needs(api, status, method):
    api.refuse(status, method)
    posted = post(api)
    assert (posted.state, posted.level) == ("not_posted", "notice")
    assert "pull-requests: write" in posted.reason
    assert "fork" not in posted.reason


def test_a_job_that_may_read_but_not_write_leaves_its_old_comment(api):
    own = api.add(ACTIONS, text("old"))
    api.refuse(403, "PATCH")
    assert post(api).level == "notice"
    assert api.bodies() == {own: text("old")}


def test_a_token_that_github_does_not_know_is_said(api):
    posted = post(api, token="a-token-that-expired")
    assert (posted.state, posted.level) == ("not_posted", "warning")
    assert "401: Bad credentials" in posted.reason


def test_another_refusal_shows_what_github_says(api):
    api.refuse(422, "POST", document={"message": "Validation Failed", "errors": [{"message": "\n::error::x"}]})
    posted = post(api)
    assert posted.level == "warning"
    assert "422: Validation Failed" in posted.reason
    assert "\n" not in posted.reason


def test_a_job_of_no_pull_request_asks_nothing(api):
    posted = post(api, pull_request=None, event="push")
    assert (posted.state, posted.level) == ("not_posted", "notice")
    assert "'push'" in posted.reason
    assert api.requests == []


@pytest.mark.parametrize(
    "changes",
    [
        {"token": ""},
        {"token": " \n"},
        {"token": "two\nlines"},
        {"token": "tökèn"},
        {"repository": ""},
        {"repository": "acme/.."},
        {"repository": "acme/search/../../evil"},
        {"repository": "github.com:acme/search.git"},
        {"api_url": "http://api.github.com"},
        {"api_url": "nonsense"},
        {"graphql_url": "http://192.0.2.1/graphql"},
    ],
)
def test_what_cannot_be_asked_with_is_not_asked_with(api, changes):
    posted = post(api, **changes)
    assert (posted.state, posted.level) == ("not_posted", "warning")
    assert api.requests == []


# -- GitHub is busy, broken or gone


def test_a_rate_limit_that_ends_soon_is_waited_for(api):
    api.refuse(429, "POST", COMMENTS, headers={"Retry-After": "1"}, times=1)
    assert post(api).state == "created"
    assert len(api.bodies()) == 1


def test_a_used_up_limit_that_was_just_renewed_is_waited_for(api):
    headers = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(time.time()))}
    api.refuse(403, "GET", headers=headers, times=1)
    assert post(api).state == "created"


@pytest.mark.parametrize(
    ("status", "headers", "message"),
    [
        (429, {"Retry-After": "3600"}, "slow down"),
        (429, {}, "slow down"),
        (403, {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "99999999999"}, "API rate limit exceeded"),
        (403, {}, "You have exceeded a secondary rate limit"),
        (429, {"Retry-After": "1" * 12}, "slow down"),
    ],
)
def test_a_rate_limit_that_lasts_ends_in_no_comment(api, status, headers, message):
    api.refuse(status, headers=headers, document={"message": message})
    posted = post(api)
    assert (posted.state, posted.level) == ("not_posted", "warning")
    assert "limits" in posted.reason
    assert len(api.requests) == 1


def test_a_limit_of_no_length_does_not_go_on_for_ever(api, monkeypatch):
    monkeypatch.setattr(client, "_TOTAL_SECONDS", 2.5)
    api.refuse(429, headers={"Retry-After": "0"})
    assert post(api).state == "not_posted"
    assert len(api.requests) <= 4


@pytest.mark.parametrize("status", [500, 502, 503])
def test_a_look_up_is_repeated_after_a_servers_error(api, status):
    api.refuse(status, "GET", times=2)
    assert post(api).state == "created"


def test_a_server_that_asks_for_more_time_than_there_is_is_given_up_at_once(api):
    api.refuse(503, headers={"Retry-After": "3600"})
    assert "503" in post(api).reason
    assert len(api.requests) == 1


def test_an_update_is_repeated_after_a_servers_error(api):
    own = api.add(ACTIONS, text("old"))
    api.refuse(502, "PATCH", times=2)
    assert post(api).state == "updated"
    assert api.bodies() == {own: text("passed")}


def test_a_server_that_stays_broken_is_given_up(api):
    api.refuse(500)
    posted = post(api)
    assert (posted.state, posted.level) == ("not_posted", "warning")
    assert "500" in posted.reason
    assert len(api.requests) == 3


@pytest.mark.parametrize("fault", ["answer_after_forwarding", "lose_answer"])
def test_a_sending_whose_answer_is_lost_makes_one_comment(api, fault):
    with fault_proxy(api.uri) as proxy:
        rule = proxy.when("POST", COMMENTS)
        rule.answer_after_forwarding(504) if fault == "answer_after_forwarding" else rule.lose_answer()
        assert post(proxy).state == "created"
        assert len(proxy.seen("POST", COMMENTS)) == 1
    assert list(api.bodies().values()) == [text("passed")]


def test_a_sending_whose_answer_is_a_login_page_makes_one_comment(api):
    with fault_proxy(api.uri) as proxy:
        proxy.when("POST", COMMENTS).answer_after_forwarding(200)
        assert post(proxy).state == "created"
    assert list(api.bodies().values()) == [text("passed")]


def test_a_sending_that_took_effect_late_is_found(api):
    with fault_proxy(api.uri) as proxy:
        proxy.when("POST", COMMENTS).answer(502)
        proxy.when("GET", COMMENTS, skip=2, times=1).first(lambda: api.add(ACTIONS, text("passed")))
        assert post(proxy).state == "created"
    assert len(api.bodies()) == 1


@pytest.mark.parametrize("status", [500, 503, 504])
def test_a_sending_that_failed_unclearly_is_not_sent_again(api, status):
    api.refuse(status, "POST", COMMENTS)
    posted = post(api)
    assert (posted.state, posted.level) == ("not_posted", "warning")
    assert api.writes == ["POST"]
    assert str(status) in posted.reason


def test_after_an_unclear_sending_another_runs_comment_is_updated(api):
    with fault_proxy(api.uri) as proxy:
        proxy.when("POST", COMMENTS).answer(502)
        proxy.when("GET", COMMENTS, skip=1, times=1).first(lambda: api.add(ACTIONS, text("of the other run")))
        assert post(proxy).state == "updated"
    assert list(api.bodies().values()) == [text("passed")]


@pytest.mark.parametrize("fault", ["silence", "drip", "drop"])
def test_a_network_that_fails_ends_in_no_comment(api, monkeypatch, fault):
    monkeypatch.setattr(client, "_SILENCE_SECONDS", 1.0)
    monkeypatch.setattr(client, "_REQUEST_SECONDS", 1.2)
    monkeypatch.setattr(client, "_TOTAL_SECONDS", 3.0)
    with fault_proxy(api.uri) as proxy:
        getattr(proxy.when("GET"), fault)()
        posted = post(proxy)
        assert len(proxy.seen("GET")) > 1
    assert (posted.state, posted.level) == ("not_posted", "warning")
    assert api.writes == []


def test_nobody_at_the_address_ends_in_no_comment():
    posted = comment(job(f"http://127.0.0.1:{free_port()}"), TOKEN, MARKER, "passed")
    assert (posted.state, posted.level) == ("not_posted", "warning")


@pytest.mark.parametrize("document", [{"message": "hi"}, "hi", None, b"<html>Sign in</html>", b"[" * 100_000, b""])
def test_something_else_in_githubs_place_ends_in_no_comment(api, document):
    api.refuse(200, "GET", document=document)
    posted = post(api)
    assert (posted.state, posted.level) == ("not_posted", "warning")
    assert api.writes == []


def test_a_login_page_for_an_update_is_no_update(api):
    api.add(ACTIONS, text("old"))
    with fault_proxy(api.uri) as proxy:
        proxy.when("PATCH").login_page()
        assert post(proxy).state == "not_posted"


@pytest.mark.parametrize(
    "row",
    [None, 1, [], {}, {"id": "1"}, {"id": 1}, {"id": 1, "body": None}, {"id": 1, "body": MARKER, "user": None}]
    + [{"id": 1, "body": MARKER, "user": user} for user in ([], {"login": None, "id": "1"}, {"login": "", "id": None})],
)
def test_a_row_that_is_no_comment_is_passed_over(api, row):
    api.refuse(200, "GET", COMMENTS, document=[row], times=1)
    assert post(api).state == "created"


def test_an_answer_without_end_is_not_read_to_its_end(api, monkeypatch):
    monkeypatch.setattr(client, "_ANSWER_BYTES", 100_000)
    api.refuse(200, "GET", document=[{"id": 1, "body": "x" * 200_000}])
    assert "no end" in post(api).reason


# -- redirects


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_renamed_repository_is_followed_on_the_same_host(api, status):
    api.refuse(status, path="/repos/acme/old", headers={"Location": f"/repos/acme/search{COMMENTS}"})
    assert post(api, repository="acme/old").state == "created"
    assert list(api.bodies().values()) == [text("passed")]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST", "PATCH"])
def test_a_token_is_not_led_to_another_host(api, status, method):
    if method == "PATCH":
        api.add(ACTIONS, text("old"))
    with github_api() as elsewhere:
        target = f"{elsewhere.uri}/repos/acme/search{COMMENTS}"
        api.refuse(status, method, "/issues/", headers={"Location": target})
        posted = post(api)
        assert (posted.state, posted.level) == ("not_posted", "warning")
        assert "redirects" in posted.reason
        assert elsewhere.requests == []


@pytest.mark.parametrize("target", ["", "http://[", "//evil.example/", "https://127.0.0.1/", "file:///etc/passwd"])
def test_a_redirect_that_leads_nowhere_ends_in_no_comment(api, target):
    api.refuse(302, "GET", headers={"Location": target})
    assert post(api).state == "not_posted"


# -- what is sent


def test_the_token_is_sent_as_a_bearer_and_kept_out_of_everything_else(api, monkeypatch, tmp_path):
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password else\n", encoding="utf-8")
    monkeypatch.setenv("NETRC", str(netrc))
    api.refuse(422, "POST", COMMENTS, document={"message": f"what about {TOKEN}?"})
    posted = post(api, token=f" {TOKEN}\n")
    for each in api.requests:
        assert each.headers["Authorization"] == f"Bearer {TOKEN}"
        assert each.headers["Accept"] == "application/vnd.github+json"
        assert each.headers["X-GitHub-Api-Version"] == "2022-11-28"
        assert TOKEN not in each.path + json.dumps(each.document)
    assert TOKEN not in posted.reason
    assert without_secrets(f"x {TOKEN}") == "x ***"


def test_a_secret_in_a_report_is_hidden_in_the_comment_too(api):
    post(api, f"the report says {TOKEN}")
    assert list(api.bodies().values()) == [text("the report says ***")]


def test_a_report_that_is_too_long_is_cut_and_still_found_again(api):
    assert post(api, "a line of it\n" * 10_000).state == "created"
    (body,) = api.bodies().values()
    assert len(body) <= 65_536
    assert "Cut here" in body
    assert post(api, "a line of it\n" * 10_000).state == "unchanged"


def test_a_report_with_characters_that_json_cannot_carry_is_sent(api):
    assert post(api, "half \ud83d a pair, \0, 🌈").state == "created"
    assert list(api.bodies().values()) == [text("half ? a pair, \ufffd, 🌈")]
    assert post(api, "half \ud83d a pair, \0, 🌈").state == "unchanged"


def test_an_address_elsewhere_is_not_shown(api):
    assert post(api, server_url="https://git.acme.example").url == ""
