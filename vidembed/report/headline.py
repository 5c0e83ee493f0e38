"""Choose the one or two scores that summarise a direction."""

from collections.abc import Iterable

from vidembed.report.wording import VALIDATION

DEPTH = 10
"""Depth of the NDCG that CDML reports (section 4.1)."""
DEPTHS = {"eval_to_eval": 60}
"""Other depths by direction: GCML's, which is measured among new videos only."""


def headline(direction: str, metrics: Iterable[str]) -> str:
    """The main NDCG of a direction, such as ndcg@10; if it was not measured, the first that was.

    metrics: names of the measured metrics; the result is not among them if no NDCG is.
    """
    main = f"ndcg@{DEPTHS.get(direction.removeprefix(VALIDATION), DEPTH)}"
    measured = [name for name in metrics if name.startswith("ndcg@")]
    return main if main in measured or not measured else measured[0]


def shown(direction: str, metrics: Iterable[str]) -> list[str]:
    """The headline, then MAP: the columns of a sweep."""
    return [headline(direction, metrics), "map"]
