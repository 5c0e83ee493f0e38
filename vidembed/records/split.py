"""The split by video, made before any relation is used: by a hash, or from a file."""

from typing import NamedTuple

import numpy as np
import xxhash

SALT = b"validation:"
"""Put before what is hashed a second time, so that the two hashes are independent."""


class Split(NamedTuple):
    """Who is in which part; a video in neither is for testing."""

    train: np.ndarray
    """bool[N]"""
    validation: np.ndarray
    """bool[N]: none of them is in train."""
    notes: tuple[str, ...] = ()
    """What there is to say of it, for people."""


def by_hash(
    keys: np.ndarray, *, seed: int, train_share: float = 0.7, validation_share: float = 0.0
) -> Split:
    """The split by seeded hashes of keys S[N], ids or names of groups: equal keys stay together.

    Train is `train_rows`. Of the others those are for validation for which xxh3_64 of "validation:"
    and the key lies in the lowest `validation_share` of the 2^64 values: whoever is for training
    stays there whatever the validation share, which only ever takes videos from the test part.
    """
    check_shares(train_share, validation_share)
    train = train_rows(keys, seed=seed, train_share=train_share)
    validation = np.zeros(len(train), bool)
    others = np.flatnonzero(~train)
    validation[others] = _lowest(np.asarray(keys)[others], SALT, seed, validation_share)
    return Split(train, validation)


def train_rows(ids: np.ndarray, *, seed: int, train_share: float = 0.7) -> np.ndarray:
    """Which videos are for training, bool[N], by a seeded hash of ids S[N].

    A video is for training when xxh3_64(id, seed) lies in the lowest `train_share` of the 2^64
    values. The answer depends on its own id alone: videos added later move nobody, and a larger
    share only ever moves videos from evaluation into training. CDML splits 7:3 (section 4.1).
    """
    check_shares(train_share)
    if seed < 0:
        raise ValueError(f"the split's seed must not be negative, found {seed}")
    ids = np.asarray(ids)
    if ids.dtype.kind != "S":
        raise TypeError(f"ids must be bytes, found {ids.dtype}")
    return _lowest(ids, b"", seed, train_share)


def check_shares(train_share: float, validation_share: float = 0.0) -> None:
    """Raises ValueError for shares that leave train or test empty."""
    if not 0.0 < train_share < 1.0:
        raise ValueError(f"train_share {train_share} must lie strictly between 0 and 1")
    if not 0.0 <= validation_share < 1.0:
        raise ValueError(
            f"validation_share {validation_share} must be at least 0 and below 1: it is the share "
            "of the videos outside train that are for validation, and the others are for testing"
        )


def _lowest(keys: np.ndarray, salt: bytes, seed: int, share: float) -> np.ndarray:
    """Whose hash lies in the lowest `share` of all values, bool[len(keys)]."""
    bound, digest = int(share * 2**64), xxhash.xxh3_64_intdigest
    return np.fromiter((digest(salt + key, seed) < bound for key in keys.tolist()), bool, len(keys))
