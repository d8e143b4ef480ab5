"""The verdict as a document: canonical, small enough, and bound to what was judged."""

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from champion_gate import verdict
from champion_gate.decision import Outcome
from champion_gate.errors import Refused
from champion_gate.gate import judged_version
from champion_gate.registry import Version
from champion_gate.verdict import CheckRecord, Facts, JudgedModel, JudgedVersion, Verdict

NOW = datetime(2026, 5, 1, 12, tzinfo=timezone.utc)
MODEL = JudgedModel(name="search-ranker", created=1000)
VERSION = JudgedVersion(number="7", created=2000, run_id="r7", source="s3://models/7")
FACTS = Facts(MODEL, VERSION, "champion", "5")


def document(**changes):
    fields = {
        "outcome": Outcome.PASSED,
        "basis": "point estimate",
        "purpose": "release",
        "model": MODEL,
        "version": VERSION,
        "alias": "champion",
        "champion": "5",
        "policy_digest": "sha256:0",
        "dataset_digest": None,
        "metric_options": {},
        "repository": "acme/search",
        "commit": "abc",
        "time": NOW,
        "gate_run_id": "g1",
        "checks": (CheckRecord(name="threshold", metric="m", outcome=Outcome.PASSED, reason="fine"),),
        **changes,
    }
    return Verdict(**fields)


def test_a_verdict_read_back_is_the_same_and_allows_the_promotion():
    text = document().canonical()
    again = verdict.parse(text, "champion")
    assert again == document()
    assert again.canonical() == text
    assert verdict.objections(again, FACTS, NOW) == []


def test_the_canonical_form_is_sorted_ascii_json_without_spaces():
    text = document(commit="日本").canonical()
    assert text.isascii()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    assert json.loads(text)["schema"] == 1


@given(st.lists(st.text(max_size=3000), max_size=12))
def test_however_long_the_reasons_the_tag_holds_it(reasons):
    checks = tuple(CheckRecord(name="c", metric="m", outcome=Outcome.PASSED, reason=reason) for reason in reasons)
    text = document(checks=checks).canonical()
    assert len(text.encode()) <= 5000
    assert verdict.parse(text, "champion").outcome is Outcome.PASSED


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"outcome": Outcome.FAILED}, "failed"),
        ({"outcome": Outcome.INCONCLUSIVE}, "inconclusive"),
        ({"checks": ()}, "no check"),
        ({"purpose": "check"}, "pull request"),
        ({"model": MODEL.model_copy(update={"name": "other"})}, "other"),
        ({"model": MODEL.model_copy(update={"created": 999})}, "made anew"),
        ({"version": VERSION.model_copy(update={"number": "6"})}, "version 6"),
        ({"version": VERSION.model_copy(update={"created": 1})}, "replaced"),
        ({"version": VERSION.model_copy(update={"run_id": "x"})}, "replaced"),
        ({"version": VERSION.model_copy(update={"source": "s3://x"})}, "replaced"),
        ({"alias": "champion-eu"}, "champion-eu"),
        ({"champion": "4"}, "version 4"),
        ({"champion": "none"}, "none"),
        ({"time": NOW - timedelta(days=8)}, "days old"),
        ({"time": NOW + timedelta(minutes=6)}, "future"),
    ],
)
def test_each_bound_field_is_held_against_the_registry(change, named):
    found = verdict.objections(document(**change), FACTS, NOW)
    assert len(found) == 1
    assert named in found[0]


@pytest.mark.parametrize("source", ["é" * 390, "\U0001f600" * 390, "s" * 4000])
def test_however_long_the_source_the_tag_holds_it_and_is_bound_to_it(source):
    facts = [
        replace(FACTS, version=judged_version(Version("m", "7", 2000, "r7", each, "READY", {})))
        for each in (source, source + "x")
    ]
    text = document(version=facts[0].version).canonical()
    assert len(text) <= 5000
    again = verdict.parse(text, "champion")
    assert verdict.objections(again, facts[0], NOW) == []
    assert "replaced" in verdict.objections(again, facts[1], NOW)[0]


@pytest.mark.parametrize("tag", ["", "{}", "passed", '{"schema":2}', "[]", "null", "x" * 5000])
def test_what_is_no_verdict_is_refused(tag):
    with pytest.raises(Refused, match="validate-model"):
        verdict.parse(tag, "champion")


def test_an_unknown_field_is_refused_since_it_may_mean_something():
    data = json.loads(document().canonical()) | {"until": "noon"}
    with pytest.raises(Refused, match="until"):
        verdict.parse(json.dumps(data), "champion")
