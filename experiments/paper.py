"""What the paper reports (CDML, KDD 2018, Tables 1 and 2), in percent, by the names used here.

Measured on 278 million videos and real watches: levels cannot be compared with those on other
data, only orders and ratios. Its multimodal row of Table 1 equals the 2560-256 early row of
Table 2, although the text calls the video-only network the left tower of late fusion: so it does
not say at which widths it compared, and Table 1 is measured here at several matched ones.
"""

from collections.abc import Mapping

from vidembed.evaluators.queries import Direction

Percent = Mapping[Direction, Mapping[str, float]]
"""direction → metric → percent."""


def _percent(ndcg: tuple[float, float], average: tuple[float, float]) -> Percent:
    """Pairs as the paper prints them: train-to-eval, eval-to-train."""
    return {
        "eval_to_train": {"ndcg@10": ndcg[1], "map": average[1]},
        "train_to_eval": {"ndcg@10": ndcg[0], "map": average[0]},
    }


TABLE_1 = {
    "video": _percent((7.22, 10.38), (2.27, 2.68)),
    "video and audio": _percent((8.48, 12.04), (2.70, 3.20)),
}
"""It does not state the widths of the video-only network, so that no point here stands for it."""
TABLE_2 = {
    "early-2560-256": _percent((8.48, 12.04), (2.70, 3.20)),
    "early-4000-256": _percent((9.51, 13.13), (3.01, 3.49)),
    "late-4000-256": _percent((9.91, 13.46), (3.13, 3.58)),
    "early-4000-512-256": _percent((9.29, 12.64), (2.90, 3.33)),
    "early-4000-1024-256": _percent((9.46, 12.80), (2.95, 3.38)),
    "late-4000-1024-256": _percent((9.82, 13.05), (3.07, 3.44)),
}
"""Widths of the layers, and where the modalities are fused."""


def minus(one: Percent, other: Percent) -> Percent:
    """The difference of two rows of one table: rows of two tables were never compared."""
    return {
        direction: {name: round(value - other[direction][name], 2) for name, value in row.items()}
        for direction, row in one.items()
    }
