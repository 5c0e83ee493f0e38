"""What the variances of trained ProViCo runs tell: retrieval, noise, mined pairs, joined videos.

    python -m experiments.clips_uncertainty --run RUN [RUN ...] --workdir W

RUN is the work directory of `vidembed train provico`; several runs, such as seeds, must be of the
same data, and are averaged. Reads all checkpoints that were kept (--checkpoints.keep-last).
Uncertainty is the total variance of a video's mixture: the mean of its clips' (`within`) and that
of their means (`between`). Intervals resample sources. Everything is printed, and written to
W/uncertainty.json, .md and .svg.
"""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from matplotlib.axes import Axes

from experiments.annotation_runs import Titled, print_tables, write_tables
from experiments.uncertainty_averages import COMPARED, Measuring
from experiments.uncertainty_runs import INPUTS, PARTS, Trained
from vidembed import files
from vidembed.cli import command_line
from vidembed.report import charts
from vidembed.workdir.versions import versions

SCORES = ("r@1", *PARTS)


@dataclass(frozen=True, kw_only=True)
class ClipsUncertainty:
    """Measure what the variances of trained runs tell; print tables and write them to WORKDIR."""

    runs: Annotated[tuple[str, ...], tyro.conf.arg(name="run")]
    """Work directories of runs of the same data."""
    workdir: str
    """Folder for the results."""
    step: str = "latest"
    """The checkpoint for all but the curves: latest, best (of the run's evaluations) or a step."""
    quantiles: int = 4
    """Equal parts of the test videos, by uncertainty."""
    lengths: int = 5
    """Groups of videos of similar length."""
    noise: tuple[float, ...] = (0.25, 0.5, 1.0, 2.0, 4.0)
    """Sizes of noise: lengths of its vector beside means of length 1, and deviations of a feature
    or colour over the train videos."""
    batches: int = 10
    """Training batches in which pairs are mined."""
    shuffles: int = 500
    """Shuffles of the uncertainties, source by source."""
    resamples: int = 1000
    """Bootstrap resamples behind each 95 % interval."""
    seed: int = 0
    """Seed of noise, joined videos, shuffles and the bootstrap."""

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError("no run given: --run RUN, the work directory of a trained run")
        for name in ("quantiles", "lengths"):
            if getattr(self, name) < 2:
                raise ValueError(f"{name} is {getattr(self, name)}, but must be 2 or more")
        if min(self.batches, self.shuffles) < 1 or min(self.noise, default=1) <= 0:
            raise ValueError("batches and shuffles must be 1 or more, and sizes of noise above 0")

    def run(self) -> int:
        """All measures; raises ValueError for runs without variances or of different data."""
        runs = [Trained(name) for name in self.runs]
        if len({(run.corpus.rows, run.decodes) for run in runs}) > 1:
            raise ValueError("the runs are of different data: measure them in several commands")
        steps = tuple(run.job.step_named(self.step) for run in runs)
        measuring = Measuring(runs=runs, steps=steps, resamples=self.resamples, seed=self.seed)
        first = runs[0]
        result: dict[str, Any] = {
            "runs": list(self.runs),
            "steps": list(steps),
            "simulated": bool(first.corpus.simulated),
            "reads": "decoded clips" if first.decodes else "windows of features of frames",
            "train": len(first.train[0]),
            "test": len(first.test[0]),
            "sources": len(np.unique(first.videos.sources)),
            "curve": measuring.curve(),
            "quantiles": measuring.by_quantile(self.quantiles, self.lengths, self.shuffles),
            "noise": measuring.under_noise(self.noise),
            "purity": measuring.purity(self.batches),
            "joined": measuring.joined(),
            "versions": versions(),
        }
        print_tables(_tables(result), _remarks(result))
        path = Path(self.workdir) / "uncertainty"
        written = write_tables(result, _tables(result), _remarks(result), path)
        files.write_text(path.with_suffix(".svg"), picture(result))
        for file in (*written, path.with_suffix(".svg")):
            print(f"wrote {file}")
        return 0


def text(of: Mapping[str, Any] | None, form: str = ".3f") -> str:
    """A value with its interval; nothing if there is none."""
    if of is None or of["value"] is None:
        return ""
    return f"{of['value']:{form}} [{of['low']:{form}}, {of['high']:{form}}]"


def _tables(result: Mapping[str, Any]) -> Iterator[Titled]:
    made = ", simulated videos" if result["simulated"] else ""
    curve, quantiles = result["curve"], result["quantiles"]
    rows = [[str(p["step"]), *_scores(p)] for p in curve["points"]]
    rows.append([INPUTS, *_scores(curve[INPUTS])])
    yield f"R@1 and total variance of test videos{made}", ["step", *SCORES, "median"], rows
    for title, of in (
        ("Correlation of R@1 and mean variance over the trained steps", curve["correlation"]),
        ("Correlation of variance and length over the test videos", quantiles["length"]),
    ):
        rows = [
            [p, *(_over_runs([one[k] for one in each]) for k in KINDS_OF)] for p, each in of.items()
        ]
        yield f"{title}{made}", ["variance", *KINDS_OF], rows
    for grouping, parts in quantiles["groupings"].items():
        count = len(parts["total"]["r@1"])
        rows = [[part, *(text(one, ".2f") for one in of["r@1"])] for part, of in parts.items()]
        title = f"R@1 by uncertainty among {grouping}{made}"
        yield title, ["variance", "lowest", *map(str, range(2, count)), "highest"], rows
        rows = [
            [
                part,
                text(of["gap"], "+.3f"),
                text(of["shuffled"], "+.3f"),
                "" if of["p"] is None else f"{of['p']:.3f}",
                text(of["area"]),
            ]
            for part, of in parts.items()
        ]
        yield f"The same: R@1 of the lowest minus the highest{made}", GAPS, rows
    rows = [[name, *_scores(of)] for name, of in quantiles["classes"].items()]
    yield f"Classes{made}", ["class", *SCORES, "median"], rows
    for place, points in result["noise"].items():
        rows = [[f"{p['size']:g}", *_scores(p)] for p in points]
        yield f"Noise in {place}{made}", ["size", *SCORES, "median"], rows
    named = [(str(of["step"]), of) for of in result["purity"]["mined"]]
    named.append(("all pairs", result["purity"]["all"]))
    rows = [[name, f"{of['pairs']:.1f}", *(text(of[s]) for s in SHARES)] for name, of in named]
    yield f"Pairs that the loss mines in a batch{made}", ["step", "pairs", *SHARES.values()], rows
    for place, of in result["joined"]["places"].items():
        title = f"Joined videos, half of the {place} from another one{made}"
        rows = [
            [kind, str(one["videos"]), *(text(one[n]) for n in (*PARTS, INPUTS))]
            for kind, one in of["means"].items()
        ]
        yield title, ["half from", "videos", *PARTS, INPUTS], rows
        rows = [
            [f"{row['one']} / {row['other']}", *(text(row[n]) for n in (*PARTS, INPUTS))]
            for row in of["areas"]
        ]
        yield f"The same: is the first one higher? (AUC){made}", ["half from", *PARTS, INPUTS], rows


def _scores(of: Mapping[str, Any]) -> list[str]:
    return [*(text(of.get(name)) for name in SCORES), f"{of['median']:.3f}"]


KINDS_OF = ("pearson", "spearman")
GAPS = ("variance", "gap", "shuffled", "p", "wrong is higher (AUC)")
SHARES = {"class": "one class", "source": "one source", "apart/class": "one class, of two sources"}


def _over_runs(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    if not known:
        return ""
    mean = f"{np.mean(known):+.2f}"
    return mean if len(known) == 1 else f"{mean} ({min(known):+.2f} to {max(known):+.2f})"


def _remarks(result: Mapping[str, Any]) -> Iterator[str]:
    several = len(result["runs"]) > 1
    yield (
        f"{result['test']} test videos of {result['sources']} sources, searched for among "
        f"{result['train']} train videos of other sources by cosine; {result['reads']}. "
        + (f"{len(result['runs'])} runs, " if several else "")
        + f"step {', '.join(map(str, dict.fromkeys(result['steps'])))} but for the curves. "
        "Intervals resample sources"
        + ("; values are means over runs, with the range of correlations." if several else ".")
    )
    if result["simulated"]:
        yield "The videos are SIMULATED: nothing here tells how real videos behave."
    yield (
        f"{INPUTS}: without a model, R@1 of the mean frame, and the spread of the standardised "
        "frames about their mean. within: the mean variance of the clips; between: that of their "
        "means, which have length 1; total: their sum; median: of total."
    )
    yield (
        "A few checkpoints of one training rise and fall with anything that changes meanwhile: the "
        "correlation over steps is no test. Step 0, with one variance for all clips, is left out."
    )
    strata = result["quantiles"]["strata"]
    yield (
        f"Similar length: {strata['videos of similar length']} groups by frames and number of "
        f"windows; one class: {strata['videos of one class']} classes; parts are formed within "
        "each. Shuffled: uncertainties exchanged source by source within groups, 95 % of the gaps; "
        "p: the share of them at least as far from 0."
    )
    yield (
        "Noise in embeddings: a random vector of that length is added to the mean of each clip, so "
        "that within cannot change. In inputs: in every frame of the test videos, in deviations of "
        "a feature or colour over the train videos."
    )
    yield (
        "Mined pairs: in the network's training mode, of the same batches at each step. All pairs: "
        "those of two different videos, the share that random pairs would have."
    )
    yield (
        f"Joined: {result['joined']['videos']} test videos of two windows or more, and partners of "
        "the same number of windows and similar length. Half of the windows: no window has frames "
        "of both, so that within is an average of two videos. Half of the frames: every window "
        "begins as one video and ends as the other."
    )


def picture(result: Mapping[str, Any]) -> str:
    """The measures as one SVG of six charts."""

    def draw(axes: Axes) -> None:
        figure = axes.figure
        axes.remove()
        panels: Any = figure.subplots(2, 3)
        _draw_curve(panels[0, 0], result["curve"]["points"])
        _draw_quantiles(panels[0, 1], result["quantiles"]["groupings"]["all videos"], "all videos")
        similar = result["quantiles"]["groupings"]["videos of similar length"]
        _draw_quantiles(panels[1, 1], similar, "similar length")
        _draw_noise(panels[0, 2], result["noise"]["inputs"])
        _draw_purity(panels[1, 0], result["purity"])
        _draw_joined(panels[1, 2], result["joined"]["places"])

    made = "simulated videos" if result["simulated"] else "real videos"
    title = f"What the variances tell: {made}, {result['reads']}, {len(result['runs'])} runs"
    return charts.standalone(charts.svg(title, draw, 5.4, width=11.0))


def _values(of: Sequence[Mapping[str, Any]]) -> np.ndarray:
    return charts.floats(one["value"] for one in of)


def _draw_curve(axes: Axes, points: Sequence[Mapping[str, Any]]) -> None:
    x, y = _values([p["total"] for p in points]), _values([p["r@1"] for p in points])
    axes.plot(x, y, "o-", color=charts.series_colour(0), ms=3.5)
    for place in (0, len(points) - 1):
        axes.annotate(f"step {points[place]['step']}", (x[place], y[place]), fontsize=7.5)
    axes.set_xlabel("mean total variance")
    axes.set_title("R@1 of checkpoints", fontsize=9)


def _draw_quantiles(axes: Axes, parts: Mapping[str, Any], grouping: str) -> None:
    for series, (part, of) in enumerate(parts.items()):
        x, y = 1 + np.arange(len(of["r@1"])), _values(of["r@1"])
        axes.plot(x, y, "o-", color=charts.series_colour(series), ms=3.5, label=part)
        low, high = (charts.floats(one[end] for one in of["r@1"]) for end in ("low", "high"))
        axes.fill_between(x, low, high, color=charts.series_colour(series), alpha=0.12, lw=0)
    axes.set_xticks(x)
    axes.set_xlabel("part of the videos, by variance")
    axes.set_title(f"R@1 by uncertainty, {grouping}", fontsize=9)
    axes.legend(frameon=False, fontsize=7.5)


def _draw_noise(axes: Axes, points: Sequence[Mapping[str, Any]]) -> None:
    x = [p["size"] for p in points]
    for series, name in enumerate((*PARTS, SCORES[0])):
        y = _values([p[name] for p in points])
        axes.plot(
            x, y / (y[0] or np.nan), "o-", color=charts.series_colour(series), ms=3.5, label=name
        )
    axes.set_xlabel("noise in inputs, deviations")
    axes.set_title("Divided by that without noise", fontsize=9)
    axes.legend(frameon=False, fontsize=7.5)


def _draw_purity(axes: Axes, purity: Mapping[str, Any]) -> None:
    x = [row["step"] for row in purity["mined"]]
    for series, (name, label) in enumerate(SHARES.items()):
        colour = charts.series_colour(series)
        y = _values([row[name] for row in purity["mined"]])
        axes.plot(x, y, "o-", color=colour, ms=3.5, label=label)
        axes.plot(x, np.repeat(_values([purity["all"][name]]), len(x)), "--", color=colour)
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlabel("step; dashed: all pairs")
    axes.set_title("Share of mined pairs", fontsize=9)
    axes.legend(frameon=False, fontsize=7.5)


def _draw_joined(axes: Axes, places: Mapping[str, Any]) -> None:
    names = list[str]()
    for place, of in places.items():
        areas = next(a for a in of["areas"] if (a["one"], a["other"]) == COMPARED[2])
        for series, name in enumerate((*PARTS, INPUTS)):
            colour, row = charts.series_colour(series), len(names)
            ends = charts.floats(areas[name][end] for end in ("low", "high"))
            axes.plot(ends, [row, row], color=colour, lw=2.2)
            axes.plot(_values([areas[name]]), [row], "o", color=colour, ms=4.5)
            names.append(f"{name}, {place}")
    axes.set_yticks(range(len(names)), names)
    axes.set_ylim(max(len(names), 1) - 0.5, -0.5)
    axes.axvline(0.5, color=charts.MUTED, lw=0.8)
    axes.set_xlabel("AUC; 0.5: no difference")
    axes.set_title("Two classes joined, against one video", fontsize=9)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns an exit code."""
    command = ClipsUncertainty(runs=tyro.MISSING, workdir=tyro.MISSING)
    return command_line.start(command, arguments, prog="python -m experiments.clips_uncertainty")


if __name__ == "__main__":
    sys.exit(main())
