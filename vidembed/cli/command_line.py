"""Parse command lines: verbs, help and mistakes here, values by tyro. For exit codes see `guard`.

`~` in a path is the home folder, also after `=`, where shells do not expand it. Heavy modules are
imported only when needed, so that help appears at once.
"""

import contextlib
import difflib
import functools
import inspect
import io
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from vidembed.cli import names
from vidembed.cli.guard import ERROR, guarded
from vidembed.cli.surroundings import Surroundings


class Command(Protocol):
    """A dataclass whose fields are options.

    Its class may have FIRST, the names of the options in its short help.
    """

    def run(self) -> int:
        """Runs the command; returns an exit code."""


C = TypeVar("C", bound=Command)
HELP = ("-h", "--help", "--help-all")


def choose(
    words: Mapping[str, str],
    arguments: Sequence[str],
    *,
    prog: str,
    kind: str = "verb",
    about: str = "",
) -> tuple[str, list[str]]:
    """Split off the first argument, which must be one of `words` (word → description).

    If it is not, the process ends (SystemExit): with 0 and the list after --help (1 if the list
    cannot be written), otherwise with 2.
    """
    if arguments and arguments[0] in words:
        return arguments[0], list(map(_at_home, arguments[1:]))
    width = max(map(len, words)) + 2
    lines = [f"usage: {prog} {kind.upper()} ...", ""]
    lines += [f"  {word:<{width}}{text}" for word, text in words.items()]
    lines += ["", f"More on each: {prog} {kind.upper()} --help"]
    with Surroundings() as around:
        around.done()  # there is nothing to stop
        wants_help = bool(arguments) and arguments[0] in HELP
        if wants_help:
            print("\n".join([*lines, "", about.strip()]).rstrip())
        else:
            print("\n".join([_no_word(words, arguments, kind), "", *lines]), file=sys.stderr)
        raise SystemExit(around.finished(0 if wants_help else 2))


def call(function: Callable[..., int | None], arguments: Sequence[str], *, prog: str) -> int:
    """Calls a function whose parameters are the options; returns an exit code."""

    def run() -> int:
        bound: Callable[[], int | None] = parse_one(function, arguments, prog=prog)
        return bound() or 0

    return guarded(run, stops=False, as_typed=functools.partial(names.with_options, function))


def start(command: C | type[C], arguments: Sequence[str] | None = None, *, prog: str) -> int:
    """Parses the options of a program with a single command and runs it; returns an exit code."""
    given = [_at_home(word) for word in (sys.argv[1:] if arguments is None else arguments)]

    def run() -> int:
        code: int = parse_one(command, given, prog=prog).run()
        return code

    typed = functools.partial(names.with_options, command)
    return guarded(run, stops=not asks_help(given), as_typed=typed)


def asks_help(arguments: Sequence[str]) -> bool:
    """Whether the arguments ask for help, so that the command does not run."""
    return not set(HELP).isdisjoint(arguments)


def parse(
    verbs: Mapping[str, Any], arguments: Sequence[str], *, prog: str, description: str = ""
) -> Any:
    """Parse a verb and its options; see `parse_one`.

    verbs: word → a dataclass instance with the defaults of that verb.
    """
    from vidembed.cli import descriptions

    words = {word: descriptions.summary(type(verb)).rstrip(".") for word, verb in verbs.items()}
    word, rest = choose(words, arguments, prog=prog, about=description)
    return parse_one(verbs[word], rest, prog=f"{prog} {word}")


def parse_one(
    command: Any, arguments: Sequence[str], *, prog: str, preset: Sequence[str] = ()
) -> Any:
    """Parse the options of a dataclass, or of an instance that holds the defaults, and return it
    with them set; for a function, return the call as a partial.

    preset: options and switches used as defaults; those the command lacks are ignored.
    Ends the process (SystemExit) with 0 after help, with 2 after a mistake: one message that begins
    with the option and suggests the nearest valid name.
    """
    from vidembed.cli.arguments import Arguments, Mistake
    from vidembed.cli.help_text import HELP_ALL, help_text

    given = Arguments(command, arguments, preset=preset)
    if asks_help(arguments):
        print(help_text(command, given.options, prog=prog, full=HELP_ALL in arguments))
        raise SystemExit(0)
    for note in given.words.notes:
        print(f"WARNING: {note}", file=sys.stderr)
    try:
        return _built(command, given.ordered(), arguments, known=given.options.by_name, prog=prog)
    except Mistake as mistake:
        raise _refused(str(mistake), prog) from mistake


def refuse_unknown(command: Any, arguments: Sequence[str], *, prog: str) -> None:
    """Ends the process like `parse_one` if an option belongs to no part at all."""
    from vidembed.cli.arguments import Arguments

    if mistakes := Arguments(command, arguments).words.mistakes:
        raise _refused(mistakes[0], prog)


def option_of(arguments: Sequence[str], option: str) -> str | None:
    """The value of an option before parsing; None if it is not given. The last one counts."""
    given = None
    for word, following in zip(arguments, [*arguments[1:], None]):
        name, equals, value = word.partition("=")
        if name == option:
            given = value if equals else following
    return given


def _refused(mistake: str, prog: str) -> SystemExit:
    print(f"{ERROR}{mistake}\n{prog} --help lists the options", file=sys.stderr)
    return SystemExit(2)


def _built(
    command: Any, words: list[str], arguments: Sequence[str], *, known: Collection[str], prog: str
) -> Any:
    """Let tyro build the command from ordered words; raises Mistake."""
    import tyro

    from vidembed.cli import descriptions
    from vidembed.cli.arguments import Mistake

    kind, options = command, dict[str, Any](args=words, prog=prog)
    markers: list[Any] = [tyro.conf.CascadeSubcommandArgs]
    if inspect.isfunction(command):
        kind = functools.wraps(command)(lambda *a, **k: functools.partial(command, *a, **k))
        markers.append(tyro.conf.PositionalRequiredArgs)
    elif not isinstance(command, type):
        kind, options["default"] = type(command), command
    options["config"] = tuple(markers)
    shown = io.StringIO()
    try:
        # tyro parses the sources of the dataclasses.
        with contextlib.redirect_stderr(shown), descriptions.collection_paused():
            return tyro.cli(kind, **options)
    except ValueError as error:
        raise Mistake(names.as_typed("", str(error), arguments, known)) from error
    except SystemExit as end:
        if not end.code:
            raise
        # tyro's errors carry the path through our classes, behind a wrapper of its own; errors
        # raised by the command itself carry none.
        cause = end.__context__
        place, message = getattr(cause, "arg", None), getattr(cause, "message", None)
        if isinstance(cause, ValueError):
            place, message = "", str(cause)
        if not isinstance(place, str) or not isinstance(message, str):
            raise Mistake(names.of_box(shown.getvalue())) from end
        raise Mistake(names.as_typed(place, message, arguments, known)) from end


def _no_word(words: Mapping[str, str], arguments: Sequence[str], kind: str) -> str:
    if not arguments or arguments[0].startswith("-"):
        return f"{ERROR}a {kind} must come first: one of {', '.join(words)}"
    near = difflib.get_close_matches(arguments[0], words, n=1)
    suggestion = f"; did you mean {near[0]}?" if near else ""
    return f"{ERROR}there is no {kind} {arguments[0]!r}{suggestion}"


def _at_home(word: str) -> str:
    """Expand `~` at the beginning of a word or after `=` to the home folder."""
    option, equals, value = word.partition("=")
    if option.startswith("--") and equals:
        return f"{option}={os.path.expanduser(value)}"
    return os.path.expanduser(word)
