"""The space of features: which network made them, and so whether they may be compared.

Vectors from different networks are in different spaces, whatever their widths. A space has the name
given by `import --space`; without a name, width, dtype and source of the features identify it. A
space does not depend on the set of videos.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

_STAND_IN = re.compile(r"(?P<width>\d+) (?P<dtype>\w+) from (?P<origin>.*)", re.DOTALL)


class SpaceError(ValueError):
    """Features of two spaces, which must not be joined or compared."""


def named_spaces(words: Sequence[str], modalities: Sequence[str]) -> dict[str, str]:
    """Modality → name, from one NAME for all or MODALITY=NAME for some.

    Raises ValueError for malformed words and for unknown or repeated modalities.
    """
    if len(words) == 1 and words[0] and "=" not in words[0]:
        return dict.fromkeys(modalities, words[0])
    names: dict[str, str] = {}
    for word in words:
        modality, _, name = word.partition("=")
        if modality not in modalities or modality in names or not name:
            raise ValueError(
                f"space {word!r} is not understood: give one NAME for all modalities, or "
                f"MODALITY=NAME once for each of {', '.join(modalities)}"
            )
        names[modality] = name
    return names


class Features(Protocol):
    """Features [N, F], in memory or not."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype: ...


def stand_in(modality: str, features: Features, source: Mapping[str, Any]) -> str:
    """The text that identifies the space of features [N, F] without a name.

    source: the entry `source` in the manifest of their table.
    """
    formats = source.get("options", {}).get("format", {}).get("modalities", ())
    keys = [known["key"] for known in formats if known["name"] == modality]
    origin = f"records: {keys[0]}" if keys else "arrays"
    return f"{features.shape[1]} {features.dtype} from {origin}"


def check_same_space(
    first: Mapping[str, str],
    second: Mapping[str, str],
    *,
    names: tuple[str, str] = ("one", "the other"),
) -> None:
    """Raise SpaceError if a modality that both sides have is of two spaces.

    first, second: modality → space. A modality on one side only is accepted, because joining
    modalities by id compares nothing. names: the names of the two sides in the message.
    """
    pairs = {m: (first[m], second[m]) for m in first if m in second and first[m] != second[m]}
    if not pairs:
        return
    differing = [
        f"{modality} of {names[0]} is {one!r}, of {names[1]} {other!r}"
        for modality, (one, other) in pairs.items()
    ]
    dtypes = {_dtype_apart(one, other) for one, other in pairs.values()}
    if len(dtypes) == 1 and (dtype := dtypes.pop()):
        raise SpaceError(
            f"{'; '.join(differing)}: only the dtype differs. Read or import {names[1]} with "
            f"--dtype {dtype}"
        )
    raise SpaceError(
        f"{'; '.join(differing)}: numbers of two spaces must not be compared or appended to one "
        "another. Use features from the same model; if they are from the same model, give both "
        "one name: python -m vidembed import --space NAME"
    )


def _dtype_apart(one: str, other: str) -> str:
    """The first space's dtype if two spaces without names differ in nothing else, else ""."""
    parts, others = _STAND_IN.fullmatch(one), _STAND_IN.fullmatch(other)
    if parts is None or others is None:
        return ""
    same = all(parts[name] == others[name] for name in ("width", "origin"))
    return parts["dtype"] if same else ""
