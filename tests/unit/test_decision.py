"""The rule that decides a release."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from champion_gate import policy
from champion_gate.decision import Basis, Evidence, Outcome, Side, decide
from champion_gate.errors import BadInput

METRIC = "val_ndcg_at_10"


def side(value, version="2", data="d1", evaluation=None, problem=None, name=METRIC):
    metrics = {} if value is None else {name: value}
    return Side(version, metrics, data, evaluation, problem)


def judge(challenger, champion, threshold=None, margin=0.02, **options):
    return decide(policy.from_inputs(METRIC, threshold, margin, **options), Evidence(challenger, champion))


@pytest.mark.parametrize(
    ("now", "was", "margin", "outcome"),
    [
        (0.80, 0.80, 0.02, Outcome.PASSED),
        (0.784, 0.80, 0.02, Outcome.PASSED),  # exactly the margin, which binary fractions miss
        (0.7839, 0.80, 0.02, Outcome.FAILED),
        (0.9, 0.8, 0.0, Outcome.PASSED),
        (0.8, 0.8, 0.0, Outcome.PASSED),
        (0.7999, 0.8, 0.0, Outcome.FAILED),
        (0.3, 0.1, 0.02, Outcome.PASSED),
        (0.0, 0.1, 0.02, Outcome.FAILED),
    ],
)
def test_at_most_the_margin_may_be_lost(now, was, margin, outcome):
    decision = judge(side(now), side(was, "1"), margin=margin)
    assert decision.outcome is outcome
    assert decision.basis is Basis.POINT_ESTIMATE
    assert decision.reason


@given(st.floats(0.001, 1), st.floats(0, 1), st.floats(0, 0.5))
def test_better_always_passes_and_the_rule_is_monotone(was, now, margin):
    outcome = judge(side(now), side(was, "1"), margin=margin).outcome
    if now >= was:
        assert outcome is Outcome.PASSED
    if now < (1 - margin) * was - 1e-12:
        assert outcome is Outcome.FAILED


@given(st.floats(allow_nan=True, allow_infinity=True), st.floats(allow_nan=True, allow_infinity=True))
def test_no_pair_of_floats_passes_unless_both_are_ndcgs(now, was):
    passed = judge(side(now), side(was, "1"), margin=0.5).outcome is Outcome.PASSED
    if passed:
        assert 0 <= now <= 1
        assert 0 < was <= 1


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1.2, -0.1])
def test_a_challengers_figure_that_cannot_be_fails(value):
    for champion in (None, side(0.5, "1")):
        decision = judge(side(value), champion, threshold=0.1)
        assert decision.outcome is Outcome.FAILED
        assert METRIC in decision.reason


@pytest.mark.parametrize("value", [None, math.nan, math.inf, 1.2, 0.0])
def test_a_champions_figure_that_cannot_be_leaves_it_open(value):
    decision = judge(side(0.9), side(value, "1"), threshold=0.5)
    assert decision.outcome is Outcome.INCONCLUSIVE


def test_a_missing_metric_never_passes_and_the_ones_there_are_named():
    decision = judge(side(0.9, name="val_mrr"), None, threshold=0.5)
    assert decision.outcome is Outcome.FAILED
    assert "val_mrr" in decision.reason
    decision = judge(side(0.9), side(0.9, "1", name="val_mrr"))
    assert decision.outcome is Outcome.INCONCLUSIVE
    assert "val_mrr" in decision.reason


def test_a_first_release_is_decided_by_the_threshold_alone():
    assert judge(side(0.8), None, threshold=0.8).outcome is Outcome.PASSED
    assert judge(side(0.79), None, threshold=0.8).outcome is Outcome.FAILED
    assert judge(side(0.8), None, threshold=0.8).first_release


def test_no_champion_and_no_threshold_is_bad_input_that_names_the_threshold():
    with pytest.raises(BadInput, match="threshold"):
        judge(side(0.99), None)


def test_threshold_and_champion_must_both_hold():
    assert judge(side(0.8), side(0.7, "1"), threshold=0.9).outcome is Outcome.FAILED
    assert judge(side(0.8), side(0.9, "1"), threshold=0.7).outcome is Outcome.FAILED
    assert judge(side(0.8), side(0.8, "1"), threshold=0.7).outcome is Outcome.PASSED


@pytest.mark.parametrize(
    ("mine", "theirs", "comparable"),
    [
        ({"data": "d1"}, {"data": "d1"}, True),
        ({"data": "d1"}, {"data": "d2"}, False),
        ({"data": "d1", "evaluation": "e"}, {"data": "d2", "evaluation": "e"}, True),
        ({"data": "d1", "evaluation": "e1"}, {"data": "d1", "evaluation": "e2"}, False),
        ({"data": "d1", "evaluation": "e1"}, {"data": "d1"}, False),
        ({"data": "d1"}, {"data": "d1", "evaluation": "e1"}, False),
        ({"data": None}, {"data": None}, False),
        ({"data": None}, {"data": "d1"}, False),
    ],
)
def test_the_same_data_or_no_comparison(mine, theirs, comparable):
    decision = judge(side(0.9, **mine), side(0.5, "1", **theirs))
    assert decision.outcome is (Outcome.PASSED if comparable else Outcome.INCONCLUSIVE)
    lifted = judge(side(0.9, **mine), side(0.5, "1", **theirs), allow_different_data=True)
    assert lifted.outcome is Outcome.PASSED


def test_different_data_does_not_soften_a_failed_threshold():
    assert judge(side(0.2, data="x"), side(0.5, "1"), threshold=0.5).outcome is Outcome.FAILED


def test_a_problem_of_a_side_is_its_reason():
    assert judge(side(0.9, problem="its run ended FAILED."), side(0.1, "1")).outcome is Outcome.FAILED
    assert judge(side(0.9), side(0.1, "1", problem="gone.")).outcome is Outcome.INCONCLUSIVE


def test_another_metric_than_an_ndcg_may_be_above_one():
    asked = policy.from_inputs("clicks", 10, 0.02)
    decision = decide(asked, Evidence(side(120, name="clicks"), side(100, "1", name="clicks")))
    assert decision.outcome is Outcome.PASSED


@pytest.mark.parametrize(
    ("threshold", "margin", "named"),
    [(math.nan, 0.02, "threshold"), (80, 0.02, "threshold"), (-1, 0.02, "threshold"), (math.inf, 0.02, "threshold")]
    + [(0.5, value, "max-regression") for value in (-0.1, 1.0, 2, math.nan, math.inf)],
)
def test_a_policy_that_cannot_be_is_refused_by_the_inputs_name(threshold, margin, named):
    with pytest.raises(BadInput, match=named):
        policy.from_inputs(METRIC, threshold, margin)


def test_equal_demands_have_equal_digests():
    assert policy.from_inputs("val_ndcg@10", 0.5, 0.02).digest() == policy.from_inputs(METRIC, 0.5, 0.02).digest()
    assert policy.from_inputs(METRIC, 0.5, 0.02).digest() != policy.from_inputs(METRIC, 0.5, 0.03).digest()
