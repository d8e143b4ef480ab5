"""All models at a glance: what is shown of each, whatever their names and texts hold."""

import json
import re

import pytest

import history
from champion_gate import overview, report, timeline
from champion_gate.overview import Told
from champion_gate.registry import Model
from tests.support.log_entries import Log

EVIL = "<b>|`@all` [a](javascript:x)\n```\n\x1b[31m::error::x ##[error]"


def told(name="search-ranker", log=None, aliases=None, tags=None, problem=""):
    model = Model(name, 1, aliases or {}, tags or {})
    entries = list(reversed(log.entries)) if log else []
    return Told(model, timeline.tell(entries, model.aliases, model.tags.get("gate.open_move", "")), problem)


def test_a_line_says_the_champions_the_last_move_and_what_waits_for_a_person():
    log = Log().promote(None, "1").promote("1", "2").promote(None, "2", alias="eu").promote("2", "3", state="open")
    each = told(
        log=log,
        aliases={"champion": "2", "eu": "1", "challenger": "3"},
        tags={"gate.open_move": "r4", "gate.hold": "x"},
    )
    name, champions, last, current, hold, others = report.overview_cells(each)
    assert (name, champions) == ("search-ranker", "champion 2, eu 1")
    assert last == "promotion of eu none → 2 by ann, 1970-01-01T00:00:01Z"
    assert current == "promotion of champion 2 → 3 by ann, since 1970-01-01T00:00:01Z"
    assert hold.endswith(": x")
    assert "2 -> 1" in others
    assert overview.names([each, told("b")]) == {
        "models": ["search-ranker", "b"],
        "open-moves": ["search-ranker"],
        "holds": ["search-ranker"],
        "moved-by-others": ["search-ranker"],
    }


def test_a_move_that_only_the_model_knows_is_open_too_and_an_earlier_model_has_no_last_move():
    each = told(log=Log().promote("7", "8", earlier_model=True), tags={"gate.open_move": "r9"})
    assert report.overview_cells(each) == ("search-ranker", "none yet", "", "run r9", "", "")
    assert overview.names([each])["open-moves"] == ["search-ranker"]


def test_nothing_of_others_is_markup():
    each = told(EVIL, Log().promote(None, EVIL, actor=EVIL, alias=EVIL), {EVIL: EVIL}, {"gate.hold": EVIL})
    shown = report.overview([each, told(EVIL, problem=EVIL)], [])
    for bad in ("<b>", "@all", "\x1b", "](javascript", "##["):
        assert bad not in shown
    rows = [line for line in shown.splitlines() if line.startswith("|")]
    assert len(rows) == 4
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows} == {7}


@pytest.mark.parametrize("limit", [2_000, 40_000])
def test_histories_that_do_not_fit_are_left_out_and_that_is_said(limit):
    models = [told(f"model-{letter}") for letter in "abcd"]
    shown = report.overview(models, ["## Releases of it\n" + "x" * 15_000] * 4, limit)
    assert len(shown.encode()) <= limit
    left = 4 - shown.count("## Releases of it")
    assert left > 0
    assert f"The histories of {left} models are left out" in shown


def test_a_list_that_an_output_cannot_hold_is_empty_and_not_cut():
    assert json.loads(history._listed(["a", 'b"'])) == ["a", 'b"']
    assert history._listed(["search-ranker"] * 300) == ""
