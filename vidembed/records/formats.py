"""The keys and widths of a data set's features, and checks shared by video and frame level."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from vidembed.records.example import NOTHING, Feature, MessageError

Missing = Literal["refuse", "mask"]
_NAME = re.compile(r"[\w-][\w.-]*")


@dataclass(frozen=True, kw_only=True)
class Modality:
    """A kind of content feature: its name here, its key in the records, and its width F."""

    name: str
    key: str
    width: int

    def __post_init__(self) -> None:
        if not self.name or not self.key or self.width < 1:
            raise ValueError(f"{self}: name and key must not be empty, and width at least 1")
        if not _NAME.fullmatch(self.name):
            raise ValueError(
                f"modality name {self.name!r}: it names a folder of the table, so it may only "
                "contain letters, digits, _, - and ., and must not begin with ."
            )


def name_of(key: str) -> str:
    """A modality's name derived from its key; "" if the key has no usable character."""
    known = {modality.key: modality.name for modality in YOUTUBE_8M.modalities}
    return known.get(key) or re.sub(r"[^\w-]+", "_", key).strip("_")


@dataclass(frozen=True, kw_only=True)
class _Format:
    """What records of both levels have; the defaults are YouTube-8M's.

    id_keys: the first of these keys in a record holds its id (the 2017 release uses video_id).
    labels_key: None if the records have no labels.
    missing: refuse a video without one of the modalities, or mask it: zeros, not `present`.
    """

    modalities: tuple[Modality, ...]
    id_keys: tuple[str, ...] = ("id", "video_id")
    labels_key: str | None = "labels"
    missing: Missing = "refuse"

    @property
    def widths(self) -> dict[str, int]:
        """Modality name -> F."""
        return {modality.name: modality.width for modality in self.modalities}

    def __post_init__(self) -> None:
        names = [modality.name for modality in self.modalities]
        keys = [*self.id_keys, *([] if self.labels_key is None else [self.labels_key])]
        keys += [modality.key for modality in self.modalities]
        if not names or not self.id_keys:
            raise ValueError("a format needs at least one modality and one id key")
        if len({*names}) < len(names) or len({*keys}) < len(keys):
            raise ValueError(f"names and keys must be unique: names {names}, keys {keys}")
        if self.missing not in ("refuse", "mask"):
            raise ValueError(f"missing is {self.missing!r}; it must be 'refuse' or 'mask'")


@dataclass(frozen=True, kw_only=True)
class VideoLevel(_Format):
    """Records with one vector of floats per modality and video."""

    modalities: tuple[Modality, ...] = (
        Modality(name="visual", key="mean_rgb", width=1024),
        Modality(name="audio", key="mean_audio", width=128),
    )


@dataclass(frozen=True, kw_only=True)
class FrameLevel(_Format):
    """Records with one vector of bytes per modality and frame.

    max_frames: later frames are dropped (one frame per second, so 300 frames are five minutes).
    """

    modalities: tuple[Modality, ...] = (
        Modality(name="visual", key="rgb", width=1024),
        Modality(name="audio", key="audio", width=128),
    )
    max_frames: int = 300

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.max_frames < 1:
            raise ValueError(f"max_frames is {self.max_frames}; it must be at least 1")


YOUTUBE_8M = VideoLevel()
YOUTUBE_8M_FRAMES = FrameLevel()
DEFAULT_MODALITIES = tuple(f"{m.name}:{m.key}:{m.width}" for m in YOUTUBE_8M.modalities)


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Options for reading video-level records, as on the command line."""

    modalities: tuple[str, ...] = ()
    """modalities to read, each NAME:KEY:WIDTH; KEY is the key in an Example, a Parquet column (of
    lists, or several columns named KEY plus a number), or the name of a file KEY.npy, a folder or
    an array of an .npz. YouTube-8M's (visual:mean_rgb:1024 audio:mean_audio:128), or all folders or
    arrays, if not given."""
    id_key: str = ""
    """the key, column or array of the ids; id or video_id (in an .npz also ids) if not given."""
    ids: str | None = None
    """with .npy files: the ids of their rows, a text file with one id per line or a .npy file."""
    labels_key: str | None = None
    """the key of the labels, empty if records have none; labels if not given."""
    missing: Missing | None = None
    """refuse records without one of the modalities, or mask the modality; refuse if not given, but
    mask in folders of one file per video."""
    counts: str | None = None
    """JSON file with the expected number of records per shard; counts.json beside the shards if
    not given."""
    workers: int = 2
    """number of shards to read at a time."""

    @property
    def chosen(self) -> bool:
        """Whether modalities are given."""
        return bool(self.modalities)

    def format(self) -> VideoLevel:
        """These options as a format. Raises ValueError for malformed modalities."""
        parsed = []
        for text in self.modalities or DEFAULT_MODALITIES:
            name, _, rest = text.partition(":")
            key, _, width = rest.rpartition(":")
            if not (name and key and width.isdecimal()):
                raise ValueError(
                    f"modality {text!r} is not of the form NAME:KEY:WIDTH, such as "
                    "visual:mean_rgb:1024"
                )
            parsed.append(Modality(name=name, key=key, width=int(width)))
        return VideoLevel(
            modalities=tuple(parsed),
            id_keys=(self.id_key,) if self.id_key else VideoLevel.id_keys,
            labels_key=VideoLevel.labels_key
            if self.labels_key is None
            else self.labels_key or None,
            missing=self.missing or VideoLevel.missing,
        )


def read_id(features: Mapping[str, Feature], id_keys: tuple[str, ...]) -> bytes:
    """The video's id from the first key present. Raises MessageError."""
    for key in id_keys:
        if key in features:
            break
    else:
        raise MessageError(
            f"no id: expected the key {' or '.join(id_keys)}, {keys_found(features)}"
        )
    kind, values = features[key]
    if kind == "int64_list" and len(values) == 1:
        return str(int(values[0])).encode()
    if kind != "bytes_list" or len(values) != 1:
        raise MessageError(
            f"id {key!r}: expected bytes_list or int64_list of 1, found {features[key]}"
        )
    check_id(values[0])
    return bytes(values[0])


def check_id(video_id: bytes) -> None:
    """Raise MessageError for an id that a fixed-width array of bytes cannot represent."""
    if not video_id or b"\0" in video_id:
        raise MessageError(f"id {video_id!r}: expected at least one byte, and none of them zero")


def read_labels(features: Mapping[str, Feature], key: str | None) -> np.ndarray:
    """The video's labels i32[L]; none for an empty feature. Raises MessageError."""
    if key is None:
        return np.empty(0, np.int32)
    if key not in features:
        raise MessageError(
            f"no labels: expected the key {key}, {keys_found(features)}; if the records have no "
            "labels, set labels_key to None (--labels-key '')"
        )
    kind, values = features[key]
    if kind not in ("int64_list", ""):
        raise MessageError(f"labels {key!r}: expected int64_list, found {features[key]}")
    labels = np.asarray(values, np.int64)
    if labels.size and (labels.min() < 0 or labels.max() > np.iinfo(np.int32).max):
        raise MessageError(f"labels {key!r}: expected classes from 0 to 2^31-1, found {labels}")
    return labels.astype(np.int32)


def read_vector(features: Mapping[str, Feature], modality: Modality) -> np.ndarray | None:
    """The modality's vector f32[F], or None if the record has none. Raises MessageError."""
    feature = features.get(modality.key, NOTHING)
    if feature == NOTHING or not len(feature.values):
        return None
    if feature.kind != "float_list" or len(feature.values) != modality.width:
        raise MessageError(
            f"modality {modality.name!r} ({modality.key}): expected float_list of"
            f" {modality.width}, found {feature}"
        )
    return np.asarray(feature.values)


def refuse_missing(modality: Modality, features: Mapping[str, object]) -> MessageError:
    """The error for a record without a modality."""
    return MessageError(
        f"modality {modality.name!r} is missing: expected values for the key {modality.key},"
        f" {keys_found(features)}; missing='mask' (--missing mask) accepts such videos"
    )


def keys_found(features: Mapping[str, object]) -> str:
    """The keys of a record, for an error message."""
    return "found " + (", ".join(sorted(features)) or "no keys")
