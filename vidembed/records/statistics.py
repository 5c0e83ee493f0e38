"""Mean and standard deviation of each feature over the train split, to standardise inputs."""

from collections.abc import Collection, Iterator, Mapping

import numpy as np

from vidembed.records.rows import float_rows
from vidembed.records.table import FeatureTable

Statistics = Mapping[str, Mapping[str, np.ndarray]]
BLOCK_ROWS, SAMPLE_ROWS = 16_384, 1_000_000


def train_statistics(
    table: FeatureTable, is_train: np.ndarray, modalities: Collection[str] = ()
) -> dict[str, dict[str, np.ndarray]]:
    """Modality → {"mean": f32[F], "deviation": f32[F]}, over train rows that have the modality.

    modalities: only these, if any are given.

    Above SAMPLE_ROWS train rows only every k-th is used, which is enough for two moments. Sums are
    in float64, so that the result does not depend on the block size.
    """
    statistics = {}
    for modality in modalities or table.features:
        width = table.widths[modality]
        rows = np.flatnonzero(is_train & table.has(modality))
        rows = rows[:: -(-len(rows) // SAMPLE_ROWS) or 1]
        if not len(rows):
            raise ValueError(f"no train video has {modality!r}: leave it out of the model")
        mean = np.zeros(width)
        for block in _blocks(table, modality, rows):
            mean += block.sum(0) / len(rows)
        variance = np.zeros(width)
        for block in _blocks(table, modality, rows):
            variance += np.square(block - mean).sum(0) / len(rows)
        statistics[modality] = {
            "mean": mean.astype(np.float32),
            "deviation": np.sqrt(variance).astype(np.float32),
        }
    return statistics


def _blocks(table: FeatureTable, modality: str, rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), BLOCK_ROWS):
        yield float_rows(table, modality, rows[start : start + BLOCK_ROWS]).astype(np.float64)
