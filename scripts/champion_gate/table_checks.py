"""What is wrong with judged rows: all of it is counted, and the first of each kind is named with its query and row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from champion_gate.errors import BadInput
from champion_gate.table_groups import QUERY, Grouped, hashes
from champion_gate.table_types import ids, to_number, widened
from champion_gate.text import one_line

MOST_SLICE_VALUES = 1000
DOCUMENT = "document"
"""The column of documents in rows of whole queries."""

_LABELS = "A label says how relevant a document is: a number, 0 or more."
_SCORES = "What a model did not score cannot be ranked, and must not pass for a low score."
_DOCUMENTS = "A document that is judged or scored twice would count twice."
_QUERIES = "Rows belong to the query that they name; ids are text or whole numbers."
_SLICES = "A slice is a set of whole queries."


@dataclass
class _Problem:
    first: str
    why: str
    do: str
    unit: str
    count: int = 0


@dataclass
class Problems:
    """What was found in a table, in the order in which it was found first."""

    name: str
    _found: dict[str, _Problem] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self._found)

    def add(self, what: str, count: int, first: str, why: str, do: str, unit: str = "row") -> None:
        """Note that `what` is so in `count` more rows (or another `unit`), first where `first` says."""
        self._found.setdefault(what, _Problem(first, why, do, unit)).count += count

    def raise_first(self) -> None:
        """Raise what was found first, and mention the rest.

        Raises:
            BadInput: something was found.
        """
        if not self._found:
            return
        said = {what: f"{what} in {_counted(problem.count, problem.unit)}" for what, problem in self._found.items()}
        what, *others = self._found
        first = self._found[what]
        also = f" Also: {'; '.join(said[other] for other in others[:5])}." if others else ""
        raise BadInput(f"{self.name}: {said[what]}, first in {first.first}.", first.why + also, first.do)


def _counted(count: int, unit: str) -> str:
    plural = {"row": "rows", "query": "queries"}[unit]
    return f"{count:,} {unit if count == 1 else plural}"


@dataclass(frozen=True)
class Rows:
    """A piece of a table as it was read, to check and to name its rows by.

    `first_row` is the number of its first row in the table, from 1 on; `document` may be empty. Cells that are not
    `parsed` are text.
    """

    frame: pl.DataFrame
    query: str
    document: str
    first_row: int
    parsed: bool

    def place(self, row: int) -> str:
        """Where a row is, which counts from 0 here."""
        ids = {"query": self.query, "document": self.document}
        cells = {what: self.frame[column][row] for what, column in ids.items() if column}
        named = ", ".join(f"{what} '{one_line(str(cell), 80)}'" for what, cell in cells.items() if cell is not None)
        return f"row {self.first_row + row}" + (f" ({named})" if named else "")

    def queries(self, problems: Problems) -> pl.Series:
        """The ids of queries as Int64 or String; none, or a fraction, is a problem."""
        return self._ids(self.query, _QUERIES, problems)

    def documents(self, problems: Problems) -> pl.Series:
        """The ids of documents as Int64 or String; none, or a fraction, is a problem."""
        return self._ids(self.document, _DOCUMENTS, problems)

    def _ids(self, column: str, why: str, problems: Problems) -> pl.Series:
        cells = self.frame[column]
        split = ids(cells)
        if split is None:
            raise BadInput(
                f"{problems.name}: column '{one_line(column, 80)}' has the type {cells.dtype}.",
                "Ids are text or whole numbers.",
                "Name another column, or convert it.",
            )
        found, fractions = split
        self._note(column, "is not a whole number", fractions, why, problems)
        if found.null_count():
            self._note(column, "has no value", cells.is_null(), why, problems)
        if found.dtype == pl.String and (found == "").any():
            self._note(column, "is empty", (found == "").fill_null(value=False), why, problems)
        return found

    def numbers(self, column: str, problems: Problems, *, label: bool) -> pl.Series:
        """A column of labels or scores as Float64; what is no finite number (or a negative label) is a problem."""
        cells = self.frame[column]
        values = self.frame.select(pl.col(column).cast(pl.Float64) if self.parsed else to_number(column)).to_series()
        if label and cells.dtype == pl.Float32:
            values = pl.Series(widened(cells.to_numpy())).fill_nan(None)
        array = values.to_numpy()
        # A null is NaN here, and a NaN fails both comparisons.
        low = 0.0 if label else -np.finfo(np.float64).max
        if not len(array) or (array.min() >= low and array.max() < np.inf):
            return values
        null, unread = cells.is_null(), values.is_null()
        kinds = {
            "has no value": null,
            "is not a number": (unread & ~null) | values.is_nan().fill_null(value=False),
            "is infinite": values.is_infinite().fill_null(value=False),
        }
        if label:
            kinds["is negative"] = (values < 0).fill_null(value=False) & values.is_finite().fill_null(value=False)
        for kind, rows in kinds.items():
            self._note(column, kind, rows, _LABELS if label else _SCORES, problems)
        return values

    def _note(self, column: str, kind: str, rows: pl.Series, why: str, problems: Problems) -> None:
        if count := int(rows.sum()):
            first = rows.arg_max() or 0
            value = self.frame[column][first]
            shown = "" if value is None else f": {one_line(str(value), 60)}"
            do = "Mend these rows, or leave out the queries that they belong to."
            problems.add(f"column '{one_line(column, 80)}' {kind}", count, self.place(first) + shown, why, do)


class QueryChecks:
    """Checks whole queries: no document twice, one value of each slice column, not too many such values."""

    def __init__(self, problems: Problems, document: str, slices: Sequence[str]) -> None:
        self.problems = problems
        self.document = document
        self.slices = slices
        self._values: dict[str, set[str]] = {column: set() for column in slices}

    def duplicates(self, grouped: Grouped) -> None:
        """Note documents that a query has more than once."""
        sizes = np.diff(grouped.offsets)
        index = np.repeat(np.arange(len(sizes), dtype=np.uint64), sizes)
        # Odd constants of splitmix64; equal numbers are only suspects.
        mixed = hashes(grouped.rows[DOCUMENT]) + index * np.uint64(0x9E3779B97F4A7C15)
        mixed.sort()
        if not (mixed[1:] == mixed[:-1]).any():
            return
        pairs = pl.DataFrame({"index": index, DOCUMENT: grouped.rows[DOCUMENT], QUERY: grouped.rows[QUERY]})
        again = pairs.filter(~pl.struct("index", DOCUMENT).is_first_distinct())
        if again.height:
            query, document = str(again[QUERY][0]), str(again[DOCUMENT][0])
            self.problems.add(
                f"column '{one_line(self.document, 80)}' repeats a document of the same query",
                again.height,
                f"query '{one_line(query, 80)}', document '{one_line(document, 80)}'",
                _DOCUMENTS,
                "Keep one row for each document of a query.",
            )

    def constant(self, grouped: Grouped, column: str, cells: pl.Series) -> None:
        """Note queries in which a slice column changes."""
        changes = cells.ne_missing(cells.shift(1)).to_numpy().copy()
        changes[grouped.offsets[:-1]] = False
        if not changes.any():
            return
        rows = np.flatnonzero(changes)
        first = int(rows[0])
        queries = np.unique(np.searchsorted(grouped.offsets, rows, "right"))
        values = " and ".join(f"'{one_line(str(cells[row]), 60)}'" for row in (first - 1, first))
        self.problems.add(
            f"slice column '{one_line(column, 80)}' has several values",
            len(queries),
            f"query '{one_line(str(grouped.rows[QUERY][first]), 80)}': {values}",
            _SLICES,
            "Give all rows of a query the same value, or take the column out of the policy's slices.",
            "query",
        )

    def few(self, column: str, values: list[str]) -> None:
        """See that a slice column has few values.

        Raises:
            BadInput: it has more than `MOST_SLICE_VALUES`.
        """
        seen = self._values[column]
        seen.update(values)
        if len(seen) > MOST_SLICE_VALUES:
            some = ", ".join(f"'{one_line(value, 40)}'" for value in sorted(seen)[:3])
            raise BadInput(
                f"{self.problems.name}: slice column '{one_line(column, 80)}' has over {MOST_SLICE_VALUES} values.",
                f"Such as {some}: slices of so few queries say nothing.",
                "Name a column with few values, or group its values first.",
            )
