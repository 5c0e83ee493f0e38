"""Imagined videos with captions in a folder, in the published forms: nothing in it is real.

    python -m experiments.words_world --folder F --videos 10000 --captions 20

F/table is a feature table with the modalities object, activity and audio, and F/captions.json has
the form of MSR-VTT's videodatainfo.json, split included:
`vidembed train jemc --workdir W --corpus.table F/table --corpus.captions F/captions.json` trains on
it. With `--form msvd` the captions are F/captions.csv, as MSVD publishes them, and the split is
F/split.csv (`--corpus.split F/split.csv`). Equal options give equal files.

A scene is an object, an action and a sound, of 480 in all, so that several videos show the same
one: the rank of a caption's own video says less the more videos there are.
"""

import csv
import sys
from collections import Counter
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

from vidembed.cli.command_line import start
from vidembed.corpora.imagined_captions import (
    MADE_UP,
    WIDTHS,
    ImaginedCaptions,
    imagined_captions,
)

Form = Literal["msrvtt", "msvd"]
PAPER_WIDTHS = {"object": 2048, "activity": 1024, "audio": 1024}
"""ResNet-152, I3D and SoundNet (JEMC)."""


def planted_world(
    folder: str | Path,
    *,
    videos: int,
    captions: int,
    ambiguous: float = 0.2,
    seed: int = 0,
    noise: float = 0.3,
    silent: float = 0.1,
    paper_widths: bool = False,
    form: Form = "msrvtt",
) -> ImaginedCaptions:
    """Write FOLDER/table and FOLDER/captions.json, or captions.csv and split.csv.

    videos, captions of each, share of ambiguous captions, noise and share of silent videos: see
    `imagined_captions`. paper_widths: features of 2048, 1024 and 1024 numbers instead of 12, 10
    and 8. Raises ValueError for numbers out of range.
    """
    if videos < 3 or captions < 1 or not (0 <= ambiguous <= 1 and 0 <= silent <= 1 and noise >= 0):
        raise ValueError(
            f"videos {videos} must be 3 or more, captions {captions} 1 or more, ambiguous "
            f"{ambiguous} and silent {silent} lie in [0, 1], noise {noise} be 0 or more"
        )
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    world = imagined_captions(
        videos,
        captions=captions,
        ambiguous=ambiguous,
        noise=noise,
        silent=silent,
        clips=form == "msvd",
        widths=PAPER_WIDTHS if paper_widths else WIDTHS,
        seed=seed,
    )
    world.table.write(place / "table")
    if form == "msrvtt":
        world.write_msrvtt(place / "captions.json")
        return world
    world.write_msvd(place / "captions.csv")
    with (place / "split.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "split"])
        writer.writerows(zip(world.table.ids.astype(str), world.parts))
    return world


@dataclass(frozen=True, kw_only=True)
class WordsWorld:
    """Imagine videos with captions, and write them in the forms in which real ones come."""

    folder: str
    """Folder for the table and the captions."""
    videos: int = 1000
    """Number of videos."""
    captions: int = 20
    """Captions of each video (MSR-VTT: 20)."""
    ambiguous: float = 0.2
    """Share of the captions that leave out the object or the action, and so fit several videos."""
    noise: float = 0.3
    """Deviation of each feature, beside directions of unit length."""
    silent: float = 0.1
    """Share of the videos without audio features."""
    paper_widths: bool = False
    """Features as wide as JEMC's, 2048, 1024 and 1024, to measure time and memory; else 12, 10, 8.
    The noise of a wide feature outweighs what it shows: lower --noise to learn something."""
    form: Form = "msrvtt"
    """Published form of the captions: MSR-VTT's JSON, or MSVD's CSV."""
    seed: int = 0
    """Seed of features, captions and split."""

    def run(self) -> int:
        """Write the files and say what they hold."""
        world = planted_world(
            self.folder,
            videos=self.videos,
            captions=self.captions,
            ambiguous=self.ambiguous,
            seed=self.seed,
            noise=self.noise,
            silent=self.silent,
            paper_widths=self.paper_widths,
            form=self.form,
        )
        parts = ", ".join(f"{n:,} {part}" for part, n in sorted(Counter(world.parts).items()))
        scenes = len({tuple(aspect) for aspect in world.aspects.tolist()})
        print(f"{self.folder}: {MADE_UP}")
        print(
            f"{self.videos:,} videos ({parts}) of {scenes:,} scenes, "
            f"{int((~world.table.has('audio')).sum()):,} of them without audio; "
            f"{self.videos * self.captions:,} captions"
        )
        return 0


main = partial(start, WordsWorld, prog="python -m experiments.words_world")

if __name__ == "__main__":
    sys.exit(main())
