"""Faults in record files: each named by file, record and byte offset; raised, or counted."""

import logging
from dataclasses import dataclass, field
from typing import Any, Literal

OnError = Literal["error", "skip"]

_GO_ON = "on_error='skip' (--on-error skip) goes on without what is lost"

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
    """Counts what `on_error="skip"` leaves out; more than `limit` faults are an error again.

    Share one over all shards of a data set, so that the limit bounds the whole.
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
    """What becomes of the faults of one file: the first is raised, or each is counted."""

    def __init__(self, path: Any, on_error: OnError, skips: Skips | None) -> None:
        if on_error not in ("error", "skip"):
            raise ValueError(f"on_error is {on_error!r}; it must be 'error' or 'skip'")
        if on_error == "error" and skips is not None:
            raise ValueError("skips are given, but on_error is 'error': nothing would be skipped")
        self.path, self.count = path, 0
        self._skips = None if on_error == "error" else skips if skips is not None else Skips()

    def add(self, record: int, offset: int, fault: str) -> None:
        """Raise a RecordError, or under "skip" count it."""
        self.count += 1
        if self._skips is None:
            raise RecordError(self.path, record, offset, f"{fault}; {_GO_ON}")
        self._skips.add(RecordError(self.path, record, offset, fault))
