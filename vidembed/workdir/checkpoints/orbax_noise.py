"""Keeps off the terminal what Orbax says there; all its failures reach the caller as exceptions."""

import functools
import logging
import sys
import warnings
from typing import Any

_PLACE = "/orbax/checkpoint/"
_MARKS = (_PLACE, "tensorstore", ".orbax-checkpoint-tmp")


@functools.cache
def quieten() -> None:
    """Silences Orbax's log records and the reports on reads that it abandons.

    Other users of absl's log, and all other failures that Python cannot raise, are heard as before.
    """
    logging.getLogger("absl").addFilter(lambda record: _PLACE not in record.pathname)
    logging.getLogger("asyncio").addFilter(lambda record: not _of_orbax(record))
    # The warning names neither file nor module, so that it is silenced for all; vidembed has no
    # coroutines of its own, and its tests, where warnings are errors, still see others'.
    warnings.filterwarnings("ignore", r"coroutine '.*' was never awaited", RuntimeWarning)
    tell = sys.unraisablehook

    def hook(trouble: Any) -> None:
        # One array that cannot be read abandons the others under way: Python finds coroutines
        # that were never awaited, and TensorStore answers to a loop that is closed.
        code = getattr(trouble.object, "cr_code", None)
        abandoned = code is not None and _PLACE in code.co_filename
        answer = trouble.object is None and str(trouble.exc_value) == "Event loop is closed"
        if not abandoned and not answer:
            tell(trouble)

    sys.unraisablehook = hook


def _of_orbax(record: logging.LogRecord) -> bool:
    """Whether a report is of Orbax's doing, by its words or by the traceback that it brings.

    Where a disk is full each array fails, and Orbax awaits the first alone.
    """
    words = logging.Formatter().format(record)
    return any(mark in words for mark in _MARKS)
