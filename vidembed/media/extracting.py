"""Run backbones over many video files, and store the features of frames and of sound.

Files are decoded in worker processes; the networks run here. What is stored already, made from the
same file with the same backbone, is not made again. A file that cannot be decoded costs that file.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from etils import epath

from vidembed.media.backbone import Backbone
from vidembed.media.feature_store import FeatureStore, FrameFeatures
from vidembed.media.inputs import Block
from vidembed.media.videos import VideoFile
from vidembed.media.workers import decoded
from vidembed.progress import Progress, ends_in

ESTIMATE_AFTER_SECONDS = 5.0


class Failure(NamedTuple):
    """A file of which nothing was made, and why."""

    video: VideoFile
    reason: str


@dataclass(kw_only=True)
class Extracted:
    """What became of the files: how many were made now and how many before; failures; remarks by
    file; seconds spent decoding (all workers together) and in the networks."""

    made: int = 0
    stored_before: int = 0
    failures: list[Failure] = field(default_factory=list)
    remarks: list[tuple[VideoFile, str]] = field(default_factory=list)
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
    origins = {video.id: origin_of(video) for video in videos}
    todo = []
    for video in videos:
        before = [store.read(video.id, origins[video.id]) for store in stores.values()]
        if None in before:
            todo.append(video)
        else:
            done.stored_before += 1
            _remark(done, video, [line for of in before if of for line in of.remarks])
    if not todo:
        return done
    networks = {
        name: of.runner(providers=(provider,), threads=threads) for name, of in backbones.items()
    }
    sizes = {video.id: origins[video.id]["size"] for video in todo}
    total = sum(sizes.values())
    inputs = {name: backbone.input for name, backbone in backbones.items()}
    with progress.stage("extracting", len(todo), "videos") as stage:
        read, estimated, since = 0, False, (0.0, 0)
        jobs = decoded(todo, inputs, workers=workers, patience_seconds=patience_seconds)
        for number, file in enumerate(jobs, start=1):
            parts: dict[str, list[Block]] = {name: [] for name in backbones}
            for name, block in file.blocks():
                began = time.monotonic()
                features = networks[name](block.values)
                done.network_seconds += time.monotonic() - began
                parts[name].append(Block(block.times, features))
            done.decode_seconds += file.decode_seconds
            if file.error:
                done.failures.append(Failure(file.file, file.error))
            else:
                for name, blocks in parts.items():
                    made = _joined(blocks, backbones[name].width, file.trouble)
                    stores[name].write(file.file.id, origins[file.file.id], made)
                done.made += 1
                _remark(done, file.file, file.trouble)
            read += sizes[file.file.id]
            stage.update(number, note=f"{len(done.failures)} failed" if done.failures else "")
            if number == 1:  # before it, workers and networks start
                since = stage.seconds, read
            elif not estimated and stage.seconds - since[0] > ESTIMATE_AFTER_SECONDS:
                estimated = True
                left = (stage.seconds - since[0]) * (total - read) / max(1, read - since[1])
                progress.say(f"{len(todo) - number:,} more videos take about {ends_in(left)}")
    return done


def origin_of(video: VideoFile) -> dict[str, Any]:
    """What identifies the contents of a file: its size and its time of change."""
    about = epath.Path(video.path).stat()
    return {"size": int(about.length), "modified": float(about.mtime)}


def _joined(blocks: Sequence[Block], width: int, remarks: Sequence[str]) -> FrameFeatures:
    if not blocks:
        return FrameFeatures(np.zeros(0), np.zeros((0, width), np.float32), tuple(remarks))
    times = np.concatenate([block.times for block in blocks])
    return FrameFeatures(times, np.concatenate([b.values for b in blocks]), tuple(remarks))


def _remark(done: Extracted, video: VideoFile, lines: Sequence[str]) -> None:
    done.remarks += [(video, line) for line in dict.fromkeys(lines)]
