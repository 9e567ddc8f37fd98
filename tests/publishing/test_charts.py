"""Charts: what is drawn stands where the data say, for any data, and outside text can't break out of the SVG."""

import math
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from stages.publishing.html.charts import Axis, Plot, compact, thin

finite = st.floats(-1e12, 1e12, allow_nan=False)
positive = st.floats(1e-9, 1e20, allow_nan=False)


def drawn(plot: Plot) -> ET.Element:
    return ET.fromstring(plot.svg())


@given(st.lists(st.tuples(positive, finite), min_size=1, max_size=30), st.booleans())
def test_points_lie_inside_and_keep_their_order(pairs: list[tuple[float, float]], log: bool) -> None:
    plot = Plot(Axis("x", log=log), Axis("y"), "any data")
    plot.points([x for x, _ in pairs], [y for _, y in pairs], "c1")
    circles = [element for element in drawn(plot) if element.tag == "circle"]
    assert len(circles) == len(pairs)
    at = [(float(c.get("cx", "nan")), float(c.get("cy", "nan"))) for c in circles]
    assert all(0 <= x <= plot.width and 0 <= y <= plot.height for x, y in at)
    for (x1, y1), (px1, py1) in zip(pairs, at, strict=True):
        for (x2, y2), (px2, py2) in zip(pairs, at, strict=True):
            assert x1 > x2 or px1 <= px2 or math.isclose(px1, px2)
            assert y1 > y2 or py1 >= py2 or math.isclose(py1, py2)


@given(finite, finite)
@example(0.0, 5e-324)
@example(1e-310, 1e-310)
def test_linear_ticks_are_round_and_inside(a: float, b: float) -> None:
    axis = Axis("x")
    axis.take([a, b])
    low, high = axis.padded(0.05)
    ticks = axis.ticks(low, high)
    assert 2 <= len(ticks) <= 12
    span = high - low
    assert all(low - 1e-6 * span <= tick <= high + 1e-6 * span for tick in ticks)
    assert ticks == sorted(ticks)


def test_a_log_axis_puts_decades_at_equal_distances() -> None:
    plot = Plot(Axis("x", log=True), Axis("y"), "decades")
    plot.points([1, 10, 100, 1000], [1, 1, 1, 1], "c1")
    xs = [float(c.get("cx", "nan")) for c in drawn(plot) if c.tag == "circle"]
    gaps = [b - a for a, b in pairwise(xs)]
    assert max(gaps) - min(gaps) < 0.2


def test_what_has_no_logarithm_is_left_out_with_its_note() -> None:
    plot = Plot(Axis("x", log=True), Axis("y"), "holes")
    plot.points([0.0, 10, float("nan"), 100], [1, 2, 3, float("inf")], "c1", notes=["a", "b", "c", "d"])
    circles = [element for element in drawn(plot) if element.tag == "circle"]
    assert [circle.findtext("title") for circle in circles] == ["b"]


def test_text_from_outside_is_escaped() -> None:
    plot = Plot(Axis("<x>"), Axis('y"'), '"><script>alert(1)</script>')
    plot.points([1], [1], "c1", notes=["<img src=x onerror=alert(1)>"])
    plot.text(1, 1, "</svg><script>", "c1")
    svg = plot.svg()
    assert "<script" not in svg and "<img" not in svg
    ET.fromstring(svg)


def test_the_same_data_give_the_same_bytes() -> None:
    def make() -> str:
        plot = Plot(Axis("x"), Axis("y"), "twice")
        plot.line([1, 2, 3], [0.1, 0.2, 0.3], "c1")
        plot.band([1, 2], [0, 0], [1, 1], "c2")
        return plot.svg()

    assert make() == make()


def test_unequal_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="2 x values for 1 y values"):
        Plot(Axis("x"), Axis("y"), "").line([1, 2], [1], "c1")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (1240, "1.24k"),
        (999_999, "1M"),
        (3.1e9, "3.1G"),
        (5.76e23, "5.76e23"),
        (1e18, "1e18"),
        (0.0001, "1e-4"),
        (2.5, "2.5"),
        (-1500, "-1.5k"),
        (float("nan"), "–"),
        (100, "100"),
    ],
)
def test_compact_numbers(value: float, text: str) -> None:
    assert compact(value) == text


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=400), st.integers(1, 50))
def test_thinning_keeps_the_range_and_the_limit(ys: list[float], limit: int) -> None:
    xs, means = thin(list(range(len(ys))), ys, limit)
    assert len(xs) == len(means) <= limit
    assert min(ys) - 1e-6 <= min(means) and max(means) <= max(ys) + 1e-6
