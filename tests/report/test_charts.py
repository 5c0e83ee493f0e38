import re
import xml.etree.ElementTree as ET

import matplotlib
import numpy as np
import pytest
from matplotlib import _pylab_helpers

from vidembed.report import charts

EVIL = 'a <script>alert(1)</script> & $x_1$ "q" -->'
LINE = charts.Line(x=np.arange(5.0), y=np.array([0.1, 0.4, 0.2, 0.9, 0.3]))
DOT = charts.Dot(name="one", value=0.5, low=0.4, high=0.6, series=0)
ALL = {
    "lines": lambda title: charts.lines(title, [LINE]),
    "dots": lambda title: charts.dots(title, [DOT]),
    "bars": lambda title: charts.bars(title, {"0": 3, "1": 5}, below="n"),
}


@pytest.fixture(params=ALL)
def chart(request):
    return ALL[request.param]


def test_stands_inside_html(chart):
    svg = chart(EVIL)
    root = ET.fromstring(svg)
    assert root.tag == "svg"
    assert root.get("aria-label") == EVIL
    assert root.get("role") == "img"
    assert set(root.attrib) == {"viewBox", "role", "aria-label"}
    assert svg.startswith("<svg")
    for unwanted in ("http", "xmlns", "xlink", "<style", "font-family", "metadata", "<script"):
        assert unwanted not in svg, unwanted


def test_takes_every_colour_from_the_page(chart):
    svg = chart("title")
    assert not re.search('#[0-9a-fA-F]{3,8}(?![0-9a-zA-Z])[;"]', svg.replace('href="#', ""))
    assert "var(--series-1)" in svg


def test_same_input_gives_the_same_bytes_whatever_the_settings(chart):
    first = chart("title")
    with matplotlib.rc_context({"xtick.major.size": 20, "font.size": 30, "svg.hashsalt": None}):
        assert chart("title") == first


def test_leaves_no_global_state(chart):
    before = dict(matplotlib.rcParams)
    chart("title")
    assert dict(matplotlib.rcParams) == before
    assert not _pylab_helpers.Gcf.figs


def test_ids_are_those_referred_to_and_differ_between_charts(chart):
    seen = []
    for title in ("one", "two"):
        svg = chart(title)
        ids = re.findall(r'\bid="([^"]+)"', svg)
        assert set(ids) == set(re.findall(r'(?:href="|url\()#([\w-]+)', svg))
        seen += ids
    assert len(seen) == len(set(seen)) > 0


def test_names_are_text_and_nothing_else():
    row = charts.Dot(name=EVIL, value=0.5, low=0.4, high=0.6)
    root = ET.fromstring(charts.dots("t", [row]))
    assert EVIL in [text.text for text in root.iter("text")]
    root = ET.fromstring(charts.bars("t", {EVIL: 2}, below=EVIL))
    assert [text.text for text in root.iter("text")].count(EVIL) == 2


def test_dots_and_intervals_stand_at_their_values():
    rows = [
        charts.Dot(name="low", value=0.1, low=0.05, high=0.2, series=0),
        charts.Dot(name="high", value=0.4, low=0.3, high=0.45),
        charts.Dot(name="mid", value=0.2, low=0.1, high=0.3),
    ]
    svg = charts.dots("t", rows)
    root = ET.fromstring(svg)
    dots = [use for use in root.iter("use") if float(use.get("y")) < float(_bottom(root))]
    x = [float(use.get("x")) for use in dots]
    y = [float(use.get("y")) for use in dots]
    assert len(dots) == 3
    assert y == sorted(y)
    scale = (x[1] - x[0]) / 0.3
    assert x[2] - x[0] == pytest.approx(0.1 * scale, abs=1e-3)
    ends = [_points(path) for path in root.iter("path") if "stroke-width: 2.2" in path.get("style")]
    for row, bar in zip(rows, ends):
        assert bar[:, 0] == pytest.approx(x[0] + scale * (np.array([row.low, row.high]) - 0.1))
    # Highlighted rows have a series' colour, the others are grey.
    assert ["--series-1" in use.get("style") for use in dots] == [True, False, False]


def test_the_axis_of_dots_begins_at_zero():
    texts = [text.text for text in ET.fromstring(charts.dots("t", [DOT])).iter("text")]
    assert texts[0] == "0.0"


def _bottom(root):
    return max(float(use.get("y")) for use in root.iter("use"))


def _points(path):
    pairs = re.findall(r"[ML] ([-\d.]+) ([-\d.]+)", path.get("d"))
    return np.array(pairs, float)


def _curves(svg, style="stroke-width: 1.4"):
    return [p for p in ET.fromstring(svg).iter("path") if style in p.get("style", "")]


def test_lines_have_their_points_gaps_and_bands():
    gap = charts.Line(x=np.arange(5.0), y=np.array([0.0, 1.0, np.nan, 1.0, 0.0]), series=1)
    band = charts.Line(
        x=np.arange(3.0),
        y=np.array([0.2, 0.3, 0.4]),
        low=np.array([0.1, 0.2, 0.3]),
        high=np.array([0.3, 0.4, 0.5]),
        series=9,
        dashed=True,
    )
    svg = charts.lines("t", [LINE, gap, band])
    plain, broken, dashed = _curves(svg)
    drawn = _points(plain)
    assert len(drawn) == 5
    # Up on the page is a smaller y; the points keep their proportions.
    heights = (drawn[0, 1] - drawn[:, 1]) / (drawn[0, 1] - drawn[3, 1])
    assert heights == pytest.approx((LINE.y - 0.1) / 0.8, abs=1e-4)
    assert broken.get("d").count("M") == 2
    assert "stroke-dasharray" in dashed.get("style")
    # The ninth series reuses the first colour.
    assert "--series-2" in broken.get("style")
    assert "--series-2" in dashed.get("style")
    # Only the band is translucent.
    assert svg.count("0.15") >= 1
    assert len(re.findall(r"opacity: 0\.15", svg.replace("fill-opacity", "opacity"))) == 1


def test_a_share_is_drawn_between_zero_and_one():
    flat = charts.Line(x=np.arange(3.0), y=np.array([0.5, 0.5, 0.5]))
    labels = [t.text for t in ET.fromstring(charts.lines("t", [flat], share=True)).iter("text")]
    assert {"0.0", "1.0"} <= set(labels)
    labels = [t.text for t in ET.fromstring(charts.lines("t", [flat])).iter("text")]
    assert "1.0" not in labels


def test_a_long_line_is_thinned_but_keeps_its_ends():
    rng = np.random.default_rng(0)
    long = charts.Line(x=np.arange(10_000.0), y=rng.random(10_000))
    short = charts.Line(x=np.array([0.0, 9_999.0]), y=np.array([long.y[0], long.y[-1]]))
    drawn, ends = map(_points, _curves(charts.lines("t", [long, short])))
    assert 200 < len(drawn) <= 401
    np.testing.assert_allclose(drawn[[0, -1]], ends)
    # Not more than one in the picture where all can be seen.
    few = charts.Line(x=np.arange(400.0), y=rng.random(400))
    assert len(_points(_curves(charts.lines("t", [few]))[0])) == 400


def test_bars_are_as_high_as_their_counts():
    svg = charts.bars("t", {"0": 10, "1": 40, "2-3": 1000}, below="degree")
    root = ET.fromstring(svg)
    bars = [_points(p) for p in root.iter("path") if "fill: var(--series-1)" in p.get("style", "")]
    heights = [np.ptp(bar[:, 1]) for bar in bars]
    assert np.array(heights) / heights[0] == pytest.approx([1, 4, 100], rel=1e-3)
    assert {"10", "40", "1,000", "0", "1", "2-3", "degree"} <= {t.text for t in root.iter("text")}


def test_nothing_to_draw_is_an_empty_chart():
    unknown = charts.Line(x=np.arange(3.0), y=np.full(3, np.nan))
    nothing = [charts.lines("t", []), charts.dots("t", []), charts.bars("t", {}, below="n")]
    for svg in [*nothing, charts.lines("t", [unknown])]:
        assert ET.fromstring(svg).tag == "svg"
