"""A sentence encoder of a small made network: the mean of its tokens' states."""

import json

import numpy as np
import onnx
import pytest
import tokenizers
from onnx import TensorProto, helper

from vidembed.media.sentences import SentenceEncoder, write_encoder

WORDS = {"[UNK]": 0, "a": 1, "red": 2, "car": 3, "boat": 4}
STATES = np.random.default_rng(0).normal(size=(len(WORDS), 3)).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    """States that are rows of a table by token, with weights in the graph."""
    table = helper.make_tensor("table", TensorProto.FLOAT, STATES.shape, STATES.reshape(-1))
    ends = [
        helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["B", "T"]),
        helper.make_tensor_value_info("states", TensorProto.FLOAT, ["B", "T", 3]),
    ]
    node = helper.make_node("Gather", ["table", "input_ids"], ["states"])
    made = helper.make_graph([node], "states", ends[:1], ends[1:], [table])
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordLevel(WORDS, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    tokenizer.enable_padding(length=9, pad_id=0)
    write_encoder(
        tmp_path / "encoder", name="small", model=model.SerializeToString(), longest=4,
        tokenizer=tokenizer.to_str().encode(), licence="none",
    )  # fmt: skip
    return tmp_path / "encoder"


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
    "Video files: a sentence encoder is damaged, or the folder holds none",
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
