"""What to read from TFRecords that stay on disk: keys, widths, and the dtype of features."""

from dataclasses import dataclass

from vidembed.records.formats import DEFAULT_MODALITIES, Missing, VideoLevel
from vidembed.records.importing import Dtype, Importing


@dataclass(frozen=True, kw_only=True)
class RecordLayout:
    """The content of video-level records, as for `import`; the defaults are YouTube-8M's."""

    modalities: tuple[str, ...] = DEFAULT_MODALITIES
    """Modalities to read, each NAME:KEY:WIDTH."""
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

    def format(self) -> VideoLevel:
        """The records' format. Raises ValueError for malformed modalities."""
        return self.importing().format()

    def importing(self) -> Importing:
        """The options by which `import` makes a table of the same rows."""
        return Importing(
            modalities=self.modalities,
            id_key=self.id_key,
            labels_key=self.labels_key,
            missing=self.missing,
            dtype=self.dtype,
            space=self.space,
        )
