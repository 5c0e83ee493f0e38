"""The command line, parsed by tyro into dataclasses; what is refused is named as it was typed."""

import contextlib
import functools
import io
import operator
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import tyro


def parse(
    verbs: Mapping[str, Any], arguments: Sequence[str], *, prog: str, description: str = ""
) -> Any:
    """The verb that the arguments name, with their options set.

    verbs: word → a dataclass instance with the defaults of that verb. Ends the process (SystemExit)
    with 0 after --help, with 2 after a mistake: a value out of range as one line that begins with
    the options it is about, any other mistake as tyro shows it, with the nearest names.
    """
    kinds: Any = tuple(
        Annotated[type(verb), tyro.conf.subcommand(name=word, default=verb)]
        for word, verb in verbs.items()
    )
    shown = io.StringIO()
    try:
        with contextlib.redirect_stderr(shown):
            return tyro.cli(
                functools.reduce(operator.or_, kinds),
                args=list(arguments),
                prog=prog,
                description=description,
                config=(tyro.conf.CascadeSubcommandArgs,),
            )
    except ValueError as error:
        print(_as_typed("", str(error), arguments), file=sys.stderr)
        raise SystemExit(2) from error
    except SystemExit as end:
        # tyro names the place by the path of our classes, with a wrapper of its own in front.
        place = getattr(end.__context__, "arg", None)
        words = getattr(end.__context__, "message", None)
        if isinstance(place, str) and isinstance(words, str):
            print(_as_typed(place, words, arguments), file=sys.stderr)
        else:
            print(shown.getvalue(), end="", file=sys.stderr)
            repeated = _repeated(arguments)
            if end.code and repeated:
                # Where a part's option stands between, tyro takes the second for a misplaced one.
                print(f"given more than once: {', '.join(repeated)}", file=sys.stderr)
        raise


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
