"""Simulated clips: the same again, the motion they name, and a list that a corpus opens."""

import numpy as np
import pytest

from experiments.moving_shapes import MOTIONS, Shapes, main, pictures, write_shapes
from vidembed.corpora.clip_files import ClipFilesPaths
from vidembed.media.clip_frames import ClipFrames

SHAPES = Shapes(groups=2, frames=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, SHAPES)
    return folder


def tracked(frames):
    """The middle (down, across) of the shape, and its area, in each frame."""
    values = frames.astype(float)
    apart = np.abs(values - values[:, :1, :1]).sum(-1) > 60
    places = [np.argwhere(mask) for mask in apart]
    return np.array([of.mean(0) for of in places]), np.array([len(of) for of in places])


@pytest.mark.parametrize("motion", MOTIONS)
def test_the_decoded_file_shows_the_motion(motion, folder):
    taken = ClipFrames(rate=SHAPES.rate, height=48, width=64, fit="squeeze", longest_seconds=9)
    for group in range(2):
        frames = taken.read(folder / motion / f"{motion}_g{group:03d}.mp4")
        assert len(frames) == SHAPES.frames
        drawn = np.stack(list(pictures(SHAPES, group, motion)))
        assert np.abs(frames.astype(float) - drawn).mean() < 6
        middles, areas = tracked(frames)
        down, across = middles[-1] - middles[0]
        if motion in ("grows", "shrinks"):
            assert (np.diff(areas) > 0).all() == (motion == "grows")
            assert np.hypot(down, across) < 2
        elif motion.endswith("clockwise"):
            ways = np.diff(middles, axis=0)
            turns = ways[:-1, 1] * ways[1:, 0] - ways[:-1, 0] * ways[1:, 1]
            assert (np.sign(turns) == (1 if motion == "clockwise" else -1)).all()
        else:
            expected = {"left": (0, -1), "right": (0, 1), "up": (-1, 0), "down": (1, 0)}[motion]
            moved = np.array([down, across]) / np.hypot(down, across)
            np.testing.assert_allclose(moved, expected, atol=0.05)


def test_a_still_frame_shows_the_group_and_not_the_class(folder):
    taken = ClipFrames(rate=SHAPES.rate, height=48, width=64, fit="squeeze", longest_seconds=9)
    corners = [
        [taken.read(folder / m / f"{m}_g{g:03d}.mp4")[0, 0, 0].astype(int) for m in MOTIONS]
        for g in range(2)
    ]
    assert np.abs(np.diff(corners, axis=1)).max() < 6
    assert np.abs(np.subtract(*corners)).max() > 10


def test_the_same_options_make_the_same_files_and_a_corpus_opens_them(folder, tmp_path, capsys):
    main(tmp_path, SHAPES)
    assert "16 simulated clips of 8 classes" in capsys.readouterr().out
    for file in sorted(folder.rglob("*.*")):
        assert (tmp_path / file.relative_to(folder)).read_bytes() == file.read_bytes()
    corpus = ClipFilesPaths(folder=str(folder), clips=str(folder / "clips.csv")).open()
    assert corpus.simulated
    assert len(corpus) == 16
    assert {*corpus.labels.names} == {*MOTIONS}
    assert corpus.is_train.sum() == 8
    other = next(pictures(Shapes(groups=2, frames=8, seed=1), 0, "left"))
    assert (other != next(pictures(SHAPES, 0, "left"))).any()


@pytest.mark.parametrize("changes", [{"groups": 1}, {"frames": 1}, {"height": 8}, {"width": 49}])
def test_impossible_options_are_refused(changes):
    with pytest.raises(ValueError, match="must be"):
        Shapes(**changes)
