"""Compare two JSON values, and tell which paths may differ."""

import json
from collections.abc import Collection
from typing import Any


def differences(stored: Any, given: Any, path: str = "") -> dict[str, str]:
    """Dotted path -> "stored -> given" for each difference between two JSON values."""
    if isinstance(stored, list) and isinstance(given, list) and len(stored) == len(given):
        stored, given = dict(enumerate(stored)), dict(enumerate(given))
    if isinstance(stored, dict) and isinstance(given, dict):
        changes: dict[str, str] = {}
        for key in stored | given:
            below = f"{path}.{key}" if path else str(key)
            changes |= differences(stored.get(key, _ABSENT), given.get(key, _ABSENT), below)
        return changes
    if stored == given and isinstance(stored, bool) == isinstance(given, bool):
        return {}
    return {path: f"{_shown(stored)} -> {_shown(given)}"}


_ABSENT = object()


def _shown(value: Any) -> str:
    return "(absent)" if value is _ABSENT else json.dumps(value)


def is_under(path: str, prefixes: Collection[str]) -> bool:
    """Whether a dotted path is one of these or lies below one."""
    return any(path == prefix or path.startswith(f"{prefix}.") for prefix in prefixes)
