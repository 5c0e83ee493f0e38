"""What to read from TFRecords that stay on disk: keys, widths, and the dtype of features."""

from dataclasses import dataclass
from typing import Literal, get_args

from vidembed.records.formats import (
    DEFAULT_MODALITIES,
    YOUTUBE_8M_FRAMES,
    FrameLevel,
    Missing,
    VideoLevel,
)
from vidembed.records.importing import Dtype, Importing

Level = Literal["video", "frame"]
DEFAULT_FRAMES = tuple(f"{m.name}:{m.key}:{m.width}" for m in YOUTUBE_8M_FRAMES.modalities)


@dataclass(frozen=True, kw_only=True)
class RecordLayout:
    """The content of the records, as for `import`; the defaults are YouTube-8M's."""

    level: Level = "video"
    """video: one vector of floats per modality. frame: a vector of bytes per second of the video
    (SequenceExamples). A batch then has the frames, and each step makes modalities of them that the
    model may read: visual is their mean, visual_deviation their standard deviation, visual_top5
    the mean of the five largest values of each feature, visual_max the largest."""
    max_frames: int = 300
    """Of frame-level records: use at most this many frames, the first."""
    modalities: tuple[str, ...] = DEFAULT_MODALITIES
    """Modalities to read, each NAME:KEY:WIDTH; of frames visual:rgb:1024 audio:audio:128 if not
    given."""
    id_key: str = ""
    """The key of the ids; id or video_id if not given."""
    labels_key: str = "labels"
    """The key of the labels; empty if records have none."""
    missing: Missing = VideoLevel.missing
    """Refuse records without one of the modalities, or mask the modality."""
    dtype: Dtype = "float32"
    """dtype of the features in a batch. float32 is what the records hold; uint8 over [-2, 2] and
    bfloat16 are converted as they are read, and take less time to send to the devices."""
    space: tuple[str, ...] = ()
    """The network that made the features: one NAME, or MODALITY=NAME for each."""

    def __post_init__(self) -> None:
        if self.level not in get_args(Level):
            raise ValueError(f"level must be video or frame, found {self.level!r}")
        if self.max_frames < 1:
            raise ValueError(f"max_frames must be at least 1, found {self.max_frames}")
        if self.level == "frame" and self.dtype != RecordLayout.dtype:
            raise ValueError(
                f"frame-level records hold bytes, which stay so in a batch: leave out dtype "
                f"{self.dtype} (--corpus.layout.dtype)"
            )

    def format(self) -> VideoLevel:
        """The records' format. Raises ValueError for malformed modalities."""
        return self.importing().format()

    def frame_format(self) -> FrameLevel:
        """The format of frame-level records. Raises ValueError for malformed modalities."""
        known = self.format()
        return FrameLevel(
            modalities=known.modalities,
            id_keys=known.id_keys,
            labels_key=known.labels_key,
            missing=known.missing,
            max_frames=self.max_frames,
        )

    def importing(self) -> Importing:
        """The options by which `import` makes a table of the same rows."""
        frames = self.level == "frame" and self.modalities == DEFAULT_MODALITIES
        return Importing(
            modalities=DEFAULT_FRAMES if frames else self.modalities,
            id_key=self.id_key,
            labels_key=self.labels_key,
            missing=self.missing,
            dtype=self.dtype,
            space=self.space,
        )
