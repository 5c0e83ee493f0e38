"""What backbones take of a file: blocks of frames, clips and windows."""

import dataclasses
import json

import numpy as np
import pytest

from tests.media.clips import number_of, tone, write_video, write_wave
from vidembed.media import inputs
from vidembed.media.inputs import BLOCK, ClipInput, FrameInput, LogMelInput, WaveformInput
from vidembed.media.log_mel import MUSICNN, VGGISH
from vidembed.media.sound import sound_blocks

SMALL = {"height": 16, "width": 32}
ALL = (
    FrameInput(**SMALL),
    ClipInput(**SMALL, frames=4, stride=2, rate=10.0),
    LogMelInput(),
    LogMelInput(log_mel=MUSICNN, window_frames=187, hop_frames=60),
    WaveformInput(seconds=0.5, hop_seconds=0.2),
    WaveformInput(seconds=0.1, hop_seconds=0.25),
)


def read(value, path):
    trouble = []
    blocks = list(value.blocks(path, trouble))
    assert trouble == []
    if not blocks:
        return np.empty(0), np.empty(0)
    return np.concatenate([b.times for b in blocks]), np.concatenate([b.values for b in blocks])


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    folder = tmp_path_factory.mktemp("film")
    return write_video(folder / "film.mp4", range(200), sound=tone(8, channels=1))


def test_frames_come_in_blocks(film):
    blocks = list(FrameInput(**SMALL, rate=12.5).blocks(film, []))
    assert [len(block.times) for block in blocks] == [BLOCK, 100 - BLOCK]
    assert all(block.values.dtype == np.uint8 for block in blocks)
    times, values = read(FrameInput(**SMALL, rate=12.5), film)
    np.testing.assert_allclose(times, np.arange(100) / 12.5)
    assert [number_of(image) for image in values] == list(range(0, 200, 2))


def test_clips_are_frames_at_a_stride(film):
    value = ClipInput(**SMALL, frames=6, stride=3, rate=25.0)
    blocks = list(value.blocks(film, []))
    assert blocks[0].values.shape == (BLOCK // 6, 6, 16, 32, 3)
    times, clips = read(value, film)
    numbers = [[number_of(image) for image in clip] for clip in clips]
    assert numbers == [[18 * clip + 3 * i for i in range(6)] for clip in range(11)]
    np.testing.assert_allclose(times, np.arange(11) * 18 / 25)


def test_a_film_shorter_than_a_clip_repeats_its_last_frame(tmp_path):
    path = write_video(tmp_path / "film.mp4", range(3))
    _, clips = read(ClipInput(**SMALL, frames=6, stride=1), path)
    assert [number_of(image) for image in clips[0]] == [0, 1, 2, 2, 2, 2]
    assert len(clips) == 1


@pytest.mark.parametrize("value", ALL[2:4])
def test_log_mel_windows_are_those_of_the_whole_sound(film, value):
    whole = np.concatenate([block.samples for block in sound_blocks(film, [])])
    frames = value.log_mel(whole)
    starts = range(0, len(frames) - value.window_frames + 1, value.hop_frames)
    times, windows = read(value, film)
    assert len(windows) == len(starts) > 3
    for time, window, start in zip(times, windows, starts):
        expected = frames[start : start + value.window_frames]
        np.testing.assert_allclose(window, expected, rtol=1e-4, atol=1e-4)
        assert time == pytest.approx(start * value.log_mel.hop_samples / 16_000)


@pytest.mark.parametrize("value", ALL[4:])
def test_waveform_windows_are_those_of_the_whole_sound(film, value):
    whole = np.concatenate([block.samples for block in sound_blocks(film, [])])
    starts = range(0, len(whole) - value.samples + 1, value.hop_samples)
    times, windows = read(value, film)
    expected = [whole[start : start + value.samples] for start in starts]
    np.testing.assert_array_equal(windows, expected)
    np.testing.assert_allclose(times, np.array(starts) / 16_000)


@pytest.mark.parametrize("value", ALL[2:])
def test_sound_shorter_than_a_window_is_followed_by_silence(tmp_path, value):
    samples = np.full((900, 1), 0.5, np.float32)
    times, windows = read(value, write_wave(tmp_path / "short.wav", samples))
    assert times.tolist() == [0.0]
    assert len(windows) == 1
    if isinstance(value, WaveformInput):
        assert (windows[0, :900] == 0.5).all()
        assert not windows[0, 900:].any()
    else:
        assert windows.shape == (1, value.window_frames, value.log_mel.bands)


def test_a_window_of_96_frames_covers_960_milliseconds(tmp_path):
    samples = np.zeros((16_000 * 5, 1), np.float32)
    times, windows = read(LogMelInput(), write_wave(tmp_path / "silence.wav", samples))
    np.testing.assert_allclose(times, np.arange(5) * 0.96)
    np.testing.assert_allclose(windows, np.log(0.01), rtol=1e-6)
    hundred, _ = read(LogMelInput(window_frames=100, hop_frames=96), tmp_path / "silence.wav")
    assert len(hundred) == 5


@pytest.mark.fault(
    "Video files: a film has no sound, or a wav is given as a video",
    "that input yields nothing, so that its modality is missing; the others are read",
)
def test_a_missing_stream_is_a_missing_modality(tmp_path):
    silent = write_video(tmp_path / "silent.mp4", range(30))
    wave = write_wave(tmp_path / "sound.wav", np.zeros((20_000, 1), np.float32))
    for value in ALL:
        is_picture = isinstance(value, (FrameInput, ClipInput))
        assert bool(len(read(value, silent)[0])) == is_picture
        assert bool(len(read(value, wave)[0])) != is_picture


def test_memory_does_not_grow_with_the_file(film, monkeypatch):
    monkeypatch.setattr(inputs, "BLOCK", 2)
    for value in ALL:
        for block in value.blocks(film, []):
            assert len(block.times) <= 2


def test_inputs_are_values_that_json_can_hold():
    for value in ALL:
        fields = json.loads(json.dumps(dataclasses.asdict(value)))
        if isinstance(value, LogMelInput):
            fields["log_mel"] = type(VGGISH)(**fields["log_mel"])
        assert type(value)(**fields) == value
        assert hash(value) == hash(type(value)(**fields))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: FrameInput(rate=0.0), "rate is 0.0"),
        (lambda: FrameInput(rate=float("nan")), "rate is nan"),
        (lambda: FrameInput(height=0), "at least 1 pixel"),
        (lambda: FrameInput(fit="stretch"), "'squeeze' or 'crop'"),
        (lambda: ClipInput(stride=0), "stride"),
        (lambda: LogMelInput(window_frames=0), "window_frames"),
        (lambda: WaveformInput(seconds=0.0), "at least one sample"),
    ],
)
def test_impossible_options_are_refused(make, words):
    with pytest.raises(ValueError, match=words):
        make()
