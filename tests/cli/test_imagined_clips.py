"""A step of a run on clips is compiled without data, for both presets."""

import os

import jax
import numpy as np
import pytest

from tests.cli.test_arguments import given
from vidembed.__main__ import main
from vidembed.cli.imagined import Imagined, known_data
from vidembed.distributed import mesh as meshes
from vidembed.engine.compiled_cost import step_arguments


@pytest.mark.parametrize(
    ("command", "preset", "shape", "dtype"),
    [
        ("provico", "clips", (16, 2, 8, 64, 64, 3), "uint8"),
        ("provico", "windows", (64, 4, 16, 1280), "float32"),
        ("clip-classes", "windows", (64, 4, 16, 1280), "float32"),
    ],
)
def test_the_batch_of_each_preset_is_imagined(command, preset, shape, dtype, monkeypatch):
    words = ("--workdir", "w", "--preset", preset)
    recipe = given(f"train {command}", *words, monkeypatch=monkeypatch).recipe
    known = known_data(recipe, Imagined(videos=1000))
    assert known.imagined
    assert "1,000 videos" in known.source
    assert len(known.data.corpus) == 1000
    mesh = meshes.make_mesh(meshes.MeshShape(), jax.devices()[:1])
    arguments = step_arguments(recipe, known.data, mesh)
    assert arguments.batch["clips"].shape == shape
    assert arguments.batch["clips"].dtype == np.dtype(dtype)
    assert arguments.batch["present"].shape == shape[:2]
    assert ("labels" in arguments.batch) == (command == "clip-classes")
    file = known.data.corpus.files[0]
    assert os.path.exists(file)
    del known
    assert not os.path.exists(file)


@pytest.mark.long
def test_show_says_what_a_step_costs(capsys):
    options = ["--preset", "windows", "--feed.batch-videos", "16"]
    assert main(["show", "provico", *options]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert "no clips are given: 240,000 videos of 400 classes to train on" in printed
    assert "parameters: " in printed
