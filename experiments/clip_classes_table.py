"""Fine-tuned against from scratch against linear on frozen: classes of clips, several seeds.

    python -m experiments.clip_classes_table --workdir W --folder CLIPS --clips CLIPS/split.csv \
        --frames FEATURES/BACKBONE-DIGEST

For each seed, an encoder is trained by `provico` on the train clips, without labels, and the
classes by `clip-classes` in each way. With --frames the clips are windows of stored features,
without it they are decoded. Runs that are done are not repeated. Clips are only read. The tables
are printed, and written to W/clip_classes.json and W/clip_classes.md.
"""

import gc
import shlex
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
import tyro

from experiments.annotation_runs import Titled, interval_text, print_tables, verb, write_tables
from vidembed.cli import command_line
from vidembed.corpora.clip_files import ClipFilesCorpus
from vidembed.engine.evaluation import evaluation_of, recipe_of
from vidembed.metrics.intervals import Interval, bootstrap, differences
from vidembed.workdir.layout import Workdir
from vidembed.workdir.versions import versions

SCRATCH, TUNED = "from scratch", "fine-tuned"
FROZEN = ("--task.encoder-rate", "0")
SYSTEMS: Mapping[str, tuple[str, ...]] = {
    "linear, mean of the frames": ("task.encoder:mean-of-frames",),
    "linear, untrained encoder": FROZEN,
    "linear, pre-trained encoder": ("--init-from", "PRETRAINED", *FROZEN),
    SCRATCH: (),
    TUNED: ("--init-from", "PRETRAINED"),
}
"""Name → options of `clip-classes`; PRETRAINED stands for the run of `provico` of the seed."""
METRIC, PART, OVER_CLASSES = "accuracy@1", "test", "test/class_accuracy"


class Scores(NamedTuple):
    """The test clips of one run."""

    values: np.ndarray
    """f64[Q]: accuracy@1"""
    sources: np.ndarray
    """[Q]"""
    over_classes: float


@dataclass(frozen=True, kw_only=True)
class ClipClassesTable:
    """Train and measure the systems on a list of clips; print and write the tables."""

    workdir: str
    """Folder for the runs and results."""
    folder: str
    """The folder of the clips."""
    clips: str
    """Their list: path, class, group, split; CSV or Parquet."""
    frames: str = ""
    """Stored features of their frames: the folder of one backbone; without, clips are decoded."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of parameters and batches; all share the split."""
    pretraining_steps: int = 300
    """Steps of `provico`."""
    steps: int = 150
    """Steps of `clip-classes`."""
    options: str = "--feed.batch-videos 32 --feed.clips 2"
    """Further options of all trainings, in one text: `--options="--preset clips"`."""

    def run(self) -> int:
        """All runs; raises ValueError if one fails."""
        begun, results = time.monotonic(), dict[str, list[Scores]]()
        for seed in self.seeds:
            pretrained = Path(self.workdir) / f"seed{seed}" / "pretrained"
            self._train("provico", pretrained, seed, self.pretraining_steps)
            for name, options in self._systems().items():
                run = pretrained.with_name(name.replace(",", "").replace(" ", "_"))
                words = [str(pretrained) if w == "PRETRAINED" else w for w in options]
                self._train("clip-classes", run, seed, self.steps, *words)
                verb("evaluate", "clip-classes", "--workdir", str(run), "--no-baselines")
                results.setdefault(name, []).append(scores_of(Workdir(run)))
                jax.clear_caches()  # each run has its own programs
                gc.collect()
        summary = self._summary(results, time.monotonic() - begun)
        print_tables(_tables(summary), _remarks(summary))
        path = Path(self.workdir) / "clip_classes"
        for written in write_tables(summary, _tables(summary), _remarks(summary), path):
            print(f"wrote {written}")
        return 0

    def _systems(self) -> Mapping[str, tuple[str, ...]]:
        """The systems that the data allow: decoded frames have no mean to read."""
        return {n: o for n, o in SYSTEMS.items() if self.frames or not o or ":" not in o[0]}

    def _train(self, word: str, run: Path, seed: int, steps: int, *options: str) -> None:
        data = ["--corpus.folder", self.folder, "--corpus.clips", self.clips]
        data += ["--corpus.frames", self.frames] if self.frames else []
        length = ["--steps", str(steps), "--checkpoints.every-steps", str(steps)]
        of_run = ["--workdir", str(run), "--seed", str(seed), "--log-every", "50"]
        verb("train", word, *of_run, *data, *shlex.split(self.options), *length, *options)

    def _summary(self, results: Mapping[str, list[Scores]], seconds: float) -> dict[str, Any]:
        """Everything that the tables show, as JSON values."""
        scratch = results[SCRATCH]
        return {
            "options": self.options,
            "steps": {"pretraining": self.pretraining_steps, "training": self.steps},
            "seeds": list(self.seeds),
            "clips": len(scratch[0].values),
            "sources": len(np.unique(scratch[0].sources)),
            "systems": {name: _as_json(_mean(of)) for name, of in results.items()},
            "over_classes": {
                name: float(np.mean([one.over_classes for one in of]))
                for name, of in results.items()
            },
            "each_seed": {n: [float(one.values.mean()) for one in of] for n, of in results.items()},
            "minus_scratch": {
                name: _as_json(_minus(of, scratch))
                for name, of in results.items()
                if name != SCRATCH
            },
            "seconds": round(seconds),
            "versions": versions(),
        }


def scores_of(run: Workdir) -> Scores:
    """The test results of a measured run's last step."""
    evaluation, recipe = evaluation_of(run), recipe_of(run)
    assert evaluation
    measurements = run.measurements(evaluation.in_order[0].identity())
    result = measurements.read(recipe.steps)
    per_query = measurements.read_per_query(recipe.steps)
    assert result
    assert per_query
    of = per_query[PART]
    corpus: ClipFilesCorpus = recipe.corpus.open()
    source = dict(zip(corpus.ids.tolist(), corpus.groups.tolist()))
    return Scores(
        values=of.values[METRIC],
        sources=np.array([source[name] for name in of.ids.tolist()]),
        over_classes=result["scores"][OVER_CLASSES]["value"],
    )


def _mean(of: Sequence[Scores]) -> Interval:
    """Over seeds, which share the resampled sources."""
    videos = [one.sources for one in of]
    return bootstrap([{METRIC: one.values} for one in of], videos=videos, seed=0)[METRIC]


def _minus(of: Sequence[Scores], others: Sequence[Scores]) -> Interval:
    """The difference, paired by clip."""
    ones, twos = ([{METRIC: one.values} for one in runs] for runs in (of, others))
    return differences(ones, twos, videos=[one.sources for one in of], seed=0)[METRIC]


def _as_json(interval: Interval) -> dict[str, float]:
    return interval._asdict()


def _tables(summary: Mapping[str, Any]) -> Iterator[Titled]:
    rows = []
    for name, of in summary["systems"].items():
        minus = summary["minus_scratch"].get(name)
        rows.append(
            [
                name,
                interval_text(of),
                " ".join(f"{value:.3f}" for value in summary["each_seed"][name]),
                f"{summary['over_classes'][name]:.4f}",
                interval_text(minus, sign=True) if minus else "",
            ]
        )
    header = ["", METRIC, "each seed", "mean over classes", f"minus {SCRATCH}, paired"]
    yield f"{summary['clips']} test clips of {summary['sources']} sources", header, rows


def _remarks(summary: Mapping[str, Any]) -> Iterator[str]:
    steps, seeds = summary["steps"], " ".join(map(str, summary["seeds"]))
    yield (
        f"Pre-trained by provico for {steps['pretraining']} steps on the train clips, without "
        f"labels; classes for {steps['training']} steps ({summary['options']}). Means over the "
        f"seeds {seeds}, with intervals over sources, the same in all seeds. Last steps; nothing "
        f"was chosen on test clips. {summary['seconds']} s for what was not done before."
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns an exit code."""
    missing = dict.fromkeys(("workdir", "folder", "clips"), tyro.MISSING)
    command = ClipClassesTable(**missing)
    return command_line.start(command, arguments, prog="python -m experiments.clip_classes_table")


if __name__ == "__main__":
    sys.exit(main())
