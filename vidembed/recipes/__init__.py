"""The systems: one file per paper, with its recipes by name in RECIPES. The engine imports none."""

import importlib
from typing import Any

PAPERS = {
    "cdml": "collaborative deep metric learning: triplets, negatives mined in the batch",
    "linear": "a linear map in closed form: solved in seconds, the baseline of learned spaces",
    "ridge": "a linear map onto given vectors, or factors of the relations, in closed form",
    "gcml": "relational graph clustering: smart triplets, cluster labels, and a control",
    "annotation": "label videos: a mixture of experts over features and embeddings",
    "jemc": "videos and captions in joint spaces, searched by text",
    "provico": "videos as distributions, learned from their clips without labels",
    "clip-classes": "classes of videos from their clips: fine-tune the encoder of `provico`",
}
"""Word of the command line → description. A file is imported only when it is named."""


def module_of(word: str) -> Any:
    """The file of a word of `PAPERS`."""
    return importlib.import_module(f"vidembed.recipes.{word.replace('-', '_')}")
