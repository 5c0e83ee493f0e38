"""Decoding in worker processes: equal to decoding here, and each fault costs one file."""

import os
import signal
import subprocess
import sys
import time
from multiprocessing import active_children
from pathlib import Path

import numpy as np
import pytest

from tests.media.clips import tone, write_video, write_wave
from tests.media.told import Told, files
from vidembed.media.inputs import FrameInput, LogMelInput
from vidembed.media.videos import VideoFile
from vidembed.media.worker import BLOCKS_AHEAD
from vidembed.media.workers import decoded

ROOT = Path(__file__).resolve().parents[2]
INPUTS = {"visual": FrameInput(height=16, width=32, rate=20.0), "audio": LogMelInput()}


def read(chosen, inputs, **options):
    """{id: (blocks, trouble, error)}"""
    result = {}
    for item in decoded(chosen, inputs, **options):
        blocks = list(item.blocks())
        result[item.file.id] = blocks, item.trouble, item.error
        assert item.decode_seconds >= 0
    return result


def test_workers_decode_what_this_process_does(tmp_path):
    chosen = []
    for number in range(3):
        path = write_video(
            tmp_path / f"{number}.mp4", range(90 + number), sound=tone(2.5, channels=1)
        )
        chosen.append(VideoFile(str(number), str(path)))
    wave = write_wave(tmp_path / "wave.wav", np.zeros((20_000, 1), np.float32))
    (tmp_path / "text.mp4").write_text("words " * 50)
    chosen += [VideoFile("wave", str(wave)), VideoFile("text", str(tmp_path / "text.mp4"))]
    result = read(chosen, INPUTS, workers=2)
    assert result.keys() == {video.id for video in chosen}
    for video in chosen[:-1]:
        blocks, trouble, error = result[video.id]
        expected = [
            (name, b) for name, value in INPUTS.items() for b in value.blocks(video.path, [])
        ]
        assert [name for name, _ in blocks] == [name for name, _ in expected]
        for (_, block), (_, other) in zip(blocks, expected):
            np.testing.assert_array_equal(block.times, other.times)
            np.testing.assert_allclose(block.values, other.values, rtol=1e-5, atol=1e-5)
            assert block.values.dtype == other.values.dtype
        assert (trouble, error) == ([], None)
    assert [name for name, _ in result["wave"][0]] == ["audio"]
    assert "text.mp4: is no media file" in result["text"][2]
    assert active_children() == []


@pytest.mark.fault(
    "Video files: a decoder crashes, is killed, hangs or has a bug",
    "that file is named with what happened (signal, exit code, seconds of silence, exception); a "
    "new process decodes the others",
)
def test_a_fault_costs_one_file(tmp_path):
    names = ("a", "killed", "b", "crash", "hang", "exit", "c", "bug", "d")
    result = read(files(tmp_path, *names), {"x": Told()}, workers=2, patience_seconds=1.5)
    errors = {name: error for name, (_, _, error) in result.items()}
    assert [errors[name] for name in "abcd"] == [None] * 4
    for name, words in {
        "killed": "SIGKILL, perhaps for lack of memory",
        "crash": "SIGSEGV",
        "exit": "exit code 3",
        "hang": "nothing of it was decoded for 1.5 seconds",
        "bug": "KeyError: 'what' (told.py",
    }.items():
        assert words in errors[name]
        assert str(tmp_path / name) in errors[name]
    for name in ("a", "b", "c", "d", "bug"):
        ((_, block),) = result[name][0]
        assert block.values.tolist() == [[len(name)] * 3]
    assert active_children() == []


@pytest.mark.long
def test_a_slow_consumer_neither_fills_memory_nor_counts_as_silence(tmp_path):
    chosen = files(tmp_path, "long", "a")
    blocks = 0
    for item in decoded(chosen, {"x": Told()}, workers=1, patience_seconds=1.0):
        for number, _ in enumerate(item.blocks()):
            blocks += 1
            if item.file.id == "long" and number == 1:
                time.sleep(2.5)
                ahead = int((tmp_path / "long").read_text()) - number
                assert ahead <= BLOCKS_AHEAD + 3
        assert item.error is None
    assert blocks == 41


def test_blocks_that_are_not_taken_are_dropped(tmp_path):
    ids = [item.file.id for item in decoded(files(tmp_path, "long", "a"), {"x": Told()}, workers=1)]
    assert ids == ["long", "a"]


@pytest.mark.fault(
    "Video files: the program is interrupted or fails while files are decoded",
    "no decoding process stays behind",
)
def test_an_exception_leaves_no_process_behind(tmp_path):
    def fail():
        for item in decoded(files(tmp_path, "long", "a", "b"), {"x": Told()}, workers=2):
            next(item.blocks())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    deadline = time.monotonic() + 10
    while active_children() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert active_children() == []


PROGRAM = """
import signal
import sys
from pathlib import Path
from tests.media.told import Told, files
from vidembed.media.workers import decoded
from multiprocessing import active_children
if __name__ == "__main__":
    # Under a job in the background it would be ignored from the start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for item in decoded(files(Path(sys.argv[1]), "hang", "long"), {"x": Told()}, workers=2):
        next(item.blocks())
        print(*(child.pid for child in active_children()), flush=True)
        list(item.blocks())
"""


@pytest.mark.fault("Video files: the program is interrupted or fails while files are decoded")
@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGKILL, marks=pytest.mark.long)]
)
def test_a_signal_leaves_no_process_behind(tmp_path, number):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM)
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path)], stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
        start_new_session=True,
    )  # fmt: skip
    children = [int(word) for word in process.stdout.readline().split()]
    assert len(children) == 2
    # As Ctrl-C in a terminal does: the whole group gets it.
    (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
    _, errors = process.communicate(timeout=30)
    assert process.returncode != 0
    assert errors.count("Traceback") <= 1, errors
    deadline = time.monotonic() + 10
    waiting = children
    while waiting and time.monotonic() < deadline:
        waiting = [child for child in waiting if _lives(child)]
        time.sleep(0.05)
    assert waiting == []


def _lives(pid):
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False


@pytest.mark.long
def test_workers_that_cannot_start_are_no_fault_of_the_files(tmp_path):
    script = tmp_path / "program.py"
    script.write_text(PROGRAM.replace('if __name__ == "__main__":', "if True:"))
    done = subprocess.run(
        [sys.executable, str(script), str(tmp_path)], capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60,
    )  # fmt: skip
    assert done.returncode
    assert "a decoding process did not start" in done.stderr


def test_impossible_options_are_refused(tmp_path):
    for options in ({"workers": 0}, {"workers": 1, "patience_seconds": 0}):
        with pytest.raises(ValueError, match="at least 1"):
            next(decoded([], INPUTS, **options))
    with pytest.raises(ValueError, match="no inputs"):
        next(decoded([], {}, workers=1))


def test_remote_files_are_copied_once(bucket, tmp_path):
    path = write_video(tmp_path / "film.mp4", range(30))
    remote = bucket.parent / "film.mp4"
    remote.write_bytes(path.read_bytes())
    (block,) = FrameInput(height=16, width=32).blocks(str(remote), [])
    (expected,) = FrameInput(height=16, width=32).blocks(path, [])
    np.testing.assert_array_equal(block.values, expected.values)
