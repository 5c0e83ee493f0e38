"""A small annotation run: made videos with labels, and its recipe."""

from dataclasses import replace

import numpy as np

from vidembed.engine.optimiser import Optimiser
from vidembed.engine.recipe import Retention
from vidembed.feeds.labelled_videos import VideosWithLabels
from vidembed.models.blocks import Blocks
from vidembed.models.mixture_of_experts import MixtureOfExperts
from vidembed.recipes import annotation
from vidembed.records.table import FeatureTable
from vidembed.tasks.annotation import Annotation

VIDEOS, CLASSES, BATCH = 240, 5, 32
FEED = VideosWithLabels(batch_videos=BATCH, read_threads=0, prefetch_batches=0)
TASK = Annotation(model=Blocks(components=3), classifier=MixtureOfExperts(mixtures=2))
SMALL = replace(
    annotation.recipe,
    task=TASK,
    feed=FEED,
    steps=12,
    checkpoints=Retention(every_steps=6, keep_last=5),
    log_every=1,
    optimiser=Optimiser(learning_rate=0.05, decay=0.0),
)


def made_table():
    """Videos whose classes follow their features, with noise, and are of very different sizes."""
    rng = np.random.default_rng(0)
    hidden = rng.normal(size=(VIDEOS, 6))
    features = np.clip(hidden @ rng.normal(size=(6, 10)) * 20 + 128, 0, 255).astype(np.uint8)
    noise = 3 * rng.normal(size=(VIDEOS, CLASSES))
    scores = hidden @ rng.normal(size=(6, CLASSES)) + noise - np.linspace(0, 4, CLASSES)
    rows = [np.flatnonzero(line > 0) for line in scores]
    return FeatureTable(
        ids=np.array([f"v{number:03d}" for number in range(VIDEOS)], "S4"),
        features={"visual": features[:, :7], "audio": features[:, 7:]},
        label_offsets=np.concatenate([[0], np.cumsum([len(row) for row in rows])]),
        label_values=np.concatenate(rows).astype(np.int32),
    )
