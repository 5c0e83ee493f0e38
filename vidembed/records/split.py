"""The split by video, made before any relation is used."""

import numpy as np
import xxhash


def train_rows(ids: np.ndarray, *, seed: int, train_share: float = 0.7) -> np.ndarray:
    """Which videos are for training, bool[N], by a seeded hash of ids S[N].

    A video is for training when xxh3_64(id, seed) lies in the lowest `train_share` of the 2^64
    values. The answer depends on its own id alone: videos added later move nobody, and a larger
    share only ever moves videos from evaluation into training. CDML splits 7:3 (section 4.1).
    """
    if not 0.0 < train_share < 1.0:
        raise ValueError(f"train_share must lie strictly between 0 and 1, found {train_share}")
    if seed < 0:
        raise ValueError(f"the split's seed must not be negative, found {seed}")
    ids = np.asarray(ids)
    if ids.dtype.kind != "S":
        raise TypeError(f"ids must be bytes, found {ids.dtype}")
    bound = int(train_share * 2**64)
    digest = xxhash.xxh3_64_intdigest
    return np.fromiter((digest(id, seed) < bound for id in ids.tolist()), bool, len(ids))
