"""How clips are cut from the frames of a video, decoded or as features."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

Starts = Literal["random", "even"]
Short = Literal["loop", "refuse"]


@dataclass(frozen=True, kw_only=True)
class Taking:
    """How clips are cut from a video of T frames; equal for decoded frames and for features."""

    clips: int
    frames: int
    stride: int
    starts: Starts
    short: Short

    def __post_init__(self) -> None:
        if min(self.clips, self.frames, self.stride) < 1:
            raise ValueError(
                f"clips {self.clips}, frames {self.frames} and stride {self.stride} must be at "
                "least 1"
            )
        for name, kind in (("starts", Starts), ("short", Short)):
            if getattr(self, name) not in get_args(kind):
                raise ValueError(
                    f"{name} must be {' or '.join(get_args(kind))}, found {getattr(self, name)!r}"
                )

    @property
    def span(self) -> int:
        """Frames of a video from the first to the last frame of a clip."""
        return (self.frames - 1) * self.stride + 1

    def places(self, length: int, draws: np.ndarray | None) -> np.ndarray:
        """The frames i64[n, T] of the clips of a video with `length` frames, at least 1.

        n is the number of clips; of a video shorter than a clip, 1: its frames in a loop. draws:
        f64[N] in [0, 1), random; None: evenly spread clips, whatever `starts` says.
        """
        steps = np.arange(self.frames) * self.stride
        room = length - self.span + 1
        if room < 1:
            return np.asarray(steps % length)[None]
        if draws is None or self.starts == "even":
            begins = (2 * np.arange(self.clips) + 1) * room // (2 * self.clips)
        else:
            begins = (draws * room).astype(np.int64)
        return np.asarray(begins[:, None] + steps)

    def cut(self, frames: np.ndarray, draws: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
        """The clips [N, T, ...] of a video's frames [length, ...], and which are there: bool[N].

        In the place of an absent clip is a copy of the first, so that statistics over a batch see
        no zeros.
        """
        places = self.places(len(frames), draws)
        present = np.arange(self.clips) < len(places)
        if len(places) < self.clips:
            places = np.repeat(places, self.clips, axis=0)
        return frames[places], present


def even_clips(
    read: Callable[[int], np.ndarray], rows: np.ndarray, taking: Taking, *, threads: int = 1
) -> dict[str, np.ndarray]:
    """The evenly spread clips of videos i64[n], which a trained model embeds.

    read: row → the frames [T, ...] of a video, such as the `read` of a `FrameSource`; called by so
    many threads. `clips`: [n, N, T, ...]; `present`: bool[n, N]; `begins`: i32[n, N], the number of
    the first frame of each clip, 0 for missing ones. A video without frames has zeros, and no clip.
    """

    def cut(row: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return _even(read(row), taking)

    if threads == 1:
        cuts = list(map(cut, rows.tolist()))
    else:
        with ThreadPoolExecutor(threads) as pool:
            cuts = list(pool.map(cut, rows.tolist()))
    names = ("clips", "present", "begins")
    return {name: np.stack(of) for name, of in zip(names, zip(*cuts))}


def _even(frames: np.ndarray, taking: Taking) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    begins = np.zeros(taking.clips, np.int32)
    if len(frames):
        firsts = taking.places(len(frames), None)[:, 0]
        begins[: len(firsts)] = firsts
        return *taking.cut(frames, None), begins
    shape = (taking.clips, taking.frames, *frames.shape[1:])
    return np.zeros(shape, frames.dtype), np.zeros(taking.clips, bool), begins
