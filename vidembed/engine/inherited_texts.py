"""Check that a run reads texts as the run that it starts from: the same words or sentence vectors.

A text encoder's arrays have the same shapes for any vocabulary of the same size, but mean the words
in their order, or the sentence vectors of one encoder.
"""

from collections.abc import Mapping
from itertools import zip_longest
from typing import Any


def drawn_anew(source: str, stored: Mapping[str, Any], spec: Any, *, partial: bool) -> bool:
    """Whether the arrays that read texts must be drawn anew, because the source reads others.

    stored: the source's recipe file; spec: what this run's task knows of its data. Raises
    ValueError if they must, unless the run may take a part of the source's arrays (`partial`).
    """
    if (other := _other_texts(stored, spec)) and not partial:
        raise ValueError(
            f"{source} {other}. Give --init-partial to draw the text encoder anew, or the captions "
            "that the source was trained on"
        )
    return bool(other)


def _other_texts(stored: Mapping[str, Any], spec: Any) -> str:
    """How the source reads texts otherwise, in words; "" if alike or if one of them reads none."""
    theirs = stored.get("spec", {})
    words = (tuple(theirs.get("vocabulary") or ()), tuple(getattr(spec, "vocabulary", ())))
    spaces = (theirs.get("sentence_space") or "", getattr(spec, "sentence_space", ""))
    if all(words) and words[0] != words[1]:
        number, (there, here) = next(
            (n, pair) for n, pair in enumerate(zip_longest(*words)) if pair[0] != pair[1]
        )
        return (
            f"has another vocabulary, {len(words[0]):,} words, here {len(words[1]):,}: word "
            f"{number} is {_shown(there)} there, {_shown(here)} here"
        )
    if all(spaces) and spaces[0] != spaces[1]:
        return f"reads sentence vectors of {spaces[0]}, this run those of {spaces[1]}"
    return ""


def _shown(word: str | None) -> str:
    return "missing" if word is None else repr(word)
