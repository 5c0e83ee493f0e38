"""Sentence vectors of captions are computed once, and stored beside their encoder."""

import io

import numpy as np
import rich.console

from tests.media.encoders import write_small_encoder
from vidembed.corpora.sentence_vectors import sentence_vectors
from vidembed.media.sentences import SentenceEncoder
from vidembed.progress import Progress


def test_vectors_are_computed_once_and_damaged_ones_again(tmp_path, monkeypatch):
    folder, texts = write_small_encoder(tmp_path / "encoder"), ["a red car", "boat", "a boat"]
    quiet = Progress(console=rich.console.Console(file=io.StringIO()))
    expected = SentenceEncoder.open(folder)(texts)
    vectors, space = sentence_vectors(folder, texts, quiet)
    np.testing.assert_array_equal(vectors, expected)
    assert space == SentenceEncoder.open(folder).space
    calls, call = [], SentenceEncoder.__call__
    monkeypatch.setattr(
        SentenceEncoder, "__call__", lambda *given: calls.append(given[1]) or call(*given)
    )
    np.testing.assert_array_equal(sentence_vectors(folder, texts, quiet).vectors, expected)
    assert not calls
    (stored,) = (folder / "vectors").iterdir()
    content = bytearray(stored.read_bytes())
    content[len(content) // 2] ^= 1
    for damaged in (bytes(content), b"", content[:40]):
        stored.write_bytes(damaged)
        np.testing.assert_array_equal(sentence_vectors(folder, texts, quiet).vectors, expected)
    longer = [*texts[1:], "car", *texts[:1], "car"]
    vectors = sentence_vectors(folder, longer, quiet).vectors
    np.testing.assert_array_equal(vectors[[3, 0, 1]], expected)
    np.testing.assert_array_equal(vectors[2], vectors[4])
    assert calls == [texts, texts, texts, ["car"]]
    assert sentence_vectors(folder, [], quiet).vectors.shape == (0, 3)
