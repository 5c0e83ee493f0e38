"""The one command-line shell: words, options parsed by tyro, faults as one message, exit codes.

Exit codes: 0 done; 1 refused or failed, with one message; 2 a mistake on the command line; 130
interrupted; 143 asked to stop (SIGTERM, Ctrl-C), and saved what there was: the same command goes on
from there. Nothing heavy is imported before it is needed: help must come at once.
"""

import contextlib
import difflib
import io
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

EXIT_INTERRUPTED = 130
LAST_WORDS_SECONDS = 2.0
"""The first process carries what binds the others: at a fault it lets them speak before it ends."""


class Command(Protocol):
    """A dataclass whose fields are options."""

    def run(self) -> int:
        """Does what was asked for; an exit code."""


C = TypeVar("C", bound=Command)


def choose(
    words: Mapping[str, str],
    arguments: Sequence[str],
    *,
    prog: str,
    kind: str = "verb",
    about: str = "",
) -> tuple[str, list[str]]:
    """The first argument, which must be one of `words` (word → what it is), and the others.

    Ends the process (SystemExit) where it is none: with 0 and the list after --help, else with 2.
    """
    if arguments and arguments[0] in words:
        return arguments[0], list(arguments[1:])
    width = max(map(len, words)) + 2
    lines = [f"usage: {prog} {kind.upper()} ...", ""]
    lines += [f"  {word:<{width}}{text}" for word, text in words.items()]
    lines += ["", f"More on each: {prog} {kind.upper()} --help"]
    if arguments and arguments[0] in ("-h", "--help"):
        print("\n".join([*lines, "", about.strip()]).rstrip())
        raise SystemExit(0)
    if arguments:
        near = difflib.get_close_matches(arguments[0], words, n=1)
        meant = f" Did you mean {near[0]!r}?" if near else ""
        print(f"there is no {kind} {arguments[0]!r}.{meant}\n", file=sys.stderr)
    print("\n".join(lines), file=sys.stderr)
    raise SystemExit(2)


def call(function: Callable[..., int | None], arguments: Sequence[str], *, prog: str) -> int:
    """Calls a function with the options that its parameters are; an exit code."""
    import tyro

    config = (tyro.conf.PositionalRequiredArgs, tyro.conf.FlagCreatePairsOff)

    def run() -> int:
        return tyro.cli(function, prog=prog, args=arguments, config=config) or 0

    return guarded(run, named=False)


def start(command: C | type[C], arguments: Sequence[str] | None = None, *, prog: str) -> int:
    """Parses the options of a program's one command, and runs it; an exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    return guarded(lambda: parse_one(command, given, prog=prog).run())


def parse(
    verbs: Mapping[str, Any], arguments: Sequence[str], *, prog: str, description: str = ""
) -> Any:
    """The verb that the arguments name, with its options set; see `parse_one`.

    verbs: word → a dataclass instance with the defaults of that verb.
    """
    words = {word: summary(type(verb)) for word, verb in verbs.items()}
    word, rest = choose(words, arguments, prog=prog, about=description)
    return parse_one(verbs[word], rest, prog=f"{prog} {word}")


def parse_one(command: C | type[C], arguments: Sequence[str], *, prog: str) -> C:
    """A dataclass, or an instance with its defaults, with the options set that were given.

    Ends the process (SystemExit) with 0 after --help, with 2 after a mistake: a value out of range
    as one line that begins with the options it is about, any other mistake as tyro shows it, with
    the nearest names.
    """
    import tyro

    shown, config = io.StringIO(), (tyro.conf.CascadeSubcommandArgs,)
    try:
        with contextlib.redirect_stderr(shown):
            if isinstance(command, type):
                return tyro.cli(command, args=arguments, prog=prog, config=config)
            return tyro.cli(
                type(command), default=command, args=arguments, prog=prog, config=config
            )
    except ValueError as error:
        print(_as_typed("", str(error), arguments), file=sys.stderr)
        raise SystemExit(2) from error
    except SystemExit as end:
        # tyro names the place by the path of our classes, with a wrapper of its own in front; what
        # the command itself refuses has none.
        found = end.__context__
        place, words = getattr(found, "arg", None), getattr(found, "message", None)
        if isinstance(found, ValueError):
            place, words = "", str(found)
        if isinstance(place, str) and isinstance(words, str):
            print(_as_typed(place, words, arguments), file=sys.stderr)
        else:
            print(shown.getvalue(), end="", file=sys.stderr)
            repeated = _repeated(arguments)
            if end.code and repeated:
                # Where a part's option stands between, tyro takes the second for a misplaced one.
                print(f"given more than once: {', '.join(repeated)}", file=sys.stderr)
        raise


def summary(command: type) -> str:
    """The first sentence of a command's docstring."""
    return (command.__doc__ or "").strip().splitlines()[0].rstrip(".")


def option_of(arguments: Sequence[str], option: str) -> str | None:
    """The value that the arguments give an option, before they are parsed; None if they do not.

    The last one, as tyro takes it.
    """
    found = None
    for word, following in zip(arguments, [*arguments[1:], None]):
        name, equals, value = word.partition("=")
        if name == option:
            found = value if equals else following
    return found


def guarded(run: Callable[[], int], *, named: bool = True) -> int:
    """What `run()` returns, or another exit code after one message for what ended it.

    A fault that no user can mend is a bug, and keeps its traceback; VIDEMBED_TRACEBACK=1 shows that
    of every fault. named: whether the message begins with the kind of the fault. With several hosts
    a fault ends this process at once: the others wait in a collective, and learn of it when this
    one falls silent.
    """
    try:
        return run()
    except SystemExit:
        raise
    except BaseException as error:
        code, words = _end_of(error, named=named)
        several = _several_hosts() and isinstance(error, Exception | KeyboardInterrupt)
        if not words and not several:
            raise
        if not words or (code == 1 and os.environ.get("VIDEMBED_TRACEBACK")):
            traceback.print_exc()
        if words:
            print(words, file=sys.stderr, flush=True)
        if several:
            from vidembed.distributed.agree import is_first_host

            sys.stdout.flush()
            time.sleep(LAST_WORDS_SECONDS if code == 1 and is_first_host() else 0)
            os._exit(code)
        return code


def _end_of(error: BaseException, *, named: bool) -> tuple[int, str]:
    """(exit code, message) for what ended a command; the message is empty for a bug."""
    if isinstance(error, KeyboardInterrupt):
        # Of a training the second Ctrl-C. Python's own end would wait for the other hosts.
        return EXIT_INTERRUPTED, "interrupted"
    if not isinstance(error, Exception):
        from vidembed.distributed.stopping import EXIT_STOPPED, StoppedError

        stopped = isinstance(error, StoppedError)
        words = f"{error}; the same command goes on from there"
        return (EXIT_STOPPED, words) if stopped else (1, "")
    if _several_hosts():
        from vidembed.distributed.agree import lost_host

        if lost := lost_host(error):
            return 1, f"LostHostError: {lost}"
    if not isinstance(error, ValueError | OSError | ImportError):
        from vidembed.engine.train import NonFiniteLoss
        from vidembed.workdir.checkpoints.store import CheckpointError
        from vidembed.workdir.lease import LeaseHeldError, LeaseLostError

        if not isinstance(error, CheckpointError | LeaseHeldError | LeaseLostError | NonFiniteLoss):
            return 1, ""
    words = f"{type(error).__name__ if named else 'error'}: {error}"
    if isinstance(error, ImportError) and re.search("gcsfs|s3fs", words):
        words += "; what gs:// and s3:// need is an extra: pip install -e '.[gcs]' or [s3]"
    return 1, words


def _several_hosts() -> bool:
    """Whether other processes take part, without waking JAX where nothing has used it."""
    jax = sys.modules.get("jax")
    return jax is not None and jax.distributed.is_initialized() and jax.process_count() > 1


def _as_typed(place: str, words: str, arguments: Sequence[str]) -> str:
    """`words` behind the options under `place` that they speak of, else behind the place itself."""
    names = [name for name in place.split(".") if name[:1].islower() and name != "recipe"]
    part = "".join(f"{name}." for name in names).replace("_", "-")
    typed = dict.fromkeys(word.partition("=")[0] for word in arguments if word.startswith("--"))
    meant = [option for option in typed if option.replace("_", "-").startswith(f"--{part}")]
    meant = [option for option in meant if re.search(rf"(?<!-)\b{_field(option)}\b", words)]
    subject = ", ".join(meant) or (f"--{part[:-1]}" if part else "")
    return f"{subject}: {words}" if subject else words


def _repeated(arguments: Sequence[str]) -> list[str]:
    options = [word.partition("=")[0] for word in arguments if word.startswith("--")]
    return [name for name in dict.fromkeys(options) if options.count(name) > 1]


def _field(option: str) -> str:
    return re.escape(option.lstrip("-").rpartition(".")[2].replace("-", "_"))
