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
from champion_gate.verdict import CheckRecord, Expected, Facts, JudgedModel, JudgedVersion, Verdict

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


# -- forgery: what a signature adds, field by field


KEY, OLD, OTHER = "a" * 32, "b" * 32, "c" * 32
WHOLE = document(
    dataset_digest="sha256:d",
    artifacts_digest="sha256:f",
    metric_options={"k": "10"},
    isolation="sandbox",
    baseline="4",
)
GIVEN = Expected("sha256:0", "sha256:d", "abc", "sha256:f")
# Each field of a verdict: what a forger writes in its place, and whether the promotion sees it without a key, from the
# registry and from what it was told to expect.
FORGED: dict[str, tuple[object, bool]] = {
    "schema": (2, True),
    "outcome": ("inconclusive", True),
    "basis": ("paired test", False),
    "purpose": ("check", True),
    "model": ({"name": "search-ranker", "created": 1001}, True),
    "version": ({"number": "7", "created": 2000, "run_id": "r7", "source": "s3://models/8"}, True),
    "alias": ("champion-eu", True),
    "champion": ("6", True),
    "baseline": ("none", False),
    "policy_digest": ("sha256:1", True),
    "dataset_digest": ("sha256:e", True),
    "metric_options": ({"k": "1"}, False),
    "isolation": (None, False),
    "promote_inconclusive": (True, False),
    "repository": ("acme/other", False),
    "commit": ("abd", True),
    "time": ("2026-05-01T12:06:00Z", True),
    "gate_run_id": ("g2", False),
    "artifacts_digest": ("sha256:g", True),
    "checks": ([], True),
    "checks_left_out": (1, False),
}


def dumped(data):
    return json.dumps(data, sort_keys=True, separators=(",", ":"))


def test_every_field_of_a_verdict_is_among_the_forged():
    assert set(FORGED) == {info.alias or name for name, info in Verdict.model_fields.items()}


@pytest.mark.parametrize("field", FORGED)
def test_a_forged_field_is_seen_by_its_signature_and_by_the_registry_without(field):
    tag = verdict.signed(WHOLE.canonical(), [KEY])
    assert verdict.objections(verdict.parse(tag, "champion", [KEY]), FACTS, NOW, GIVEN) == []
    value, seen_without_a_key = FORGED[field]
    data = json.loads(tag)
    assert data[field] != value
    data[field] = value
    with pytest.raises(Refused, match="signature"):
        verdict.parse(dumped(data), "champion", [KEY])
    if field == "schema":
        with pytest.raises(Refused, match="schema"):
            verdict.parse(dumped(data), "champion")
        return
    found = verdict.objections(verdict.parse(dumped(data), "champion"), FACTS, NOW, GIVEN)
    assert bool(found) is seen_without_a_key, found


@pytest.mark.parametrize("field", FORGED)
def test_a_field_that_was_taken_out_is_seen_by_the_signature(field):
    data = json.loads(verdict.signed(WHOLE.canonical(), [KEY]))
    del data[field]
    with pytest.raises(Refused, match="signature"):
        verdict.parse(dumped(data), "champion", [KEY])


def test_with_a_key_an_unsigned_verdict_does_not_count():
    with pytest.raises(Refused, match="not signed"):
        verdict.parse(WHOLE.canonical(), "champion", [KEY])


@pytest.mark.parametrize("signature", [None, 1, [], {}, True])
def test_a_signature_that_is_no_text_does_not_count(signature):
    tag = dumped({**json.loads(WHOLE.canonical()), "signature": signature})
    with pytest.raises(Refused, match="not signed"):
        verdict.parse(tag, "champion", [KEY])


@pytest.mark.parametrize("signature", ["", "x", "\ud800", "hmac-sha256:" + "0" * 8 + ":" + "0" * 64])
def test_a_made_up_signature_does_not_count(signature):
    tag = dumped({**json.loads(WHOLE.canonical()), "signature": signature})
    with pytest.raises(Refused, match=r"signature|no verdict"):
        verdict.parse(tag, "champion", [KEY])


def test_keys_are_rotated_without_a_day_on_which_nothing_can_be_promoted():
    by_old = verdict.signed(WHOLE.canonical(), [OLD])
    by_new = verdict.signed(WHOLE.canonical(), [KEY, OLD])
    for tag in (by_old, by_new):
        assert verdict.parse(tag, "champion", [KEY, OLD]) == WHOLE
    assert verdict.parse(by_new, "champion", [KEY]) == WHOLE
    with pytest.raises(Refused, match="signature"):
        verdict.parse(by_old, "champion", [KEY])
    with pytest.raises(Refused, match="signature"):
        verdict.parse(by_new, "champion", [OTHER])


def test_without_keys_a_signed_verdict_is_read_as_any_other():
    assert verdict.parse(verdict.signed(WHOLE.canonical(), [KEY]), "champion") == WHOLE
    assert verdict.signed(WHOLE.canonical(), []) == WHOLE.canonical()


@pytest.mark.parametrize("keys", [(), (KEY,)])
@pytest.mark.parametrize(
    "spelled",
    [
        lambda text: text + "\n",
        lambda text: " " + text,
        lambda text: text.replace(":", ": ", 1),
        lambda text: text.replace("abc", "ab\\u0063"),
        lambda text: json.dumps(dict(reversed(json.loads(text).items())), separators=(",", ":")),
        lambda text: json.dumps(json.loads(text), indent=1, sort_keys=True),
        lambda text: text.replace('"champion":"5"', '"champion":"5","champion":"5"'),
        lambda text: '{"outcome":"failed",' + text[1:],
        lambda text: text[:-1] + ',"outcome":"passed"}',
        lambda text: text.replace('"created":1000', '"created":1000,"created":1000'),
        lambda text: text.replace("1000", "1e3"),
        lambda text: text.replace("1000", "1000.0"),
        lambda text: "\ufeff" + text,
    ],
)
def test_the_same_verdict_in_another_spelling_was_not_written_by_this_gate(spelled, keys):
    text = verdict.signed(WHOLE.canonical(), keys)
    assert spelled(text) != text
    with pytest.raises(Refused, match="validate-model"):
        verdict.parse(spelled(text), "champion", keys)


@given(st.data())
def test_no_changed_byte_of_a_signed_verdict_passes(data):
    tag = verdict.signed(WHOLE.canonical(), [KEY])
    at = data.draw(st.integers(0, len(tag) - 1))
    put = data.draw(st.characters(codec="utf-8"))
    changed = tag[:at] + put + tag[at + 1 :]
    if changed == tag:
        return
    with pytest.raises(Refused):
        verdict.parse(changed, "champion", [KEY])


def test_even_the_longest_verdict_has_room_for_its_signature():
    checks = tuple(CheckRecord(name="c", metric="m", outcome=Outcome.PASSED, reason="r" * 3000) for _ in range(50))
    tag = verdict.signed(document(checks=checks).canonical(), [KEY])
    assert 4000 < len(tag) <= 5000
    assert len(verdict.parse(tag, "champion", [KEY]).checks) == 50


# -- time


@pytest.mark.parametrize(
    ("age", "named"),
    [
        (timedelta(days=7), ""),
        (timedelta(days=7, seconds=1), "7 days is the limit"),
        (timedelta(hours=-1), "future"),  # the gate's clock an hour ahead of ours, or ours an hour behind
        (timedelta(minutes=-5), ""),
        (timedelta(minutes=-5, seconds=-1), "future"),
        (timedelta(hours=1), ""),  # the other way round: it only looks older
        (timedelta(days=7, hours=1), "7 days is the limit"),
    ],
)
def test_clocks_may_differ_by_five_minutes_and_no_more(age, named):
    found = verdict.objections(document(time=NOW - age), FACTS, NOW)
    assert len(found) == bool(named)
    assert named in "".join(found)


@pytest.mark.parametrize(
    ("limit", "age", "said"),
    [
        (timedelta(minutes=30), timedelta(hours=1), "it is 1 hours old, and 1800 s is the limit"),
        (timedelta(hours=12), timedelta(hours=13), "13 hours old, and 12 hours"),
        (timedelta(days=30), timedelta(days=31), "31 days old, and 30 days"),
    ],
)
def test_the_age_limit_is_the_one_that_was_asked_for(limit, age, said):
    assert said in verdict.objections(document(time=NOW - age), FACTS, NOW, max_age=limit)[0]
    assert verdict.objections(document(time=NOW - limit), FACTS, NOW, max_age=limit) == []


@pytest.mark.parametrize(
    ("time", "named"),
    [
        ("9999-12-31T23:59:59-23:59", "future"),
        ("9999-12-31T23:59:59Z", "future"),
        ("2026-05-01T12:00:00", "future"),  # without a time zone it could be any
        ("0001-01-01T00:00:00Z", "old"),
        ("0001-01-01T00:00:00+23:59", "old"),
        ("2026-05-01T11:00:00+00:00", ""),
        ("2026-05-01T13:00:00+02:00", ""),
    ],
)
def test_a_time_at_the_end_of_all_days_is_held_against_the_clock_too(time, named):
    data = json.loads(WHOLE.canonical()) | {"time": time}
    found = verdict.objections(verdict.parse(dumped(data), "champion"), FACTS, NOW)
    assert len(found) == bool(named)
    assert named in "".join(found)


# -- what else a promotion may ask


@pytest.mark.parametrize(
    ("expected", "named"),
    [
        (Expected(policy_digest="sha256:1"), "by another policy: sha256:0, not sha256:1"),
        (Expected(dataset_digest="sha256:e"), "on another dataset: sha256:d, not sha256:e"),
        (Expected(commit="abd"), "for another commit: abc, not abd"),
        (Expected(artifacts_digest="sha256:g"), "of other model files: sha256:f, not sha256:g"),
    ],
)
def test_what_is_given_is_compared_and_what_is_not_is_said(expected, named):
    found = verdict.objections(WHOLE, FACTS, NOW, expected)
    assert len(found) == 1
    assert named in found[0]
    words = {"policy sha256:0", "dataset sha256:d", "commit abc", "files sha256:f"}
    assert len(words.intersection(expected.unverified(WHOLE))) == 3


def test_what_was_verified_or_never_recorded_is_not_said_to_be_unverified():
    assert GIVEN.unverified(WHOLE) == []
    assert Expected("sha256:0").unverified(document()) == ["commit abc"]


def test_files_that_were_not_looked_at_are_not_those_that_were_judged():
    found = verdict.objections(document(), FACTS, NOW, Expected(artifacts_digest="sha256:f"))
    assert "none, not sha256:f" in found[0]


def test_a_baseline_that_is_gone_is_named():
    assert "baseline version 4" in verdict.objections(WHOLE, replace(FACTS, baseline_there=False), NOW)[0]


def test_everything_that_is_wrong_is_said_at_once():
    found = verdict.objections(WHOLE, replace(FACTS, alias="a", champion="9"), NOW + timedelta(days=9))
    assert len(found) == 3
