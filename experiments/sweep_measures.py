"""How measures of training go: what a table shows of the journals of a point's runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

PARTS = ("first third", "second", "last")


def courses(
    journals: Sequence[Sequence[Mapping[str, Any]]], names: Sequence[str]
) -> dict[str, list[float]]:
    """Measure → its mean over the logged steps of each third of the run, and over the runs.

    journals: the lines of each run's metrics.jsonl. Lines that do not know a measure (null) count
    for nothing; a measure that a third of a run does not know at all is left out.
    """
    runs = [[line for line in lines if line["kind"] == "train"] for lines in journals]
    found = {}
    for name in names:
        if runs and all(len(lines) >= len(PARTS) and name in lines[0] for lines in runs):
            thirds = [np.array_split([line[name] for line in lines], len(PARTS)) for lines in runs]
            known = [[[v for v in part if v is not None] for part in parts] for parts in thirds]
            if all(part for parts in known for part in parts):
                means = [[np.mean(part) for part in parts] for parts in known]
                found[name] = [float(mean) for mean in np.mean(means, axis=0)]
    return found
