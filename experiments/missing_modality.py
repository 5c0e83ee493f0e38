"""Measure what modality dropout does for videos without audio, if a fifth of it is missing.

    python -m experiments.missing_modality --quickstart runs/quickstart --workdir runs/missing

takes the audio of a random fifth of the videos away from a finished quickstart and trains its late
fusion again with several probabilities of modality dropout. Printed are, of test videos: the cosine
of the same video with and without audio; how many of the ten nearest train videos of a video
without audio have none either, beside the share that has none; and NDCG@10 of all videos with all
audio and of those that lost it. The quickstart's own runs, which have seen all audio or only
pictures, stand beside. Everything else is the quickstart's: simulated sessions, split, size, seeds.
"""

import dataclasses
import sys
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments.gathering import over_seeds
from experiments.sweep import varied
from vidembed import files
from vidembed.cli.command_line import start
from vidembed.corpora.watched import Corpus
from vidembed.deploy.loading import load
from vidembed.deploy.run import Run
from vidembed.distributed.stopping import StopFlag, StoppedError
from vidembed.engine.evaluation import recipe_of
from vidembed.engine.recipe import Recipe, Retention
from vidembed.engine.train import train
from vidembed.evaluators.related_videos import CDML, RelatedVideos
from vidembed.metrics.intervals import bootstrap, differences
from vidembed.progress import Progress
from vidembed.records.scores_file import PerQuery
from vidembed.records.table import FeatureTable
from vidembed.report import wording
from vidembed.workdir.layout import Workdir

AUDIO, MAIN, NEAREST = "audio", "ndcg@10", 10
QUERIES = ("all audio", "without audio")
"""All queries, with every video's audio; queries that lost it, among videos of which a share did.
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class MissingModality:
    """Late fusion with modality dropout, where some videos have no audio."""

    quickstart: str = "runs/quickstart"
    """A finished quickstart: its table, sessions, splits and runs."""
    workdir: str = "runs/missing"
    """Folder for the table and the trainings; running again goes on from what is done."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the quickstart to use."""
    share: float = 0.2
    """Share of the videos that lose their audio; the same videos in all seeds."""
    probabilities: tuple[float, ...] = (0.0, 0.1, 0.3, 0.5)
    """Probabilities of modality dropout to train with."""
    with_all_audio: tuple[float, ...] = (0.3,)
    """The same for trainings on videos that all have audio, which is taken away afterwards."""

    def run(self) -> int:
        """Trains what is not trained yet, measures, prints a Markdown table; summary.json."""
        progress, seeds = Progress(), list[Mapping[str, Any]]()
        with StopFlag() as stop:
            for seed in self.seeds:
                seeds.append(dict(self._systems(seed, stop, progress)))
        rows = {name: row(seeds, name) for name in seeds[0]}
        files.write_json(Path(self.workdir) / "summary.json", {"seeds": self.seeds, "rows": rows})
        for line in as_markdown(rows):
            progress.say(line)
        return 0

    def _systems(
        self, seed: int, stop: StopFlag, progress: Progress
    ) -> Iterator[tuple[str, dict[str, Any]]]:
        """(name, what `measured` finds) of every run of a seed."""
        finished = Path(self.quickstart) / f"seed{seed}"
        recipe = recipe_of(Workdir(finished / "trained"))
        table = Path(self.workdir) / "table"
        whole: Any = recipe.corpus
        lacking = dataclasses.replace(whole, table=str(table))
        corpus = whole.open()
        has = np.random.default_rng(0).random(len(corpus.table)) >= self.share
        if not table.exists():
            without_audio(corpus.table, has).write(table)

        def find(run: Workdir) -> dict[str, Any]:
            return measured(load(run.path, recipe.steps), corpus, has)

        yield "pictures alone", find(Workdir(finished / "trained_visual_only"))
        yield "all audio in training, 0", find(Workdir(finished / "trained"))
        for kind, paths, probabilities in (
            ("all audio in training, ", whole, self.with_all_audio),
            ("", lacking, self.probabilities),
        ):
            for probability in probabilities:
                name = f"{kind}{probability:g}"
                task: Any = recipe.task
                model = dataclasses.replace(task.model, modality_dropout=probability)
                one = dataclasses.replace(varied(recipe, task={"model": model}), corpus=paths)
                run = Workdir(Path(self.workdir) / f"seed{seed}" / name.replace(", ", "-"))
                _train(one, run, stop, progress)
                yield name, find(run)


def _train(recipe: Recipe, run: Workdir, stop: StopFlag, progress: Progress) -> None:
    """The last checkpoint alone is kept, and measured here."""
    kept = Retention(every_steps=recipe.steps, keep_last=1)
    recipe = dataclasses.replace(recipe, checkpoints=kept, evaluate_every=0)
    with progress.stage(f"{run}"), run.lease() as lease:
        last = train(recipe, run, lease=lease, stop=stop, progress=progress)
    if last < recipe.steps:
        raise StoppedError(f"{run} stopped at step {last}")


def without_audio(table: FeatureTable, has: np.ndarray) -> FeatureTable:
    """The table with the audio of has bool[N] alone; of the same space."""
    audio = np.where(has[:, None], table.features[AUDIO], 0).astype(table.features[AUDIO].dtype)
    manifest = {name: table.manifest.get(name, {}) for name in ("source", "space")}
    features = table.features | {AUDIO: audio}
    return dataclasses.replace(table, features=features, present={AUDIO: has}, manifest=manifest)


def measured(run: Run, corpus: Corpus, has: np.ndarray) -> dict[str, Any]:
    """What the run makes of test videos: `cosine` with and without audio, `alike`, the share of the
    nearest train videos of those without audio that have none, `base`, that of all train videos,
    and `scores`, by direction and queries."""
    table, train_videos = corpus.table, corpus.is_train
    test = corpus.held_out["test"].videos
    whole, partly = (run.embed(table, present={AUDIO: there}) for there in (True, has))
    never = run.embed(table, present={AUDIO: False})
    nearest = np.argsort(-partly[test & ~has] @ partly[train_videos].T, axis=1)[:, :NEAREST]
    lost = ~has[train_videos]
    evaluator, asking = RelatedVideos(), set(table.ids[~has].tolist())
    scores = {}
    for direction in CDML:
        scores[f"{direction}, {QUERIES[0]}"] = evaluator.per_query(whole, corpus, direction)
        every = evaluator.per_query(partly, corpus, direction)
        some = np.array([name in asking for name in every.ids.tolist()])
        values = {metric: of[some] for metric, of in every.values.items()}
        scores[f"{direction}, {QUERIES[1]}"] = PerQuery(ids=every.ids[some], values=values)
    return {
        "cosine": float(np.sum(whole[test] * never[test], axis=1).mean()),
        "alike": float(lost[nearest].mean()),
        "base": float(lost.mean()),
        "scores": scores,
    }


def row(seeds: list[Mapping[str, Any]], name: str) -> dict[str, Any]:
    """Means over the seeds; `scores` with intervals, and `more`, paired with no dropout."""
    known = [{system: of["scores"] for system, of in seed.items()} for seed in seeds]
    numbers = ("cosine", "alike", "base")
    means = {n: float(np.mean([seed[name][n] for seed in seeds])) for n in numbers}
    more = over_seeds(known, name, "0", by=differences) if "0" in known[0] else {}
    return means | {"scores": over_seeds(known, name, by=bootstrap), "more": more}


def as_markdown(rows: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """Lines of a table: a row for each probability, NDCG@10 and its difference to none."""
    columns = [f"{direction}, {queries}" for queries in QUERIES for direction in CDML]
    heads = [wording.direction(column) for column in columns]
    base = next(iter(rows.values()))["base"]
    yield f"| modality dropout | cosine | without audio nearby ({base:.0%}) | {' | '.join(heads)} |"
    yield "|---|---|---|" + "---|" * len(columns)
    for name, of in rows.items():
        cells = []
        for column in columns:
            score = of["scores"][column][MAIN]
            cell = f"{score['value']:.3f} [{score['low']:.3f}, {score['high']:.3f}]"
            if of["more"] and name != "0":
                more = of["more"][column][MAIN]
                cell += f"; {more['value']:+.3f} [{more['low']:+.3f}, {more['high']:+.3f}]"
            cells.append(cell)
        yield f"| {name} | {of['cosine']:.2f} | {of['alike']:.0%} | {' | '.join(cells)} |"


main = partial(start, MissingModality, prog="python -m experiments.missing_modality")

if __name__ == "__main__":
    sys.exit(main())
