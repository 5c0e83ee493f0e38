"""The options of a command, read from its fields for help and for checking command lines.

tyro turns words into values. This module reads all options and parts from the same annotations,
including those of parts that are not chosen.
"""

import dataclasses
import inspect
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tyro

from vidembed.cli import descriptions
from vidembed.cli.annotations import (
    holds_dataclasses,
    parts_of,
    plain,
    type_name,
    without_none,
)

REQUIRED = tyro.MISSING
Chosen = Mapping[str, str]
"""Place of a part ("task.miner") → the word of the chosen part ("hardest")."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Option:
    """A field that the command line sets."""

    name: str
    """As typed, --feed.batch-triplets; for a positional argument, its name in the usage line."""
    kind: Any
    """The annotation, without `Annotated`."""
    default: Any
    about: str
    """The description in the source."""
    needs: Chosen
    """The parts that must be chosen for the option to exist."""
    aliases: tuple[str, ...] = ()
    positional: bool = False

    @property
    def required(self) -> bool:
        """Whether it has no default."""
        return self.default is REQUIRED

    @property
    def negation(self) -> str:
        """--no-follow for --follow."""
        head, dot, last = self.name[2:].rpartition(".")
        return f"--{head}{dot}no-{last}"

    @property
    def values(self) -> int | None:
        """How many words follow it; None for any number."""
        kind = without_none(self.kind)
        if kind is bool:
            return 0
        if typing.get_origin(kind) is not tuple:
            return 1
        items = typing.get_args(kind)
        return None if Ellipsis in items else len(items)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Switch:
    """A place for one of several parts, chosen by a word such as task.miner:hardest."""

    place: str
    choices: Mapping[str, type]
    default: str
    """The word of the default part; "" if there is no default."""
    now: str
    """The word of the current part."""
    needs: Chosen

    def word(self, choice: str) -> str:
        """The choice as typed."""
        return f"{self.place}:{choice}"


class Options:
    """The options and switches of a command, with the chosen parts or with all parts."""

    def __init__(self, command: Any, chosen: Chosen | None = None) -> None:
        """command: a dataclass, an instance of one with its defaults, or a function.

        chosen: the parts that differ from the defaults; None: all parts.
        """
        self._chosen = chosen
        self.switches: list[Switch] = []
        self.titles: dict[str, str] = {}
        """Place → summary of the class at that place."""
        self.options = list(self._of_command(command))
        self.by_name = {name: o for o in self.options for name in (o.name, *o.aliases)}
        flags = (option for option in self.options if option.values == 0)
        self.by_name |= {option.negation: option for option in flags}

    @property
    def positionals(self) -> list[Option]:
        """The positional arguments, in order."""
        return [option for option in self.options if option.positional]

    @property
    def places(self) -> dict[str, Switch]:
        """Place → switch."""
        return {switch.place: switch for switch in self.switches}

    def _of_command(self, command: Any) -> Iterator[Option]:
        if isinstance(command, type) or dataclasses.is_dataclass(command):
            kind = command if isinstance(command, type) else type(command)
            yield from self._below(kind, command, "", {})
            return
        hints = typing.get_type_hints(command, include_extras=True)
        texts = descriptions.of_parameters(command)
        for name, parameter in inspect.signature(command).parameters.items():
            default = REQUIRED if parameter.default is parameter.empty else parameter.default
            yield from self._field(
                name, hints[name], default, texts.get(name, ""), "", {}, positional=True
            )

    def _below(self, kind: type, value: Any, place: str, needs: Chosen) -> Iterator[Option]:
        self.titles.setdefault(place, descriptions.summary(kind))
        hints, texts = (
            typing.get_type_hints(kind, include_extras=True),
            descriptions.of_fields(kind),
        )
        for field in dataclasses.fields(kind):
            if field.init:
                held = _default(field) if isinstance(value, type) else getattr(value, field.name)
                text = texts.get(field.name, "")
                yield from self._field(field.name, hints[field.name], held, text, place, needs)

    def _field(
        self,
        name: str,
        kind: Any,
        value: Any,
        about: str,
        place: str,
        needs: Chosen,
        *,
        positional: bool = False,
    ) -> Iterator[Option]:
        kind, notes = plain(kind)
        if tyro.conf.Suppress in notes:
            return
        named = next((note for note in notes if hasattr(note, "metavar")), None)
        name = named.name if named and named.name is not None else name
        here = ".".join(filter(None, [place, name.replace("_", "-")]))
        if parts := parts_of(kind):
            yield from self._switch(here, parts, value, needs)
        elif dataclasses.is_dataclass(kind):
            yield from self._below(
                typing.cast(type, kind), kind if value is REQUIRED else value, here, needs
            )
        elif typing.get_origin(kind) is tuple and holds_dataclasses(kind):
            for number, item in enumerate(value):
                below = typing.get_args(kind)[0]
                yield from self._field(str(number), below, item, about, here, needs)
        else:
            positional = (positional and value is REQUIRED) or tyro.conf.Positional in notes
            metavar = (named and named.metavar) or name.upper()
            yield Option(
                name=metavar if positional else f"--{here}",
                kind=kind,
                default=value,
                about=about,
                needs=needs,
                aliases=tuple(named.aliases or ()) if named else (),
                positional=positional,
            )

    def _switch(
        self, place: str, parts: Mapping[str, type], value: Any, needs: Chosen
    ) -> Iterator[Option]:
        default = next((word for word, part in parts.items() if type(value) is part), "")
        now = (self._chosen or {}).get(place, default)
        self.switches.append(
            Switch(place=place, choices=parts, default=default, now=now, needs=needs)
        )
        chosen = list(parts) if self._chosen is None else [now]
        for word in chosen:
            part = parts.get(word, types.NoneType)
            if part is not types.NoneType:
                held = value if type(value) is part else part
                yield from self._below(part, held, place, {**needs, place: word})


def metavar(option: Option) -> str:
    """The placeholder for the values of an option: INT, STR ..., {edges,videos}."""
    kind = without_none(option.kind)
    if kind is bool or option.positional:
        return ""
    if typing.get_origin(kind) is tuple:
        items = typing.get_args(kind)
        return (
            f"{type_name(items[0])} ..." if Ellipsis in items else " ".join(map(type_name, items))
        )
    return type_name(kind)


def _default(field: "dataclasses.Field[Any]") -> Any:
    if field.default is not dataclasses.MISSING:
        return field.default
    factory: Callable[[], Any] | Any = field.default_factory
    return REQUIRED if factory is dataclasses.MISSING else factory()
