"""Run backbones over many video files, and store the features of frames and of sound.

Files are decoded in worker processes; the networks run here. What is stored already, made from the
same file with the same backbone, is not made again. A file that cannot be decoded costs that file.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from vidembed.media.backbone import Backbone, Runner
from vidembed.media.feature_store import FeatureStore, FrameFeatures
from vidembed.media.video_list import origin_of
from vidembed.media.videos import VideoFile
from vidembed.media.workers import DecodedFile, decoded
from vidembed.progress import Progress, ends_in

ESTIMATE_AFTER_SECONDS = 5.0


class Failure(NamedTuple):
    """A file of which nothing was made, and why."""

    video: VideoFile
    reason: str


@dataclass(kw_only=True)
class Extracted:
    """What became of the files: how many were made now and how many before; failures; remarks by
    file; the origins of files that could be read, by id; seconds spent decoding (all workers
    together) and in the networks."""

    made: int = 0
    stored_before: int = 0
    failures: list[Failure] = field(default_factory=list)
    remarks: list[tuple[VideoFile, str]] = field(default_factory=list)
    origins: dict[str, dict[str, Any]] = field(default_factory=dict)
    decode_seconds: float = 0.0
    network_seconds: float = 0.0


def extract(
    videos: Sequence[VideoFile],
    backbones: Mapping[str, Backbone],
    stores: Mapping[str, FeatureStore],
    *,
    workers: int,
    threads: int,
    provider: str = "CPUExecutionProvider",
    patience_seconds: float = 60.0,
    progress: Progress | None = None,
) -> Extracted:
    """Store the features of every video that lacks some, by backbone name.

    workers: processes that decode. threads: of the networks. patience_seconds: after this long
    without a frame a worker is ended, and its file has failed.
    """
    progress, done = progress or Progress(), Extracted()
    todo, origins = _unfinished(videos, stores, done), done.origins
    if not todo:
        return done
    session: dict[str, Any] = {"providers": (provider,), "threads": threads}
    networks = {name: backbone.runner(**session) for name, backbone in backbones.items()}
    inputs = {name: backbone.input for name, backbone in backbones.items()}
    sizes = {video.id: origins[video.id]["size"] for video in todo}
    with progress.stage("extracting", len(todo), "videos") as stage:
        estimate = _Estimate(sum(sizes.values()))
        jobs = decoded(todo, inputs, workers=workers, patience_seconds=patience_seconds)
        try:
            for number, file in enumerate(jobs, start=1):
                try:
                    features = _features_of(file, networks, done)
                except ValueError as error:  # such as features that are not finite
                    done.failures.append(Failure(file.file, str(error)))
                    continue
                if file.error:
                    done.failures.append(Failure(file.file, file.error))
                else:
                    for name, made in features.items():
                        stores[name].write(file.file.id, origins[file.file.id], made)
                    done.made += 1
                    _remark(done, file.file, file.trouble)
                failed = f"{len(done.failures)} failed" if done.failures else ""
                stage.update(number, note=failed)
                left = estimate.seconds_left(sizes[file.file.id], stage.seconds)
                if left is not None and number < len(todo):
                    progress.say(f"{len(todo) - number:,} more videos take about {ends_in(left)}")
        except BaseException:
            if done.made:
                progress.say(
                    f"the features of {done.made:,} videos are stored: the same command goes on"
                )
            raise
    return done


class _Estimate:
    """The seconds that are left, once, by bytes read; workers and networks start before the first
    file is done, and are not counted."""

    def __init__(self, total_bytes: int) -> None:
        self._left, self._read = total_bytes, 0
        self._since: float | None = None
        self._said = False

    def seconds_left(self, file_bytes: int, seconds: float) -> float | None:
        """Count a file that was done at `seconds`; None but the first time it can be said."""
        self._left -= file_bytes
        if self._since is None:
            self._since = seconds
            return None
        self._read += file_bytes
        passed = seconds - self._since
        if self._said or passed < ESTIMATE_AFTER_SECONDS or not self._read:
            return None
        self._said = True
        return passed * self._left / self._read


def _unfinished(
    videos: Sequence[VideoFile], stores: Mapping[str, FeatureStore], done: Extracted
) -> list[VideoFile]:
    """The videos without stored features; `done` gets what identifies the contents of all files."""
    todo = []
    for video in videos:
        try:
            done.origins[video.id] = origin_of(video)
        except OSError as error:
            done.failures.append(Failure(video, error.strerror or str(error)))
            continue
        origin = done.origins[video.id]
        if all(store.made_before(video.id, origin) for store in stores.values()):
            done.stored_before += 1
            _remark(done, video, [line for s in stores.values() for line in s.remarks(video.id)])
        else:
            todo.append(video)
    return todo


def _features_of(
    file: DecodedFile, networks: Mapping[str, Runner], done: Extracted
) -> dict[str, FrameFeatures]:
    """Run the networks over a file as it is decoded, by backbone name."""
    times: dict[str, list[np.ndarray]] = {name: [np.zeros(0)] for name in networks}
    values = {
        name: [np.zeros((0, network.backbone.width), np.float32)]
        for name, network in networks.items()
    }
    for name, block in file.blocks():
        began = time.monotonic()
        values[name].append(networks[name](block.values))
        times[name].append(block.times)
        done.network_seconds += time.monotonic() - began
    done.decode_seconds += file.decode_seconds
    return {
        name: FrameFeatures(
            np.concatenate(times[name]), np.concatenate(values[name]), tuple(file.trouble)
        )
        for name in networks
    }


def _remark(done: Extracted, video: VideoFile, lines: Sequence[str]) -> None:
    done.remarks += [(video, line) for line in dict.fromkeys(lines)]
