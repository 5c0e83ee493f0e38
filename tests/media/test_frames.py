"""Frames by presentation time, against the numbers that the test films show."""

import json
import os
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from tests.media.clips import HEIGHT, WIDTH, number_of, picture, turn, write_video
from vidembed.media import frames
from vidembed.media.container import MediaError
from vidembed.media.frames import exact_rate, sampled_frames

FOLDER = "VIDEMBED_VIDEOS"


def sampled(path, rate=1.0, trouble=None, height=HEIGHT, width=WIDTH, fit="squeeze"):
    trouble = [] if trouble is None else trouble
    return list(
        sampled_frames(path, trouble, rate=exact_rate(rate), height=height, width=width, fit=fit)
    )


def shown_at(stamps, end, rate):
    """Numbers of the frames shown at k / rate, from the sorted times of all frames: a loop."""
    numbers, k = [], 0
    while k == 0 or stamps[0] + k / exact_rate(rate) < end:
        time = stamps[0] + k / exact_rate(rate)
        numbers.append(max(i for i, stamp in enumerate(stamps) if stamp <= time))
        k += 1
    return numbers


CONSTANT = list(range(0, 60))
VARIABLE = [0, 1, 2, 10, 11, 30, 31, 32, 50, 90, 91, 120]
LATE = [40 + stamp for stamp in VARIABLE]


@pytest.mark.parametrize("stamps", [CONSTANT, VARIABLE, LATE], ids=["constant", "variable", "late"])
@pytest.mark.parametrize("name", ["film.mp4", "film.mkv"])
def test_frames_are_those_shown_at_each_time(tmp_path, stamps, name):
    path = write_video(tmp_path / name, stamps)
    with av.open(str(path)) as container:
        decoded = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    assert np.diff(decoded).min() > 0
    times = [Fraction(stamp, 25) for stamp in stamps]  # mkv rounds them to milliseconds
    for rate in (0.7, 1.0, 5.0, 29.97, 60.0):
        trouble = []
        result = sampled(path, rate, trouble)
        shown = [number_of(frame.image) for frame in result]
        last = len(times) and times[-1] + Fraction(1, 25)
        expected = shown_at(times, last, rate)
        # mp4 states durations of frames, which the last one keeps; others repeat the last step.
        assert shown[: len(expected)] == expected[: len(shown)]
        assert len(shown) >= len(expected)
        assert set(shown[len(expected) :]) <= {len(stamps) - 1}
        zero = min(Fraction(0), times[0])
        steps = [frame.seconds - result[0].seconds for frame in result]
        np.testing.assert_allclose(steps, np.arange(len(result)) / rate, atol=1e-9)
        of_frames = [float(times[number] - zero) for number in shown]
        lead = of_frames[0] - result[0].shown_seconds
        np.testing.assert_allclose(
            [frame.shown_seconds + lead for frame in result], of_frames, atol=2e-3
        )
        assert trouble == []


def test_equal_pictures_are_scaled_once(tmp_path):
    path = write_video(tmp_path / "slow.mp4", [0, 50])
    images = [frame.image for frame in sampled(path, rate=10.0)]
    assert len({id(image) for image in images}) == 2 < len(images)


@pytest.mark.parametrize("clockwise", range(4))
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_display_matrix_turns_the_frames(tmp_path, clockwise, mirrored):
    upright = sampled(write_video(tmp_path / "film.mp4", range(3)))[0].image
    matrix = np.linalg.matrix_power(np.array([[0, 1], [-1, 0]]), clockwise)  # x, y right and down
    if mirrored:
        matrix = np.diag([-1, 1]) @ matrix
    path = turn(tmp_path / "film.mp4", matrix.tolist())
    expected = np.rot90(upright[:, ::-1] if mirrored else upright, -clockwise)
    height, width = expected.shape[:2]
    result = sampled(path, height=height, width=width)[0].image
    np.testing.assert_array_equal(result, expected)
    if not mirrored:
        with av.open(str(path)) as container:  # PyAV's angle is counterclockwise
            frame = next(container.decode(video=0))
        np.testing.assert_array_equal(result, np.rot90(upright, frame.rotation // 90))


def test_frames_are_scaled_by_their_areas_and_have_their_colours(tmp_path):
    path = write_video(tmp_path / "film.mp4", [0], options={"crf": "1"}, size=(256, 512))
    image = sampled(path, height=64, width=128)[0].image.astype(int)
    exact = picture(0, 256, 512).reshape(64, 4, 128, 4, 3).mean((1, 3))
    assert np.abs(image - exact).mean() < 2
    np.testing.assert_allclose(image[60, 20], (255, 128, 0), atol=6)
    np.testing.assert_allclose(image[60, 100], (0, 0, 255), atol=6)
    tagged = {"crf": "1", "colorspace": "bt709", "color_range": "tv"}
    path = write_video(tmp_path / "white.mp4", range(256), options=tagged)
    np.testing.assert_allclose(sampled(path, rate=25.0)[255].image[10], 255, atol=6)


@pytest.mark.parametrize("aspect", [None, Fraction(1, 2)])
def test_crop_cuts_the_middle_of_the_shape_shown(tmp_path, aspect):
    path = write_video(tmp_path / "film.mp4", [0], size=(64, 256), aspect=aspect)
    whole = sampled(path, height=64, width=128 if aspect else 256)[0].image
    image = sampled(path, height=64, width=64, fit="crop")[0].image
    left = (whole.shape[1] - 64) // 2
    np.testing.assert_array_equal(image, whole[:, left : left + 64])
    tall = sampled(path, height=100, width=20, fit="crop")[0].image
    assert tall.shape == (100, 20, 3)


def test_the_best_of_several_streams_is_taken_and_no_cover(tmp_path):
    path = write_video(tmp_path / "two.mkv", range(10), streams=2)
    with av.open(str(path)) as container:
        best = container.streams.best("video").index
    rows = sampled(path, rate=25.0)
    assert [number_of(row.image) for row in rows] == list(range(10))
    assert best in (0, 1)
    # A picture attached to sound is no video.
    cover = tmp_path / "cover.mp4"
    with av.open(str(cover), "w") as out:
        picture_stream = out.add_stream("mjpeg", rate=1)
        picture_stream.height, picture_stream.width = HEIGHT, WIDTH
        picture_stream.pix_fmt = "yuvj420p"
        picture_stream.disposition = av.stream.Disposition.attached_pic
        audio = out.add_stream("aac", 16000, layout="mono")
        out.mux(picture_stream.encode(av.VideoFrame.from_ndarray(picture(3))))
        out.mux(picture_stream.encode())
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.sample_rate = 16000
        out.mux(audio.encode(sound))
        out.mux(audio.encode())
    assert sampled(cover) == []


def test_frames_without_times_follow_the_frame_rate(tmp_path):
    bare = write_video(tmp_path / "film.h264", range(30), options={"bf": "0"})
    shown = [number_of(frame.image) for frame in sampled(bare, rate=5.0)]
    assert shown == [0, 5, 10, 15, 20, 25]


def clock(stamps, duration=0):
    stream = SimpleNamespace(average_rate=25, guessed_rate=25, time_base=Fraction(1, 100))
    made = frames._Clock(stream)
    given = [SimpleNamespace(pts=pts, time_base=None, duration=duration) for pts in stamps]
    return [float(made.time(frame)) for frame in given], made, given[-1]


@pytest.mark.fault(
    "Video files: times of frames are missing, step back or jump by hours",
    "the frames follow each other at their last distance, and the file's trouble counts the jumps",
)
def test_times_that_step_back_or_jump_are_joined():
    hours = 100 * 3600 * 50
    assert clock([0, 4, 8, None, None])[0] == [0, 0.04, 0.08, 0.12, 0.16]
    times, made, _ = clock([0, 4, 8, hours, hours + 4, 12, 16])
    np.testing.assert_allclose(times, [0, 0.04, 0.08, 0.12, 0.16, 0.2, 0.24])
    assert made.trouble == ["video: times jump at 2 places, which were joined"]
    # A small step back stands still; a still picture of minutes is no jump.
    times, made, last = clock([0, 4, 2, 8, 8 + 30_000], duration=hours)
    np.testing.assert_allclose(times, [0, 0.04, 0.04, 0.08, 300.08])
    assert made.trouble == []
    assert made.last_duration(last) == 300


@pytest.mark.fault(
    "Video files: a video is cut off, as by a download that broke",
    "what can be decoded counts; the file's trouble says where reading ended, or how much is "
    "missing of the stated duration",
)
@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.avi", "film.ts"])
def test_a_truncated_file_gives_its_beginning(tmp_path, name):
    front = {"movflags": "faststart"} if name.endswith("mp4") else {}
    options = {"bf": "0"} if name.endswith("avi") else None
    path = write_video(tmp_path / name, range(250), options=options, container_options=front)
    whole = [number_of(frame.image) for frame in sampled(path, rate=5.0)]
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    trouble = []
    part = [number_of(frame.image) for frame in sampled(path, 5.0, trouble)]
    assert 20 <= len(part) < len(whole)
    assert part[:-1] == whole[: len(part) - 1]
    assert trouble or name.endswith("ts"), "a transport stream states no duration"


@pytest.mark.fault(
    "Video files: bytes of a video are damaged",
    "what can be decoded counts; the file's trouble counts damaged frames and packets",
)
def test_flipped_bytes_cost_a_few_frames(tmp_path):
    path = write_video(
        tmp_path / "film.mp4", range(100), container_options={"movflags": "faststart"}
    )
    whole = [number_of(frame.image) for frame in sampled(path, rate=5.0)]
    data, troubled, right = path.read_bytes(), 0, []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        broken = np.frombuffer(data, np.uint8).copy()
        body = data.index(b"mdat") + 800
        at = rng.integers(body, len(data), 2)
        broken[at] ^= rng.integers(1, 256, 2).astype(np.uint8)
        path.write_bytes(broken.tobytes())
        trouble = []
        part = [number_of(frame.image) for frame in sampled(path, 5.0, trouble)]
        troubled += bool(trouble)
        right.append(np.mean([a == b for a, b in zip(part, whole)]))
        assert len(part) >= len(whole) / 2
    assert np.mean(right) > 0.6
    assert troubled > 9


@pytest.mark.fault(
    "Video files: a damaged header, playlist, text, folder, empty or missing file is given",
    "MediaError with the path, and what was found instead; files that a playlist names stay closed",
)
def test_no_video_is_refused_by_name(tmp_path):
    contents = {
        "empty.mp4": (b"", "is empty"),
        "page.mp4": (b"<!doctype html><p>404", "a web page"),
        "notes.txt": (b"words\n" * 30, "text"),
        "noise.mp4": (np.random.default_rng(0).bytes(5000), "is no media file"),
        "list.ffconcat": (b"ffconcat version 1.0\nfile film.ts\n", "text"),
        "list.m3u8": (b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfilm.ts\n", "text"),
    }
    write_video(tmp_path / "film.ts", range(5))
    for name, (data, words) in contents.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(MediaError, match=words) as refused:
            sampled(tmp_path / name)
        assert str(tmp_path / name) in str(refused.value)
    for path, words in ((tmp_path, "is a folder"), (tmp_path / "no.mp4", "no such file")):
        with pytest.raises(MediaError, match=words):
            sampled(path)
    film = write_video(tmp_path / "film.mp4", range(5))
    data = film.read_bytes()
    film.write_bytes(data.replace(b"avc1", b"xyz1"))
    with pytest.raises(MediaError, match=r"film\.mp4: no frame of its video"):
        sampled(film)


def test_one_frame_is_a_video(tmp_path):
    path = write_video(tmp_path / "one.mp4", [0])
    (frame,) = sampled(path)
    assert (number_of(frame.image), frame.seconds) == (0, 0.0)


@pytest.mark.parametrize("rate", [1.0, 4.0, 24.0])
def test_a_real_film_has_the_frames_of_a_published_list(rate):
    folder = Path(os.environ.get(FOLDER, "no-such-folder"))
    film = folder / "torchcodec_nasa_13013.mp4"
    if not film.exists():
        pytest.skip(f"{FOLDER} names no folder with torchcodec_nasa_13013.mp4")
    rows = json.loads((folder / "torchcodec_nasa_13013.stream3.all_frames_info.json").read_text())
    begins = np.array([float(row["pts_time"]) for row in rows])
    end = begins[-1] + float(rows[-1]["duration_time"])
    result = sampled(film, rate)
    times = np.arange(len(result)) / rate
    expected = begins[np.searchsorted(begins, times + 1e-6, "right") - 1]
    np.testing.assert_allclose([frame.shown_seconds for frame in result], expected, atol=1e-5)
    assert times[-1] < end <= times[-1] + 1 / rate


@pytest.mark.long
def test_frames_of_8k_are_scaled_one_at_a_time(tmp_path):
    path = write_video(
        tmp_path / "8k.mp4", range(3), time_base=Fraction(1), size=(4320, 7680),
        options={"preset": "ultrafast", "crf": "40"},
    )  # fmt: skip
    images = [of.image for of in sampled_frames(path, [], rate=Fraction(1), height=64, width=128)]
    assert [number_of(image) for image in images] == [0, 1, 2]
