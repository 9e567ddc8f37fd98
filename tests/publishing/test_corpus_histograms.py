"""Histograms: outlines as high as the shares, bounds where they are, and no document lost when sources are lumped."""

import re
import unicodedata
import xml.etree.ElementTree as ET
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.publishing.corpus.histograms import SHOWN, Histogram, calibration_view, chart, lumped, parse
from stages.publishing.html.quoted import quoted

COLOURS = {"atlas": "c1", "web": "c2"}
counts = st.lists(st.integers(0, 10**6), min_size=4, max_size=4)


def corners(svg: str, style: str) -> list[tuple[float, float]]:
    """Points of the one outline of a style."""
    (path,) = (e for e in ET.fromstring(svg).iter() if e.tag == "path" and e.get("class") == f"line {style}")
    return [(float(x), float(y)) for x, y in re.findall(r"([\d.]+) ([\d.]+)", path.get("d", ""))]


def heights(svg: str, style: str) -> list[float]:
    """Height of every bin of an outline above the axis, in pixels."""
    points = corners(svg, style)
    return [points[0][1] - y for _, y in points[1:-1:2]]


def test_outlines_are_as_high_as_the_shares_and_as_wide_as_the_bins() -> None:
    svg = chart(Histogram("score", [0, 1, 2, 4], {"web": [10, 30, 20], "atlas": [6, 0, 6]}, {}, {}), COLOURS)["svg"]
    web, atlas = heights(svg, "c2"), heights(svg, "c1")
    unit = web[1] / 0.5  # pixels of the whole
    assert web == pytest.approx([unit / 6, unit / 2, unit / 3], abs=0.11)
    assert atlas == pytest.approx([unit / 2, 0, unit / 2], abs=0.11)
    xs = sorted({x for x, _ in corners(svg, "c2")})
    first, second, third = (b - a for a, b in pairwise(xs))
    assert first == pytest.approx(second, abs=0.11) and third == pytest.approx(2 * first, abs=0.21)


def test_a_decade_is_a_step_where_one_value_holds_nearly_all() -> None:
    view = chart(Histogram("score", [0, 1, 2, 3, 4], {"web": [9000, 900, 90, 10]}, {}, {}), COLOURS)
    first, second, third, _ = heights(view["svg"], "c2")
    assert first - second == pytest.approx(second - third, abs=0.21)
    assert "share of documents, logarithmic" in view["svg"]


def test_bounds_stand_at_their_value_in_their_sources_colour() -> None:
    counts = {"web": [1, 1], "atlas": [1, 1]}
    svg = chart(Histogram("score", [0, 5, 10], counts, {}, {"web": 2.5, "atlas": 40.0}), COLOURS)
    (rule,) = (e for e in ET.fromstring(svg["svg"]).iter() if (e.get("class") or "").startswith("vrule"))
    xs = sorted({x for x, _ in corners(svg["svg"], "c2")})
    assert float(rule.get("x1", "nan")) == pytest.approx(xs[0] + (xs[-1] - xs[0]) / 4, abs=0.11)
    assert rule.get("class") == "vrule c2"
    assert [item["label"] for item in svg["key"]] == ["atlas, bound 40 (outside)", "web, bound 2.5"]


def test_widths_that_grow_ask_for_a_logarithmic_axis_and_zero_is_drawn() -> None:
    edges = [0.0, 10.0, 100.0, 1000.0, 10_000.0]
    svg = chart(Histogram("words", edges, {"web": [1, 2, 3, 4]}, {}, {}), COLOURS)["svg"]
    widths = [b - a for a, b in pairwise(sorted({x for x, _ in corners(svg, "c2")}))]
    assert len(widths) == 4 and max(widths) - min(widths) < 0.21
    assert "words, logarithmic" in svg


@given(st.dictionaries(st.sampled_from([f"s{i}" for i in range(12)]), counts, max_size=12))
def test_lumping_keeps_every_document(rows: dict[str, list[int]]) -> None:
    whole = Histogram("score", [0, 1, 2, 3, 4], rows, rows, dict.fromkeys(rows, 1.0))
    few = lumped(whole)
    assert len(few.counts) <= SHOWN + 1
    for kept, given_ in ((few.counts, rows), (few.dropped, rows)):
        assert [sum(column) for column in zip(*kept.values(), strict=True)] == [
            sum(column) for column in zip(*given_.values(), strict=True)
        ]
    assert set(few.threshold) <= set(rows)


def test_a_bound_holds_for_all_sources_or_for_one() -> None:
    entry = {"edges": [0, 1, 2], "counts": {"web": [1, 2], "atlas": [3, 4]}}
    value = {"one": {**entry, "threshold": {"web": 1, "atlas": None}}, "all": {**entry, "threshold": 0.5}}
    value["none"] = {**entry, "threshold": None}
    found = {histogram.name: histogram.threshold for histogram in parse(value, "x.json")}
    assert found == {"one": {"web": 1.0}, "all": {"web": 0.5, "atlas": 0.5}, "none": {}}


def test_calibration_leaves_empty_bins_out() -> None:
    part = {"mean_score": [0.1, None, 0.9], "share_positive": [0.2, None, 0.7], "count": [5, 0, 7]}
    view = calibration_view({"web": part, "atlas": {"mean_score": [], "share_positive": [], "count": []}}, "", COLOURS)
    assert view is not None
    assert [row[0] for row in view["table"]["rows"]] == ["web", "web"]
    assert calibration_view(None, "", COLOURS) is None


@given(st.text(st.characters(codec="utf-8"), max_size=400), st.integers(1, 60), st.booleans())
def test_quoted_words_are_short_visible_and_stable(text: str, limit: int, lines: bool) -> None:
    shown = quoted(text, limit, lines=lines)
    assert len(shown) <= limit + 2
    assert not [c for c in shown if unicodedata.category(c) == "Cc" and not (lines and c == "\n")]
    assert not [c for c in shown if unicodedata.bidirectional(c) in ("LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI")]
    assert lines or "\n" not in shown


@given(st.lists(st.text("abcdefghij äλ語é", min_size=1, max_size=8).filter(str.strip), max_size=8))
def test_quoted_leaves_ordinary_words_alone(words: list[str]) -> None:
    text = " ".join(" ".join(words).split())
    assert quoted(text, 200) == text
