"""Qrels and rankings in TREC's formats."""

from __future__ import annotations

import gzip

import numpy as np
import polars as pl
import pytest
import pytrec_eval

from champion_gate import table_files
from champion_gate.dataset_digest import DatasetDigest
from champion_gate.errors import BadInput
from champion_gate.ndcg import ndcg
from champion_gate.tables import Columns, JudgedTable
from champion_gate.trec import notes, read_qrels, read_ranking

QRELS = """\
q2 0 d1 2
q2 0 d2 0
q1 0 d1 1
q1\t0\t  d3 3
q2 0 d9 1
"""
RANKING = """\
q1 Q0 d3 1 0.9 run
q1 Q0 d8 2 0.5 run
q2 Q0 d2 7 0.25 run
q2 Q0 d1 9 0.75 run
q3 Q0 d1 1 1.0 run
"""


def written(folder, text, name="qrels.txt"):
    path = folder / name
    path.write_text(text)
    return path


def qrels(folder, text=QRELS):
    return read_qrels(written(folder, text), name="qrels.txt")


def ranking(folder, text=RANKING, judgements=QRELS):
    return read_ranking(written(folder, text, "run.txt"), qrels(folder, judgements), name="run.txt")


def refused(call, *arguments):
    with pytest.raises(BadInput) as error:
        call(*arguments)
    assert error.value.do
    return str(error.value)


def test_qrels_say_which_queries_there_are_in_their_order(tmp_path):
    chunk = qrels(tmp_path)
    assert chunk.query_ids == ["q2", "q1"]
    assert chunk.offsets.tolist() == [0, 3, 5]
    assert chunk.labels.tolist() == [2, 0, 1, 1, 3]
    assert chunk.documents.to_list() == ["d1", "d2", "d9", "d1", "d3"]
    assert chunk.rows == 5


def test_a_ranking_has_all_documents_that_are_judged_or_retrieved(tmp_path):
    found = ranking(tmp_path)
    inf = np.inf
    assert found.offsets.tolist() == [0, 3, 6]
    assert found.labels.tolist() == [2, 0, 1, 1, 3, 0]
    assert found.scores.tolist() == [0.75, 0.25, -inf, -inf, 0.9, 0.5]
    assert (found.missing, found.ignored) == (0, 1)


def test_a_query_that_a_ranking_lacks_has_nothing_retrieved_and_is_counted(tmp_path):
    found = ranking(tmp_path, "q1 Q0 d3 1 0.9 run\n")
    assert found.offsets.tolist() == [0, 3, 5]
    assert found.scores.tolist() == [-np.inf] * 4 + [0.9]
    assert found.missing == 1
    assert notes([("champion", found)]) == [
        "The champion's ranking lacks 1 of the queries; each counts as nothing found."
    ]
    assert "not judged" in notes([("champion", ranking(tmp_path))])[0]


def test_ndcg_of_rankings_is_that_of_trec_eval(tmp_path):
    rng = np.random.default_rng(4)
    judgements, run = {}, {}
    for query in range(60):
        documents = rng.permutation(30)
        judgements[f"q{query}"] = {f"d{d}": int(rng.integers(0, 4)) for d in documents[:15]}
        if query % 7:
            run[f"q{query}"] = {f"d{d}": float(s) for d, s in zip(documents[8:], rng.permutation(22), strict=True)}
    lines = [f"{q} 0 {d} {label}" for q, labels in judgements.items() for d, label in labels.items()]
    judged = qrels(tmp_path, "\n".join(lines))
    lines = [f"{q} Q0 {d} 1 {score} tag" for q, scores in run.items() for d, score in scores.items()]
    found = read_ranking(written(tmp_path, "\n".join(lines), "run.txt"), judged)
    theirs = pytrec_eval.RelevanceEvaluator(judgements, {"ndcg_cut.10"}).evaluate(run)
    ours = ndcg(found.labels, found.scores, found.offsets, 10, "linear")
    expected = [theirs[q]["ndcg_cut_10"] if q in run else 0.0 for q in judged.query_ids]
    np.testing.assert_allclose(ours, expected, atol=1e-12)
    assert found.missing == 9


@pytest.mark.parametrize("block", [30, 1 << 20])
def test_pieces_and_compression_do_not_count(tmp_path, monkeypatch, block):
    whole = ranking(tmp_path)
    monkeypatch.setattr(table_files, "BLOCK_BYTES", block)
    path = tmp_path / "run.txt.gz"
    path.write_bytes(gzip.compress(RANKING.replace("\n", " \r\n\r\n").encode()))
    found = read_ranking(path, qrels(tmp_path))
    np.testing.assert_array_equal(found.scores, whole.scores)


def test_qrels_have_the_digest_of_a_table_with_the_same_judgements(tmp_path):
    of_qrels, of_table = DatasetDigest(), DatasetDigest()
    chunk = qrels(tmp_path)
    of_qrels.update(chunk)
    frame = pl.DataFrame(
        {"query_id": ["q1", "q1", "q2", "q2", "q2"], "doc": ["d3", "d1", "d9", "d1", "d2"], "label": [3, 1, 1, 2, 0]}
    )
    frame.write_parquet(tmp_path / "t.parquet")
    for part in JudgedTable.open(tmp_path / "t.parquet", Columns(document="doc", features=())).chunks():
        of_table.update(part)
    assert of_qrels.hexdigest() == of_table.hexdigest()


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("q1 0 d9", "3 fields"),
        ("q1 0 d9 1 extra", "5 fields"),
        ("q1 Q0 d9 1 0.5 run", "6 fields"),
        ("q1 0 d9 x", "the relevance 'x' is no number"),
        ("q1 0 d9 nan", "the relevance 'nan' is no number"),
        ("q1 0 d9 inf", "is no number"),
        ("q1 0 d9 -1", "the relevance '-1' is negative"),
        ("q2 0 d1 2", "(query 'q2', document 'd1'): the document stands there for the second time"),
    ],
)
def test_a_bad_line_of_qrels_is_named(tmp_path, line, why):
    text = refused(qrels, tmp_path, QRELS + "\n" + line + "\n")
    assert "qrels.txt" in text
    assert "line 7" in text
    assert why in text
    assert "in 1 line" in text or "at least 1 line" in text


def test_a_negative_relevance_is_said_to_be_other_than_in_trec_eval(tmp_path):
    assert "trec_eval" in refused(qrels, tmp_path, "q1 0 d1 -2\nq1 0 d2 -2\n")


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("q1 Q0 d9 1 0.5", "5 fields"),
        ("q1 0 d9 1", "4 fields"),
        ("q1 Q0 d9 1 x run", "the score 'x' is no finite number"),
        ("q1 Q0 d9 1 NaN run", "the score 'NaN' is no finite number"),
        ("q1 Q0 d9 1 -inf run", "the score '-inf' is no finite number"),
        ("q1 Q0 d3 5 0.1 run", "(query 'q1', document 'd3'): the document stands there for the second time"),
    ],
)
def test_a_bad_line_of_a_ranking_is_named(tmp_path, line, why):
    text = refused(ranking, tmp_path, RANKING + line + "\n")
    assert "run.txt" in text
    assert "line 6" in text
    assert why in text


@pytest.mark.parametrize("text", ["x1 Q0 d3 1 0.9 run\n", "q1 Q0 x3 1 0.9 run\nq2 Q0 d3 1 0.9 run\n"])
def test_a_ranking_of_other_ids_is_refused(tmp_path, text):
    assert "ranks no document that the qrels judge" in refused(ranking, tmp_path, text)


@pytest.mark.parametrize("text", ["\n\n", "", " \t\n"])
def test_an_empty_file_is_refused(tmp_path, text):
    refused(qrels, tmp_path, text)
    refused(ranking, tmp_path, text)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    assert "is not there" in refused(read_qrels, tmp_path / "no.txt")
    assert "is a folder" in refused(read_qrels, tmp_path)


def test_text_that_is_not_utf8_is_refused(tmp_path):
    path = tmp_path / "qrels.txt"
    path.write_bytes(b"q1 0 d\xe9 1\n")
    assert "line 1 has the byte 0xe9" in refused(read_qrels, path)
