"""The whole way on ten real YouTube-8M shards, on a laptop CPU: `make quickstart`.

Check and import the records, simulate watch sessions from their labels, count co-watches, split
7:3 by video, train CDML with semi-hard mining, evaluate both cold-start directions against
baselines and controls, join its vectors with those of the closed form, code them in few bytes,
index them and search, write a report. It is a small sweep: the recipe of `experiments/cdml.py` at a
smaller size and its visual tower alone, each with every seed's sessions, split and training.
Finished stages are recognised, and an interrupted training goes on.
"""

import dataclasses
import os
import sys
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from experiments import cdml
from experiments.composites import compose, composed
from experiments.gathering import data_of, over_seeds, worlds
from experiments.neighbours import indexed, neighbours
from experiments.points import (
    Point,
    points_of,
    refuse_seeds,
    refuse_uneven,
    refuse_unfinished,
)
from experiments.quantised import code_rows, measure, measured
from experiments.running import SAMPLE, Runner
from experiments.sweep import PERMUTED, Sweep, varied
from experiments.tables import print_systems
from vidembed import files
from vidembed.cli.command_line import start
from vidembed.cli.run_report import evaluations_of, journal_of
from vidembed.distributed.stopping import StopFlag
from vidembed.engine.evaluate import EvaluationJob
from vidembed.engine.recipe import Retention
from vidembed.metrics.intervals import bootstrap, differences, ratios
from vidembed.models.fusion import LateFusion, Layers, SingleModality
from vidembed.records.label_names import read_vocabulary
from vidembed.records.scores_file import Scores
from vidembed.report import wording
from vidembed.report.clusters import clusters
from vidembed.report.embedding_map import embedding_map
from vidembed.report.gallery import gallery
from vidembed.report.headline import headline
from vidembed.report.page import write_report
from vidembed.workdir.layout import Workdir
from vidembed.workdir.versions import versions

LAYERS = Layers(hidden=(1024,), size=256, input_dropout=0.5)
"""Of both networks."""
recipe = varied(
    cdml.recipe,
    task={"model": LateFusion(layers=LAYERS)},
    feed={"batch_triplets": 512},
    checkpoints=Retention(every_steps=50, keep_last=10),
    steps=200,
    log_every=10,
    evaluate_every=50,
)
TARGETS = {"eval_to_train": 1.45, "train_to_eval": 1.18}
"""Trained over raw visual NDCG@10 that this size is meant to reach, as a mean over the seeds."""


sweep = Sweep(
    name="quickstart",
    title="Quickstart",
    claim="Audio helps.",
    points=lambda base: {
        "trained": base,
        "trained_visual_only": varied(base, task={"model": SingleModality(layers=LAYERS)}),
    },
    reference="trained",
)
"""CDML, and the same with its visual tower alone."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quickstart:
    """From real YouTube-8M records to a trained embedding and a report, on simulated sessions."""

    workdir: str = "runs/quickstart"
    """Folder for everything that is made; running again goes on from what is done."""
    records: str = os.path.relpath(SAMPLE)
    """Video-level TFRecords: a folder, a file or a pattern."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each seed makes its own people, sessions, split and training."""
    steps: int = recipe.steps
    """Updates of each training."""

    def __post_init__(self) -> None:
        refuse_seeds(self.seeds)

    def run(self) -> int:
        """All stages; 0 when summary.json and report.html are written, 1 if a training failed."""
        workdir, base = Workdir(self.workdir), dataclasses.replace(recipe, steps=self.steps)
        with StopFlag() as stop, workdir.lease(of_run=False):
            runner = Runner(Path(self.workdir), stop, records=self.records)
            done = points_of(sweep, base, runner.folder, self.seeds)
            if runner.run(done):
                return 1
            refuse_unfinished(done)
            trained = [p for p in done if p.name == sweep.reference and not p.permuted]
            for point in trained:
                with point.run.lease(), stop.raising():
                    measure(point, runner, faiss=False)
                    compose(point, runner)
            with runner.progress.stage("index") as stage:
                answer = list(self._search(runner, trained[0]))
            runner.account("index", stage.seconds)
            coded = {point: found for point in trained if (found := measured(point, faiss=False))}
            summary = self._summary(runner, done) | {"codes": code_rows(coded, LAYERS.size)}
            with runner.progress.stage("report") as stage:
                self._report(runner, summary, done)
            summary["seconds"]["report"] = stage.seconds
            files.write_json(workdir.path / "summary.json", summary)
            print_systems(summary["related_videos"])
            for line in (*self._lines(summary), *answer):
                runner.progress.say(line)
        return 0

    def _summary(self, runner: Runner, done: list[Point]) -> dict[str, Any]:
        scores = {point: point.scores() for point in done}
        refuse_uneven(scores)
        scores = {point: {**of, **composed(point)} for point, of in scores.items()}
        columns = dict.fromkeys(sweep.evaluator.directions, sweep.evaluator.metrics)
        ordinary, permuted = (list(side.values()) for side in worlds(scores, columns))
        data, fingerprints = data_of(point for point in done if not point.permuted)
        return {
            "simulated_sessions": True,
            "seeds": list(self.seeds),
            "related_videos": _systems(ordinary),
            "ratio_to_visual": _ratios(ordinary),
            "targets": TARGETS,
            "audio_contribution": over_seeds(ordinary, *sweep.points(recipe), by=differences),
            "permuted_control": _systems(permuted),
            "permuted_difference": [
                {"one": a, "other": b, "difference": over_seeds(permuted, a, b, by=differences)}
                for a, b, *_ in PERMUTED
            ],
            "data": {"records": self.records, **data},
            "recipes": {point.name: point.recipe.to_json() for point in done[:2]},
            "fingerprints": {"table": runner.table().fingerprint, **fingerprints},
            "seconds": runner.seconds,
            "peak_memory_bytes": runner.peak_memory_bytes,
            "versions": versions(),
        }

    def _search(self, runner: Runner, point: Point) -> Iterator[str]:
        """An index of all videos by a trained point, and what it finds for a new one."""
        corpus, path = runner.corpus(point), runner.folder / "index"
        table, names = corpus.table, read_vocabulary(SAMPLE / "vocabulary.csv")
        index = indexed(point, table, path, runner.progress)
        first = table.ids[np.flatnonzero(corpus.held_out["test"].videos)[0]].decode()
        yield f"{path} holds {len(index):,} videos; the first that is new, and its neighbours, as"
        yield f"`python -m vidembed search {path} --id={first} -k 5` finds them:"
        yield from neighbours(index, first, table, names)

    def _report(self, runner: Runner, summary: dict[str, Any], done: list[Point]) -> None:
        names, first = read_vocabulary(SAMPLE / "vocabulary.csv"), done[0]
        corpus = runner.corpus(first)
        job = EvaluationJob(
            first.recipe, first.evaluation, first.run, corpus=corpus, progress=runner.progress
        )
        embeddings = job.model(self.steps)["video"](corpus.table)
        evaluations = {str(p): evaluations_of(p.run, p.measured_by) for p in done}
        write_report(
            Workdir(self.workdir).report_file,
            title="vidembed quickstart",
            summary=summary,
            journals={str(point): journal_of(point.run) for point in done},
            # Step 0, the untrained network, is a system of its own.
            evaluations={n: [one for one in of if one["step"]] for n, of in evaluations.items()},
            corpora={name: of for name, of in summary["data"].items() if name != "records"},
            coded=summary["codes"],
            gallery=gallery(embeddings, corpus, names),
            recipe=first.recipe.to_json(),
            clusters=clusters(corpus, names),
            embedding_map=embedding_map(embeddings, corpus, names),
        )

    def _lines(self, summary: dict[str, Any]) -> Iterator[str]:
        """What the terminal says below the tables."""
        for direction, found in summary["ratio_to_visual"].items():
            each = ", ".join(f"{r:.2f}" for r in found["per_seed"])
            yield (
                f"{wording.direction(direction)}: trained is {found['mean']:.2f} × raw visual at "
                f"{wording.metric(found['metric'])} [{found['low']:.2f}, {found['high']:.2f}] "
                f"(seeds: {each}; target {TARGETS[direction]:.2f})"
            )
        told = [("audio adds", summary["audio_contribution"])]
        for pair in summary["permuted_difference"]:
            one, other = (wording.system(pair[part]) for part in ("one", "other"))
            told.append((f"permuted ids, {one} minus {other}", pair["difference"]))
        for title, of in told:
            for direction, metrics in of.items():
                d = metrics[headline(direction, metrics)]
                change = f"{d['value']:+.4f} [{d['low']:+.4f}, {d['high']:+.4f}]"
                yield f"{wording.direction(direction)}: {title} {change}"
        total = sum(summary["seconds"].values())
        yield f"{total:.0f} s, peak memory {summary['peak_memory_bytes'] / 1e9:.2f} GB"
        yield f"wrote {self.workdir}/summary.json and {self.workdir}/report.html"


def _systems(seeds: Sequence[Scores]) -> dict[str, Any]:
    """direction → system → metric → {value, low, high}: means over seeds."""
    means = {system: over_seeds(seeds, system, by=bootstrap) for system in seeds[0]}
    return {d: {name: of[d] for name, of in means.items()} for d in sweep.evaluator.directions}


def _ratios(seeds: Sequence[Scores]) -> dict[str, Any]:
    """direction → {metric, mean, low, high, per_seed}: trained over raw visual, by NDCG."""
    pair, ratio_of = ("trained", "visual"), {}
    for direction, metrics in over_seeds(seeds, *pair, by=ratios).items():
        main = headline(direction, metrics)
        mean = metrics[main].pop("value")
        each = [[seed[name][direction].values[main].mean() for name in pair] for seed in seeds]
        ratio_of[direction] = {"metric": main, "mean": mean, **metrics[main]}
        ratio_of[direction]["per_seed"] = [float(one / other) for one, other in each]
    return ratio_of


main = partial(start, Quickstart, prog="python -m experiments.quickstart")

if __name__ == "__main__":
    sys.exit(main())
