"""Tables in CSV or TSV, in blocks of whole rows. Cells are text here: what a column holds shows when all was read."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import polars as pl

from champion_gate.errors import BadInput
from champion_gate.table_files import TSV, TableFile, blocks
from champion_gate.text import one_line

_QUOTED = re.compile(rb'"[^"]*"')
_BLANK_LINES = re.compile(rb'("[^"]*")|(\n)(?:\r?\n)+')


class CsvTable:
    """A CSV file with a header; fields may be between quotation marks (RFC 4180), an empty field is null."""

    types: Mapping[str, pl.DataType] = {}
    parsed = False

    def __init__(self, file: TableFile) -> None:
        self.file = file
        self.separator = "\t" if file.format == TSV else ","
        between = re.escape(self.separator).encode()
        self._quote_inside = re.compile(rb'[^"\n%b]"|"[^"\r\n%b]' % (between, between))
        self.columns = self._header()

    def frames(self, wanted: Sequence[str], rows: int) -> Iterator[pl.DataFrame]:  # noqa: ARG002  (blocks bound it)
        """The columns that are wanted, as text, block by block, in the order of the file.

        Raises:
            BadInput: a row has too many or too few fields, or quotation marks that do not fit.
            OutsideWorldFailed: the storage failed.
        """
        # Columns go by number: whatever names there are, the parser sees none of them.
        numbers = [str(self.columns.index(name)) for name in wanted]
        header = self.separator.join(str(number) for number in range(len(self.columns))).encode() + b"\n"
        for line, text in self._bodies():
            body = text
            if (height := self._height(body)) is None:
                body = _without_blank_lines(text)
                height = self._height(body)
            if not body:
                continue
            try:
                frame = pl.read_csv(header + body, columns=numbers, infer_schema=False, separator=self.separator)
            except pl.exceptions.PolarsError as error:
                raise self._misfit(line, text) from error
            if frame.height != height:
                raise self._misfit(line, text)
            yield frame.select(pl.col(number).alias(name) for number, name in zip(numbers, wanted, strict=True))

    def _header(self) -> list[str]:
        _, text = next(blocks(self.file, quoted=True), (1, b""))
        names = next((row for _, row in self._records(1, text) if row), [])
        for name, times in Counter(names).items():
            if times > 1:
                raise BadInput(
                    f"{self.file.name} has {times} columns named '{one_line(name, 80)}'.",
                    "It would be a guess which of them counts.",
                    "Name each column differently.",
                )
        if not names:
            raise BadInput(f"{self.file.name} is empty.", "It has blank lines only.", "Write the file again.")
        return names

    def _bodies(self) -> Iterator[tuple[int, bytes]]:
        """The blocks without the header, each with the number of its first line."""
        seen = False
        for line, text in blocks(self.file, quoted=True):
            if seen:
                yield line, text
                continue
            after = next((number for number, row in self._records(line, text) if row), None)
            if after is None:
                continue
            seen = True
            end = 0
            for _ in range(1 + after - line):
                end = text.index(b"\n", end) + 1
            yield after + 1, text[end:]

    def _records(self, line: int, text: bytes) -> Iterator[tuple[int, list[str]]]:
        """The records by Python's own reader, which is slow and exact, each with the number of its last line."""
        reader = csv.reader(io.StringIO(text.decode("utf-8"), newline=""), delimiter=self.separator)
        try:
            for row in reader:
                yield line + reader.line_num - 1, row
        except csv.Error as error:
            raise BadInput(
                f"{self.file.name} cannot be read as CSV: line {line + reader.line_num - 1}.",
                f"{one_line(str(error), 200).capitalize()}.",
                'Write a quotation mark inside a field twice (""), and the field between quotation marks.',
            ) from error

    def _height(self, text: bytes) -> int | None:
        """How many rows there are; None if one has not as many fields as the header, or quotation marks inside fields.

        The parser would fill up short rows without a word, and drop what is too much.
        """
        if b'"' in text:
            text = _QUOTED.sub(b'"', text)
            if self._quote_inside.search(text):
                return None
        characters = np.frombuffer(text, dtype=np.uint8)
        ends = np.flatnonzero(characters == ord("\n"))
        between = np.flatnonzero(characters == ord(self.separator))
        inner = len(self.columns) - 1
        if len(between) != inner * len(ends):
            return None
        by_row = between.reshape(len(ends), inner)
        fit = not inner or ((by_row[:, -1] < ends).all() and (by_row[1:, 0] > ends[:-1]).all())
        return len(ends) if fit else None

    def _misfit(self, line: int, text: bytes) -> BadInput:
        """Which row does not fit, and how many in this block."""
        first, wrong = "", 0
        for at, row in self._records(line, text):
            if row and len(row) != len(self.columns):
                wrong += 1
                first = first or f"line {at} has {len(row)} fields, and the header {len(self.columns)}"
        if not wrong:
            return BadInput(
                f"{self.file.name} cannot be read as CSV.",
                f"Quotation marks do not fit somewhere from line {line} on.",
                'Write a quotation mark inside a field twice (""), and the field between quotation marks.',
            )
        return BadInput(
            f"{self.file.name}: {first}.",
            f"So it is in at least {wrong} row{'s' if wrong > 1 else ''}; values would count for the wrong column.",
            "Put fields that hold the separator between quotation marks, and see that the file was copied whole.",
        )


def _without_blank_lines(text: bytes) -> bytes:
    return _BLANK_LINES.sub(lambda match: match[1] or match[2], b"\n" + text)[1:]
