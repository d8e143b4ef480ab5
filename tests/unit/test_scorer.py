"""The parts of the scoring child that know MLflow's signatures, on this MLflow's own types."""

from __future__ import annotations

import io
import struct

import numpy as np
import pandas as pd
import pytest
from mlflow.types.schema import Array, ColSpec, DataType, Schema, TensorSpec

from champion_gate.scorer import Unusable, _as_asked, _column, _numbers
from champion_gate.scoring import _request


def asked(schema, **columns):
    rows = len(next(iter(columns.values())))
    arrays = {
        name: values if isinstance(values, np.ndarray) else np.array(values, dtype=object)
        for name, values in columns.items()
    }
    return _as_asked(schema, arrays, rows)


def columns(**types):
    return Schema([ColSpec(kind, name) for name, kind in types.items()])


def test_without_a_signature_all_columns_come_in_their_order():
    frame = asked(None, b=np.zeros(2), a=["x", None])
    assert list(frame.columns) == ["b", "a"]
    assert frame["a"].isna().tolist() == [False, True]


def test_columns_take_the_types_of_the_signature():
    schema = columns(a="float", b="integer", c="double", d="boolean", e="long", f="string", g="datetime")
    frame = asked(
        schema,
        unknown=np.zeros(2),
        g=["2024-01-01", "2024-01-02"],
        f=["x", "y"],
        e=np.array([1.0, 2.0]),
        d=np.array([0, 1]),
        c=np.array([1, 2]),
        b=np.array([1, 2], dtype=np.int64),
        a=np.array([0.1, 0.2]),
    )
    assert list(frame.columns) == list("abcdefg")
    kinds = {name: str(frame[name].dtype) for name in "abcde"}
    assert kinds == {"a": "float32", "b": "int32", "c": "float64", "d": "bool", "e": "int64"}
    assert pd.api.types.is_datetime64_any_dtype(frame["g"])


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        ("long", np.array([1.0, 1.5]), "asks for int64 in 'a', and the data has 1.5 there"),
        ("long", np.array([1.0, np.nan]), "asks for int64 in 'a', and the data has nan there"),
        ("integer", np.array([1, 2**40]), "asks for int32 in 'a', and the data has 1099511627776 there"),
        ("float", np.array([1.0, 1e300]), "asks for float32 in 'a', and the data has 1e+300 there"),
        ("boolean", np.array([1.0, 2.0]), "asks for bool in 'a', and the data has 2.0 there"),
        ("double", np.array(["1", "2"], dtype=object), "asks for float64 in 'a', and the data has text"),
        ("string", np.array([1.0, 2.0]), "asks for text in 'a', and the data has float64"),
    ],
)
def test_a_cast_that_would_lose_something_is_refused(kind, values, said):
    with pytest.raises(Unusable) as refusal:
        asked(columns(a=kind), a=values)
    assert said in str(refusal.value)


def test_infinity_and_rounding_are_no_loss():
    frame = asked(columns(a="float"), a=np.array([np.inf, np.nan, 0.1]))
    assert frame["a"].dtype == np.float32


def test_columns_that_are_missing_are_named_unless_they_may_be():
    schema = Schema([ColSpec("double", "a"), ColSpec("double", "b"), ColSpec("double", "c", required=False)])
    with pytest.raises(Unusable, match="asks for 2 columns that the data does not have: 'a', 'b'"):
        asked(schema, x=np.zeros(1))
    assert list(asked(schema, b=np.zeros(1), a=np.zeros(1)).columns) == ["a", "b"]


def test_inputs_without_names_are_taken_in_order():
    schema = Schema([ColSpec("float"), ColSpec("long")])
    frame = asked(schema, x=np.array([0.5]), y=np.array([1.0]))
    assert [str(kind) for kind in frame.dtypes] == ["float32", "int64"]
    with pytest.raises(Unusable, match="asks for 2 columns, and the data has 1"):
        asked(schema, x=np.zeros(1))


def test_tensors_are_made_of_columns():
    schema = Schema([TensorSpec(np.dtype("float32"), (-1, 2))])
    matrix = asked(schema, x=np.array([1.0, 2.0]), y=np.array([3, 4]))
    assert (matrix.dtype, matrix.tolist()) == (np.float32, [[1.0, 3.0], [2.0, 4.0]])
    with pytest.raises(Unusable, match=r"asks for shape \(-1, 2\), and the data has 1 features"):
        asked(schema, x=np.zeros(1))
    named = Schema([TensorSpec(np.dtype("int64"), (-1,), "x"), TensorSpec(np.dtype("float64"), (-1, 1), "y")])
    given = asked(named, x=np.array([1.0, 2.0]), y=np.array([3, 4]))
    assert given["x"].tolist() == [1, 2]
    assert given["y"].tolist() == [[3.0], [4.0]]
    with pytest.raises(Unusable, match="asks for 'y', which the data does not have"):
        asked(named, x=np.zeros(2))


def test_types_that_no_column_can_be_cast_to_are_left_to_mlflow():
    schema = Schema([ColSpec(Array(DataType.double), "a")])
    assert asked(schema, a=np.zeros(1))["a"].tolist() == [0.0]


@pytest.mark.parametrize(
    "result",
    [
        np.array([1.0, 2.0, 3.0]),
        np.array([[1], [2], [3]]),
        np.array([1, 2, 3], dtype=np.uint8),
        np.array([1, 2, 3], dtype=np.float16),
        [1, 2.0, np.float32(3)],
        (1, 2, 3),
        [[1.0], [2.0], [3.0]],
        [np.array([1.0]), np.array(2), np.array([[3]])],
        pd.Series([1, 2, 3], index=[5, 6, 7]),
        pd.Series([1, 2, 3], dtype="Int64"),
        pd.DataFrame({"score": [1.0, 2.0, 3.0]}),
        pd.DataFrame({"score": [1, 2, 3]}, dtype="Float32"),
        np.array([1, 2, 3], dtype=object),
    ],
)
def test_one_number_a_row_is_taken_in_every_shape_that_models_return(result):
    raw = _numbers(result, 3)
    assert np.frombuffer(raw, "<f8").tolist() == [1.0, 2.0, 3.0]


def test_a_missing_value_is_no_number_and_stays_one():
    raw = _numbers(pd.Series([1, None], dtype="Int64"), 2)
    assert np.isnan(np.frombuffer(raw, "<f8")).tolist() == [False, True]


@pytest.mark.parametrize(
    "result",
    [
        None,
        "abc",
        {"a": 1},
        iter([1, 2, 3]),
        np.array(["1", "2", "3"]),
        np.array([1j, 2, 3]),
        np.zeros((3, 2)),
        np.zeros((1, 3)),
        np.zeros(4),
        pd.DataFrame({"a": [1, 2, 3], "b": [1, 2, 3]}),
        pd.Series(["a", "b", "c"]),
        [1, "2", 3],
        [[1, 2], [3, 4], [5, 6]],
        [1, 2],
    ],
)
def test_anything_else_is_named(result):
    with pytest.raises(Unusable, match="it returned"):
        _numbers(result, 3)


def test_a_request_is_read_as_it_was_written():
    import json

    given = {
        "f64": np.array([0.5, np.nan]),
        "f16": np.array([0.5, 1.5], dtype=np.float16),
        "big endian": np.array([1.5, 2.5], dtype=">f8"),
        "strided": np.arange(4.0)[::2],
        "u32": np.array([1, 2**32 - 1], dtype=np.uint32),
        "i8": np.array([-1, 1], dtype=np.int8),
        "u64": np.array([0, 2**63 - 1], dtype=np.uint64),
        "bool": np.array([True, False]),
        "text": ["snow ☃", None],
        "no text": np.array(["", "x"], dtype=object),
        "surrogate": ["\ud800", "y"],
    }
    raw = b"".join(map(bytes, _request(given, 2)))
    tag, length, header_length = struct.unpack("<4sQI", raw[:16])
    assert (tag, length) == (b"SCOR", len(raw) - 12)
    header = json.loads(raw[16 : 16 + header_length])
    rest = io.BytesIO(raw[16 + header_length :])
    read = {column["name"]: _column(column["kind"], header["rows"], rest) for column in header["columns"]}
    assert rest.read() == b""
    assert list(read) == list(given)
    for name in ("f64", "f16", "big endian", "strided", "u32", "i8", "u64", "bool"):
        np.testing.assert_array_equal(read[name], given[name])
    assert read["text"].tolist() == ["snow ☃", None]
    assert read["surrogate"].tolist() == ["?", "y"]
