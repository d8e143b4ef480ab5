"""The release path on the oldest server that can be had, and the page that says what `tests/matrix/run` found."""

from __future__ import annotations

import re

import pytest

from tests.matrix import versions
from tests.matrix.release_path import STEPS, Walk
from tests.matrix.run import PAGE, Row, page, quick_commands, rows_wanted, table, walk


@pytest.mark.slow
def test_a_model_is_released_and_taken_back_on_the_oldest_server():
    oldest = next(each for each in versions.known() if not each.problem)
    with quick_commands() as forks:
        row = walk(oldest, "SQLite", oldest, forks)
    assert (row.walk.done, row.walk.problem) == (list(STEPS), "")
    assert row.server == oldest.version
    assert row.walk.model.startswith(f"MLflow {oldest.version}, Python 3.")


def test_the_page_tells_of_the_versions_that_are_locked_now():
    text = PAGE.read_text(encoding="utf-8")
    found = re.findall(
        r"^\| ([\d.]+) \| (\w+) [\d.]+ \| MLflow ([\d.]+), Python [\d.]+ \| (.*) \|$", text, re.MULTILINE
    )
    wanted = [(server.version, database, client.version) for server, database, client in rows_wanted(versions.known())]
    assert [row[:3] for row in found] == wanted, "tests/matrix/run makes the page anew"
    assert {cell for row in found for cell in row[3].split(" | ")} == {"yes"}


def test_a_walk_that_ends_early_is_seen_in_its_row():
    row = Row("2.9.2", "SQLite 3.40", "2.9.2", Walk(["trained", "first release"], "exit code 3"))
    assert row.cells() == ["2.9.2", "SQLite 3.40", "2.9.2", "yes", "yes", "**no**", "-", "-", "-"]
    assert Row("2.9.2", "SQLite 3.40", "2.9.2", Walk()).cells()[3:] == ["**no**", *["-"] * 5]
    whole = Row("2.9.2", "SQLite 3.40", "2.9.2", Walk(list(STEPS), model="MLflow 2.9.2, Python 3.11.7"))
    assert whole.cells()[2:] == ["MLflow 2.9.2, Python 3.11.7", *["yes"] * 6]


def test_only_what_is_between_the_marks_is_written():
    row = Row("2.9.2", "SQLite 3.40", "2.9.2", Walk())
    text = "before\n<!-- release path, by tests/matrix/run -->\nold\n<!-- end -->\nafter\n"
    assert (
        page(text, [row])
        == f"before\n<!-- release path, by tests/matrix/run -->\n\n{table([row])}\n<!-- end -->\nafter\n"
    )
