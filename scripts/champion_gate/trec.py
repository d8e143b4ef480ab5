"""Relevance judgements (qrels) and rankings as TREC keeps them, in the formats of trec_eval.

A line of qrels is `query iteration document relevance`, one of a ranking `query Q0 document rank score tag`, separated
by white space (https://github.com/usnistgov/trec_eval). As in trec_eval, the score counts and the rank does not, a
document that is not judged is not relevant, and the qrels say which queries there are. Unlike there, a query that a
ranking lacks is a query without any document found, not one that is left out; and a negative relevance is an error,
since graded gains know none.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from champion_gate.errors import BadInput
from champion_gate.table_files import TableFile, blocks, gzipped, reading, regular_file
from champion_gate.tables import Chunk
from champion_gate.text import one_line

_QRELS, _RANKING = "qrels", "TREC ranking"
_FIELDS = {
    _QRELS: ("query", "iteration", "document", "label"),
    _RANKING: ("query", "Q0", "document", "rank", "score", "tag"),
}
_WRITTEN = {
    _QRELS: "query iteration document relevance",
    _RANKING: "query Q0 document rank score tag",
}


@dataclass(frozen=True)
class Ranking:
    """One side's ranking of the queries of the qrels, in their order: all documents that are judged or retrieved.

    Attributes:
        labels: shape (rows,); 0 for documents that are not judged.
        scores: shape (rows,); minus infinity for documents that were not retrieved.
        offsets: shape (queries + 1,); the rows of query i are `offsets[i]:offsets[i + 1]`.
        missing: queries of the qrels that the ranking lacks.
        ignored: queries of the ranking that are not in the qrels.
    """

    labels: NDArray[np.float64]
    scores: NDArray[np.float64]
    offsets: NDArray[np.int64]
    missing: int
    ignored: int


def read_qrels(path: Path, *, name: str = "") -> Chunk:
    """The judged documents, as one chunk of whole queries; queries in the order in which they come first.

    Its digest is that of a table with the same documents and labels, and no features.

    Raises:
        BadInput: the file is not there or empty, or a line has other fields, a relevance that is no number from 0 on,
            or a document that was judged before; names the line.
        OutsideWorldFailed: the file may not be read, or the storage failed.
    """
    name = name or one_line(str(path), 300)
    rows = _read(path, name, _QRELS)
    label = pl.col("label").cast(pl.Float64, strict=False)
    rows = rows.with_columns(label.alias("value"))
    _refuse(name, rows.filter(~_finite()), "label", "is no number", "A relevance is a number, 0 or more.")
    _refuse(
        name,
        rows.filter(pl.col("value") < 0),
        "label",
        "is negative",
        "trec_eval takes it for not relevant; here that is 0, and it would be a guess that this is meant.",
    )
    _no_document_twice(name, rows)
    queries = rows.select(pl.col("query").unique(maintain_order=True)).with_row_index("index")
    rows = rows.join(queries, on="query", how="left", maintain_order="left").sort("index", maintain_order=True)
    return Chunk(
        query_ids=queries["query"].to_list(),
        offsets=_offsets(rows["index"], queries.height),
        labels=rows["value"].to_numpy(),
        slices={},
        scores={},
        features={},
        rows=rows.height,
        documents=rows["document"],
    )


def read_ranking(path: Path, qrels: Chunk, *, name: str = "") -> Ranking:
    """A ranking of the queries of the qrels.

    Raises:
        BadInput: the file is not there or empty; a line has other fields, a score that is not finite, or a document
            that came before; or the ranking has nothing to do with these qrels.
        OutsideWorldFailed: the file may not be read, or the storage failed.
    """
    name = name or one_line(str(path), 300)
    rows = _read(path, name, _RANKING)
    rows = rows.with_columns(pl.col("score").cast(pl.Float64, strict=False).alias("value"))
    _refuse(name, rows.filter(~_finite()), "score", "is no finite number", "What has no score has no rank.")
    _no_document_twice(name, rows)
    queries = pl.DataFrame({"query": qrels.query_ids}, schema={"query": pl.String}).with_row_index("index")
    ranked = rows.join(queries, on="query", how="inner").select("index", "document", pl.col("value").alias("score"))
    index = np.repeat(np.arange(queries.height, dtype=np.uint32), np.diff(qrels.offsets))
    judged = pl.DataFrame({"index": index, "document": qrels.documents, "label": qrels.labels})
    both = judged.join(ranked, on=["index", "document"], how="full", coalesce=True).sort("index", "document")
    if not (both["label"].is_not_null() & both["score"].is_not_null()).any():
        raise BadInput(
            f"{name} ranks no document that the qrels judge.",
            f"Its first line speaks of query '{one_line(rows['query'][0], 80)}' and document "
            f"'{one_line(rows['document'][0], 80)}', the qrels' of query '{one_line(qrels.query_ids[0], 80)}': "
            "every query would score 0.",
            "Check that rankings and qrels use the same ids.",
        )
    return Ranking(
        labels=both["label"].fill_null(0.0).to_numpy(),
        scores=both["score"].fill_null(-np.inf).to_numpy(),
        offsets=_offsets(both["index"], queries.height),
        missing=queries.height - ranked["index"].n_unique(),
        ignored=rows.join(queries, on="query", how="anti")["query"].n_unique(),
    )


def _read(path: Path, name: str, form: str) -> pl.DataFrame:
    """All lines in their fields, as text, and the `number` of each line."""
    status = regular_file(path, name)
    file = TableFile(path, name, form, gzipped(path, name), (status.st_size, status.st_mtime_ns))
    parts = [_fields(file, line, text) for line, text in blocks(file)]
    rows = pl.concat(parts) if parts else pl.DataFrame()
    if not rows.height:
        raise BadInput(f"{name} has no lines.", f"A {form} line is: {_WRITTEN[form]}.", "Check how it is made.")
    file.unchanged()
    return rows


def _fields(file: TableFile, line: int, text: bytes) -> pl.DataFrame:
    names = _FIELDS[file.format]
    # A separator and no quotation mark that occur in no text: each line is one field.
    with reading(file.name, file.format):
        lines = pl.read_csv(
            b"line\n" + text.replace(b"\x01", b" "), separator="\x01", quote_char=None, infer_schema=False
        )
    squeezed = pl.col("line").fill_null("").str.replace_all(r"[ \t\r\f\v]+", " ").str.strip_chars(" ")
    lines = lines.with_row_index("number", line).with_columns(squeezed).filter(pl.col("line") != "")
    wrong = lines.filter(pl.col("line").str.count_matches(" ", literal=True) != len(names) - 1)
    if wrong.height:
        fields = wrong["line"][0].count(" ") + 1
        raise BadInput(
            f"{file.name}: line {wrong['number'][0]} has {fields} fields, where a {file.format} line has {len(names)}: "
            f"'{one_line(wrong['line'][0], 80)}'.",
            f"So it is in at least {wrong.height} line{'s' if wrong.height > 1 else ''}. "
            f"A {file.format} line is: {_WRITTEN[file.format]}.",
            "Check that qrels and rankings are not mixed up, and that no id has a space.",
        )
    split = pl.col("line").str.split_exact(" ", len(names) - 1).struct.rename_fields(list(names))
    kept = ["number", *(name for name in names if name in ("query", "document", "label", "score"))]
    return lines.select("number", split).unnest("line").select(kept)


def _finite() -> pl.Expr:
    return pl.col("value").is_finite().fill_null(value=False)


def _no_document_twice(name: str, rows: pl.DataFrame) -> None:
    again = rows.filter(~pl.struct("query", "document").is_first_distinct())
    _refuse(name, again, "document", "stands there for the second time", "It would count twice.")


def _refuse(name: str, wrong: pl.DataFrame, field: str, what: str, why: str) -> None:
    """Raise an error that names the first of the wrong lines, if there is one."""
    if not wrong.height:
        return
    row = wrong.row(0, named=True)
    query, document = one_line(row["query"], 80), one_line(row["document"], 80)
    value = "" if field == "document" else f" '{one_line(row[field], 60)}'"
    shown = {"label": "relevance", "score": "score", "document": "document"}[field]
    raise BadInput(
        f"{name}: line {row['number']} (query '{query}', document '{document}'): the {shown}{value} {what}.",
        f"So it is in {wrong.height:,} line{'s' if wrong.height > 1 else ''}. {why}",
        "Mend these lines.",
    )


def _offsets(index: pl.Series, queries: int) -> NDArray[np.int64]:
    sizes = np.bincount(index.to_numpy(), minlength=queries)
    return np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)


def notes(rankings: Iterable[tuple[str, Ranking]]) -> list[str]:
    """What a reader should know of the rankings, by the side that each is of: queries they lack or have too many."""
    said = []
    for who, ranking in rankings:
        if ranking.missing:
            said.append(f"The {who}'s ranking lacks {ranking.missing:,} of the queries; each counts as nothing found.")
        if ranking.ignored:
            said.append(f"The {who}'s ranking has {ranking.ignored:,} queries that are not judged; they do not count.")
    return said
