"""NDCG, reciprocal rank, average precision and recall, against the definition, trec_eval and ranx."""

import itertools
import math

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given
from hypothesis import strategies as st

from champion_gate import ndcg
from champion_gate.rank_metric import RankMetric, parse_name
from champion_gate.rank_metrics import Judged, measure

CLOSE = {"rtol": 0, "atol": 1e-12}
KINDS = ("ndcg", "mrr", "map", "recall")
TABLE = ((0.0, 0.0), (1.0, 3.0), (2.0, 2.0), (3.0, 10.0), (4.0, 0.5))

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


def value_of_order(metric, labels, order):
    """The metric of one order of the retrieved documents, as its definition says it."""
    ranked = list(order)[: metric.k]
    if metric.kind == "ndcg":
        gains = {"exp": lambda label: 2.0**label - 1, "linear": float}.get(metric.gain) or dict(metric.gain).__getitem__
        discounted = [sum(gains(label) / math.log2(r + 2) for r, label in enumerate(ranks)) for ranks in (
            [labels[i] for i in ranked],
            sorted(labels, key=gains, reverse=True)[: metric.k],
        )]  # fmt: skip
        return discounted[0] / discounted[1] if discounted[1] else math.nan
    relevant = {i for i, label in enumerate(labels) if label >= metric.relevant_from}
    if not relevant:
        return math.nan
    hits = [rank for rank, i in enumerate(ranked, 1) if i in relevant]
    if metric.kind == "mrr":
        return 1 / hits[0] if hits else 0.0
    if metric.kind == "recall":
        return len(hits) / len(relevant)
    return sum(found / rank for found, rank in enumerate(hits, 1)) / len(relevant)


def by_definition(metric, labels, scores):
    """The mean, or the least, over every order of the ties."""
    retrieved = [i for i, score in enumerate(scores) if score > -math.inf]
    levels = sorted({scores[i] for i in retrieved}, reverse=True)
    orders = [itertools.permutations([i for i in retrieved if scores[i] == level]) for level in levels]
    values = [value_of_order(metric, labels, itertools.chain(*order)) for order in itertools.product(*orders)]
    return min(values) if metric.ties == "pessimistic" else math.fsum(values) / len(values)


metrics_ = st.builds(
    RankMetric,
    kind=st.sampled_from(KINDS),
    k=st.integers(1, 7),
    gain=st.sampled_from(["exp", "linear", TABLE]),
    ties=st.sampled_from(["average", "pessimistic"]),
    relevant_from=st.sampled_from([1.0, 2.0, 0.5]),
)
rows_ = st.tuples(st.integers(0, 4).map(float), st.sampled_from([-math.inf, -1.0, 0.0, -0.0, 2.0]))


@given(st.lists(metrics_, min_size=1, max_size=5), st.lists(st.lists(rows_, max_size=5), max_size=6))
def test_every_metric_is_what_the_definition_says_over_all_orders_of_ties(metrics, queries):
    labels, scores = ([row[i] for query in queries for row in query] for i in (0, 1))
    offsets = np.cumsum([0, *map(len, queries)])
    for metric, values in zip(metrics, measure(metrics, labels, scores, offsets), strict=True):
        expected = [by_definition(metric, [row[0] for row in q], [row[1] for row in q]) for q in queries]
        np.testing.assert_allclose(values, expected, **CLOSE, err_msg=str(metric))


def judged(random, queries, most, lost=0.0):
    """Labels, scores without ties, and offsets; a share `lost` of the documents was not retrieved."""
    sizes = random.integers(1, most + 1, queries)
    rows = int(sizes.sum())
    scores = random.permutation(rows).astype(float)
    # trec_eval leaves out queries of which nothing was retrieved, so the first document of each always is.
    firsts = np.cumsum(sizes) - sizes
    missing = random.random(rows) < lost
    missing[firsts] = False
    scores[missing] = -np.inf
    labels = np.where(random.random(rows) < 0.5, random.integers(1, 5, rows), 0).astype(float)
    return labels, scores, np.concatenate([[0], np.cumsum(sizes)])


@given(st.integers(0, 2**32), st.sampled_from([0.0, 0.4]), st.sampled_from([1, 2, 5, 10, 100]))
def test_trec_eval_says_the_same(seed, lost, k):
    labels, scores, offsets = judged(np.random.default_rng(seed), 20, 30, lost)
    qrels, run = {}, {}
    for query, (start, end) in enumerate(itertools.pairwise(offsets)):
        name = f"q{query}"
        qrels[name] = {f"d{row}": int(labels[row]) for row in range(start, end)}
        run[name] = {f"d{row}": scores[row] for row in range(start, end) if scores[row] > -np.inf}
    cuts = {f"{of}.{k}" for of in ("ndcg_cut", "map_cut", "recall")}
    theirs = pytrec_eval.RelevanceEvaluator(qrels, {*cuts, "recip_rank"}).evaluate(run)
    metrics = [
        RankMetric("ndcg", k, "linear"),
        RankMetric("map", k),
        RankMetric("recall", k),
        RankMetric("mrr", 1000),  # trec_eval does not cut it
    ]
    ours = measure(metrics, labels, scores, offsets)
    for name, values in zip((f"ndcg_cut_{k}", f"map_cut_{k}", f"recall_{k}", "recip_rank"), ours, strict=True):
        expected = [theirs[f"q{query}"][name] for query in range(len(values))]
        # Where nothing is relevant, trec_eval has 0.
        np.testing.assert_allclose(np.nan_to_num(values), expected, **CLOSE, err_msg=name)


@pytest.mark.slow
def test_ranx_says_the_same():
    from ranx import metrics as ranx

    random = np.random.default_rng(5)
    queries, documents, retrieved, k = 500, 30, 20, 7
    labels = random.integers(0, 4, (queries, documents)).astype(float)
    labels[:, 0] = 1.0  # where nothing is relevant it has 0
    scores = random.permutation(queries * documents).reshape(queries, documents).astype(float)

    def as_ranx_has_them(values, most):
        order = np.argsort(-values, axis=1)[:, :most]
        return np.stack([order.astype(float), np.take_along_axis(values, order, axis=1)], axis=2)

    qrels, run = as_ranx_has_them(labels, documents), as_ranx_has_them(scores, retrieved)
    scores[scores < run[:, -1:, 1]] = -np.inf
    pairs = {
        RankMetric("ndcg", k, "linear"): ranx.ndcg,
        RankMetric("ndcg", k, "exp"): ranx.ndcg_burges,
        RankMetric("mrr", k): ranx.reciprocal_rank,
        RankMetric("map", k): ranx.average_precision,
        RankMetric("recall", k): ranx.recall,
    }
    offsets = np.arange(0, labels.size + 1, documents)
    ours = measure(list(pairs), labels.ravel(), scores.ravel(), offsets)
    for (metric, theirs), values in zip(pairs.items(), ours, strict=True):
        np.testing.assert_allclose(values, theirs(qrels, run, k), **CLOSE, err_msg=str(metric))


def with_ties(seed=0):
    labels, scores, offsets = judged(np.random.default_rng(seed), 300, 40, 0.1)
    return labels, np.floor(scores / 1000), offsets


ALL = [
    RankMetric(kind, k, ties=ties)
    for kind, k, ties in itertools.product(KINDS, (1, 5, 20, 100), ("average", "pessimistic"))
]


def test_metrics_measured_together_are_those_measured_one_by_one():
    labels, scores, offsets = with_ties()
    for metric, values in zip(ALL, measure(ALL, labels, scores, offsets), strict=True):
        # Down to another depth, sums may end in another bit.
        np.testing.assert_allclose(measure([metric], labels, scores, offsets)[0], values, **CLOSE)


def test_ndcg_is_that_of_its_own_module():
    labels, scores, offsets = with_ties()
    for gain, ties in itertools.product(("exp", "linear", TABLE), ("average", "pessimistic")):
        (found,) = measure([RankMetric("ndcg", 10, gain, ties)], labels, scores, offsets)
        np.testing.assert_array_equal(found, ndcg.ndcg(labels, scores, offsets, 10, gain, ties))


def test_no_order_of_the_input_matters():
    labels, scores, offsets = with_ties()
    random = np.random.default_rng(1)
    queries = random.permutation(len(offsets) - 1)
    rows = [random.permutation(np.arange(offsets[q], offsets[q + 1])) for q in queries]
    moved = np.concatenate([[0], np.cumsum([len(of_query) for of_query in rows])])
    rows = np.concatenate(rows)
    expected = measure(ALL, labels, scores, offsets)
    for before, after in zip(expected, measure(ALL, labels[rows], scores[rows], moved), strict=True):
        np.testing.assert_allclose(after, before[queries], **CLOSE)


def test_only_the_order_of_the_scores_matters():
    labels, scores, offsets = with_ties()
    expected = measure(ALL, labels, scores, offsets)
    for transformed in (scores * 8 - 3, scores**3, scores.astype(np.float32)):
        np.testing.assert_array_equal(measure(ALL, labels, transformed, offsets), expected)


@given(st.integers(1, 40), st.data())
def test_constant_scores_earn_what_a_random_order_earns(size, data):
    relevant = data.draw(st.integers(1, size))
    k = data.draw(st.integers(1, 50))
    labels = np.zeros(size)
    labels[:relevant] = 1
    metrics = [RankMetric(kind, k) for kind in ("mrr", "map", "recall")]
    ((mrr,), (precision,), (recall,)) = measure(metrics, labels, np.zeros(size), [0, size])
    ranks = range(1, min(k, size) + 1)
    first_at = [math.comb(size - rank, relevant - 1) / math.comb(size, relevant) for rank in ranks]
    assert mrr == pytest.approx(sum(p / rank for p, rank in zip(first_at, ranks, strict=True)), abs=1e-12)
    others = (relevant - 1) / (size - 1) if size > 1 else 0
    expected = sum((1 + (rank - 1) * others) / rank for rank in ranks) / size
    assert precision == pytest.approx(expected, abs=1e-12)
    assert recall == pytest.approx(len(ranks) / size, abs=1e-12)


def test_a_long_tie_is_measured_without_overflow():
    size = 200_000
    labels = np.zeros(size)
    labels[::2] = 1
    found = measure([RankMetric(kind, 100_000) for kind in KINDS], labels, np.zeros(size), [0, size])
    assert np.isfinite(found).all()
    assert found[1][0] == pytest.approx(math.log(2), abs=1e-4)  # the sum of 2^-r / r
    assert found[3][0] == pytest.approx(0.5)


def test_a_second_ranking_is_measured_as_if_it_were_the_first():
    labels, scores, offsets = with_ties()
    both = Judged(labels, offsets)
    for ranking in (scores, -np.abs(scores), scores[::-1].copy()):
        np.testing.assert_array_equal(both.measure(ALL, ranking), measure(ALL, labels, ranking, offsets))
    some = [RankMetric("ndcg", 3, "linear"), ALL[0], RankMetric("map", 7, relevant_from=3)]
    np.testing.assert_array_equal(both.measure(some, scores), measure(some, labels, scores, offsets))


def test_an_error_leaves_nothing_half_known():
    both = Judged([1, 0, 5, 1], [0, 2, 4])
    metric = RankMetric("ndcg", 2, ((0.0, 0.0), (1.0, 1.0)))
    for _ in range(2):
        with pytest.raises(ValueError, match="the label 5 has no gain"):
            both.measure([metric], [1, 2, 3, 4])
    with pytest.raises(ValueError, match="a score is NaN"):
        both.measure([RankMetric("mrr", 2)], [1, 2, math.nan, 4])
    np.testing.assert_array_equal(both.measure([RankMetric("mrr", 2)], [1, 2, 3, 4]), [[0.5, 1.0]])


def test_labels_are_looked_at_for_every_metric():
    for kind in KINDS:
        with pytest.raises(ValueError, match="a label is negative or not finite"):
            measure([RankMetric(kind, 1)], [1, math.nan], [1, 2], [0, 2])


def test_queries_of_which_nothing_is_relevant_are_nan():
    metrics = [RankMetric(kind, 10, empty_queries="zero") for kind in KINDS]
    for values in measure(metrics, [0, 0, 1], [2, 1, 1], [0, 0, 2, 3]):
        np.testing.assert_array_equal(values, [np.nan, np.nan, 1.0])


def test_a_query_that_was_not_answered_has_0():
    for values in measure(ALL, [1, 1], [-math.inf, -math.inf], [0, 2]):
        assert values[0] == 0


def test_no_metric_is_no_figure():
    assert measure([], [1], [1], [0, 1]) == []


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("ndcg@10", ("ndcg", 10)),
        ("ndcg_at_10", ("ndcg", 10)),
        ("val_ndcg@10", ("ndcg", 10)),
        ("val_ndcg_at_10", ("ndcg", 10)),
        ("mrr@5", ("mrr", 5)),
        ("map@100", ("map", 100)),
        ("recall_at_50", ("recall", 50)),
        ("ndcg@1", ("ndcg", 1)),
        ("ndcg@100000", ("ndcg", 100_000)),
        ("ndcg@100001", None),
        ("ndcg@0", None),
        ("ndcg@010", None),
        ("ndcg@-1", None),
        ("ndcg@1.5", None),
        ("ndcg@", None),
        ("ndcg", None),
        ("ndcg10", None),
        ("ndcg@10\n", None),
        (" ndcg@10", None),
        ("ndcg@\u0661\u0660", None),  # digits, of another script
        ("test_ndcg@10", None),
        ("val_val_ndcg@10", None),
        ("precision@10", None),
        ("latency_ms", None),
        ("", None),
    ],
)
def test_a_name_says_kind_and_k_or_is_another_metric(name, parsed):
    assert parse_name(name) == parsed


@given(metrics_)
def test_a_metrics_own_name_is_parsed(metric):
    assert parse_name(metric.name) == (metric.kind, metric.k)


def test_options_say_all_that_the_value_depends_on():
    assert RankMetric("ndcg", 10).options() == {"gain": "exp", "ties": "average", "empty-queries": "skip"}
    table = RankMetric("ndcg", 10, ((2.0, 0.1), (0, 0), (1, 1e22)), "pessimistic", empty_queries="zero").options()
    assert table == {"gain": "0=0; 1=1e+22; 2=0.1", "ties": "pessimistic", "empty-queries": "zero"}
    assert RankMetric("map", 5, "linear", relevant_from=2).options() == {
        "relevant-from": "2",
        "ties": "average",
        "empty-queries": "skip",
    }


def test_equal_tables_are_equal_metrics():
    one, other = RankMetric("ndcg", 10, ((1, 2), (0, 0))), RankMetric("ndcg", 10, ((0.0, 0.0), (1.0, 2.0)))
    assert (one, hash(one), one.options()) == (other, hash(other), other.options())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"k": 0}, "k is 0"),
        ({"k": 100_001}, "k is 100001"),
        ({"relevant_from": math.nan}, "relevant-from"),
        ({"relevant_from": math.inf}, "relevant-from"),
        ({"gain": ((0.0, -1.0),)}, "not negative"),
        ({"gain": ((-1.0, 1.0),)}, "not negative"),
        ({"gain": ((0.0, math.inf),)}, "finite"),
        ({"gain": ((0.0, math.nan),)}, "finite"),
        ({"gain": ((1.0, 1.0), (1, 2.0))}, "twice"),
    ],
)
def test_numbers_that_make_no_metric_are_an_error(options, said):
    with pytest.raises(ValueError, match=said):
        RankMetric(**{"kind": "ndcg", "k": 10} | options)
