"""Test whether a run's vectors are still useful for videos that lack a modality.

Late fusion multiplies its towers. If no training video lacked audio, the output of the visual tower
by itself can lie anywhere: on the sample, the neighbours of such videos among the others were at
chance level, while early fusion kept 0.62 of 0.66 (share of ten neighbours with a shared label).
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from vidembed.deploy.inputs import VideoRows

MADE_UP, POOR = 256, 0.25
"""Number of made-up test videos, and the median rank, as a share of them, above which to warn;
0.5 is chance."""


def rank_without(
    compute: Callable[[Any, np.ndarray], np.ndarray], widths: Mapping[str, int], modality: str
) -> float:
    """Rank a video's complete vector among those of others, by its vector without the modality.

    The median, over made-up videos, of the share of other videos that rank before the video itself:
    0 at best, 0.5 by chance.
    """
    rng, every = np.random.default_rng(0), np.arange(MADE_UP)
    features = {m: rng.normal(size=(MADE_UP, w)).astype(np.float32) for m, w in widths.items()}
    whole = compute(VideoRows(features=features, present={}), every)
    lacking = {modality: np.zeros(MADE_UP, np.bool_)}
    part = compute(VideoRows(features=features, present=lacking), every)
    scores = part @ whole.T
    return float(np.median((scores > np.diagonal(scores)[:, None]).sum(axis=1)) / (MADE_UP - 1))
