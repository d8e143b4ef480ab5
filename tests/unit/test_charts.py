"""Charts count what they draw, say it in words, and keep the texts of others where they belong."""

import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from champion_gate import charts
from champion_gate.charts import Scale, Span
from champion_gate.statistics import TIE

SVG = "{http://www.w3.org/2000/svg}"
differences = (
    st.lists(st.one_of(st.just(0.0), st.floats(-1, 1)), max_size=300)
    .map(np.array)
    .map(lambda values: values.astype(np.float64))
)


def parsed(svg):
    return ET.fromstring(svg.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1))


def interval(span, asked=0.98, *, even=1.0, at_most=False, title="ndcg@10"):
    labels = ("found", "asked", "equal")
    return charts.interval_chart(
        span,
        even=even,
        asked=asked,
        at_most=at_most,
        outcome="passed",
        labels=labels,
        title=title,
        description="in words",
        id_="i",
    )


def places(svg, class_, key="x1"):
    found = [e for e in parsed(svg).iter() if class_ in (e.get("class") or "").split()]
    return [float(e.get(key).rstrip("%")) for e in found]


# -- counts


@given(differences)
def test_every_query_is_won_lost_or_tied_and_ties_are_in_no_bin(values):
    shown = charts.histogram(values)
    assert shown.n == len(values)
    assert sum(shown.counts) == shown.wins + shown.losses
    assert (shown.wins, shown.losses) == ((values > TIE).sum(), (values < -TIE).sum())


@given(differences)
def test_losses_are_left_of_zero_and_wins_right_of_it(values):
    shown = charts.histogram(values)
    half = len(shown.counts) // 2
    assert shown.edges[half] == 0
    assert shown.edges == tuple(-edge for edge in reversed(shown.edges))
    assert sum(shown.counts[:half]) == shown.losses
    assert sum(shown.counts[half:]) == shown.wins


@given(differences.filter(lambda values: len(values) > 0))
def test_bins_cover_what_they_do_not_call_open(values):
    shown = charts.histogram(values)
    assert shown.beyond[0] or values.min() >= shown.edges[0] - 1e-12
    assert shown.beyond[1] or values.max() <= shown.edges[-1] + 1e-12
    assert len(shown.labels()) == len(shown.counts)


def test_a_bin_holds_its_lower_edge_in_size():
    shown = charts.histogram(np.array([-1e-9, 1e-9, -1.0, 1.0, 0.3]), bins_a_side=2)
    assert shown.edges == (-1.0, -0.5, 0.0, 0.5, 1.0)
    assert shown.counts == (1, 1, 2, 1)


def test_one_query_that_collapsed_does_not_press_all_others_into_one_bin():
    rng = np.random.default_rng(0)
    shown = charts.histogram(np.append(rng.normal(0, 0.01, 5000), -1.0))
    assert shown.edges[-1] < 0.1
    assert shown.beyond == (True, shown.beyond[1])
    assert shown.counts[0] >= 1
    assert shown.labels()[0].startswith("below")


@pytest.mark.parametrize("values", [[], [0.0, 0.0, 1e-15]])
def test_without_a_difference_there_is_a_chart_all_the_same(values):
    shown = charts.histogram(np.array(values, dtype=np.float64))
    assert sum(shown.counts) == 0
    assert shown.ties == len(values)
    parsed(charts.histogram_chart(shown, title="ndcg@10", id_="h"))
    parsed(charts.shares_chart(shown, title="ndcg@10", id_="w"))


@given(differences, st.integers(1, 20))
def test_extremes_are_those_of_a_full_sort(values, count):
    lost, won = charts.extremes(values, count)
    order = sorted(range(len(values)), key=lambda i: (values[i], i))
    assert lost == [i for i in order if values[i] < -TIE][:count]
    order = sorted(range(len(values)), key=lambda i: (-values[i], i))
    assert won == [i for i in order if values[i] > TIE][:count]


def test_of_equal_differences_the_first_in_the_table_are_shown():
    assert charts.extremes(np.full(1000, -0.5), 3) == ([0, 1, 2], [])


def test_queries_without_a_relevant_document_are_left_out_or_tie():
    champion, challenger = np.array([np.nan, 0.5]), np.array([np.nan, 0.75])
    left_out = charts.differences(champion, challenger, empty_as_zero=False)
    assert (left_out.rows.tolist(), left_out.values.tolist()) == ([1], [0.25])
    tied = charts.differences(champion, challenger, empty_as_zero=True)
    assert (tied.rows.tolist(), tied.values.tolist()) == ([0, 1], [0.0, 0.25])


# -- scales


@given(st.floats(1e-300, 1e300))
def test_rounding_up_is_up_and_not_far(value):
    assert value * (1 - 1e-6) <= charts.rounded_up(value) <= value * 2.6


@pytest.mark.parametrize("value", [0.0, -1.0, float("nan"), float("inf"), 5e-324])
def test_what_has_no_round_step_gets_some_step(value):
    assert charts.rounded_up(value) > 0


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=5))
def test_a_scale_holds_its_values_and_its_ticks(values):
    scale = charts.scale_around(values)
    assert all(scale.holds(value) for value in values)
    ticks = scale.ticks()
    assert 1 <= len(ticks) <= 8
    assert all(-1e-6 <= scale.at(tick) <= 100.000001 for tick in ticks)


def test_a_slice_far_away_does_not_press_the_others_together():
    scale = charts.scale_of_slices([(0.97, 1.01), (-3.0, 40.0)], [1.0, 0.95])
    assert scale.high - scale.low < 0.5
    assert scale.holds(0.95)
    assert scale.holds(1.0)


# -- SVG


def test_an_interval_lies_between_its_bounds_and_the_zone_begins_at_the_margin():
    svg = interval(Span(1.01, 0.99, 1.03))
    (low,), (high,) = places(svg, "interval"), places(svg, "interval", "x2")
    (at,) = places(svg, "point", "cx")
    assert low < at < high
    (zone,), (asked,), (even,) = places(svg, "zone", "x"), places(svg, "asked"), places(svg, "even")
    assert zone == asked < low < even < at


def test_where_less_is_better_the_zone_ends_at_the_margin():
    svg = interval(Span(1.2), 1.1, at_most=True)
    (start,), (width,), (asked,) = places(svg, "zone", "x"), places(svg, "zone", "width"), places(svg, "asked")
    assert (start, width) == (0, asked)


def test_a_point_estimate_has_no_interval_and_looks_different():
    svg = interval(Span(0.99))
    assert places(svg, "interval") == []
    assert len(places(svg, "hollow", "cx")) == 1


@pytest.mark.parametrize("span", [Span(1.0, 1.0, 1.0), Span(1.0), Span(-5.0, -1e9, 1e9), Span(1e300)])
def test_odd_figures_make_a_chart_all_the_same(span):
    parsed(interval(span))
    parsed(interval(span, 1.0))


def test_what_goes_on_beyond_a_forest_plot_has_an_arrow_there():
    def row(*bounds):
        scale = Scale(0.9, 1.1)
        return charts.forest_row(
            Span(*bounds), scale, asked=0.95, outcome="passed", title="de", description="ratio", id_="s"
        )

    assert row(1.0, 0.95, 1.05).count("beyond") == 0
    assert row(1.0, 0.5, 1.05).count("beyond") == 1
    assert row(1.0, 0.5, 5.0).count("beyond") == 2
    assert 'class="point' not in row(0.5, 0.4, 0.6)


def test_a_threshold_is_drawn_for_what_has_no_ends_too():
    for value, threshold in ((12.5, 10.0), (-3.0, 1.0), (0.0, 0.0)):
        parsed(charts.threshold_chart(value, threshold, ends=None, outcome="failed", title="latency", id_="t"))


def test_every_chart_says_what_it_shows():
    shown = charts.histogram(np.array([-0.5, 0.0, 0.25]))
    scale = Scale(0.9, 1.1)
    drawn = [
        interval(Span(1.0, 0.9, 1.1)),
        charts.histogram_chart(shown, title="t", id_="i"),
        charts.shares_chart(shown, title="t", id_="i"),
        charts.forest_row(Span(1, 0.95, 1.05), scale, asked=0.95, outcome="few", title="t", description="d", id_="i"),
        charts.forest_axis(scale, id_="i"),
        charts.threshold_chart(0.5, 0.4, ends=(0, 1), outcome="passed", title="t", id_="i"),
    ]
    for svg in drawn:
        root = parsed(svg)
        assert root.get("role") == "img"
        named = [root.find(f"{SVG}{name}") for name in ("title", "desc")]
        assert root.get("aria-labelledby").split() == [element.get("id") for element in named]
        assert all(element.text for element in named)
    assert "1 lost, 1 tied, 1 won" in drawn[1]


@given(st.text(st.characters(exclude_characters="\ufffe\uffff", exclude_categories=["Cs"]), max_size=60))
def test_texts_of_others_stay_text(text):
    root = parsed(interval(Span(1.0, 0.9, 1.1), title=text + "<script>&\"'"))
    assert [e for e in root.iter() if "script" in e.tag] == []


def test_a_gate_on_run_metrics_draws_without_numpy():
    code = (
        "import sys; sys.modules['numpy'] = None\n"
        "from champion_gate import charts\n"
        "print(charts.threshold_chart(0.8, 0.5, ends=(0, 1), outcome='passed', title='t', id_='i'))"
    )
    scripts = Path(charts.__file__).parents[1]
    ran = subprocess.run([sys.executable, "-c", code], cwd=scripts, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    parsed(ran.stdout.strip())
