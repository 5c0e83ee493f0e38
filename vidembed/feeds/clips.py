"""The feed of clips that are decoded while training; batch k is a pure function of k."""

import gc
import logging
import os
import signal
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from typing import Annotated, Any, Protocol

import grain
import numpy as np
from absl import flags

from vidembed import TUNABLE
from vidembed.feeds.clip_feed import ClipFeed, ClipFeedOptions, ClipVideos
from vidembed.feeds.clip_slots import Slots
from vidembed.feeds.feed import ONE_HOST, Batch, Buffers, Part
from vidembed.media.clip_frames import ClipFrames
from vidembed.media.container import check_installed
from vidembed.media.frames import Fit
from vidembed.records.clip_cuts import Taking
from vidembed.records.tabular import LISTED
from vidembed.tasks.spec import LABELS, Spec

PIXELS = "pixels"
ATTEMPTS = 8
"""So many videos in a row that cannot be decoded are an error: it is not single files."""

_log = logging.getLogger(__name__)


class VideoFiles(ClipVideos, Protocol):
    """Videos whose files are known."""

    @property
    def files(self) -> tuple[str, ...]: ...


class ClipError(ValueError):
    """Videos that clips cannot be cut from."""


@dataclass(frozen=True, kw_only=True)
class DecodedClips(ClipFeedOptions):
    """Clips decoded from video files by worker processes.

    A video that cannot be decoded is replaced by another one, counted, and named once. With
    workers, a script must train below `if __name__ == "__main__":`.
    """

    rate: float = 8.0
    """Frames per second, of which every stride-th is taken."""
    height: int = 112
    """Of a frame, in pixels; augmentation may crop a smaller one."""
    width: int = 112
    """Of a frame, in pixels."""
    fit: Fit = "crop"
    """squeeze the frame to the size, or crop its middle."""
    longest_seconds: float = 60.0
    """Clips are cut from the first seconds of a video, which are decoded whole."""
    workers: Annotated[int, TUNABLE] = 2
    """Processes that decode; they change no batch. 0: `read_threads` of this process do."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.workers < 0:
            raise ValueError(f"workers must be at least 0, found {self.workers}")
        if self.workers and not self.prefetch_batches:
            raise ValueError("prefetch_batches 0 makes batches on request: set workers 0, too")
        self.pictures  # noqa: B018  raises for impossible options

    @property
    def pictures(self) -> ClipFrames:
        """How files are decoded."""
        return ClipFrames(
            rate=self.rate,
            height=self.height,
            width=self.width,
            fit=self.fit,
            longest_seconds=self.longest_seconds,
        )

    def open(
        self, corpus: VideoFiles, *, seed: int, reads: tuple[str, ...] = ()
    ) -> "DecodedClipsFeed":
        """Open the feed; raises ImportError without PyAV, and ValueError if the corpus has no
        files, or no train video."""
        check_installed()
        if not getattr(corpus, "files", ()):
            raise ValueError("the corpus has no video files: give --corpus.folder and .clips")
        videos = np.flatnonzero(corpus.is_train)
        if not len(videos):
            raise ValueError("none of the videos is for training: check the split")
        return DecodedClipsFeed(self, corpus, videos, seed=seed, labelled=LABELS in reads)


@dataclass(frozen=True, kw_only=True, eq=False)
class Decoder(grain.transforms.Map):
    """Makes the element (step, slot) of a host; what a worker executes."""

    slots: Slots
    taking: Taking
    pictures: ClipFrames
    files: tuple[str, ...]
    own: slice
    """The slots of the host."""

    def map(self, element: int) -> dict[str, Any]:
        """Element i is slot i % own of step i // own."""
        step, place = divmod(int(element), self.own.stop - self.own.start)
        return self.decode(step, self.own.start + place)

    def decode(self, step: int, slot: int) -> dict[str, Any]:
        """The clips of a slot; `failures` are the rows that failed before, each with the reason.

        Raises ClipError if ATTEMPTS videos fail in a row, and for a short video if it is refused.
        """
        failures: list[tuple[int, str]] = []
        for attempt in range(ATTEMPTS):
            row, draws = self.slots.chosen(step, slot, attempt)
            try:
                frames = self.pictures.read(self.files[row])
            except (ValueError, OSError) as error:
                failures.append((row, str(error)))
                continue
            short = len(frames) < self.taking.span
            if short and self.taking.short == "refuse":
                raise ClipError(
                    f"{self.files[row]}: has {len(frames)} frames at {self.pictures.rate:g} per "
                    f"second, and a clip spans {self.taking.span}. Use shorter clips, leave this "
                    "video out, or --feed.short loop"
                )
            clips, present = self.taking.cut(frames, draws)
            made = {"row": row, "clips": clips, "present": present, "attempts": attempt + 1}
            return made | {"short": short, "failures": failures}
        raise ClipError(
            f"step {step}, place {slot}: {ATTEMPTS} videos in a row cannot be decoded, such as "
            f"{'; '.join(reason for _, reason in failures[:2])}. Check that the files are videos, "
            "and still there"
        )


class DecodedClipsFeed(ClipFeed):
    """Batches of clips u8[B/hosts, N, T, H, W, 3]; see `ClipFeed`."""

    config: DecodedClips

    def __init__(
        self,
        config: DecodedClips,
        corpus: VideoFiles,
        videos: np.ndarray,
        *,
        seed: int,
        labelled: bool = False,
    ) -> None:
        super().__init__(config, corpus, videos, seed=seed, labelled=labelled)
        self._files = corpus.files
        self.failures: dict[int, str] = {}
        """The videos, by row, that could not be decoded so far in this process, and why."""

    @property
    def spec(self) -> Spec:
        """See `Feed`."""
        config = self.config
        clip = (config.frames, config.height, config.width, 3)
        return self.spec_of({PIXELS: 3}, clip, {**config.cut, "rate": config.rate})

    @cached_property
    def _settings(self) -> tuple[Any, ...]:
        return ("decoded", self.config.pictures)

    def batches(
        self, start: int, stop: int, part: Part = ONE_HOST
    ) -> Generator[tuple[int, Batch, float], None, None]:
        """See `Feed`. Every batch has its own memory. Close the generator to end the workers."""
        if not self.config.workers or stop <= start:
            yield from super().batches(start, stop, part)
            return
        own = self.config.own(part)
        size = own.stop - own.start
        elements = iter(self._elements(own, start * size, stop * size))
        try:
            for step in range(start, stop):
                began = time.perf_counter()
                batch = self._noted(islice(elements, size))
                yield step, batch, time.perf_counter() - began
        finally:
            elements.close()
            # Grain's iterators are in a cycle, and hold the last elements in shared memory, which
            # at exit would be freed too late, with a warning.
            del elements
            gc.collect()

    def _elements(self, own: slice, start: int, stop: int) -> Any:
        """The elements start..stop-1 of a host, in order, made by the workers."""
        if not flags.FLAGS.is_parsed():  # which Grain asks for
            flags.FLAGS.mark_as_parsed()
        dataset = grain.MapDataset.range(start, stop).map(self._decoder(own))
        # Each worker makes every workers-th element, one at a time.
        dataset = dataset.to_iter_dataset(grain.ReadOptions(num_threads=1, prefetch_buffer_size=1))
        workers = min(self.config.workers, stop - start)
        ahead = max(1, self.config.prefetch_batches * (own.stop - own.start) // workers)
        options = grain.MultiprocessingOptions(num_workers=workers, per_worker_buffer_size=ahead)
        return dataset.mp_prefetch(options, worker_init_fn=_begin)

    def _make(self, step: int, host_slice: slice, out: Buffers) -> Batch:
        del out
        decoder = self._decoder(host_slice)
        slots = range(host_slice.start, host_slice.stop)
        return self._noted(decoder.decode(step, slot) for slot in slots)

    def _noted(self, elements: Iterator[dict[str, Any]]) -> Batch:
        """The batch of these elements; new failures are kept, and logged."""
        made = list(elements)
        for row, reason in (failure for of in made for failure in of["failures"]):
            if row not in self.failures:
                self.failures[row] = reason
                if len(self.failures) <= LISTED:
                    _log.warning("replaced, because it cannot be decoded: %s", reason)
                elif len(self.failures) == LISTED + 1:
                    _log.warning("more videos cannot be decoded; they are counted from here on")
        return self._batch_of(made)

    def _decoder(self, own: slice) -> Decoder:
        return Decoder(
            slots=self.slots,
            taking=self._taking,
            pictures=self.config.pictures,
            files=self._files,
            own=own,
        )


def _begin(worker: int, workers: int) -> None:
    """Start a worker: the parent ends it, so that Ctrl-C must not."""
    del worker, workers
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
