"""Lists of clips for ProViCo's tables: a validation part to choose by, and fewer train clips."""

import csv
import io
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from vidembed import files
from vidembed.corpora.clips import COLUMNS, Clips, read_clips
from vidembed.evaluators.clip_scores import LabelledClips


class Lists:
    """What trainings and measurements read, as files in a folder.

    `final`: test, and all others for training. `choosing`: without the test clips' influence, a
    part of the sources of each class moved from train to validation (or that of the given list).
    """

    def __init__(self, given: str, folder: Path, *, share: float, seed: int) -> None:
        self._folder, self._seed = folder, seed
        clips = read_clips(given)
        part = clips.part
        self.clips = replace(clips, part=np.where(part == "test", "test", "train"))
        if not (part == "validation").any():
            part = np.where(validation(self.clips, share, seed), "validation", part)
        self.choosing_part = part
        self.final, self.choosing = folder / "clips.csv", folder / "choosing.csv"
        _write(self.clips, self.clips.part, self.final)
        _write(self.clips, part, self.choosing)

    def fewer(self, count: int, *, choosing: bool = False) -> Path:
        """The list with only the first `count` train clips of sources in random order; `choosing`
        without those of validation."""
        name, part = ("choosing", self.choosing_part) if choosing else ("clips", self.clips.part)
        place = self._folder / f"{name}-{count}.csv"
        train = np.flatnonzero(part == "train")
        if not 2 <= count <= len(train):
            raise ValueError(f"{count} of {len(train)} train clips asked for: give 2 or more")
        order = np.random.default_rng([self._seed, 1]).permutation(len(self.clips.sources))
        sorted_clips = train[np.argsort(order[self.clips.groups[train]], kind="stable")]
        kept = part != "train"
        kept[sorted_clips[:count]] = True
        _write(self.clips, np.where(kept, part, ""), place)
        return place

    def labelled(self, part: np.ndarray, measured: str = "test") -> LabelledClips:
        """What is known of the clips: one part against `train`."""
        clips = self.clips
        return LabelledClips(
            labels=clips.labels.astype(np.int64),
            classes=len(clips.classes),
            groups=clips.groups,
            train=part == "train",
            test=part == measured,
        )

    @property
    def counts(self) -> Mapping[str, int]:
        """Part → clips."""
        names, counts = np.unique(self.clips.part, return_counts=True)
        chosen_on = int((self.choosing_part == "validation").sum())
        return dict(zip(names.tolist(), counts.tolist())) | {"of_train_to_choose": chosen_on}


def validation(clips: Clips, share: float, seed: int) -> np.ndarray:
    """bool[n]: a share of the train sources of each class; a source has the class of its first
    clip."""
    if not 0 < share < 1:
        raise ValueError(f"validation is {share}, but must be a share between 0 and 1")
    train, rng = clips.part == "train", np.random.default_rng([seed, 0])
    chosen: list[int] = []
    sources, first = np.unique(np.where(train, clips.groups, -1), return_index=True)
    first, sources = first[sources >= 0], sources[sources >= 0]
    for label in range(len(clips.classes)):
        of_class = sources[clips.labels[first] == label]
        chosen += rng.permutation(of_class)[: round(share * len(of_class))].tolist()
    return train & np.isin(clips.groups, chosen)


def _write(clips: Clips, part: np.ndarray, place: Path) -> None:
    """Clips without a part are left out."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    for row in np.flatnonzero(part != ""):
        name, source = clips.classes[clips.labels[row]], clips.sources[clips.groups[row]]
        lines.writerow((clips.paths[row], name, source, part[row]))
    if not place.exists() or place.read_text() != text.getvalue():
        files.write_text(place, text.getvalue())
