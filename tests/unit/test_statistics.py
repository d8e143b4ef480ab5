"""Sufficient statistics: the same from parts as from the whole, and exact where rounding could decide."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as of_numpy

from champion_gate.statistics import Moments, PairMoments, by_group, holm

figures = st.floats(0, 1, width=32)
pairs = st.integers(1, 60).flatmap(lambda n: of_numpy.arrays(np.float64, (2, n), elements=figures))


def close(one, other):
    for name in ("n", "wins", "ties", "losses", "min_e", "max_e"):
        assert getattr(one, name) == getattr(other, name)
    for name in ("mean_p", "mean_e", "m2_p", "m2_e", "c_pe"):
        assert getattr(one, name) == pytest.approx(getattr(other, name), rel=1e-9, abs=1e-11)


@given(pairs, st.data())
def test_parts_merge_to_the_whole_in_any_cut(sides, data):
    p, c = sides
    cut = data.draw(st.integers(0, len(p)))
    close(PairMoments.of(p[:cut], c[:cut]) + PairMoments.of(p[cut:], c[cut:]), PairMoments.of(p, c))
    one = Moments.of(p[:cut]) + Moments.of(p[cut:])
    whole = Moments.of(p)
    assert (one.n, one.mean, one.m2) == pytest.approx((whole.n, whole.mean, whole.m2), rel=1e-9, abs=1e-11)


@given(pairs, st.floats(0, 0.5))
def test_the_loss_beyond_a_margin_is_that_of_the_differences_themselves(sides, share):
    p, c = sides
    d = c - (1 - share) * p
    mean, variance = PairMoments.of(p, c).loss_beyond(share)
    assert mean == pytest.approx(d.mean(), abs=1e-11)
    assert variance == pytest.approx(d.var(ddof=1) if len(d) > 1 else 0.0, abs=1e-11)


@given(pairs, st.data())
def test_groups_are_what_each_group_is_alone(sides, data):
    p, c = sides
    groups = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(p), max_size=len(p))))
    for g, found in enumerate(by_group(p, c, groups, 4)):
        close(found, PairMoments.of(p[groups == g], c[groups == g]))


def test_wins_ties_and_losses_are_counted_up_to_rounding():
    p = np.array([0.5, 0.5, 0.5, 0.3])
    found = PairMoments.of(p, np.array([0.6, 0.4, 0.5 + 1e-16, 0.1 + 0.2]))
    assert (found.wins, found.ties, found.losses) == (1, 2, 1)


def test_equal_sides_have_no_variance_and_no_loss():
    p = np.random.default_rng(1).random(500)
    assert PairMoments.of(p, p).loss_beyond(0.0) == (0.0, 0.0)


def test_a_loss_of_just_the_margin_on_every_query_is_no_loss_beyond_it():
    p = np.random.default_rng(1).random(500)
    assert PairMoments.of(p, 0.98 * p).loss_beyond(0.02) == (0.0, 0.0)


def test_small_differences_of_large_figures_do_not_cancel():
    rng = np.random.default_rng(1)
    p = 1e6 + rng.random(1000)
    e = 1e-3 * rng.standard_normal(1000)
    _, variance = PairMoments.of(p, p + e).loss_beyond(0.0)
    assert variance == pytest.approx(((p + e) - p).var(ddof=1), rel=1e-9)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_figure_that_is_none_is_refused(bad):
    with pytest.raises(ValueError, match="finite"):
        PairMoments.of(np.array([0.5, bad]), np.array([0.5, 0.5]))
    with pytest.raises(ValueError, match="figures"):
        PairMoments.of(np.array([0.5]), np.array([0.5, 0.5]))


def test_holm_is_the_textbook_example():
    # Holm 1979: sorted against alpha/m, alpha/(m-1), ...; the first that is too large ends it.
    assert holm([0.01, 0.04, 0.03, 0.005], 0.05) == [True, False, False, True]
    assert holm([], 0.05) == []
    assert holm([0.05], 0.05) == [True]
    assert holm([0.024, 0.026], 0.05) == [True, True]
    assert holm([0.026, 0.026], 0.05) == [False, False]
