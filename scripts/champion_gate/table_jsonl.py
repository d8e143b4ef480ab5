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

_CLASSES = {str: "text", bool: "true or false", int: "a number", float: "a number", list: "a list", dict: "an object"}


class JsonLinesTable:
    """A JSON Lines file; a key that a line lacks is null there. Reading the names of all columns reads the file."""

    types: Mapping[str, pl.DataType] = {}
    parsed = True

    def __init__(self, file: TableFile) -> None:
        self.file = file
        names: dict[str, None] = {}
        for line, text in blocks(file):
            names.update(dict.fromkeys(self._frame(line, text).columns))
        self.columns = list(names)

    def frames(self, wanted: Sequence[str], rows: int) -> Iterator[pl.DataFrame]:  # noqa: ARG002  (blocks bound it)
        """The columns that are wanted, with the types that each block has, in the order of the file.

        Raises:
            BadInput: a line is no JSON object, or a column of a block mixes types.
            OutsideWorldFailed: the storage failed.
        """
        for line, text in blocks(self.file):
            frame = self._frame(line, text)
            if not frame.height:
                continue
            for name in wanted:
                if name in frame.columns and not self._sound(frame[name], name, text):
                    self._examine(line, text)
            yield frame.select(pl.col(name) if name in frame.columns else pl.lit(None).alias(name) for name in wanted)

    def _frame(self, line: int, text: bytes) -> pl.DataFrame:
        if not text.strip():
            return pl.DataFrame()
        try:
            return pl.read_ndjson(text, infer_schema_length=None)
        except (pl.exceptions.PolarsError, pl.exceptions.PanicException):
            self._examine(line, text)
            with reading(self.file.name, self.file.format):
                raise

    def _sound(self, column: pl.Series, name: str, text: bytes) -> bool:
        """Whether a column has one type, and no line has the key twice; if in doubt, not.

        The parser makes text of whatever stands between text, and takes the first of two equal keys.
        """
        key = re.escape(json.dumps(name, ensure_ascii=False).encode())
        if len(re.findall(key, text)) > len(column):
            return False
        if column.dtype != pl.String:
            return True
        return len(re.findall(key + rb'\s*:\s*"', text)) == len(column) - column.null_count()

    def _examine(self, line: int, text: bytes) -> None:
        """Read line by line, as slowly and exactly as Python does.

        Raises:
            BadInput: what is wrong, and in which line.
        """
        seen: dict[str, tuple[str, int]] = {}
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
                    continue
                kind = _CLASSES[type(value)]
                before, where = seen.setdefault(name, (kind, number))
                if before != kind:
                    raise BadInput(
                        f"{self.file.name}: column '{one_line(name, 80)}' mixes types.",
                        f"It is {before} in line {where}, and {kind} in line {number}: '{one_line(str(value), 60)}'.",
                        "Write one type per column, and missing values as null.",
                    )


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"It has the key '{one_line(twice, 80)}' twice")
    return row


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON value")
