r"""The digest of judged queries: the same for the same content, whatever file, format, pieces or order of queries.

It tells two tables apart that differ in one query, document, label, feature or slice; scores of models are not in it.

Version 1, in exact bytes; numbers are little-endian, and text is UTF-8:

    digest  = "sha256:" + hex(SHA-256(header, queries))
    header  = "champion-gate dataset 1\n", then JSON in ASCII with sorted keys and no spaces, then "\n":
              {"documents":true,"numbers":["bm25"],"slices":["locale"],"texts":["title"]}
              `numbers` and `texts` are the features by what they hold, and bools are numbers. Lists are sorted.
    queries = the SHA-256 of each query, 32 bytes, sorted
    query   = u64 bytes of its id, u64 rows that it has, its id
              for each row: f64 label, f64 of each of the numbers
              for the documents, if there are any, and for each of the texts:
                  i64 bytes of each row's text (-1: null), then the texts of all rows
              for each of the slices: i64 bytes of the value, the value
              for each whole number that f64 cannot hold, row by row: u64 row, u64 place in `numbers`, i64 itself

Rows are in the order of their documents, byte by byte, and as they are given if there are none. -0 is 0, and a number
that is missing is the NaN 0x7ff8000000000000. A single-precision number stands for the shortest decimal that reads as
it, so that 0.1 is the same in every format.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from champion_gate.table_types import widened

if TYPE_CHECKING:
    from champion_gate.tables import Chunk

_VERSION = 1
_LACKING = np.dtype([("row", "<u8"), ("number", "<u8"), ("value", "<i8")])

Order = NDArray[np.int64] | slice
"""Rows of a chunk in another order; all of them as they are if a slice."""


class DatasetDigest:
    """The digest of chunks of whole queries, in any order; 32 bytes of each query are kept.

    Attributes:
        queries: how many there were so far.
        rows: how many there were so far.
    """

    def __init__(self) -> None:
        self.queries = 0
        self.rows = 0
        self._header: dict[str, Any] = {}
        self._digests: list[bytes] = []

    def update(self, chunk: Chunk) -> None:
        """Take in some queries.

        Raises:
            ValueError: their columns are not those of the queries before.
        """
        texts = sorted(name for name, values in chunk.features.items() if isinstance(values, list))
        numbers = sorted(chunk.features.keys() - set(texts))
        slices = sorted(chunk.slices)
        header = {"documents": chunk.documents is not None, "numbers": numbers, "slices": slices, "texts": texts}
        if self._header not in ({}, header):
            raise ValueError(f"the columns changed from {self._header} to {header}")
        self._header = header
        order = _by_document(chunk)
        columns = [] if chunk.documents is None else [chunk.documents]
        columns += [pl.Series(chunk.features[name], dtype=pl.String) for name in texts]
        parts: list[Iterable[bytes | memoryview]] = [
            _numbers(chunk, numbers, order),
            *(_texts(column[order], chunk.offsets) for column in columns),
            *(map(_text, chunk.slices[name]) for name in slices),
            *_lacking(chunk, numbers, order),
        ]
        names = [id_.encode() for id_ in chunk.query_ids]
        pack = struct.Struct("<QQ").pack
        heads = [pack(len(name), size) for name, size in zip(names, np.diff(chunk.offsets).tolist(), strict=True)]
        queries = zip(heads, names, *parts, strict=True)
        found = [hashlib.sha256(b"".join(each)).digest() for each in queries]
        self._digests.append(b"".join(found))
        self.queries += len(chunk.query_ids)
        self.rows += chunk.rows

    def hexdigest(self) -> str:
        """`sha256:` and 64 hexadecimal digits.

        Raises:
            ValueError: there was no query.
        """
        if not self.queries:
            raise ValueError("there is no digest of no queries")
        header = json.dumps(self._header, sort_keys=True, separators=(",", ":"))
        each = np.frombuffer(b"".join(self._digests), dtype="S32")
        whole = hashlib.sha256(f"champion-gate dataset {_VERSION}\n{header}\n".encode())
        whole.update(np.sort(each).tobytes())
        return f"sha256:{whole.hexdigest()}"


def _by_document(chunk: Chunk) -> Order:
    if chunk.documents is None:
        return slice(None)
    falls = (chunk.documents < chunk.documents.shift(1)).fill_null(value=False).to_numpy().copy()
    falls[chunk.offsets[:-1]] = False
    if not falls.any():
        return slice(None)
    query = np.repeat(np.arange(len(chunk.query_ids)), np.diff(chunk.offsets))
    pairs = pl.DataFrame({"query": query, "document": chunk.documents})
    rows: NDArray[np.int64] = pairs.select(pl.arg_sort_by("query", "document").cast(pl.Int64)).to_series().to_numpy()
    return rows


def _numbers(chunk: Chunk, numbers: Sequence[str], order: Order) -> list[memoryview]:
    """The labels and numbers of each query, row by row."""
    matrix = np.empty((chunk.rows, 1 + len(numbers)), dtype="<f8")
    for place, values in enumerate((chunk.labels, *(chunk.features[name] for name in numbers))):
        column = widened(np.asarray(values))[order]
        matrix[:, place] = column
    matrix += 0.0  # -0 becomes 0
    matrix[np.isnan(matrix)] = np.nan
    return _cut(matrix.reshape(-1).view(np.uint8).data, chunk.offsets * matrix.strides[0])


def _texts(column: pl.Series, offsets: NDArray[np.int64]) -> list[bytes]:
    """The lengths and the texts of each query."""
    lengths = column.str.len_bytes().cast(pl.Int64).fill_null(-1).to_numpy().astype("<i8")
    ends = np.concatenate([[0], np.cumsum(lengths.clip(min=0))])
    texts = memoryview(column.fill_null("").str.join("").item().encode())
    of_lengths = _cut(lengths.view(np.uint8).data, offsets * lengths.itemsize)
    return [bytes(a) + bytes(b) for a, b in zip(of_lengths, _cut(texts, ends[offsets]), strict=True)]


def _text(value: str) -> bytes:
    raw = value.encode()
    return struct.pack("<q", len(raw)) + raw


def _lacking(chunk: Chunk, numbers: Sequence[str], order: Order) -> list[list[memoryview]]:
    """Of each query, the whole numbers that f64 cannot hold; nothing where it holds all, as it nearly always does."""
    found = []
    for place, name in enumerate(numbers):
        values = np.asarray(chunk.features[name])
        if values.dtype.kind != "i" or not len(values) or -(2**53) <= values.min() <= values.max() <= 2**53:
            continue
        values = values[order]
        near = values.astype(np.float64)
        # 2^63 itself is no int64; whatever is rounded to it lacks something.
        rows = np.flatnonzero((near >= 2.0**63) | (np.where(near < 2.0**63, near, 0.0).astype(np.int64) != values))
        lacking = np.empty(len(rows), dtype=_LACKING)
        lacking["row"], lacking["number"], lacking["value"] = rows, place, values[rows]
        found.append(lacking)
    if not found:
        return []
    every = np.concatenate(found)
    every = every[np.lexsort((every["number"], every["row"]))]
    bounds = np.searchsorted(every["row"], chunk.offsets.astype(np.uint64))
    every["row"] -= np.repeat(chunk.offsets[:-1], np.diff(bounds)).astype(np.uint64)
    return [_cut(every.view(np.uint8).data, bounds * _LACKING.itemsize)]


def _cut(raw: memoryview, bounds: NDArray[np.int64]) -> list[memoryview]:
    ends = bounds.tolist()
    return [raw[first:last] for first, last in pairwise(ends)]
