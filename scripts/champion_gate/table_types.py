"""What type a column has, over all of a table: seen piece by piece, and the same whatever the pieces are."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from champion_gate.errors import BadInput
from champion_gate.text import one_line

TEXT, WHOLE, NUMBER, SINGLE, BOOL, NONE = (
    "text",
    "whole numbers",
    "numbers",
    "single-precision numbers",
    "true or false",
    "nothing",
)
_WHOLE = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32)
_EXACT, _EXACT_SINGLE = 2.0**53, 2.0**24
_LARGE = (pl.UInt64, pl.Int128, pl.UInt128)


@dataclass
class _Seen:
    """What was seen in a column so far: of each family of types the first row and value, and nulls.

    Of text cells it is counted how many are what: a column of text may hold numbers, too, as queries do.
    """

    families: dict[str, tuple[int, str]] = field(default_factory=dict)
    nulls: int = 0
    cells: int = 0
    whole: int = 0
    numbers: int = 0
    bools: int = 0
    no_number: tuple[int, str] = (0, "")


class ColumnTypes:
    """The types of some columns of a table.

    Args:
        name: the table's, for messages.
        columns: whose types are to be found out.
        known: the types that the file itself gives; of such columns only nulls are left to be seen.
        parsed: whether cells have types; else they are text to be parsed, as in CSV.
    """

    def __init__(self, name: str, columns: Iterable[str], known: Mapping[str, pl.DataType], *, parsed: bool) -> None:
        self.name = name
        self.parsed = parsed
        self._seen = {column: _Seen() for column in columns}
        for column, dtype in known.items():
            if column in self._seen and (family := family_of(dtype)) != NONE:
                self._seen[column].families[family] = (1, "")

    def __contains__(self, column: str) -> bool:
        return column in self._seen

    def unknown(self, nulls_matter: Iterable[str]) -> list[str]:
        """The columns that must be read for their types, given that nulls change those of `nulls_matter`."""
        changed = {c for c in nulls_matter if self._seen[c].families.keys() & {WHOLE, BOOL}}
        return [column for column, seen in self._seen.items() if not seen.families or column in changed]

    def add(self, frame: pl.DataFrame, first_row: int) -> None:
        """Take in a piece of the table, whose rows are numbered from `first_row` on."""
        if not self.parsed:
            self._add_text(frame, first_row)
            return
        for column in frame.columns:
            if column not in self._seen:
                continue
            seen, cells = self._seen[column], frame[column]
            seen.nulls += cells.null_count()
            family = family_of(cells.dtype)
            if family not in seen.families and cells.null_count() < len(cells):
                row = cells.is_not_null().arg_max() or 0
                seen.families[family] = (first_row + row, str(cells[row]))

    def _add_text(self, frame: pl.DataFrame, first_row: int) -> None:
        names = [column for column in frame.columns if column in self._seen]
        if not names:
            return
        cells = _counts(frame, {column: pl.col(column) for column in names})
        numbers = _counts(frame, {column: to_number(column) for column in names})
        # What is settled for a column is not asked of it again.
        all_numbers = [c for c in names if numbers[c] == cells[c] and self._seen[c].whole == self._seen[c].cells]
        whole = _counts(frame, {c: _stripped(c).cast(pl.Int64, strict=False) for c in all_numbers})
        bools = _counts(frame, {c: _to_bool(c) for c in names if numbers[c] < cells[c]})
        for column in names:
            seen = self._seen[column]
            if seen.cells == seen.numbers and numbers[column] < cells[column]:
                odd = frame.select(pl.col(column).is_not_null() & to_number(column).is_null()).to_series()
                row = odd.arg_max() or 0
                seen.no_number = (first_row + row, str(frame[column][row]))
            seen.nulls += frame.height - cells[column]
            seen.cells += cells[column]
            seen.whole += whole.get(column, 0)
            seen.numbers += numbers[column]
            seen.bools += bools.get(column, 0)

    def of(self, column: str, *, nullable: bool = False) -> pl.DataType:
        """Int64, Float64, Float32, Boolean or String.

        Whole numbers and bools with nulls among them are Float64, where null is NaN, unless they may be `nullable`.

        Raises:
            BadInput: the column mixes types, or has one that no model can be given.
        """
        seen = self._seen[column]
        family = self._family(column, seen) if self.parsed else self._family_of_text(column, seen)
        if family in (WHOLE, BOOL) and seen.nulls and not nullable:
            family = NUMBER
        types = {WHOLE: pl.Int64(), BOOL: pl.Boolean(), NUMBER: pl.Float64(), SINGLE: pl.Float32(), TEXT: pl.String()}
        return types[family]

    def typed(self, column: str, *, nullable: bool = False) -> pl.Expr:
        """The cells of a column as the type that `of` tells."""
        dtype = self.of(column, nullable=nullable)
        if self.parsed:
            return pl.col(column).cast(dtype)
        if dtype == pl.String:
            return pl.col(column)
        if dtype == pl.Boolean or self._seen[column].bools:
            return _to_bool(column).cast(dtype)
        return to_number(column) if dtype == pl.Float64 else _stripped(column).cast(dtype)

    def _family(self, column: str, seen: _Seen) -> str:
        families = dict(seen.families)
        # JSON writes 2.0 as 2: whole numbers are numbers.
        if len(families) > 1 and families.keys() <= {WHOLE, NUMBER}:
            return NUMBER
        if len(families) > 1:
            (one, (row, _)), (other, (later, value)), *_ = families.items()
            raise _mixed(self.name, column, f"It holds {one} in row {row}, and {other} in row {later}: '{value}'.")
        family = next(iter(families), NUMBER)
        if family not in (WHOLE, BOOL, NUMBER, SINGLE, TEXT):
            raise BadInput(
                f"{self.name}: column '{one_line(column, 80)}' has the type {one_line(family, 80)}.",
                "Columns may hold numbers, true or false, or text.",
                "Convert the column, or leave it out of the table.",
            )
        return family

    def _family_of_text(self, column: str, seen: _Seen) -> str:
        if seen.numbers == seen.cells:
            return WHOLE if seen.whole == seen.cells and seen.cells else NUMBER
        if seen.bools == seen.cells:
            return BOOL
        if 2 * seen.numbers <= seen.cells:
            return TEXT
        (row, value), odd = seen.no_number, seen.cells - seen.numbers
        raise _mixed(
            self.name,
            column,
            f"Most of its values are numbers, and {odd} of {seen.cells} are not, first in row {row}: "
            f"'{one_line(value, 60)}'.",
        )


def family_of(dtype: pl.DataType) -> str:
    """What kind of values a type has; of a type that is not read, its own name."""
    if dtype in (pl.String, pl.Categorical, pl.Enum):
        return TEXT
    if dtype in _WHOLE or dtype in _LARGE:
        return WHOLE
    if dtype == pl.Float32:
        return SINGLE
    if dtype.is_float() or dtype.is_decimal():
        return NUMBER
    if dtype == pl.Boolean:
        return BOOL
    return NONE if dtype == pl.Null else str(dtype)


def _counts(frame: pl.DataFrame, cells: Mapping[str, pl.Expr]) -> dict[str, int]:
    """How many of these cells are not null, by column."""
    if not cells:
        return {}
    return frame.select(each.count().alias(column) for column, each in cells.items()).row(0, named=True)


def to_number(column: str) -> pl.Expr:
    """Text cells as numbers; null where they are none."""
    return _stripped(column).cast(pl.Float64, strict=False)


def _to_bool(column: str) -> pl.Expr:
    word = _stripped(column).str.to_lowercase()
    return pl.when(word == "true").then(statement=True).when(word == "false").then(statement=False)


def _stripped(column: str) -> pl.Expr:
    return pl.col(column).str.strip_chars(" ")


def ids(cells: pl.Series) -> tuple[pl.Series, pl.Series] | None:
    """Ids of queries or documents as Int64 or String, and which of them are fractions; None if their type is no id's.

    Whole numbers that are stored as floats are whole numbers: 7.0 is 7.
    """
    family = family_of(cells.dtype)
    none = pl.repeat(value=False, n=len(cells), eager=True)
    if family in (TEXT, NONE) or cells.dtype in _LARGE:
        return cells.cast(pl.String), none
    if family == WHOLE:
        return cells.cast(pl.Int64), none
    if family not in (NUMBER, SINGLE):
        return None
    numbers = cells.cast(pl.Float64)
    # Beyond 2^53 neighbours are more than 1 apart: such an id was rounded already. NaN fails both comparisons.
    whole = ((numbers == numbers.floor()) & (numbers.abs() <= _EXACT)).fill_null(value=True) & ~numbers.is_nan()
    return (cells.cast(pl.String), ~whole) if not whole.all() else (numbers.cast(pl.Int64), none)


def widened(values: NDArray[Any]) -> NDArray[np.float64]:
    """Numbers as float64; a float32 becomes what its shortest decimal is, so that 0.1 is 0.1 and not 0.10000000149."""
    wide: NDArray[np.float64] = values.astype(np.float64)
    if values.dtype != np.float32:
        return wide
    # Whole numbers up to 2^24 are their own decimals, and most columns hold nothing else or nothing of the kind.
    with np.errstate(invalid="ignore"):
        exact = bool(((wide == np.rint(wide)) & (np.abs(wide) <= _EXACT_SINGLE) | np.isnan(wide)).all())
    return wide if exact else pl.Series(values).cast(pl.String).cast(pl.Float64).to_numpy()


def _mixed(name: str, column: str, why: str) -> BadInput:
    return BadInput(
        f"{name}: column '{one_line(column, 80)}' mixes types.",
        why,
        "Write one type per column, and leave missing values empty.",
    )
