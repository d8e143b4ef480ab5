"""Tables of judged queries, read some whole queries at a time, whatever their size; bad data is named where it is.

A row is one document of one query: its label, and features or the scores of models. Formats are told apart by suffix
and first bytes: Parquet, CSV, JSON Lines, LETOR/SVMLight, the last three also compressed by gzip.

What the formats cannot say is settled so:
- in CSV an empty field is null, ids are the text that is written, `true` and `false` in any case are bools, and a
  column whose values are mostly numbers must hold numbers only;
- in LETOR a feature that is left out is 0;
- whole numbers that are stored as floats are ids like the whole numbers.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from champion_gate.errors import BadInput
from champion_gate.table_checks import DOCUMENT, Problems, QueryChecks, Rows
from champion_gate.table_csv import CsvTable
from champion_gate.table_files import CSV, JSON_LINES, LETOR, PARQUET, TSV, TableFile, open_file
from champion_gate.table_groups import QUERY, Grouped, hashes, read_ahead, regrouped, starts, whole_queries
from champion_gate.table_jsonl import JsonLinesTable
from champion_gate.table_letor import LetorTable
from champion_gate.table_parquet import ParquetTable
from champion_gate.table_types import ColumnTypes
from champion_gate.text import one_line

NO_SLICE = "(none)"
"""The slice of queries that have no value in a slice column."""
_CELLS = 8_000_000
"""How many cells of a table memory holds at once, roughly."""
_LABEL = "label"


@dataclass(frozen=True)
class Columns:
    """Which columns of a table mean what.

    `document` is empty if there is none. With `scores` (the columns of 1 to 3 models' scores) no features are read.
    `features` None takes all columns that mean nothing else; named ones may be slice, query or document columns too,
    never the label.
    """

    query: str = "query_id"
    label: str = "label"
    document: str = ""
    slices: tuple[str, ...] = ()
    scores: tuple[str, ...] = ()
    features: tuple[str, ...] | None = None


@dataclass(frozen=True)
class Chunk:
    """Some whole queries: the rows of query i are `offsets[i]:offsets[i + 1]`. Arrays may be read-only.

    Attributes:
        query_ids: as text, one per query; a whole number 7 is "7".
        offsets: shape (queries + 1,), from 0 to `rows`.
        labels: shape (rows,), finite and not negative.
        slices: by slice column, one value per query; "(none)" where there is none.
        scores: by score column, shape (rows,), finite.
        features: by column, shape (rows,): float32, float64, int64 or bool arrays, where a missing number is NaN
            (columns of whole numbers or bools with missing values are float64), or lists of text and None.
        documents: ids as text, if there is a document column.
        rows: how many there are.
    """

    query_ids: list[str]
    offsets: NDArray[np.int64]
    labels: NDArray[np.float64]
    slices: Mapping[str, list[str]]
    scores: Mapping[str, NDArray[np.float64]]
    features: Mapping[str, NDArray[np.generic] | list[str | None]]
    rows: int
    documents: pl.Series | None = None


class _Source(Protocol):
    """A file in one of the formats."""

    columns: list[str]
    types: Mapping[str, pl.DataType]
    """The types that the file itself gives its columns; empty where they show in the cells."""
    parsed: bool
    """Whether cells have types; in CSV they are text that is still to be parsed."""

    def frames(self, wanted: Sequence[str], rows: int) -> Iterator[pl.DataFrame]: ...


@dataclass(frozen=True)
class _Survey:
    """What only the whole table tells: how many rows, whether queries are in one piece, and the columns' types."""

    rows: int
    grouped: bool
    types: ColumnTypes


class JudgedTable:
    """A table that can be read several times; `chunks` always gives the same queries in the same order.

    Memory is bounded by `_CELLS` and the largest query, plus 8 bytes a query. A table that is not grouped by query
    is regrouped: in memory if it is small, else by temporary files.
    """

    def __init__(
        self,
        file: TableFile,
        source: _Source,
        columns: Columns,
        feature_names: tuple[str, ...],
        scratch: Path | None,
        survey: _Survey | None = None,
    ) -> None:
        self.file = file
        self.name = file.name
        self.columns = columns
        self.feature_names = feature_names
        self._source = source
        self._scratch = scratch
        self._surveyed = survey

    @classmethod
    def open(cls, path: Path, columns: Columns, *, name: str = "", scratch: Path | None = None) -> JudgedTable:
        """Open a table, and see that it has the columns. Of Parquet and CSV no rows are read yet.

        Args:
            path: a local file.
            columns: which columns are wanted.
            name: what messages call it; the path if empty.
            scratch: a folder for temporary files, should the table need regrouping; the system's if None.

        Raises:
            BadInput: the file is not there, empty, in no known format or damaged, or lacks a column.
            OutsideWorldFailed: it may not be read, or the storage failed.
        """
        file = open_file(path, name or one_line(str(path), 300))
        source = _source(file, columns)
        return cls(file, source, columns, _check_columns(file, source, columns), scratch)

    def with_features(self, features: Sequence[str]) -> JudgedTable:
        """The same table with these features.

        Raises:
            BadInput: it lacks one of them.
        """
        columns = replace(self.columns, features=tuple(features), scores=())
        names = _check_columns(self.file, self._source, columns)
        known = self._surveyed is not None and all(name in self._surveyed.types for name in names)
        return JudgedTable(self.file, self._source, columns, names, self._scratch, self._surveyed if known else None)

    def chunks(self, max_rows: int = 1_000_000) -> Iterator[Chunk]:
        """The table's queries, `max_rows` rows or fewer at a time unless one query has more.

        Once something is wrong no more chunks come; the rest is read to count how often, and then the error raised.

        Raises:
            BadInput: something is wrong with the data; names file, column, first query and row, and how many.
            OutsideWorldFailed: the storage failed, there is no room for temporary files, or the file was changed.
        """
        survey = self._survey()
        columns = self.columns
        width = 3 + len(columns.slices) + len(columns.scores) + len(self.feature_names)
        at_once = _at_once(width, max_rows)
        problems = Problems(self.name)
        checks = QueryChecks(problems, columns.document, columns.slices)
        frames = read_ahead(self._rows(survey.types, at_once, problems))
        if not survey.grouped:
            frames = regrouped(frames, survey.rows, at_once, self._scratch)
        for grouped in whole_queries(frames, at_once):
            slices = self._slices(grouped, checks)
            if columns.document:
                checks.duplicates(grouped)
            if not problems:
                yield self._chunk(grouped, slices)
        self.file.unchanged()
        problems.raise_first()

    # -- the first pass: is it grouped, and what do its columns hold

    def _survey(self) -> _Survey:
        if self._surveyed is None:
            self._surveyed = self._read_survey()
        return self._surveyed

    def _read_survey(self) -> _Survey:
        columns, source = self.columns, self._source
        own = [columns.query, *filter(None, [columns.document]), *columns.slices]
        # A model may ask for these, too; then the same survey serves.
        features = () if columns.features == () or columns.scores else (*own, *self.feature_names)
        needed = [*own, columns.label, *columns.scores, *features] if source.parsed else features
        types = ColumnTypes(self.name, dict.fromkeys(needed), source.types, parsed=source.parsed)
        wanted = list(dict.fromkeys([columns.query, *types.unknown(nulls_matter=features)]))
        problems = Problems(self.name)
        found: list[NDArray[np.uint64]] = []
        rows, last = 0, None
        for frame in source.frames(wanted, _at_once(len(wanted))):
            types.add(frame, rows + 1)
            queries = Rows(frame, columns.query, "", rows + 1, source.parsed).queries(problems)
            begins = starts(queries)
            if rows and len(begins) and queries[0] == last:
                begins = begins[1:]
            found.append(hashes(queries.gather(begins)))
            rows += frame.height
            last = queries[-1] if frame.height else last
        self.file.unchanged()
        problems.raise_first()
        if not rows:
            raise BadInput(f"{self.name} has no rows.", "There is nothing to compare on.", "Check how it is made.")
        if source.parsed:
            _check_types(self.name, columns, types)
        return _Survey(rows, _all_differ(found), types)

    # -- the second pass: rows as they are, then whole queries

    def _rows(self, types: ColumnTypes, at_once: int, problems: Problems) -> Iterator[pl.DataFrame]:
        """The rows in the order of the file, checked one by one, in columns of our own names."""
        columns, source = self.columns, self._source
        own = [columns.query, columns.label, *filter(None, [columns.document])]
        wanted = list(dict.fromkeys([*own, *columns.slices, *columns.scores, *self.feature_names]))
        # Of CSV, slices are the text that is written, as ids are.
        slices = {c: types.typed(c, nullable=True) if source.parsed else pl.col(c) for c in columns.slices}
        features = {c: types.typed(c) for c in self.feature_names}
        first_row = 1
        for frame in source.frames(wanted, at_once):
            rows = Rows(frame, columns.query, columns.document, first_row, source.parsed)
            made = [
                rows.queries(problems).alias(QUERY),
                rows.numbers(columns.label, problems, label=True).alias(_LABEL),
            ]
            if columns.document:
                made.append(rows.documents(problems).alias(DOCUMENT))
            made += [rows.numbers(c, problems, label=False).alias(f"score:{c}") for c in columns.scores]
            cells = [cells.alias(f"slice:{c}") for c, cells in slices.items()]
            cells += [cells.alias(f"feature:{c}") for c, cells in features.items()]
            yield pl.DataFrame(made).hstack(self._typed(frame, cells))
            first_row += frame.height

    def _typed(self, frame: pl.DataFrame, cells: Sequence[pl.Expr]) -> pl.DataFrame:
        try:
            return frame.select(cells)
        except pl.exceptions.InvalidOperationError as error:
            raise BadInput(
                f"{self.name}: a column holds whole numbers of more than 64 bits.",
                f"{one_line(str(error).partition(chr(10))[0], 300)}.",
                "Write such ids as text, and such quantities as floats.",
            ) from error

    def _slices(self, grouped: Grouped, checks: QueryChecks) -> dict[str, list[str]]:
        found = {}
        for column in self.columns.slices:
            cells = grouped.rows[f"slice:{column}"]
            checks.constant(grouped, column, cells)
            found[column] = _slice_names(cells.gather(grouped.offsets[:-1]), parsed=self._source.parsed)
            checks.few(column, found[column])
        return found

    def _chunk(self, grouped: Grouped, slices: dict[str, list[str]]) -> Chunk:
        rows = grouped.rows
        return Chunk(
            query_ids=rows[QUERY].gather(grouped.offsets[:-1]).cast(pl.String).to_list(),
            offsets=grouped.offsets,
            labels=rows[_LABEL].to_numpy(),
            slices=slices,
            scores={c: rows[f"score:{c}"].to_numpy() for c in self.columns.scores},
            features={c: _values(rows[f"feature:{c}"]) for c in self.feature_names},
            rows=rows.height,
            documents=rows[DOCUMENT].cast(pl.String) if self.columns.document else None,
        )


def _at_once(columns: int, max_rows: int = 1_000_000) -> int:
    return max(1, min(max_rows, _CELLS // columns))


def _source(file: TableFile, columns: Columns) -> _Source:
    if file.format == PARQUET:
        return ParquetTable(file)
    if file.format in (CSV, TSV):
        return CsvTable(file)
    if file.format == JSON_LINES:
        return JsonLinesTable(file)
    if columns.scores:
        raise BadInput(
            f"{file.name} is a LETOR file, which has no columns of scores.",
            "What is left out in it is 0, and a score that is not there must not be.",
            "Write labels and scores as Parquet, CSV or JSON Lines.",
        )
    return LetorTable(file, columns.query, columns.label, columns.document)


def _check_columns(file: TableFile, source: _Source, columns: Columns) -> tuple[str, ...]:
    """See that the columns are there and mean one thing each; returns the features.

    Raises:
        BadInput: they are not.
    """
    roles = {"label": columns.label, "query": columns.query}
    roles |= {"document": columns.document} if columns.document else {}
    roles |= {f"score ({number})": column for number, column in enumerate(columns.scores, 1)}
    by_column: dict[str, str] = {}
    for role, column in roles.items():
        if column in by_column:
            raise BadInput(
                f"{file.name}: column '{one_line(column, 80)}' is both {by_column[column]} and {role}.",
                "Each of them is another column.",
                "Check the inputs that name columns.",
            )
        by_column[column] = role
    if columns.label in (*columns.slices, *(columns.features or ())):
        raise BadInput(
            f"{file.name}: the label column '{one_line(columns.label, 80)}' is also a slice or a feature.",
            "A model that sees the labels ranks perfectly, and a gate would learn nothing.",
            "Name another column.",
        )
    names = dict.fromkeys([*by_column, *columns.slices, *(columns.features or ())])
    there = set(source.columns)
    missing = [name for name in names if name not in there and not (file.format == LETOR and name.isdecimal())]
    if missing:
        raise _missing(file, source, missing)
    if columns.scores or columns.features is not None:
        return () if columns.scores else tuple(dict.fromkeys(columns.features or ()))
    rest = tuple(name for name in source.columns if name not in by_column and name not in columns.slices)
    if "" in rest:
        raise BadInput(
            f"{file.name}: column {source.columns.index('') + 1} has no name.",
            "It would be given to the models as a feature. pandas writes its index so.",
            "Write the table without the index (index=False), or name the column.",
        )
    return rest


def _missing(file: TableFile, source: _Source, missing: list[str]) -> BadInput:
    near = difflib.get_close_matches(missing[0], source.columns, 1)
    do = f"Did you mean '{one_line(near[0], 80)}'?" if near else "Check the inputs that name columns."
    if file.format in (CSV, TSV) and len(source.columns) == 1:
        other = "tabs (then name it .tsv)" if "\t" in source.columns[0] else "commas"
        do = f"Fields are taken to be separated by {'tabs' if file.format == TSV else 'commas'}; write it with {other}."
    return BadInput(f"{file.name} has no column {_listed(missing)}.", f"Its columns are {_listed(source.columns)}.", do)


def _listed(names: Sequence[str], most: int = 20) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(f"'{one_line(name, 80)}'" for name in names[:most]) + more


def _check_types(name: str, columns: Columns, types: ColumnTypes) -> None:
    """See that labels and scores are numbers, and that no column changes its type.

    Raises:
        BadInput: one does.
    """
    for column in (columns.query, columns.document, *columns.slices):
        if column:
            types.of(column)
    for column in (columns.label, *columns.scores):
        if types.of(column) == pl.String:
            raise BadInput(
                f"{name}: column '{one_line(column, 80)}' holds text.",
                "Labels and scores are numbers.",
                "Write it as numbers, or name another column.",
            )


def _all_differ(found: list[NDArray[np.uint64]]) -> bool:
    """Whether no query came back after another; two ids with one hash look so, too, and do no harm."""
    every = np.concatenate(found)
    found.clear()
    every.sort()
    return not bool((every[1:] == every[:-1]).any())


def _slice_names(cells: pl.Series, *, parsed: bool) -> list[str]:
    names = cells.cast(pl.String).fill_null("").to_list()
    if cells.dtype.is_float():  # a slice 7.0 is the slice 7
        names = ["" if name == "NaN" else name.removesuffix(".0") for name in names]
    if not parsed:
        names = [name.lower() if name in ("True", "False", "TRUE", "FALSE") else name for name in names]
    return [name or NO_SLICE for name in names]


def _values(cells: pl.Series) -> NDArray[np.generic] | list[str | None]:
    return cells.to_list() if cells.dtype == pl.String else cells.to_numpy()
