"""A sentence encoder of a small made network: the mean of its tokens' states."""

import json

import numpy as np
import pytest

from tests.media.encoders import STATES, WORDS, write_small_encoder
from vidembed.media.sentences import SentenceEncoder


@pytest.fixture
def folder(tmp_path):
    return write_small_encoder(tmp_path / "encoder")


def slowly(*words):
    mean = STATES[[WORDS[word] for word in words]].astype(np.float64).mean(0)
    return mean / np.linalg.norm(mean)


def test_vectors_are_means_at_unit_length(folder):
    encoder, done = SentenceEncoder.open(folder), []
    vectors = encoder(["a red car", "boat", "a red car", "red red car a boat"], done.append)
    expected = [slowly("a", "red", "car"), slowly("boat"), slowly("a", "red", "car"),
                slowly("red", "red", "car", "a")]  # fmt: skip
    np.testing.assert_allclose(vectors, expected, atol=1e-6)
    assert done == [1, 2, 3, 4]
    assert encoder.size == 3
    assert encoder([]).shape == (0, 3)


@pytest.mark.fault(
    "Captions: a sentence encoder is damaged, or the folder holds none",
    "refused, naming the file",
)
def test_other_folders_are_refused(folder, tmp_path):
    with pytest.raises(ValueError, match="holds no sentence encoder"):
        SentenceEncoder.open(tmp_path)
    about = json.loads((folder / "encoder.json").read_text())
    assert about["sha256"].keys() == {"model.onnx", "tokenizer.json"}
    space = SentenceEncoder.open(folder).space
    (folder / "encoder.json").write_text(json.dumps(about | {"longest": 5}))
    assert SentenceEncoder.open(folder).space != space
    content = (folder / "tokenizer.json").read_bytes()
    (folder / "tokenizer.json").write_bytes(content + b" ")
    with pytest.raises(ValueError, match=r"tokenizer\.json is not the file"):
        SentenceEncoder.open(folder)
