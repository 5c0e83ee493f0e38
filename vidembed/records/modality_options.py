"""How the command line says what records hold: NAME:KEY:WIDTH for each modality."""

from collections.abc import Sequence
from typing import Literal

from vidembed.records.formats import Modality, VideoLevel

YOUTUBE8M = tuple(f"{m.name}:{m.key}:{m.width}" for m in VideoLevel().modalities)


def video_level(
    modalities: Sequence[str],
    labels_key: str = "labels",
    missing: Literal["refuse", "mask"] = "refuse",
) -> VideoLevel:
    """The format for `modalities` as typed; labels_key "" for records without labels.

    Raises ValueError for text of another form.
    """
    parsed = []
    for text in modalities:
        name, _, rest = text.partition(":")
        key, _, width = rest.rpartition(":")
        if not (name and key and width.isdecimal()):
            raise ValueError(
                f"modality {text!r} is not of the form NAME:KEY:WIDTH, as visual:mean_rgb:1024"
            )
        parsed.append(Modality(name=name, key=key, width=int(width)))
    return VideoLevel(modalities=tuple(parsed), labels_key=labels_key or None, missing=missing)
