"""Count faults of videos as they are read, and name the first few of each kind."""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping

import ml_dtypes
import numpy as np

from vidembed.records.bytecode import YOUTUBE_8M, Range
from vidembed.records.rounding import Rounding
from vidembed.records.youtube8m import Videos

NAMED = 10
FLOAT32 = np.dtype(np.float32)
DUPLICATES, FEATURELESS = "ids that occur again", "videos without any modality"
NOT_TEXT = "ids that are not UTF-8"
KEEP_FIRST = "importing with duplicates='first' (--duplicates first) keeps the first"
LEAVE_OUT = (
    "importing with invalid='drop' (--invalid drop) leaves these videos out, with 'mask' "
    "(--invalid mask) the modality"
)


@dataclasses.dataclass
class Finding:
    """How often a fault occurred, and where it occurred first."""

    count: int = 0
    named: list[str] = dataclasses.field(default_factory=list)

    def add(self, names: Iterable[str]) -> None:
        """Count one occurrence per name."""
        for name in names:
            self.count += 1
            if len(self.named) < NAMED:
                self.named.append(name)

    def __str__(self) -> str:
        more = f" and {self.count - len(self.named)} more" if self.count > len(self.named) else ""
        return f"{self.count} ({', '.join(self.named)}{more})"


@dataclasses.dataclass
class ModalityChecks:
    """Counts and value ranges of one modality."""

    width: int
    stored: np.dtype = FLOAT32
    """The float dtype to store; values too large for it would become infinity."""
    range: Range = YOUTUBE_8M
    """What bytes would cover."""
    missing: int = 0
    not_finite: Finding = dataclasses.field(default_factory=Finding)
    all_zero: Finding = dataclasses.field(default_factory=Finding)
    clipped: int = 0
    values: int = 0
    low: float = np.inf
    high: float = -np.inf
    rounding: Rounding = dataclasses.field(init=False)

    def __post_init__(self) -> None:
        self.rounding = Rounding(self.width, step=self.range.step)

    @property
    def clipped_share(self) -> float:
        """Share of the values in finite rows that uint8 would clip."""
        return self.clipped / max(1, self.values)

    @property
    def fitting(self) -> str:
        """The smallest dtype that preserves the values."""
        return self.rounding.fitting(clipped=self.clipped > 0)

    def add(self, rows: np.ndarray, present: np.ndarray, names: np.ndarray) -> np.ndarray:
        """Count rows f32[n, F]; returns bool[n], the present rows that are unusable."""
        self.missing += int(len(present) - present.sum())
        if not present.all():
            rows, names = rows[present], names[present]
        # Fast for sound rows, the usual case: three passes over the whole array.
        bad = np.zeros(len(rows), np.bool_)
        suspects = np.flatnonzero(rows[:, 0] == 0)
        bad[suspects] = zero = ~rows[suspects].any(axis=1)
        self.all_zero.add(_text(names[suspects[zero]]))
        low, high = rows.min(initial=np.inf), rows.max(initial=-np.inf)
        largest = float(ml_dtypes.finfo(self.stored).max)
        if not (-largest <= low and high <= largest) and len(rows):
            with np.errstate(over="ignore"):
                finite = np.isfinite(rows.astype(self.stored)).all(axis=1)
            self.not_finite.add(_text(names[~finite]))
            bad |= ~finite
            rows = rows[finite]
            low, high = rows.min(initial=np.inf), rows.max(initial=-np.inf)
        self.low, self.high = min(self.low, float(low)), max(self.high, float(high))
        self.values += rows.size
        self.rounding.add(rows)
        below, above = self.range.bounds
        if low < below or high > above:
            self.clipped += self.range.clipped(rows)
        unusable = np.zeros(len(present), np.bool_)
        unusable[present] = bad
        return unusable


class Checks:
    """Counts over all shards; remembers every id, about 100 bytes per video."""

    def __init__(
        self,
        widths: Mapping[str, int],
        stored: np.dtype = FLOAT32,
        *,
        ranges: Mapping[str, Range] = {},
    ) -> None:
        self.records: dict[str, int] = {}
        self.modalities = {
            name: ModalityChecks(width, stored, ranges.get(name, YOUTUBE_8M))
            for name, width in widths.items()
        }
        self.duplicates, self.without_features, self.not_text = Finding(), Finding(), Finding()
        self.without_labels = 0
        self.labels: Counter[int] = Counter()
        """Number of videos with each label."""
        self._seen: dict[bytes, str] = {}

    @property
    def rows(self) -> int:
        """Number of videos counted."""
        return sum(self.records.values())

    @property
    def distinct(self) -> int:
        """Number of different ids."""
        return len(self._seen)

    def add_existing(self, ids: np.ndarray, where: str) -> None:
        """Register ids S[n] of a table: in a shard they count as duplicates."""
        self._seen.update(dict.fromkeys(ids.tolist(), where))

    def add(self, shard: str, videos: Videos) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Count the next n videos of a shard.

        Returns which ids are new, bool[n], and the unusable rows of each modality, name -> bool[n].
        """
        self.records[shard] = self.records.get(shard, 0) + len(videos.ids)
        first = self._first(shard, videos.ids)
        self.not_text.add(not_utf8(videos.ids))
        labels, counts = np.unique(videos.label_values, return_counts=True)
        self.labels.update(dict(zip(labels.tolist(), counts.tolist())))
        self.without_labels += int((np.diff(videos.label_offsets) == 0).sum())
        invalid = {
            name: checks.add(videos.features[name], videos.present[name], videos.ids)
            for name, checks in self.modalities.items()
        }
        featureless = ~np.logical_or.reduce(list(videos.present.values()))
        self.without_features.add(_text(videos.ids[featureless]))
        return first, invalid

    def _first(self, shard: str, ids: np.ndarray) -> np.ndarray:
        names = ids.tolist()
        chunk = dict.fromkeys(names, shard)
        first = np.ones(len(names), np.bool_)
        if len(chunk) == len(names) and self._seen.keys().isdisjoint(chunk):
            self._seen.update(chunk)
            return first
        for row, name in enumerate(names):
            earlier = self._seen.get(name)
            self._seen.setdefault(name, shard)
            if earlier is not None:
                first[row] = False
                self.duplicates.add([f"{name.decode(errors='replace')} in {earlier} and {shard}"])
        return first


def findings(checks: Checks) -> dict[str, Finding]:
    """All faults that an import counts by name: description -> Finding."""
    faults = {DUPLICATES: checks.duplicates, FEATURELESS: checks.without_features}
    for name, modality in checks.modalities.items():
        large = "" if modality.stored == FLOAT32 else f", or too large for {modality.stored}"
        faults[f"{name} with NaN or infinity{large}"] = modality.not_finite
        faults[f"{name} all zero"] = modality.all_zero
    return faults


def refusals(checks: Checks, *, duplicates: str, invalid: str) -> list[str]:
    """The faults that an import with these options refuses, one sentence each, with a remedy."""
    return [
        f"{what}: {finding}; {KEEP_FIRST if what == DUPLICATES else LEAVE_OUT}"
        for what, finding in findings(checks).items()
        if finding.count and (duplicates == "error" if what == DUPLICATES else invalid == "refuse")
    ]


def alike(checks: Checks) -> list[str]:
    """The modalities that are identical in all videos, one sentence each."""
    return [
        f"{name}: all videos have the same values, so nothing can be learned from them"
        for name, modality in checks.modalities.items()
        if modality.rounding.alike
    ]


def not_utf8(ids: np.ndarray) -> Iterable[str]:
    """The ids among S[n] that are not UTF-8, in Python's notation."""
    if ids.view(np.uint8).max(initial=0) < 0x80:
        return  # ASCII, the usual case
    for name in ids.tolist():
        try:
            name.decode()
        except UnicodeDecodeError:
            yield repr(name)


def not_text(checks: Checks) -> list[str]:
    """A warning about ids that are not UTF-8; empty if all are."""
    if not checks.not_text.count:
        return []
    return [
        f"{NOT_TEXT}: {checks.not_text}; they are kept as bytes, but sessions and edges are text "
        "and can never name such a video: without a UTF-8 id it has no relations"
    ]


def _text(ids: np.ndarray) -> Iterable[str]:
    return (name.decode(errors="replace") for name in ids.tolist())
