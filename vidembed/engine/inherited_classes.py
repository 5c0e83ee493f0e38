"""Check that the classes of a run begin with those of the run that it starts from."""

from collections.abc import Mapping, Sequence
from itertools import zip_longest
from typing import Any


def counts_of(
    source: str, stored: Mapping[str, Any], names: Sequence[str], *, fixed: int
) -> tuple[int, int] | None:
    """The numbers of classes of a source and of this run; None if one of them does not name them.

    stored: the source's recipe file; names: the classes of this run, of which the first `fixed` do
    not learn. Raises ValueError if a class of the source has another name here or is missing, and
    if the source has fewer classes than are fixed.
    """
    known = stored.get("spec", {}).get("class_names", ())
    if not known or not names:
        return None
    for number, (theirs, ours) in enumerate(zip_longest(known, names[: len(known)])):
        if theirs != ours:
            here = "is missing here" if ours is None else f"is {ours!r} here"
            raise ValueError(
                f"{source} has other classes: its class {number}, {theirs!r}, {here}. Give a "
                "--corpus.vocabulary that begins with its classes, in their order"
            )
    if fixed > len(known):
        raise ValueError(
            f"{source} has {len(known):,} classes, fewer than the {fixed:,} that this run leaves "
            f"fixed: give --task.fixed-classes {len(known)} to learn the others"
        )
    return len(known), len(names)
