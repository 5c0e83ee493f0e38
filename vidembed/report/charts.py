"""Draw charts as SVG for an HTML page that supplies the colours.

Drawn by matplotlib without pyplot, so no global state changes; equal numbers give equal bytes.
Colours are roles: the page's CSS defines `--ink` or `--series-1`, in light and dark mode. Text
stays text, in the page's font.
"""

import io
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.style
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator

from vidembed.report.wording import is_number

ENDS = ("value", "low", "high")
SERIES = 8
"""Number of series colours; the ninth series reuses the first."""
# Placeholder colours while matplotlib draws, and the page's colours that replace them.
INK, MUTED, _GRID = "#0f0e01", "#0f0e02", "#0f0e03"
_SERIES = [f"#0f0d{i:02x}" for i in range(1, SERIES + 1)]
_ROLES = {INK: "--ink", MUTED: "--muted", _GRID: "--line"} | {
    colour: f"--series-{i}" for i, colour in enumerate(_SERIES, 1)
}
_STYLE = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.4,
    "axes.formatter.useoffset": False,
    "path.simplify": False,
    **dict.fromkeys(("axes.labelcolor", "xtick.labelcolor", "ytick.labelcolor"), MUTED),
    **dict.fromkeys(("axes.edgecolor", "grid.color", "xtick.color", "ytick.color"), _GRID),
}
_WIDTH, _HEIGHT = 4.2, 2.4  # inches; the page scales it
_MOST_POINTS = 400  # per line: more are not visible


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a chart: y f[T] over x f[T], NaN for a gap.

    low, high: f[T] or None, an interval around it; series: number of its colour, from 0; name: for
    the legend inside the chart.
    """

    x: np.ndarray
    y: np.ndarray
    low: np.ndarray | None = None
    high: np.ndarray | None = None
    series: int = 0
    dashed: bool = False
    name: str = ""


@dataclass(frozen=True, kw_only=True)
class Dot:
    """One row of a dot chart: a value with its interval; grey if `series` is None."""

    name: str
    value: float
    low: float
    high: float
    series: int | None = None


def line(steps: Iterable[float], scores: Sequence[Mapping[str, Any]], series: int = 0) -> Line:
    """Scores {value, low, high} as a line over the step; absent numbers leave gaps."""
    y, low, high = (floats(score.get(end) for score in scores) for end in ENDS)
    return Line(x=floats(steps), y=y, low=low, high=high, series=series)


def dot(name: str, score: Mapping[str, Any], series: int | None) -> list[Dot]:
    """A score {value, low, high} as a row; nothing if a number is absent."""
    ends: dict[str, Any] = {end: score.get(end) for end in ENDS}
    return [Dot(name=name, series=series, **ends)] if all(map(is_number, ends.values())) else []


def floats(values: Iterable[Any]) -> np.ndarray:
    """The values as f64, with NaN for anything that is not a number."""
    return np.array([value if is_number(value) else np.nan for value in values], np.float64)


def lines(
    title: str,
    curves: Sequence[Line],
    *,
    share: bool = False,
    below: str = "step",
    doubling: bool = False,
    ticks: Mapping[float, str] | None = None,
) -> str:
    """Curves over the step, as SVG; `share` fixes the vertical axis at 0 to 1.

    `below` labels the horizontal axis; `doubling` makes it logarithmic, with one tick per point;
    `ticks` are its tick positions and labels. A line of more than 400 points is drawn with every
    k-th point, and the last.
    """

    def draw(axes: Axes) -> None:
        for line in curves:
            colour = series_colour(line.series)
            drawn = _thinned(len(line.x))
            marker = "o" if len(drawn) <= 12 else ""
            style = "--" if line.dashed else "-"
            look: dict[str, Any] = {
                "color": colour,
                "marker": marker,
                "ms": 3.5,
                "label": line.name or None,
            }
            axes.plot(line.x[drawn], line.y[drawn], style, **look)
            if line.low is not None and line.high is not None:
                low, high = line.low[drawn], line.high[drawn]
                axes.fill_between(line.x[drawn], low, high, color=colour, alpha=0.15, lw=0)
        axes.set_xlabel(below)
        if any(line.name for line in curves):
            axes.legend(frameon=False, fontsize=7.5, loc="lower right")
        if doubling:
            places = sorted({float(x) for line in curves for x in line.x})
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_locator(FixedLocator(places))
            axes.xaxis.set_minor_locator(NullLocator())
        else:
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
        if ticks:
            axes.set_xticks(list(ticks), list(ticks.values()))
        if share:
            axes.set_ylim(-0.03, 1.03)

    return svg(title, draw, _HEIGHT)


def dots(title: str, rows: Sequence[Dot], *, below: str = "") -> str:
    """Values with their intervals as SVG, one row each, the first on top; the axis begins at 0.

    `below` labels the horizontal axis.
    """

    def draw(axes: Axes) -> None:
        for place, row in enumerate(rows):
            colour = MUTED if row.series is None else series_colour(row.series)
            axes.plot([row.low, row.high], [place, place], color=colour, lw=2.2, alpha=0.6)
            axes.plot(row.value, place, "o", color=colour, ms=5.5, clip_on=False)
        axes.set_yticks(range(len(rows)), [row.name for row in rows])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.set_ylim(max(len(rows), 1) - 0.5, -0.5)
        axes.grid(axis="y", visible=False)
        axes.spines["left"].set_visible(False)
        axes.set_xlim(left=min([0.0, *(row.low for row in rows)]))
        axes.set_xlabel(below)

    return svg(title, draw, 0.55 + 0.27 * len(rows) + (0.2 if below else 0))


def bars(title: str, counts: Mapping[str, int], *, below: str) -> str:
    """Counts by name as SVG, with the number on each bar; `below` labels the horizontal axis."""

    def draw(axes: Axes) -> None:
        places = range(len(counts))
        drawn = axes.bar(places, list(counts.values()), color=_SERIES[0], width=0.75)
        axes.bar_label(drawn, [f"{count:,}" for count in counts.values()], size=8, padding=1)
        axes.set_xticks(places, list(counts))
        axes.tick_params(axis="x", length=0)
        axes.set_xlabel(below)
        axes.yaxis.set_visible(False)
        axes.grid(visible=False)
        axes.spines["left"].set_visible(False)
        axes.margins(y=0.12)

    return svg(title, draw, _HEIGHT)


def series_colour(series: int) -> str:
    """The placeholder colour of a series while it is drawn."""
    return _SERIES[series % SERIES]


def _thinned(points: int) -> np.ndarray:
    """Indices of the points to draw, i64[at most 401]."""
    every = max(1, -(-points // _MOST_POINTS))
    drawn = np.arange(0, points, every)
    return drawn if not points or drawn[-1] == points - 1 else np.append(drawn, points - 1)


def svg(title: str, draw: Callable[[Axes], None], height: float, *, width: float = _WIDTH) -> str:
    """Let `draw` draw into axes; return SVG for a page. Sizes in inches; use the colours `INK`,
    `MUTED` and `series_colour`."""
    # The salt determines the ids of clip paths and markers, which must differ between charts.
    with matplotlib.style.context(["default", {**_STYLE, "svg.hashsalt": title}]):
        figure = Figure(figsize=(width, height), layout="constrained")
        draw(figure.subplots())
        file = io.StringIO()
        no_metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
        figure.savefig(file, format="svg", transparent=True, metadata=no_metadata)
    return _inline(file.getvalue(), title)


def _inline(document: str, title: str) -> str:
    """Turn a matplotlib document into an HTML element.

    Removes namespaces, the style sheet, which would apply to the whole page, and unreferenced ids,
    which would be duplicates; sets the page's colours and font.
    """
    root = ET.fromstring(document)
    referred = set(re.findall(r'(?:href="|url\()#([\w-]+)', document))
    for parent in root.iter():
        for child in list(parent):
            if child.tag.endswith("}style"):
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        for key, value in list(element.attrib.items()):
            del element.attrib[key]
            if key == "style":
                value = re.sub(r"font-family:[^;]*;?\s*", "", value)
                value = re.sub(
                    "#[0-9a-f]{6}", lambda match: f"var({_ROLES.get(match[0], '--ink')})", value
                )
            if key != "id" or value in referred:
                element.set(key.rpartition("}")[2], value)
    root.attrib = {"viewBox": root.attrib["viewBox"], "role": "img", "aria-label": title}
    return ET.tostring(root, encoding="unicode")


def standalone(chart: str) -> str:
    """A chart as a standalone SVG file, in the page's light colours."""
    css = (Path(__file__).parent / "report.css").read_text()
    light = css[: css.index("}") + 1]
    opening = '<svg xmlns="http://www.w3.org/2000/svg"'
    style = f"<style>{light} svg {{ background: var(--page); font-family: sans-serif; }}</style>"
    return str(chart).replace("<svg", opening, 1).replace(">", f">{style}", 1) + "\n"
