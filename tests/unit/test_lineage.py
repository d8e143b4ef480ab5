"""What the release log's entries say of the past."""

from champion_gate import lineage
from champion_gate.lineage import Entry


class Log:
    """Builds entries as commands would write them."""

    def __init__(self):
        self.entries = []

    def add(self, kind, from_version, to_version, state="done", alias="champion", **fields):
        number = len(self.entries) + 1
        values = {
            "run_id": f"r{number}",
            "kind": kind,
            "state": state,
            "alias": alias,
            "from_version": from_version,
            "to_version": to_version,
            "previous": None,
            "operation_id": f"o{number}",
            "fence": number,
            "actor": "ann",
            "commit": "c",
            "reason": "",
            "verdict": "",
            "time": 1000 + number,
            "model_created": 1,
            **fields,
        }
        self.entries.append(Entry(**values))
        return self

    def promote(self, from_version, to_version, **fields):
        return self.add("promotion", from_version, to_version, **fields)

    def roll_back(self, from_version, to_version, **fields):
        return self.add("rollback", from_version, to_version, **fields)


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
