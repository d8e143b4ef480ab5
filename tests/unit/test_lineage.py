"""What the release log's entries say of the past."""

from hypothesis import given, settings
from hypothesis import strategies as st

from champion_gate import lineage
from tests.support.log_entries import Log


def test_a_rollback_goes_to_the_champion_before():
    log = Log().promote(None, "1").promote("1", "2").promote("2", "3")
    assert lineage.champions_before(log.entries, "champion", "3")[0] == "2"
    assert lineage.champions_before(log.entries, "champion", "1") == []


def test_a_second_rollback_goes_further_back_and_then_there_is_nothing():
    log = Log().promote(None, "1").promote("1", "2").promote("2", "3").roll_back("3", "2")
    assert lineage.champions_before(log.entries, "champion", "2")[0] == "1"
    log.roll_back("2", "1")
    assert lineage.champions_before(log.entries, "champion", "1") == []


def test_after_a_rollback_and_a_new_release_the_bad_version_is_passed_over():
    log = Log().promote(None, "1").promote("1", "2").roll_back("2", "1").promote("1", "3")
    assert lineage.champions_before(log.entries, "champion", "3")[0] == "1"
    assert set(lineage.quarantined(log.entries)) == {"2"}


def test_a_champion_that_somebody_set_by_hand_is_part_of_the_line():
    log = Log().promote(None, "1").promote("5", "6")
    assert lineage.champions_before(log.entries, "champion", "6")[0] == "5"
    assert lineage.champions_before(log.entries, "champion", "9")[0] == "6"


def test_a_version_that_came_back_is_seen_where_it_stands_now():
    log = Log().promote(None, "1").promote("1", "2").promote("2", "1")
    assert lineage.champions_before(log.entries, "champion", "1")[0] == "2"


def test_moves_are_ordered_by_their_fences_and_not_by_clocks():
    log = Log().promote(None, "1", time=9000).promote("1", "2", time=10)
    assert [move.to_version for move in lineage.finished(log.entries)] == ["1", "2"]


def test_open_undone_and_earlier_moves_and_gates_count_for_nothing():
    log = Log().promote(None, "1").promote("1", "2", state="undone").promote("1", "3", state="open")
    log.promote("1", "4", earlier_model=True).add("gate", "1", "5")
    assert [move.to_version for move in lineage.finished(log.entries)] == ["1"]
    assert lineage.quarantined(log.entries) == {}


def test_of_two_runs_with_one_operation_id_the_first_counts():
    log = Log().promote(None, "1", operation_id="same").promote(None, "2", operation_id="same")
    assert [move.to_version for move in lineage.finished(log.entries)] == ["1"]


def test_the_highest_fence_counts_earlier_models_too():
    log = Log().promote(None, "1", fence=7, earlier_model=True).promote(None, "1", fence=2)
    assert lineage.highest_fence(log.entries) == 7
    assert lineage.highest_fence([]) == 0


def test_aliases_have_lines_of_their_own_but_quarantine_is_for_all():
    log = Log().promote(None, "1").promote("1", "2").promote(None, "2", alias="champion-eu").roll_back("2", "1")
    assert lineage.champions_before(log.entries, "champion-eu", "3") == []
    assert "2" in lineage.quarantined(log.entries)


def test_a_dropped_alias_is_known_only_while_its_promotion_is_the_last_move():
    log = Log().promote(None, "1", from_alias="challenger")
    last = lineage.last_promotion_from(log.entries, "champion", "challenger")
    assert last is not None
    assert last.to_version == "1"
    assert lineage.last_promotion_from(log.entries, "champion", "other") is None
    log.promote("1", "2", from_alias="challenger").roll_back("2", "1")
    assert lineage.last_promotion_from(log.entries, "champion", "challenger") is None


def test_moves_of_one_fence_follow_each_other_by_their_links():
    log = (
        Log()
        .promote(None, "1", fence=0, time=90)
        .promote("1", "2", fence=0, time=50)
        .promote("2", "3", fence=0, time=70)
    )
    assert [move.to_version for move in lineage.in_order(log.entries)] == ["1", "2", "3"]


def test_where_links_say_nothing_moves_of_one_fence_are_in_the_order_of_their_clocks():
    log = Log().promote("7", "8", fence=3, time=20).promote("5", "6", fence=3, time=10)
    assert [move.to_version for move in lineage.in_order(log.entries)] == ["6", "8"]


def test_the_log_replayed_is_what_the_moves_set_and_dropped():
    log = Log().promote(None, "1", after={"champion": "1"})
    log.promote("1", "2", after={"previous-champion": "1", "champion": "2"})
    log.roll_back("2", "1", after={"previous-champion": None, "champion": "1", "rolled-back": "2"})
    assert lineage.replay(log.entries) == {"champion": "1", "previous-champion": None, "rolled-back": "2"}


def test_a_replay_goes_by_fences_and_leaves_out_what_does_not_count():
    log = Log().promote(None, "1", time=9000).promote("1", "2", time=10)
    log.promote("2", "3", state="undone").promote("2", "4", state="open").promote("2", "5", earlier_model=True)
    log.promote("1", "6", operation_id="o2").add("gate", "2", "7").add("hold release", None, None, alias="")
    assert lineage.replay(log.entries) == {"champion": "2"}
    assert lineage.replay([]) == {}


def test_a_champion_alias_that_a_promotion_came_from_still_names_that_version():
    log = Log().promote(None, "1", alias="staging").promote(None, "1", from_alias="staging")
    assert lineage.replay(log.entries) == {"staging": "1", "champion": "1"}


def test_the_log_answers_for_what_finished_moves_set_and_for_nothing_else():
    log = Log().promote(None, "1", alias="staging", after={"staging": "1", "previous-staging": None})
    log.promote(None, "1", state="open", from_alias="challenger").promote("3", "1", alias="x", earlier_model=True)
    assert lineage.set_by_moves(log.entries) == {"staging", "previous-staging"}


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_a_replay_is_the_same_in_whatever_order_and_with_whatever_clocks_the_log_is_read(data):
    log, aliases = Log(), {}
    for _ in range(data.draw(st.integers(1, 8))):
        alias = data.draw(st.sampled_from(["champion", "champion-eu"]))
        to_version, state = data.draw(st.sampled_from("12345")), data.draw(st.sampled_from(["done", "undone", "open"]))
        after = {f"previous-{alias}": aliases.get(alias), alias: to_version}
        log.promote(
            aliases.get(alias), to_version, state=state, alias=alias, after=after, time=data.draw(st.integers(0, 99))
        )
        if state == "done":
            aliases |= after
    assert lineage.replay(data.draw(st.permutations(log.entries))) == aliases
