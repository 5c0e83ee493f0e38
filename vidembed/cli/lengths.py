"""Which lengths of a training are in passes: those of the recipe or of a preset, unless the command
line gives steps instead."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from vidembed.engine.passes import INSTEAD, Lengths


def lengths_of(module: Any) -> Lengths:
    """The lengths that a recipe's module states in passes (LENGTHS), if any."""
    lengths: Lengths = getattr(module, "LENGTHS", Lengths())
    return lengths


def unless_in_steps(
    lengths: Lengths, preset: Sequence[str], arguments: Sequence[str]
) -> tuple[Lengths, list[str]]:
    """The lengths, and the words of a preset, without those that arguments give in steps.

    Raises ValueError if the arguments give the same length in both.
    """
    typed = {word.partition("=")[0].replace("_", "-") for word in arguments}
    kept = list(preset)
    for passes, steps in INSTEAD.items():
        by_passes, by_steps = (f"--{name.replace('_', '-')}" for name in (passes, steps))
        if by_steps not in typed:
            continue
        if by_passes in typed:
            raise ValueError(f"{by_passes} and {by_steps} say the same: give one of them")
        lengths = replace(lengths, **{passes: None})
        if by_passes in kept:
            place = kept.index(by_passes)
            del kept[place : place + 2]
    return lengths, kept
