"""The one command-line shell: words, and options parsed by tyro; see `guard` for exit codes.

`~` in a path is the home folder, behind `=`, too, where shells leave it. Nothing heavy is imported
before it is needed: help must come at once.
"""

import contextlib
import difflib
import io
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from vidembed.cli.guard import guarded
from vidembed.cli.surroundings import Surroundings


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

    Ends the process (SystemExit) where it is none: with 0 and the list after --help (1 where that
    cannot be written), else with 2.
    """
    if arguments and arguments[0] in words:
        return arguments[0], list(map(_at_home, arguments[1:]))
    width = max(map(len, words)) + 2
    lines = [f"usage: {prog} {kind.upper()} ...", ""]
    lines += [f"  {word:<{width}}{text}" for word, text in words.items()]
    lines += ["", f"More on each: {prog} {kind.upper()} --help"]
    asked = bool(arguments) and arguments[0] in ("-h", "--help")
    with Surroundings() as around:
        around.done()  # there is nothing to stop
        if asked:
            print("\n".join([*lines, "", about.strip()]).rstrip())
        elif arguments:
            near = difflib.get_close_matches(arguments[0], words, n=1)
            meant = f" Did you mean {near[0]!r}?" if near else ""
            print(f"there is no {kind} {arguments[0]!r}.{meant}\n", file=sys.stderr)
        if not asked:
            print("\n".join(lines), file=sys.stderr)
        raise SystemExit(around.finished(0 if asked else 2))


def call(function: Callable[..., int | None], arguments: Sequence[str], *, prog: str) -> int:
    """Calls a function with the options that its parameters are; an exit code."""
    import tyro

    config = (tyro.conf.PositionalRequiredArgs, tyro.conf.FlagCreatePairsOff)

    def run() -> int:
        return tyro.cli(function, prog=prog, args=arguments, config=config) or 0

    return guarded(run, named=False, stops=False)


def start(command: C | type[C], arguments: Sequence[str] | None = None, *, prog: str) -> int:
    """Parses the options of a program's one command, and runs it; an exit code."""
    given = [_at_home(word) for word in (sys.argv[1:] if arguments is None else arguments)]

    def run() -> int:
        return parse_one(command, given, prog=prog).run()

    return guarded(run, stops=not asks_help(given))


def asks_help(arguments: Sequence[str]) -> bool:
    """Whether they ask what there is to ask for, so that nothing else is done."""
    return not {"-h", "--help"}.isdisjoint(arguments)


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


def _at_home(word: str) -> str:
    """A word of the command line, `~` at its beginning or behind `=` being the home folder."""
    option, equals, value = word.partition("=")
    if option.startswith("--") and equals:
        return f"{option}={os.path.expanduser(value)}"
    return os.path.expanduser(word)
