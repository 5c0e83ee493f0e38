"""The whole way on ten real YouTube-8M shards, on a laptop CPU: `make quickstart`.

Check and import the records, simulate watch sessions from their labels, count co-watches, split
7:3 by video, train CDML with semi-hard mining, evaluate both cold-start directions against
baselines and controls, write a report. Everything is done for each seed: sessions, split and
training. The recipe is that of `experiments/cdml.py` at a smaller size; nothing here is a second
program. Finished stages are recognised, and an interrupted training goes on.
"""

import dataclasses
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import tyro

from experiments import cdml
from experiments.comparisons import PERMUTED
from experiments.imported import SAMPLE, imported
from experiments.stages import Stages
from experiments.summary import difference, print_table, ratio, with_intervals
from experiments.variation import varied
from experiments.world import World, refuse_seeds
from vidembed.launch import guarded
from vidembed.models.fusion import Fusion, LateFusion, Layers, SingleModality
from vidembed.progress import Progress
from vidembed.recipe import Retention
from vidembed.records.table import FeatureTable
from vidembed.records.vocabulary import read_vocabulary
from vidembed.report import wording
from vidembed.report.clusters import clusters
from vidembed.report.gallery import gallery
from vidembed.report.headline import headline
from vidembed.report.page import write_report
from vidembed.run_report import evaluations_of, journal_of
from vidembed.scores_file import Scores
from vidembed.stopping import StopFlag
from vidembed.versions import versions
from vidembed.workdir import Workdir

LAYERS = Layers(hidden=(1024,), size=256, input_dropout=0.5)
MODELS: dict[str, Fusion] = {
    "trained": LateFusion(layers=LAYERS),
    "trained_visual_only": SingleModality(layers=LAYERS),
}
"""Both at the same widths."""
recipe = varied(
    cdml.recipe,
    feed={"batch_triplets": 512},
    checkpoints=Retention(every_steps=50, keep_last=10),
    steps=200,
    log_every=10,
    evaluate_every=50,
)
TARGETS = {"eval_to_train": 1.45, "train_to_eval": 1.18}
"""Trained over raw visual NDCG@10 that this size is meant to reach, as a mean over the seeds."""


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

    def run(self) -> dict[str, Any]:
        """All stages; returns the summary that is also written to summary.json."""
        workdir, progress = Workdir(self.workdir), Progress()
        stages = Stages(workdir, progress)
        with StopFlag() as stop, workdir.lease():
            table = imported(stages, self.records, Path(self.workdir) / "table")
            worlds = [self._world(stages, stop, table, seed) for seed in self.seeds]
            controls = [replace(world, permuted=True) for world in worlds]
            controls = [replace(c, models={"trained": MODELS["trained"]}) for c in controls]
            scores = [world.scores() for world in worlds]
            permuted = [control.scores() for control in controls]
            summary = self._summary(stages, worlds, scores, permuted)
            with progress.stage("report") as stage:
                self._report(workdir, summary, worlds, controls)
            stages.seconds["report"] = stage.seconds
            workdir.write_json(workdir.path / "summary.json", summary)
            print_table(summary["related_videos"], simulated=True)
            self._say(progress, summary)
        return summary

    def _world(self, stages: Stages, stop: StopFlag, table: Path, seed: int) -> World:
        # Step 0, the untrained network, is kept whatever the number of steps.
        checkpoints = replace(recipe.checkpoints, keep_every=self.steps)
        return World(
            stages=stages,
            stop=stop,
            table_path=table,
            folder=Path(self.workdir),
            recipe=replace(recipe, steps=self.steps, checkpoints=checkpoints),
            models=MODELS,
            seed=seed,
        )

    def _summary(
        self,
        stages: Stages,
        worlds: Sequence[World],
        scores: Sequence[Scores],
        permuted: Sequence[Scores],
    ) -> dict[str, Any]:
        first = worlds[0]
        return {
            "simulated_sessions": True,
            "seeds": list(self.seeds),
            "related_videos": with_intervals(scores),
            "ratio_to_visual": ratio(scores, "trained", "visual"),
            "targets": TARGETS,
            "audio_contribution": difference(scores, "trained", "trained_visual_only"),
            "permuted_control": with_intervals(permuted),
            "permuted_difference": [
                {"one": one, "other": other, "difference": difference(permuted, one, other)}
                for one, other, *_ in PERMUTED
            ],
            "data": {"records": self.records, **{w.name: w.corpus.report() for w in worlds}},
            "recipes": {system: first.recipe_of(system).to_json() for system in MODELS},
            "fingerprints": {
                "table": FeatureTable.open(first.table_path, verify=False).fingerprint,
                **{world.name: world.corpus.fingerprint for world in worlds},
            },
            "seconds": stages.seconds,
            "peak_memory_bytes": stages.peak_memory_bytes,
            "versions": versions(),
        }

    def _report(
        self,
        workdir: Workdir,
        summary: dict[str, Any],
        worlds: Sequence[World],
        controls: Sequence[World],
    ) -> None:
        runs = {
            f"{world.name}/{system}": world.run(system)
            for world in (*worlds, *controls)
            for system in world.models
        }
        names = read_vocabulary(SAMPLE / "vocabulary.csv")
        first = worlds[0]
        write_report(
            workdir.report_file,
            title="vidembed quickstart",
            summary=summary,
            journals={name: journal_of(run) for name, run in runs.items()},
            evaluations={name: evaluations_of(run) for name, run in runs.items()},
            corpora={world.name: world.corpus.report() for world in worlds},
            gallery=gallery(first.embed("trained"), first.corpus, names),
            recipe=first.recipe_of("trained").to_json(),
            clusters=clusters(first.corpus, names),
        )

    def _say(self, progress: Progress, summary: dict[str, Any]) -> None:
        for direction, found in summary["ratio_to_visual"].items():
            each = ", ".join(f"{r:.2f}" for r in found["per_seed"])
            progress.say(
                f"{direction}: trained is {found['mean']:.2f} × raw visual at "
                f"{wording.metric(found['metric'])} [{found['low']:.2f}, {found['high']:.2f}] "
                f"(seeds: {each}; target {TARGETS[direction]:.2f})"
            )
        told = [("audio adds", summary["audio_contribution"])]
        for pair in summary["permuted_difference"]:
            one, other = (wording.system(pair[part]) for part in ("one", "other"))
            told.append((f"permuted ids, {one} minus {other}", pair["difference"]))
        for title, differences in told:
            for direction, metrics in differences.items():
                d = metrics[headline(direction, metrics)]
                progress.say(
                    f"{direction}: {title} {d['value']:+.4f} [{d['low']:+.4f}, {d['high']:+.4f}]"
                )
        total = sum(summary["seconds"].values())
        progress.say(f"{total:.0f} s, peak memory {summary['peak_memory_bytes'] / 1e9:.2f} GB")
        progress.say(f"wrote {self.workdir}/summary.json and {self.workdir}/report.html")


def main() -> int:
    """The command line; exit codes as in `vidembed.launch`."""
    try:
        chosen = tyro.cli(Quickstart, prog="python -m experiments.quickstart")
    except ValueError as error:
        print(error, file=sys.stderr)
        return 2

    def run() -> int:
        chosen.run()
        return 0

    return guarded(run)


if __name__ == "__main__":
    sys.exit(main())
