"""Labels over time on real clips: where two joined clips of different classes meet.

    python -m experiments.labels_over_time --workdir W --clips FOLDER --backbones FOLDER

FOLDER of clips holds split.csv (path, class, group, split). An annotation run is trained on the
train clips; test clips are joined in pairs of two classes, each pair one video file in W/joined;
`annotate` labels their windows. Reported: windows with the right label; the joint, as the border
between windows that best divides them into two labels; and videos in which each class reaches a
threshold in any window, against thresholds on one row for the whole video. Every stage is a verb of
vidembed, whose command is printed; running again goes on from what is done.
"""

import csv
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow.parquet as pq
import tyro

from experiments.annotation_runs import print_tables, verb, write_tables
from experiments.joined_clips import Clip, join, seconds_of
from vidembed import files
from vidembed.cli import command_line
from vidembed.progress import Progress
from vidembed.workdir.versions import versions

MIN_SECONDS = 3.0
"""Shorter clips are not joined: they have too few windows."""


class Joined(NamedTuple):
    """Two clips in one video: labels, and the seconds at which the second begins and ends."""

    id: str
    first: str
    second: str
    joint: float
    end: float


@dataclass(frozen=True, kw_only=True)
class LabelsOverTime:
    """Train, join, annotate windows and measure; print a table and write it to WORKDIR."""

    workdir: str
    """Folder for tables, the run, the joined videos and the results."""
    clips: str = ""
    """Folder of labelled clips with split.csv: path, class, group, split."""
    backbones: str = ""
    """Folder of backbones, as `vidembed extract --backbones` makes it."""
    pairs: int = 60
    """Joined videos."""
    window: float = 1.0
    """Seconds per window."""
    rate: float = 4.0
    """Frames per second."""
    threshold: float = 0.5
    """Score from which a class counts as an alert."""
    seed: int = 0
    """Seed of the pairs and of the training."""

    def run(self) -> int:
        """All stages."""
        listed = Path(self.clips) / "split.csv"
        if not self.clips or not listed.exists():
            raise ValueError("--clips FOLDER must name clips with split.csv: path, class, split")
        folder, clips = Path(self.workdir), _clips(listed)
        frames = ("--backbone", "efficientnet-lite0", "--backbones", self.backbones)
        rate = ("--rate", f"{self.rate:g}")
        table, run = str(folder / "table"), str(folder / "run")
        verb("extract", self.clips, table, *frames, *rate)
        _write_lists(clips, folder)
        verb(
            "train", "annotation", "--workdir", run, "--preset", "laptop", "--corpus.table", table,
            "--corpus.labels", str(folder / "labels.csv"), "--corpus.split",
            str(folder / "split.csv"), "--task.model.modalities", "visual",
            "--task.model.components", "64",
            "--feed.batch-videos", "128", "--seed", str(self.seed),
        )  # fmt: skip
        pairs = folder / f"joined{self.pairs}-seed{self.seed}"
        joined = self._joined(clips, pairs)
        scores = {}
        for name, window in (("whole", ()), ("windows", ("--window", f"{self.window:g}"))):
            made_with = f"{pairs.name}-{self.rate:g}{''.join(window)}"
            rows, out = str(folder / f"{name}-{made_with}"), folder / f"{name}-{made_with}.parquet"
            verb("extract", str(pairs), rows, *frames, *rate, *window)
            verb("annotate", run, rows, str(out), "--step", "latest")
            scores[name] = _scores(out)
        result = measured(joined, scores["windows"], scores["whole"], self.threshold, self.window)
        result |= {"versions": versions(), "seed": self.seed}
        tables = [("Labels over time of joined clips", ["measure", "value"], list(_rows(result)))]
        print_tables(tables, ())
        for path in write_tables(result, tables, (), folder / "labels_over_time"):
            print(f"wrote {path}")
        return 0

    def _joined(self, clips: Sequence[Clip], folder: Path) -> list[Joined]:
        """Pairs of test clips of different classes, each as one video file."""
        random = np.random.default_rng(self.seed)
        test = [clip for clip in clips if clip.part == "test" and seconds_of(clip) >= MIN_SECONDS]
        folder.mkdir(parents=True, exist_ok=True)
        joined: list[Joined] = []
        with Progress().stage("joining clips", self.pairs, "videos") as stage:
            while len(joined) < self.pairs:
                one, other = (test[n] for n in random.choice(len(test), 2, replace=False))
                if one.label != other.label:
                    name = f"joined{len(joined):03d}"
                    joint, end = join(one.path, other.path, folder / f"{name}.mp4")
                    joined.append(Joined(name, one.label, other.label, joint, end))
                    stage.update(len(joined))
        return joined


def measured(
    joined: Sequence[Joined],
    windows: Mapping[str, Sequence[Mapping[str, Any]]],
    whole: Mapping[str, Sequence[Mapping[str, Any]]],
    threshold: float,
    length: float,
) -> dict[str, Any]:
    """The measures over all joined videos.

    windows, whole: video → {"start", "label", "score"} of its rows; `length` seconds per window.
    """
    right, errors, middles = [], [], []
    alerts: dict[str, list[bool]] = {"windows": [], "whole": []}
    false: dict[str, list[bool]] = {"windows": [], "whole": []}
    for video in joined:
        rows = windows[video.id]
        starts = sorted({row["start"] for row in rows})
        labels = sorted({row["label"] for row in rows})
        table = np.zeros((len(starts), len(labels)))
        for row in rows:
            table[starts.index(row["start"]), labels.index(row["label"])] = row["score"]
        for start, best in zip(starts, table.argmax(1)):
            if start + length <= video.joint or start >= video.joint:
                expected = video.first if start < video.joint else video.second
                right.append(labels[best] == expected)
        border = starts[division(np.log(np.maximum(table, 1e-6)))]
        errors.append(abs(border - video.joint))
        middles.append(abs(video.end / 2 - video.joint))
        for label in labels:
            reached = alerts if label in (video.first, video.second) else false
            for name, of in (("windows", rows), ("whole", whole[video.id])):
                scores = [row["score"] for row in of if row["label"] == label]
                reached[name].append(max(scores) >= threshold)
    return {
        "videos": len(joined),
        "windows_right": float(np.mean(right)),
        "joint_within_a_window": float(np.mean(np.array(errors) <= length)),
        "joint_error_median_seconds": float(np.median(errors)),
        "middle_error_median_seconds": float(np.median(middles)),
        "classes_alerted_in_a_window": float(np.mean(alerts["windows"])),
        "classes_alerted_by_the_whole": float(np.mean(alerts["whole"])),
        "other_classes_alerted_in_a_window": float(np.mean(false["windows"] or [False])),
        "other_classes_alerted_by_the_whole": float(np.mean(false["whole"] or [False])),
        "threshold": threshold,
    }


def division(log_scores: np.ndarray) -> int:
    """The number of windows before the border that best divides them in two labels.

    log_scores f64[n, C]. Of all borders 1 to n - 1, the one with the highest sum of the scores of
    one label before it and another one after it.
    """
    before = np.cumsum(log_scores, axis=0)
    best, value = 1, -np.inf
    for border in range(1, len(log_scores)):
        first, rest = before[border - 1], before[-1] - before[border - 1]
        pairs = first[:, None] + rest[None]
        np.fill_diagonal(pairs, -np.inf)
        if pairs.max() > value:
            best, value = border, pairs.max()
    return best if len(log_scores) > 1 else 0


def _clips(listed: Path) -> list[Clip]:
    with listed.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return [Clip(listed.parent / row["path"], row["class"], row["split"]) for row in rows]


def _write_lists(clips: Sequence[Clip], folder: Path) -> None:
    """labels.csv (video_id, label) and split.csv (id, split) for the training."""
    labels = [f"{clip.path.stem},{clip.label}" for clip in clips]
    parts = [f"{clip.path.stem},{clip.part}" for clip in clips]
    files.write_text(folder / "labels.csv", "\n".join(["video_id,label", *labels]) + "\n")
    files.write_text(folder / "split.csv", "\n".join(["id,split", *parts]) + "\n")


def _scores(path: Path) -> dict[str, list[dict[str, Any]]]:
    by_video: dict[str, list[dict[str, Any]]] = {}
    for row in pq.read_table(path).to_pylist():
        by_video.setdefault(row["video_id"], []).append(row)
    return by_video


def _rows(result: Mapping[str, Any]) -> Iterator[list[str]]:
    for name, value in result.items():
        if isinstance(value, int | float) and name != "seed":
            yield [
                name.replace("_", " "),
                f"{value:.3f}" if isinstance(value, float) else str(value),
            ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns an exit code."""
    command = LabelsOverTime(workdir=tyro.MISSING)
    return command_line.start(command, arguments, prog="python -m experiments.labels_over_time")


if __name__ == "__main__":
    sys.exit(main())
