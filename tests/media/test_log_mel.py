"""Log-mel spectrograms against definitions written out in loops."""

import math

import numpy as np
import pytest

from vidembed.media.log_mel import MUSICNN, VGGISH, LogMel


def hertz_of(mel, scale):
    if scale == "htk":
        return 700 * (math.exp(mel / 1127) - 1)
    return mel * 200 / 3 if mel < 15 else 1000 * math.exp((mel - 15) * math.log(6.4) / 27)


def mel_of(hertz, scale):
    if scale == "htk":
        return 1127 * math.log(1 + hertz / 700)
    return hertz * 3 / 200 if hertz < 1000 else 15 + math.log(hertz / 1000) / math.log(6.4) * 27


def weight(front, hertz, band):
    """The weight of a frequency in a band: a triangle."""
    low, high = mel_of(front.low_hz, front.scale), mel_of(front.high_hz, front.scale)
    mels = [low + (high - low) * (band + i) / (front.bands + 1) for i in range(3)]
    corners = [hertz_of(mel, front.scale) for mel in mels]
    if front.slopes == "mel":
        left, top, right, at = *mels, mel_of(hertz, front.scale)
    else:
        left, top, right, at = *corners, hertz
    rise, fall = (at - left) / (top - left), (right - at) / (right - top)
    area = 2 / (corners[2] - corners[0]) if front.equal_area else 1
    return max(0, min(rise, fall)) * area


def slow(front, waveform):
    """The frames by the definition: loops and an explicit Fourier sum."""
    waveform = [float(x) for x in waveform]
    if front.padding != "none":
        half, n = front.fft_samples // 2, len(waveform)
        left = [waveform[i] for i in range(half, 0, -1)]
        right = [waveform[n - 2 - i] for i in range(half)]
        if front.padding == "zeros":
            left = right = [0.0] * half
        waveform = left + waveform + right
    span = front.frame_samples if front.padding == "none" else front.fft_samples
    offset = (span - front.frame_samples) // 2
    frequencies = front.fft_samples // 2 + 1
    angles = np.arange(front.frame_samples)
    rows = []
    for start in range(0, len(waveform) - span + 1, front.hop_samples):
        part = waveform[start + offset : start + offset + front.frame_samples]
        hann = [
            0.5 - 0.5 * math.cos(2 * math.pi * i / front.frame_samples)
            for i in range(front.frame_samples)
        ]
        weighted = np.array([x * w for x, w in zip(part, hann)])
        powers = []
        for k in range(frequencies):
            turn = 2 * math.pi * k * angles / front.fft_samples
            real, imaginary = (weighted * np.cos(turn)).sum(), (weighted * np.sin(turn)).sum()
            powers.append(math.hypot(real, imaginary) ** front.power)
        row = []
        for band in range(front.bands):
            total = sum(
                power * weight(front, k * front.sample_rate / front.fft_samples, band)
                for k, power in enumerate(powers)
            )
            natural = front.compression == "natural"
            row.append(math.log(total + 0.01) if natural else math.log10(10_000 * total + 1))
        rows.append(row)
    return np.array(rows)


OTHER = LogMel(
    sample_rate=8000, frame_samples=100, hop_samples=33, fft_samples=128, bands=10, low_hz=50,
    high_hz=4000, scale="slaney", slopes="mel", equal_area=True, padding="zeros", power=2,
)  # fmt: skip
FRONTS = {"vggish": VGGISH, "musicnn": MUSICNN, "other": OTHER}


def sound(samples):
    rng = np.random.default_rng(3)
    time = np.arange(samples) / 16_000
    return (0.3 * np.sin(2 * np.pi * 800 * time) + 0.05 * rng.normal(size=samples)).astype("f4")


@pytest.mark.parametrize("front", FRONTS.values(), ids=FRONTS.keys())
def test_frames_equal_the_written_out_definition(front):
    waveform = sound(1100)
    result = front(waveform)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, slow(front, waveform), rtol=2e-4, atol=2e-4)


@pytest.mark.parametrize("front", FRONTS.values(), ids=FRONTS.keys())
@pytest.mark.parametrize("samples", [0, 1, 100, 256, 257, 511, 512, 4000])
def test_frames_do_not_depend_on_how_the_sound_is_cut(front, samples):
    waveform = sound(samples)
    whole = front(waveform)
    if samples:
        centred = 1 + samples // front.hop_samples
        uncentred = max(0, 1 + (samples - front.frame_samples) // front.hop_samples)
        assert len(whole) == (uncentred if front.padding == "none" else centred)
    for seed in range(4):
        cuts = np.sort(np.random.default_rng(seed).integers(0, samples + 1, 3 + 4 * seed))
        parts = list(front.frames(np.split(waveform, cuts)))
        streamed = np.concatenate(parts) if parts else np.empty((0, front.bands), np.float32)
        np.testing.assert_allclose(streamed, whole, rtol=1e-5, atol=1e-5)


def test_the_bands_are_those_of_the_published_front_ends():
    # VGGish: 64 bands of HTK mel between 125 and 7500 Hz; its centres by the formula.
    low, high = 1127 * math.log(1 + 125 / 700), 1127 * math.log(1 + 7500 / 700)
    centres = 700 * (np.exp((low + (high - low) * np.arange(1, 65) / 65) / 1127) - 1)
    bins = np.arange(257) * 31.25
    at_peak = bins[VGGISH.matrix.argmax(0)]
    assert np.abs(at_peak - centres).max() <= 31.25
    assert not VGGISH.matrix[bins <= 125].any()
    assert not VGGISH.matrix[bins >= 7500].any()
    # Slaney: linear to 1 kHz, 200/3 Hz per mel; triangles of equal area in Hz.
    matrix = MUSICNN.matrix.astype(float)
    assert mel_of(1000, "slaney") == 15
    assert hertz_of(42, "slaney") == pytest.approx(6400)
    wide = matrix[:, 60:]
    np.testing.assert_allclose(wide.sum(0) * 31.25, 1, atol=0.05)
    assert (matrix >= 0).all()
    assert matrix[0].sum() == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"frame_samples": 600}, "frame_samples"),
        ({"high_hz": 9000.0}, "8000"),
        ({"low_hz": 7500.0}, "low_hz < high_hz"),
    ],
)
def test_impossible_options_are_refused(options, words):
    with pytest.raises(ValueError, match=words):
        LogMel(**options)
