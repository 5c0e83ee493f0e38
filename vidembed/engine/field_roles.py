"""What may differ between two looks at one run: read off the roles of a recipe's fields."""

import dataclasses
import typing
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from vidembed import MEASURING, PATH, TUNABLE, FieldRole


def differing_on_hosts(tree: Any) -> frozenset[str]:
    """Dotted paths of the fields that may differ between the hosts of one run."""
    return fields_with(tree, PATH)


def differing_on_resume(tree: Any) -> frozenset[str]:
    """Dotted paths of the fields that may change when a run goes on."""
    return fields_with(tree, PATH, TUNABLE)


def differing_when_measured(tree: Any) -> frozenset[str]:
    """Dotted paths of the fields that an evaluation may set otherwise than the training."""
    return fields_with(tree, PATH, MEASURING)


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
