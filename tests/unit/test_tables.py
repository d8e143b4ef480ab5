"""Tables of judged queries: what is read from each format, in what pieces, and what bad data gets."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import stat
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from champion_gate import table_files
from champion_gate.errors import BadInput, OutsideWorldFailed
from champion_gate.tables import Columns, JudgedTable

SCORES = ("challenger", "champion")


def scored(queries=30, documents=5, seed=0):
    """A table of scores, grouped by query, with a slice."""
    rng = np.random.default_rng(seed)
    rows = queries * documents
    ids = np.repeat(np.arange(queries), documents)
    return pl.DataFrame(
        {
            "query_id": [f"q{i}" for i in ids],
            "doc": [f"d{i}" for i in range(rows)],
            "label": rng.integers(0, 4, rows),
            "locale": [("de", "fr", "it")[i % 3] for i in ids],
            "challenger": rng.random(rows),
            "champion": rng.random(rows),
        }
    )


COLUMNS = Columns(document="doc", slices=("locale",), scores=SCORES)
WRITERS = {
    "t.parquet": pl.DataFrame.write_parquet,
    "t.csv": pl.DataFrame.write_csv,
    "t.tsv": lambda frame, path: frame.write_csv(path, separator="\t"),
    "t.jsonl": pl.DataFrame.write_ndjson,
    "t.csv.gz": lambda frame, path: path.write_bytes(gzip.compress(frame.write_csv().encode())),
    "t.ndjson.gz": lambda frame, path: path.write_bytes(gzip.compress(frame.write_ndjson().encode())),
}


def written(folder, frame, name="t.parquet"):
    path = folder / name
    WRITERS[name](frame, path)
    return path


def opened(path, columns=COLUMNS, **settings):
    return JudgedTable.open(path, columns, name=path.name, **settings)


def rows_of(table, max_rows=1_000_000):
    """All rows as a frame, and the number of queries in each chunk."""
    parts, sizes = [], []
    for chunk in table.chunks(max_rows):
        assert chunk.offsets[0] == 0
        assert chunk.offsets[-1] == chunk.rows == len(chunk.labels)
        assert (np.diff(chunk.offsets) > 0).all()
        lengths = np.diff(chunk.offsets)
        columns = {"query_id": np.repeat(chunk.query_ids, lengths), "label": chunk.labels}
        columns |= {f"slice:{name}": np.repeat(values, lengths) for name, values in chunk.slices.items()}
        columns |= dict(chunk.scores) | {f"feature:{name}": values for name, values in chunk.features.items()}
        columns |= {} if chunk.documents is None else {"doc": chunk.documents}
        parts.append(pl.DataFrame(columns))
        sizes.append(len(chunk.query_ids))
    return pl.concat(parts), sizes


def refused(path, columns=COLUMNS, error=BadInput):
    """What a table gets that is bad, as one text."""
    with pytest.raises(error) as found:
        for _ in opened(path, columns).chunks():
            pass
    text = str(found.value)
    assert path.name in text
    assert found.value.do, "an error says what to do next"
    return text


def spoilt(folder, name="t.parquet", **changes):
    """A scored table with some cells changed: column={row: value}."""
    frame = scored()
    for column, cells in changes.items():
        values = frame[column].to_list()
        for row, value in cells.items():
            values[row] = value
        frame = frame.with_columns(pl.Series(column, values, dtype=frame[column].dtype if None in values else None))
    return written(folder, frame, name)


# -- what is read


@pytest.mark.parametrize("name", WRITERS)
def test_every_format_gives_the_same_rows(tmp_path, name):
    frame = scored()
    rows, sizes = rows_of(opened(written(tmp_path, frame, name)))
    assert rows["query_id"].to_list() == frame["query_id"].to_list()
    assert rows["label"].to_list() == frame["label"].to_list()
    assert rows["doc"].to_list() == frame["doc"].to_list()
    assert rows["slice:locale"].to_list() == frame["locale"].to_list()
    assert rows["champion"].to_list() == frame["champion"].to_list()
    assert sizes == [30]


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.jsonl"])
def test_without_its_suffix_a_format_is_told_by_its_first_bytes(tmp_path, name):
    path = written(tmp_path, scored(), name).rename(tmp_path / "table")
    assert rows_of(opened(path))[0].height == 150


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.jsonl"])
def test_a_table_can_be_read_again(tmp_path, name):
    table = opened(written(tmp_path, scored(), name))
    assert rows_of(table)[0].equals(rows_of(table)[0])


@pytest.mark.parametrize("block", [64, 500, 1 << 20])
@pytest.mark.parametrize("name", WRITERS)
def test_pieces_never_split_a_query(tmp_path, monkeypatch, name, block):
    monkeypatch.setattr(table_files, "BLOCK_BYTES", block)
    frame = scored(20, 7)
    path = written(tmp_path, frame, name)
    whole = rows_of(opened(path))[0]
    for max_rows in (1, 6, 7, 8, 20, 50, 139, 140, 1000):
        rows, sizes = rows_of(opened(path), max_rows)
        assert rows.equals(whole)
        assert max(sizes) <= max(1, max_rows // 7)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=40), max_rows=st.integers(1, 60))
def test_queries_of_any_length_stay_whole(tmp_path, lengths, max_rows):
    ids = np.repeat(np.arange(len(lengths)), lengths)
    frame = pl.DataFrame({"query_id": ids, "label": np.arange(len(ids)), "a": 0.5, "b": 0.25})
    rows, sizes = rows_of(opened(written(tmp_path, frame), Columns(scores=("a", "b"))), max_rows)
    assert rows["label"].to_list() == frame["label"].to_list()
    assert sum(sizes) == len(lengths)


@pytest.mark.parametrize(
    ("dtype", "text"),
    [(pl.Int64, "7"), (pl.UInt8, "7"), (pl.Float64, "7"), (pl.String, "7"), (pl.Categorical, "7"), (pl.UInt64, "7")],
)
def test_ids_are_text_whatever_their_type(tmp_path, dtype, text):
    values = [str(i) for i in (7, 7, 9)] if dtype in (pl.String, pl.Categorical) else [7, 7, 9]
    frame = pl.DataFrame({"query_id": pl.Series(values, dtype=dtype), "label": [0, 1, 2], "a": 0.5})
    (chunk,) = opened(written(tmp_path, frame), Columns(scores=("a",))).chunks()
    assert chunk.query_ids == [text, "9"]
    assert chunk.offsets.tolist() == [0, 2, 3]


def test_ids_of_a_csv_are_the_text_that_is_written(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("query_id,label,a\n007,1,0.5\n007,0,0.5\n7.0,1,0.5\n")
    (chunk,) = opened(path, Columns(scores=("a",))).chunks()
    assert chunk.query_ids == ["007", "7.0"]


@pytest.mark.parametrize("name", ["t.parquet", "t.jsonl", "t.csv"])
def test_a_slice_is_text_and_none_where_there_is_none(tmp_path, name):
    frame = pl.DataFrame(
        {"query_id": [1, 2, 3], "label": 1, "a": 0.5, "year": [2024, None, 7], "new": [True, False, None]}
    )
    (chunk,) = opened(written(tmp_path, frame, name), Columns(slices=("year", "new"), scores=("a",))).chunks()
    assert chunk.slices == {"year": ["2024", "(none)", "7"], "new": ["true", "false", "(none)"]}


def test_the_name_of_a_slice_does_not_depend_on_the_piece(tmp_path):
    frame = pl.DataFrame({"query_id": [1, 2, 3], "label": 1, "a": 0.5, "price": [1.5, 2.0, float("nan")]})
    path = written(tmp_path, frame)
    for max_rows in (1, 10):
        table = opened(path, Columns(slices=("price",), scores=("a",)))
        assert [name for chunk in table.chunks(max_rows) for name in chunk.slices["price"]] == ["1.5", "2", "(none)"]


def test_a_column_that_nobody_wants_may_hold_anything(tmp_path):
    path = tmp_path / "t.jsonl"
    cells = ["1", '"x"', "true", "null", "[1]", '{"label": 3}', '{"a": {"a": 3}}']
    path.write_text("".join(f'{{"query_id": {i}, "label": 1, "a": 1, "z": {z}}}\n' for i, z in enumerate(cells)))
    assert rows_of(opened(path, Columns(scores=("a",))))[0].height == 7
    assert "column 'z' mixes types" in refused(path, Columns())


def test_fields_between_quotation_marks_may_hold_anything(tmp_path, monkeypatch):
    monkeypatch.setattr(table_files, "BLOCK_BYTES", 40)
    frame = scored(10, 3).with_columns(doc=pl.format('a "quoted", name\n\nof {}\r\n', pl.col("doc")))
    rows, _ = rows_of(opened(written(tmp_path, frame, "t.csv")))
    assert rows["doc"].to_list() == frame["doc"].to_list()


def test_a_csv_may_have_other_line_ends_a_byte_order_mark_and_blank_lines(tmp_path):
    plain = scored().write_csv()
    path = tmp_path / "t.csv"
    path.write_bytes(
        b"\xef\xbb\xbf\r\n" + plain.replace("\n", "\r\n").replace("q3,", "\r\n\r\nq3,", 1).encode() + b"\r\n\r\n"
    )
    assert rows_of(opened(path))[0]["label"].to_list() == scored()["label"].to_list()
    path.write_text(plain.rstrip("\n"))
    assert rows_of(opened(path))[0]["label"].to_list() == scored()["label"].to_list()


# -- features


def features(folder, frame, name="t.parquet", **columns):
    table = opened(written(folder, frame, name), Columns(**columns))
    (chunk,) = table.chunks()
    return table, chunk.features


def judged(**extra):
    return pl.DataFrame({"query_id": ["a", "a", "b"], "label": [1, 0, 2], **extra})


def test_features_are_all_the_rest(tmp_path):
    frame = judged(doc=["x", "y", "z"], locale=["de", "de", "fr"], bm25=[0.5, 1.5, 2.5], clicks=[1, 2, 3])
    table, found = features(tmp_path, frame, document="doc", slices=("locale",))
    assert table.feature_names == ("bm25", "clicks")
    assert list(found) == ["bm25", "clicks"]


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.jsonl"])
def test_features_keep_their_types(tmp_path, name):
    frame = judged(
        number=[0.5, 1.0, -2.0],
        whole=[1, 2, 3],
        flag=[True, False, True],
        text=["a", None, "7"],
        gap=[1.5, None, 2.5],
        whole_gap=[1, None, 3],
        flag_gap=[True, None, False],
    )
    _, found = features(tmp_path, frame, name)
    kinds = {key: "text" if isinstance(values, list) else values.dtype.name for key, values in found.items()}
    assert kinds == {
        "number": "float64",
        "whole": "int64",
        "flag": "bool",
        "text": "text",
        "gap": "float64",
        "whole_gap": "float64",
        "flag_gap": "float64",
    }
    assert found["text"] == ["a", None, "7"]
    np.testing.assert_array_equal(found["gap"], [1.5, np.nan, 2.5])
    np.testing.assert_array_equal(found["flag_gap"], [1, np.nan, 0])


def test_single_precision_and_small_integers_of_parquet(tmp_path):
    frame = judged(single=pl.Series([0.1, 0.2, 0.3], dtype=pl.Float32), small=pl.Series([1, 2, 3], dtype=pl.UInt8))
    _, found = features(tmp_path, frame)
    assert (found["single"].dtype, found["small"].dtype) == (np.float32, np.int64)


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.parquet"])
def test_a_type_does_not_depend_on_the_piece(tmp_path, monkeypatch, name):
    monkeypatch.setattr(table_files, "BLOCK_BYTES", 100)
    rows = 200
    frame = pl.DataFrame(
        {
            "query_id": range(rows),
            "label": 1,
            "late_fraction": [1.0] * (rows - 1) + [0.5],
            "late_null": [1] * (rows - 1) + [None],
            "first_null": [None] * (rows - 1) + [3],
            "words": [str(i) for i in range(rows // 2 - 1)] + ["x"] * (rows // 2 + 1),
        }
    )
    for chunk in opened(written(tmp_path, frame, name), Columns()).chunks(10):
        assert chunk.features["late_fraction"].dtype == np.float64
        assert chunk.features["late_null"].dtype == np.float64
        assert chunk.features["first_null"].dtype == np.float64
        assert isinstance(chunk.features["words"], list)


def test_a_model_may_be_given_slices_queries_and_documents(tmp_path):
    frame = judged(doc=["x", "y", "z"], locale=["de", "de", "fr"], bm25=[0.5, 1.5, 2.5])
    for name in ("t.parquet", "t.csv", "t.jsonl"):
        path = written(tmp_path, frame, name)
        table = opened(path, Columns(document="doc", slices=("locale",)))
        list(table.chunks())
        (chunk,) = table.with_features(("locale", "query_id", "doc", "bm25")).chunks()
        assert chunk.features["locale"] == ["de", "de", "fr"]
        assert chunk.features["query_id"] == ["a", "a", "b"]
        assert chunk.features["doc"] == ["x", "y", "z"]
        assert chunk.slices == {"locale": ["de", "fr"]}


def test_a_model_is_never_given_the_labels(tmp_path):
    path = written(tmp_path, judged(bm25=[0.5, 1.5, 2.5]))
    assert "label" in refused(path, Columns(features=("bm25", "label")))
    with pytest.raises(BadInput, match="label"):
        opened(path, Columns()).with_features(("label",))


def test_no_features_are_read_beside_scores(tmp_path):
    frame = scored().with_columns(list=pl.lit([1, 2]))
    table = opened(written(tmp_path, frame))
    assert table.feature_names == ()
    assert rows_of(table)[0].height == 150


def test_a_column_that_no_model_takes_is_refused_as_a_feature(tmp_path):
    path = written(tmp_path, judged(vector=[[1.0], [2.0], [3.0]]))
    text = refused(path, Columns())
    assert "'vector'" in text
    assert "List" in text


def test_whole_numbers_beyond_64_bits_are_refused(tmp_path):
    path = written(tmp_path, judged(big=pl.Series([1, 2, 2**64 - 1], dtype=pl.UInt64)))
    assert "64 bits" in refused(path, Columns())


def test_an_index_that_pandas_wrote_is_no_feature(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(",query_id,label,bm25\n0,a,1,0.5\n1,a,0,0.25\n")
    assert "index=False" in refused(path, Columns())


# -- LETOR

LETOR = """\
# a comment
2 qid:10 1:0.5 3:1.5 #docid = GX001 inc = 1
0 qid:10 1:0.25 #docid = GX002

1\tqid:11  2:4 3:-1e3   # docid=GX003
"""


def test_letor_features_are_columns_by_number_and_zero_where_left_out(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text(LETOR)
    table = opened(path, Columns(document="doc"))
    assert table.feature_names == ("1", "2", "3")
    (chunk,) = table.chunks()
    assert chunk.query_ids == ["10", "11"]
    assert chunk.labels.tolist() == [2, 0, 1]
    assert chunk.documents.to_list() == ["GX001", "GX002", "GX003"]
    assert {name: values.tolist() for name, values in chunk.features.items()} == {
        "1": [0.5, 0.25, 0],
        "2": [0, 0, 4],
        "3": [1.5, 0, -1000],
    }


def test_letor_features_may_be_asked_for_by_number(tmp_path):
    path = tmp_path / "t.svm"
    path.write_text(LETOR)
    (chunk,) = opened(path, Columns()).with_features(("3", "99", "1")).chunks()
    assert {name: values.tolist() for name, values in chunk.features.items()} == {
        "3": [1.5, 0, -1000],
        "99": [0, 0, 0],
        "1": [0.5, 0.25, 0],
    }


def test_letor_in_small_pieces(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    lines = []
    for row in range(200):
        chosen = [feature for feature in range(20) if rng.random() < 0.4]
        lines.append(f"{row % 3} qid:{row // 9} " + " ".join(f"{f}:{rng.random():.4f}" for f in chosen))
    path = tmp_path / "t.letor.gz"
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    whole, _ = rows_of(opened(path, Columns()))
    monkeypatch.setattr(table_files, "BLOCK_BYTES", 300)
    assert rows_of(opened(path, Columns()), 13)[0].equals(whole)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("x qid:1 1:2", "label and a qid"),
        ("1 1:2 2:3", "label and a qid"),
        ("1 qid: 1:2", "label and a qid"),
        ("1", "label and a qid"),
        ("1 qid:1 1:2:3", "number:value"),
        ("1 qid:1 x:2", "number:value"),
        ("1 qid:1 1:x", "number:value"),
        ("1 qid:1 -1:2", "number:value"),
        ("1 qid:1 1:2 7", "number:value"),
        ("1 qid:1 1:2 1:3", "a feature twice"),
        ("1 qid:1 2:2 1:3 2:2", "a feature twice"),
    ],
)
def test_a_bad_letor_line_is_named(tmp_path, line, why):
    path = tmp_path / "t.txt"
    path.write_text(f"1 qid:1 1:2\n\n{line}\n")
    text = refused(path, Columns())
    assert "line 3" in text
    assert why in text


@pytest.mark.parametrize(("label", "why"), [("-1", "negative"), ("nan", "not a number"), ("inf", "infinite")])
def test_labels_of_letor_are_checked_as_all_are(tmp_path, label, why):
    path = tmp_path / "t.txt"
    path.write_text(f"1 qid:1 1:2\n{label} qid:2 1:2\n")
    assert why in refused(path, Columns())


def test_letor_has_no_scores(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text(LETOR)
    assert "no columns of scores" in refused(path, Columns(scores=("1", "2")))


def test_more_features_than_a_model_takes_are_refused(tmp_path):
    path = tmp_path / "t.txt"
    path.write_text("1 qid:1 " + " ".join(f"{f}:1" for f in range(10_001)) + "\n")
    assert "10,000 features" in refused(path, Columns())


# -- tables that are not grouped by query


def by_query(rows):
    return {key: group.drop("query_id").rows() for (key,), group in rows.group_by("query_id", maintain_order=True)}


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.jsonl"])
@pytest.mark.parametrize("max_rows", [10, 40, 1000])
def test_an_ungrouped_table_gives_what_the_grouped_one_gives(tmp_path, name, max_rows):
    frame = scored(40, 5).with_row_index("n")
    mixed = frame.sample(fraction=1, shuffle=True, seed=3)
    grouped = mixed.sort("query_id", maintain_order=True).drop("n")
    as_it_is, _ = rows_of(opened(written(tmp_path, grouped, name)))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    table = opened(written(tmp_path, mixed.drop("n"), name), scratch=scratch)
    rows, sizes = rows_of(table, max_rows)
    assert by_query(rows) == by_query(as_it_is)
    assert sum(sizes) == 40
    assert list(scratch.iterdir()) == []
    assert rows_of(table, 1000)[0].equals(rows), "the order of queries does not depend on the pieces"


def test_queries_of_an_ungrouped_table_come_in_one_order_whatever_is_read(tmp_path):
    frame = scored(40, 5).sample(fraction=1, shuffle=True, seed=3)
    table = opened(written(tmp_path, frame), Columns())
    first = [id_ for chunk in table.chunks(1000) for id_ in chunk.query_ids]
    again = [id_ for chunk in table.with_features(("locale",)).chunks(10) for id_ in chunk.query_ids]
    assert first == again


def test_temporary_files_go_away_when_reading_is_broken_off(tmp_path):
    path = written(tmp_path, scored(40, 5).sample(fraction=1, shuffle=True, seed=3))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    table = opened(path, scratch=scratch)
    seen = []

    def break_off():
        for _ in table.chunks(10):
            seen.extend(scratch.iterdir())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        break_off()
    assert seen
    assert list(scratch.iterdir()) == []


def test_no_room_for_temporary_files_is_the_worlds_fault(tmp_path):
    resource = pytest.importorskip("resource")
    path = written(tmp_path, scored(40, 5).sample(fraction=1, shuffle=True, seed=3))
    table = opened(path, scratch=tmp_path)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (16, hard))
    try:
        with pytest.raises(OutsideWorldFailed, match="regrouped") as error:
            list(table.chunks(10))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "TMPDIR" in error.value.do


# -- bad rows: an error that names file, column, first query and row, and how many


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.jsonl"])
@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("label", -1, "is negative in 2 rows, first in row 8 (query 'q1', document 'd7'): -1"),
        ("label", None, "has no value in 2 rows, first in row 8 (query 'q1', document 'd7')."),
        ("challenger", None, "has no value in 2 rows, first in row 8 (query 'q1', document 'd7')."),
        ("query_id", None, "has no value in 2 rows, first in row 8"),
        ("doc", None, "has no value in 2 rows, first in row 8 (query 'q1')."),
    ],
)
def test_a_bad_cell_is_named_and_counted(tmp_path, name, column, value, why):
    text = refused(spoilt(tmp_path, name, **{column: {7: value, 60: value}}))
    assert f"column '{column}' {why}" in text


@pytest.mark.parametrize("name", ["t.parquet", "t.csv"])
@pytest.mark.parametrize(
    ("column", "value", "why"),
    [
        ("challenger", float("nan"), "is not a number in 1 row, first in row 8 (query 'q1', document 'd7'): nan"),
        ("champion", float("inf"), "is infinite in 1 row, first in row 8 (query 'q1', document 'd7'): inf"),
        ("champion", -float("inf"), "is infinite in 1 row"),
    ],
)
def test_a_score_that_is_not_finite_is_named(tmp_path, name, column, value, why):
    text = refused(spoilt(tmp_path, name, **{column: {7: value}}))
    assert f"column '{column}' {why}".lower() in text.lower()


@pytest.mark.parametrize(("value", "why"), [(float("nan"), "is not a number"), (float("inf"), "is infinite")])
def test_a_label_that_is_not_finite_is_named(tmp_path, value, why):
    frame = scored().with_columns(label=pl.when(pl.col("doc") == "d7").then(value).otherwise(1.0))
    assert f"column 'label' {why} in 1 row" in refused(written(tmp_path, frame))
    frame = frame.with_columns(pl.col("label").cast(pl.Float32))
    assert f"column 'label' {why} in 1 row" in refused(written(tmp_path, frame))


def test_all_problems_are_told_the_first_one_first(tmp_path):
    text = refused(spoilt(tmp_path, label={7: -1, 8: -2}, champion={3: None}))
    assert (
        "Also: column 'champion' has no value in 1 row" in text or "Also: column 'label' is negative in 2 rows" in text
    )


def test_offenders_are_counted_over_all_pieces(tmp_path):
    table = opened(spoilt(tmp_path, label={57: -1, 100: -1, 149: -1}))
    seen = []

    def read():
        for chunk in table.chunks(5):
            seen.extend(chunk.query_ids)

    with pytest.raises(BadInput, match="in 3 rows, first in row 58 "):
        read()
    assert seen[0] == "q0"
    assert "q11" not in seen, "no chunk comes from the first bad row on"


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.jsonl"])
def test_a_document_twice_in_a_query_is_named(tmp_path, name):
    text = refused(spoilt(tmp_path, name, doc={6: "d5", 7: "d5", 60: "d61"}))
    assert "column 'doc' repeats a document of the same query in 3 rows, first in query 'q1', document 'd5'" in text


def test_a_document_may_be_in_several_queries(tmp_path):
    frame = scored().with_columns(doc=pl.int_range(pl.len()).mod(5))
    assert rows_of(opened(written(tmp_path, frame)))[0].height == 150


def test_a_document_twice_is_found_in_an_ungrouped_table_too(tmp_path):
    frame = pl.DataFrame(
        {"query_id": [1, 2, 1, 2], "doc": [5, 5, 6, 5], "label": 1, "challenger": 0.5, "champion": 0.5}
    )
    text = refused(written(tmp_path, frame), Columns(document="doc", scores=SCORES))
    assert "first in query '2', document '5'" in text


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.jsonl"])
def test_a_slice_that_changes_within_a_query_is_named(tmp_path, name):
    text = refused(spoilt(tmp_path, name, locale={7: "en", 60: None}))
    assert "slice column 'locale' has several values in 2 queries, first in query 'q1': 'fr' and 'en'" in text


def test_a_slice_column_with_too_many_values_is_refused(tmp_path):
    frame = scored(1001, 1).with_columns(locale=pl.col("query_id"))
    assert "slice column 'locale' has over 1000 values" in refused(written(tmp_path, frame))
    assert rows_of(opened(written(tmp_path, frame.head(1000))))[0].height == 1000


@pytest.mark.parametrize(
    ("column", "values", "why"),
    [
        ("query_id", [1.0, 1.5, 2.0], "is not a whole number in 1 row, first in row 2 (query '1.5'): 1.5"),
        ("query_id", [1.0, float("nan"), 2.0], "is not a whole number in 1 row"),
        ("query_id", [1.0, 1e17, 2.0], "is not a whole number in 1 row"),
        ("query_id", ["a", "", "b"], "is empty in 1 row"),
        ("query_id", [True, False, True], "has the type Boolean"),
        ("query_id", [[1], [2], [3]], "has the type List"),
        ("label", ["1", "2", "3"], "holds text"),
        ("label", [[1], [2], [3]], "has the type List"),
        ("a", ["1", "2", "3"], "holds text"),
    ],
)
def test_a_column_of_the_wrong_type_is_named(tmp_path, column, values, why):
    frame = pl.DataFrame({"query_id": [1, 2, 3], "label": [1, 2, 3], "a": [0.1, 0.2, 0.3]})
    path = written(tmp_path, frame.with_columns(pl.Series(column, values)))
    assert f"column '{column}' {why}" in refused(path, Columns(scores=("a",)))


@pytest.mark.parametrize(("column", "mode"), [("label", {}), ("bm25", {}), ("bm25", {"scores": ("bm25",)})])
def test_a_csv_column_that_turns_to_text_half_way_is_named(tmp_path, monkeypatch, column, mode):
    monkeypatch.setattr(table_files, "BLOCK_BYTES", 200)
    rows = [{"query_id": i // 5, "label": i % 3, "bm25": i / 10} for i in range(300)]
    for row in rows[200::50]:
        row[column] = "n/a"
    path = tmp_path / "t.csv"
    path.write_text("query_id,label,bm25\n" + "".join("{query_id},{label},{bm25}\n".format(**row) for row in rows))
    text = refused(path, Columns(**mode))
    assert f"column '{column}'" in text
    assert "row 201" in text
    assert "'n/a'" in text or ": n/a" in text
    assert "2 of 300" in text or "in 2 rows" in text


@pytest.mark.parametrize("block", [60, 1 << 20])
@pytest.mark.parametrize(
    ("cells", "why"),
    [
        (["1", '"x"'], "text"),
        (['"x"', "1"], "a number"),
        (["0.5", "true"], "true or false"),
        (['"x"', "true"], "true or false"),
        (['"x"', "[1]"], "a list"),
        (['"x"', '{"y": 1}'], "an object"),
    ],
)
def test_a_column_of_json_lines_that_mixes_types_is_named(tmp_path, monkeypatch, block, cells, why):
    monkeypatch.setattr(table_files, "BLOCK_BYTES", block)
    path = tmp_path / "t.jsonl"
    lines = [f'{{"query_id": {i}, "label": 1, "x": {cells[i >= 7]}}}' for i in range(10)]
    path.write_text("\n".join(lines))
    text = refused(path, Columns())
    assert "column 'x'" in text
    assert "8" in text
    if block > 60:
        assert f"{why} in line 8" in text


def test_ids_of_json_lines_are_text_or_numbers_not_both(tmp_path):
    path = tmp_path / "t.jsonl"
    path.write_text('{"query_id": 7, "label": 1, "a": 1}\n{"query_id": "7", "label": 1, "a": 1}\n')
    assert "column 'query_id' mixes types" in refused(path, Columns(scores=("a",)))


# -- files that are no such table


def test_a_missing_column_is_named_with_those_that_are_there(tmp_path):
    for name in WRITERS:
        path = written(tmp_path, scored(), name)
        text = refused(path, Columns(query="query-id", scores=SCORES))
        assert "has no column 'query-id'" in text
        assert "'query_id', 'doc', 'label'" in text
        assert "Did you mean 'query_id'?" in text


def test_all_missing_columns_are_named(tmp_path):
    text = refused(written(tmp_path, scored()), Columns(label="x", slices=("y",), scores=("z",)))
    assert "'x', 'z', 'y'" in text


@pytest.mark.parametrize(
    "columns",
    [
        Columns(query="label"),
        Columns(document="query_id"),
        Columns(scores=("label", "champion")),
        Columns(scores=("champion", "champion")),
        Columns(slices=("label",)),
    ],
)
def test_one_column_cannot_mean_two_things(tmp_path, columns):
    assert "column '" in refused(written(tmp_path, scored()), columns)


def test_fields_that_are_separated_otherwise_are_suspected(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("query_id;label;a\n1;2;3\n")
    assert "commas" in refused(path, Columns(scores=("a",)))


def test_a_path_that_is_not_there_says_where_it_was_looked_for(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = refused(Path("data/t.parquet"))
    assert f"'{tmp_path}/data/t.parquet'" in text
    assert f"starts where the step runs: {tmp_path}" in text


def test_a_folder_is_no_table(tmp_path):
    assert "is a folder" in refused(tmp_path)


def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "t.csv")
    assert "no regular file" in refused(tmp_path / "t.csv")


@pytest.mark.parametrize("name", ["t.parquet", "t.csv", "t.jsonl", "t.txt"])
def test_an_empty_file_is_refused(tmp_path, name):
    (tmp_path / name).touch()
    assert "is empty" in refused(tmp_path / name)


@pytest.mark.parametrize("name", ["t.parquet", "t.csv"])
def test_a_table_without_rows_is_refused(tmp_path, name):
    assert "has no rows" in refused(written(tmp_path, scored().clear(), name))


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.txt"])
def test_blank_lines_are_no_table(tmp_path, name):
    (tmp_path / name).write_text("\n\n\n")
    refused(tmp_path / name, Columns())


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.9, 0.99])
def test_a_parquet_file_that_was_cut_short_is_refused(tmp_path, share):
    path = written(tmp_path, scored(500))
    whole = path.read_bytes()
    path.write_bytes(whole[: max(4, int(share * len(whole)))])
    assert "cut short" in refused(path)


def test_a_parquet_file_with_damaged_pages_is_refused_or_read_never_a_crash(tmp_path):
    path = written(tmp_path, scored(500))
    whole = path.read_bytes()
    for at in range(4, len(whole) - 4, len(whole) // 40):
        path.write_bytes(whole[:at] + bytes(byte ^ 0xFF for byte in whole[at : at + 30]) + whole[at + 30 :])
        with contextlib.suppress(BadInput):
            list(opened(path).chunks())


@pytest.mark.parametrize("name", ["t.csv.gz", "t.ndjson.gz"])
def test_a_compressed_file_that_was_cut_short_is_refused(tmp_path, name):
    path = written(tmp_path, scored(2000), name)
    path.write_bytes(path.read_bytes()[:-20])
    assert "cut short" in refused(path)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", "Git LFS"),
        (b"<html><title>Sign in</title></html>", "'<html>"),
        (b"\x28\xb5\x2f\xfd\x00\x01", "zstd"),
        (gzip.compress(b"PAR1", mtime=0), "gzip"),
    ],
)
def test_what_is_no_parquet_file_is_said_to_be_what_it_is(tmp_path, content, why):
    (tmp_path / "t.parquet").write_bytes(content)
    assert why in refused(tmp_path / "t.parquet")


def test_an_unknown_format_lists_those_that_are_known(tmp_path):
    (tmp_path / "t.xlsx").write_bytes(b"PK\x03\x04\x00")
    assert "Parquet" in refused(tmp_path / "t.xlsx")
    (tmp_path / "t.json").write_text('[{"query_id": 1}]')
    assert "one row per line" in refused(tmp_path / "t.json")


@pytest.mark.parametrize(
    ("rows", "line", "fields"),
    [
        ("1,2,3\n4,5\n6,7,8\n", 3, 2),
        ("1,2,3\n4,5,6,7\n6,7,8\n", 3, 4),
        ("1,2,3\n4,5,6,7\n6,7\n", 3, 4),
        ('1,"2\n,2",3\n4,5\n', 4, 2),
        ("1,2,3\n4", 3, 1),
    ],
)
def test_a_csv_row_with_another_number_of_fields_is_named(tmp_path, rows, line, fields):
    path = tmp_path / "t.csv"
    path.write_text("query_id,label,a\n" + rows)
    assert f"line {line} has {fields} field" in refused(path, Columns(scores=("a",)))


@pytest.mark.parametrize("row", ['1,"2,3', '1,2",3', '1,"2"x,3', '1,x"2,5"x,3', '1,x"2",3'])
def test_quotation_marks_that_do_not_fit_are_refused(tmp_path, row):
    path = tmp_path / "t.csv"
    path.write_text(f"query_id,label,a\n1,2,3\n{row}\n4,5,6\n")
    assert "uotation mark" in refused(path, Columns(scores=("a",)))


def test_columns_of_one_name_are_refused(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("query_id,label,a,label\n1,2,3,4\n")
    assert "2 columns named 'label'" in refused(path, Columns(scores=("a",)))
    path = tmp_path / "t.jsonl"
    path.write_text('{"query_id": 1, "label": 1, "label": 3, "a": 1}\n')
    assert "the key 'label' twice" in refused(path, Columns(scores=("a",)))


@pytest.mark.parametrize("name", ["t.csv", "t.jsonl", "t.txt"])
def test_text_that_is_not_utf8_is_named_by_line(tmp_path, name):
    (tmp_path / name).write_bytes(b'{"a":1}\n{"a":"\xe9"}\n')
    text = refused(tmp_path / name)
    assert "line 2 has the byte 0xe9" in text


@pytest.mark.parametrize(
    "line", ["[1]", "5", "{", '{"query_id": NaN}', '{"a":1} x', "[" * 5000, '{"query_id":1}{"query_id":2}']
)
def test_a_line_that_is_no_json_object_is_named(tmp_path, line):
    path = tmp_path / "t.jsonl"
    path.write_text(f'{{"query_id": 1, "label": 1, "a": 1}}\n\n{line}\n')
    assert "line 3 is no JSON object" in refused(path, Columns(scores=("a",)))


def test_a_line_that_never_ends_is_not_read_into_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(table_files, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(table_files, "LINE_BYTES", 5000)
    path = tmp_path / "t.csv"
    path.write_text('query_id,label,a\n1,"2,3\n' + "4,5,6\n" * 10_000)
    assert "from line 2 on" in refused(path, Columns(scores=("a",)))


def test_messages_show_no_control_characters(tmp_path):
    frame = scored().with_columns(doc=pl.lit("x\n::error::"))
    text = refused(written(tmp_path, frame))
    assert "\n" not in text


def test_a_file_that_may_not_be_read_is_the_storages_fault(tmp_path, monkeypatch):
    path = written(tmp_path, scored())
    if os.geteuid() == 0:  # root may read all there is
        monkeypatch.setattr(Path, "open", _not_permitted)
    else:
        path.chmod(stat.S_IWUSR)
    assert "Permission denied" in refused(path, error=OutsideWorldFailed)


def _not_permitted(*arguments, **settings):
    raise PermissionError(13, "Permission denied")


def test_a_file_that_changes_while_it_is_read_is_refused(tmp_path):
    path = written(tmp_path, scored())
    table = opened(path)
    next(table.chunks(5))
    os.utime(path, ns=(1, 1))
    with pytest.raises(OutsideWorldFailed, match="changed while it was read"):
        list(table.chunks())


def test_a_path_is_no_pattern(tmp_path):
    path = written(tmp_path, scored()).rename(tmp_path / "a[b]*.parquet")
    assert rows_of(opened(path))[0].height == 150
    assert json.dumps(path.name)
