"""Check the features that go into a model, once and by name, before anything is computed.

The caller says which modalities a video lacks; this is never guessed from the values. Zeros for a
missing modality would silently give a different vector.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np

from vidembed.records.bytecode import YOUTUBE_8M, Range
from vidembed.records.frame_rows import Frames
from vidembed.records.table import DTYPES, FeatureTable

BLOCK_ROWS = 16_384
SAY_SO = "mark the videos that lack it: present={'%s': mask}, with mask bool[N] false for them"


class InputError(ValueError):
    """Features that a model cannot embed."""


@dataclass(frozen=True, kw_only=True)
class VideoRows:
    """The features that a model reads for N videos: u8|bf16|f16|f32[N, F] per modality, as stored
    (uint8 is quantised: `records.bytecode`), present bool[N] for modalities that some lack, and the
    ranges of bytes that are not YouTube-8M's."""

    features: Mapping[str, np.ndarray]
    present: Mapping[str, np.ndarray]
    ids: np.ndarray | None = None
    ranges: Mapping[str, Range] = field(default_factory=dict)
    may_be_zero: tuple[str, ...] = ()
    """Modalities of which zeros are values as any other."""
    frames: Frames | None = None
    """The frames that the features are pooled from, for a model that reads them."""

    def __len__(self) -> int:
        return len(next(iter(self.features.values())))

    def has(self, modality: str) -> np.ndarray:
        """bool[N]: videos that have the modality."""
        return self.present.get(modality, np.ones(len(self), np.bool_))

    def name(self, row: int) -> str:
        """A row as named in messages."""
        if self.ids is None:
            return f"row {row}"
        return f"row {row} ({self.ids[row].decode(errors='replace')})"


def video_rows(
    videos: Mapping[str, Any] | FeatureTable,
    widths: Mapping[str, int],
    present: Mapping[str, Any] | None = None,
) -> VideoRows:
    """The features of a table, or of arrays [N, F] by modality, for a model of these widths.

    present: modality → bool[N], or False for a modality that no video has; its array may then be
    left out. Raises InputError for other widths and dtypes, and for an absent modality that
    `present` does not mark as missing. `check_values` checks the values.
    """
    features: Mapping[str, Any] = videos.features if isinstance(videos, FeatureTable) else videos
    masks = dict(videos.present if isinstance(videos, FeatureTable) else {}) | dict(present or {})
    arrays = {m: _array(m, features[m], width) for m, width in widths.items() if m in features}
    counts = {modality: len(array) for modality, array in arrays.items()}
    if len(set(counts.values())) > 1:
        raise InputError(f"every modality needs one row per video; the rows are {counts}")
    if not counts:
        raise InputError(f"{_reads(widths, features)}: none of its modalities is there")
    (count,) = set(counts.values())
    if strange := masks.keys() - widths.keys() - features.keys():
        raise InputError(f"present names {sorted(strange)}; the model reads {list(widths)}")
    known = {m: _mask(m, masks[m], count) for m in widths if m in masks}
    for modality, width in widths.items():
        if modality in arrays:
            continue
        if modality not in known or known[modality].any():
            raise InputError(
                f"{_reads(widths, features)}: no {modality!r}. If none of these videos has it, "
                f"give present={{'{modality}': False}} (--lacking {modality})"
            )
        arrays[modality] = np.broadcast_to(np.float32(0), (count, width))
    rows = VideoRows(features={m: arrays[m] for m in widths}, present=known)
    if not isinstance(videos, FeatureTable):
        return rows
    may_be_zero = tuple(videos.manifest.get("may_be_zero", ()))
    rows = replace(rows, ids=videos.ids, ranges=videos.ranges, frames=videos.frames)
    return replace(rows, may_be_zero=may_be_zero)


def featureless(rows: VideoRows) -> np.ndarray:
    """bool[N]: videos that have none of the modalities, and so have no vector."""
    return ~np.logical_or.reduce([rows.has(modality) for modality in rows.features])


def check_values(rows: VideoRows, numbers: np.ndarray | None = None) -> None:
    """Raise InputError for videos without any modality, and for features that are marked as present
    but hold NaN or infinity, or are all zero. numbers: the rows i64[n] to check, or None for all.
    """
    numbers = np.arange(len(rows)) if numbers is None else numbers
    empty = numbers[featureless(rows)[numbers]]
    if len(empty):
        raise InputError(
            f"{len(empty)} videos have none of {list(rows.features)}, first {rows.name(empty[0])}: "
            "they cannot be embedded, leave them out"
        )
    for modality, array in rows.features.items():
        having = numbers[rows.has(modality)[numbers]]
        blocks = [having[at : at + BLOCK_ROWS] for at in range(0, len(having), BLOCK_ROWS)]
        all_zero = partial(_all_zero, range=rows.ranges.get(modality))
        for words, bad in (("hold NaN or infinity", _not_finite), ("are all zero", all_zero)):
            if bad is all_zero and modality in rows.may_be_zero:
                continue
            faulty = [row for block in blocks for row in block[bad(array[block])].tolist()]
            if faulty:
                raise InputError(
                    f"{modality}: {len(faulty)} rows {words}, first {rows.name(faulty[0])}: leave "
                    f"them out, or {SAY_SO % modality}"
                )


def _array(modality: str, given: Any, width: int) -> np.ndarray:
    array = np.asarray(given)
    if array.dtype == np.float64:
        array = array.astype(np.float32)
    if array.ndim != 2 or array.shape[1] != width or array.dtype not in DTYPES.values():
        raise InputError(
            f"{modality}: the model reads [N, {width}] of {', '.join(DTYPES)}; got {array.dtype}"
            f"{list(array.shape)}. One video is [1, {width}]; uint8 is YouTube-8M's quantisation"
        )
    return array


def _mask(modality: str, given: Any, count: int) -> np.ndarray:
    mask = np.asarray(given)
    if mask.dtype != np.bool_ or mask.shape not in ((), (count,)):
        raise InputError(
            f"present[{modality!r}] must be bool[{count}], or one bool for all; got {mask.dtype}"
            f"{list(mask.shape)}"
        )
    return np.broadcast_to(mask, (count,))


def _reads(widths: Mapping[str, int], features: Mapping[str, Any]) -> str:
    return f"the model reads {list(widths)}, the videos have {sorted(features)}"


def _not_finite(block: np.ndarray) -> np.ndarray:
    if block.dtype == np.uint8:
        return np.zeros(len(block), np.bool_)
    return np.logical_not(np.isfinite(block.astype(np.float32)).all(axis=1))


def _all_zero(block: np.ndarray, range: Range | None) -> np.ndarray:
    """Stored zeros; for bytes, quantised zeros, and in YouTube-8M's range also bytes of zero."""
    if range is not None:
        return np.asarray((block == range.quantise(np.zeros(1))).all(axis=1))
    nonzero = block.any(axis=1)
    if block.dtype == np.uint8:
        nonzero &= (block != YOUTUBE_8M.quantise(np.zeros(1))).any(axis=1)
    return np.logical_not(nonzero)
