"""Decoded clips through the training loop: equal on devices and hosts, after a stop, counted."""

import json
from dataclasses import replace

import jax
import numpy as np
import pytest

from experiments.moving_shapes import Shapes, write_shapes
from tests import jobs
from tests.feeds.clip_job import STEPS, OtherClip, recipe
from tests.toys.job import losses, trained
from vidembed.engine.recipe import Recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """24 simulated clips of 3 groups, of which the 3 of a class are broken."""
    folder = tmp_path_factory.mktemp("shapes")
    write_shapes(folder, Shapes(groups=3, frames=12))
    for file in sorted((folder / "left").glob("*.mp4")):
        file.write_bytes(file.read_bytes()[:100])
    return folder


@pytest.mark.long
def test_a_run_is_the_same_on_eight_devices_and_after_a_stop(folder, tmp_path):
    one = trained(recipe(folder), tmp_path / "one", jax.devices()[:1])
    assert list(one) == list(range(1, STEPS + 1))
    many = trained(recipe(folder), tmp_path / "many", jax.devices())
    np.testing.assert_allclose(list(many.values()), list(one.values()), rtol=2e-3)
    trained(replace(recipe(folder), steps=3), tmp_path / "stopped", jax.devices()[:1])
    resumed = trained(recipe(folder), tmp_path / "stopped", jax.devices()[:1])
    assert resumed == one
    lines = (tmp_path / "one" / "metrics.jsonl").read_text().splitlines()
    counted = [line for line in map(json.loads, lines) if "replaced_videos" in line]
    # 6 steps of 8 videos are 3 passes over 16, of which 2 are broken.
    assert sum(line["replaced_videos"] for line in counted) == 6
    assert all("short_videos" in line for line in counted)
    jobs.SYSTEMS["clips in files"] = (["tests.feeds.clip_job", str(folder)], [])
    started = jobs.start("train", tmp_path / "two", [], processes=2, system="clips in files")
    codes, outputs = jobs.ends(started)
    assert set(codes) == {0}, outputs
    two = losses(tmp_path / "two")
    np.testing.assert_allclose(list(two.values()), list(one.values()), rtol=2e-3)


def test_the_recipe_is_stored_and_built_again():
    stored = json.loads(json.dumps(recipe("folder").to_json()))
    assert Recipe.from_json(stored, classes=(OtherClip,)) == recipe("folder")
