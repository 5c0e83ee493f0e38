"""Records as YouTube-8M's writers lay them out."""

import numpy as np

from vidembed.records.example import encode_example


def encode_video(id, labels, features, format):
    """The record of a video; features f32[F] by modality name, a missing one left out."""
    values = {format.id_keys[0]: id.encode() if isinstance(id, str) else id}
    if format.labels_key is not None:
        values[format.labels_key] = np.asarray(labels, np.int64)
    for modality in format.modalities:
        if modality.name in features:
            values[modality.key] = np.asarray(features[modality.name], np.float32)
    return encode_example(values)
