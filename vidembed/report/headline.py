"""Which score stands for a direction, where there is room for one or two."""

from collections.abc import Iterable

from vidembed.report.wording import VALIDATION

DEPTH = 10
"""Of the NDCG that CDML reports (section 4.1)."""
DEPTHS = {"eval_to_eval": 60}
"""Of directions that are reported at another depth: GCML's is asked among new videos alone."""


def headline(direction: str, metrics: Iterable[str]) -> str:
    """The NDCG that a direction is known by, such as ndcg@10; if not measured, the first that is.

    metrics: names of what was measured; where no NDCG is among them, the name is none of them.
    """
    wanted = f"ndcg@{DEPTHS.get(direction.removeprefix(VALIDATION), DEPTH)}"
    measured = [name for name in metrics if name.startswith("ndcg@")]
    return wanted if wanted in measured or not measured else measured[0]


def shown(direction: str, metrics: Iterable[str]) -> list[str]:
    """The headline, then MAP: the columns of a sweep."""
    return [headline(direction, metrics), "map"]
