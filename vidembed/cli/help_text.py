"""Format help: a short form that fits a screen, and a full form with every option."""

import inspect
import shutil
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from vidembed.cli import descriptions
from vidembed.cli.options import Option, Options, Switch, metavar

HELP_ALL = "--help-all"
LINES = 60
"""Most lines of the short form."""
WIDTHS = (60, 100)
"""Bounds of the width in columns, taken from the terminal; 80 without a terminal."""
NAME_WIDTH = 32
"""Columns for names; after a longer name the text begins on the next line."""


def help_text(command: Any, options: Options, *, prog: str, full: bool = False) -> str:
    """The help of a command with the parts that are chosen in `options`.

    full: every option with its full description. The short form has all options if they fit,
    otherwise those in the command's `FIRST`, a function's own parameters, or those of no part.
    """
    usage = _filled(f"usage: {prog} {' '.join(_usage(options))}", 4)
    about = [line for part in descriptions.paragraphs(command) for line in ("", *_filled(part, 0))]
    whole = [*usage, *about, "", *_groups(options), *_switches(options.switches)]
    if full or len(whole) <= LINES:
        return "\n".join(whole).rstrip()
    lines = [*usage, "", *_filled(descriptions.summary(command), 0), ""]
    switches = list(_switches(options.switches))
    rows = list(_rows(options.options, short=True))
    more = f"{HELP_ALL} shows the full descriptions"
    if len(lines) + len(rows) + len(switches) + 2 > LINES:
        first = _first(command, options)
        rows = list(_rows(first, short=True))
        while first and len(lines) + len(rows) + len(switches) + 3 > LINES:
            first = first[:-1]
            rows = list(_rows(first, short=True))
        left = len(options.options) - len(first)
        more = f"{HELP_ALL} shows the other {left} options and the full descriptions"
    return "\n".join([*lines, *rows, *switches, "", *_filled(more, 0)])


def _first(command: Any, options: Options) -> list[Option]:
    """Options that users change first: the names in FIRST, or a function's own parameters."""
    names = getattr(command, "FIRST", None)
    if names is None and inspect.isfunction(command):
        names = [name.replace("_", "-") for name in inspect.signature(command).parameters]
    if names is None:
        return [option for option in options.options if "." not in option.name]
    by_name = {option.name.lstrip("-"): option for option in options.options}
    return options.positionals + [by_name[name] for name in names if name in by_name]


def _usage(options: Options) -> Iterator[str]:
    for option in options.positionals:
        yield option.name if option.values is not None else f"{option.name} ..."
    for option in options.options:
        if option.required and not option.positional:
            yield f"{option.name} {metavar(option)}"
    yield "[--option VALUE ...]"
    if options.switches:
        yield "[part:word ...]"


def _groups(options: Options) -> Iterator[str]:
    """Every option, grouped by part."""
    places = dict.fromkeys(_place(option) for option in options.options)
    for place in places:
        if place:
            yield from _filled(f"{place}: {options.titles[place]}", 0)
        yield from _rows([o for o in options.options if _place(o) == place], short=False)
        yield ""


def _place(option: Option) -> str:
    return "" if option.positional else option.name.lstrip("-").rpartition(".")[0]


def _rows(options: Iterable[Option], *, short: bool) -> Iterator[str]:
    for option in options:
        name = ", ".join([*option.aliases, option.name])
        if option.values == 0 and option.default is True:
            name = option.negation
        name = f"  {name} {metavar(option)}".rstrip()
        text = descriptions.first_sentence(option.about) if short else option.about
        text = f"{text} {_default(option)}".strip()
        indent = NAME_WIDTH + 2
        if len(name) > NAME_WIDTH:
            yield name
            name = ""
        yield from _filled(text, indent, before=f"{name:<{indent}}")


def _default(option: Option) -> str:
    if option.required:
        return "" if option.positional else "(required)"
    value = option.default
    if option.values == 0:
        return "(on unless this is given)" if value is True else ""
    if isinstance(value, tuple):
        value = " ".join(map(str, value))
    return f"({value})" if value not in (None, "") else ""


def _switches(switches: Sequence[Switch]) -> Iterator[str]:
    """One line per place: the current part first, then the others."""
    if not switches:
        return
    yield ""
    yield from _filled(
        "Parts. Choose them with words such as "
        f"{switches[-1].word(list(switches[-1].choices)[-1])}, anywhere among the options "
        "(the current part is listed first; add --help for its options):",
        0,
    )
    width = max(len(switch.place) for switch in switches) + 1
    for switch in switches:
        now = switch.now
        alternatives = [choice for choice in switch.choices if choice != now]
        text = ", ".join([*([f"[{now}]"] if now else []), *alternatives])
        yield from _filled(text, width + 4, before=f"  {switch.place + ':':<{width}}  ")


def _filled(text: str, indent: int, before: str = "") -> list[str]:
    least, most = WIDTHS
    columns = min(max(shutil.get_terminal_size((80, 24)).columns, least), most)
    return textwrap.wrap(
        text,
        columns,
        initial_indent=before,
        subsequent_indent=" " * indent,
        break_on_hyphens=False,
        break_long_words=False,
    ) or [before.rstrip()]
