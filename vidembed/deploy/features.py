"""Use the features themselves as vectors: a baseline, and a start without watch logs."""

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import xxhash

from vidembed.deploy.index import VideoIndex
from vidembed.deploy.inputs import InputError
from vidembed.deploy.run import Run
from vidembed.progress import Progress
from vidembed.records.outputs import check_apart
from vidembed.records.rows import Rows, float_rows
from vidembed.records.statistics import train_statistics
from vidembed.records.table import FeatureTable
from vidembed.serving.segment import Engine


def index(
    table: FeatureTable | str | os.PathLike[str],
    path: str | os.PathLike[str] | None = None,
    *,
    modalities: Sequence[str] = (),
    engine: str | Engine = "exact",
    keep: str = "float32",
    over: bool = False,
    progress: Progress | None = None,
) -> VideoIndex:
    """An index of a table's features, standardised: the baseline for a trained embedding.

    Each dimension is standardised over the table's videos, the modalities are concatenated (zeros
    if a video lacks one), and each vector has unit length. modalities: the ones to use; () is all.
    Other arguments as for `Run.index`.
    """
    if not isinstance(table, FeatureTable):
        if path is not None:
            check_apart(path, [table])
        table = FeatureTable.open(table)
    run = features(table, modalities)
    return run.index(table, path, engine=engine, keep=keep, over=over, progress=progress)


def features(table: FeatureTable, modalities: Sequence[str] = ()) -> Run:
    """The vectors of `index` as a run, which embeds other videos by the same statistics.

    Raises InputError for an empty table, and for modalities that the table lacks.
    """
    reads = tuple(modalities) or tuple(table.features)
    if missing := [name for name in reads if name not in table.features]:
        raise InputError(f"the table has {sorted(table.features)}, but no {missing[0]!r}")
    if not len(table):
        raise InputError("the table holds no videos, so its features cannot be standardised")
    statistics = train_statistics(table, np.ones(len(table), np.bool_))
    centres, scales, digest = {}, {}, xxhash.xxh3_64()
    inputs = {name: table.space[name] for name in reads}
    digest.update(json.dumps(inputs, sort_keys=True).encode())
    for name in reads:
        centres[name], deviation = statistics[name]["mean"], statistics[name]["deviation"]
        varies = deviation > 1e-6
        scales[name] = np.where(varies, 1 / np.where(varies, deviation, 1), 0).astype(np.float32)
        digest.update(centres[name].tobytes() + scales[name].tobytes())

    def standardised(source: Rows, rows: np.ndarray) -> np.ndarray:
        return _standardised(source, rows, centres, scales)

    return Run(
        standardised,
        name=f"features {', '.join(reads)}",
        step=0,
        output="features",
        widths={name: table.widths[name] for name in reads},
        inputs=inputs,
        space=f"standardised {', '.join(reads)}, {digest.hexdigest()}",
    )


def _standardised(
    source: Rows, rows: np.ndarray, centres: Mapping[str, Any], scales: Mapping[str, Any]
) -> np.ndarray:
    """f32[n, sum of widths] of unit length."""
    parts = []
    for name, centre in centres.items():
        part = (float_rows(source, name, rows) - centre) * scales[name]
        if name in source.present:
            part[~source.present[name][rows]] = 0
        parts.append(part)
    vectors = np.concatenate(parts, axis=1)
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors / np.where(lengths > 0, lengths, 1).astype(np.float32)
