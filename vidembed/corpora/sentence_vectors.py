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
"""Of the encoder's folder."""
AT_ONCE = 100
"""Sentences that are encoded before their vectors are written."""


class SentenceVectors(NamedTuple):
    """f32[n, E], and what made the numbers."""

    vectors: np.ndarray
    space: str


def sentence_vectors(
    encoder: str | os.PathLike[str], texts: Sequence[str], progress: Progress | None = None
) -> SentenceVectors:
    """The vectors of n sentences.

    encoder: the folder of a sentence encoder. If there is no such folder, the default encoder is
    downloaded to it. Vectors that were computed before, for any list of sentences, are read from
    its folder `vectors`, so that a stopped computation goes on. Raises ValueError for another
    folder, and ImportError without the extra `text`.
    """
    progress = progress or Progress(console=Console(stderr=True))
    if not epath.Path(encoder).exists():
        take_minilm(encoder, progress)
    network, store = SentenceEncoder.open(encoder), epath.Path(encoder) / FOLDER
    made_by = xxhash.xxh3_64_hexdigest(network.space.encode())
    known = _stored(store, made_by)
    if missing := [text for text in dict.fromkeys(texts) if text not in known]:
        with progress.stage("encoding sentences", len(missing), "sentences") as stage:
            for start in range(0, len(missing), AT_ONCE):
                some = missing[start : start + AT_ONCE]
                vectors = network(some)
                stage.update(start + len(some))
                _write(store, made_by, some, vectors)
                known.update(zip(some, vectors))
    rows = [known[text] for text in texts]
    made = np.stack(rows) if rows else np.zeros((0, network.size), np.float32)
    return SentenceVectors(made, network.space)


def _stored(store: epath.Path, made_by: str) -> dict[str, np.ndarray]:
    """Sentence → its vector, from all files that are not damaged (an archive has crcs)."""
    known: dict[str, np.ndarray] = {}
    for path in sorted(store.glob(f"{made_by}-*.npz")) if store.exists() else []:
        try:
            with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as of:
                known.update(zip(of["texts"].tolist(), of["vectors"], strict=True))
        except (ValueError, KeyError, EOFError, OSError, zipfile.BadZipFile):
            continue
    return known


def _write(store: epath.Path, made_by: str, texts: Sequence[str], vectors: np.ndarray) -> None:
    buffer, name = io.BytesIO(), xxhash.xxh3_128_hexdigest("\n".join(texts).encode())
    np.savez(buffer, texts=np.array(texts), vectors=vectors)
    files.write_bytes(store / f"{made_by}-{name}.npz", buffer.getvalue())
