"""Tables in Parquet, in slices of rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import polars as pl

from champion_gate.table_files import TableFile, reading


class ParquetTable:
    """A Parquet file; columns have the types that it gives them."""

    parsed = True

    def __init__(self, file: TableFile) -> None:
        self.file = file
        with reading(file.name, file.format):
            self._scan = pl.scan_parquet(file.path, glob=False, hive_partitioning=False)
            self.types: Mapping[str, pl.DataType] = self._scan.collect_schema()
            self.rows: int = self._scan.select(pl.len()).collect().item()
        self.columns = list(self.types)

    def frames(self, wanted: Sequence[str], rows: int) -> Iterator[pl.DataFrame]:
        """The columns that are wanted, `rows` rows at a time, in the order of the file.

        Raises:
            BadInput: the file is damaged.
            OutsideWorldFailed: the storage failed.
        """
        # Slices skip row groups and pages; they are as fast as reading all at once, and need memory for one alone.
        columns = self._scan.select(list(wanted))
        for first in range(0, self.rows, rows):
            with reading(self.file.name, self.file.format):
                frame = columns.slice(first, rows).collect()
            yield frame
