"""Faults in record files: each named by file, record and byte offset; raised, or counted."""

import logging
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

_GO_ON = "--on-error skip (in Python skips=Skips()) goes on without what is lost"

_PARTICULAR = re.compile(r"\d+|found [^;]*")

_log = logging.getLogger(__name__)


class RecordError(ValueError):
    """A fault in a record; the message names the file, the record's number and its byte offset.

    Numbers count from 0; in a gzip file the offset is that of the decompressed stream. A row of a
    file of another kind than TFRecord has none.
    """

    def __init__(self, path: Any, record: int, offset: int | None, fault: str) -> None:
        place = f"row {record}" if offset is None else f"record {record} at byte {offset}"
        super().__init__(f"{path}: {place}: {fault}")
        self.path, self.record, self.offset, self.fault = str(path), record, offset, fault

    def __reduce__(self) -> tuple[Any, ...]:
        # Worker processes send their errors home, and the default form would lose the parts.
        return type(self), (self.path, self.record, self.offset, self.fault)


class ContentError(RecordError):
    """A sound record, or a row, that does not hold what is asked of it."""


@dataclass(kw_only=True)
class Skips:
    """Counts the faults that a reader leaves out; more than `limit` are an error again.

    One is shared by all shards of a data set, so that the limit bounds the whole.
    """

    limit: int = 100
    quiet: bool = False
    """Whether who counts here also says it, so that nothing is logged."""
    errors: list[RecordError] = field(default_factory=list)

    def add(self, error: RecordError) -> None:
        """Count one fault and log it, or raise it where it is one too many."""
        self.errors.append(error)
        if not self.quiet:
            _log.warning("skipped: %s", error)
        if len(self.errors) > self.limit:
            fault = f"{error.fault}; {self.limit} faults were skipped before this one and that is"
            fault += " the limit: mend the data, or in Python raise Skips.limit"
            raise type(error)(error.path, error.record, error.offset, fault) from error


class Faults:
    """What becomes of the faults of one file: the first is raised, or each counted in `skips`."""

    def __init__(self, path: Any, skips: Skips | None = None) -> None:
        self.path, self.count, self._skips = path, 0, skips

    def add(self, record: int, offset: int | None, fault: str, *, content: bool = False) -> None:
        """Raise a RecordError, or count it; a ContentError for a fault of the content."""
        self.count += 1
        kind = ContentError if content else RecordError
        if self._skips is None:
            raise kind(self.path, record, offset, f"{fault}; {_GO_ON}")
        self._skips.add(kind(self.path, record, offset, fault))


def grouped(errors: Iterable[RecordError]) -> list[str]:
    """A sentence for each kind of fault: the first of it, and how many there are alike."""
    kinds: dict[str, list[RecordError]] = {}
    for error in errors:
        kinds.setdefault(_PARTICULAR.sub("#", error.fault), []).append(error)
    return [
        str(alike[0]) if len(alike) == 1 else f"{len(alike):,} records alike, first {alike[0]}"
        for alike in kinds.values()
    ]
