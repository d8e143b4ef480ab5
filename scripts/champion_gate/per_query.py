"""The per-query table: what each side reached on each judged query, and its form as a Parquet file.

Columns: `query_id`, `documents` (how many the query has), `slice/<column>`, and for each side and ranking metric
`challenger/ndcg@10`, `champion/ndcg@10`, `baseline/ndcg@10`; null where no document of the query is relevant.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from champion_gate.text import one_line

if TYPE_CHECKING:
    import polars as pl

FILE = "per_query.parquet"
SIDES = ("challenger", "champion", "baseline")


@dataclass(frozen=True)
class Dataset:
    """The judged queries that were used.

    `kind` is `evaluation data`, `scores` or `qrels`; `source` is where they were read from, for people; `digest` is
    that of the judged content.
    """

    kind: str
    name: str
    source: str
    digest: str
    queries: int
    documents: int
    notes: tuple[str, ...] = ()
    """What a reader should know of it, such as queries that a ranking lacks."""


@dataclass(frozen=True)
class PerQuery:
    """Figures per query, in one order for all sides.

    Attributes:
        query_ids: one per query.
        documents: how many documents each query has, shape (queries,).
        slices: by column, the value of each query.
        values: by side (`challenger`, `champion`, `baseline`) and metric (`ndcg@10`), shape (queries,); NaN where no
            document of the query is relevant. A side that was not measured is not in it.
    """

    query_ids: list[str]
    documents: NDArray[np.int64]
    slices: Mapping[str, list[str]]
    values: Mapping[str, Mapping[str, NDArray[np.float64]]]

    def frame(self) -> pl.DataFrame:
        """As a table."""
        import polars as pl

        columns: dict[str, pl.Series] = {
            "query_id": pl.Series(self.query_ids, dtype=pl.String),
            "documents": pl.Series(self.documents),
        }
        columns |= {f"slice/{name}": pl.Series(values, dtype=pl.String) for name, values in self.slices.items()}
        for side, metrics in self.values.items():
            columns |= {f"{side}/{name}": pl.Series(values).fill_nan(None) for name, values in metrics.items()}
        return pl.DataFrame(columns)

    def write(self, folder: Path) -> Path:
        """Write the Parquet file into `folder`; returns its path."""
        path = folder / FILE
        self.frame().write_parquet(path)
        return path


def read_side(path: Path, side: str, query_ids: list[str], metrics: list[str]) -> dict[str, NDArray[np.float64]]:
    """One side's figures from a per-query table, in the order of `query_ids`.

    Raises:
        ValueError: the file is no such table, or is not of exactly these queries and metrics.
    """
    import polars as pl

    columns = ["query_id", *(f"{side}/{name}" for name in metrics)]
    try:
        found = pl.read_parquet(path, columns=columns)
        wanted = pl.DataFrame({"query_id": query_ids}, schema={"query_id": pl.String})
        joined = wanted.join(found, on="query_id", how="left", validate="1:1", maintain_order="left")
        same = found.height == len(query_ids) and not len(set(query_ids) ^ set(found["query_id"].to_list()))
        values = {name: joined[f"{side}/{name}"].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in metrics}
    except (pl.exceptions.PolarsError, OSError) as error:
        raise ValueError(one_line(str(error), 200)) from error
    if not same:
        raise ValueError("it is of other queries")
    for name, figures in values.items():
        if not (np.isnan(figures) | ((figures >= 0) & (figures <= 1 + 1e-9))).all():
            raise ValueError(f"its figures of {name} do not lie between 0 and 1")
    return {name: np.array(figures, dtype=np.float64) for name, figures in values.items()}
