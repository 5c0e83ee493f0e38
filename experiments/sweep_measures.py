"""How measures of training go: what a table shows of the journals of a point's runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

PARTS = ("first third", "second", "last")


def courses(
    journals: Sequence[Sequence[Mapping[str, Any]]], names: Sequence[str]
) -> dict[str, list[float]]:
    """Measure → its mean over the logged steps of each third of the run, and over the runs.

    journals: the lines of each run's metrics.jsonl. A measure that a run does not have is left out.
    """
    runs = [[line for line in lines if line["kind"] == "train"] for lines in journals]
    found = {}
    for name in names:
        if runs and all(len(lines) >= len(PARTS) and name in lines[0] for lines in runs):
            values = [[line[name] for line in lines] for lines in runs]
            thirds = [[np.mean(part) for part in np.array_split(v, len(PARTS))] for v in values]
            found[name] = [float(mean) for mean in np.mean(thirds, axis=0)]
    return found
