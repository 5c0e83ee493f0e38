"""Convert trees of frozen dataclasses to JSON and back.

Each object stores its class as "module:Class". If a field is typed by dataclasses or a union of
them, the class must be one of these. If it is typed by a protocol, any class of vidembed with the
members of the protocol is allowed, or a class that the caller passes in. No other module is
imported. An unknown field, another class or a value of another type is refused, with its place and
the nearest valid name.
"""

import dataclasses
import difflib
import importlib
import types
import typing
from collections.abc import Collection, Mapping
from typing import Any

OURS = "vidembed."
"""Prefix of the modules from which stored classes are imported."""
Classes = Collection[type]


class RecipeError(ValueError):
    """A configuration that does not fit its type; the message names the place."""


def to_json(value: Any) -> Any:
    """A dataclass tree (numbers, strings, tuples, mappings, None, dataclasses) as JSON values."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: to_json(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"class": class_name(type(value)), **fields}
    if isinstance(value, Mapping):
        return {name: to_json(item) for name, item in value.items()}
    if isinstance(value, tuple):
        return [to_json(item) for item in value]
    return value


def changed_fields(value: Any) -> Any:
    """As `to_json`, without the fields that have the default of their class: a field that a later
    version adds does not change what it returns."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: (getattr(value, f.name), f.default) for f in dataclasses.fields(value)}
        changed = {n: changed_fields(v) for n, (v, default) in fields.items() if v != default}
        return {"class": class_name(type(value)), **changed}
    if isinstance(value, tuple):
        return [changed_fields(item) for item in value]
    return to_json(value)


def class_name(kind: type) -> str:
    """The stored name of a class: "module:Class"."""
    return f"{kind.__module__}:{kind.__qualname__}"


def from_json(kind: Any, data: Any, place: str = "recipe", classes: Classes = ()) -> Any:
    """The value of type `kind` that `to_json` wrote as `data`; raises RecipeError.

    classes: allowed dataclasses from outside vidembed.
    """
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        return from_json(arguments[0], data, place, classes)
    if origin in (typing.Union, types.UnionType):
        return _from_union(arguments, data, place, classes)
    if dataclasses.is_dataclass(kind):
        return _from_object(kind, data, place, classes)
    if kind is Any or _is_protocol(kind):
        return _from_any(kind, data, place, classes)
    if origin is typing.Literal:
        if data in arguments:
            return data
        raise RecipeError(
            f"{place}: {data!r} is not one of {list(arguments)}{_near(data, arguments)}"
        )
    if origin is tuple:
        if not isinstance(data, list):
            raise RecipeError(f"{place}: expected a list, found {data!r}")
        return tuple(
            from_json(arguments[0], item, f"{place}[{i}]", classes) for i, item in enumerate(data)
        )
    if origin is not None and issubclass(origin, Mapping):
        if not isinstance(data, dict):
            raise RecipeError(f"{place}: expected a mapping, found {data!r}")
        return {n: from_json(arguments[1], v, f"{place}.{n}", classes) for n, v in data.items()}
    # Only plain types remain; `type`, not `isinstance`, because True is not a number.
    if kind is float and type(data) is int:
        return float(data)
    if type(data) is not kind:
        raise RecipeError(f"{place}: expected {_name(kind)}, found {data!r}")
    return data


def _from_union(choices: tuple[Any, ...], data: Any, place: str, classes: Classes) -> Any:
    if data is None and types.NoneType in choices:
        return None
    known = {
        class_name(c): c for c in choices if isinstance(c, type) and dataclasses.is_dataclass(c)
    }
    remaining = [c for c in choices if c is not types.NoneType and c not in known.values()]
    if known and isinstance(data, dict):
        name = data.get("class")
        if name in known:
            return _from_object(known[name], data, place, classes)
        if not any(map(_is_protocol, remaining)):
            raise RecipeError(
                f"{place}: class {name!r} is not one of {sorted(known)}{_near(name, known)}"
            )
    if len(remaining) == 1:
        return from_json(remaining[0], data, place, classes)
    for choice in remaining:
        try:
            return from_json(choice, data, place, classes)
        except RecipeError:
            continue
    raise RecipeError(f"{place}: {data!r} fits none of {list(choices)}")


def _from_any(kind: Any, data: Any, place: str, classes: Classes) -> Any:
    """A value of any allowed class that, if `kind` is a protocol, has all its members."""
    if isinstance(data, dict) and "class" in data:
        return _from_object(_built_class(kind, data["class"], place, classes), data, place, classes)
    if kind is not Any:
        raise RecipeError(
            f"{place}: expected the class and fields of a {_name(kind)}, found {data!r}"
        )
    if isinstance(data, list):
        return tuple(_from_any(kind, item, f"{place}[{i}]", classes) for i, item in enumerate(data))
    if isinstance(data, dict):
        return {n: _from_any(kind, item, f"{place}.{n}", classes) for n, item in data.items()}
    return data


def _built_class(protocol: Any, name: Any, place: str, classes: Classes) -> type:
    """The dataclass with a stored name: one of `classes`, or one of vidembed's."""
    known = {class_name(c): c for c in classes}
    kind = known.get(name) or _own_class(str(name), place, known)
    if not dataclasses.is_dataclass(kind):
        raise RecipeError(f"{place}: {name} is not a dataclass; only dataclasses can be stored")
    fields = {field.name for field in dataclasses.fields(kind)}
    missing = [n for n in _members(protocol) if n not in fields and not hasattr(kind, n)]
    if missing:
        raise RecipeError(
            f"{place}: {name} is not a {_name(protocol)}: it has no {', '.join(missing)}"
        )
    return kind


def _own_class(name: str, place: str, known: Mapping[str, type]) -> type:
    module, _, path = name.partition(":")
    if not module.startswith(OURS):
        passed = f"; passed in: {', '.join(known)}" if known else ""
        raise RecipeError(
            f"{place}: {name!r} is not a class of vidembed, and no other module is imported: use "
            f"the script that trained with it, or pass the class in, as classes=(TheClass,){passed}"
        )
    try:
        target: Any = importlib.import_module(module)
    except ImportError as error:
        raise RecipeError(f"{place}: {name}: {error}") from error
    dataclass_names = [n for n, c in vars(target).items() if dataclasses.is_dataclass(c)]
    for part in path.split("."):
        target = getattr(target, part, None)
    # Refuse classes that the module only imports: such names could lead anywhere.
    if not isinstance(target, type) or class_name(target) != name:
        raise RecipeError(f"{place}: {module} has no class {path!r}{_near(path, dataclass_names)}")
    return target


def _is_protocol(kind: Any) -> bool:
    return isinstance(kind, type) and bool(getattr(kind, "_is_protocol", False))


def _members(protocol: Any) -> list[str]:
    """The members of a protocol, inherited ones included; [] for Any."""
    bodies = [vars(base) for base in getattr(protocol, "__mro__", ()) if _is_protocol(base)]
    names = {name for body in bodies for name in (*body, *body.get("__annotations__", {}))}
    return sorted(name for name in names if name == "__call__" or not name.startswith("_"))


def _from_object(kind: Any, data: Any, place: str, classes: Classes) -> Any:
    if not isinstance(data, dict):
        raise RecipeError(f"{place}: expected the fields of {kind.__name__}, found {data!r}")
    if data.get("class", class_name(kind)) != class_name(kind):
        raise RecipeError(f"{place}: expected class {class_name(kind)}, found {data['class']!r}")
    hints = typing.get_type_hints(kind, include_extras=True)
    names = [field.name for field in dataclasses.fields(kind)]
    values = {}
    for name, value in data.items():
        if name == "class":
            continue
        if name not in names:
            raise RecipeError(f"{place}: {kind.__name__} has no field {name!r}{_near(name, names)}")
        values[name] = from_json(hints[name], value, f"{place}.{name}", classes)
    try:
        return kind(**values)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{place}: {error}") from error


def _name(kind: Any) -> str:
    return str(getattr(kind, "__name__", kind))


def _near(name: Any, names: Any) -> str:
    close = difflib.get_close_matches(str(name), [str(n) for n in names], 1, 0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def with_defaults(data: Any, like: Any) -> Any:
    """Fill fields added since a tree was stored with their defaults, which keep the old behaviour.
    Takes and returns the JSON form; parts of other classes than in `like` are unchanged."""
    if isinstance(like, tuple) and isinstance(data, list) and len(like) == len(data):
        return [with_defaults(item, part) for item, part in zip(data, like)]
    of_class = data.get("class") if isinstance(data, dict) else None
    if not dataclasses.is_dataclass(like) or of_class != class_name(type(like)):
        return data
    completed = dict(data)
    for field in dataclasses.fields(like):
        if field.name in data:
            completed[field.name] = with_defaults(data[field.name], getattr(like, field.name))
        elif field.default is not dataclasses.MISSING:
            completed[field.name] = to_json(field.default)
    return completed
