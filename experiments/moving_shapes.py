"""Simulated video files of moving shapes: `python -m experiments.moving_shapes --folder shapes`.

The class of a clip is how its shape moves. Colours, place, size, form and speed tell nothing about
the class. The clips of a group share colours, size and form, and there is one of each class, so
that a still frame shows the group and never the class. Groups are split, 7 in 10 for training. The
folder also gets the list of the clips, clips.csv (path, class, group, split), and SIMULATED.txt,
which says that a program made them. The same options make the same pictures.
"""

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import tyro
from av.video.reformatter import Interpolation

from vidembed import files
from vidembed.corpora.clip_files import SIMULATED

MOTIONS = ("left", "right", "up", "down", "clockwise", "anticlockwise", "grows", "shrinks")
"""The classes."""
EXACT = Interpolation.AREA | Interpolation.ACCURATE_RND | Interpolation.BITEXACT
"""Of colours: the same on every processor."""
FORMS = ("disc", "square", "diamond")


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """Options of the clips."""

    groups: int = 20
    """Sources: each has one clip of every class."""
    frames: int = 24
    rate: int = 12
    """Frames per second."""
    height: int = 48
    width: int = 64
    seed: int = 0

    def __post_init__(self) -> None:
        if self.groups < 2 or self.frames < 2 or min(self.height, self.width) < 16:
            raise ValueError(
                f"groups {self.groups} and frames {self.frames} must be at least 2, and height "
                f"{self.height} and width {self.width} at least 16"
            )
        if self.height % 2 or self.width % 2:
            raise ValueError(f"height {self.height} and width {self.width} must be even")


def write_shapes(folder: Path, shapes: Shapes) -> Path:
    """Write the clips and their list; returns the list's path."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / SIMULATED).write_text(
        "These videos are simulated: moving shapes, made by experiments.moving_shapes with "
        f"{shapes}.\n"
    )
    order = np.random.default_rng([shapes.seed, 0]).permutation(shapes.groups)
    train = {int(group) for group in order[: max(1, round(0.7 * shapes.groups))]}
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(("path", "class", "group", "split"))
    for group in range(shapes.groups):
        for motion in MOTIONS:
            path = f"{motion}/{motion}_g{group:03d}.mp4"
            (folder / motion).mkdir(exist_ok=True)
            _write_video(folder / path, pictures(shapes, group, motion), shapes)
            part = "train" if group in train else "test"
            rows.writerow((path, motion, f"g{group:03d}", part))
    listed = folder / "clips.csv"
    files.write_bytes(listed, text.getvalue().encode())
    return listed


def pictures(shapes: Shapes, group: int, motion: str) -> Iterator[np.ndarray]:
    """The frames u8[height, width, 3] of a clip."""
    look = np.random.default_rng([shapes.seed, 1, group])
    background, colour = look.integers(20, 110, 3), look.integers(120, 250, 3)
    form, size = FORMS[look.integers(len(FORMS))], look.uniform(0.12, 0.2) * shapes.height
    own = np.random.default_rng([shapes.seed, 2, group, MOTIONS.index(motion)])
    centre = own.uniform(0.4, 0.6, 2) * (shapes.height, shapes.width)
    way, phase = own.uniform(0.35, 0.5) * shapes.height, own.uniform(0, 2 * np.pi)
    rows, columns = np.mgrid[: shapes.height, : shapes.width] + 0.5
    for number in range(shapes.frames):
        share = number / (shapes.frames - 1)
        place, factor = _moved(motion, share, way, phase)
        down, across = rows - centre[0] - place[0], columns - centre[1] - place[1]
        distance = {
            "disc": np.hypot(down, across),
            "square": np.maximum(abs(down), abs(across)),
            "diamond": (abs(down) + abs(across)) / np.sqrt(2),
        }[form]
        inside = np.clip(size * factor - distance + 0.5, 0, 1)[:, :, None]
        yield np.rint(background + inside * (colour - background)).astype(np.uint8)


def _moved(
    motion: str, share: float, way: float, phase: float
) -> tuple[tuple[float, float], float]:
    """Where the shape is, (down, across) from its middle, and its size's factor, at a share of the
    clip."""
    along = (share - 0.5) * way * 2
    if motion in ("grows", "shrinks"):
        return (0.0, 0.0), 0.5 + (share if motion == "grows" else 1 - share)
    if motion in ("clockwise", "anticlockwise"):
        sign = 1 if motion == "clockwise" else -1  # rows count downwards
        angle = phase + sign * 2 * np.pi * share
        return (way * 0.6 * np.sin(angle), way * 0.6 * np.cos(angle)), 1.0
    down, across = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}[motion]
    return (along * down, along * across), 1.0


def _write_video(path: Path, frames: Iterator[np.ndarray], shapes: Shapes) -> None:
    with files.whole_file(path) as unfinished, av.open(str(unfinished), "w", format="mp4") as out:
        # With its assembly code the encoder now and then writes other bytes for the same pictures.
        options = {"crf": "20", "threads": "1", "x264-params": "no-asm=1"}
        stream = out.add_stream("libx264", rate=shapes.rate, options=options)
        stream.height, stream.width, stream.pix_fmt = shapes.height, shapes.width, "yuv420p"
        stream.time_base = Fraction(1, shapes.rate)
        for number, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image).reformat(
                format="yuv420p", interpolation=EXACT
            )
            frame.pts, frame.time_base = number, Fraction(1, shapes.rate)
            out.mux(stream.encode(frame))
        out.mux(stream.encode())


def main(folder: Path, shapes: Shapes = Shapes()) -> None:
    """Write the clips to a folder, and say where their list is."""
    listed = write_shapes(folder, shapes)
    print(
        f"{shapes.groups * len(MOTIONS)} simulated clips of {len(MOTIONS)} classes: train with "
        f"--corpus.folder {folder} --corpus.clips {listed}"
    )


if __name__ == "__main__":
    tyro.cli(main)
