"""Sound as one channel at 16 kHz."""

import os
from pathlib import Path

import av
import numpy as np
import pytest

from tests.media.clips import tone, write_video, write_wave
from vidembed.media.container import MediaError
from vidembed.media.sound import sound_blocks


def read(path, trouble=None, sample_rate=16_000):
    blocks = list(sound_blocks(path, [] if trouble is None else trouble, sample_rate=sample_rate))
    samples = [block.samples for block in blocks]
    return blocks, np.concatenate(samples) if samples else np.empty(0, np.float32)


def test_channels_are_averaged_and_nothing_else_changes(tmp_path):
    rng = np.random.default_rng(0)
    waves = (rng.normal(size=(20_000, 2)) * 0.1).astype(np.float32)
    codes = np.round(waves * 32768) / 32768
    _, samples = read(write_wave(tmp_path / "noise.wav", waves))
    np.testing.assert_allclose(samples, codes.mean(1), atol=1e-6)
    blocks, half = read(tmp_path / "noise.wav", sample_rate=8000)
    assert abs(len(half) - 10_000) <= 8
    assert [b.seconds for b in blocks] == pytest.approx(
        np.cumsum([0, *(len(b.samples) for b in blocks[:-1])]) / 8000
    )


@pytest.mark.parametrize("name", ["tone.mp4", "tone.mkv"])
def test_a_tone_is_resampled_to_itself(tmp_path, name):
    path = write_video(tmp_path / name, range(50), sound=tone(2, channels=1))
    trouble = []
    _, samples = read(path, trouble)
    time = np.arange(len(samples)) / 16_000
    assert abs(len(samples) - 32_000) < 1100
    assert trouble == []
    middle = slice(4000, 28_000)
    wave = np.exp(2j * np.pi * 440 * time[middle])
    amplitude = 2 * abs((samples[middle] * wave).mean())
    assert amplitude == pytest.approx(0.25, abs=0.01)
    rest = samples[middle] - np.real(2 * (samples[middle] * wave).mean() * wave.conj())
    assert np.abs(rest).max() < 0.02


def test_a_film_without_sound_yields_nothing(tmp_path):
    assert read(write_video(tmp_path / "silent.mp4", range(5)))[0] == []


@pytest.mark.fault(
    "Video files: samples of sound are not finite",
    "they count as silence, and the file's trouble counts them",
)
def test_samples_that_are_not_finite_are_silence(tmp_path):
    samples = np.full((1, 3000), 0.5, np.float32)
    samples[0, 100:103] = np.nan, np.inf, -np.inf
    with av.open(str(tmp_path / "nan.wav"), "w") as out:
        stream = out.add_stream("pcm_f32le", 16_000, layout="mono")
        frame = av.AudioFrame.from_ndarray(samples, "flt", "mono")
        frame.sample_rate = 16_000
        out.mux(stream.encode(frame))
        out.mux(stream.encode())
    trouble = []
    _, result = read(tmp_path / "nan.wav", trouble)
    assert np.isfinite(result).all()
    assert (result[100:103] == 0).all()
    assert trouble == ["audio: 3 samples are not finite; they were set to 0"]


@pytest.mark.fault("Video files: a video is cut off, as by a download that broke")
def test_truncated_sound_gives_its_beginning(tmp_path):
    path = write_wave(tmp_path / "noise.wav", np.full((64_000, 1), 0.5, np.float32))
    path.write_bytes(path.read_bytes()[:60_000])
    trouble = []
    _, samples = read(path, trouble)
    np.testing.assert_allclose(samples, 0.5, atol=1e-4)
    assert abs(len(samples) - 30_000) < 200
    assert trouble == []
    film = write_video(
        tmp_path / "film.mp4", range(75), sound=tone(3), container_options={"movflags": "faststart"}
    )
    film.write_bytes(film.read_bytes()[: film.stat().st_size * 6 // 10])
    _, samples = read(film, trouble)
    assert 8000 < len(samples) < 40_000
    assert "of the 3.0 seconds" in trouble[-1]


def test_a_header_alone_is_refused(tmp_path):
    path = tmp_path / "empty.wav"
    write_wave(path, np.zeros((0, 1), np.float32))
    with pytest.raises(MediaError, match=r"empty\.wav: no frame of its audio"):
        read(path)


def test_sound_of_a_real_file_is_that_of_its_wav():
    folder = Path(os.environ.get("VIDEMBED_VIDEOS", "no-such-folder"))
    film = folder / "mmaction2_tests_data_test.avi"
    if not film.exists():
        pytest.skip("VIDEMBED_VIDEOS names no folder with mmaction2_tests_data_test.avi")
    _, of_film = read(film)
    _, of_wave = read(folder / "mmaction2_tests_data_test.wav")
    length = min(len(of_film), len(of_wave)) - 400
    assert np.corrcoef(of_film[:length], of_wave[:length])[0, 1] > 0.9
