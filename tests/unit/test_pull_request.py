"""The pull request's comment, as far as no network is needed: its marker, its length, whose job it is."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from champion_gate import github, pull_request
from champion_gate.pull_request import fit, marker_for

HERE, FORK = {"id": 1, "full_name": "acme/search"}, {"id": 2, "full_name": "stranger/search"}


def event(monkeypatch, tmp_path, document, ref="refs/heads/main"):
    path = tmp_path / "event.json"
    path.write_text(document if isinstance(document, str) else json.dumps(document), encoding="utf-8")
    monkeypatch.setenv("GITHUB_EVENT_PATH", str(path))
    monkeypatch.setenv("GITHUB_REF", ref)
    return github.context()


@given(st.text(), st.text())
def test_a_marker_is_one_html_comment_whatever_the_names(model, alias):
    assert re.fullmatch(r"<!-- champion-gate: [0-9a-f]{32} -->", marker_for(model, alias))


@given(st.tuples(st.text(), st.text()), st.tuples(st.text(), st.text()))
def test_two_pairs_of_names_have_two_markers(one, other):
    assert (marker_for(*one) == marker_for(*other)) == (one == other)


def test_names_cannot_be_shifted_between_model_and_alias():
    assert (
        len({marker_for("a", "b-c"), marker_for("a-b", "c"), marker_for('a", "b', "c"), marker_for("a-b-c", "")}) == 4
    )


def test_names_that_are_no_text_have_a_marker():
    assert marker_for("search\udcff", "champion") != marker_for("search\udcfe", "champion")


@pytest.mark.parametrize("name", ["pull_request", "pull_request_target", "pull_request_review"])
def test_a_pull_requests_own_event_names_it(monkeypatch, tmp_path, name):
    monkeypatch.setenv("GITHUB_EVENT_NAME", name)
    job = event(monkeypatch, tmp_path, {"pull_request": {"number": 7, "head": {"repo": HERE}, "base": {"repo": HERE}}})
    assert (job.pull_request, job.from_fork) == (7, False)


@pytest.mark.parametrize("head", [FORK, None])
def test_a_fork_is_known_also_when_it_was_deleted(monkeypatch, tmp_path, head):
    job = event(monkeypatch, tmp_path, {"pull_request": {"number": 7, "head": {"repo": head}, "base": {"repo": HERE}}})
    assert (job.pull_request, job.from_fork) == (7, True)


def test_a_comment_on_a_pull_request_names_it(monkeypatch, tmp_path):
    issue = {"number": 8, "pull_request": {"url": "https://api.github.com/repos/acme/search/pulls/8"}}
    assert event(monkeypatch, tmp_path, {"issue": issue}).pull_request == 8


def test_an_issue_that_is_no_pull_request_is_not_commented(monkeypatch, tmp_path):
    assert event(monkeypatch, tmp_path, {"issue": {"number": 8}}).pull_request is None


def test_a_workflow_that_follows_another_has_its_pull_request_in_this_repository(monkeypatch, tmp_path):
    pulls = [{"number": 3, "base": {"repo": FORK}}, {"number": 9, "base": {"repo": HERE}}]
    run = {"pull_requests": pulls, "head_repository": HERE}
    job = event(monkeypatch, tmp_path, {"workflow_run": run, "repository": HERE})
    assert (job.pull_request, job.from_fork) == (9, False)


def test_a_workflow_that_follows_a_forks_has_no_pull_request(monkeypatch, tmp_path):
    run = {"pull_requests": [], "head_repository": FORK}
    job = event(monkeypatch, tmp_path, {"workflow_run": run, "repository": HERE})
    assert (job.pull_request, job.from_fork) == (None, True)


@pytest.mark.parametrize(
    "document",
    ["", "[", "[]", "null", '"x"', "{}", "[" * 100_000, '{"pull_request": 7}', '{"pull_request": {"number": "../x"}}']
    + [json.dumps({"pull_request": {"number": number}}) for number in (0, -1, True, 7.5, None, 10**30)]
    + [
        '{"workflow_run": {"pull_requests": {"number": 1}}}',
        '{"workflow_run": {"pull_requests": [1, null]}}',
        "\udcff",
    ],
)
def test_an_event_that_names_none_leaves_it_to_the_ref(monkeypatch, tmp_path, document):
    document = document.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    assert event(monkeypatch, tmp_path, document, "refs/pull/12/merge").pull_request == 12
    assert event(monkeypatch, tmp_path, document, "refs/heads/12/merge").pull_request is None


def test_an_event_file_that_is_not_there_leaves_it_to_the_ref(monkeypatch, tmp_path):
    monkeypatch.setenv("GITHUB_EVENT_PATH", str(tmp_path))
    monkeypatch.setenv("GITHUB_REF", "refs/pull/5/head")
    assert github.context().pull_request == 5


@pytest.mark.parametrize(
    ("api", "graphql", "expected"),
    [
        ("", "", ("https://api.github.com", "https://api.github.com/graphql")),
        (
            "https://git.acme.example/api/v3",
            "",
            ("https://git.acme.example/api/v3", "https://git.acme.example/api/graphql"),
        ),
        ("https://api.acme.ghe.com/", "", ("https://api.acme.ghe.com", "https://api.acme.ghe.com/graphql")),
        ("https://a.example/api/v3", "https://b.example/q", ("https://a.example/api/v3", "https://b.example/q")),
    ],
)
def test_the_apis_are_where_the_runner_says(monkeypatch, api, graphql, expected):
    monkeypatch.setenv("GITHUB_API_URL", api)
    monkeypatch.setenv("GITHUB_GRAPHQL_URL", graphql)
    job = github.context()
    assert (job.api_url, job.graphql_url) == expected


@given(st.text(st.characters() | st.sampled_from("\n`~<>-"), max_size=3000), st.integers(0, 2500))
def test_a_body_fits_and_can_be_sent(body, limit):
    limit += pull_request._CUT_CHARACTERS
    fitted = fit(body, limit)
    assert len(fitted) <= limit
    assert "\0" not in fitted
    json.dumps(fitted).encode()
    fitted.encode()


def test_a_body_that_fits_is_left_as_it_is():
    assert fit("é" * 65_536, 65_536) == "é" * 65_536


@pytest.mark.parametrize("line", ["| a | b |", "word", "🌈 é"])
def test_a_long_body_is_cut_at_a_lines_end_and_says_so(line):
    cut = fit(f"{line}\n" * 20_000, 65_536, "https://github.com/acme/search/actions/runs/42")
    kept, _, notice = cut.partition("\n\n")
    assert set(kept.splitlines()) == {line}
    assert "actions/runs/42" in notice
    assert 60_000 < len(cut) <= 65_536


@pytest.mark.parametrize(
    ("opened", "closed"),
    [
        ("```text", "\n```\n"),
        ("~~~~", "\n~~~~\n"),
        ("<!--", "\n-->\n"),
        ("<details><summary>Slices</summary>\n<details>", "</details>\n</details>"),
    ],
)
def test_what_is_open_where_a_body_is_cut_is_closed(opened, closed):
    cut = fit(f"# Verdict\n{opened}\n" + "word\n" * 20_000, 65_536)
    before, _, notice = cut.rpartition("\n\n")
    assert closed in before[-100:] + "\n"
    assert notice.startswith("_Cut here")


def test_a_code_block_that_was_closed_is_not_opened_again():
    cut = fit("````\n```\n````\n" + "word\n" * 20_000, 65_536)
    assert cut.count("```\n") == 3
