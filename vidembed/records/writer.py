"""Write your own features as records that `import` reads."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np

from vidembed.records.example import MessageError, encode_example
from vidembed.records.formats import check_id
from vidembed.records.framing import write_records


def write_videos(
    path: str | PathLike[str],
    ids: Sequence[str | bytes],
    features: Mapping[str, Any],
    labels: Sequence[Sequence[int]] | None = None,
    *,
    compress: bool = False,
) -> int:
    """Write a TFRecord file of `tf.train.Example`s, whole or not at all; returns the record count.

    Each record holds its `id`, the floats of each modality under its key, and, if given, integer
    `labels`. Both crcs are written, so that damage can be detected.

    ids: n unique ids, text or UTF-8 bytes. features: key -> f[n, F], or n rows, with None for
    videos without that modality. labels: n lists of integers from 0 to 2^31-1. compress: use gzip.
    Raises ValueError, with the video, for anything else.
    """
    names = [name.encode() if isinstance(name, str) else bytes(name) for name in ids]
    columns = {**features, **({} if labels is None else {"labels": labels})}
    lengths = {key: len(rows) for key, rows in columns.items() if len(rows) != len(names)}
    if lengths or not features or {"id", "labels"} & features.keys():
        raise ValueError(
            f"{path}: {len(names)} ids need at least one modality, not called id or labels, and "
            f"one row per id; found {list(features)} and the lengths {lengths or len(names)}"
        )
    if len({*names}) < len(names):
        twice = Counter(names).most_common(1)[0][0]
        raise ValueError(f"{path}: the id {twice!r} occurs twice")
    return write_records(path, _payloads(names, features, labels), compress=compress)


def _payloads(
    names: Sequence[bytes], features: Mapping[str, Any], labels: Sequence[Sequence[int]] | None
) -> Iterator[bytes]:
    widths: dict[str, int] = {}
    for row, name in enumerate(names):
        try:
            check_id(name)
        except MessageError as error:
            raise ValueError(f"video {row}: {error}") from error
        example: dict[str, Any] = {"id": name}
        if labels is not None:
            example["labels"] = _labels(name, labels[row])
        for key, rows in features.items():
            if rows[row] is None:
                continue
            vector = np.asarray(rows[row])
            width = widths.setdefault(key, vector.size)
            if vector.dtype.kind != "f" or vector.shape != (width,) or not width:
                raise ValueError(
                    f"video {name!r}: {key} is {vector.dtype}{list(vector.shape)}; expected floats "
                    f"[{width}]"
                )
            example[key] = vector
        yield encode_example(example)


def _labels(name: bytes, labels: Sequence[int]) -> np.ndarray:
    array = np.asarray(labels)
    whole = array.dtype.kind in "iu" or not array.size
    if array.ndim != 1 or not whole or (array.size and not 0 <= array.min() <= array.max() < 2**31):
        raise ValueError(
            f"video {name!r}: labels are integers from 0 to 2^31-1, found {array.tolist()}"
        )
    return array.astype(np.int64)
