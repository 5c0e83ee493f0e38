"""From parsed videos to the rows that a table stores: which are kept, and in what form."""

from collections.abc import Mapping

import numpy as np

from vidembed.quantisation import quantise
from vidembed.records.checks import Verdict
from vidembed.records.table import arrays_beside_features
from vidembed.records.youtube8m import Videos


class Kept:
    """What a table holds beside its features, gathered until the end."""

    def __init__(self) -> None:
        self.ids: list[np.ndarray] = []
        self.lengths: list[np.ndarray] = []
        self.labels: list[np.ndarray] = []
        self.present: dict[str, list[np.ndarray]] = {}

    def add(self, videos: Videos, keep: np.ndarray, present: Mapping[str, np.ndarray]) -> None:
        lengths = np.diff(videos.label_offsets)
        self.ids.append(videos.ids[keep])
        self.lengths.append(lengths[keep])
        self.labels.append(videos.label_values[np.repeat(keep, lengths)])
        for name, mask in present.items():
            self.present.setdefault(name, []).append(mask[keep])

    def masks(self) -> dict[str, np.ndarray]:
        """Modality -> bool[N], of those that some rows lack."""
        joined = {name: np.concatenate(parts) for name, parts in self.present.items()}
        return {name: mask for name, mask in joined.items() if not mask.all()}

    def arrays(self) -> dict[str, np.ndarray]:
        offsets = np.concatenate([[0], np.cumsum(np.concatenate(self.lengths))])
        return arrays_beside_features(
            np.concatenate(self.ids),
            offsets.astype(np.int64),
            np.concatenate(self.labels).astype(np.int32, copy=False),
            self.masks(),
        )


def choose(
    videos: Videos, verdict: Verdict, invalid: str
) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Which rows to keep, bool[n], and which modalities they have, name -> bool[n]."""
    keep, present = verdict.first.copy(), dict(videos.present)
    for name, bad in verdict.invalid.items():
        if invalid == "mask":
            present[name] = present[name] & ~bad
        else:
            keep &= ~bad
    return keep & np.logical_or.reduce(list(present.values())), present


def as_stored(
    videos: Videos, keep: np.ndarray, present: Mapping[str, np.ndarray], dtype: np.dtype
) -> dict[str, np.ndarray]:
    """Name -> [kept, F] as it is stored; a missing modality is stored as zeros."""
    stored = {}
    for name, rows in videos.features.items():
        if not present[name].all():
            rows = np.where(present[name][:, None], rows, np.float32(0))
        if not keep.all():
            rows = rows[keep]
        stored[name] = quantise(rows) if dtype == np.uint8 else rows.astype(dtype)
    return stored
