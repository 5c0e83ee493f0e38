"""The pictures of the README: the pipeline, and what the quickstart's report shows.

    python -m experiments.pictures --workdir runs/quickstart

writes `experiments/pictures/*.svg` with the report's own charts, and `quickstart.json`, the numbers
in them. Each SVG names the digest of what it was drawn from, so that a test can tell whether it is
out of date.
"""

import dataclasses
import json
import sys
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import xxhash
from matplotlib.axes import Axes
from matplotlib.text import Text

from vidembed import files
from vidembed.cli.command_line import start
from vidembed.progress import Progress
from vidembed.report import charts, wording

FOLDER = Path(__file__).parent / "pictures"
NUMBERS = FOLDER / "quickstart.json"
DIRECTION, METRIC = "eval_to_train", "ndcg@10"
SYSTEMS = (
    "composite",
    "closed_form",
    "trained",
    "concatenated_standardised",
    "visual",
    "popularity",
    "random",
)
COLOURED = {"composite": 2, "closed_form": 1, "trained": 0}

# Name → (x, y) of its middle, text, number of its colour.
BOXES: Mapping[str, tuple[float, float, str, int]] = {
    "sessions": (1.0, 3.0, "watch sessions\nor ratings", 5),
    "graph": (3.2, 3.0, "co-watch graph\ncowatch", 0),
    "clusters": (5.4, 3.0, "clusters\ncluster", 0),
    "features": (1.0, 1.0, "video features\nvisual, audio, yours", 5),
    "table": (3.2, 1.0, "feature table\nimport", 0),
    "run": (5.4, 1.0, "network\ntrain", 1),
    "report": (7.6, 3.0, "scores, report\nevaluate, report", 2),
    "vectors": (7.6, 1.0, "vectors\nembed, export", 2),
    "index": (9.8, 1.0, "index\nsearch, recommend", 2),
}
ARROWS = (
    ("sessions", "graph"),
    ("graph", "clusters"),
    ("clusters", "run"),
    ("graph", "run"),
    ("features", "table"),
    ("table", "run"),
    ("run", "report"),
    ("run", "vectors"),
    ("vectors", "index"),
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pictures:
    """Draw the README's pictures."""

    workdir: str = "runs/quickstart"
    """A finished quickstart, for its numbers; without one the numbers stay as they are."""

    def run(self) -> int:
        """Writes the pictures; returns the exit code."""
        summary = files.read_json(Path(self.workdir) / "summary.json")
        if summary is not None:
            files.write_json(NUMBERS, excerpt(summary))
        for name, draw in DRAWN.items():
            files.write_text(FOLDER / name, draw())
            Progress().say(f"{FOLDER / name}")
        return 0


def excerpt(summary: Mapping[str, Any]) -> dict[str, Any]:
    """What of a quickstart's summary is drawn."""
    scores = summary["related_videos"][DIRECTION]
    return {
        "simulated_sessions": summary["simulated_sessions"],
        "seeds": len(summary["seeds"]),
        "scores": {name: scores[name][METRIC] for name in SYSTEMS},
    }


def read_numbers() -> dict[str, Any]:
    """The quickstart's numbers as committed; see `excerpt`."""
    numbers: dict[str, Any] = files.read_json(NUMBERS)
    return numbers


def report_picture() -> str:
    """NDCG@10 of each system of the quickstart, with its interval."""
    numbers = read_numbers()
    rows = [
        dot
        for name in SYSTEMS
        for dot in charts.dot(wording.system(name), numbers["scores"][name], COLOURED.get(name))
    ]
    kind = "simulated sessions" if numbers["simulated_sessions"] else "sessions"
    title = f"NDCG@10, new video to known ones, {numbers['seeds']} seeds, {kind}"
    return _signed(charts.dots(title, rows, below=title), numbers)


def pipeline_picture() -> str:
    """The verbs, and what goes from one to the next."""

    def draw(axes: Axes) -> None:
        axes.set_axis_off()
        axes.set_xlim(-0.1, 10.9)
        axes.set_ylim(0.3, 3.7)
        drawn = {name: _box(axes, *box).get_bbox_patch() for name, box in BOXES.items()}
        for source, target in ARROWS:
            ends = {"patchA": drawn[source], "patchB": drawn[target], "shrinkA": 3, "shrinkB": 3}
            look = {"arrowstyle": "-|>", "color": charts.MUTED, "lw": 1.0}
            begin, end = BOXES[source][:2], BOXES[target][:2]
            axes.annotate("", xytext=begin, xy=end, arrowprops=look | ends)

    return _signed(charts.svg("From sessions and features to an index", draw, 2.6, width=8.4), {})


def _box(axes: Axes, x: float, y: float, text: str, series: int) -> Text:
    look = {"boxstyle": "round,pad=0.5", "facecolor": "none", "lw": 1.4}
    look["edgecolor"] = charts.series_colour(series)
    return axes.text(x, y, text, ha="center", va="center", bbox=look)


def digest(numbers: Mapping[str, Any]) -> str:
    """Of the numbers and of this file: what a picture is drawn from."""
    source = Path(__file__).read_text()
    return xxhash.xxh3_64_hexdigest((json.dumps(numbers, sort_keys=True) + source).encode())


def current(name: str) -> bool:
    """Whether the picture of this name is drawn from the numbers and the code that are here."""
    numbers = read_numbers() if name == "report.svg" else {}
    return f"drawn from {digest(numbers)}" in (FOLDER / name).read_text()


def _signed(chart: str, numbers: Mapping[str, Any]) -> str:
    return f"{charts.standalone(chart)}<!-- drawn from {digest(numbers)} -->\n"


DRAWN: Mapping[str, Callable[[], str]] = {
    "pipeline.svg": pipeline_picture,
    "report.svg": report_picture,
}
main = partial(start, Pictures, prog="python -m experiments.pictures")

if __name__ == "__main__":
    sys.exit(main())
