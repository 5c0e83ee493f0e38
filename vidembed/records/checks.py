"""What is wrong with a set of videos: counted as they pass, with the first few named."""

import dataclasses
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from vidembed.quantisation import HIGH, LOW, OFFSET, STEP
from vidembed.records.youtube8m import VideoLevel, Videos

NAMED = 10
# What quantisation changes by more than half a step: it holds 256 levels around their middles.
CLIP_BELOW, CLIP_ABOVE = OFFSET - STEP / 2, OFFSET + (HIGH - LOW) + STEP / 2


@dataclasses.dataclass
class Finding:
    """How often something was seen, and the first places where."""

    count: int = 0
    named: list[str] = dataclasses.field(default_factory=list)

    def add(self, names: Iterable[str]) -> None:
        """One more for each name."""
        for name in names:
            self.count += 1
            if len(self.named) < NAMED:
                self.named.append(name)

    def __str__(self) -> str:
        more = f" and {self.count - len(self.named)} more" if self.count > len(self.named) else ""
        return f"{self.count} ({', '.join(self.named)}{more})"


@dataclasses.dataclass
class ModalityChecks:
    """What passed of one modality."""

    width: int
    missing: int = 0
    not_finite: Finding = dataclasses.field(default_factory=Finding)
    all_zero: Finding = dataclasses.field(default_factory=Finding)
    clipped: int = 0
    values: int = 0
    low: float = np.inf
    high: float = -np.inf

    @property
    def clipped_share(self) -> float:
        """Share of the finite rows' values that uint8 cannot hold."""
        return self.clipped / max(1, self.values)

    def add(self, rows: np.ndarray, present: np.ndarray, names: np.ndarray) -> np.ndarray:
        """Rows f32[n, F]; returns bool[n], the present rows that are unusable."""
        low, high = rows.min(axis=1), rows.max(axis=1)
        # NaN and infinity both reach the smallest or the largest value of their row.
        finite = np.isfinite(low) & np.isfinite(high)
        zero = (low == 0) & (high == 0)
        self.missing += int(len(present) - present.sum())
        self.not_finite.add(_text(names[present & ~finite]))
        self.all_zero.add(_text(names[present & zero]))
        sound = present & finite
        if sound.any():
            self.low = min(self.low, float(low[sound].min()))
            self.high = max(self.high, float(high[sound].max()))
            self.values += int(sound.sum()) * rows.shape[1]
            beyond = sound & ((low < CLIP_BELOW) | (high > CLIP_ABOVE))
            if beyond.any():
                far = rows[beyond]
                self.clipped += int(((far < CLIP_BELOW) | (far > CLIP_ABOVE)).sum())
        return present & (~finite | zero)


class Verdict(NamedTuple):
    """Of n videos: first, bool[n], those whose id is new; invalid, name -> bool[n]."""

    first: np.ndarray
    invalid: dict[str, np.ndarray]


class Checks:
    """Counts over all shards; remembers every id, about 100 bytes a video."""

    def __init__(self, format: VideoLevel) -> None:
        self.records: dict[str, int] = {}
        self.modalities = {m.name: ModalityChecks(m.width) for m in format.modalities}
        self.duplicates, self.without_features = Finding(), Finding()
        self.without_labels = 0
        self.labels: dict[int, int] = {}
        self._seen: dict[bytes, str] = {}

    @property
    def rows(self) -> int:
        """Videos seen."""
        return sum(self.records.values())

    @property
    def distinct(self) -> int:
        """Different ids seen."""
        return len(self._seen)

    def add(self, shard: str, videos: Videos) -> Verdict:
        """Count the next videos of a shard."""
        self.records[shard] = self.records.get(shard, 0) + len(videos.ids)
        first = self._first(shard, videos.ids)
        self._count_labels(videos)
        invalid = {
            name: checks.add(videos.features[name], videos.present[name], videos.ids)
            for name, checks in self.modalities.items()
        }
        nothing = ~np.logical_or.reduce(list(videos.present.values()))
        self.without_features.add(_text(videos.ids[nothing]))
        return Verdict(first, invalid)

    def _first(self, shard: str, ids: np.ndarray) -> np.ndarray:
        first = np.empty(len(ids), np.bool_)
        known = len(self._seen)
        for row, name in enumerate(ids.tolist()):
            earlier = self._seen.setdefault(name, shard)
            first[row] = len(self._seen) > known
            known = len(self._seen)
            if not first[row]:
                self.duplicates.add([f"{name.decode(errors='replace')} in {earlier} and {shard}"])
        return first

    def _count_labels(self, videos: Videos) -> None:
        values, counts = np.unique(videos.label_values, return_counts=True)
        for value, count in zip(values.tolist(), counts.tolist()):
            self.labels[value] = self.labels.get(value, 0) + count
        self.without_labels += int((np.diff(videos.label_offsets) == 0).sum())


def refusals(checks: Checks, *, duplicates: str, invalid: str) -> list[str]:
    """What an import with these options refuses, a sentence each, with the remedy."""
    faults = []
    if checks.duplicates.count and duplicates == "error":
        faults.append(
            f"ids that occur again: {checks.duplicates}; duplicates=first keeps the first"
        )
    if invalid != "refuse":
        return faults
    remedy = "invalid=drop leaves these videos out, invalid=mask the modality"
    if checks.without_features.count:
        faults.append(f"videos without any modality: {checks.without_features}; {remedy}")
    for name, modality in checks.modalities.items():
        if modality.not_finite.count:
            faults.append(f"{name} with NaN or infinity: {modality.not_finite}; {remedy}")
        if modality.all_zero.count:
            faults.append(f"{name} all zero: {modality.all_zero}; {remedy}")
    return faults


def clipping(checks: Checks, *, allowed_share: float) -> list[str]:
    """The modalities of which quantising to uint8 would clip too many values, a sentence each."""
    return [
        f"{name}: {modality.clipped_share:.2%} of the values lie outside [-2, 2] (they reach from "
        f"{modality.low:.3g} to {modality.high:.3g}) and uint8 would clip them; allowed are "
        f"{allowed_share:.2%}: store bfloat16 or float32"
        for name, modality in checks.modalities.items()
        if modality.clipped_share > allowed_share
    ]


def _text(ids: np.ndarray) -> Iterable[str]:
    return (name.decode(errors="replace") for name in ids.tolist())
