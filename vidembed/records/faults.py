"""Faults in record files: each named by file, record and byte offset; raised, or counted."""

import logging
from dataclasses import dataclass, field
from typing import Any

_GO_ON = "--on-error skip (in Python skips=Skips()) goes on without what is lost"

_log = logging.getLogger(__name__)


class RecordError(ValueError):
    """A fault in a record; the message names the file, the record's number and its byte offset.

    Numbers count from 0; in a gzip file the offset is that of the decompressed stream.
    """

    def __init__(self, path: Any, record: int, offset: int, fault: str) -> None:
        super().__init__(f"{path}: record {record} at byte {offset}: {fault}")
        self.path, self.record, self.offset, self.fault = str(path), record, offset, fault

    def __reduce__(self) -> tuple[Any, ...]:
        # Worker processes send their errors home, and the default form would lose the parts.
        return RecordError, (self.path, self.record, self.offset, self.fault)


@dataclass(kw_only=True)
class Skips:
    """Counts the faults that a reader leaves out; more than `limit` are an error again.

    One is shared by all shards of a data set, so that the limit bounds the whole.
    """

    limit: int = 100
    errors: list[RecordError] = field(default_factory=list)

    def add(self, error: RecordError) -> None:
        """Count one fault and log it, or raise it where it is one too many."""
        self.errors.append(error)
        _log.warning("skipped: %s", error)
        if len(self.errors) > self.limit:
            fault = f"{error.fault}; {self.limit} faults were skipped before this one and that is"
            fault += " the limit: mend the data, or in Python raise Skips.limit"
            raise RecordError(error.path, error.record, error.offset, fault) from error


class Faults:
    """What becomes of the faults of one file: the first is raised, or each counted in `skips`."""

    def __init__(self, path: Any, skips: Skips | None = None) -> None:
        self.path, self.count, self._skips = path, 0, skips

    def add(self, record: int, offset: int, fault: str) -> None:
        """Raise a RecordError, or count it."""
        self.count += 1
        if self._skips is None:
            raise RecordError(self.path, record, offset, f"{fault}; {_GO_ON}")
        self._skips.add(RecordError(self.path, record, offset, fault))
