"""Where two JSON values differ, and which of these places may."""

import json
from collections.abc import Collection
from typing import Any


def differences(stored: Any, wanted: Any, path: str = "") -> dict[str, str]:
    """Dotted path -> "stored -> wanted" wherever two JSON values differ."""
    if isinstance(stored, list) and isinstance(wanted, list) and len(stored) == len(wanted):
        stored, wanted = dict(enumerate(stored)), dict(enumerate(wanted))
    if isinstance(stored, dict) and isinstance(wanted, dict):
        found: dict[str, str] = {}
        for key in stored | wanted:
            below = f"{path}.{key}" if path else str(key)
            found |= differences(stored.get(key, _ABSENT), wanted.get(key, _ABSENT), below)
        return found
    if stored == wanted and isinstance(stored, bool) == isinstance(wanted, bool):
        return {}
    return {path: f"{_shown(stored)} -> {_shown(wanted)}"}


_ABSENT = object()


def _shown(value: Any) -> str:
    return "(absent)" if value is _ABSENT else json.dumps(value)


def is_under(path: str, prefixes: Collection[str]) -> bool:
    """Whether a dotted path is one of these or lies below one."""
    return any(path == prefix or path.startswith(f"{prefix}.") for prefix in prefixes)
