"""Faults in record files, named by file, record and byte offset; raised or counted."""

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

_GO_ON = "--on-error skip (in Python skips=Skips()) continues without the lost records"

_PARTICULAR = re.compile(r"\d+|found [^;]*")

_log = logging.getLogger(__name__)


class RecordError(ValueError):
    """A fault in a record; the message names the file, the record's number and its byte offset.

    Numbers count from 0; in a gzip file the offset is in the decompressed stream. In files other
    than TFRecord the number is that of the row, and there is no offset.
    """

    def __init__(self, path: Any, record: int, offset: int | None, fault: str) -> None:
        place = f"row {record}" if offset is None else f"record {record} at byte {offset}"
        super().__init__(f"{path}: {place}: {fault}")
        self.path, self.record, self.offset, self.fault = str(path), record, offset, fault

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors of worker processes are pickled, and the default form would lose the fields.
        return type(self), (self.path, self.record, self.offset, self.fault)


class ContentError(RecordError):
    """An intact record or row without the expected content."""


@dataclass(kw_only=True)
class Skips:
    """Counts the faults that a reader skips; more than `limit` faults raise an error.

    All shards of a data set share one instance, so the limit applies to the whole data set.
    """

    limit: int = 100
    quiet: bool = False
    """Whether to log nothing, because the caller reports the faults."""
    errors: list[RecordError] = field(default_factory=list)

    def add(self, error: RecordError) -> None:
        """Count one fault and log it, or raise it if the limit is exceeded."""
        self.errors.append(error)
        if not self.quiet:
            _log.warning("skipped: %s", error)
        if len(self.errors) > self.limit:
            fault = f"{error.fault}; {self.limit} faults were skipped before this one and that is"
            fault += " the limit: correct the data, or in Python raise Skips.limit"
            raise type(error)(error.path, error.record, error.offset, fault) from error


class Faults:
    """The faults of one file: the first is raised, or, with `skips`, each is counted there.

    remedy: how to go on without the lost records, for the message of the fault that is raised.
    """

    def __init__(self, path: Any, skips: Skips | None = None, *, remedy: str = _GO_ON) -> None:
        self.path, self.count, self._skips, self._remedy = path, 0, skips, remedy

    def add(self, record: int, offset: int | None, fault: str, *, content: bool = False) -> None:
        """Raise or count a RecordError, or a ContentError for a fault of the content."""
        self.count += 1
        kind = ContentError if content else RecordError
        if self._skips is None:
            raise kind(self.path, record, offset, f"{fault}; {self._remedy}")
        self._skips.add(kind(self.path, record, offset, fault))


def grouped(errors: Iterable[RecordError]) -> list[str]:
    """One sentence per kind of fault: its first occurrence, and its count."""
    kinds: dict[str, list[RecordError]] = {}
    for error in errors:
        kinds.setdefault(_PARTICULAR.sub("#", error.fault), []).append(error)
    return [
        str(alike[0]) if len(alike) == 1 else f"{len(alike):,} such records, first {alike[0]}"
        for alike in kinds.values()
    ]
