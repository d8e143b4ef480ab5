"""The digest of judged queries: the same for the same content, another for any other."""

from __future__ import annotations

import hashlib
import re
import struct

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from champion_gate.dataset_digest import DatasetDigest
from champion_gate.tables import Columns, JudgedTable

COLUMNS = Columns(document="doc", slices=("locale",))
WRITERS = {
    "parquet": pl.DataFrame.write_parquet,
    "csv": pl.DataFrame.write_csv,
    "jsonl": pl.DataFrame.write_ndjson,
}


def judged():
    rng = np.random.default_rng(1)
    ids = np.repeat(np.arange(12), 6)
    return pl.DataFrame(
        {
            "query_id": ids,
            "doc": [f"d{i}" for i in range(72)],
            "label": rng.integers(0, 4, 72),
            "locale": [("de", "fr", "it")[i % 3] for i in ids],
            "bm25": rng.random(72).astype("f4").round(3),
            "clicks": rng.integers(0, 1000, 72),
            "fresh": rng.random(72) < 0.5,
            "price": rng.random(72),
            "title": [f"tïtle {i}" for i in range(72)],
        },
        schema_overrides={"bm25": pl.Float32},
    )


def digest(path, columns=COLUMNS, max_rows=1_000_000):
    found = DatasetDigest()
    for chunk in JudgedTable.open(path, columns, name=path.name).chunks(max_rows):
        found.update(chunk)
    return found.hexdigest()


def of(folder, frame, form="parquet", columns=COLUMNS, max_rows=1_000_000):
    path = folder / f"t.{form}"
    WRITERS[form](frame, path)
    return digest(path, columns, max_rows)


def test_a_digest_names_its_algorithm(tmp_path):
    assert re.fullmatch("sha256:[0-9a-f]{64}", of(tmp_path, judged()))


@pytest.mark.parametrize("form", WRITERS)
def test_a_digest_is_of_the_content_not_of_its_format(tmp_path, form):
    frame = judged()
    assert of(tmp_path, frame, form) == of(tmp_path, frame)


@pytest.mark.parametrize(
    "changed",
    [
        {"query_id": pl.Float64},
        {"query_id": pl.Int16},
        {"query_id": pl.String},
        {"query_id": pl.UInt64},
        {"doc": pl.Categorical},
        {"locale": pl.Categorical},
        {"label": pl.Float32},
        {"label": pl.UInt8},
        {"clicks": pl.Float64},
        {"clicks": pl.Float32},
        {"clicks": pl.UInt16},
        {"fresh": pl.Int8},
        {"title": pl.Categorical},
    ],
)
def test_a_digest_is_of_values_not_of_their_types(tmp_path, changed):
    assert of(tmp_path, judged().cast(changed)) == of(tmp_path, judged())


def test_a_single_precision_number_is_the_decimal_that_it_was_read_from(tmp_path):
    frame = judged()
    decimals = frame["bm25"].cast(pl.String).cast(pl.Float64)
    assert of(tmp_path, frame.with_columns(decimals)) == of(tmp_path, frame)
    labels = pl.Series("label", [0.1, 0.7] * 36)
    single = frame.with_columns(labels.cast(pl.Float32))
    assert of(tmp_path, single) == of(tmp_path, frame.with_columns(labels))


def test_the_order_of_columns_and_queries_does_not_count(tmp_path):
    frame = judged()
    assert of(tmp_path, frame.select(reversed(frame.columns))) == of(tmp_path, frame)
    assert of(tmp_path, frame.sort("query_id", descending=True, maintain_order=True)) == of(tmp_path, frame)
    assert of(tmp_path, frame.sample(fraction=1, shuffle=True, seed=5)) == of(tmp_path, frame)


def test_the_order_of_rows_counts_where_there_are_no_documents(tmp_path):
    columns = Columns(slices=("locale",))
    frame = judged().drop("doc")
    swapped = pl.concat([frame[1:2], frame[:1], frame[2:]])
    assert of(tmp_path, swapped, columns=columns) != of(tmp_path, frame, columns=columns)
    apart = pl.concat([frame[::2], frame[1::2]]).sort("query_id", maintain_order=True)
    assert of(tmp_path, pl.concat([frame[6:], frame[:6]]), columns=columns) == of(tmp_path, frame, columns=columns)
    assert of(tmp_path, apart, columns=columns) != of(tmp_path, frame, columns=columns)


def test_the_names_of_query_label_and_document_columns_do_not_count(tmp_path):
    frame = judged().rename({"query_id": "q", "label": "y", "doc": "d"})
    columns = Columns(query="q", label="y", document="d", slices=("locale",))
    assert of(tmp_path, frame, columns=columns) == of(tmp_path, judged())


def test_scores_do_not_count(tmp_path):
    frame = judged()
    columns = Columns(document="doc", slices=("locale",), scores=("bm25", "price"))
    other = frame.with_columns(price=pl.col("price") + 1)
    assert of(tmp_path, other, columns=columns) == of(tmp_path, frame, columns=columns)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("query_id", 99),
        ("doc", "d99"),
        ("label", 7),
        ("locale", "en"),
        ("bm25", 0.125),
        ("clicks", -1),
        ("price", 0.123),
        ("title", "other"),
        ("title", None),
        ("title", ""),
        ("price", None),
        ("fresh", None),
    ],
)
def test_any_change_counts(tmp_path, column, value):
    frame = judged()
    rows = frame["query_id"] == 11 if column in ("locale", "query_id") else pl.Series(np.arange(72) == 40)
    other = frame.with_columns(pl.when(rows).then(pl.lit(value)).otherwise(pl.col(column)).alias(column))
    assert of(tmp_path, other) != of(tmp_path, frame)


def test_names_of_features_and_slices_count(tmp_path):
    frame = judged()
    assert of(tmp_path, frame.rename({"bm25": "bm26"})) != of(tmp_path, frame)
    columns = Columns(document="doc", slices=("country",))
    assert of(tmp_path, frame.rename({"locale": "country"}), columns=columns) != of(tmp_path, frame)
    assert of(tmp_path, frame, columns=Columns(document="doc")) != of(tmp_path, frame)


def test_a_row_more_or_less_counts(tmp_path):
    frame = judged()
    found = {of(tmp_path, part) for part in (frame, frame[:-1], frame[1:], frame[:-6])}
    assert len(found) == 4


def test_values_that_move_between_rows_or_columns_count(tmp_path):
    texts = [["ab", "c"], ["a", "bc"], ["", "abc"], [None, "abc"]]
    frames = [pl.DataFrame({"query_id": [1, 1], "label": [1, 1], "text": text}) for text in texts]
    frames.append(pl.DataFrame({"query_id": [1, 1], "label": [1, 1], "other": texts[0]}))
    frames.append(pl.DataFrame({"query_id": [1, 2], "label": [1, 1], "text": texts[0]}))
    assert len({of(tmp_path, frame, columns=Columns()) for frame in frames}) == len(frames)


def test_whole_numbers_that_floats_cannot_hold_count(tmp_path):
    def ids(*values, dtype=pl.Int64):
        frame = pl.DataFrame({"query_id": [1, 1, 2], "label": [1, 0, 1], "id": pl.Series(values, dtype=dtype)})
        return of(tmp_path, frame, columns=Columns())

    large = 2**60
    assert ids(large, 1, 2) == ids(large, 1, 2, dtype=pl.Float64)
    found = {ids(*values) for values in ((large, 1, 2), (large + 1, 1, 2), (1, large + 1, 2), (1, 2, large + 1))}
    assert len(found) == 4
    top = 2**63 - 1
    assert len({ids(top, 1, 2), ids(top - 1, 1, 2), ids(-top - 1, 1, 2), ids(-top, 1, 2)}) == 4


def test_missing_numbers_and_zeros_have_one_form(tmp_path):
    def price(*values):
        frame = pl.DataFrame({"query_id": [1, 1], "label": [1, 0], "price": pl.Series(values, dtype=pl.Float64)})
        return of(tmp_path, frame, columns=Columns())

    assert price(None, 0.0) == price(float("nan"), -0.0)
    assert price(float("-nan"), 0.0) == price(None, 0.0)
    assert price(None, 0.0) != price(0.0, 0.0)


def test_letor_is_as_a_csv_with_the_same_columns(tmp_path):
    letor = tmp_path / "t.txt"
    letor.write_text("2 qid:10 1:0.5 3:1.5 # docid = A\n0 qid:10 2:0.25 # docid = B\n1 qid:11 2:4 # docid = C\n")
    table = tmp_path / "t.csv"
    table.write_text("query_id,label,doc,1,2,3\n10,2,A,0.5,0,1.5\n10,0,B,0,0.25,0\n11,1,C,0,4,0\n")
    for columns in (Columns(document="doc"), Columns(document="doc", features=("1", "3")), Columns(features=())):
        if not columns.document:
            table.write_text("query_id,label\n10,2\n10,0\n11,1\n")
        assert digest(letor, columns) == digest(table, columns)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(1, 6), min_size=1, max_size=12),
    order=st.randoms(use_true_random=False),
    max_rows=st.integers(1, 30),
    form=st.sampled_from(sorted(WRITERS)),
    documents=st.booleans(),
)
def test_pieces_order_and_format_never_count(tmp_path, lengths, order, max_rows, form, documents):
    ids = np.repeat(np.arange(len(lengths)), lengths)
    rng = np.random.default_rng(len(ids))
    frame = pl.DataFrame(
        {
            "query_id": ids,
            "doc": [f"{i}" for i in range(len(ids))],
            "label": rng.integers(0, 3, len(ids)),
            "x": rng.integers(0, 100, len(ids)) / 8,
            "name": [("é", None, 'a "b"', "x,y\n")[i % 4] for i in range(len(ids))],
        },
        schema_overrides={"name": pl.String},
    )
    columns = Columns(document="doc") if documents else Columns(features=("x", "name"))
    queries = [frame.filter(pl.col("query_id") == i) for i in range(len(lengths))]
    order.shuffle(queries)
    if frame["name"].null_count() == len(frame):
        return  # a column of nothing but nulls has a type in Parquet, and none in text
    assert of(tmp_path, pl.concat(queries), form, columns, max_rows) == of(tmp_path, frame, columns=columns)


def test_the_bytes_are_those_that_the_docstring_tells(tmp_path):
    """Version 1, put together by hand: a change of these bytes is a new version."""
    frame = pl.DataFrame(
        {
            "query_id": ["q1", "q1", "é"],
            "doc": ["b", "a", "c"],
            "label": [1, 0, 2],
            "locale": ["de", "de", None],
            "x": [2.5, None, 2.0**60],
            "id": [1, 2**53 + 1, 3],
            "text": ["ü", None, ""],
        }
    )

    def text(value):
        return struct.pack("<q", len(value.encode())) + value.encode()

    nan = float.fromhex("nan")
    first = struct.pack("<QQ", 2, 2) + b"q1"
    first += struct.pack("<6d", 0, float(2**53), nan, 1, 1, 2.5)
    first += struct.pack("<2q", 1, 1) + b"ab"
    first += struct.pack("<2q", -1, 2) + "ü".encode()
    first += text("de") + struct.pack("<QQq", 0, 0, 2**53 + 1)
    second = struct.pack("<QQ", 2, 1) + "é".encode() + struct.pack("<3d", 2, 3, 2.0**60)
    second += struct.pack("<q", 1) + b"c" + struct.pack("<q", 0) + text("(none)")
    queries = sorted(hashlib.sha256(raw).digest() for raw in (first, second))
    header = '{"documents":true,"numbers":["id","x"],"slices":["locale"],"texts":["text"]}'
    expected = hashlib.sha256(f"champion-gate dataset 1\n{header}\n".encode() + b"".join(queries)).hexdigest()
    assert of(tmp_path, frame) == f"sha256:{expected}"


def test_queries_and_rows_are_counted(tmp_path):
    path = tmp_path / "t.parquet"
    judged().write_parquet(path)
    found = DatasetDigest()
    for chunk in JudgedTable.open(path, COLUMNS).chunks(10):
        found.update(chunk)
    assert (found.queries, found.rows) == (12, 72)


def test_there_is_no_digest_of_nothing():
    with pytest.raises(ValueError, match="no queries"):
        DatasetDigest().hexdigest()


def test_columns_cannot_change_between_chunks(tmp_path):
    path = tmp_path / "t.parquet"
    judged().write_parquet(path)
    found = DatasetDigest()
    (chunk,) = JudgedTable.open(path, COLUMNS).chunks()
    (other,) = JudgedTable.open(path, Columns()).chunks()
    found.update(chunk)
    with pytest.raises(ValueError, match="columns changed"):
        found.update(other)
