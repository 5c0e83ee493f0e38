"""Small runs on clips: decoded ones of moving shapes, and windows of stored features."""

from dataclasses import dataclass

import jax
import numpy as np

from experiments.moving_shapes import Shapes, write_shapes
from vidembed.corpora.clip_files import ClipFilesPaths
from vidembed.distributed.stopping import StopFlag
from vidembed.engine.optimiser import Optimiser
from vidembed.engine.recipe import Recipe, Retention
from vidembed.engine.train import train
from vidembed.feeds.clips import DecodedClips
from vidembed.feeds.windows import FeatureWindows
from vidembed.losses.info_nce import InfoNCE
from vidembed.media.feature_store import FeatureStore, FrameFeatures
from vidembed.models.augment import Augmentation
from vidembed.models.clip_encoder import MeanOfFrames
from vidembed.models.gaussian_heads import GaussianHeads
from vidembed.progress import Progress
from vidembed.tasks.clip_reading import EvenClips, EvenWindows
from vidembed.tasks.clips import ProbabilisticVideos
from vidembed.workdir.layout import Workdir

D, T, RATE, SIZE = 6, 3, 6.0, 16


@dataclass(frozen=True, kw_only=True)
class Rows:
    """The smallest encoder of frames: the mean colour of each row of pixels."""

    def init(self, key, shape):
        return {}, {}

    def apply(self, parameters, statistics, clips, train, present=None):
        return clips.mean(axis=3).reshape(clips.shape[0], T * SIZE * 3), {}


def shapes(folder, groups=2):
    """Videos of two seconds, 8 of each group."""
    write_shapes(folder, Shapes(groups=groups, frames=24, height=SIZE, width=20))
    return folder


def features(folder, ids, name="net/out/12345678"):
    """Features of 4 frames per second, of 9 frames each; returns the folder of the backbone."""
    store = FeatureStore(folder, {"space": name})
    for number, video in enumerate(ids):
        values = np.random.default_rng(number).normal(size=(9, 5)).astype(np.float32)
        store.write(video, {}, FrameFeatures(0.5 + np.arange(9) / 4, values))
    return str(store.folder)


def trained(workdir, folder, *, frames=""):
    """One step on the videos, or on windows of `frames`; returns the work directory."""
    corpus = ClipFilesPaths(folder=str(folder), clips=str(folder / "clips.csv"), frames=frames)
    shared = {"heads": GaussianHeads(size=D), "loss": InfoNCE(), "augment": Augmentation(size=SIZE)}
    options = {"batch_videos": 4, "clips": 2, "frames": T, "read_threads": 0, "prefetch_batches": 0}
    task = ProbabilisticVideos(encoder=MeanOfFrames(), embedded=EvenWindows(frames=T), **shared)
    feed = FeatureWindows(**options)
    if not frames:
        sizes = {"rate": RATE, "height": SIZE, "width": SIZE}
        embedded = EvenClips(clips=3, frames=T, **sizes)
        task = ProbabilisticVideos(encoder=Rows(), embedded=embedded, **shared)
        feed = DecodedClips(**options, **sizes, workers=0)
    recipe = Recipe(
        corpus=corpus,
        task=task,
        feed=feed,
        optimiser=Optimiser(learning_rate=1e-2),
        checkpoints=Retention(every_steps=1),
        steps=1,
    )
    made = Workdir(workdir)
    with StopFlag() as stop, made.lease() as lease:
        quiet = Progress(quiet=True)
        train(recipe, made, lease=lease, stop=stop, progress=quiet, devices=jax.devices()[:1])
    return str(workdir)
