"""The graphs of the default backbones against the networks written out in numpy."""

import os
import zipfile

import numpy as np
import pytest

from tests.media import written_out
from vidembed.media.backbone import Backbone
from vidembed.media.backbones import efficientnet, musicnn
from vidembed.media.backbones.defaults import DEFAULTS
from vidembed.media.backbones.efficientnet import Stage
from vidembed.media.backbones.taking import take_backbones
from vidembed.media.onnx import Session
from vidembed.progress import Progress

STAGES = (Stage(1, 3, 1, 1), Stage(2, 5, 2, 6), Stage(2, 3, 2, 2))


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def wheels():
    folder = os.environ.get("VIDEMBED_WHEELS")
    if not folder:
        names = ", ".join(default.wheel for default in DEFAULTS)
        pytest.skip(f"VIDEMBED_WHEELS names no folder with {names}")
    return folder


@pytest.fixture(scope="session")
def real(wheels, tmp_path_factory):
    folder = tmp_path_factory.mktemp("backbones")
    return {
        backbone.name: backbone for backbone in take_backbones(folder, Progress(), wheels=wheels)
    }


def pictures(rng, side):
    """Noise, a gradient, stripes, black and white: u8[5, side, side, 3]."""
    made, across = np.zeros((5, side, side, 3)), np.linspace(0, 255, side)
    made[0] = rng.integers(0, 256, (side, side, 3))
    made[1, :, :, 0], made[1, :, :, 1] = across, across[:, None]
    made[2, ::8] = made[2, 1::8] = (0, 90, 200)
    made[4] = 255
    return made.astype(np.uint8)


# Even and odd sizes pad differently: one zero more after, or as many on both sides.
@pytest.mark.parametrize("side", [32, 33, 30])
def test_a_small_efficientnet(rng, side):
    tensors = written_out.small_efficientnet(rng, STAGES)
    images = rng.normal(size=(3, side, side, 3)).astype(np.float32)
    session = Session(efficientnet.to_onnx(tensors, stages=STAGES, side=side), name="small")
    given = {"images": np.ascontiguousarray(images.transpose(0, 3, 1, 2))}
    expected = written_out.efficientnet(tensors, images, STAGES)
    for output, values in zip(("features", "logits"), expected):
        np.testing.assert_allclose(session.run(output, given), values, atol=2e-5, rtol=1e-4)


def test_a_small_musicnn(rng):
    tensors = written_out.small_musicnn(rng)
    windows = rng.normal(size=(3, 20, 10)).astype(np.float32)
    session = Session(musicnn.to_onnx(tensors, frames=20, bands=10), name="small")
    expected = written_out.musicnn(tensors, windows)
    for output, values in zip(("mean", "max", "penultimate", "tags"), expected):
        made = session.run(output, {"log_mel": windows})
        np.testing.assert_allclose(made, values, atol=5e-5, rtol=1e-4)


def test_tensors_of_another_network_are_refused(rng):
    tensors = written_out.small_efficientnet(rng, STAGES)
    with pytest.raises(ValueError, match=r"no tensor '_fc.left'"):
        efficientnet.to_onnx(tensors | {"_fc.left": tensors["_fc.bias"]}, stages=STAGES, side=32)
    with pytest.raises(ValueError, match=r"_blocks.0._depthwise_conv.weight has shape .* kernel 5"):
        efficientnet.to_onnx(tensors, stages=(Stage(1, 5, 1, 1),), side=32)
    with pytest.raises(
        ValueError, match=r"no tensor 'batch_normalization/gamma': not a checkpoint"
    ):
        musicnn.to_onnx({}, frames=20, bands=10)


def test_the_files_are_the_same_on_every_machine(real):
    """So is `space`: another file would make vectors that are not compared with older ones."""
    digests = {name: backbone.digest[:12] for name, backbone in real.items()}
    assert digests == {"efficientnet-lite0": "f23f3a15f74d", "musicnn": "4adb051c75be"}


@pytest.mark.long
def test_the_default_for_frames(real, wheels, rng):
    backbone = real["efficientnet-lite0"]
    with zipfile.ZipFile(f"{wheels}/{DEFAULTS[0].wheel}") as wheel:
        tensors = DEFAULTS[0].tensors(wheel)
    assert (
        sum(a.size for name, a in tensors.items() if "running" not in name and "num" not in name)
        == 4_652_008
    )
    images = pictures(rng, 224)
    expected = written_out.efficientnet(tensors, (images.astype(np.float32) - 127) / 128)
    close(backbone.runner()(images), expected[0])
    logits = Backbone.open(backbone.path, output="logits")
    assert logits.width == 1000
    close(logits.runner()(images), expected[1])


@pytest.mark.long
def test_the_default_for_sound(real, wheels, rng):
    backbone = real["musicnn"]
    with zipfile.ZipFile(f"{wheels}/{DEFAULTS[1].wheel}") as wheel:
        tensors = DEFAULTS[1].tensors(wheel)
    ramp = np.linspace(0, 3, 187)[:, None] * np.linspace(1, 0, 96)
    windows = np.stack([rng.gamma(1, 0.5, (187, 96)), np.zeros((187, 96)), ramp]).astype(np.float32)
    expected = written_out.musicnn(tensors, windows)
    assert expected[0].shape[1] == backbone.width == 753
    for output, values in zip(("mean", "max", "penultimate", "tags"), expected):
        close(Backbone.open(backbone.path, output=output).runner()(windows), values)


def close(made, expected):
    difference, largest = np.abs(made - expected).max(), np.abs(expected).max()
    print(f"largest difference {difference:.2g}, of values up to {largest:.3g}")
    assert difference < 1e-5 * largest
