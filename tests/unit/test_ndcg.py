"""NDCG per query, against the definition, against scikit-learn, and against itself in another order."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import ndcg_score

from champion_gate import ndcg as module
from champion_gate.ndcg import ndcg

CLOSE = {"rtol": 0, "atol": 1e-12}
TABLE = ((0.0, 0.0), (1.0, 3.0), (2.0, 2.0), (3.0, 10.0), (4.0, 0.5))  # a higher label may gain less

pytestmark = pytest.mark.filterwarnings("error::RuntimeWarning")


def gain_of(label, gain):
    if gain == "exp":
        return 2.0**label - 1
    return label if gain == "linear" else dict(gain)[label]


def by_definition(labels, scores, k, gain, ties):
    """NDCG@k of one query over every order of its ties; NaN where nothing is gained."""
    gains = [gain_of(label, gain) for label in labels]
    ideal = sum(g / math.log2(rank + 2) for rank, g in enumerate(sorted(gains, reverse=True)[:k]))
    if not ideal:
        return math.nan
    retrieved = [i for i, score in enumerate(scores) if score > -math.inf]
    levels = sorted({scores[i] for i in retrieved}, reverse=True)
    orders = [itertools.permutations([i for i in retrieved if scores[i] == level]) for level in levels]
    reached = [
        sum(gains[i] / math.log2(rank + 2) for rank, i in enumerate(list(itertools.chain(*order))[:k]))
        for order in itertools.product(*orders)
    ]
    return (min(reached) if ties == "pessimistic" else math.fsum(reached) / len(reached)) / ideal


def joined(queries):
    """Queries, pairs of labels and scores of each, as three arrays."""
    labels = np.array([label for query in queries for label in query[0]], dtype=np.float64)
    scores = np.array([score for query in queries for score in query[1]], dtype=np.float64)
    return labels, scores, np.cumsum([0, *(len(query[0]) for query in queries)])


def a_query(scores, most=5):
    pairs = st.lists(st.tuples(st.integers(0, 4), scores), max_size=most)
    return pairs.map(lambda rows: ([float(row[0]) for row in rows], [float(row[1]) for row in rows]))


few_scores = st.sampled_from([-math.inf, -1.0, 0.0, -0.0, 0.5, 2.0])
finite_scores = st.one_of(st.integers(-3, 3), st.floats(-1e300, 1e300))


@given(
    st.lists(a_query(few_scores), max_size=6),
    st.integers(1, 7),
    st.sampled_from(["exp", "linear", TABLE]),
    st.sampled_from(["average", "pessimistic"]),
)
def test_it_is_what_the_definition_says_over_all_orders_of_ties(queries, k, gain, ties):
    expected = [by_definition(*query, k, gain, ties) for query in queries]
    np.testing.assert_allclose(ndcg(*joined(queries), k, gain, ties), expected, **CLOSE)


@given(st.lists(a_query(finite_scores, most=40), min_size=1, max_size=8), st.integers(1, 50))
def test_it_agrees_with_scikit_learn(queries, k):
    for gain in ("exp", "linear"):
        for (labels, scores), found in zip(queries, ndcg(*joined(queries), k, gain), strict=True):
            gains = [gain_of(label, gain) for label in labels]
            if not any(gains):
                assert math.isnan(found)
            elif len(labels) == 1:
                assert found == 1  # scikit-learn refuses these
            else:
                assert found == pytest.approx(ndcg_score([gains], [scores], k=k), rel=0, abs=1e-12)


@pytest.mark.parametrize(("gain", "expected"), [("linear", 0.960808), ("exp", 0.948811)])
def test_it_has_the_figures_of_the_textbook(gain, expected):
    found = ndcg([3, 2, 3, 0, 1, 2], [6, 5, 4, 3, 2, 1], [0, 6], gain=gain)
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_table_gains_what_it_says():
    # The best is 10 and 3; the label 1 at rank 1 and the label 3 at rank 2 gain 3 and 10.
    expected = (3 + 10 / math.log2(3)) / (10 + 3 / math.log2(3))
    assert ndcg([1, 3, 0], [3, 2, 1], [0, 3], gain=TABLE) == pytest.approx(expected)


def some_queries(seed=0, queries=300, most=40, levels=None):
    random = np.random.default_rng(seed)
    sizes = random.integers(0, most, queries)
    offsets = np.concatenate([[0], np.cumsum(sizes)])
    scores = random.standard_normal(offsets[-1])
    if levels:
        scores = np.round(scores * levels) / levels
    return random.integers(0, 5, offsets[-1]).astype(float), scores, offsets


@pytest.mark.parametrize("levels", [None, 2])
@pytest.mark.parametrize("ties", ["average", "pessimistic"])
def test_no_order_of_the_input_matters(levels, ties):
    labels, scores, offsets = some_queries(levels=levels)
    expected = ndcg(labels, scores, offsets, ties=ties)
    random = np.random.default_rng(1)
    queries = random.permutation(len(offsets) - 1)
    rows = [random.permutation(np.arange(offsets[q], offsets[q + 1])) for q in queries]
    moved = np.concatenate([[0], np.cumsum([len(of_query) for of_query in rows])])
    rows = np.concatenate(rows)
    np.testing.assert_allclose(ndcg(labels[rows], scores[rows], moved, ties=ties), expected[queries], **CLOSE)


@pytest.mark.parametrize("levels", [None, 2])
def test_only_the_order_of_the_scores_matters(levels):
    labels, scores, offsets = some_queries(levels=levels)
    expected = ndcg(labels, scores, offsets)
    for transformed in (scores * 8 - 3, np.exp(scores), np.arctan(scores), scores.astype(np.float32)):
        np.testing.assert_array_equal(ndcg(labels, transformed, offsets), expected)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=30), st.integers(1, 40))
def test_constant_scores_earn_what_a_random_order_earns(labels, k):
    gains = np.exp2(labels) - 1
    discounts = 1 / np.log2(np.arange(2, len(labels) + 2))[:k]
    found = ndcg(labels, np.full(len(labels), 7.0), [0, len(labels)], k)
    if gains.any():
        ideal = (np.sort(gains)[::-1][:k] * discounts).sum()
        assert found == pytest.approx(gains.mean() * discounts.sum() / ideal, abs=1e-12)
    else:
        assert np.isnan(found)


@pytest.mark.parametrize("gain", ["exp", "linear", TABLE])
@pytest.mark.parametrize("ties", ["average", "pessimistic"])
def test_the_best_ranking_has_exactly_1(gain, ties):
    labels, _, offsets = some_queries()
    best = np.array([gain_of(label, gain) for label in labels])
    found = ndcg(labels, best, offsets, gain=gain, ties=ties)
    assert set(found[~np.isnan(found)]) == {1.0}


@given(st.lists(st.floats(0, 1000), min_size=1, max_size=30), st.sampled_from([1, 5, 10]))
def test_it_lies_between_0_and_1_whatever_rounding_does(labels, k):
    for gain in ("exp", "linear"):
        for scores in (labels, np.zeros(len(labels)), -np.array(labels)):
            found = ndcg(labels, scores, [0, len(labels)], k, gain)
            assert np.isnan(found) or 0 <= found <= 1


def test_queries_without_gain_are_nan():
    found = ndcg([0, 0, 1], [3, 2, 1], [0, 0, 2, 2, 3, 3])
    np.testing.assert_array_equal(found, [np.nan, np.nan, np.nan, 1.0, np.nan])


@pytest.mark.parametrize("offsets", [[0], [0, 0], [0, 0, 0]])
def test_no_rows_are_no_figures(offsets):
    np.testing.assert_array_equal(ndcg([], [], offsets), np.full(len(offsets) - 1, np.nan))


def test_documents_that_were_not_retrieved_gain_nothing_and_take_no_rank():
    lost = ndcg([3, 1, 2], [-np.inf, 2.0, 1.0], [0, 3], k=10)
    ideal = 7 + 3 / math.log2(3) + 1 / 2
    assert lost == pytest.approx((1 + 3 / math.log2(3)) / ideal)
    nothing = ndcg([3, 1, 1, 0], [-np.inf, -np.inf, 1.0, 2.0], [0, 2, 4])
    np.testing.assert_allclose(nothing, [0.0, 1 / math.log2(3)], **CLOSE)


@pytest.mark.parametrize("levels", [None, 50, 2])
def test_finding_the_best_first_is_as_good_as_sorting_all(monkeypatch, levels):
    labels, scores, offsets = some_queries(queries=50, most=600, levels=levels)
    scores[::3] = -np.inf
    scores[offsets[3] : offsets[4]] = -np.inf
    for ties in ("average", "pessimistic"):
        monkeypatch.setattr(module, "_SORTED_WHOLE", 256)
        found = ndcg(labels, scores, offsets, ties=ties)
        monkeypatch.setattr(module, "_SORTED_WHOLE", 1000)
        np.testing.assert_allclose(found, ndcg(labels, scores, offsets, ties=ties), **CLOSE)


def test_a_tie_of_two_at_the_cut_is_found_among_thousands():
    random = np.random.default_rng(2)
    size, k = 3000, 10
    scores = np.array([random.permutation(size) for _ in range(50)]).astype(float)
    scores[scores == size - k - 1] = size - k  # ranks 10 and 11 share a score
    labels = (scores == size - k).astype(float)
    labels[:, ::2] *= 3
    gains = np.sort(2**labels - 1, axis=1)[:, :-3:-1]
    ideal = gains @ (1 / np.log2([2, 3]))
    found = ndcg(labels.ravel(), scores.ravel(), np.arange(0, labels.size + 1, size), k)
    np.testing.assert_allclose(found, gains.mean(axis=1) / math.log2(k + 1) / ideal, **CLOSE)


@pytest.mark.parametrize("levels", [None, 2])
@pytest.mark.parametrize("rows", [1, 7, 64])
def test_the_size_of_blocks_changes_nothing(monkeypatch, levels, rows):
    labels, scores, offsets = some_queries(levels=levels)
    scores[::7] = -np.inf
    expected = ndcg(labels, scores, offsets)
    monkeypatch.setattr(module, "_BLOCK_ROWS", rows)
    np.testing.assert_array_equal(ndcg(labels, scores, offsets), expected)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("size", [1, 3, 100, 1000])
def test_a_score_that_is_no_number_is_an_error_wherever_it_is(bad, size):
    for place in {0, size // 2, size - 1}:
        scores = np.linspace(0, 1, 3 * size)
        scores[size + place] = bad
        scores[size + (place + 1) % size] = bad if size == 1 else -np.inf
        with pytest.raises(ValueError, match="a score is NaN or infinite"):
            ndcg(np.ones(3 * size), scores, np.arange(0, 3 * size + 1, size), k=1)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, -1.0, -1e-300])
def test_a_label_that_is_no_judgement_is_an_error(bad):
    for place in range(3):
        labels = np.array([0.0, 1.0, 2.0])
        labels[place] = bad
        with pytest.raises(ValueError, match="a label is negative or not finite"):
            ndcg(labels, [1, 2, 3], [0, 3], k=1)


@pytest.mark.parametrize("ties", ["average", "pessimistic"])
def test_the_largest_gains_are_summed_without_overflow(ties):
    labels, offsets = np.full(1000, 1023.0), [0, 1000]
    for scores in (np.arange(1000.0), np.zeros(1000)):
        assert ndcg(labels, scores, offsets, ties=ties) == pytest.approx(1.0, abs=1e-12)


def test_a_gain_that_cannot_be_summed_is_an_error():
    with pytest.raises(ValueError, match=r"2\^1024 - 1, the exponential gain"):
        ndcg([0, 1024], [2, 1], [0, 2], k=1)
    with pytest.raises(ValueError, match="the gain 1e\\+300 is too large"):
        ndcg([0, 1e300], [2, 1], [0, 2], k=1, gain="linear")
    with pytest.raises(ValueError, match="the gain 1e\\+300 is too large"):
        ndcg([0, 1], [2, 1], [0, 2], k=1, gain=((0.0, 0.0), (1.0, 1e300)))


@pytest.mark.parametrize("table", [(), ((0.0, 0.0), (1.0, 1.0)), ((1.0, 1.0), (3.0, 3.0))])
def test_a_label_without_a_gain_is_named(table):
    missing = 0.5 if table else 0
    labels = [1.0, 1.0, missing] if table else [0.0, 0.0]
    with pytest.raises(ValueError, match=f"the label {missing:g} has no gain"):
        ndcg(labels, np.arange(len(labels)), [0, len(labels)], k=1, gain=table)


def test_whole_labels_gain_exactly_what_they_should():
    labels = np.arange(1024.0)
    whole = module.gains(labels, "exp") / module._EXP_SCALE
    assert all(gain == float(2**label - 1) for label, gain in enumerate(whole))


@pytest.mark.parametrize(
    ("labels", "scores", "offsets", "said"),
    [
        ([1, 2], [1], [0, 2], "1 scores for 2 labels"),
        ([[1, 2]], [1, 2], [0, 2], "labels have the shape"),
        ([1, 2], [[1, 2]], [0, 2], "scores have the shape"),
        ([1, 2], [1, 2], [], "offsets have the shape"),
        ([1, 2], [1, 2], [[0, 2]], "offsets have the shape"),
        ([1, 2], [1, 2], [0, 1], "offsets do not rise"),
        ([1, 2], [1, 2], [1, 2], "offsets do not rise"),
        ([1, 2], [1, 2], [0, 3, 2], "offsets do not rise"),
        ([1, 2], [1, 2], [0, 2, 1, 2], "offsets do not rise"),
    ],
)
def test_arrays_that_do_not_fit_are_an_error(labels, scores, offsets, said):
    with pytest.raises(ValueError, match=said):
        ndcg(labels, scores, offsets)


def test_ranks_start_at_1():
    with pytest.raises(ValueError, match="k is 0"):
        ndcg([1], [1], [0, 1], k=0)


def test_arrays_that_must_not_be_written_are_read():
    labels, scores, offsets = some_queries(levels=2)
    copies = labels.copy(), scores.copy()
    for array in (labels, scores, offsets):
        array.flags.writeable = False
    ndcg(labels, scores, offsets, gain=TABLE, ties="pessimistic")
    np.testing.assert_array_equal((labels, scores), copies)
