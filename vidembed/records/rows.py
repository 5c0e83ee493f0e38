"""Rows of some modalities as they are stored: all of them for the devices, or those of a block."""

from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import numpy as np


class Rows(Protocol):
    """Features with one row per video: a FeatureTable is one."""

    @property
    def features(self) -> Mapping[str, np.ndarray]: ...
    @property
    def present(self) -> Mapping[str, np.ndarray]: ...


def resident_rows(table: Rows, modalities: Iterable[str]) -> dict[str, Any]:
    """The rows that a step gathers from the devices: features [N, F] as stored, and who has them
    (u8[N], for modalities that some rows lack)."""
    modalities = tuple(modalities)
    present = {m: table.present[m].astype(np.uint8) for m in modalities if m in table.present}
    return {"features": {m: table.features[m] for m in modalities}, "present": present}


def read_rows(table: Rows, rows: np.ndarray, modalities: Iterable[str]) -> dict[str, Any]:
    """Features [B, F] of rows i64[B] as stored, and who has them (bool[B], for modalities that some
    rows lack)."""
    modalities = tuple(modalities)
    features = {m: np.take(table.features[m], rows, axis=0) for m in modalities}
    present = {m: table.present[m][rows] for m in modalities if m in table.present}
    return {"features": features, "present": present}
