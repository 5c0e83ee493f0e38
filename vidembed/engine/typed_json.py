"""Trees of frozen dataclasses as JSON and back, and what their annotations say of the fields.

Where a field's type is a union of dataclasses, the value carries its class name. Nothing is
guessed: an unknown field, a class outside the union or a value of another type is refused, with
the place and the nearest name.
"""

import dataclasses
import difflib
import types
import typing
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from vidembed import PATH, TUNABLE, FieldRole


class RecipeError(ValueError):
    """A configuration that does not fit its type; the message names the place."""


def to_json(value: Any) -> Any:
    """A dataclass tree (numbers, strings, tuples, None, dataclasses) as plain JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"class": type(value).__name__, **fields}
    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    return value


def from_json(kind: Any, data: Any, place: str = "recipe") -> Any:
    """The value of type `kind` that `to_json` wrote as `data`; raises RecipeError."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return from_json(arguments[0], data, place)
    if origin in (typing.Union, types.UnionType):
        return _from_union(arguments, data, place)
    if dataclasses.is_dataclass(kind):
        return _from_object(kind, data, place)
    if origin is typing.Literal:
        if data in arguments:
            return data
        raise RecipeError(f"{place}: {data!r} is none of {list(arguments)}{_near(data, arguments)}")
    if origin is tuple:
        if not isinstance(data, list):
            raise RecipeError(f"{place}: expected a list, found {data!r}")
        return tuple(from_json(arguments[0], item, f"{place}[{i}]") for i, item in enumerate(data))
    # From here on plain types; `type`, not `isinstance`: True is no number.
    if kind is float and type(data) is int:
        return float(data)
    if kind is None:
        kind = types.NoneType
    if type(data) is not kind:
        raise RecipeError(f"{place}: expected {_name(kind)}, found {data!r}")
    return data


def _from_union(choices: tuple[Any, ...], data: Any, place: str) -> Any:
    if data is None and types.NoneType in choices:
        return None
    classes = {_name(c): c for c in choices if dataclasses.is_dataclass(c)}
    if classes and isinstance(data, dict):
        name = data.get("class")
        if name not in classes:
            raise RecipeError(
                f"{place}: class {name!r} is none of {sorted(classes)}{_near(name, classes)}"
            )
        return from_json(classes[name], data, place)
    plain = [c for c in choices if c is not types.NoneType and c not in classes.values()]
    for choice in plain:
        try:
            return from_json(choice, data, place)
        except RecipeError:
            continue
    raise RecipeError(f"{place}: {data!r} fits none of {list(choices)}")


def _from_object(kind: Any, data: Any, place: str) -> Any:
    if not isinstance(data, dict):
        raise RecipeError(f"{place}: expected the fields of {kind.__name__}, found {data!r}")
    if data.get("class", kind.__name__) != kind.__name__:
        raise RecipeError(f"{place}: expected class {kind.__name__}, found {data['class']!r}")
    hints = typing.get_type_hints(kind, include_extras=True)
    names = [field.name for field in dataclasses.fields(kind)]
    values = {}
    for name, value in data.items():
        if name == "class":
            continue
        if name not in names:
            raise RecipeError(f"{place}: {kind.__name__} has no field {name!r}{_near(name, names)}")
        values[name] = from_json(hints[name], value, f"{place}.{name}")
    try:
        return kind(**values)
    except RecipeError:
        raise
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{place}: {error}") from error


def _name(kind: Any) -> str:
    return str(getattr(kind, "__name__", kind))


def _near(name: Any, names: Any) -> str:
    close = difflib.get_close_matches(str(name), [str(n) for n in names], 1, 0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def differing_on_resume(tree: Any) -> frozenset[str]:
    """Dotted paths of the fields that may change when a run goes on."""
    return fields_with(tree, PATH, TUNABLE)


def fields_with(tree: Any, *roles: FieldRole) -> frozenset[str]:
    """Dotted paths of the fields with one of these roles in a tree of dataclasses and tuples.

    The walk follows the values: each part is asked for its own fields, whatever classes its place
    allows. A field with a role stands for all below it.
    """
    return frozenset(_walk(tree, roles, ""))


def _walk(tree: Any, roles: tuple[FieldRole, ...], path: str) -> Iterator[str]:
    if isinstance(tree, tuple):
        for index, item in enumerate(tree):
            yield from _walk(item, roles, f"{path}{index}.")
    elif dataclasses.is_dataclass(tree):
        hints = typing.get_type_hints(type(tree), include_extras=True)
        for field in dataclasses.fields(tree):
            # Of anything but Annotated: no roles.
            if set(roles) & set(getattr(hints[field.name], "__metadata__", ())):
                yield f"{path}{field.name}"
            else:
                yield from _walk(getattr(tree, field.name), roles, f"{path}{field.name}.")


def without(data: Mapping[str, Any], paths: Collection[str]) -> dict[str, Any]:
    """The JSON form of a tree, without what lies at these dotted paths (from `fields_with`)."""
    below: dict[str, list[str]] = {}
    for path in paths:
        name, _, rest = path.partition(".")
        below.setdefault(name, []).append(rest)
    return {
        name: without(value, below[name]) if name in below else value
        for name, value in data.items()
        if "" not in below.get(name, [])
    }
