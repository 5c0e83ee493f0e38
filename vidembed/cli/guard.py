"""How every command ends: faults as one message, exit codes.

Exit codes: 0 done; 1 refused or failed, with one message; 2 a mistake on the command line; 130
interrupted; 143 asked to stop (SIGTERM, a closed terminal or pipe; for what saves, Ctrl-C), and
saved what there was: the same command goes on from there.
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
"""What the message of every refusal, fault and mistake begins with."""
LAST_WORDS_SECONDS = 2.0
"""The first process carries what binds the others: at a fault it lets them speak before it ends."""


def guarded(
    run: Callable[[], int], *, stops: bool = True, as_typed: Callable[[str], str] = str
) -> int:
    """What `run()` returns, or another exit code after one message for what ended it.

    A fault that no user can mend is a bug, and keeps its traceback; VIDEMBED_TRACEBACK=1 shows that
    of every fault, and its kind. stops: whether a closed pipe or terminal stops it; else it does
    its work to the end all the same, and what it writes to files is whole. as_typed: names fields
    in a message as the options that they are. With several hosts a fault ends this process at once:
    the others wait in a collective, and learn of it when this one falls silent.
    """
    with Surroundings() as around:
        if not stops:
            around.done()
        try:
            return around.finished(run())
        except SystemExit as end:
            if not end.code and around.finished():  # of help
                raise SystemExit(1) from None
            raise
        except BaseException as error:
            # What ends a command after a signal is that signal, whatever a library made of it.
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
    """What a signal that no StopFlag took is raised as."""
    if number is None:
        return None
    return KeyboardInterrupt() if number == signal.SIGINT else StoppedError(STOPPING)


def _end_of(error: BaseException) -> tuple[int, str]:
    """(exit code, message) for what ended a command; 1 and no message for a bug."""
    if isinstance(error, KeyboardInterrupt):
        # Of a training the second Ctrl-C. Python's own end would wait for the other hosts.
        return EXIT_INTERRUPTED, "interrupted"
    if isinstance(error, StoppedError):
        then = "" if STOPPING in str(error) else "; the same command goes on from there"
        return EXIT_STOPPED, f"{error}{then}"
    if not isinstance(error, Exception):
        return 1, ""
    if _several_hosts():
        from vidembed.distributed.agree import lost_host

        if lost := lost_host(error):
            return 1, f"{ERROR}{lost}"
    words = f"{ERROR}{error}"
    if _of_the_platform(error):
        asked = os.environ.get("JAX_PLATFORMS", "")
        reason = (str(error) or "none of its devices is here").splitlines()[0]
        words = f"JAX finds no platform (JAX_PLATFORMS={asked}): {reason}; unset it, or try cpu"
        return 1, ERROR + words
    if isinstance(error, ImportError) and re.search("gcsfs|s3fs", words):
        words += "; what gs:// and s3:// need is an extra: pip install -e '.[gcs]' or [s3]"
    return 1, words if isinstance(error, _explained()) else ""


def _of_the_platform(error: BaseException) -> bool:
    """Whether JAX could not begin; where none of the platforms asked for is there, by an assert."""
    frames = traceback.extract_tb(error.__traceback__)
    place = frames[-1].filename if frames else ""
    return isinstance(error, RuntimeError | AssertionError) and place.endswith("xla_bridge.py")


def _explained() -> tuple[type[Exception], ...]:
    """The faults whose own words say what happened; any other is a bug."""
    known = (ValueError, OSError, ImportError, OverflowError, MemoryError)
    if "jax" not in sys.modules:
        return known
    from vidembed.engine.account import NothingTrainedError
    from vidembed.engine.train import NonFiniteLoss
    from vidembed.engine.watching import TrainerGoneError
    from vidembed.workdir.checkpoints.store import CheckpointError
    from vidembed.workdir.lease import LeaseHeldError, LeaseLostError

    of_runs = (CheckpointError, LeaseHeldError, LeaseLostError, TrainerGoneError)
    return (*known, *of_runs, NonFiniteLoss, NothingTrainedError)


def _several_hosts() -> bool:
    """Whether other processes take part, without waking JAX where nothing has used it."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized() and jax.process_count() > 1
