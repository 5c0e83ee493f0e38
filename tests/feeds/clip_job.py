"""A run on decoded clips, here and as processes: python -m tests.feeds.clip_job FOLDER train."""

from dataclasses import dataclass
from typing import Annotated

import jax
import jax.numpy as jnp
import tyro

from tests.toys.job import trained
from vidembed.corpora.clip_files import ClipFilesPaths
from vidembed.distributed.join import Cluster
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


def recipe(folder):
    """On simulated clips; Adam and batch statistics of few clips magnify what is rounded, the more
    the faster."""
    return Recipe(
        corpus=ClipFilesPaths(folder=str(folder), clips=f"{folder}/clips.csv"),
        task=OtherClip(),
        feed=DecodedClips(batch_videos=8, frames=4, rate=12, height=24, width=24, workers=0),
        optimiser=Optimiser(learning_rate=1e-5),
        checkpoints=Retention(every_steps=3, keep_last=9),
        steps=STEPS,
        log_every=1,
    )


@dataclass(frozen=True)
class Arguments:
    """As tests/jobs.py starts them."""

    folder: tyro.conf.Positional[str]
    verb: tyro.conf.Positional[str]
    workdir: str
    cluster: Annotated[Cluster, tyro.conf.arg(name="")] = Cluster()


if __name__ == "__main__":
    arguments = tyro.cli(Arguments)
    arguments.cluster.connect()
    trained(recipe(arguments.folder), arguments.workdir, jax.devices())
