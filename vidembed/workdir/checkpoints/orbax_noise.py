"""Silence Orbax's output on the terminal; its failures reach the caller as exceptions."""

import functools
import logging
import sys
import warnings
from typing import Any

_PLACE = "/orbax/checkpoint/"
_MARKS = (_PLACE, "tensorstore", ".orbax-checkpoint-tmp")


@functools.cache
def quieten() -> None:
    """Silence Orbax's log records and reports about reads that it abandons.

    Other absl log records, and all other exceptions that Python cannot raise, are still reported.
    """
    logging.getLogger("absl").addFilter(lambda record: _PLACE not in record.pathname)
    logging.getLogger("asyncio").addFilter(lambda record: not _of_orbax(record))
    # The warning names neither file nor module, so it is silenced for all code; vidembed has no
    # coroutines of its own, and its tests, which turn warnings into errors, still see others.
    warnings.filterwarnings("ignore", r"coroutine '.*' was never awaited", RuntimeWarning)
    report = sys.unraisablehook

    def hook(trouble: Any) -> None:
        # If one array cannot be read, Orbax abandons the other reads: Python finds coroutines that
        # were never awaited, and TensorStore's callbacks meet a closed loop.
        code = getattr(trouble.object, "cr_code", None)
        abandoned = code is not None and _PLACE in code.co_filename
        late_callback = trouble.object is None and str(trouble.exc_value) == "Event loop is closed"
        if not abandoned and not late_callback:
            report(trouble)

    sys.unraisablehook = hook


def _of_orbax(record: logging.LogRecord) -> bool:
    """Whether a log record comes from Orbax, by its text or its traceback.

    On a full disk every array fails, and Orbax awaits only the first.
    """
    words = logging.Formatter().format(record)
    return any(mark in words for mark in _MARKS)
