"""Rows in pieces as they are read, made into pieces of whole queries; by way of the disk where they are not grouped."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from champion_gate.errors import OutsideWorldFailed
from champion_gate.text import one_line

QUERY = "query"
_HASH, _PART = "hash", "part"
_MOST_PARTS = 256


@dataclass(frozen=True)
class Grouped:
    """Rows of whole queries: those of query i are `offsets[i]:offsets[i + 1]` of `rows`."""

    rows: pl.DataFrame
    offsets: NDArray[np.int64]


def starts(queries: pl.Series) -> NDArray[np.int64]:
    """The rows at which another query starts, the first row included."""
    return np.flatnonzero(queries.ne_missing(queries.shift(1)).to_numpy())


def hashes(queries: pl.Series) -> NDArray[np.uint64]:
    """A number for each id. Different ids may share one, if rarely: enough to suspect, not to be sure."""
    return queries.hash().to_numpy()


def read_ahead(frames: Iterator[pl.DataFrame]) -> Iterator[pl.DataFrame]:
    """The same pieces, the next of which is read while one is worked on: the reader's threads need no interpreter."""
    with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as pool:
        soon = pool.submit(next, frames, None)
        while (frame := soon.result()) is not None:
            soon = pool.submit(next, frames, None)
            yield frame


def whole_queries(frames: Iterable[pl.DataFrame], max_rows: int) -> Iterator[Grouped]:
    """The same rows in pieces of whole queries, of `max_rows` rows at most unless one query has more.

    Args:
        frames: rows with a column `query`, those of a query next to each other.
        max_rows: how many rows to hand on at once.
    """
    parts: list[pl.DataFrame] = []
    for frame in frames:
        parts.append(frame)
        if sum(part.height for part in parts) < max_rows:
            continue
        rows = pl.concat(parts)
        begins = starts(rows[QUERY])
        # The last query may go on in the next piece.
        cuts = _cuts(begins, max_rows)
        for first, last in pairwise(cuts):
            yield _grouped(rows, begins, first, last)
        parts = [rows[cuts[-1] :]]
    if parts and (rows := pl.concat(parts)).height:
        begins = np.append(starts(rows[QUERY]), rows.height)
        cuts = _cuts(begins, max_rows)
        for first, last in pairwise(cuts):
            yield _grouped(rows, begins[:-1], first, last)


def _cuts(begins: NDArray[np.int64], max_rows: int) -> list[int]:
    """Some of `begins`, from its first to its last, at most `max_rows` apart where one query has no more."""
    cuts = [0]
    while cuts[-1] < begins[-1]:
        reach = int(np.searchsorted(begins, cuts[-1] + max_rows, "right")) - 1
        at = int(np.searchsorted(begins, cuts[-1], "right")) - 1
        cuts.append(int(begins[max(reach, at + 1)]))
    return cuts


def _grouped(rows: pl.DataFrame, begins: NDArray[np.int64], first: int, last: int) -> Grouped:
    inside = begins[(begins >= first) & (begins < last)] - first
    return Grouped(rows[first:last].rechunk(), np.append(inside, last - first))


def regrouped(
    frames: Iterable[pl.DataFrame], rows: int, most_rows: int, scratch: Path | None
) -> Iterator[pl.DataFrame]:
    """The same rows with those of a query next to each other, as they were; queries come in the order of their hashes.

    Args:
        frames: rows with a column `query`, in any order.
        rows: how many there are.
        most_rows: how many of them memory may hold.
        scratch: where temporary files may be; the system's folder for such if None.

    Raises:
        OutsideWorldFailed: there is no room for the temporary files.
    """
    # Parts are ranges of hashes, so that the order of queries does not depend on how many parts there are.
    count = min(_MOST_PARTS, -(-rows // most_rows))
    if count <= 1:
        yield _sorted(pl.concat(_hashed(frame) for frame in frames))
        return
    with tempfile.TemporaryDirectory(prefix="champion-gate-", dir=scratch, ignore_cleanup_errors=True) as name:
        folder = Path(name)
        part = (pl.col(_HASH) // 2**40 * count) // 2**24
        for number, frame in enumerate(frames):
            pieces = _hashed(frame).with_columns(part.alias(_PART))
            for (key,), some in pieces.partition_by(_PART, as_dict=True, include_key=False).items():
                _write(some, folder / f"{key}-{number}.parquet")
        for key in range(count):
            paths = sorted(folder.glob(f"{key}-*.parquet"), key=lambda path: int(path.stem.partition("-")[2]))
            if paths:
                yield _sorted(pl.concat(pl.read_parquet(path, glob=False) for path in paths))
                for path in paths:
                    path.unlink()


def _hashed(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.with_columns(pl.col(QUERY).hash().alias(_HASH))


def _sorted(frame: pl.DataFrame) -> pl.DataFrame:
    return frame.sort(_HASH, QUERY, maintain_order=True).drop(_HASH)


def _write(frame: pl.DataFrame, path: Path) -> None:
    try:
        frame.write_parquet(path, compression="lz4", statistics=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise OutsideWorldFailed(
            f"Temporary files could not be written in {one_line(str(path.parent), 200)}: {one_line(str(error), 200)}.",
            "The table is not grouped by query, and is regrouped on the disk.",
            "Make room there, name another folder in TMPDIR, or sort the table by its query column.",
        ) from error
