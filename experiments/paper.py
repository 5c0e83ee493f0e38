"""The paper's numbers (CDML, KDD 2018, Tables 1 to 3), in percent, by the names used here.

Measured on 278 million videos and real watches: only orders and ratios can be compared with other
data, not levels. The multimodal row of Table 1 equals the 2560-256 early row of Table 2, although
the text calls the video-only network the left tower of late fusion: so the compared widths are not
stated, and Table 1 is measured here at several matched widths.
"""

from collections.abc import Mapping

from vidembed.evaluators.queries import Direction

Percent = Mapping[Direction, Mapping[str, float]]
"""direction → metric → percent."""


def _percent(ndcg: tuple[float, float], average: tuple[float, float]) -> Percent:
    """Arguments are pairs as in the paper: train-to-eval, eval-to-train."""
    return {
        "eval_to_train": {"ndcg@10": ndcg[1], "map": average[1]},
        "train_to_eval": {"ndcg@10": ndcg[0], "map": average[0]},
    }


TABLE_1 = {
    "video": _percent((7.22, 10.38), (2.27, 2.68)),
    "video and audio": _percent((8.48, 12.04), (2.70, 3.20)),
}
"""The widths of the video-only network are not stated, so no point here corresponds to it."""
TABLE_2 = {
    "early-2560-256": _percent((8.48, 12.04), (2.70, 3.20)),
    "early-4000-256": _percent((9.51, 13.13), (3.01, 3.49)),
    "late-4000-256": _percent((9.91, 13.46), (3.13, 3.58)),
    "early-4000-512-256": _percent((9.29, 12.64), (2.90, 3.33)),
    "early-4000-1024-256": _percent((9.46, 12.80), (2.95, 3.38)),
    "late-4000-1024-256": _percent((9.82, 13.05), (3.07, 3.44)),
}
"""By kind of fusion and widths of the layers."""

TABLE_3: Mapping[tuple[int, int], Mapping[Direction, float]] = {
    (dimensions, bits): {"eval_to_train": to_train, "train_to_eval": to_eval}
    for dimensions, bits, to_eval, to_train in (
        (512, 32, 2.99, 5.68),
        (256, 32, 2.96, 5.61),
        (32, 32, 2.19, 4.20),
        (128, 8, 2.87, 5.47),
        (256, 4, 2.94, 5.58),
        (512, 2, 2.87, 5.47),
        (128, 4, 2.84, 5.40),
        (256, 2, 2.75, 5.23),
        (128, 2, 2.48, 4.74),
    )
}
"""(dimensions, bits per dimension; 32 is not quantised) → NDCG, by an evaluation that is not
described: values are a third of those in Table 2, so only ratios within this table are
meaningful."""


def minus(one: Percent, other: Percent) -> Percent:
    """The difference of two rows of the same table; never use rows of two tables."""
    return {
        direction: {name: round(value - other[direction][name], 2) for name, value in row.items()}
        for direction, row in one.items()
    }


TABLE_6 = {
    "visual + audio": 0.8247,
    "visual + audio + CDML": 0.8430,
    "WILLOW, single model": 0.8300,
    "WILLOW, ensemble": 0.8469,
    "Rankyou, video-level, single model": 0.8141,
    "You8M, video-level, ensemble": 0.8308,
}
"""GAP@20 of annotation on YouTube-8M's own test set (CDML, table 6)."""
