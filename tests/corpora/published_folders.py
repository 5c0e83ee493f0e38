"""Folders of simulated clips in the forms of Kinetics-400, UCF101 and HMDB51."""

import shutil

from experiments.moving_shapes import MOTIONS, Shapes, write_shapes

GROUPS = 3
"""Sources of each class; the last one is for testing."""


def write_kinetics(folder, seed=0):
    """Options of a corpus: all eight classes."""
    rows = {"train": [], "val": []}
    for motion, group, file in _clips(folder, seed, MOTIONS):
        part = "val" if group == GROUPS - 1 else "train"
        youtube = f"{MOTIONS.index(motion)}{group}".ljust(11, "x")
        name = f"{youtube}_{group:06d}_{group + 10:06d}.mp4"
        _move(file, folder / "videos" / part / motion / name)
        rows[part].append(f"{motion},{youtube},{group},{group + 10},{part}")
    for part, of_part in rows.items():
        header = "label,youtube_id,time_start,time_end,split"
        _write(folder / "lists" / f"{part}.csv", [header, *of_part])
    return _options(folder, "kinetics")


def write_ucf101(folder, seed=1):
    """Options of a corpus: the four directions."""
    rows = {"train": [], "test": []}
    for motion, group, file in _clips(folder, seed, MOTIONS[:4]):
        name = f"{motion.title()}/v_{motion.title()}_g{group + 1:02d}_c01.avi"
        _move(file, folder / "videos" / name)
        number = f" {1 + MOTIONS.index(motion)}"
        rows["test" if group == GROUPS - 1 else "train"].append(name + number)
    _write(folder / "lists" / "trainlist01.txt", rows["train"])
    _write(folder / "lists" / "testlist01.txt", [row.split(" ")[0] for row in rows["test"]])
    return _options(folder, "ucf101")


def write_hmdb51(folder, seed=2):
    """Options of a corpus: rotations and sizes."""
    rows = {motion: [] for motion in MOTIONS[4:]}
    for motion, group, file in _clips(folder, seed, MOTIONS[4:]):
        name = f"film{group}_{motion}_f_cm_np1_fr_med_{group}.avi"
        _move(file, folder / "videos" / motion / name)
        rows[motion].append(f"{name} {2 if group == GROUPS - 1 else 1} ")
    for motion, of_class in rows.items():
        _write(folder / "lists" / f"{motion}_test_split1.txt", of_class)
    return _options(folder, "hmdb51")


def _clips(folder, seed, motions):
    made = folder / "made"
    write_shapes(made, Shapes(groups=GROUPS, frames=12, seed=seed))
    for motion in motions:
        for group in range(GROUPS):
            yield motion, group, made / motion / f"{motion}_g{group:03d}.mp4"


def _move(file, place):
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(file, place)


def _write(path, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def _options(folder, form):
    paths = ["--corpus.folder", str(folder / "videos"), "--corpus.clips", str(folder / "lists")]
    return [*paths, "--corpus.form", form]
