"""Which modalities a table of extracted videos has, and from which features they are pooled."""

import contextlib
import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

from vidembed.media.backbone import Backbone
from vidembed.media.feature_store import FeatureStore
from vidembed.media.inputs import ClipInput, FrameInput
from vidembed.media.pooling import Pooling
from vidembed.media.video_table import Column, rows_of
from vidembed.media.whitening import VIDEOS_PER_COMPONENT, Whitening, fitted

MOTION_RATE = 8.0
"""Frames per second of motion: at one per second, consecutive frames are other scenes."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class TableOptions:
    """What decides the rows of a table beside the backbones; stored in its manifest."""

    pool: tuple[Pooling, ...] | None = None
    """mean (default); statistics (mean, deviation and top five); first (the first frame, as a
    thumbnail); motion (mean difference between consecutive frames, the modality `activity`). The
    first of them becomes visual and audio, further ones of frames visual-POOLING."""
    rate: float | None = None
    """Frames per second; default: 8 with motion, else as the backbone's description says."""
    pca: int | None = None
    """Replace the features of each modality by this many whitened principal components, fitted on
    train videos and stored in TABLE.pca; at most a fifth of the number of these videos."""
    pca_on: Literal["rows", "frames"] | None = None
    """Fit the components on pooled rows (default), or on frames before pooling."""
    window: float | None = None
    """One row per window of this many seconds, VIDEO@START-END, instead of one per video."""
    dtype: Literal["uint8", "float16", "bfloat16", "float32"] | None = None
    """dtype of the stored features; uint8 (default) covers the range of each modality's values."""

    def __post_init__(self) -> None:
        if self.pool is not None and (not self.pool or len(set(self.pool)) < len(self.pool)):
            raise ValueError(f"--pool {' '.join(self.pool)}: name one or more, each once")
        if self.pca is not None and self.pca < 1:
            raise ValueError(f"--pca {self.pca}: give 1 or more components")
        if self.rate is not None and not 0 < self.rate <= 120:
            raise ValueError(f"--rate {self.rate}: give frames per second above 0, at most 120")
        if self.window is not None and not 0 < self.window < float("inf"):
            raise ValueError(f"--window {self.window}: give seconds above 0")

    def filled(self) -> "TableOptions":
        """The options with the defaults of a new table where none was given."""
        return dataclasses.replace(
            self, pool=self.pool or ("mean",), pca_on=self.pca_on or "rows",
            dtype=self.dtype or "uint8",
        )  # fmt: skip

    def as_json(self) -> dict[str, Any]:
        """The options as JSON values."""
        return {**dataclasses.asdict(self), "pool": self.pool and list(self.pool)}

    def as_stored(self, manifest: Mapping[str, Any], path: str) -> "TableOptions":
        """The options of the table with this manifest, for an append. Raises ValueError if the
        table was not extracted, or if other options were given."""
        stored = manifest.get("source", {}).get("options", {}).get("extract")
        if stored is None:
            raise ValueError(f"{path} was not made by `extract`: append with `vidembed import`")
        for name, value in self.as_json().items():
            if value is not None and value != stored[name]:
                raise ValueError(
                    f"--{name.replace('_', '-')} is {value!r}, but {path} was made with "
                    f"{stored[name]!r}: leave it out, or make another table"
                )
        return TableOptions(**{**stored, "pool": tuple(stored["pool"])})

    def at_rate(self, backbone: Backbone) -> Backbone:
        """The backbone, with frames at the rate of these options."""
        rate = self.rate or (MOTION_RATE if "motion" in (self.pool or ()) else None)
        if rate is None or not isinstance(backbone.input, FrameInput):
            return backbone
        return dataclasses.replace(backbone, input=dataclasses.replace(backbone.input, rate=rate))

    def columns(
        self, backbones: Mapping[str, Backbone], stores: Mapping[str, FeatureStore]
    ) -> list[Column]:
        """The modalities of a table, by backbone name. Raises ValueError if two have one name."""
        columns: list[Column] = []
        pool = self.filled().pool or ()
        for name, backbone in backbones.items():
            seen = isinstance(backbone.input, FrameInput | ClipInput)
            heard = [how for how in pool if how in ("mean", "statistics")][:1] or ["mean"]
            for modality, how in _named(backbone.modality, pool if seen else heard):
                columns.append(
                    Column(
                        modality=modality, store=stores[name], pooling=how, width=backbone.width,
                        space=backbone.space, rate=getattr(backbone.input, "rate", None),
                        seconds=backbone.input.lasts,
                    )
                )  # fmt: skip
        names = [column.modality for column in columns]
        if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            raise ValueError(
                f"{twice[0]!r} would be made by two backbones: choose one (--backbone NAME), or "
                "name another `modality` in one description"
            )
        return columns


def whitened(
    columns: Sequence[Column],
    options: TableOptions,
    train_ids: Sequence[str],
    folder: str | os.PathLike[str] | None,
    *,
    say: Callable[[str], None],
) -> list[Column]:
    """The columns with components: read from `folder`/MODALITY.npz, or, if it is None, fitted on
    the train videos. Raises ValueError for components of other features."""
    if options.pca is None:
        return list(columns)
    made = []
    for column in columns:
        if folder is None:
            components = _fitted(column, options, train_ids, say)
        else:
            file = os.path.join(folder, f"{column.modality}.npz")
            components, expected = Whitening.read(file), _space(column, options)
            if components.space != expected:
                raise ValueError(
                    f"{file} holds components of {components.space!r}, not {expected!r}"
                )
        if options.pca_on == "rows":
            made.append(dataclasses.replace(column, rows_whitening=components))
        else:
            made.append(dataclasses.replace(column, frames_whitening=components))
    return made


def check_components(options: TableOptions, videos: int, *, having: str = "") -> None:
    """Raise ValueError if so many train videos are too few for any component."""
    if videos < VIDEOS_PER_COMPONENT:
        raise ValueError(
            f"--pca {options.pca}: there are {videos} train videos{having}, and components need "
            f"{VIDEOS_PER_COMPONENT} videos each"
        )


def write_components(columns: Sequence[Column], folder: str | os.PathLike[str]) -> None:
    """Store the components of the columns, if they have any, where `whitened` reads them; those
    of an earlier table are removed."""
    if os.path.isdir(folder):
        for name in os.listdir(folder):
            if name.endswith(".npz"):
                os.remove(os.path.join(folder, name))
        with contextlib.suppress(OSError):  # not empty
            os.rmdir(folder)
    for column in columns:
        components = column.rows_whitening or column.frames_whitening
        if components is not None:
            os.makedirs(folder, exist_ok=True)
            components.write(os.path.join(folder, f"{column.modality}.npz"))


def _fitted(
    column: Column, options: TableOptions, train_ids: Sequence[str], say: Callable[[str], None]
) -> Whitening:
    """Components on train videos; at most a fifth of their number, with a warning."""
    rows = rows_of([column], train_ids)
    videos, modality, asked = len(rows.ids), column.modality, options.pca or 0
    check_components(options, videos, having=f" that have {modality}")
    most = videos // VIDEOS_PER_COMPONENT
    if most < asked:
        say(
            f"WARNING: {modality}: {most} components instead of {asked}, a fifth of its {videos} "
            "train videos: more are noise and harm neighbours"
        )
    of_frames = (column.frames(video).values for video in train_ids)
    blocks = iter([rows.features[modality]]) if options.pca_on == "rows" else of_frames
    width = column.row_width if options.pca_on == "rows" else column.width
    made = fitted(blocks, min(asked, most, width), space=_space(column, options))
    say(f"{modality}: {made.size} components have {made.variance_share:.0%} of the variance")
    return made


def _space(column: Column, options: TableOptions) -> str:
    return f"{column.space} / {column.made_by if options.pca_on == 'rows' else 'frames'}"


def _named(modality: str, poolings: Sequence[Pooling]) -> list[tuple[str, Pooling]]:
    """(modality, pooling) of each pooling of a backbone's features."""
    rest = [how for how in poolings if how != "motion"]
    named: list[tuple[str, Pooling]] = [
        (modality if how == rest[0] else f"{modality}-{how}", how) for how in rest
    ]
    if "motion" in poolings:
        named.append(("activity" if modality == "visual" else f"{modality}-motion", "motion"))
    return named
