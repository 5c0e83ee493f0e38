"""Sentence vectors of captions from a frozen encoder, computed once and stored beside it."""

import io
import os
import zipfile
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import xxhash
from etils import epath
from rich.console import Console

from vidembed import files
from vidembed.media.backbones.minilm import take_minilm
from vidembed.media.sentences import SentenceEncoder
from vidembed.progress import Progress

FOLDER = "vectors"
"""Of the encoder's folder: one file for each list of sentences."""


class SentenceVectors(NamedTuple):
    """f32[n, E], and what made the numbers."""

    vectors: np.ndarray
    space: str


def sentence_vectors(
    encoder: str | os.PathLike[str], texts: Sequence[str], progress: Progress | None = None
) -> SentenceVectors:
    """The vectors of n sentences.

    encoder: the folder of a sentence encoder. If there is no such folder, the default encoder is
    downloaded to it. Vectors that were computed before are read from its folder `vectors`. Raises
    ValueError for another folder, and ImportError without the extra `text`.
    """
    progress = progress or Progress(console=Console(stderr=True))
    if not epath.Path(encoder).exists():
        take_minilm(encoder, progress)
    network = SentenceEncoder.open(encoder)
    digest = xxhash.xxh3_128(f"{network.space}\n{len(texts)}\n".encode())
    digest.update("\0".join(texts).encode())
    place = epath.Path(encoder) / FOLDER / f"{digest.hexdigest()}.npz"
    if (stored := _read(place, (len(texts), network.size))) is None:
        with progress.stage("encoding captions", len(texts), "captions") as stage:
            stored = network(texts, stage.update)
        buffer = io.BytesIO()
        np.savez(buffer, vectors=stored)
        files.write_bytes(place, buffer.getvalue())
    return SentenceVectors(stored, network.space)


def _read(place: epath.Path, shape: tuple[int, int]) -> np.ndarray | None:
    """The stored vectors; None if there are none, or if they are damaged."""
    if not place.exists():
        return None
    try:
        with np.load(io.BytesIO(place.read_bytes()), allow_pickle=False) as of:
            vectors: np.ndarray = of["vectors"]  # verified by the archive's crc
    except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile):
        return None
    return vectors if vectors.shape == shape else None
