"""Choose the one or two scores that summarise a direction."""

from collections.abc import Iterable

from vidembed.report.wording import VALIDATION, by_table, is_part

DEPTH = 10
"""Depth of the NDCG that CDML reports (section 4.1)."""
DEPTHS = {"eval_to_eval": 60}
"""Other depths by direction: GCML's, which is measured among new videos only."""
ON_TOP = ("map_per_class", "hit@1", "perr")
"""Scores of predicted labels at the top of the page, after GAP."""

OF_CLIPS = ("r@1", "probe", "same_source")
"""Those of a list of clips."""


def headline(direction: str, metrics: Iterable[str]) -> str:
    """The main NDCG of a direction, such as ndcg@10; if it was not measured, the first that was;
    without NDCG, the first GAP, such as gap@20.

    metrics: names of the measured metrics; the result is not among them if no NDCG or GAP is.
    """
    metrics = list(metrics)
    main = f"ndcg@{DEPTHS.get(direction.removeprefix(VALIDATION), DEPTH)}"
    measured = [name for name in metrics if name.startswith("ndcg@")]
    measured = measured or [name for name in metrics if name.startswith("gap@")]
    return main if main in measured or not measured else measured[0]


def shown(direction: str, metrics: Iterable[str]) -> list[str]:
    """The headline, then MAP: the columns of a sweep."""
    return [headline(direction, metrics), "map"]


def on_top(scores: Iterable[str]) -> list[str]:
    """The scores at the top of the page: of predicted labels and of clips, some on one part of the
    videos; else all of one part."""
    first, *_ = by_table(scores).values()
    if not is_part(first[0]):
        return first
    if any(name.endswith("/probe") for name in first):
        return [name for name in first if name.rpartition("/")[2] in OF_CLIPS] or first
    gaps = [name for name in first if "/gap@" in name]
    others = [name for metric in ON_TOP for name in first if name.endswith(f"/{metric}")]
    return [*gaps, *others] or first
