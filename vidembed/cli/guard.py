"""End every command with one message per fault and a defined exit code.

Exit codes: 0 done; 1 refused or failed, with one message; 2 a mistake on the command line; 130
interrupted; 143 stopped by request (SIGTERM, a closed terminal or pipe; Ctrl-C for commands that
save) after saving: the same command resumes from there.
"""

import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable

from vidembed.cli.surroundings import STOPPING, Surroundings
from vidembed.distributed.stopped import EXIT_STOPPED, StoppedError

EXIT_INTERRUPTED = 130
ERROR = "error: "
"""Prefix of the message of every refusal, fault and mistake."""
LAST_WORDS_SECONDS = 2.0
"""The first process hosts the coordinator: after a fault it waits for the others to report."""


def guarded(
    run: Callable[[], int], *, stops: bool = True, as_typed: Callable[[str], str] = str
) -> int:
    """Runs a command; returns its exit code, or prints one message and returns that of its fault.

    A fault that users cannot fix is a bug and keeps its traceback; VIDEMBED_TRACEBACK=1 shows the
    traceback of every fault. stops: whether a closed pipe or terminal stops the command; otherwise
    it runs to the end, and the files it writes are complete. as_typed: replaces field names in a
    message by options. With several hosts a fault ends this process at once: the others wait in a
    collective and notice when this one no longer responds.
    """
    with Surroundings() as around:
        if not stops:
            around.done()
        try:
            return around.finished(run())
        except SystemExit as end:
            if not end.code and around.finished():  # help that could not be written
                raise SystemExit(1) from None
            raise
        except BaseException as error:
            # After a signal the cause is that signal, even if a library raised its own error.
            code, words = _end_of(_asked(around.asked) or error)
            words = "" if around.closed and code == EXIT_STOPPED else words
            several = _several_hosts() and isinstance(error, Exception | KeyboardInterrupt)
            if code == 1 and not words and not several:
                raise
            if code == 1 and (not words or os.environ.get("VIDEMBED_TRACEBACK")):
                traceback.print_exc()
            if words:
                print(as_typed(words), file=sys.stderr, flush=True)
            if several:
                from vidembed.distributed.agree import is_first_host

                sys.stdout.flush()
                time.sleep(LAST_WORDS_SECONDS if code == 1 and is_first_host() else 0)
                os._exit(code)
            return code


def _asked(number: int | None) -> BaseException | None:
    """The exception for a signal that no StopFlag handled."""
    if number is None:
        return None
    return KeyboardInterrupt() if number == signal.SIGINT else StoppedError(STOPPING)


def _end_of(error: BaseException) -> tuple[int, str]:
    """(exit code, message) for what ended a command; 1 and no message for a bug."""
    if isinstance(error, KeyboardInterrupt):
        # In training, the second Ctrl-C. Python's normal exit would wait for the other hosts.
        return EXIT_INTERRUPTED, "interrupted"
    if isinstance(error, StoppedError):
        then = "" if STOPPING in str(error) else "; the same command continues from there"
        return EXIT_STOPPED, f"{error}{then}"
    if not isinstance(error, Exception):
        return 1, ""
    if _several_hosts():
        from vidembed.distributed.agree import lost_host

        if lost := lost_host(error):
            return 1, f"{ERROR}{lost}"
    words = f"{ERROR}{error}"
    if _of_the_platform(error):
        platforms = os.environ.get("JAX_PLATFORMS", "")
        reason = (str(error) or "it has no devices here").splitlines()[0]
        words = f"JAX finds no platform (JAX_PLATFORMS={platforms}): {reason}; unset it, or try cpu"
        return 1, ERROR + words
    if isinstance(error, ImportError) and re.search("gcsfs|s3fs", words):
        words += "; gs:// and s3:// paths need an extra: pip install -e '.[gcs]' or '.[s3]'"
    return 1, words if isinstance(error, _explained()) else ""


def _of_the_platform(error: BaseException) -> bool:
    """Whether JAX could not start; if no requested platform exists, it fails by an assertion."""
    frames = traceback.extract_tb(error.__traceback__)
    place = frames[-1].filename if frames else ""
    return isinstance(error, RuntimeError | AssertionError) and place.endswith("xla_bridge.py")


def _explained() -> tuple[type[Exception], ...]:
    """The exceptions whose messages explain the fault; any other is a bug."""
    known = (ValueError, OSError, ImportError, OverflowError, MemoryError)
    if "jax" not in sys.modules:
        return known
    from vidembed.engine.account import NothingTrainedError
    from vidembed.engine.train import NonFiniteLoss
    from vidembed.engine.watching import TrainerGoneError
    from vidembed.workdir.checkpoints.store import CheckpointError
    from vidembed.workdir.diagnosis import HopelessError
    from vidembed.workdir.lease import LeaseHeldError, LeaseLostError

    of_runs = (CheckpointError, LeaseHeldError, LeaseLostError, TrainerGoneError)
    return (*known, *of_runs, NonFiniteLoss, NothingTrainedError, HopelessError)


def _several_hosts() -> bool:
    """Whether other processes take part; does not import or start JAX."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized() and jax.process_count() > 1
