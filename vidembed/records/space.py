"""The space of numbers: what made them, and so whether they may be compared.

Vectors that different networks made are of different spaces, whatever their widths. Features bear
the name that `import --space` gave them; where none was given, their width, dtype and source stand
for it. A space says nothing of which videos there are.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


class SpaceError(ValueError):
    """Values of two spaces that must not be appended to one another or compared."""


def named_spaces(words: Sequence[str], modalities: Sequence[str]) -> dict[str, str]:
    """Modality → name, from NAME for all or MODALITY=NAME for each; not every one needs a name.

    Raises ValueError for words of another form and modalities that are not there, or there twice.
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


def stand_in(modality: str, features: np.ndarray, source: Mapping[str, Any]) -> str:
    """The text that stands for the space of features [N, F] without a name.

    source: what the manifest of their table says of where they came from.
    """
    formats = source.get("options", {}).get("format", {}).get("modalities", ())
    keys = [known["key"] for known in formats if known["name"] == modality]
    origin = f"records: {keys[0]}" if keys else "arrays"
    return f"{features.shape[1]} {features.dtype} from {origin}"


def check_same_space(
    one: Mapping[str, str],
    other: Mapping[str, str],
    *,
    names: tuple[str, str] = ("one", "the other"),
) -> None:
    """Raises SpaceError where a modality that both have is of two spaces.

    one, other: modality → space. A modality that only one of them has is free: joining modalities
    by id compares nothing. names: what the two are called in the message.
    """
    differing = [
        f"{modality} of {names[0]} is {one[modality]!r}, of {names[1]} {other[modality]!r}"
        for modality in one
        if modality in other and one[modality] != other[modality]
    ]
    if differing:
        raise SpaceError(
            f"{'; '.join(differing)}: numbers of two spaces must not be compared or appended to "
            "one another. Take features that the same model made; where the same model did make "
            "both, say so with one name: python -m vidembed import --space NAME"
        )
