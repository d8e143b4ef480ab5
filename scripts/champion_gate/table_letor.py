"""Tables in the format of LETOR, SVMLight and MSLR-WEB: `label qid:ID feature:value ... # comment`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from champion_gate.errors import BadInput
from champion_gate.table_files import TableFile, blocks, reading
from champion_gate.text import one_line

MOST_FEATURES = 10_000
# Names that no column has: names have no tabs here, since white space separates fields.
_NUMBER, _BODY, _FEATURES, _WRONG = "\tnumber", "\tbody", "\tfeatures", "\twrong"
_FORM = "Each line is: label qid:ID feature:value ... # comment, where features are whole numbers from 0 on."


class LetorTable:
    """A LETOR file; features are columns named by their numbers, and 0 where a line leaves them out.

    `query`, `label` and `document` are the names that its other columns get; a document is the `docid = X` of the
    comment. Reading the names of the features reads the file.
    """

    parsed = True

    def __init__(self, file: TableFile, query: str, label: str, document: str) -> None:
        self.file = file
        self.query, self.label, self.document = query, label, document
        found: set[int] = set()
        for line, text in blocks(file):
            _, numbers, _ = self._features(self._lines(line, text))
            found.update(np.unique(numbers).tolist())
            if len(found) > MOST_FEATURES:
                raise BadInput(
                    f"{file.name} has more than {MOST_FEATURES:,} features.",
                    "Each becomes a column, and a model is given all of them.",
                    "Convert it to Parquet with the columns that the models need.",
                )
        own = {label: pl.Float64(), query: pl.String()} | ({document: pl.String()} if document else {})
        self.types: Mapping[str, pl.DataType] = {**{str(number): pl.Float64() for number in sorted(found)}, **own}
        self.columns = [query, label, *([document] if document else []), *(str(number) for number in sorted(found))]

    def frames(self, wanted: Sequence[str], rows: int) -> Iterator[pl.DataFrame]:
        """The columns that are wanted, at most `rows` rows at a time, in the order of the file.

        Raises:
            BadInput: a line is not in the format.
            OutsideWorldFailed: the storage failed.
        """
        own = [name for name in (self.query, self.label, self.document) if name in wanted]
        features = [name for name in wanted if name not in own]
        for line, text in blocks(self.file):
            lines = self._lines(line, text)
            for first in range(0, lines.height, rows):
                part = lines.slice(first, rows)
                frame = part.select(own)
                if features:
                    frame = frame.hstack(self._dense(part, features))
                yield frame.select(wanted)

    def _lines(self, line: int, text: bytes) -> pl.DataFrame:
        """The lines in their parts: label, query, document, and beside them its number, and its features as text."""
        # A separator and no quotation mark that occur in no text: each line is one field.
        with reading(self.file.name, self.file.format):
            whole = pl.read_csv(
                b"line\n" + text.replace(b"\x01", b" "), separator="\x01", quote_char=None, infer_schema=False
            )
        squeezed = pl.col("body").str.replace_all(r"[ \t\r\f\v]+", " ").str.strip_chars(" ")
        parts = (
            whole.with_row_index("number", line)
            .with_columns(pl.col("line").fill_null("").str.splitn("#", 2).struct.rename_fields(["body", "comment"]))
            .unnest("line")
            .with_columns(squeezed)
            .filter(pl.col("body") != "")
            .with_columns(
                pl.col("body").str.splitn(" ", 3).struct.rename_fields(["label", "qid", "features"]).alias("_")
            )
            .unnest("_")
        )
        label = pl.col("label").cast(pl.Float64, strict=False)
        document = [pl.col("comment").str.extract(r"docid\s*=\s*(\S+)").alias(self.document)] if self.document else []
        frame = parts.select(
            label.alias(self.label),
            pl.col("qid").str.strip_prefix("qid:").alias(self.query),
            *document,
            pl.col("number").alias(_NUMBER),
            pl.col("body").alias(_BODY),
            pl.col("features").alias(_FEATURES),
            (label.is_null() | ~pl.col("qid").str.contains("^qid:.").fill_null(value=False)).alias(_WRONG),
        )
        if frame[_WRONG].any():
            self._refuse(frame.filter(_WRONG), "does not start with a label and a qid")
        return frame

    def _features(self, lines: pl.DataFrame) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
        """Of each feature that is written: the line that it is in (from 0 on), its number and its value."""
        fields = lines[_FEATURES].str.split(" ")
        at = np.repeat(np.arange(lines.height), fields.list.len().fill_null(0).to_numpy())
        pairs = fields.drop_nulls().explode().str.splitn(":", 2)
        numbers = pairs.struct.field("field_0").cast(pl.UInt32, strict=False)
        values = pairs.struct.field("field_1").cast(pl.Float64, strict=False)
        if numbers.null_count() or values.null_count():
            wrong = at[(numbers.is_null() | values.is_null()).to_numpy()]
            self._refuse(lines[np.unique(wrong).tolist()], "has a feature that is not number:value")
        of = numbers.cast(pl.Int64).to_numpy()
        again = (at[1:] == at[:-1]) & (of[1:] <= of[:-1])
        if again.any():  # not in rising order, as the format has it: then one might stand there twice
            order = np.lexsort((of, at))
            twice = (np.diff(at[order]) == 0) & (np.diff(of[order]) == 0)
            if twice.any():
                self._refuse(lines[np.unique(at[order][1:][twice]).tolist()], "has a feature twice")
        return at, of, values.to_numpy()

    def _dense(self, lines: pl.DataFrame, wanted: Sequence[str]) -> pl.DataFrame:
        at, numbers, values = self._features(lines)
        names = np.array([int(name) for name in wanted])
        order = np.argsort(names)
        place = np.searchsorted(names[order], numbers).clip(max=len(names) - 1)
        column = order[place]
        known = names[column] == numbers
        matrix = np.zeros((lines.height, len(wanted)), order="F")
        matrix[at[known], column[known]] = values[known]
        return pl.DataFrame([pl.Series(name, matrix[:, i]) for i, name in enumerate(wanted)])

    def _refuse(self, wrong: pl.DataFrame, what: str) -> None:
        number, body = wrong[_NUMBER][0], wrong[_BODY][0]
        raise BadInput(
            f"{self.file.name}: line {number} {what}: '{one_line(body, 80)}'.",
            f"So it is in at least {wrong.height} line{'s' if wrong.height > 1 else ''}. {_FORM}",
            "Write the file again, or use another format.",
        )
