"""Probabilistic videos on a feed of windows: batches, and vectors of the same stored features."""

from dataclasses import replace

import jax
import numpy as np
import pytest

from tests.feeds.test_clips import write_list
from vidembed.corpora.clip_source import ClipSource
from vidembed.corpora.frame_sources import StoredFrames
from vidembed.distributed import mesh as meshes
from vidembed.feeds.windows import FeatureWindows
from vidembed.losses.stochastic_contrast import StochasticContrast
from vidembed.media.feature_store import FeatureStore, FrameFeatures
from vidembed.models.gaussian_heads import GaussianHeads
from vidembed.tasks.clip_reading import EvenClips, EvenWindows
from vidembed.tasks.clips import ProbabilisticVideos

LENGTHS, WIDTH = (20, 5, 30, 2, 0, 9, 6, 8), 3
FEED = FeatureWindows(batch_videos=4, clips=2, frames=3, stride=2)
CUT = EvenWindows(clips=2, frames=3, stride=2)
TASK = ProbabilisticVideos(
    heads=GaussianHeads(size=5), loss=StochasticContrast(samples=2), embedded=CUT
)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Videos of random features, far from zero; the fourth is shorter than a window, the fifth has
    no frame."""
    folder = tmp_path_factory.mktemp("windows")
    store, rng = FeatureStore(folder / "features", {"space": "numbers"}), np.random.default_rng(0)
    names = [f"v{row}" for row in range(len(LENGTHS))]
    for name, length in zip(names, LENGTHS):
        values = rng.normal(100, 20, (length, WIDTH)).astype(np.float32)
        store.write(name, {}, FrameFeatures(np.arange(length) / 8, values))
        (folder / f"{name}.mp4").write_bytes(b"-")
    paths = write_list(folder, [f"{n}.mp4" for n in names], ["train"] * 6 + ["test"] * 2)
    stored = {"visual": StoredFrames.open(store.folder, tuple(names))}
    return replace(paths.open(), stored=stored)


def test_batches_of_windows_train_it_and_its_outputs_read_the_same_features(corpus):
    feed = FEED.open(corpus, seed=0, reads=TASK.reads)
    parameters, state = TASK.init(jax.random.key(0), feed.spec, feed.statistics())
    run = jax.jit(jax.value_and_grad(TASK.loss_and_measures, has_aux=True))
    mesh = meshes.make_mesh(meshes.MeshShape(), jax.devices()[:1])
    with jax.set_mesh(mesh):
        batch = meshes.place_batch(mesh, feed.at(0), feed.split_axes)
        (loss, (after, measures)), slopes = run(parameters, state, {}, batch, jax.random.key(1))
    assert np.isfinite(loss)
    assert after["batches"] == 1
    assert measures["pairs"] == 16
    assert all(np.any(array) for array in slopes.values())
    # Standardised over the frames of train videos.
    known = np.concatenate([corpus.stored["visual"].read(row) for row in range(6)])
    of_clips = state["inputs"]["clips"]
    np.testing.assert_allclose(of_clips["mean"], known.mean(0), rtol=1e-5)
    np.testing.assert_allclose(1 / of_clips["scale"], known.std(0), rtol=1e-4)

    rows = np.array([0, 3, 4])
    output = TASK.outputs["clip"]
    arrays = output.read(corpus.table, rows)
    assert arrays["present"].tolist() == [[True, True], [True, False], [False, False]]
    frames = corpus.stored["visual"].read(0)
    np.testing.assert_array_equal(arrays["clips"][0], frames[[[4, 6, 8], [12, 14, 16]]])
    vectors = jax.jit(lambda a: output.apply(parameters, state, a))(arrays)
    inputs = (arrays["clips"][0] - known.mean(0)) / known.std(0)
    heads = {name.removeprefix("heads/"): np.asarray(p) for name, p in parameters.items()}
    hidden = inputs.mean(1) @ heads["mean/kernel"] + heads["mean/bias"]
    hidden -= hidden.mean(1, keepdims=True)
    expected = hidden / np.linalg.norm(hidden, axis=1, keepdims=True)
    np.testing.assert_allclose(vectors[0], expected, atol=1e-3)
    assert not np.any(vectors[2])


def test_what_cannot_be_read_is_said(corpus):
    with pytest.raises(ValueError, match=r"have the features \['visual'\]: give them"):
        EvenWindows(modality="audio").read(corpus.table, np.array([0]))
    without = ClipSource(ids=corpus.ids, files=corpus.files, stored={})
    with pytest.raises(ValueError, match=r"windows of one modality expected.*--corpus.frames"):
        EvenWindows().read(without, np.array([0]))
    with pytest.raises(ValueError, match="must be at least 1"):
        EvenClips(frames=0)
