"""Charts as inline SVG, and the counts that they draw.

Places along a chart are percentages of its width and heights are CSS pixels, without a viewBox: a chart fills whatever
is there, and its words stay readable on a phone. Colours are the style sheet's, by class. A gate on run metrics alone
has no NumPy, so only what works on figures per query imports it.
"""

from __future__ import annotations

import html
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from champion_gate.statistics import TIE
from champion_gate.text import one_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

MINUS = "\N{MINUS SIGN}"
_BINS_A_SIDE = 20
_TAIL = 0.995
"""The share of the differences that the bins cover at least; what lies beyond is counted in the outermost ones."""
_STEPS = (1, 2, 2.5, 5)
"""Distances between marks on an axis, times a power of ten."""
_WIDTHS = (1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8)
"""Widths of a bin: closer, so that the bars fill the chart."""


# -- counts


@dataclass(frozen=True)
class Differences:
    """Challenger - champion of the queries that are measured: `values`, and the `rows` they have in the table."""

    rows: NDArray[np.int64]
    values: Floats


def differences(champion: Floats, challenger: Floats, *, empty_as_zero: bool) -> Differences:
    """The differences per query, shape (queries,); queries that are NaN on a side are left out, or count as 0."""
    import numpy as np

    found = challenger - champion
    if empty_as_zero:
        found = np.nan_to_num(challenger) - np.nan_to_num(champion)
    rows = np.flatnonzero(np.isfinite(found))
    return Differences(rows, found[rows])


@dataclass(frozen=True)
class Histogram:
    """How many queries differ by how much; those that tie are counted apart.

    Attributes:
        edges: from -limit to limit with 0 in the middle, one more than `counts`.
        counts: queries per bin that won or lost.
        beyond: whether the outermost bins also hold differences beyond their edges, on the left and on the right.
        wins: queries that the challenger serves better, all of them.
        ties: queries without a difference.
        losses: queries that it serves worse.
        mean: of all differences, ties included; 0 without queries.
    """

    edges: tuple[float, ...]
    counts: tuple[int, ...]
    beyond: tuple[bool, bool]
    wins: int
    ties: int
    losses: int
    mean: float

    @property
    def n(self) -> int:
        """How many queries there are."""
        return self.wins + self.ties + self.losses

    def labels(self) -> list[str]:
        """What each bin covers, such as `0.1 to 0.2`."""
        spelled = [plain(edge) for edge in self.edges]
        found = [f"{low} to {high}" for low, high in pairwise(spelled)]
        if self.beyond[0]:
            found[0] = f"below {spelled[1]}"
        if self.beyond[1]:
            found[-1] = f"above {spelled[-2]}"
        return found


def histogram(differences: Floats, bins_a_side: int | None = None) -> Histogram:
    """Counts the differences of each query, shape (queries,), finite; in bins that never straddle 0.

    Args:
        differences: challenger - champion.
        bins_a_side: on each side of 0; fewer for few queries where it is not given.
    """
    import numpy as np

    size = np.abs(differences)
    lost, won = differences < -TIE, differences > TIE
    losses, wins = int(lost.sum()), int(won.sum())
    moved = size[lost | won]
    if bins_a_side is None:
        bins_a_side = min(_BINS_A_SIDE, max(4, math.ceil(math.sqrt(len(moved)) / 1.5)))
    largest = float(moved.max()) if len(moved) else 1.0
    # A single query that collapsed must not press all others into one bin.
    common = float(np.quantile(moved, _TAIL)) if len(moved) else 1.0
    limit = rounded_up((common if largest > 2 * common else largest) / bins_a_side, _WIDTHS) * bins_a_side
    half = np.linspace(0.0, limit, bins_a_side + 1)
    left, _ = np.histogram(np.minimum(size[lost], limit), half)
    right, _ = np.histogram(np.minimum(size[won], limit), half)
    beyond = tuple(bool(len(side) and side.max() > limit) for side in (size[lost], size[won]))
    return Histogram(
        edges=tuple(float(edge) for edge in (*-half[:0:-1], *half)),
        counts=tuple(int(count) for count in (*left[::-1], *right)),
        beyond=(beyond[0], beyond[1]),
        wins=wins,
        ties=len(differences) - wins - losses,
        losses=losses,
        mean=float(differences.mean()) if len(differences) else 0.0,
    )


def extremes(differences: Floats, count: int) -> tuple[list[int], list[int]]:
    """The queries that lost most and those that won most, `count` each at most, the furthest first; ties are neither.

    Of equal differences the first in the table comes first, so that a report can be made again.
    """
    import numpy as np

    def furthest(sign: float) -> list[int]:
        key = sign * differences
        if len(key) > count:
            bound = np.partition(key, count - 1)[count - 1]
            chosen = np.flatnonzero(key <= bound)
        else:
            chosen = np.arange(len(key))
        ordered = chosen[np.argsort(key[chosen], kind="stable")][:count]
        return [int(i) for i in ordered if key[i] < -TIE]

    return furthest(1.0), furthest(-1.0)


# -- scales


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high` along the width of a chart."""

    low: float
    high: float

    def at(self, value: float) -> float:
        """Where a value is, in per cent of the width; values beyond the ends are at the ends."""
        return min(100.0, max(0.0, 100 * (value - self.low) / (self.high - self.low)))

    def holds(self, value: float) -> bool:
        """Whether a value is on it."""
        return self.low <= value <= self.high

    def ticks(self, most: int = 5) -> list[float]:
        """Round values on it, at most about `most`."""
        step = rounded_up((self.high - self.low) / most)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def scale_around(values: Sequence[float], room: float = 0.35) -> Scale:
    """A scale that holds these finite values, with room for words at both ends, as a share of their span."""
    low, high = min(values), max(values)
    span = high - low
    if span <= 1e-12 * max(abs(low), abs(high), 1e-300):
        span = abs(low) * 0.02 or 1.0
    return Scale(low - room * span, high + room * span)


def scale_of_slices(intervals: Sequence[tuple[float, float]], marks: Sequence[float]) -> Scale:
    """One scale for many ratios with their bounds.

    It holds all `marks` (1, the margins) and what the intervals span, as far as that is not far away from them: a
    slice with few queries would press all others together.
    """
    low, high = min(marks), max(marks)
    reach = 3 * max(high - low, 0.02)
    low = min([low, *(max(lower, low - reach) for lower, _ in intervals)])
    high = max([high, *(min(upper, high + reach) for _, upper in intervals)])
    room = 0.06 * (high - low) or 0.05
    return Scale(low - room, high + room)


def rounded_up(value: float, steps: tuple[float, ...] = _STEPS) -> float:
    """The next of `steps` times a power of ten; 1 for what is no positive number."""
    if not (value > 0 and math.isfinite(value)):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    if not power:
        return 1.0
    return next(step * power for step in (*steps, 10, 20) if step * power >= value * (1 - 1e-9))


def plain(value: float) -> str:
    """A number on an axis, with a true minus."""
    return f"{0.0 if abs(value) < 1e-15 else value:.6g}".replace("-", MINUS)


# -- SVG


def element(name: str, *children: str, **attributes: object) -> str:
    """One SVG element; attributes are escaped, children are markup. `class_` is `class`, `_` in names is `-`."""
    given = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(_attribute(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    return f"<{name}{given}>{''.join(children)}</{name}>" if children else f"<{name}{given}/>"


def words(text: str, x: float, y: float, class_: str = "", anchor: str | None = None, dx: float = 0) -> str:
    """A line of text at `x` per cent and `y` pixels. Near the ends it runs inwards, if not told otherwise."""
    if anchor is None:
        anchor = "start" if x < 8 else "end" if x > 92 else "middle"
    place = {"x": f"{x:.2f}%", "y": y, "text_anchor": anchor, "class_": class_ or None, "dx": dx or None}
    return element("text", html.escape(one_line(text, 200)), **place)


def drawing(height: float, title: str, description: str, *parts: str, id_: str, class_: str = "chart") -> str:
    """An SVG as wide as there is room, that says what it shows to those who do not see it."""
    return element(
        "svg",
        element("title", html.escape(one_line(title, 300)), id=f"{id_}-t"),
        element("desc", html.escape(one_line(description, 1000)), id=f"{id_}-d"),
        *parts,
        role="img",
        aria_labelledby=f"{id_}-t {id_}-d",
        width="100%",
        height=height,
        class_=class_,
    )


def _attribute(value: object) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _line(x: float, y1: float, y2: float, class_: str) -> str:
    return element("line", x1=f"{x:.2f}%", x2=f"{x:.2f}%", y1=y1, y2=y2, class_=class_)


def _bar(x1: float, x2: float, y: float, height: float, class_: str, title: str = "") -> str:
    place = {"x": f"{x1:.2f}%", "width": f"{max(0.0, x2 - x1):.2f}%", "y": y, "height": round(height, 2)}
    inside = (element("title", html.escape(title)),) if title else ()
    return element("rect", *inside, class_=class_, **place)


@dataclass(frozen=True)
class Span:
    """What was found: a value and, unless it is a point estimate, its bounds."""

    value: float
    low: float | None = None
    high: float | None = None


def interval_chart(
    span: Span,
    *,
    even: float,
    asked: float,
    at_most: bool,
    outcome: str,
    labels: tuple[str, str, str],
    title: str,
    description: str,
    id_: str,
) -> str:
    """A ratio or difference with its bounds against the margin: a line where both sides are even, a zone that passes.

    Args:
        span: what was found.
        even: 1 for a ratio, 0 for a difference.
        asked: the margin.
        at_most: whether it passes below the margin and not above it.
        outcome: the class that gives the colour.
        labels: what to write at the interval, at the margin, at the line.
        title: what is shown.
        description: the same figures as a sentence.
        id_: starts the ids in the SVG, and is its own.
    """
    bounds = [value for value in (span.low, span.high) if value is not None]
    scale = scale_around([even, asked, span.value, *bounds])
    top, bottom, middle = 22.0, 82.0, 44.0
    zone = (0.0, scale.at(asked)) if at_most else (scale.at(asked), 100.0)
    parts = [_bar(*zone, top, bottom - top, "zone"), _line(0, top, bottom, "edge"), _line(100, top, bottom, "edge")]
    for tick in scale.ticks():
        parts += [
            _line(scale.at(tick), bottom, bottom + 4, "tick"),
            words(plain(tick), scale.at(tick), bottom + 17, "soft", "middle"),
        ]
    # The two words run away from each other: the lines may be close.
    outwards = ("start", "end") if at_most else ("end", "start")
    parts += [_line(scale.at(even), top, bottom, "even"), _line(scale.at(asked), top - 4, bottom, "asked")]
    parts.append(words(labels[1], scale.at(asked), top - 9, "strong", outwards[0]))
    if asked != even:
        parts.append(words(labels[2], scale.at(even), top - 9, "soft", outwards[1]))
    at = scale.at(span.value)
    if span.low is not None and span.high is not None:
        low, high = scale.at(span.low), scale.at(span.high)
        y = {"y1": middle, "y2": middle}
        parts += [
            element("line", x1=f"{low:.2f}%", x2=f"{high:.2f}%", class_=f"interval {outcome}", **y),
            _line(low, middle - 7, middle + 7, f"whisker {outcome}"),
            _line(high, middle - 7, middle + 7, f"whisker {outcome}"),
        ]
    hollow = " hollow" if span.low is None else ""
    parts.append(element("circle", cx=f"{at:.2f}%", cy=middle, r=6.5, class_=f"point {outcome}{hollow}"))
    parts.append(words(labels[0], at, middle + 25, "halo strong"))
    return drawing(bottom + 22, title, description, *parts, id_=id_)


def histogram_chart(shown: Histogram, *, title: str, id_: str) -> str:
    """The histogram of differences: losses left of 0, wins right of it."""
    top, bottom = 30.0, 170.0
    most = max(shown.counts, default=0) or 1
    step = max(1, round(rounded_up(most / 4)))
    limit = shown.edges[-1]
    scale = Scale(-limit, limit)
    parts = []
    for count in range(0, most + 1, step):
        y = bottom - (bottom - top) * count / most
        line = element("line", x1="0", x2="100%", y1=y, y2=y, class_="grid" if count else "base")
        parts += [line] if not count else [line, words(f"{count:,}", 0, y - 4, "soft", "start")]
    half = len(shown.counts) // 2
    for i, (count, label) in enumerate(zip(shown.counts, shown.labels(), strict=True)):
        if count:
            # One query in a million is seen, too.
            height = max(2.0, (bottom - top) * count / most)
            kind = "lost" if i < half else "won"
            x1, x2 = scale.at(shown.edges[i]), scale.at(shown.edges[i + 1])
            parts.append(_bar(x1 + 0.15, x2 - 0.15, bottom - height, height, kind, f"{label}: {count:,}"))
    parts.append(_line(50, top - 8, bottom + 5, "even"))
    parts += [words("worse", 50, top - 14, "soft", "end", -10), words("better", 50, top - 14, "soft", "start", 10)]
    for tick in scale.ticks(6):
        open_ = (shown.beyond[0] and tick <= -limit * 0.999) or (shown.beyond[1] and tick >= limit * 0.999)
        label = ("≤ " if tick < 0 else "≥ ") * open_ + plain(tick)
        parts += [_line(scale.at(tick), bottom, bottom + 4, "tick"), words(label, scale.at(tick), bottom + 18, "soft")]
    mean = scale.at(shown.mean)
    arrow = element("path", d="M0 0 L-5.5 9 L5.5 9 Z", class_="mean")
    parts.append(element("svg", arrow, x=f"{mean:.2f}%", y=bottom + 1, class_="glyph"))
    spread = [f"{label}: {count:,}" for label, count in zip(shown.labels(), shown.counts, strict=True) if count]
    said = f"{shown.losses:,} lost, {shown.ties:,} tied, {shown.wins:,} won; mean {plain(shown.mean)}. "
    return drawing(bottom + 24, title, said + "; ".join(spread), *parts, id_=id_)


def shares_chart(shown: Histogram, *, title: str, id_: str) -> str:
    """Lost, tied and won as parts of one bar."""
    parts, start = [], 0.0
    for count, kind in ((shown.losses, "lost"), (shown.ties, "tied"), (shown.wins, "won")):
        end = start + 100 * count / max(1, shown.n)
        if count:
            parts.append(_bar(start, end, 0, 14, kind))
        start = end
    said = f"{shown.losses:,} lost, {shown.ties:,} tied, {shown.wins:,} won"
    return drawing(14, title, said, *parts, id_=id_, class_="chart shares")


def forest_row(span: Span, scale: Scale, *, asked: float, outcome: str, title: str, description: str, id_: str) -> str:
    """One slice of a forest plot: its ratio and bounds, on a scale that all rows share."""
    height, middle = 34.0, 17.0
    parts = [
        _bar(scale.at(asked), 100, 0, height, "zone"),
        _line(scale.at(1.0), 0, height, "even"),
        _line(scale.at(asked), 0, height, "asked"),
    ]
    if span.low is not None and span.high is not None:
        low, high = scale.at(span.low), scale.at(span.high)
        y = {"y1": middle, "y2": middle}
        parts.append(element("line", x1=f"{low:.2f}%", x2=f"{high:.2f}%", class_=f"interval {outcome}", **y))
        parts += [
            _line(scale.at(value), middle - 5, middle + 5, f"whisker {outcome}")
            for value in (span.low, span.high)
            if scale.holds(value)
        ]
        if span.low < scale.low:
            parts.append(_goes_on(0, middle, "M7 -6 L0 0 L7 6", outcome))
        if span.high > scale.high:
            parts.append(_goes_on(100, middle, "M-7 -6 L0 0 L-7 6", outcome))
    if scale.holds(span.value):
        at = scale.at(span.value)
        square = element("rect", x=-5, y=-5, width=10, height=10, class_=f"point {outcome}")
        parts.append(element("svg", square, x=f"{at:.2f}%", y=middle, class_="glyph"))
    return drawing(height, title, description, *parts, id_=id_, class_="chart row")


def _goes_on(x: float, y: float, arrow: str, outcome: str) -> str:
    """An arrow at the end of a chart, where an interval goes on beyond it."""
    return element("svg", element("path", d=arrow, class_=f"beyond {outcome}"), x=f"{x}%", y=y, class_="glyph")


def forest_axis(scale: Scale, *, id_: str) -> str:
    """The scale of a forest plot."""
    parts = [element("line", x1="0", x2="100%", y1=21.5, y2=21.5, class_="base")]
    ticks = scale.ticks(4)
    for tick in ticks:
        parts += [_line(scale.at(tick), 17, 22, "tick"), words(plain(tick), scale.at(tick), 12, "soft", "middle")]
    said = f"Ratios from {plain(scale.low)} to {plain(scale.high)}"
    return drawing(22, "Scale of the ratios", said, *parts, id_=id_, class_="chart row")


def threshold_chart(
    value: float, threshold: float, *, ends: tuple[float, float] | None, outcome: str, title: str, id_: str
) -> str:
    """A value on its scale, with the threshold that it has to reach.

    Args:
        value: what was measured.
        threshold: what was asked.
        ends: of the scale; from the figures themselves where it is None.
        outcome: the class that gives the colour.
        title: what is shown.
        id_: starts the ids in the SVG.
    """
    scale = Scale(*ends) if ends else scale_around([value, threshold, 0.0], 0.05)
    top, height = 22.0, 12.0
    zero = scale.at(0.0)
    at, mark = scale.at(value), scale.at(threshold)
    parts = [
        _bar(0, 100, top, height, "trough"),
        _bar(min(zero, at), max(zero, at), top, height, f"filled {outcome}"),
        _line(mark, top - 6, top + height + 6, "asked"),
        words(f"threshold {threshold:.6g}", mark, top - 10, "strong", "end" if mark > 50 else "start"),
    ]
    parts += [words(plain(end), at_, top + height + 17, "soft") for end, at_ in ((scale.low, 0.0), (scale.high, 100.0))]
    said = f"{value:.6g}, and {threshold:.6g} is asked for"
    return drawing(top + height + 22, title, said, *parts, id_=id_)
