"""Other videos than those of a run's corpus, in the same form: to embed them with a trained run."""

import os
from collections.abc import Sequence

import numpy as np
from etils import epath

from vidembed.corpora.clip_source import ClipSource
from vidembed.corpora.frame_sources import Motion, StoredFrames
from vidembed.media.feature_store import FeatureStore
from vidembed.media.videos import video_files


def other_videos(
    paths: Sequence[str | os.PathLike[str]], *, modality: str, motion: Motion = "none"
) -> ClipSource:
    """Videos as files, or as the features of their frames.

    paths: video files, folders of them and lists, as of `media.videos.video_files`; or the one
    folder of a backbone in which extraction has stored features (FEATURES/BACKBONE-DIGEST), which
    become `modality`, read as `motion` says. Failures are not logged, only kept. Raises ValueError
    for paths without videos, and for stored features that are damaged or of several widths.
    """
    first = epath.Path(paths[0]) if len(paths) == 1 else None
    if first is not None and first.is_dir() and next(first.glob("*.npz"), None) is not None:
        ids = tuple(FeatureStore.at(first).ids())
        return _source(ids, (), {modality: StoredFrames.open(first, ids, motion)})
    videos = video_files(paths)
    return _source([video.id for video in videos], tuple(video.path for video in videos), {})


def _source(
    ids: Sequence[str], files: tuple[str, ...], stored: dict[str, StoredFrames]
) -> ClipSource:
    names = np.array([os.fsencode(name) for name in ids])
    return ClipSource(ids=names, files=files, stored=stored, quiet=True)
