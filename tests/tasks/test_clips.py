"""Probabilistic videos: a batch of clips against its parts, devices that agree, warnings."""

import json
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests.losses.made_mixtures import on
from tests.models.test_clip_encoder import Tiny
from tests.toys.job import recipe as made
from tests.toys.job import trained
from tests.toys.rows import Corpus, Rows
from vidembed.distributed import mesh as meshes
from vidembed.engine.model import load_model
from vidembed.losses.both_directions import both
from vidembed.losses.info_nce import InfoNCE
from vidembed.losses.mixtures import halves, moments
from vidembed.losses.of_clips import stochastic
from vidembed.losses.stochastic_contrast import StochasticContrast
from vidembed.losses.thresholds import Fixed, Quantile
from vidembed.losses.uncertainty import Uncertainty
from vidembed.models.augment import Augmentation, plain
from vidembed.models.clip_encoder import MOMENTUM, MeanOfFrames
from vidembed.models.gaussian_heads import GaussianHeads
from vidembed.models.parameters import apply
from vidembed.pairwise import normalise
from vidembed.tasks.clip_reading import EvenClips
from vidembed.tasks.clips import ProbabilisticVideos
from vidembed.tasks.spec import Spec
from vidembed.workdir.diagnosis import HopelessError
from vidembed.workdir.layout import Workdir

B, N, T, C, D = 16, 4, 3, 4, 6
SPEC = Spec(widths={"visual": C}, clip=(T, C))
HEADS = GaussianHeads(size=D)
LOSS = StochasticContrast(threshold=Quantile(share=0.05))
FRAMES = ProbabilisticVideos(encoder=Tiny(), heads=HEADS, loss=replace(LOSS, views="halves"))
STORED = ProbabilisticVideos(heads=HEADS, loss=LOSS)
PAIRS = ProbabilisticVideos(heads=HEADS, loss=InfoNCE(temperature=0.3))
STATISTICS = {"visual": {"mean": np.full(C, 100.0), "deviation": np.array([50.0, 50, 50, 0])}}


@pytest.fixture(scope="module")
def batch():
    rng = np.random.default_rng(0)
    present = rng.random((B, N)) < 0.8
    present[:3] = [[True] * 4, [False, True, False, False], [False] * 4]
    return {
        "rows": np.arange(B, dtype=np.int32),
        "clips": rng.normal(100, 60, (B, N, T, C)).astype(np.float32),
        "present": present,
    }


@lru_cache
def started(task):
    return jax.jit(lambda key: task.init(key, SPEC, STATISTICS))(jax.random.key(0))


@lru_cache
def compiled(task):
    return jax.jit(jax.value_and_grad(task.loss_and_measures, has_aux=True))


def stepped(task, batch, devices=1):
    """((loss, (state, measures)), gradient) on so many devices."""
    mesh = meshes.make_mesh(meshes.MeshShape(), jax.devices()[:devices])
    run, start = compiled(task), started(task)
    with jax.set_mesh(mesh):
        placed = meshes.place_batch(mesh, batch, {"rows": None, "clips": 0, "present": 0})
        parameters, state = jax.device_put(start, meshes.replicated(mesh))
        return jax.tree.map(np.asarray, run(parameters, state, {}, placed, jax.random.key(1)))


@pytest.mark.parametrize(
    "task", [pytest.param(FRAMES, marks=pytest.mark.long), PAIRS], ids=["frames", "pairs"]
)
def test_devices_agree_and_every_parameter_learns(task, batch):
    one, eight = (stepped(task, batch, n) for n in (1, 8))
    (loss, (state, measures)), gradient = one
    (of_many, (state_of_many, measures_of_many)), gradient_of_many = eight
    assert of_many == pytest.approx(loss, rel=1e-4)
    for name, value in measures.items():
        assert measures_of_many[name] == pytest.approx(value, rel=1e-3, abs=1e-5), name
    # Of the largest: the bias before the batch's mean is subtracted has the gradient of rounding.
    scale = max(np.abs(array).max() for array in gradient.values())
    for name, array in gradient.items():
        np.testing.assert_allclose(gradient_of_many[name] / scale, array / scale, atol=2e-4)
        # InfoNCE reads no variances.
        assert np.any(array) or (task is PAIRS and "log_variance" in name), name
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4), state, state_of_many
    )
    assert state["batches"] == 1
    assert measures["loss"] == loss
    assert measures["pairs"] == (2 * (batch["present"].any(1).sum())) ** 2 or task is PAIRS


def test_statistics_of_the_batch_are_kept_for_the_outputs(batch):
    start = started(FRAMES)
    (_, (state, _)), _ = stepped(FRAMES, batch)
    known = start[1]["batch_statistics"]
    assert set(known) == {"norm/mean", "norm/variance"}
    values = (batch["clips"] - 100) / 50 * [1, 1, 1, 0]
    hidden = values[batch["present"]].mean(axis=1) @ start[0]["encoder/dense/kernel"]
    now = state["batch_statistics"]
    np.testing.assert_allclose(now["norm/mean"], (1 - MOMENTUM) * hidden.mean(0), rtol=1e-4)
    outputs = FRAMES.outputs
    assert all("state/batch_statistics" in output.needs for output in outputs.values())
    arrays = {name: batch[name] for name in ("clips", "present")}
    run = jax.jit(lambda s, a: {n: o.apply(start[0], s, a) for n, o in outputs.items()})
    found = run(state, arrays)
    assert {name: array.shape for name, array in found.items()} == {
        "video": (B, D),
        "video_deviation": (B, D),
        "clip": (B, N, D),
        "clip_deviation": (B, N, D),
    }
    mean, deviation = (np.asarray(found[n], np.float64) for n in ("clip", "clip_deviation"))
    for video in range(B):
        some = batch["present"][video]
        assert not mean[video][~some].any()
        assert not deviation[video][~some].any()
        if some.any():
            middle = mean[video][some].mean(axis=0)
            direction = middle / np.linalg.norm(middle)
            np.testing.assert_allclose(found["video"][video], direction, atol=1e-5)
            variance = (deviation[video][some] ** 2).mean(0) + mean[video][some].var(axis=0)
            np.testing.assert_allclose(found["video_deviation"][video], variance**0.5, rtol=1e-4)
    assert not np.allclose(found["clip"], run(start[1], arrays)["clip"], atol=1e-3)


def test_the_loss_is_that_of_its_parts(batch):
    task, key = FRAMES, jax.random.key(1)
    (loss, (_, measures)), _ = stepped(task, batch)
    learned = {name: jnp.float32(value) for name, value in task.loss.learned.items()}

    @jax.jit
    def of_parts(parameters, state):
        clips, _ = task.clips(parameters, state, batch, training=True)
        options = {"parameters": learned, "batches": jnp.int32(0), "key": key}
        return stochastic(task.loss, clips, batch["rows"], **options)

    with on(1):
        expected, parts = of_parts(*started(task))
    assert loss == pytest.approx(float(expected), rel=1e-5)
    assert measures["kl"] == pytest.approx(float(parts["kl"]), rel=1e-5)
    held = task.loss.uncertainty
    weighted = loss - held.regulariser * measures["regulariser"] - held.kl_weight * measures["kl"]
    assert weighted > 0
    assert measures["within"] == pytest.approx(np.exp(-3), rel=1e-4)
    assert measures["scale"] == measures["shift"] == 10


def test_the_deterministic_loss_is_of_two_halves(batch):
    key, start = jax.random.key(1), started(PAIRS)
    (loss, (_, measures)), _ = stepped(PAIRS, batch)

    @jax.jit
    def by_hand(parameters, state):
        clips, _ = PAIRS.clips(parameters, state, batch)
        one, other = (
            normalise(moments(clips._replace(present=half)).mean)
            for half in halves(clips.present, key=key)
        )
        learned = {"log_temperature": jnp.log(0.3)}
        each = both(PAIRS.loss, one, other, batch["rows"], parameters=learned)
        return each, jnp.sum(one * other, axis=1)

    each, similarity = map(np.asarray, by_hand(*start))
    several = batch["present"].sum(axis=1) > 1
    assert loss == pytest.approx(each[several].mean(), rel=1e-4)
    assert measures["pairs"] == several.sum() < B
    assert measures["similarity"] == pytest.approx(similarity[several].mean(), rel=1e-4)


def test_missing_clips_change_nothing(batch):
    absent = ~batch["present"][:, :, None, None]
    other = batch | {"clips": np.where(absent, 255 - batch["clips"], batch["clips"])}
    one, two = (stepped(FRAMES, each) for each in (batch, other))
    jax.tree.map(np.testing.assert_array_equal, one, two)


@dataclass(frozen=True, kw_only=True)
class Colours:
    """The mean colour of each clip, seen as it is."""

    def init(self, key, shape):
        assert shape == (2, 4, 4, 3)
        return {}, {}

    def apply(self, parameters, statistics, clips, train, present=None):
        return clips.mean(axis=(1, 2, 3)), {}


def test_frames_are_changed_in_training_and_only_resized_otherwise():
    spec = Spec(widths={}, clip=(2, 8, 6, 3))
    options = {"encoder": Colours(), "augment": Augmentation(size=4, blur=0), "heads": HEADS}
    task = ProbabilisticVideos(**options, embedded=EvenClips())
    with pytest.raises(ValueError, match=r"\[2, 8, 6, 3\], .* choose task.embedded:even-clips"):
        ProbabilisticVideos(**options).init(jax.random.key(0), spec, None)
    parameters, state = task.init(jax.random.key(0), spec, None)
    clips = np.random.default_rng(0).integers(0, 256, (2, 3, 2, 8, 6, 3)).astype(np.uint8)
    arrays = {"clips": clips, "present": np.ones((2, 3), bool)}
    key = jax.random.key(5)
    heads = {n.removeprefix("heads/"): p for n, p in parameters.items() if n.startswith("heads/")}
    for training, inputs in ((False, plain(clips, 4)), (True, task.augment(key, clips))):
        found = task.clips(parameters, state, arrays, training=training, key=key)[0]
        expected = apply(HEADS, heads, {"clips": inputs.mean(axis=(2, 3, 4))})
        np.testing.assert_allclose(found.mean, expected[0], atol=1e-5)


def journal(**measures):
    sound = {"spread": 0.8, "within": 0.05, "at_lowest": 0.0, "deviation": 0.02}
    return [{"step": step, **sound, **measures} for step in range(10, 301, 10)]


@pytest.mark.fault(
    "Runs: the variances of a probabilistic training vanish, or grow until noise is all there is",
    "for 200 steps of a running training 1: the numbers, what to try, and how to go on in spite of "
    "it; at its end a WARNING; the checkpoints stay",
)
def test_variances_that_vanish_or_explode_are_told():
    assert STORED.diagnose(journal(), finished=False) == {}
    gone = STORED.diagnose(journal(at_lowest=0.97, deviation=0.0025), finished=False)
    assert list(gone) == ["no variance"]
    assert "0.97 of them are at the lowest value, a deviation of 0.0025" in gone["no variance"]
    loud = STORED.diagnose(journal(within=400.0), finished=True)
    assert "the total variance of a clip is 400" in loud["drowned"]
    assert list(STORED.diagnose(journal(spread=0.01), finished=True)) == ["one point"]
    # The deterministic loss leaves the variances where they begin.
    assert PAIRS.diagnose(journal(within=400.0, at_lowest=1.0), finished=True) == {}
    assert set(STORED.stop_at) == {*gone, "drowned"}
    assert replace(STORED, at_collapse="warn").stop_at == {}


@pytest.mark.long
@pytest.mark.fault(
    "Runs: the variances of a probabilistic training vanish, or grow until noise is all there is",
)
@pytest.mark.parametrize(
    ("heads", "words"),
    [
        (GaussianHeads(size=D, lowest=-4.0, start=-3.95), "the variances have vanished"),
        (GaussianHeads(size=D, start=1.9), "the variances have exploded"),
    ],
    ids=["vanish", "explode"],
)
def test_variances_that_vanish_or_explode_stop_the_run(heads, words, tmp_path):
    held = 50.0 if heads.lowest == -4 else 0.0
    uncertainty = Uncertainty(regulariser=held, weight="none", kl_weight=0.0)
    task = ProbabilisticVideos(heads=heads, loss=replace(LOSS, uncertainty=uncertainty))
    recipe = replace(made(MadeClips(), task), steps=600, log_every=20)
    with pytest.raises(HopelessError, match=f"{words}: from step .* stopped at step (2|3)"):
        trained(recipe, tmp_path)
    workdir = Workdir(tmp_path)
    assert workdir.done() is None
    on = replace(recipe, task=replace(task, at_collapse="warn"), steps=300)
    assert max(trained(on, tmp_path)) == 300
    assert workdir.done() == 300


@pytest.mark.fault(
    "Runs: a threshold of a probabilistic training below which no two videos are",
    "a WARNING: the threshold, the mean distance and what to set",
)
def test_a_threshold_without_a_positive_is_told():
    fixed = replace(STORED, loss=replace(LOSS, threshold=Fixed(distance=1e-9)))
    lines = journal(mined=0.0, threshold=1e-9, distance=0.3)
    found = fixed.diagnose(lines, finished=False)
    assert list(found) == ["nothing mined"]
    assert (
        "the threshold is 1e-09, and the mean distance of two videos is 0.3"
        in found["nothing mined"]
    )
    assert fixed.diagnose(journal(mined=0.001), finished=True) == {}
    # A share of zero asks for it.
    alone = replace(STORED, loss=replace(LOSS, threshold=Quantile(share=0.0)))
    assert alone.diagnose(lines, finished=False) == {}


def test_a_fixed_threshold_that_is_too_low_mines_nothing_and_is_finite(batch):
    task = replace(STORED, loss=replace(LOSS, threshold=Fixed(distance=0.0)))
    (loss, (_, measures)), gradient = stepped(task, batch)
    assert measures["mined"] == 0
    assert measures["positives"] == batch["present"].any(axis=1).sum()  # each with itself
    assert np.isfinite([loss, *map(np.sum, gradient.values())]).all()


@pytest.mark.fault(
    "Runs: a loss of two halves of a video's clips where videos have one clip only",
    "1 before anything is made: how to set the clips of a batch; if the videos are too short, a "
    "WARNING after ten steps, and 1 at the end: the run is not DONE",
)
def test_videos_of_one_clip(batch, tmp_path):
    one = {name: batch[name][:, :1] for name in ("clips", "present")} | {"rows": batch["rows"]}
    halves = replace(STORED, loss=replace(LOSS, views="halves"))
    for task in (PAIRS, halves):
        with pytest.raises(ValueError, match=r"one clip of each video: set --feed\.clips 2"):
            task.init(jax.random.key(0), replace(SPEC, clips=1), STATISTICS)
    (loss, _), _ = stepped(STORED, one)
    assert np.isfinite(loss)
    first = np.arange(N)[None] == 0
    short = batch | {"present": np.broadcast_to(first, (B, N)).copy()}
    (loss, (_, measures)), _ = stepped(PAIRS, short)
    assert (loss, measures["trained"], measures["pairs"]) == (0, 0, 0)
    found = PAIRS.diagnose([{"step": 3, "trained": 0.0}], finished=True)
    assert "no video has two clips" in found["single clips"]


def test_a_feed_without_clips_is_refused():
    with pytest.raises(ValueError, match=r"learns from clips, and the feed gives \['visual'\]"):
        STORED.init(jax.random.key(0), Spec(widths={"visual": 3}), None)


@pytest.mark.fault(
    "Runs: clips to embed that are cut otherwise than those to learn from",
    "refused at the start, with the options to add",
)
def test_clips_cut_otherwise_than_the_feeds_are_refused():
    spec = replace(SPEC, cut={"frames": 8, "stride": 1, "rate": 12.5})
    task = replace(STORED, embedded=EvenClips(frames=16, rate=8.0))
    frames = replace(spec, clip=(8, 4, 4, 3))
    with pytest.raises(ValueError, match=r"frames 8 and 16, rate 12.5 and 8\), so that") as refused:
        task.init(jax.random.key(0), frames, None)
    assert "add --task.embedded.frames 8 --task.embedded.rate 12.5" in str(refused.value)
    STORED.init(jax.random.key(0), replace(SPEC, cut={"frames": 16, "stride": 1}), STATISTICS)


@dataclass(frozen=True, kw_only=True)
class MadeClips(Corpus):
    """Clips of 8 kinds of videos; one clip of every third video is missing."""

    spec: ClassVar[Spec] = SPEC
    stored: ClassVar[dict[str, None]] = {"visual": None}

    def read(self, rows):
        each = [np.random.default_rng(row) for row in rows]
        kinds = np.random.default_rng(0).normal(0, 2, (8, C))[np.asarray(rows) % 8]
        noise = np.stack([rng.normal(size=(N, T, C)) for rng in each])
        present = np.ones((len(rows), N), bool)
        present[np.asarray(rows) % 3 == 0, 1] = False
        return {"clips": np.float32(kinds[:, None, None] + noise), "present": present}

    def windows(self, rows, taking, modality):
        return self.read(rows)


@pytest.mark.long
@pytest.mark.parametrize("encoder", [Tiny(), MeanOfFrames()])
def test_the_engine_trains_it_on_any_devices_and_loads_it(encoder, tmp_path):
    """Also an encoder without statistics, whose entry of the state is empty."""
    task = ProbabilisticVideos(encoder=encoder, heads=HEADS, loss=LOSS)
    recipe = made(MadeClips(), task, average=0.9)
    one = trained(recipe, tmp_path / "one", jax.devices()[:1])
    many = trained(recipe, tmp_path / "many", jax.devices())
    np.testing.assert_allclose(list(many.values()), list(one.values()), rtol=2e-2, atol=2e-2)
    lines = [json.loads(x) for x in (tmp_path / "one/metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["loss"] < lines[0]["loss"] - 0.1
    assert np.all(np.isfinite([lines[-1][name] for name in ("match_loss", "kl", "within")]))
    classes = (MadeClips, Rows, Tiny)
    model = load_model(Workdir(tmp_path / "many"), "latest", classes=classes)
    videos = model["video"](recipe.corpus)
    kinds = np.arange(len(videos)) % 8
    scores = videos @ videos.T - 9 * np.eye(len(videos))
    assert np.mean(kinds[scores.argmax(axis=1)] == kinds) > 0.8
    assert np.all(model["clip_deviation"](recipe.corpus, np.array([1])) > 0)
