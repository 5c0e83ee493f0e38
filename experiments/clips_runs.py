"""Trainings of ProViCo on one list of clips, measured: what `experiments.clips` repeats."""

import gc
import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import numpy as np

from experiments.annotation_runs import FailedError, verb
from experiments.clips_lists import Lists
from experiments.clips_rows import DISTANCE, FIXED, MOTION, PROVICO, Input, Row
from experiments.clips_scores import Scores, scored, standardised, thumbnails
from experiments.colour_histogram import histogram
from experiments.words_runs import same_options
from vidembed import files
from vidembed.cli.run_report import journal_of
from vidembed.corpora.clip_files import ClipFilesCorpus, ClipFilesPaths
from vidembed.engine.evaluation import recipe_of
from vidembed.engine.model import load_model
from vidembed.evaluators import clip_scores
from vidembed.evaluators.clip_scores import LabelledClips
from vidembed.workdir.layout import Workdir

SIDE = 32
"""Height and width of decoded clips."""


@dataclass(frozen=True, kw_only=True)
class Training:
    """What all rows share."""

    steps: int = 200
    """Updates of each training; 40 are enough for a test of decoded clips."""
    batch_videos: int = 64
    """Clips of the list in a batch; 16 for decoded clips."""
    windows: int = 4
    """Windows (the paper's clips) of each, while training; 2 for decoded clips."""
    frames: int = 8
    """Frames of a window."""
    embedded: int = 8
    """Windows by which a trained model embeds, evenly spread."""
    size: int = 128
    """Dimensions of the embedding."""
    width: float = 0.25
    """Share of R3D-18's channels, for decoded clips."""

    def words(self, row: Row, decoded: bool) -> list[str]:
        """Options after those of data, seed and rate."""
        parts = [f"--steps={self.steps}", f"--log-every={max(1, self.steps // 20)}"]
        parts += [f"--checkpoints.every-steps={self.steps}", f"--task.heads.size={self.size}"]
        pictures = {"rate": 8, "height": SIDE, "width": SIDE}
        if decoded:
            parts += [f"--task.augment.size={SIDE}"]
        if "task.loss:info-nce" not in row.loss:  # one block, which compiles faster
            parts += [f"--task.loss{of}.block={self.batch_videos}" for of in ("", ".distance")]
        parts += [*row.heads, "feed:decoded-clips" if decoded else "feed:feature-windows"]
        feed = {"batch-videos": self.batch_videos, "clips": self.windows, "frames": self.frames}
        embedded = {"clips": self.embedded, "frames": self.frames}
        if decoded:
            feed, embedded = feed | pictures, embedded | pictures
        parts += [f"--feed.{name}={value}" for name, value in feed.items()]
        parts += [f"task.encoder:{row.encoder}"]
        parts += [f"--task.encoder.width={self.width}"] * decoded
        parts += ["task.embedded:even-clips" if decoded else "task.embedded:even-windows"]
        parts += [f"--task.embedded.{name}={value}" for name, value in embedded.items()]
        return [*parts, *row.loss]


class Runs:
    """Trains and measures rows in a folder, skipping what is done."""

    def __init__(
        self, folder: Path, videos: str, frames: str, lists: Lists, training: Training,
        *, pair: Sequence[int], decoded: bool = False,
    ) -> None:  # fmt: skip
        self.folder, self._videos, self._frames, self._lists = folder, videos, frames, lists
        self._training, self.decoded, self._pair = training, decoded, list(pair)
        self.known = lists.labelled(lists.clips.part)
        self._corpora: dict[Input, ClipFilesCorpus] = {}

    @cached_property
    def of_pair(self) -> LabelledClips | None:
        """The two classes alone; None without a pair."""
        return self.known.of_classes(self._pair) if self._pair else None

    def corpus(self, source: Input) -> ClipFilesCorpus:
        """All clips, with this input."""
        if source not in self._corpora:
            self._corpora[source] = ClipFilesPaths(
                folder=self._videos, clips=str(self._lists.final),
                frames="" if self.decoded else self._frames, motion=MOTION[source],
            ).open()  # fmt: skip
        return self._corpora[source]

    def controls(self) -> None:
        """Measure what is not trained."""
        corpus = self.corpus("features")
        inputs: dict[str, Callable[[], np.ndarray]] = {
            f"raw {source}": partial(self.raw, source) for source in MOTION
        }
        if self.decoded:
            inputs = {"raw pixels": lambda: thumbnails(corpus.files, SIDE)}
        for key, vectors in inputs.items():
            if not (last := self.note(f"{key}, standardised", 0)).exists():
                values = vectors()
                self._keep(self.note(key, 0), values, {})
                self._keep(last, standardised(values, self.known.train), {})
        if not (note := self.note("colour histogram", 0)).exists():
            self._keep(note, np.stack([*map(histogram, corpus.files)]), {})

    def raw(self, source: Input) -> np.ndarray:
        """The mean over all frames f32[N, F]; of several inputs side by side."""
        if source == "both":
            return clip_scores.side_by_side([self.raw("features"), self.raw("motion")])
        (stored,) = self.corpus(source).stored.values()
        return np.stack([stored.read(row).mean(axis=0) for row in range(len(stored.ids))])

    def chance(self) -> Scores:
        """The expectation of a random order, and of the most frequent class."""
        first, second = clip_scores.chance(self.known)
        of_pair = clip_scores.chance(self.of_pair)[0].values if self.of_pair else {}
        return Scores(first.values, second.values, of_pair)

    def choose(self, row: Row, rates: Sequence[float]) -> float:
        """The learning rate whose run of seed 0 is best on validation clips: the highest mean of
        R@1 and probe, and the smallest rate of equals. A run that warns of its variances or vectors
        is chosen only if all do."""
        if len(rates) == 1:
            return rates[0]
        known = self._lists.labelled(self._lists.choosing_part, "validation")
        listed = self._lists.choosing
        if row.videos:
            listed = self._lists.fewer(row.videos, choosing=True)
        results = {}
        for rate in sorted(rates):
            place = self.folder / "choosing" / row.key / f"{rate:g}"
            note = place.with_name(place.name + ".json")
            if not note.exists():
                plain = row._replace(untrained="")
                vectors = self._trained(plain, place, listed, rate, 0)[0]
                stored: dict[str, Any] = {"validation": -2.0}
                if vectors is not None:
                    task, lines = recipe_of(Workdir(place)).task, journal_of(Workdir(place))
                    warned = sorted(task.diagnose(lines, finished=True))
                    stored = {"warned": warned, "validation": _validated(vectors, known)}
                files.write_json(note, stored)
            read = json.loads(note.read_text())
            results[rate] = read["validation"] - bool(read.get("warned"))
        return max(results, key=lambda rate: (results[rate], -rate))

    def measure(self, row: Row, rate: float, seed: int) -> None:
        """Train a row and keep its scores, and those of its parameters before training."""
        place, note = self.folder / "runs" / row.key / f"seed{seed}", self.note(row.key, seed)
        lines = self._lists.fewer(row.videos) if row.videos else self._lists.final
        if not note.exists():
            began = time.monotonic()
            vectors, before = self._trained(row, place, lines, rate, seed)
            spent = {"seconds": round(time.monotonic() - began, 1), "rate": rate}
            self._keep(note, vectors, spent | _journal(place))
            if row.untrained and before is not None:
                self._keep(self.note(row.untrained, seed), before, {})

    def note(self, key: str, seed: int) -> Path:
        """The file of a system's scores."""
        return self.folder / "measured" / f"{key}-seed{seed}.json"

    def scores(self, key: str, seed: int) -> Scores | None:
        """The scores of a system; None if it is not measured, or failed."""
        place = self.note(key, seed)
        stored = json.loads(place.read_text()) if place.exists() else {}
        if "clips" not in stored:
            return None
        return Scores(
            *({n: np.array(v) for n, v in stored[part].items()} for part in Scores._fields)
        )

    def about(self, key: str, seed: int) -> dict[str, Any]:
        """What else is known of a measured system: rate, seconds, last logged measures."""
        place = self.note(key, seed)
        about: dict[str, Any] = json.loads(place.read_text())["about"] if place.exists() else {}
        return about

    def _keep(self, note: Path, vectors: np.ndarray | None, about: Mapping[str, Any]) -> None:
        """Write the scores of vectors; None for a training that failed."""
        of = {} if vectors is None else scored(vectors, self.known, self.of_pair)
        note.parent.mkdir(parents=True, exist_ok=True)
        files.write_json(note, {"about": dict(about)} | of)

    def _trained(
        self, row: Row, place: Path, lines: Path, rate: float, seed: int
    ) -> tuple[np.ndarray | None, np.ndarray | None]:
        """Vectors f32[N, D] of all clips after and before a training, None where it failed."""
        words = [f"--corpus.folder={self._videos}", f"--corpus.clips={lines}"]
        if not self.decoded:
            words += [f"--corpus.frames={self._frames}", f"--corpus.motion={MOTION[row.input]}"]
        words += [f"--seed={seed}", f"--optimiser.learning-rate={rate:g}"]
        distance = f"{self._threshold():.6g}" if row.key == FIXED else ""
        made = [
            word.replace(DISTANCE, distance)
            for word in self._training.words(row, self.decoded)
        ]  # fmt: skip
        same_options(place, [*words, *made])
        run, source = Workdir(place), self.corpus(row.input).table
        try:
            if run.done() is None:
                verb("train", "provico", "--workdir", str(place), *words, *made)
            vectors = load_model(run, "latest", outputs=("video",))["video"](source)
            clip_scores.refuse_unfinite(vectors)
            before = load_model(run, "0", outputs=("video",))["video"] if row.untrained else None
            return vectors, before(source) if before else None
        except (FailedError, ValueError) as error:
            if isinstance(error, FailedError) and not str(error).count("code 1:"):
                raise  # asked to stop
            print(f"{place}: failed: {error}", flush=True)
            return None, None
        finally:
            jax.clear_caches()  # each run has its own programs
            gc.collect()

    def _threshold(self) -> float:
        """The median threshold of ProViCo's run of the first seed that is there."""
        places = sorted((self.folder / "runs" / PROVICO).glob("seed*/metrics.jsonl"))
        if not places:
            raise ValueError(f"the fixed threshold is that of {PROVICO}: measure that row, too")
        lines = journal_of(Workdir(places[0].parent))
        return statistics.median(line["threshold"] for line in lines if "threshold" in line)


def _validated(vectors: np.ndarray, known: LabelledClips) -> float:
    first, _ = clip_scores.measured(vectors, known, at=(1,))
    return float(np.mean([first.values["r@1"].mean(), first.values[clip_scores.PROBE].mean()]))


def _journal(place: Path) -> dict[str, Any]:
    """The last logged measures of a training."""
    lines = journal_of(Workdir(place))
    last = [line for line in lines if line["kind"] == "train"][-1:]
    names = ("loss", "match_loss", "mined", "threshold", "deviation", "within", "between")
    return {name: line[name] for line in last for name in names if name in line}
