"""A small trained run, trained once and loaded once for all commands."""

import functools

import jax
import pytest

import vidembed
from tests.deploy import clip_run
from vidembed.cli import embedding, indexing, searching
from vidembed.distributed.stopping import StopFlag
from vidembed.engine.optimiser import Optimiser
from vidembed.engine.recipe import Recipe, Retention
from vidembed.engine.train import train
from vidembed.feeds.triplets import Triplets
from vidembed.models.fusion import LateFusion, Layers
from vidembed.progress import Progress
from vidembed.tasks.metric_learning import MetricLearning
from vidembed.workdir.layout import Workdir


@pytest.fixture(scope="session")
def workdir(corpus_paths, corpus, tmp_path_factory):
    """Three steps on 8 visual and 4 audio features, with vectors of size 8."""
    recipe = Recipe(
        corpus=corpus_paths,
        task=MetricLearning(model=LateFusion(layers=Layers(hidden=(16,), size=8))),
        feed=Triplets(batch_triplets=32, read_threads=0, prefetch_batches=0),
        optimiser=Optimiser(learning_rate=1e-2),
        checkpoints=Retention(every_steps=3, keep_last=10),
        steps=3,
    )
    made = Workdir(tmp_path_factory.mktemp("deploy") / "run")
    with StopFlag() as stop, made.lease() as lease:
        options = {"lease": lease, "stop": stop, "progress": Progress(quiet=True)}
        train(recipe, made, corpus=corpus, devices=jax.devices()[:1], **options)
    return str(made)


@pytest.fixture(scope="session")
def run(workdir):
    return vidembed.load(workdir, step="latest")


@pytest.fixture(autouse=True)
def loaded_once(monkeypatch):
    for verb in (embedding, indexing, searching):
        monkeypatch.setattr(verb, "load", _load)


@functools.cache
def _load(path, step):
    """Load the run once: otherwise every command would compile it again."""
    return vidembed.load(path, step)


@pytest.fixture(scope="session")
def shapes(tmp_path_factory):
    return clip_run.shapes(tmp_path_factory.mktemp("shapes"))


@pytest.fixture(scope="session")
def of_files(shapes, tmp_path_factory):
    return clip_run.trained(tmp_path_factory.mktemp("files") / "run", shapes)


@pytest.fixture(scope="session")
def stored(shapes, tmp_path_factory):
    ids = [path.stem for path in sorted(shapes.glob("*/*.mp4"))]
    return clip_run.features(tmp_path_factory.mktemp("stored"), ids)


@pytest.fixture(scope="session")
def of_windows(shapes, stored, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("windows") / "run"
    return clip_run.trained(workdir, shapes, frames=stored)
