"""Tables in JSON Lines: an object in each line, in blocks of whole lines."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import polars as pl

from champion_gate.errors import BadInput
from champion_gate.table_files import TableFile, blocks, reading
from champion_gate.text import one_line

_SIMPLE = (pl.String, pl.Boolean, pl.Int64, pl.Float64, pl.Null)
_KINDS: dict[type, tuple[str, pl.DataType]] = {
    str: ("text", pl.String()),
    bool: ("true or false", pl.Boolean()),
    int: ("a number", pl.Int64()),
    float: ("a number", pl.Float64()),
    list: ("a list", pl.List(pl.Null)),
    dict: ("an object", pl.Struct([])),
}


class JsonLinesTable:
    """A JSON Lines file; a key that a line lacks is null there. To know the names of all columns, the file is read."""

    parsed = True

    def __init__(self, file: TableFile) -> None:
        self.file = file
        self._doubtful = False
        found: dict[str, pl.DataType | None] = {}
        for line, text in blocks(file):
            # With the types of what came before, a block is parsed three times as fast.
            known = {name: dtype for name, dtype in found.items() if dtype is not None}
            frame = self._parsed(text, known) if found and len(known) == len(found) else None
            if frame is not None and _plain(frame, text):
                continue
            for name, dtype in self._types(line, text).items():
                found[name] = _either(found[name], dtype) if name in found else dtype
        self.columns = list(found)
        # A column of nothing but nulls holds numbers, if anything; one that mixes types is left to who wants it.
        self.types: Mapping[str, pl.DataType] = {
            name: pl.Float64() if dtype == pl.Null else dtype for name, dtype in found.items() if dtype in _SIMPLE
        }

    def frames(self, wanted: Sequence[str], rows: int) -> Iterator[pl.DataFrame]:  # noqa: ARG002  (blocks bound it)
        """The columns that are wanted, with the types that each block has, in the order of the file.

        Raises:
            BadInput: a line is no JSON object, or a column of a block mixes types.
            OutsideWorldFailed: the storage failed.
        """
        known = {name: self.types[name] for name in wanted if name in self.types}
        for line, text in blocks(self.file):
            frame = self._parsed(text, known) if len(known) == len(wanted) else None
            frame = self._guessed(line, text, wanted) if frame is None else frame
            if not frame.height:
                continue
            there = [name for name in wanted if name in frame.columns]
            if self._doubtful and not all(_column_sound(frame[name], text) for name in there):
                self._examine(line, text, wanted)
            yield frame.select(pl.col(name) if name in there else pl.lit(None).alias(name) for name in wanted)

    def _types(self, line: int, text: bytes) -> Mapping[str, pl.DataType | None]:
        """The types of all columns of a block; None for those that mix some, which nobody may want."""
        try:
            frame = pl.read_ndjson(text, infer_schema_length=None) if text.strip() else pl.DataFrame()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
            self._doubtful = True
            return self._examine(line, text, ())
        self._doubtful |= not _plain(frame, text)
        return frame.schema

    def _parsed(self, text: bytes, types: Mapping[str, pl.DataType]) -> pl.DataFrame | None:
        """A block by types that are known; None if it does not fit them."""
        try:
            return pl.read_ndjson(text, schema=dict(types)) if text.strip() else pl.DataFrame()
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
            return None

    def _guessed(self, line: int, text: bytes, wanted: Sequence[str]) -> pl.DataFrame:
        """A block by the types that it shows."""
        if not text.strip():
            return pl.DataFrame()
        try:
            return pl.read_ndjson(text, infer_schema_length=None)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
            self._examine(line, text, wanted)
            with reading(self.file.name, self.file.format):
                raise

    def _examine(self, line: int, text: bytes, wanted: Sequence[str]) -> dict[str, pl.DataType | None]:
        """The types of all columns of a block, read as slowly and exactly as Python does; None where they are mixed.

        Raises:
            BadInput: a line is no JSON object, or a column that is wanted mixes types.
        """
        seen: dict[str, tuple[str, int]] = {}
        types: dict[str, pl.DataType | None] = {}
        for number, raw in enumerate(text.split(b"\n"), line):
            if not raw.strip():
                continue
            try:
                row = json.loads(raw, object_pairs_hook=_unique, parse_constant=_no_constant)
            except (ValueError, RecursionError) as error:
                raise BadInput(
                    f"{self.file.name}: line {number} is no JSON object.",
                    f"{one_line(str(error), 200)}. It starts with '{one_line(raw[:60].decode('utf-8', 'replace'))}'.",
                    "Write each row as one JSON object on a line of its own, missing values as null.",
                ) from error
            if not isinstance(row, dict):
                raise BadInput(
                    f"{self.file.name}: line {number} is no JSON object.",
                    f"It is '{one_line(raw[:60].decode('utf-8', 'replace'))}'.",
                    "Write each row as one JSON object on a line of its own.",
                )
            for name, value in row.items():
                if value is None:
                    types.setdefault(name, pl.Null())
                    continue
                kind, dtype = _KINDS[type(value)]
                types[name] = _either(types[name], dtype) if name in types else dtype
                before, where = seen.setdefault(name, (kind, number))
                if before == kind or name not in wanted:
                    continue
                raise BadInput(
                    f"{self.file.name}: column '{one_line(name, 80)}' mixes types.",
                    f"It is {before} in line {where}, and {kind} in line {number}: '{one_line(str(value), 60)}'.",
                    "Write one type per column, and missing values as null.",
                )
        return types


def _plain(frame: pl.DataFrame, text: bytes) -> bool:
    """Whether each line has each key once, and each column one type: then the parser hides nothing.

    It makes text of whatever stands between text, and takes the first of two equal keys. Inside of text a quotation
    mark has a backslash before it: what is counted here is outside, or too much, and then the answer is no.
    """
    strings = sum(len(column) - column.null_count() for column in frame.select(pl.col(pl.String)))
    return (
        text.count(b'":') == frame.height * frame.width
        and text.count(b":null") + text.count(b": null") == sum(column.null_count() for column in frame)
        and text.count(b'":"') + text.count(b'": "') == strings
    )


def _column_sound(column: pl.Series, text: bytes) -> bool:
    """As `_plain`, of one column: slower, and whatever the others are."""
    key = json.dumps(column.name, ensure_ascii=False).encode()
    if text.count(key) > len(column):
        return False
    strings = len(column) - column.null_count()
    return column.dtype != pl.String or len(re.findall(re.escape(key) + rb'\s*:\s*"', text)) == strings


def _either(one: pl.DataType | None, other: pl.DataType | None) -> pl.DataType | None:
    """The type of a column that has two; None if it mixes them."""
    if one is None or other is None:
        return None
    if one == other or other == pl.Null:
        return one
    if one == pl.Null:
        return other
    return pl.Float64() if {one, other} == {pl.Int64(), pl.Float64()} else None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"It has the key '{one_line(twice, 80)}' twice")
    return row


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")
