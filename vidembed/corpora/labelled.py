"""The videos of an annotation run: features, labels, embeddings of other runs, and their split."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
import xxhash

from vidembed import PATH
from vidembed.corpora.label_files import LabelsError, frequent, labels_of_file, labels_of_table
from vidembed.corpora.labels import Labels
from vidembed.corpora.record_paths import RecordPaths, reading_notes
from vidembed.corpora.split_videos import SplitVideos
from vidembed.records.embeddings import with_embeddings
from vidembed.records.split import split_options


@dataclass(frozen=True, kw_only=True)
class LabelledCorpus(SplitVideos):
    """A feature table of N videos with their labels, split by video."""

    labels: Labels
    """The classes of all N videos."""
    reading_notes: tuple[str, ...] = ()
    """Remarks from reading labels, embeddings and split."""

    @property
    def simulated(self) -> bool:
        """False: no user behaviour is part of it."""
        return False

    @cached_property
    def has_labels(self) -> np.ndarray:
        """bool[N]: the videos with at least one label."""
        return self.labels.per_row > 0

    @cached_property
    def train_rows(self) -> np.ndarray:
        """i64[n]: the train videos that have labels."""
        return np.flatnonzero(self.is_train & self.has_labels)

    @property
    def parts(self) -> Mapping[str, np.ndarray]:
        """The videos to evaluate, bool[N], by part: test, and validation if there is any."""
        parts = {"test": self.is_test}
        return parts | ({"validation": self.is_validation} if self.is_validation.any() else {})

    @cached_property
    def rows(self) -> str:
        """Digest of features, labels and split: equal for equal data, on any machine."""
        digest = xxhash.xxh3_128(f"{self.table.fingerprint} {self.labels.fingerprint}".encode())
        digest.update(self.split_bytes)
        return digest.hexdigest()

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on the data for the user."""
        counts = self.report()
        parts = ", ".join(f"{counts[f'{part}_videos']:,} for {part}" for part in self.parts)
        notes: tuple[str, ...] = (
            f"{counts['videos']:,} videos, {counts['train_videos']:,} of them for training, "
            f"{parts}; {counts['classes']:,} classes, {counts['labels_per_video']} per video",
        )
        if unlabelled := counts["videos_without_labels"]:
            notes += (f"{unlabelled:,} videos have no label and are left out",)
        if unseen := counts["classes_without_train_videos"]:
            notes += (
                f"{unseen:,} classes have no train video and cannot be learned; they make up "
                f"{counts['held_out_labels_of_these']:.1%} of the labels outside train",
            )
        return (*self.reading_notes, *notes)

    def report(self) -> dict[str, object]:
        """Counts of videos and labels, for reports."""
        seen = self.labels.counts(self.train_rows) > 0
        outside = self.labels.of(np.flatnonzero(~self.is_train)).values
        return {
            "videos": len(self.table),
            "train_videos": int(self.is_train.sum()),
            **{f"{part}_videos": int(mask.sum()) for part, mask in self.parts.items()},
            "videos_without_labels": int((~self.has_labels).sum()),
            "classes": self.labels.classes,
            "labels_per_video": round(
                len(self.labels.values) / max(1, int(self.has_labels.sum())), 2
            ),
            "classes_without_train_videos": int((~seen).sum()),
            "held_out_labels_of_these": float((~seen[outside]).mean()) if len(outside) else 0.0,
        }


@dataclass(frozen=True, kw_only=True)
class LabelledPaths(RecordPaths):
    """The paths to the data of an annotation run, and the options of its split.

    Validation takes a third of the videos outside train by default: scores on the other two thirds
    are then independent of the choice of the checkpoint.
    """

    labels: Annotated[str, PATH] = ""
    """Own labels, Parquet or CSV of video_id, label (a name), one line per label, or in Sports-1M's
    form (lines of `URL 1,2`, numbers of classes); by default the labels in the table."""
    vocabulary: Annotated[str, PATH] = ""
    """Names of the classes: Index and Name, as in YouTube-8M's vocabulary.csv."""
    embeddings: Annotated[tuple[str, ...], PATH] = ()
    """Vectors from `vidembed embed`, joined by id. Each is a modality with the name of its file:
    cdml for work/cdml.parquet."""
    min_class_videos: int = 0
    """Leave out classes with fewer train videos than this."""
    validation_share: float = 1 / 3
    """Share of the videos outside train by which checkpoints are chosen; scores use the rest."""

    def open(self) -> LabelledCorpus:
        """Read, check and split the data; raises if a file is missing or does not fit."""
        table = self.open_table()
        split = self.split_of(table)
        notes = split.notes + reading_notes(table)
        if self.labels:
            labels, more = labels_of_file(self.labels, table, self.vocabulary)
            notes += more
        else:
            labels = labels_of_table(table, self.vocabulary)
        table, more = with_embeddings(table, self.embeddings, split=split_options(self))
        notes += more
        if self.min_class_videos:
            labels = frequent(labels, np.flatnonzero(split.train), self.min_class_videos)
        corpus = LabelledCorpus(
            table=table,
            is_train=split.train,
            is_validation=split.validation,
            labels=labels,
            reading_notes=notes,
        )
        for name, mask in {"train": corpus.is_train, **corpus.parts}.items():
            if not (mask & corpus.has_labels).any():
                raise LabelsError(
                    f"none of the {int(mask.sum()):,} {name} videos has a label: check the labels, "
                    "or change the split (--corpus.train-share, --corpus.validation-share)"
                )
        if labels.classes < 2:
            raise LabelsError(
                f"every labelled video has the only class, {labels.names[0]!r}, so there is "
                "nothing to tell apart: videos without labels are left out, so give the others a "
                "label, too"
            )
        return corpus
