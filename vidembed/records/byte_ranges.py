"""The ranges of bytes of a table's modalities: in its manifest, and as words of a command."""

from collections.abc import Mapping, Sequence
from typing import Any

from vidembed.records.bytecode import YOUTUBE_8M, Range


def with_ranges(
    entries: Mapping[str, Mapping[str, Any]], ranges: Mapping[str, Range]
) -> dict[str, dict[str, Any]]:
    """The entries of arrays (name -> {dtype, shape, xxh3}), with the ranges of their bytes."""
    own = {f"features/{name}": [r.low, r.high] for name, r in ranges.items() if r != YOUTUBE_8M}
    return {
        name: {**entry, **({"range": own[name]} if name in own else {})}
        for name, entry in entries.items()
    }


def ranges_of(manifest: Mapping[str, Any]) -> dict[str, Range]:
    """Modality -> the range of its bytes, for those that are not YouTube-8M's."""
    return {
        name.removeprefix("features/"): Range(*entry["range"])
        for name, entry in manifest.get("arrays", {}).items()
        if "range" in entry
    }


def range_words(ranges: Mapping[str, Range]) -> list[str]:
    """The ranges as `named_ranges` reads them, exactly."""
    return [f"{name}={r.low!r}:{r.high!r}" for name, r in sorted(ranges.items())]


def named_ranges(words: Sequence[str], modalities: Sequence[str]) -> dict[str, Range]:
    """Modality -> range, from MODALITY=LOW:HIGH for some, or one LOW:HIGH for all.

    Raises ValueError for malformed words and for unknown or repeated modalities.
    """
    if len(words) == 1 and "=" not in words[0]:
        words = [f"{name}={words[0]}" for name in modalities]
    ranges: dict[str, Range] = {}
    for word in words:
        modality, _, span = word.partition("=")
        low, _, high = span.partition(":")
        try:
            if modality not in modalities or modality in ranges:
                raise ValueError(f"{modality!r} is unknown or repeated")
            ranges[modality] = Range(float(low), float(high))
        except ValueError as error:
            raise ValueError(
                f"byte range {word!r} is not understood ({error}): give auto, LOW:HIGH for all "
                f"modalities, or MODALITY=LOW:HIGH once for each of {', '.join(modalities)}"
            ) from error
    return ranges
