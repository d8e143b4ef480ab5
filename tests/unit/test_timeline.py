"""What the history says became of each move, what others did, and who was champion when."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from champion_gate import report, timeline
from champion_gate.errors import BadInput
from champion_gate.holds import Hold, parse
from tests.support.log_entries import Log

HOUR = 3_600_000
EVIL = (
    '<b>|`@all` [a](javascript:x)\n```\n    section x\n    click a href "javascript:x" %%{init: {}}%% ; # :crit'
    "\x1b[31m::error::x ##[error]"
)
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
BAR = rf"    version (?:\d+|x)(?: then (?:\d+|none|x) by others)? :(?:crit|active|done), {TIME}, {TIME}\n"
GANTT = re.compile(
    r"gantt\n    dateFormat YYYY-MM-DD HH:mm:ss\n    axisFormat (?:%Y-%m-%d|%m-%d %H:%M)\n"
    rf"(?:    section \d+(?: [A-Za-z0-9_-]+)?\n(?:{BAR})+)+"
)


def story(log, aliases=None, open_move=""):
    return timeline.tell(list(reversed(log.entries)), aliases, open_move)


def marks(log, aliases=None, open_move=""):
    """What became of each, by run id, or by what it is."""
    return {row.entry.run_id if row.entry else row.change.kind: row.mark for row in story(log, aliases, open_move).rows}


def changes(log, aliases=None, open_move=""):
    rows = story(log, aliases, open_move).rows
    return [(r.alias, r.change.from_version, r.change.to_version) for r in rows if r.change]


def champion(log, time, alias="champion", aliases=None):
    return timeline.champions_at(story(log, aliases), time, alias)[alias].version


def shown(told, hold=None, **options):
    return report.history("search-ranker", told.rows, told.spans, hold, 1_764_000_000_000, **options)


# -- marks


def test_a_move_is_done_undone_open_or_abandoned():
    log = Log().promote(None, "1").promote("1", "2", state="undone").promote("1", "3", state="open")
    log.promote("1", "4", state="open").add("gate", "1", "4")
    assert marks(log, open_move="r4") == {"r1": "done", "r2": "undone", "r3": "abandoned", "r4": "open", "r5": "done"}
    assert story(log, open_move="r4").open_move.run_id == "r4"
    assert story(log, open_move="r3").open_move.run_id == "r3"
    assert story(log, open_move="r1").open_move is None, "it ended between its last two writes"


def test_a_move_that_another_job_settled_an_override_and_a_reinstatement_are_marked():
    log = (
        Log()
        .promote(None, "1", recovered_by="bob", override="urgent")
        .roll_back("2", "1", state="undone", recovered_by="bob")
    )
    log.promote("1", "2", reinstated="a false alarm")
    assert marks(log) == {"r1": "done, recovered, override", "r2": "undone, recovered", "r3": "done, reinstated"}


def test_the_second_run_with_one_operation_id_is_a_duplicate_and_counts_for_nothing():
    log = Log().promote(None, "1").promote(None, "1", operation_id="o1").promote("1", "2")
    assert marks(log, {"champion": "2"}) == {"r1": "done", "r2": "duplicate, done", "r3": "done"}
    assert len(story(log).spans) == 3


def test_entries_of_an_earlier_model_count_for_nothing():
    log = Log().promote("7", "8", earlier_model=True).promote(None, "1")
    assert marks(log, {"champion": "1"}) == {"r1": "earlier model", "r2": "done"}
    assert champion(log, 999) is None
    assert len(story(log).spans) == 2


# -- what others did


def test_a_move_that_starts_from_something_else_shows_that_others_moved_the_alias():
    log = Log().promote(None, "1").promote("1", "2").promote("5", "6")
    told = story(log, {"champion": "6"})
    assert [row.entry.run_id if row.entry else row.change.sentence() for row in told.rows] == [
        "r3",
        "moved by others: 2 -> 5",
        "r2",
        "r1",
    ]
    (change,) = [row.change for row in told.rows if row.change]
    assert (change.kind, change.since, change.until) == ("by hand", 1002, 1003)


def test_what_an_alias_names_now_is_held_against_the_last_move():
    log = Log().promote(None, "1", after={"champion": "1"})
    log.promote("1", "2", after={"previous-champion": "1", "champion": "2"})
    assert changes(log, {"champion": "2", "previous-champion": "1", "mine": "9"}) == []
    assert changes(log, {"champion": "7", "previous-champion": "1"}) == [("champion", "2", "7")]
    assert changes(log, {"previous-champion": "1"}) == [("champion", "2", None)]
    assert changes(log, {"champion": "2", "previous-champion": "9"}) == [("previous-champion", "1", "9")]
    assert changes(log, None) == [], "they could not be read together with the log"
    assert story(log, {"champion": "7"}).rows[0].change.until is None


def test_a_champion_set_by_hand_before_the_first_move_is_one_of_others():
    log = Log().promote("4", "5")
    assert changes(log, {"champion": "5"}) == [("champion", None, "4")]
    assert story(log).rows[1].change.since is None


def test_what_an_open_move_may_have_set_is_not_the_work_of_others():
    log = Log().promote(None, "1", after={"champion": "1", "previous-champion": None})
    log.promote("1", "2", state="open", after={"champion": "2", "previous-champion": "1"})
    for aliases in (
        {"champion": "1"},
        {"champion": "1", "previous-champion": "1"},
        {"champion": "2", "previous-champion": "1"},
    ):
        assert changes(log, aliases, "r2") == []
    assert changes(log, {"champion": "3"}, "r2") == [("champion", "1", "3")]
    assert changes(log, {"champion": "2"}, "") == [("champion", "1", "2")], "it was abandoned, and set nothing"


def test_a_move_that_was_not_done_is_no_witness_of_what_an_alias_named():
    log = Log().promote(None, "1").promote("1", "2").promote("1", "3", state="undone").promote("1", "4", state="open")
    assert changes(log.promote("2", "5"), {"champion": "5"}) == []


def test_a_late_write_of_a_superseded_move_is_told_apart():
    log = Log().promote(None, "1").promote("1", "2", state="undone", recovered_by="bob")
    (row,) = [row for row in story(log, {"champion": "2"}).rows if row.change]
    assert (row.change.kind, row.mark, row.change.late.run_id) == ("late write", "late write", "r2")
    assert marks(log, {"champion": "2"})["r2"] == "undone, recovered, late write"
    assert row.change.sentence() == "late write of move r2, which bob had settled: 1 -> 2; the next action repairs it"
    assert (row.change.since, row.change.until) == (1002, None)
    assert changes(log, {"champion": "1"}) == [], "it was repaired"
    (row,) = [row for row in story(log.promote("2", "3"), {"champion": "3"}).rows if row.change]
    assert (row.mark, row.change.since, row.change.until) == ("late write", 1002, 1003)
    assert "repairs" not in row.change.sentence()
    other = Log().promote(None, "1").promote("1", "2", state="undone").promote("2", "3")
    assert marks(other)["by hand"] == "moved by others", "nobody else undid that move"


def test_a_late_write_of_the_alias_beside_the_champion_is_one_too():
    log = Log().promote(None, "1", after={"champion": "1"})
    log.promote("1", "2", after={"champion": "2", "previous-champion": "1"})
    log.promote("2", "3", state="undone", recovered_by="bob", after={"champion": "3", "previous-champion": "2"})
    (row,) = [row for row in story(log, {"champion": "2", "previous-champion": "2"}).rows if row.change]
    assert (row.alias, row.mark) == ("previous-champion", "late write")


def test_an_alias_that_a_promotion_came_from_is_still_what_its_own_moves_say():
    log = Log().promote(None, "1", alias="staging").promote(None, "1", from_alias="staging")
    assert changes(log, {"champion": "1", "staging": "1"}) == []
    assert changes(log, {"champion": "1", "staging": "9"}) == [("staging", "1", "9")]
    assert champion(log, 10**13, "staging") == "1"


# -- when


def test_a_version_is_champion_from_its_move_until_the_next():
    log = Log().promote(None, "1", time=10_500).promote("1", "2", time=20_000).roll_back("2", "1", time=30_000)
    assert [champion(log, time) for time in (0, 9_999, 10_000, 19_999, 20_000, 29_999, 30_000, 10**14)] == [
        *(None, None, "1", "1", "2", "2", "1", "1")
    ]
    assert champion(log, 20_000, "other") is None
    assert timeline.champions_at(story(log), 20_000).keys() == {"champion"}
    span = timeline.champions_at(story(log), 25_000)["champion"]
    assert (span.since, span.until, span.move.actor, span.sure) == (20_000, 30_000, "ann", True)


def test_only_finished_moves_make_champions():
    log = Log().promote(None, "1").promote("1", "2", state="undone").promote("1", "3", state="open")
    assert champion(log, 10**13) == "1"


@pytest.mark.parametrize("off", [-HOUR, HOUR])
@pytest.mark.parametrize("wrong", range(5))
def test_one_clock_an_hour_off_reorders_nothing_and_leaves_the_others_at_their_word(off, wrong):
    times = [HOUR * 10 + 60_000 * i for i in range(5)]
    log = Log()
    for i, time in enumerate(times):
        log.promote(str(i) if i else None, str(i + 1), time=time + (off if i == wrong else 0))
    told = story(log, {"champion": "5"})
    assert [row.entry.to_version for row in told.rows] == ["5", "4", "3", "2", "1"]
    for i, time in enumerate(times):
        if i != wrong:
            # One that is behind counts from the time of the move before it on.
            early = off < 0 and i == wrong - 1
            assert champion(log, time) == str(i + 2 if early else i + 1)
    unsure = {s.version for s in told.spans if not s.sure}
    contradicts = not (wrong == 0 and off < 0) and not (wrong == 4 and off > 0)
    assert bool(unsure) == contradicts


def test_a_clock_of_another_century_does_not_hide_what_came_later():
    log = Log().promote(None, "1", time=10_000).promote("1", "2", time=10**15).promote("2", "3", time=30_000)
    assert champion(log, 40_000) == "3"
    assert [row.entry.to_version for row in story(log).rows] == ["3", "2", "1"]


def test_two_clocks_that_contradict_each_other_keep_the_order():
    log = Log().promote(None, "1", time=HOUR).promote("1", "2", time=10_000)
    assert (champion(log, 9_000), champion(log, 10_000)) == (None, "2")
    assert [span.sure for span in story(log).spans] == [False, False, True]


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(0, 50), max_size=12))
def test_moments_keep_the_order_and_trust_the_longest_series_that_agrees(times):
    log = Log()
    for time in times:
        log.promote("1", "1", time=time)
    found = [timeline.moments(log.entries)[entry.run_id] for entry in log.entries]
    assert [place for _, _, place in found] == list(range(len(times)))
    assert [time for time, _, _ in found] == sorted(time for time, _, _ in found)
    best = [1] * len(times)
    for i, time in enumerate(times):
        best[i] += max((best[j] for j in range(i) if times[j] <= time), default=0)
    assert sum(sure for _, sure, _ in found) == max(best, default=0)


def test_what_others_set_has_no_time_and_is_named_beside_what_the_log_says():
    log = Log().promote(None, "1", time=10_000).promote("5", "6", time=20_000)
    span = timeline.champions_at(story(log), 15_000)["champion"]
    assert (span.version, span.change.to_version, span.change.since, span.change.until) == ("1", "5", 10_000, 20_000)
    last = timeline.champions_at(story(log, {"champion": "7"}), 25_000)["champion"]
    assert (last.version, last.change.to_version) == ("6", "7")
    _, text = report.champions("m", {"champion": span}, 15_000, None)
    assert "version 1, since 1970-01-01T00:00:10Z (promotion by ann), until 1970-01-01T00:00:20Z." in text
    assert "moved by others: 1 -> 5 (between 1970-01-01T00:00:10Z and 1970-01-01T00:00:20Z)" in text


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [
        ("1970-01-02", 86_400_000),
        ("1970-01-01T00:00:01Z", 1000),
        ("1970-01-01 00:00:01", 1000),
        ("19700101T000001Z", 1000),
        ("1970-01-01T01:00:01+01:00", 1000),
        ("1970-01-01T01:00:01 +0100", 1000),
        ("1970-01-01t01+01", 0),
        ("1969-12-31T23:30-00:30", 0),
        ("1970-01-01T00:00:00.5Z", 500),
        ("1970-01-01T00:00:00,123456789Z", 123),
    ],
)
def test_times_are_read_as_iso_8601_and_in_utc_without_a_zone(text, milliseconds):
    assert timeline.read_time(text) == milliseconds


@pytest.mark.parametrize(
    "text",
    [
        *("now", "yesterday", "2026", "2026-13-01", "2026-02-30", "2026-01-01T25:00", "2026-01-01T10:00+99:00", EVIL),
        *("1764000000", "2026-01-01T10:00:60Z", "0000-01-01", "2026-W01-1", "\u0662\u066026-01-01", "2026-01-01T"),
    ],
)
def test_what_is_no_time_is_bad_input_that_says_how_to_write_one(text):
    with pytest.raises(BadInput) as caught:
        timeline.read_time(text)
    assert "2026-11-25T14:30:00Z" in caught.value.do
    assert "\x1b" not in str(caught.value)


# -- how it is shown


def test_the_summary_has_the_hold_first_then_one_chart_then_the_table():
    log = Log().promote(None, "1", time=HOUR).promote("1", "2", time=2 * HOUR).roll_back("2", "1", time=3 * HOUR)
    markdown = shown(story(log, {"champion": "1"}), Hold("ann", "2026-11-25", "wait for the fix"))
    assert markdown.index("On hold") < markdown.index("```mermaid") < markdown.index("| time |")
    assert "wait for the fix" in markdown
    (chart,) = re.findall(r"```mermaid\n(.*?)```", markdown, re.DOTALL)
    assert GANTT.fullmatch(chart)
    assert "    version 1 :done, 1970-01-01 01:00:00, 1970-01-01 02:00:00\n" in chart
    assert "    version 2 :crit, 1970-01-01 02:00:00, 1970-01-01 03:00:00\n" in chart
    assert "    version 1 :active, 1970-01-01 03:00:00, 2025-11-24 16:00:00\n" in chart
    assert len([line for line in markdown.splitlines() if line.startswith("| 1970")]) == 3


def test_without_a_release_there_is_no_chart_and_it_says_so():
    assert "mermaid" not in shown(story(Log()))
    assert "no releases" in shown(story(Log()))
    assert "mermaid" not in shown(story(Log().add("gate", None, "1")))


def test_texts_of_others_do_not_get_into_the_chart_and_are_text_in_the_table():
    fields = {"actor": EVIL, "reason": EVIL, "commit": EVIL, "verdict": EVIL, "recovered_by": EVIL, "override": EVIL}
    fields |= {"reinstated": EVIL, "approved_by": EVIL}
    log = Log()
    for alias in (EVIL, "champion", "__proto__", "click"):
        log.promote(None, EVIL, alias=alias, **fields).promote(EVIL, "2", alias=alias, time=10**17, **fields)
        log.promote(EVIL + "x", "3", alias=alias, state=EVIL, **fields).promote("9" * 400, "4", alias=alias, **fields)
    log.promote("4", "5", state="undone", recovered_by=EVIL)
    told = story(log, {"champion": "5", EVIL: EVIL})
    markdown = shown(told, parse(EVIL))
    (chart,) = re.findall(r"```mermaid\n(.*?)```", markdown, re.DOTALL)
    assert GANTT.fullmatch(chart)
    rest = markdown.replace(chart, "")
    for bad in ("<b>", "@all", "\x1b", "](javascript"):
        assert bad not in rest
    rows = [line for line in rest.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {10}
    spans = timeline.champions_at(told, 2**62)
    for text in report.champions(EVIL, spans, 2**62, None):
        assert "\x1b" not in text
        assert not any(line.lstrip().startswith("::") for line in text.splitlines())


def test_a_long_history_stays_below_githubs_limits():
    log = Log()
    for i in range(3000):
        log.promote(str(i) if i else None, str(i + 1), reason="@" * 400, time=i * HOUR, alias=f"champion-{i % 3}")
    told = story(log)
    markdown = shown(told)
    assert len(markdown.encode()) <= report.SUMMARY_BYTES
    assert "older lines are left out" in markdown
    (chart,) = re.findall(r"```mermaid\n(.*?)```", markdown, re.DOTALL)
    assert GANTT.fullmatch(chart)
    assert len(re.findall("    version", chart)) == 40
    assert "newest 40 of 3000" in markdown
    short = shown(told, limit=5000)
    assert len(short.encode()) <= 5000
