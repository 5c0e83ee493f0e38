"""Compare two JSON values, tell which paths may differ, and print differences as options."""

import json
import re
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple


class Difference(NamedTuple):
    """What is stored and what is given at one place; `ABSENT` where there is nothing."""

    stored: Any
    given: Any

    def __str__(self) -> str:
        return f"{_as_json(self.stored)} -> {_as_json(self.given)}"


ABSENT = object()


def differences(stored: Any, given: Any, path: str = "") -> dict[str, Difference]:
    """Dotted path → what is stored and given, wherever two JSON values differ.

    Lists of plain values are compared as a whole.
    """
    if isinstance(stored, list) and isinstance(given, list) and len(stored) == len(given):
        nested = any(isinstance(item, dict | list) for item in stored + given)
        stored, given = ((dict(enumerate(each)) if nested else each) for each in (stored, given))
    if isinstance(stored, dict) and isinstance(given, dict):
        changes: dict[str, Difference] = {}
        for key in stored | given:
            below = f"{path}.{key}" if path else str(key)
            changes |= differences(stored.get(key, ABSENT), given.get(key, ABSENT), below)
        return changes
    return {} if _equal(stored, given) else {path: Difference(stored, given)}


def as_typed(changes: Mapping[str, Difference], before: str = "--") -> list[str]:
    """A line for each difference of recipes, in the words of the command line.

    before: prefix of the names. If a part has another class, only the class is reported, because
    its fields differ.
    """
    places = [path.removesuffix(".class") for path in changes if path.endswith(".class")]
    lines = []
    for path, (stored, given) in changes.items():
        part = path.removesuffix(".class")
        if any(part != place and is_under(path, [place]) for place in places):
            continue
        name = f"{before}{path.replace('_', '-')}"
        if path.endswith(".class"):
            name = part.replace("_", "-")
            stored, given = part_word(stored), part_word(given)
        lines.append(f"{name}: stored {_as_words(stored)}, given {_as_words(given)}")
    return lines


def part_word(name: str) -> str:
    """semi-hard for vidembed.mining.miners:SemiHard, as the command line chooses it."""
    pattern = r"((?<=[a-z0-9])[A-Z]|(?!^)[A-Z](?=[a-z]))"
    return re.sub(pattern, r"-\1", name.rpartition(":")[2]).lower()


def is_under(path: str, prefixes: Collection[str]) -> bool:
    """Whether a dotted path is one of these or lies below one."""
    return any(path == prefix or path.startswith(f"{prefix}.") for prefix in prefixes)


def _equal(stored: Any, given: Any) -> bool:
    """As values of JSON, in which true is no number."""
    if isinstance(stored, list) and isinstance(given, list):
        return len(stored) == len(given) and all(map(_equal, stored, given))
    return bool(stored == given) and isinstance(stored, bool) == isinstance(given, bool)


def _as_json(value: Any) -> str:
    return "(absent)" if value is ABSENT else json.dumps(value)


def _as_words(value: Any) -> str:
    if isinstance(value, str):
        return value or "''"
    if isinstance(value, list) and not any(isinstance(item, dict | list) for item in value):
        return " ".join(map(str, value)) or "none"
    if value is None:
        return "None"
    return _as_json(value)
