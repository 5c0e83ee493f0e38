"""The records of this folder, or of any other YouTube-8M folder, as a `tfds.data_source`.

    from data.youtube8m.youtube8m import Youtube8m
    builder = Youtube8m(data_dir="...")
    builder.download_and_prepare()
    videos = builder.as_data_source(split="validation")

TensorFlow is not needed. Nothing is downloaded: `sample` is the shards beside this file, `manual`
those in the manual folder.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from etils import epath

from vidembed.records.formats import VideoLevel
from vidembed.records.shards import shards
from vidembed.records.youtube8m import read_videos

FORMAT = VideoLevel()
# How YouTube-8M's shards begin, and what the split is called here.
SPLITS = {"train": "train", "validate": "validation"}


class Youtube8m(tfds.core.GeneratorBasedBuilder):
    """YouTube-8M, video level: id, labels and the mean visual and audio features of each video."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "Video-level records of the 2018 release."}  # noqa: RUF012 - TFDS's
    BUILDER_CONFIGS = [  # noqa: RUF012 - TFDS's
        tfds.core.BuilderConfig(name="sample", description="The ten shards of this folder."),
        tfds.core.BuilderConfig(name="manual", description="All shards of the manual folder."),
    ]
    MANUAL_DOWNLOAD_INSTRUCTIONS = (
        "For the config `manual`, put shards named train*.tfrecord or validate*.tfrecord (see "
        "https://research.google.com/youtube8m/download.html) into the manual folder."
    )

    def __init__(self, *, file_format: str = "array_record", **options: Any) -> None:
        # TFDS's own default, tfrecord, cannot be written or read without TensorFlow.
        super().__init__(file_format=file_format, **options)

    def _info(self) -> tfds.core.DatasetInfo:
        features = {"id": tfds.features.Text(), "labels": tfds.features.Sequence(np.int32)}
        for modality in FORMAT.modalities:
            features[modality.name] = tfds.features.Tensor(
                shape=(modality.width,), dtype=np.float32
            )
        return self.dataset_info_from_configs(
            features=tfds.features.FeaturesDict(features),
            homepage="https://research.google.com/youtube8m/",
            license="CC BY 4.0",
            disable_shuffling=True,
        )

    def _split_generators(self, downloads: tfds.download.DownloadManager) -> dict[str, Any]:
        if self.builder_config.name == "manual":
            folder = epath.Path(downloads.manual_dir)
        else:
            folder = epath.Path(__file__).parent
        files = shards(folder)
        splits = {
            split: [file for file in files if file.name.startswith(prefix)]
            for prefix, split in SPLITS.items()
        }
        if not any(splits.values()):
            raise ValueError(
                f"{folder}: no shard is named train* or validate*: {files[0].name} ..."
            )
        return {name: self._generate_examples(those) for name, those in splits.items() if those}

    def _generate_examples(self, files: list[epath.Path]) -> Iterator[tuple[int, dict[str, Any]]]:
        number = 0
        for file in files:
            for videos in read_videos(file, FORMAT):
                for row, name in enumerate(videos.ids):
                    first, last = videos.label_offsets[row : row + 2]
                    example = {modality: rows[row] for modality, rows in videos.features.items()}
                    labels = videos.label_values[first:last]
                    yield number, {"id": name.decode(), "labels": labels, **example}
                    number += 1
