"""What feeds of clips share: their options, the videos drawn from, and their batches."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np
import xxhash

from vidembed.corpora.labels import Labels
from vidembed.feeds.clip_slots import Slots
from vidembed.feeds.feed import Batch, Feed, FeedOptions
from vidembed.records.clip_cuts import Short, Starts, Taking
from vidembed.records.tabular import LISTED
from vidembed.tasks.spec import LABELS, Spec

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
    labels    i32[B]                            its class, if the task reads LABELS
    """

    config: ClipFeedOptions

    def __init__(
        self,
        config: ClipFeedOptions,
        corpus: ClipVideos,
        videos: np.ndarray,
        *,
        seed: int,
        labelled: bool = False,
    ) -> None:
        """videos: i64[n], the train videos to draw from. Raises ValueError if they are labelled,
        and one has no class, or several."""
        super().__init__(config)
        entries = ("rows", "clips", "present", "replaced", "short", *((LABELS,) * labelled))
        self.split_axes: Mapping[str, int | None] = dict.fromkeys(entries, 0)
        self.seed, self._corpus, self._taking = seed, corpus, config.taking
        self._classes = _single_labels(corpus, videos) if labelled else None
        self.slots = Slots(seed=seed, batch=config.batch_videos, videos=videos, clips=config.clips)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes of labelled videos."""
        return self._classes.names if self._classes else ()

    def spec_of(
        self, widths: Mapping[str, int], clip: tuple[int, ...], cut: Mapping[str, float]
    ) -> Spec:
        """The spec of clips of this shape, with their number and the classes."""
        names = self.class_names
        return Spec(
            widths=widths,
            clip=clip,
            clips=self.config.clips,
            classes=len(names),
            class_names=names,
            cut=cut,
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """See `Feed`: the classes without a train video."""
        if self._classes is None:
            return ()
        absent = np.flatnonzero(self._classes.counts(self.slots.videos) == 0).tolist()
        if not absent:
            return ()
        shown = ", ".join(self._classes.names[number] for number in absent[:LISTED])
        more = " ..." if len(absent) > LISTED else ""
        return (
            f"WARNING: {len(absent):,} of {len(self._classes.names):,} classes have no train "
            f"video, and are never predicted: {shown}{more}",
        )

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

    def _batch_of(self, elements: Iterable[Mapping[str, Any]]) -> Batch:
        """The batch of the elements of a host, in their order."""
        rows = list(elements)
        batch = {
            "rows": np.array([of["row"] for of in rows], np.int32),
            "clips": np.stack([of["clips"] for of in rows]),
            "present": np.stack([of["present"] for of in rows]),
            "replaced": np.array([of["attempts"] > 1 for of in rows]),
            "short": np.array([of["short"] for of in rows]),
        }
        if self._classes is not None:
            batch[LABELS] = self._classes.padded(batch["rows"], 1)[:, 0]
        return batch


def _single_labels(corpus: ClipVideos, videos: np.ndarray) -> Labels:
    """The classes of all videos; raises ValueError unless each of these i64[n] has one."""
    labels: Labels | None = getattr(corpus, "labels", None)
    counts = None if labels is None else labels.per_row[videos]
    if labels is None or counts is None or (counts != 1).any():
        without = len(videos) if counts is None else int((counts == 0).sum())
        several = 0 if counts is None else int((counts > 1).sum())
        raise ValueError(
            f"each train video needs one class, and of {len(videos):,} {without:,} have none and "
            f"{several:,} have several: give a list with classes (--corpus.clips), or learn "
            "without labels (`train provico`)"
        )
    return labels
