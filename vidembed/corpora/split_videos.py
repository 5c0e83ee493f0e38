"""Videos split into parts: where their table is, how to split it, and the check of batches.

What all corpora of a feature table share, with or without relations.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any

import numpy as np

from vidembed import PATH
from vidembed.corpora.frame_sources import FrameSource, RecordFrames
from vidembed.records.split import LeakError, Split, by_hash, check_shares
from vidembed.records.split_file import read_split
from vidembed.records.stored_options import options_of
from vidembed.records.table import FeatureTable


@dataclass(frozen=True, kw_only=True)
class SplitVideos:
    """A feature table of N videos, split by video."""

    table: FeatureTable
    is_train: np.ndarray
    """bool[N]: the videos for training."""
    is_validation: np.ndarray
    """bool[N]: the videos by which checkpoints are chosen; none if not given. Videos neither here
    nor in is_train are for testing."""

    def __post_init__(self) -> None:
        if not len(self.is_validation):
            object.__setattr__(self, "is_validation", np.zeros(len(self.is_train), bool))
        both = self.is_train & self.is_validation
        if both.any():
            raise ValueError(f"{int(both.sum())} videos are both in train and in validation")

    @property
    def space(self) -> Mapping[str, str]:
        """Modality → its space."""
        return self.table.space

    @property
    def imported(self) -> Mapping[str, Any]:
        """The options of the table's import, which read further records of its kind."""
        return options_of(self.table.manifest, self.table.ranges)

    @property
    def ids(self) -> np.ndarray:
        """S[N]: the id of each video."""
        return self.table.ids

    @property
    def frame_sources(self) -> Mapping[str, FrameSource]:
        """Modality → the features of its frames, of frame-level records; {} for other tables."""
        frames = self.table.frames
        if frames is None:
            return {}
        widths = frames.reader.format.widths
        return {name: RecordFrames(frames=frames, modality=name) for name in widths}

    @cached_property
    def is_test(self) -> np.ndarray:
        """bool[N]: the videos for testing."""
        return ~self.is_train & ~self.is_validation

    @property
    def split_bytes(self) -> bytes:
        """The split as bytes, for digests."""
        parts = [self.is_train] + [self.is_validation] * bool(self.is_validation.any())
        return b"".join(np.packbits(part).tobytes() for part in parts)

    def check(self, batch: Mapping[str, Any]) -> None:
        """Raise LeakError if a batch holds a video outside train: `rows`, i[...], of the table.

        Checks the rows in the batch itself, not the sampler's settings. ValueError for a batch
        without `rows`.
        """
        check_rows(batch, self.is_train, self.table.ids)


def check_rows(batch: Mapping[str, Any], is_train: np.ndarray, ids: np.ndarray) -> None:
    """Raise LeakError if a batch holds a row outside bool[N]; ids S[N] name it in the message.
    ValueError for a batch without `rows`."""
    if "rows" not in batch:
        raise ValueError(
            f"a batch of {', '.join(batch)} does not say which videos it holds: a feed must "
            "put their row numbers under `rows`"
        )
    rows = np.asarray(batch["rows"])
    leaked = np.unique(rows[~is_train[rows]])
    if len(leaked):
        first_ids = ", ".join(i.decode(errors="replace") for i in ids[leaked[:10]])
        raise LeakError(
            f"{len(leaked)} videos of the eval partition are in a training batch: {first_ids}. "
            "Scores after that would be invalid; this is a fault of the feed or the split"
        )


@dataclass(frozen=True, kw_only=True)
class SplitPaths:
    """The path of a feature table, and the options of its split."""

    table: Annotated[str, PATH] = ""
    """A feature table, made by `python -m vidembed import`; local or gs://."""
    split: Annotated[str, PATH] = ""
    """A split to use instead of the hash of ids: `id, split` (train, validation or test), Parquet
    or CSV; or `id, group`, to hash the group so that its videos stay together."""
    split_seed: int = 0
    """Seed of the hashes that assign each video to a part."""
    train_share: float = 0.7
    """Share of the videos to train on (the paper: 7:3)."""
    validation_share: float = 0.0
    """Share of the other videos by which checkpoints are chosen; final scores use the rest."""

    def __post_init__(self) -> None:
        check_shares(self.train_share, self.validation_share)

    def open_table(self) -> FeatureTable:
        """The feature table; raises if none is given, or for a damaged one."""
        if not self.table:
            raise ValueError("no table given: set --corpus.table PATH")
        return FeatureTable.open(self.table)

    def split_of(self, table: FeatureTable) -> Split:
        """Split the videos; raises ValueError if no video is left for validation."""
        shares = {"train_share": self.train_share, "validation_share": self.validation_share}
        given = self.validation_share != type(self).validation_share
        if self.split:
            split = read_split(self.split, table, seed=self.split_seed, **shares, share_given=given)
        else:
            split = by_hash(table.ids, seed=self.split_seed, **shares)
        if self.validation_share and not (split.of_file or split.validation.any()):
            raise ValueError(
                f"validation_share {self.validation_share} of the {int((~split.train).sum())} "
                "videos outside train leaves no video for validation: use a larger share, or "
                "another --corpus.split-seed"
            )
        if self.validation_share and not split.validation.any():
            note = f"{self.split} has no validation videos: checkpoints are chosen by test videos"
            split = split._replace(notes=(*split.notes, note))
        return split
