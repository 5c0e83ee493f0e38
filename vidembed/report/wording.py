"""Format numbers and names for the report."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup, escape

ABSENT = "–"
SYSTEMS: Mapping[str, str] = {
    "trained": "trained",
    "trained_exchanged": "trained, queries shuffled",
    "trained_visual_only": "trained, visual only",
    "composite": "trained + closed form",
    "visual": "raw visual",
    "audio": "raw audio",
    "concatenated": "all raw features",
    "visual_standardised": "standardised visual",
    "audio_standardised": "standardised audio",
    "concatenated_standardised": "all standardised",
    "ridge_visual": "ridge from visual",
    "ridge_audio": "ridge from audio",
    "ridge_concatenated": "ridge from all",
    "svd_5": "SVD, rank 5",
    "als": "ALS",
    "bpr": "BPR",
    "closed_form": "closed form",
    "untrained": "untrained network",
    "popularity": "popularity",
    "random": "random",
    "chance": "chance",
}
"""Names of systems, in display order."""
METRICS: Mapping[str, str] = {
    "ndcg": "NDCG",
    "map": "MAP",
    "auc": "AUC",
    "gap": "GAP",
    "hit": "Hit",
    "perr": "PERR",
    "map_per_class": "MAP per class",
    "map_per_video": "MAP per video",
    "r": "R",
    "class_accuracy": "accuracy per class",
}
"""Names of metrics without their depth."""

VALIDATION = "validation_"
"""Prefix of directions whose new videos are the validation videos."""
DIRECTIONS: Mapping[str, str] = {
    "eval_to_train": "new → known",
    "train_to_eval": "known → new",
    "eval_to_eval": "new → new",
}
"""Directions for people: a known video is one of the train partition, a new one is held out."""
ASKED: Mapping[str, str] = {
    "eval_to_train": "queries are new videos, candidates are known ones.",
    "train_to_eval": "queries are known videos, candidates are new ones.",
    "eval_to_eval": "queries and candidates are new videos; a query is not among its own results.",
    "cold_items": "queries are users, candidates are new videos, which nothing was learned from.",
    "warm_items": "queries are users, candidates are known videos that they have not watched yet.",
    "test": "videos are new to the network. Validation videos, if any, choose the checkpoint.",
    "validation": "videos are new to the network, but choose the checkpoint.",
    "text_to_video": "each caption is a query, and its video the right answer.",
    "video_to_text": "each video is a query, and its captions are right answers.",
    "all_held_out": "videos are those for testing and those for validation together.",
}
"""Description of each direction."""
PARTS = ("test", "validation", "all_held_out")
"""Directions that are parts of the videos: scores of single videos, without candidates."""
COUNTS: Mapping[str, str] = {
    "held_out_labels_of_these": "share of the labels outside train that are of these classes",
}
"""Names of counts that are not their keys as words."""


def is_number(value: Any) -> bool:
    """Whether a value is a finite number: not a bool, None or NaN."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def score(value: Any) -> str:
    """A metric between 0 and 1 (or a distance), to three decimal places; from 10 on, which only
    ranks reach, to one."""
    if not is_number(value):
        return ABSENT
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3f}"


def signed(value: Any) -> str:
    """A difference of metrics, to four decimal places, with its sign."""
    return f"{value:+.4f}" if is_number(value) else ABSENT


def number(value: Any) -> str:
    """Any value: counts with separators, other numbers to four significant digits."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        return ", ".join(number(part) for part in value)
    if not is_number(value):
        return ABSENT
    if isinstance(value, int) or (value == int(value) and abs(value) < 1e15):
        return f"{int(value):,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def duration(seconds: Any) -> str:
    """A duration in seconds; from two minutes in minutes, from two hours in hours."""
    if not is_number(seconds):
        return ABSENT
    if seconds < 120:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 7200:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def memory(size: Any) -> str:
    """Bytes as GB (10^9)."""
    return f"{size / 1e9:.2f} GB" if is_number(size) else ABSENT


def row(name: str, values: Sequence[Any]) -> dict[str, Any]:
    """A table row: its `name`, and its `cells` as text."""
    cells = [number(value) for value in values]
    return {"name": COUNTS.get(name, words(name)), "cells": cells}


def breaks(name: str) -> Markup:
    """The name of a run or file, with break points for narrow columns."""
    return Markup(re.sub("([/_-])", r"\1<wbr>", str(escape(name))))


def words(name: str) -> str:
    """A key as words: `train_videos` → `train videos`."""
    return name.replace("_", " ")


def metric(name: str) -> str:
    """`ndcg@10` → `NDCG@10`, `map` → `MAP`, `map_per_class@20` → `MAP@20 per class`,
    `text_to_video/r@1` → `text → video R@1`."""
    towards, slash, name = name.rpartition("/")
    if slash:
        return f"{direction(towards)} {metric(name)}"
    kind, at, depth = name.partition("@")
    if kind not in METRICS:
        return words(kind) + at + depth
    first, space, rest = METRICS[kind].partition(" ")
    return first + at + depth + space + rest


def direction(name: str) -> str:
    """`eval_to_train` → `new → known`, `validation_eval_to_train` → `validation: new → known`."""
    part, bare = (
        ("validation: " if name.startswith(VALIDATION) else ""),
        name.removeprefix(VALIDATION),
    )
    return part + DIRECTIONS.get(bare, words(bare.replace("_to_", " → ").replace("/", ", ")))


def in_words(text: str) -> str:
    """A text with the names of directions and metrics as people read them."""
    names = f"({VALIDATION})?({'|'.join(DIRECTIONS)})"
    text = re.sub(names, lambda match: direction(match[0]), text)
    return re.sub(r"\bndcg@", "NDCG@", text)


def by_part(names: Iterable[str]) -> dict[str, list[str]]:
    """Names of directions or scores by part: `test`, then `validation`; all under "" if none is of
    validation."""
    names = list(names)
    validation = [name for name in names if name.startswith(VALIDATION)]
    if not validation:
        return {"": names}
    return {"test": [name for name in names if name not in validation], "validation": validation}


def is_part(name: str) -> bool:
    """Whether a direction, or that of a score, is a part of the videos: `test/gap@20`."""
    return name.partition("/")[0] in PARTS


def is_text(direction: str) -> bool:
    """Whether a direction is of a search by words: `test/text_to_video`."""
    return direction.endswith(("/text_to_video", "/video_to_text"))


def by_table(names: Iterable[str]) -> dict[str, list[str]]:
    """Names of scores by the table that shows them: one per part of the videos, else `by_part`."""
    names = list(names)
    if not any(map(is_part, names)):
        return by_part(names)
    tables: dict[str, list[str]] = {}
    for name in names:
        tables.setdefault(direction(name.rpartition("/")[0]), []).append(name)
    return tables


def asked(name: str) -> str:
    """A sentence that describes a direction, or "" for an unknown one."""
    direction = name.rpartition("/")[2] if is_text(name) else name
    sentence = ASKED.get(direction.removeprefix(VALIDATION), "")
    validation = sentence and name.startswith(VALIDATION)
    return f"{sentence} New videos are those for validation." if validation else sentence


def measured(name: str) -> str:
    """`eval_to_train/ndcg@10` → `NDCG@10, new → known`."""
    first, slash, last = name.rpartition("/")
    return f"{metric(last)}, {direction(first)}" if slash else metric(last)


def oracles(directions: Iterable[str]) -> list[str]:
    """Directions in which popularity counts the future: new videos have no watches yet."""
    return [name for name in directions if name.endswith(("_to_eval", "cold_items"))]


def in_order(systems: Iterable[str]) -> list[str]:
    """Names of systems in display order: those of SYSTEMS, then any others."""
    names = list(systems)
    return [name for name in SYSTEMS if name in names] + [n for n in names if n not in SYSTEMS]


def system(name: str, towards: str = "") -> str:
    """The display name of a system; popularity is an oracle if the candidates are new videos."""
    if name == "popularity" and oracles([towards]):
        return "popularity (oracle)"
    modality = name.removesuffix("_standardised")
    return SYSTEMS.get(name) or words(name if modality == name else f"standardised {modality}")
