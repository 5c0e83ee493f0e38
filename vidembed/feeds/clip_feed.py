"""What feeds of clips share: their options, the videos drawn from, and their batches."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np
import xxhash

from vidembed.feeds.clip_slots import Slots
from vidembed.feeds.feed import Batch, Feed, FeedOptions
from vidembed.records.clip_cuts import Short, Starts, Taking

# Increase this whenever the same seed and data would give other batches than before.
SEQUENCE = 1
REPLACED, SHORT = "replaced_videos", "short_videos"
"""Events, one for each such video of a batch."""


class ClipVideos(Protocol):
    """Videos that clips are cut from."""

    @property
    def ids(self) -> np.ndarray: ...
    @property
    def is_train(self) -> np.ndarray: ...
    @property
    def rows(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class ClipFeedOptions(FeedOptions):
    """Videos per batch, and how clips are cut from them."""

    batch_videos: int = 32
    """Videos per batch."""
    clips: int = 2
    """Clips per video."""
    frames: int = 16
    """Frames per clip."""
    stride: int = 1
    """Take each k-th frame only: a clip spans (frames - 1) x stride + 1 of them."""
    starts: Starts = "random"
    """random: clips begin anywhere, independently of each other. even: they are spread evenly over
    the video."""
    short: Short = "loop"
    """What becomes of a video that is shorter than a clip. loop: its frames are repeated, for one
    clip, and its other clips count as absent. refuse: it is an error."""
    unit: ClassVar[str] = "videos"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.taking  # noqa: B018  raises for impossible options

    @property
    def taking(self) -> Taking:
        """How clips are cut."""
        return Taking(
            clips=self.clips,
            frames=self.frames,
            stride=self.stride,
            starts=self.starts,
            short=self.short,
        )

    @property
    def cut(self) -> dict[str, float]:
        """What a trained model should read clips by, too."""
        return {"frames": self.frames, "stride": self.stride}


class ClipFeed(Feed):
    """Batches of N clips of each of B videos; each host makes its own part of every entry:

    rows      i32[B]                            the video of each place: equal rows, equal videos
    clips     u8[B, N, T, H, W, 3] or f32[B, N, T, F]
    present   bool[B, N]                        which clips there are; others repeat the first
    replaced  bool[B]                           whether the video stands in for one that failed
    short     bool[B]                           whether it is shorter than a clip
    """

    split_axes: Mapping[str, int | None] = {
        "rows": 0,
        "clips": 0,
        "present": 0,
        "replaced": 0,
        "short": 0,
    }
    config: ClipFeedOptions

    def __init__(
        self, config: ClipFeedOptions, corpus: ClipVideos, videos: np.ndarray, *, seed: int
    ) -> None:
        """videos: i64[n], the train videos to draw from."""
        super().__init__(config)
        self.seed, self._corpus, self._taking = seed, corpus, config.taking
        self.slots = Slots(seed=seed, batch=config.batch_videos, videos=videos, clips=config.clips)

    @property
    def one_pass(self) -> tuple[int, str]:
        """See `Feed`."""
        return len(self.slots.videos), "train videos"

    @property
    def events(self) -> tuple[str, ...]:
        """See `Feed`."""
        return (REPLACED, SHORT)

    def events_of(self, batch: Batch) -> Iterable[str]:
        """See `Feed`: one event for each replaced and each short video of this host."""
        return [REPLACED] * int(batch["replaced"].sum()) + [SHORT] * int(batch["short"].sum())

    def ids_at(self, step: int) -> np.ndarray:
        """S[B]: the videos of a batch, if none of them fails."""
        return np.asarray(self._corpus.ids[self.slots.planned(step)])

    @cached_property
    def fingerprint(self) -> str:
        """See `Feed`."""
        taking = self._taking
        settings = (SEQUENCE, self.config.batch_videos, taking, self.seed, self._settings)
        digest = xxhash.xxh3_128(repr((*settings, self._corpus.rows)).encode())
        digest.update(self.slots.videos.astype(np.int64).tobytes())
        return digest.hexdigest()

    @property
    def _settings(self) -> tuple[Any, ...]:
        """Further options that the batches depend on."""
        return ()


def batch_of(elements: Iterable[Mapping[str, Any]]) -> Batch:
    """The batch of the elements of a host, in their order."""
    rows = list(elements)
    return {
        "rows": np.array([of["row"] for of in rows], np.int32),
        "clips": np.stack([of["clips"] for of in rows]),
        "present": np.stack([of["present"] for of in rows]),
        "replaced": np.array([of["attempts"] > 1 for of in rows]),
        "short": np.array([of["short"] for of in rows]),
    }
