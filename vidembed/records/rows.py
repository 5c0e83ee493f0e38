"""Read stored rows of some modalities: all rows for the devices, or those of a batch."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Protocol

import numpy as np

from vidembed.records.bytecode import Range, dequantise, ranged
from vidembed.records.frame_rows import FrameRows, Frames


class Rows(Protocol):
    """Features with one row per video, such as a FeatureTable."""

    @property
    def features(self) -> Mapping[str, np.ndarray]: ...
    @property
    def present(self) -> Mapping[str, np.ndarray]: ...
    @property
    def ranges(self) -> Mapping[str, Range]: ...
    @property
    def frames(self) -> Frames | None: ...


def float_rows(table: Rows, modality: str, rows: Any = slice(None)) -> np.ndarray:
    """The values f32[n, F] of one modality, for some rows or all of them."""
    values: np.ndarray = dequantise(stored_rows(table, modality, rows))
    return values


def stored_rows(table: Rows, modality: str, rows: Any = slice(None)) -> Any:
    """Features [n, F] of one modality as stored: bytes with a range of their own are `Ranged`."""
    return ranged(table.features[modality][rows], table.ranges.get(modality))


def resident_rows(table: Rows, modalities: Iterable[str]) -> dict[str, Any]:
    """All rows, for steps that gather on the devices: features [N, F] as stored, and masks
    `present` u8[N] for the modalities that some rows lack."""
    modalities = tuple(modalities)
    present = {m: table.present[m].astype(np.uint8) for m in modalities if m in table.present}
    return {
        "features": {m: ranged(table.features[m], table.ranges.get(m)) for m in modalities},
        "present": present,
    }


def read_rows(
    table: Rows, rows: np.ndarray, modalities: Iterable[str], framed: Collection[str] = ()
) -> dict[str, Any]:
    """Features [B, F] of rows i64[B] as stored, and masks `present` bool[B] for the modalities that
    some rows lack.

    framed: modalities of which the frames are read instead, as `FrameRows`. Without frames, a
    vector counts as a video of one frame.
    """
    modalities = tuple(modalities)
    features: dict[str, Any] = {
        m: stored_rows(table, m, rows) for m in modalities if m not in framed
    }
    if framed and table.frames is not None:
        features |= table.frames.read(rows, framed)
    else:
        single = np.ones(len(rows), np.int32)
        vectors = {m: float_rows(table, m, rows) for m in framed}
        features |= {m: FrameRows(array[:, None], single) for m, array in vectors.items()}
    present = {m: table.present[m][rows] for m in modalities if m in table.present}
    return {"features": features, "present": present}
