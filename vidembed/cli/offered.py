"""Command-line choices for fields that are typed by a protocol.

A part declares what it needs from another part by a protocol. A recipe's module lists the classes
that the command line offers for it: OFFERED = {Miner: SemiHard | Hardest, ...}. tyro needs concrete
classes, so each dataclass with such a field gets a subclass of the same name and documentation, in
which the choices replace the protocol. Parsed values are converted back to the real classes.
"""

import dataclasses
import functools
import operator
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, TypeVar, Union

T = TypeVar("T")


class Offered:
    """Narrow the class of a value to the offered choices, and convert values both ways.

    choices: protocol → the class, or the union of classes, that the command line offers for it.
    Classes that the value itself has in such a field are offered, too.
    """

    def __init__(self, choices: Mapping[type, Any], value: Any) -> None:
        self._choices = dict(choices)
        for protocol, present in self._held(value):
            self._choices[protocol] = _union([self._choices.get(protocol, present), present])
        self._narrowed: dict[type, type] = {}
        self._real: dict[type, type] = {}

    def narrowed(self, kind: Any) -> Any:
        """The annotation `kind` with choices instead of protocols, at any depth.

        Returns `kind` itself if nothing changes, so that a union keeps its other members.
        """
        origin, arguments = typing.get_origin(kind), typing.get_args(kind)
        if isinstance(kind, type) and kind in self._choices:
            return self.narrowed(self._choices[kind])
        if origin is Annotated:
            return Annotated[(self.narrowed(arguments[0]), *arguments[1:])]
        if origin in (Union, types.UnionType):
            return _union(map(self.narrowed, arguments))
        if origin is tuple:
            return tuple[tuple(map(self.narrowed, arguments))]  # type: ignore[misc]
        if isinstance(kind, type) and dataclasses.is_dataclass(kind):
            if kind not in self._narrowed:
                self._narrowed[kind] = self._subclass(kind)
            return self._narrowed[kind]
        return kind

    def shadow(self, value: Any) -> Any:
        """Convert a value to the narrowed classes."""
        return _rebuilt(value, self.narrowed)

    def plain(self, value: T) -> T:
        """Convert a value of the narrowed classes back to the real classes."""
        rebuilt: T = _rebuilt(value, lambda kind: self._real.get(kind, kind))
        return rebuilt

    def _subclass(self, kind: type) -> type:
        hints = typing.get_type_hints(kind, include_extras=True)
        changed = []
        for field in dataclasses.fields(kind):
            annotation = self.narrowed(hints[field.name])
            if annotation != hints[field.name]:
                changed.append((field.name, annotation, self._field(field)))
        if not changed:
            return kind
        subclass = dataclasses.make_dataclass(
            kind.__name__,
            changed,
            bases=(kind,),
            namespace={
                name: getattr(kind, name) for name in ("__doc__", "__module__", "__qualname__")
            },
            frozen=kind.__dataclass_params__.frozen,  # type: ignore[attr-defined]
        )
        self._real[subclass] = kind
        return subclass

    def _field(self, field: "dataclasses.Field[Any]") -> Any:
        """The same field, with its default converted to the narrowed classes."""
        options: dict[str, Any] = {
            name: getattr(field, name)
            for name in ("init", "repr", "hash", "compare", "metadata", "kw_only")
        }
        if field.default is not dataclasses.MISSING:
            options["default"] = self.shadow(field.default)
        elif (factory := field.default_factory) is not dataclasses.MISSING:
            options["default_factory"] = lambda: self.shadow(factory())
        return dataclasses.field(**options)

    def _held(self, value: Any) -> Iterator[tuple[type, type]]:
        """(protocol, class of the value) for every field of a tree that is typed by a protocol."""
        if isinstance(value, tuple):
            for item in value:
                yield from self._held(item)
        elif dataclasses.is_dataclass(value) and not isinstance(value, type):
            hints = typing.get_type_hints(type(value), include_extras=True)
            for field in dataclasses.fields(value):
                held = getattr(value, field.name)
                parts = held if isinstance(held, tuple) else (held,)
                for protocol in self._protocols_in(hints[field.name]):
                    yield from ((protocol, type(part)) for part in parts if part is not None)
                yield from self._held(held)

    def _protocols_in(self, kind: Any) -> Iterator[type]:
        if isinstance(kind, type) and (
            kind in self._choices or getattr(kind, "_is_protocol", False)
        ):
            yield kind
        elif typing.get_origin(kind) is Annotated:
            yield from self._protocols_in(typing.get_args(kind)[0])
        elif typing.get_origin(kind) in (Union, types.UnionType, tuple):
            for argument in typing.get_args(kind):
                yield from self._protocols_in(argument)


def _union(kinds: Iterable[Any]) -> Any:
    return functools.reduce(operator.or_, kinds)


def _rebuilt(value: Any, kind_of: Callable[[type], Any]) -> Any:
    """Rebuild a tree of dataclasses and tuples with other classes; unchanged parts are reused."""
    if isinstance(value, tuple) and type(value) is tuple:
        return tuple(_rebuilt(item, kind_of) for item in value)
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    kind = kind_of(type(value))
    if kind is type(value):
        return value
    names = [field.name for field in dataclasses.fields(value) if field.init]
    return kind(**{name: _rebuilt(getattr(value, name), kind_of) for name in names})
