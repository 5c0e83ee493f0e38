"""Find the fields of a tree of parts by their roles, and the classes that the tree uses."""

import dataclasses
import os
import typing
from collections.abc import Collection, Iterator
from typing import Any

from vidembed import PATH, FieldRole
from vidembed.engine.typed_json import OURS
from vidembed.files import is_remote


def fields_with(tree: Any, *roles: FieldRole) -> frozenset[str]:
    """Dotted paths of the fields with one of these roles in a tree of dataclasses and tuples.

    The walk follows the values and uses the fields of each part's own class. A field with a role
    covers everything below it.
    """
    return frozenset(_walk(tree, roles, ""))


def _walk(tree: Any, roles: tuple[FieldRole, ...], path: str) -> Iterator[str]:
    if isinstance(tree, tuple):
        for index, item in enumerate(tree):
            yield from _walk(item, roles, f"{path}{index}.")
    elif dataclasses.is_dataclass(tree):
        hints = typing.get_type_hints(type(tree), include_extras=True)
        for field in dataclasses.fields(tree):
            # Only Annotated types carry roles.
            if set(roles) & set(getattr(hints[field.name], "__metadata__", ())):
                yield f"{path}{field.name}"
            else:
                yield from _walk(getattr(tree, field.name), roles, f"{path}{field.name}.")


def located(tree: Any) -> Any:
    """The tree with every local path (fields with the role PATH) made absolute.

    A run may be evaluated or resumed from another folder than the one it was started in.
    """
    if type(tree) is tuple:
        return tuple(map(located, tree))
    if not dataclasses.is_dataclass(tree) or isinstance(tree, type):
        return tree
    hints = typing.get_type_hints(type(tree), include_extras=True)
    changed = {}
    for field in dataclasses.fields(tree):
        value = getattr(tree, field.name)
        is_path = PATH in getattr(hints[field.name], "__metadata__", ())
        place = _absolute(value) if is_path else located(value)
        if place is not value and place != value:
            changed[field.name] = place
    return dataclasses.replace(tree, **changed) if changed else tree


def _absolute(path: Any) -> Any:
    if isinstance(path, tuple):
        return tuple(map(_absolute, path))
    if not isinstance(path, str) or not path or is_remote(path):
        return path
    return os.path.abspath(os.path.expanduser(path))


def without(data: Any, paths: Collection[str]) -> Any:
    """The JSON form of a tree, without the fields at these dotted paths (from `fields_with`)."""
    if isinstance(data, list):
        return [*without({str(i): item for i, item in enumerate(data)}, paths).values()]
    below: dict[str, list[str]] = {}
    for path in paths:
        name, _, rest = path.partition(".")
        below.setdefault(name, []).append(rest)
    return {
        name: without(value, below[name]) if name in below else value
        for name, value in data.items()
        if "" not in below.get(name, [])
    }


def classes_of(tree: Any) -> frozenset[type]:
    """The classes from outside vidembed in a tree of dataclasses and tuples, for `from_json`."""
    if isinstance(tree, tuple):
        return frozenset().union(*map(classes_of, tree))
    if not dataclasses.is_dataclass(tree):
        return frozenset()
    below = (classes_of(getattr(tree, field.name)) for field in dataclasses.fields(tree))
    own = frozenset() if type(tree).__module__.startswith(OURS) else frozenset({type(tree)})
    return own.union(*below)
