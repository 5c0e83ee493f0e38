"""One thing minus another, paired by query, and what that is to show."""

from typing import NamedTuple

from experiments.paper import Percent


class Comparison(NamedTuple):
    """`one` minus `other`: points of a sweep, or systems that are scored alike."""

    one: str
    other: str
    asks: str
    paper: Percent | None = None
    """The difference that the paper itself reports, in percent, where it makes this comparison."""


PERMUTED = (
    Comparison("visual", "random", "not above zero"),
    Comparison("audio", "random", "not above zero"),
    Comparison("concatenated", "random", "not above zero"),
    Comparison("trained", "trained_exchanged", "not above zero"),
    Comparison("trained_exchanged", "random", "popularity learnt"),
)
"""Compared where video ids are permuted, so that content tells nothing of what is watched.

Raw features, which know nothing else, are to fall to chance. A network may learn how much each
candidate is watched: it must not be above its own embedding with the queries exchanged, and that
above random is what it knows of the candidates alone. A difference below zero is noise: nothing
here could teach a system to avoid what is related."""
