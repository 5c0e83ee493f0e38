"""Read the type annotations of command-line fields."""

import dataclasses
import types
import typing
from typing import Annotated, Any, Literal, Union

from vidembed.workdir.differences import part_word


def without_none(kind: Any) -> Any:
    """The annotation without None, if only one other member is left."""
    if typing.get_origin(kind) not in (Union, types.UnionType):
        return kind
    members = [each for each in typing.get_args(kind) if each is not types.NoneType]
    return members[0] if len(members) == 1 else kind


def choices_of(kind: Any) -> tuple[Any, ...]:
    """The values that a Literal allows; () for any other annotation."""
    return typing.get_args(kind) if typing.get_origin(kind) is Literal else ()


def plain(kind: Any) -> tuple[Any, tuple[Any, ...]]:
    """An annotation without `Annotated`, and its notes, at any depth."""
    notes: tuple[Any, ...] = ()
    while typing.get_origin(kind) is Annotated:
        kind, *more = typing.get_args(kind)
        notes += tuple(more)
    return kind, notes


def parts_of(kind: Any) -> dict[str, type]:
    """Word → class of the dataclasses in a union; {} if there is nothing to choose."""
    if typing.get_origin(kind) not in (Union, types.UnionType):
        return {}
    classes = typing.get_args(kind)
    if not any(map(dataclasses.is_dataclass, classes)):
        return {}
    return {_word(part): part for part in classes}


def holds_dataclasses(kind: Any) -> bool:
    """Whether the items of a tuple are dataclasses, or unions of them."""
    below = plain(typing.get_args(kind)[0])[0]
    return dataclasses.is_dataclass(below) or bool(parts_of(below))


def type_name(kind: Any) -> str:
    """The name of a value's type in help: INT, STR, {edges,videos}."""
    kind = without_none(kind)
    if choices := choices_of(kind):
        return "{" + ",".join(map(str, choices)) + "}"
    return str(getattr(kind, "__name__", "VALUE")).upper()


def _word(part: type) -> str:
    """The word that tyro uses: semi-hard for SemiHard."""
    if part is types.NoneType:
        return "none"
    return part_word(part.__name__)
