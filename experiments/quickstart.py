"""The whole way on ten real YouTube-8M shards, on a laptop CPU: `make quickstart`.

Check and import the records, simulate watch sessions from their labels, count co-watches, split
7:3 by video, train CDML with semi-hard mining, evaluate both cold-start directions against
baselines and controls, write a report. Everything is done for each seed: sessions, split and
training. The recipe is that of `experiments/cdml.py` at a smaller size; nothing here is a second
program. Finished stages are recognised, and an interrupted training goes on.
"""

import dataclasses
import resource
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import tyro

from experiments import cdml
from experiments.stages import Stages
from experiments.summary import difference, print_table, ratios, with_intervals
from experiments.systems import embeddings_of_features, read_scores, score_systems, write_scores
from vidembed.corpus import Corpus, CorpusPaths
from vidembed.evaluate import Evaluation, recipe_of
from vidembed.feeds.simulated_sessions import PARAMETERS, permute_ids, simulate, write_sessions
from vidembed.graph.cowatch import count_cowatches
from vidembed.launch import FAULTS
from vidembed.models.fusion import Fusion, LateFusion, Layers, SingleModality
from vidembed.progress import Progress
from vidembed.recipe import Recipe, Retention
from vidembed.records.importing import import_videos
from vidembed.records.table import FeatureTable
from vidembed.report.gallery import gallery
from vidembed.report.page import write_report
from vidembed.report.vocabulary import read_vocabulary
from vidembed.run_report import evaluations_of, journal_of
from vidembed.stopping import EXIT_STOPPED
from vidembed.train import train
from vidembed.versions import versions
from vidembed.workdir import Workdir

ROOT = Path(__file__).resolve().parents[1]
VOCABULARY = ROOT / "data" / "youtube8m" / "vocabulary.csv"
LAYERS = Layers(hidden=(1024,), size=256, input_dropout=0.5)
MODELS: dict[str, Fusion] = {
    "trained": LateFusion(layers=LAYERS),
    "trained_visual_only": SingleModality(layers=LAYERS),
}
"""Both at the same widths."""
recipe = replace(
    cdml.recipe,
    feed=replace(cdml.recipe.feed, batch_triplets=512),
    checkpoints=Retention(every_steps=50, keep_last=10),
    steps=200,
    log_every=10,
    evaluate_every=50,
)
TARGETS = {"eval_to_train": 1.35, "train_to_eval": 1.15}
"""Trained over raw visual NDCG@10 that this size is meant to reach."""


class StoppedError(RuntimeError):
    """Asked to stop; what is done is kept."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quickstart:
    """From real YouTube-8M records to a trained embedding and a report, on simulated sessions."""

    workdir: str = "runs/quickstart"
    """Folder for everything that is made; running again goes on from what is done."""
    records: str = str(ROOT / "data" / "youtube8m" / "*.tfrecord")
    """Video-level TFRecords."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Each seed makes its own people, sessions, split and training."""
    steps: int = recipe.steps
    """Updates of each training."""

    def run(self) -> dict[str, Any]:
        """All stages; returns the summary that is also written to summary.json."""
        workdir, progress = Workdir(self.workdir), Progress()
        stages = Stages(workdir, progress)
        with workdir.lease():
            table = self._import(stages)
            seeds = [self._world(stages, table, seed, permuted=False) for seed in self.seeds]
            control = self._world(stages, table, self.seeds[0], permuted=True)
            summary = self._summary(
                stages, [scores for scores, _ in seeds], control[0], seeds[0][1]
            )
            with progress.stage("report"):
                self._report(workdir, summary, seeds[0][1])
            workdir.write_json(workdir.path / "summary.json", summary)
            print_table(summary["related_videos"], simulated=True)
            self._say(progress, summary)
        return summary

    def _import(self, stages: Stages) -> FeatureTable:
        path = Path(self.workdir) / "table"

        def work() -> dict[str, Any]:
            return import_videos(self.records, path)

        report = stages.run("import", {"records": self.records}, work, outputs=[path])
        stages.progress.say(
            f"  {report['rows']:,} videos, fingerprint {report['fingerprint'][:12]}"
        )
        return FeatureTable.open(path)

    def _world(
        self, stages: Stages, table: FeatureTable, seed: int, *, permuted: bool
    ) -> tuple[dict[str, Any], Corpus]:
        """One seed: its sessions, graph, trainings and per-query scores."""
        name = f"seed{seed}" + ("-permuted" if permuted else "")
        folder = Path(self.workdir) / name
        corpus_paths = self._relations(stages, table, seed, folder, name, permuted=permuted)
        corpus = corpus_paths.open()
        models = {"trained": MODELS["trained"]} if permuted else MODELS
        for system, model in models.items():
            chosen = replace(
                recipe,
                corpus=corpus_paths,
                task=replace(recipe.task, model=model),
                steps=self.steps,
                seed=seed,
            )
            self._train(stages, chosen, corpus, folder / system, f"{name}/{system}")

        scores_file = folder / "per_query.parquet"

        def measure() -> None:
            embeddings = {s: _embed(folder / s, corpus, None) for s in models}
            if not permuted:
                embeddings["untrained"] = _embed(folder / "trained", corpus, 0)
            embeddings |= embeddings_of_features(corpus)
            scores = score_systems(embeddings, corpus, recipe.evaluator, seed=seed)
            write_scores(scores, scores_file)

        key = {"corpus": corpus.fingerprint, "steps": self.steps}
        stages.run(f"{name}/evaluation", key, measure, outputs=[scores_file])
        return read_scores(scores_file), corpus

    def _relations(
        self,
        stages: Stages,
        table: FeatureTable,
        seed: int,
        folder: Path,
        name: str,
        *,
        permuted: bool,
    ) -> CorpusPaths:
        sessions, edges = folder / "sessions.parquet", folder / "edges.parquet"
        key = {"table": table.fingerprint, "seed": seed, "parameters": dict(PARAMETERS)}

        def make_sessions() -> int:
            made = simulate(table.ids, table.label_offsets, table.label_values, seed=seed)
            write_sessions(permute_ids(made, seed=seed) if permuted else made, sessions)
            return len(made)

        watches = stages.run(f"{name}/simulated sessions", key, make_sessions, outputs=[sessions])

        def count() -> dict[str, Any]:
            return count_cowatches(sessions, edges)

        report = stages.run(f"{name}/co-watch graph", key, count, outputs=[edges])
        stages.progress.say(f"  {watches:,} simulated watches, {report['edges']:,} edges")
        return CorpusPaths(
            table=str(Path(self.workdir) / "table"), edges=str(edges), split_seed=seed
        )

    def _train(
        self, stages: Stages, chosen: Recipe, corpus: Corpus, folder: Path, name: str
    ) -> None:
        workdir = Workdir(folder)

        def work() -> int:
            evaluation = None
            with workdir.lease() as lease:

                def evaluate(step: int) -> None:
                    nonlocal evaluation
                    evaluation = evaluation or Evaluation(chosen, workdir, corpus=corpus)
                    evaluation.measure(step)

                last = train(
                    chosen,
                    workdir,
                    lease=lease,
                    corpus=corpus,
                    progress=stages.progress,
                    evaluate=evaluate,
                )
            if last < chosen.steps:
                raise StoppedError(f"{name} stopped at step {last}")
            return last

        key = {"recipe": chosen.to_json(), "corpus": corpus.fingerprint}
        stages.run(name, key, work, outputs=[folder / "DONE"])

    def _summary(self, stages: Stages, seeds: list, control: Any, corpus: Corpus) -> dict[str, Any]:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {
            "simulated_sessions": True,
            "related_videos": with_intervals(seeds),
            "ratio_to_visual": ratios(seeds, "trained", "visual"),
            "targets": TARGETS,
            "audio_contribution": difference(seeds, "trained", "trained_visual_only"),
            "permuted_control": with_intervals([control]),
            "seeds": list(self.seeds),
            "data": {"records": self.records, **corpus.report()},
            "recipe": recipe.to_json(),
            "fingerprints": {"table": corpus.table.fingerprint},
            "seconds": stages.seconds,
            "peak_memory_bytes": peak,
            "versions": versions(),
        }

    def _report(self, workdir: Workdir, summary: dict[str, Any], corpus: Corpus) -> None:
        runs = {
            f"seed{seed}/{system}": Workdir(Path(self.workdir) / f"seed{seed}" / system)
            for seed in self.seeds
            for system in MODELS
        }
        control = f"seed{self.seeds[0]}-permuted/trained"
        runs[control] = Workdir(Path(self.workdir) / control)
        first = Path(self.workdir) / f"seed{self.seeds[0]}" / "trained"
        write_report(
            workdir.report_file,
            title="vidembed quickstart",
            summary=summary,
            journals={name: journal_of(run) for name, run in runs.items()},
            evaluations={name: evaluations_of(run) for name, run in runs.items()},
            corpora={f"seed{self.seeds[0]}": corpus.report()},
            gallery=gallery(_embed(first, corpus, None), corpus, read_vocabulary(VOCABULARY)),
            recipe=recipe.to_json(),
        )

    def _say(self, progress: Progress, summary: dict[str, Any]) -> None:
        for direction, ratio in summary["ratio_to_visual"].items():
            each = ", ".join(f"{r:.2f}" for r in ratio["per_seed"])
            progress.say(
                f"{direction}: trained is {ratio['mean']:.2f} × raw visual at NDCG@10 "
                f"(seeds: {each}; aim {TARGETS[direction]:.2f})"
            )
        for direction, metrics in summary["audio_contribution"].items():
            d = metrics["ndcg@10"]
            progress.say(
                f"{direction}: audio adds {d['value']:+.4f} [{d['low']:+.4f}, {d['high']:+.4f}]"
            )
        total = sum(summary["seconds"].values())
        progress.say(f"{total:.0f} s, peak memory {summary['peak_memory_bytes'] / 1e9:.2f} GB")
        progress.say(f"wrote {self.workdir}/summary.json and {self.workdir}/report.html")


def _embed(folder: Path, corpus: Corpus, step: int | None) -> Any:
    workdir = Workdir(folder)
    evaluation = Evaluation(recipe_of(workdir), workdir, corpus=corpus)
    last = evaluation.step_named("latest")
    return evaluation.embed(evaluation.restore(last if step is None else step))


def main() -> int:
    """The command line; exit codes as in `vidembed.launch`."""
    chosen = tyro.cli(Quickstart, prog="python -m experiments.quickstart")
    try:
        chosen.run()
    except StoppedError as stopped:
        print(f"{stopped}; the same command goes on from there", file=sys.stderr)
        return EXIT_STOPPED
    except FAULTS as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
