"""Faults of records that stay on disk, each named by file, number of the record, and id."""

from collections.abc import Sequence

import numpy as np

from vidembed.records.checks import DUPLICATES, FEATURELESS, KEEP_FIRST, LEAVE_OUT, Finding
from vidembed.records.youtube8m import Videos

IMPORT_INSTEAD = "`vidembed import` with --on-error skip makes a table without the lost records"


class RecordFaults:
    """What a pass over records finds that must not reach a training."""

    def __init__(self, names: Sequence[str]) -> None:
        """names: those of the files."""
        self._names = names
        self._findings: dict[str, Finding] = {}

    def add_unusable(
        self, file: int, numbers: np.ndarray, videos: Videos, modality: str, bad: np.ndarray
    ) -> None:
        """Add the videos of a file whose vector of the modality is unusable, bool[n]."""
        for row in np.flatnonzero(bad).tolist():
            zero = not videos.features[modality][row].any()
            what = "all zero" if zero else "with NaN or infinity, or too large for the dtype"
            self._add(f"{modality} {what}", file, int(numbers[row]), videos.ids[row])

    def add_featureless(self, file: int, numbers: np.ndarray, videos: Videos) -> None:
        """Add the videos of a file that have no modality."""
        for row in np.flatnonzero(~np.logical_or.reduce(list(videos.present.values()))).tolist():
            self._add(FEATURELESS, file, int(numbers[row]), videos.ids[row])

    def add_repeated(self, ids: np.ndarray, first_rows: np.ndarray) -> None:
        """Add the ids S[N] that occur again; first_rows i64[S + 1] says which file has a row."""
        order = np.argsort(ids, kind="stable")
        again = np.flatnonzero(ids[order][1:] == ids[order][:-1]) + 1
        for row in np.sort(order[again]).tolist():
            file = int(np.searchsorted(first_rows, row, "right")) - 1
            self._add(DUPLICATES, file, row - int(first_rows[file]), ids[row])

    def sentences(self) -> list[str]:
        """One sentence for each kind of fault, with the first ten places and a remedy."""
        return [
            f"{what}: {finding}; {KEEP_FIRST if what == DUPLICATES else LEAVE_OUT}"
            for what, finding in self._findings.items()
        ]

    def _add(self, what: str, file: int, number: int, video: bytes) -> None:
        name = f"{bytes(video).decode(errors='replace')} in {self._names[file]}, record {number}"
        self._findings.setdefault(what, Finding()).add([name])
