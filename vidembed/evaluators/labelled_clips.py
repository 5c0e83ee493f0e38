"""What evaluators read of a corpus of labelled clips."""

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from vidembed.corpora.labels import Labels
from vidembed.evaluators.clip_scores import LabelledClips
from vidembed.records.table import FeatureTable


class Clips(Protocol):
    """What is read of a corpus."""

    @property
    def table(self) -> FeatureTable:
        """N videos."""

    @property
    def labels(self) -> Labels:
        """At most one class for each of them."""

    @property
    def groups(self) -> np.ndarray:
        """i[N]: the number of each clip's source."""

    @property
    def is_train(self) -> np.ndarray:
        """bool[N]"""

    @property
    def is_validation(self) -> np.ndarray:
        """bool[N]"""

    @property
    def parts(self) -> Mapping[str, np.ndarray]:
        """`test` and, if there are any, `validation` → bool[N]."""


def check_clips(corpus: Clips) -> None:
    """Raise ValueError for clips of several classes, a part without clips, a source in train and in
    another part, and train clips of a single class."""
    if (several := int((corpus.labels.per_row > 1).sum())) > 0:
        raise ValueError(
            f"{several:,} clips have several classes, and one each is needed: choose one for each"
        )
    for part in corpus.parts:
        clips_of(corpus, part)


def clips_of(corpus: Clips, part: str) -> LabelledClips:
    """The labelled clips of a corpus, with those of this part for testing."""
    inside = corpus.labels.per_row == 1
    labels = np.zeros(len(inside), np.int64)
    labels[inside] = corpus.labels.of(np.flatnonzero(inside)).values
    return LabelledClips(
        labels=labels,
        classes=corpus.labels.classes,
        groups=np.asarray(corpus.groups),
        train=corpus.is_train & inside,
        test=corpus.parts[part] & inside,
        validation=corpus.is_validation & inside if part == "test" else None,
    )
