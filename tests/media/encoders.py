"""A small sentence encoder, whose every number is known."""

import numpy as np
import onnx
import tokenizers
from onnx import TensorProto, helper

from vidembed.media.sentences import write_encoder

WORDS = {"[UNK]": 0, "a": 1, "red": 2, "car": 3, "boat": 4}
STATES = np.random.default_rng(0).normal(size=(len(WORDS), 3)).astype(np.float32)


def write_small_encoder(folder):
    """States that are rows of a table by token; at most 4 tokens of a sentence are read."""
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
        folder, name="small", model=model.SerializeToString(), longest=4,
        tokenizer=tokenizer.to_str().encode(), licence="none",
    )  # fmt: skip
    return folder
