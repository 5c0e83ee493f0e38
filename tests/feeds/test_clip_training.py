"""Decoded clips through the training loop: equal on eight devices, after a stop, and counted."""

import json
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.moving_shapes import Shapes, write_shapes
from tests.toys.job import trained
from vidembed.corpora.clip_files import ClipFilesPaths
from vidembed.engine.optimiser import Optimiser
from vidembed.engine.recipe import Recipe, Retention
from vidembed.feeds.clips import DecodedClips
from vidembed.models.augment import Augmentation
from vidembed.models.r3d import ResidualClips
from vidembed.pairwise import normalise
from vidembed.tasks.task import Task

STEPS = 6


@dataclass(frozen=True, kw_only=True)
class OtherClip(Task):
    """Finds the other clip of a video among those of the batch."""

    learns_from = "videos"
    encoder: ResidualClips = ResidualClips(width=1 / 16)
    augmentation: Augmentation = Augmentation(size=16)

    def init(self, key, spec, statistics):
        parameters, known = self.encoder.init(key, spec.clip)
        return parameters, {"batch_statistics": known}

    def loss_and_measures(self, parameters, state, constants, batch, key):
        clips = self.augmentation(key, batch["clips"])
        flat = clips.reshape(-1, *clips.shape[2:])
        vectors, known = self.encoder.apply(parameters, state["batch_statistics"], flat, True)
        vectors = normalise(vectors).reshape(*clips.shape[:2], -1)
        scores = 10 * vectors[:, 0] @ vectors[:, 1].T
        loss = -jnp.mean(jnp.diagonal(jax.nn.log_softmax(scores)))
        return loss, (state | {"batch_statistics": known}, {"loss": loss})


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes")
    listed = write_shapes(folder, Shapes(groups=3, frames=12))
    for file in sorted((folder / "left").glob("*.mp4")):
        file.write_bytes(file.read_bytes()[:100])
    return Recipe(
        corpus=ClipFilesPaths(folder=str(folder), clips=str(listed)),
        task=OtherClip(),
        feed=DecodedClips(batch_videos=8, frames=4, rate=12, height=24, width=24, workers=0),
        # Adam and batch statistics of few clips magnify what is rounded, the more the faster.
        optimiser=Optimiser(learning_rate=1e-5),
        checkpoints=Retention(every_steps=3, keep_last=9),
        steps=STEPS,
        log_every=1,
    )


@pytest.mark.long
def test_a_run_is_the_same_on_eight_devices_and_after_a_stop(recipe, tmp_path):
    one = trained(recipe, tmp_path / "one", jax.devices()[:1])
    assert list(one) == list(range(1, STEPS + 1))
    many = trained(recipe, tmp_path / "many", jax.devices())
    np.testing.assert_allclose(list(many.values()), list(one.values()), rtol=2e-3)
    trained(replace(recipe, steps=3), tmp_path / "stopped", jax.devices()[:1])
    resumed = trained(recipe, tmp_path / "stopped", jax.devices()[:1])
    assert resumed == one
    lines = (tmp_path / "one" / "metrics.jsonl").read_text().splitlines()
    counted = [line for line in map(json.loads, lines) if "replaced_videos" in line]
    # 6 steps of 8 videos are 3 passes over 16, of which 2 are broken.
    assert sum(line["replaced_videos"] for line in counted) == 6
    assert all("short_videos" in line for line in counted)
