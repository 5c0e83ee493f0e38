"""Options that say which videos are for training, where no run says it."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from vidembed.records.split import train_rows
from vidembed.records.split_file import read_split
from vidembed.records.table import FeatureTable


@dataclasses.dataclass(frozen=True, kw_only=True)
class TrainPart:
    """Which videos are for training: components are fitted on these alone."""

    split_seed: int = 0
    """With --pca: seed of the split, as --corpus.split-seed of training."""
    train_share: float = 0.7
    """With --pca: share of train videos, as --corpus.train-share of training."""
    split: str | None = None
    """With --pca: a file of id, split (or id, group), as --corpus.split of training."""

    def of(self, videos: Sequence[str]) -> list[str]:
        """The train videos among these ids."""
        ids = np.array([video.encode() for video in videos])
        seed, share = self.split_seed, self.train_share
        if self.split is None:
            chosen = train_rows(ids, seed=seed, train_share=share)
        else:
            bare = FeatureTable(
                ids=ids, features={"none": np.zeros((len(ids), 1), np.uint8)},
                label_offsets=np.zeros(len(ids) + 1, np.int64), label_values=np.zeros(0, np.int32),
            )  # fmt: skip
            chosen = read_split(self.split, bare, seed=seed, train_share=share).train
        return [video for video, is_train in zip(videos, chosen) if is_train]
