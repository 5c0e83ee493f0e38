"""Split the videos by a hash, before any relations are used."""

from typing import Any, NamedTuple

import numpy as np
import xxhash

from vidembed.records.window_ids import video_of

SALT = b"validation:"
"""Prefix for the second hash of a key, which makes the two hashes independent."""


class LeakError(RuntimeError):
    """Training would see a video from the evaluation split."""


class Split(NamedTuple):
    """The videos of each part; a video in neither mask is for testing."""

    train: np.ndarray
    """bool[N]"""
    validation: np.ndarray
    """bool[N], disjoint from train."""
    notes: tuple[str, ...] = ()
    """Remarks to show to the user."""
    of_file: bool = False
    """Whether a file names the part of each video, so that no share applies."""


def by_hash(
    keys: np.ndarray, *, seed: int, train_share: float = 0.7, validation_share: float = 0.0
) -> Split:
    """Split by seeded hashes of keys S[N] (ids or group names): equal keys stay together.

    `train_rows` chooses the train part. Of the other videos, those whose xxh3_64 of "validation:"
    plus key lies in the lowest `validation_share` of the 2^64 values are for validation. So the
    validation share never changes the train part; it only takes videos from the test part.
    Windows of a video stay together, too: the key of VIDEO@START-END is VIDEO.
    """
    check_shares(train_share, validation_share)
    train = train_rows(keys, seed=seed, train_share=train_share)
    validation = np.zeros(len(train), bool)
    held_out = np.flatnonzero(~train)
    validation[held_out] = _lowest(np.asarray(keys)[held_out], SALT, seed, validation_share)
    return Split(train, validation)


def train_rows(ids: np.ndarray, *, seed: int, train_share: float = 0.7) -> np.ndarray:
    """The videos for training, bool[N], by a seeded hash of ids S[N].

    A video is for training if xxh3_64(id, seed) lies in the lowest `train_share` of the 2^64
    values; of a window of a video, VIDEO@START-END, the hash is that of VIDEO. This depends only on
    its own id: adding videos moves no other video, and a larger share only moves videos from
    evaluation to training. CDML splits 7:3 (section 4.1).
    """
    check_shares(train_share)
    if seed < 0:
        raise ValueError(f"the split's seed must not be negative, found {seed}")
    ids = np.asarray(ids)
    if ids.dtype.kind != "S":
        raise TypeError(f"ids must be bytes, found {ids.dtype}")
    return _lowest(ids, b"", seed, train_share)


def split_options(options: object) -> dict[str, Any]:
    """The options that decide which videos are for training, of anything that has them; {} for
    others. Equal options split a video alike, whatever else is in the table."""
    names = ("split", "split_seed", "train_share")
    known = {name: getattr(options, name, None) for name in names}
    return {} if None in known.values() else known


def check_shares(train_share: float, validation_share: float = 0.0) -> None:
    """Raise ValueError for shares that leave train or test empty."""
    if not 0.0 < train_share < 1.0:
        raise ValueError(f"train_share {train_share} must lie strictly between 0 and 1")
    if not 0.0 <= validation_share < 1.0:
        raise ValueError(
            f"validation_share {validation_share} must be at least 0 and below 1: it is the share "
            "of the videos outside train that are for validation; the others are for testing"
        )


def _lowest(keys: np.ndarray, salt: bytes, seed: int, share: float) -> np.ndarray:
    """Whether each key's hash lies in the lowest `share` of all values, bool[len(keys)]."""
    bound, digest = int(share * 2**64), xxhash.xxh3_64_intdigest
    videos = map(video_of, keys.tolist())
    return np.fromiter((digest(salt + key, seed) < bound for key in videos), bool, len(keys))
