"""A trained point beside the closed form: their vectors side by side, with equal parts.

    python -m experiments.composites --workdir runs/quickstart

shows, from a finished quickstart or sweep, raw visual features, the closed form, what was trained
and both side by side in three directions, with the composite's weight varied: it is a choice
between directions. With --out F.json the numbers, and F.svg with the directions over the weight.
"""

import dataclasses
import sys
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from etils import epath

from experiments.gathering import over_seeds
from experiments.points import Point
from experiments.running import Runner
from vidembed import files
from vidembed.cli.command_line import start
from vidembed.corpora.watched import Corpus
from vidembed.deploy.composite import side_by_side
from vidembed.deploy.loading import load
from vidembed.engine.evaluation import recipe_of
from vidembed.evaluators.baselines import raw_features, solved_embedding
from vidembed.evaluators.queries import DIRECTIONS
from vidembed.evaluators.related_videos import RelatedVideos
from vidembed.metrics.intervals import bootstrap, ratios
from vidembed.progress import Progress
from vidembed.records.scores_file import PerQuery, Scores, read_scores, write_scores
from vidembed.report import charts, wording
from vidembed.workdir.layout import Workdir

FILE, RECORD = "beside_closed_form.parquet", "beside_closed_form.json"
WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0)
"""Of the closed form beside a trained run of weight 1."""
MAIN = "ndcg@10"
CELL = "{mean[value]:.3f}, **{ratio[value]:.2f}** [{ratio[low]:.2f}, {ratio[high]:.2f}]"
Rows = Mapping[str, Mapping[str, Mapping[str, Any]]]
"""System → direction → `mean` and `ratio` to raw visual features, each {value, low, high}."""
TARGETS = {"closed_form": (1.5, 1.33, 1.08), "composite": (1.6, 1.36, 1.05)}
"""Times raw visual NDCG@10 that the quickstart's data are meant to reach, by direction."""


def compose(point: Point, runner: Runner) -> None:
    """Measures the point's vectors beside the closed form's, unless that is done for its last
    step."""
    folder = point.run.path
    if (files.read_json(folder / RECORD) or {}).get("step") != point.recipe.steps:
        with runner.progress.stage("trained beside the closed form") as stage:
            corpus = runner.corpus(point)
            trained = load(folder, point.recipe.steps).embed(corpus.table)
            joined = beside(trained, solved(corpus))
            per_query = point.measured_by.per_query_of_all(joined, corpus)
            write_scores(folder / FILE, {"composite": per_query})
        # Last: where there is a record, there is everything.
        record = {"step": point.recipe.steps, "seconds": round(stage.seconds, 3)}
        files.write_json(folder / RECORD, record)
    runner.account(f"{point.world}/composite", files.read_json(folder / RECORD)["seconds"])


def composed(point: Point) -> Scores:
    """{"composite": what `compose` measured}; {} where nothing is."""
    file = point.run.path / FILE
    return read_scores(file) if file.exists() else {}


def solved(corpus: Corpus) -> np.ndarray:
    """The closed form's vectors; ValueError where there are none."""
    vectors = solved_embedding(corpus)
    if vectors is None:
        raise ValueError("these data have no closed form: is any train video related to another?")
    return vectors


def beside(trained: np.ndarray, closed: np.ndarray, weight: float = 1.0) -> np.ndarray:
    """Both side by side, the closed form with this weight and what was trained with 1."""
    return np.asarray(side_by_side([trained, closed], [1.0, weight]))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Table:
    """The closed form, a trained run and both, in three directions; over all seeds of a folder."""

    workdir: str = "runs/quickstart"
    """A finished quickstart or sweep: its folders are seedN."""
    point: str = "trained"
    """The run in each of them."""
    out: str = ""
    """A JSON file for the numbers; a chart of the weight lies beside it, as SVG. None: the numbers
    are shown alone."""

    def run(self) -> int:
        """Measures, and prints a Markdown table of ratios to raw visual features."""
        progress, seeds = Progress(), list[Scores]()
        for folder in sorted(Path(self.workdir).glob("seed*")):
            if folder.name.removeprefix("seed").isdecimal():
                with progress.stage(f"{folder}"):
                    seeds.append(_measured(folder / self.point, progress))
        if not seeds:
            raise ValueError(f"{self.workdir} holds no seedN folder: run the quickstart first")
        rows = {name: row(seeds, name) for name in seeds[0]}
        for line in (*as_markdown(rows), stated(rows)):
            progress.say(line)
        if self.out:
            files.write_json(self.out, {"seeds": len(seeds), "systems": rows})
            chart = epath.Path(self.out).with_suffix(".svg")
            files.write_text(chart, charts.standalone(as_chart(rows)))
            progress.say(f"wrote {self.out} and {chart}")
        return 0


def _measured(place: Path, progress: Progress) -> Scores:
    """System → direction → NDCG of each query."""
    run = Workdir(place)
    corpus = recipe_of(run).corpus.open()
    evaluator = RelatedVideos(directions=DIRECTIONS)
    began = time.monotonic()
    closed = solved(corpus)
    progress.say(f"closed form: {time.monotonic() - began:.1f} s")
    trained = load(place, str(run.done())).embed(corpus.table)
    systems = {
        "visual": raw_features(corpus.table, ("visual",)),
        "closed_form": closed,
        "trained": trained,
    }
    systems |= {_name(weight): beside(trained, closed, weight) for weight in WEIGHTS}

    def scores(vectors: np.ndarray) -> dict[str, PerQuery]:
        return {d: evaluator.per_query(vectors, corpus, d) for d in DIRECTIONS}

    return {name: scores(vectors) for name, vectors in systems.items()}


def _name(weight: float) -> str:
    return "composite" if weight == 1 else f"composite, closed form × {weight:g}"


def row(seeds: list[Scores], name: str) -> dict[str, Mapping[str, Any]]:
    """Direction → its mean NDCG, and the ratio to raw visual features, with intervals."""
    means = over_seeds(seeds, name, by=bootstrap)
    over_raw = over_seeds(seeds, name, "visual", by=ratios)
    return {d: {"mean": means[d][MAIN], "ratio": over_raw[d][MAIN]} for d in DIRECTIONS}


def as_markdown(rows: Rows) -> list[str]:
    """Lines of a table: a row for each system, NDCG@10 and its ratio to raw visual features."""
    heads = " | ".join(wording.direction(d) for d in DIRECTIONS)
    lines = [f"| NDCG@10, times raw visual | {heads} |", "|---|---|---|---|"]
    for name, row in rows.items():
        cells = [CELL.format(**row[direction]) for direction in DIRECTIONS]
        lines.append(f"| {wording.system(name)} | {' | '.join(cells)} |")
        if name in TARGETS:
            lines.append(f"| to reach | {' | '.join(f'{t:.2f}' for t in TARGETS[name])} |")
    return lines


def as_chart(rows: Rows) -> str:
    """NDCG@10 over raw visual features by the closed form's share of the weight, a line for each
    direction, from what was trained alone to the closed form alone."""
    shares = _by_share(rows)
    curves = []
    for series, direction in enumerate(DIRECTIONS):
        ratios = [rows[name][direction]["ratio"] for name in shares.values()]
        curve = charts.line(shares, ratios, series)
        curves.append(dataclasses.replace(curve, name=wording.direction(direction)))
    named = {0.0: "0\ntrained alone", 1.0: "1\nclosed form alone"}
    return charts.lines(
        "NDCG@10, times raw visual, by the closed form's share of the weight",
        curves,
        below="NDCG@10 over raw visual, by the closed form's share of the weight",
        ticks={share: named.get(share, f"{share:.2f}") for share in shares},
    )


def stated(rows: Rows) -> str:
    """What the weight decides, in words."""
    found = []
    for direction in DIRECTIONS:
        each = {s: rows[n][direction]["ratio"]["value"] for s, n in _by_share(rows).items()}
        best = max(each, key=each.__getitem__)
        found.append(f"{wording.direction(direction)} at {best:.2f} ({each[best]:.2f})")
    return (
        "The weight is a choice between directions: by the closed form's share of it, highest are "
        + ", ".join(found)
    )


def _by_share(rows: Rows) -> dict[float, str]:
    """The closed form's share of the weight → the system, rising."""
    between = {weight / (1 + weight): _name(weight) for weight in WEIGHTS}
    every = {0.0: "trained", **between, 1.0: "closed_form"}
    return {share: name for share, name in every.items() if name in rows}


main = partial(start, Table, prog="python -m experiments.composites")

if __name__ == "__main__":
    sys.exit(main())
