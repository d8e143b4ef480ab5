"""Which approvals of a run count, as far as no network is needed: the rows as GitHub's REST API lists them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from champion_gate import approvals, github
from champion_gate.errors import OutsideWorldFailed
from champion_gate.github import Context, hide
from champion_gate.github_api import Unclear


def job(**fields):
    known = {"actor": "ann", "commit": "abc", "branch": "main", "repository": "acme/search", "run_id": "42"}
    return Context(**{**known, "run_url": "", "event": "push", "run_attempt": 1, **fields})


def row(login, state="approved", environments=("production",), comment=""):
    user = {"login": login} if login is not None else None
    return {"state": state, "comment": comment, "environments": [{"name": e} for e in environments], "user": user}


def newest(*rows, **fields):
    return approvals._newest([approvals._review(each) for each in rows], job(**fields))


def test_an_approval_names_the_reviewer_the_comment_and_the_environment():
    found = newest(row("bea", comment="Ship it!"))
    assert (found.reviewer, found.comment, found.environment) == ("bea", "Ship it!", "production")
    assert (found.also, found.self_approved, found.attempt) == ((), False, 1)


@pytest.mark.parametrize("rows", [[], [row("bea", "rejected")], [row("bea", "pending", comment="Why now?")]])
def test_nobody_approved(rows):
    assert newest(*rows) is None


def test_of_several_approvals_the_last_is_the_newest_and_the_others_are_named_once():
    found = newest(row("bea"), row("cem"), row("BEA"), row("dan"), row("Dan", environments=["staging"]))
    assert (found.reviewer, found.environment) == ("Dan", "staging")
    assert found.also == ("BEA", "cem")


@pytest.mark.parametrize("turned", [False, True])
def test_a_rejection_of_the_same_environment_counts_wherever_it_is_listed(turned):
    rows = [row("bea"), row("cem", "rejected", ["Production"])]
    assert newest(*(reversed(rows) if turned else rows)) is None


def test_a_rejection_of_another_environment_leaves_the_approval():
    found = newest(row("bea"), row("cem", "rejected", ["staging"]))
    assert (found.reviewer, found.environment) == ("bea", "production")


def test_of_a_review_of_several_environments_the_rejected_one_is_taken_out():
    found = newest(row("bea", environments=["staging", "production"]), row("cem", "rejected", ["staging"]))
    assert (found.reviewer, found.environment) == ("bea", "production")


def test_an_older_approval_counts_where_the_newest_is_of_a_rejected_environment():
    rows = [row("bea"), row("dan", environments=["staging"]), row("cem", "rejected", ["staging"])]
    found = newest(*rows)
    assert (found.reviewer, found.also) == ("bea", ())


def test_a_rejection_that_names_no_environment_is_of_any():
    assert newest(row("bea"), row("cem", "rejected", [])) is None


def test_an_approval_that_names_no_environment_counts_only_where_nothing_was_rejected():
    assert newest(row("bea", environments=[])).environment == ""
    assert newest(row("bea", environments=[]), row("cem", "rejected")) is None


def test_a_state_that_the_api_did_not_have_is_no_approval_and_stands_against_one():
    assert newest(row("bea"), row("cem", "revoked")) is None
    assert newest(row("bea", "approved_with_conditions")) is None


def test_an_approval_that_does_not_count_is_said(capsys):
    newest(row("bea"), row("cem", "rejected"))
    said = capsys.readouterr().err
    assert "bea does not count" in said
    assert "new run" in said


@pytest.mark.parametrize("login", [None, "", " ", 7, ["bea"]])
def test_an_approval_by_nobody_is_none(login):
    assert newest(row(login)) is None


def test_a_rejection_by_somebody_whose_account_is_gone_counts():
    assert newest(row("bea"), row(None, "rejected")) is None


@pytest.mark.parametrize(
    ("fields", "own"),
    [
        ({"actor": "Bea"}, True),
        ({"actor": "ann", "triggering_actor": "bea"}, True),
        ({"actor": "ann", "triggering_actor": "ann"}, False),
        ({"actor": ""}, False),
    ],
)
def test_a_reviewer_who_started_the_run_or_this_attempt_approved_it_themselves(fields, own):
    assert newest(row("bea"), **fields).self_approved is own


def test_a_bot_is_reported_as_it_is():
    found = newest(row("deployer[bot]"), actor="deployer[bot]")
    assert (found.reviewer, found.self_approved) == ("deployer[bot]", True)


@pytest.mark.parametrize(("attempt", "known"), [(1, 1), (2, None), (0, None)])
def test_only_in_a_first_attempt_is_it_known_which_was_approved(attempt, known):
    assert newest(row("bea"), run_attempt=attempt).attempt == known


@pytest.mark.parametrize(
    "broken",
    [None, 1, "approved", [], {}, {"state": "approved"}, {"state": None, "environments": []}]
    + [{"state": "rejected", "environments": names} for names in (None, {}, [None], ["x"], [{"name": ""}], [{}])],
)
def test_a_row_that_is_no_review_is_not_passed_over(broken):
    with pytest.raises(Unclear):
        newest(row("bea"), broken)


@given(st.text(), st.text(), st.lists(st.text(min_size=1), max_size=4))
def test_whatever_people_write_is_one_line_and_capped(login, comment, environments):
    found = newest(row(login * 200, comment=comment * 200, environments=environments * 50))
    if found is None:
        assert not login.strip()
        return
    for text, limit in ((found.reviewer, 100), (found.comment, 1000), (found.environment, 1000)):
        assert len(text) <= limit
        assert not {"\n", "\r", "\x1b", "\0", "\u2028", "\u202e"} & set(text)
        assert not text.startswith("::")
        assert "##[" not in text


def test_a_secret_that_a_comment_repeats_is_hidden(monkeypatch):
    monkeypatch.setattr(github, "_secrets", set())
    hide(["hunter22"])
    assert "hunter22" not in newest(row("bea", comment="key: hunter22")).comment


@pytest.mark.parametrize(
    ("token", "fields", "why"),
    [
        (" \n", {}, "no token"),
        ("two\nlines", {}, "no token of GitHub's"),
        ("t0ken", {"repository": "acme/search/../.."}, "names no repository"),
        ("t0ken", {"repository": ""}, "names no repository"),
        ("t0ken", {"run_id": ""}, "no number"),
        ("t0ken", {"run_id": "42/../43"}, "no number"),
        ("t0ken", {"run_id": "٤٢"}, "no number"),
        ("t0ken", {"api_url": "http://api.github.com"}, "not an https address"),
        ("t0ken", {"api_url": "nonsense"}, "not an https address"),
    ],
)
def test_what_cannot_be_asked_with_is_said(token, fields, why):
    with pytest.raises(OutsideWorldFailed, match=why):
        approvals.approval(job(**fields), token)


@pytest.mark.parametrize(("value", "attempt"), [("1", 1), ("12", 12), ("", 0), ("two", 0), ("-1", 0), ("1" * 5000, 0)])
def test_the_runner_says_which_attempt_this_is_and_who_started_it(monkeypatch, value, attempt):
    monkeypatch.setenv("GITHUB_RUN_ATTEMPT", value)
    monkeypatch.setenv("GITHUB_TRIGGERING_ACTOR", "cem")
    known = github.context()
    assert (known.run_attempt, known.triggering_actor) == (attempt, "cem")
