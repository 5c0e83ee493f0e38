"""What the variances of trained ProViCo runs tell: the Gaussians of their videos, measured."""

import dataclasses
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import uncertainty_measures as measures
from experiments.uncertainty_measures import Videos
from vidembed.corpora.frame_sources import DecodedFrames
from vidembed.distributed import mesh as meshes
from vidembed.engine.evaluate import EvaluationJob
from vidembed.engine.evaluation import Evaluation, recipe_of
from vidembed.engine.phases import open_feeds
from vidembed.evaluators.probe import Probe
from vidembed.losses.mixtures import Clips, moments
from vidembed.losses.of_clips import mixtures_of
from vidembed.losses.stochastic_contrast import StochasticContrast
from vidembed.media.clip_frames import ClipFrames
from vidembed.metrics.nearest_hit import first_hits
from vidembed.pairwise import normalise
from vidembed.records.clip_cuts import Taking, even_clips
from vidembed.tasks.clip_reading import EvenWindows
from vidembed.tasks.clips import ProbabilisticVideos
from vidembed.workdir.layout import Workdir

PARTS = ("total", "within", "between")
"""Of the total variance of a video: the mean of its clips', and that of their means."""
INPUTS = "inputs"
"""The spread of the frames themselves, and the mean of them: what is there without a model."""
AT_ONCE = 64
"""Videos that are embedded at a time."""


class Read(NamedTuple):
    """What a model reads of n videos: clips [n, N, T, ...] and present bool[n, N]."""

    clips: np.ndarray
    present: np.ndarray


class Described(NamedTuple):
    """n videos: direction of the mean f32[n, D], and the parts of the total variance, f64[n]."""

    video: np.ndarray
    variance: Mapping[str, np.ndarray]


class Trained:
    """A run: its checkpoints, the clips of its videos, and the Gaussians that it makes of them.

    All of its train and test videos are in memory, as the clips that it embeds; of test videos
    also all frames.
    """

    def __init__(self, workdir: str) -> None:
        """Raises ValueError for a run that has no variances, and for changed data."""
        place = Workdir(workdir)
        recipe = recipe_of(place)
        task = recipe.task
        if not isinstance(task, ProbabilisticVideos) or not isinstance(
            task.loss, StochasticContrast
        ):
            raise ValueError(
                f"{workdir} learns no variances: train it with `vidembed train provico`, without "
                "task.loss:info-nce or another loss of pairs"
            )
        probe = Probe()
        mesh = meshes.make_mesh(meshes.MeshShape(), jax.devices()[:1])
        self.name, self.task, self.mesh = workdir, task, mesh
        self.job = EvaluationJob(recipe, Evaluation(evaluators=(probe,)), place, mesh=mesh)
        self.corpus = self.job.corpus
        probe.check(self.corpus)
        feed: Any = recipe.feed
        if hasattr(feed, "workers"):  # they change no batch
            feed = dataclasses.replace(feed, workers=0)
        self.feed = open_feeds(dataclasses.replace(recipe, feed=feed), self.corpus)[0]
        self._arrays: dict[int, Any] = {}
        self._vectors: dict[int, np.ndarray] = {}
        self._gaussians = jax.jit(lambda p, s, arrays: task.clips(p, s, arrays)[0])
        self._described = jax.jit(_described)
        self._mined = jax.jit(partial(_mined, task))

    @property
    def decodes(self) -> bool:
        """Whether it reads decoded clips, not windows of features."""
        return not isinstance(self.task.embedded, EvenWindows)

    @cached_property
    def frames(self) -> Callable[[int], np.ndarray]:
        """Row → the frames [T, ...] that the clips of a video are cut from."""
        embedded = self.task.embedded
        if isinstance(embedded, EvenWindows):
            stored = self.corpus.stored
            return stored[embedded.modality or next(iter(stored))].read
        pictures = ClipFrames(
            rate=embedded.rate,
            height=embedded.height,
            width=embedded.width,
            fit=embedded.fit,
            longest_seconds=embedded.longest_seconds,
        )
        return DecodedFrames(files=self.corpus.files, pictures=pictures).read

    @property
    def taking(self) -> Taking:
        """How its clips are cut."""
        cut = self.task.embedded
        return Taking(
            clips=cut.clips, frames=cut.frames, stride=cut.stride, starts="even", short="loop"
        )

    @cached_property
    def train(self) -> tuple[np.ndarray, Read]:
        """Rows i64[n] of the train videos that have clips, and the clips."""
        return self._read(np.flatnonzero(self.corpus.is_train), self.frames)

    @cached_property
    def test_frames(self) -> dict[int, np.ndarray]:
        """Row → the frames of each test video."""
        rows = np.flatnonzero(self.corpus.parts["test"])
        return {row: self.frames(row) for row in rows.tolist()}

    @cached_property
    def test(self) -> tuple[np.ndarray, Read]:
        """As `train`, of the test videos."""
        return self._read(np.array([*self.test_frames]), self.test_frames.__getitem__)

    def _read(self, rows: np.ndarray, frames: Callable[[int], np.ndarray]) -> Any:
        made = even_clips(frames, rows, self.taking)
        there = made["present"].any(axis=1)
        return rows[there], Read(made["clips"][there], made["present"][there])

    @cached_property
    def channels(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and deviation f64[F] of each feature, or colour, over the clips of train videos."""
        _, read = self.train
        return measures.moments_of_channels(c[p] for c, p in zip(read.clips, read.present))

    @cached_property
    def videos(self) -> Videos:
        """What is known of the test videos."""
        rows, read = self.test
        return Videos(
            labels=self.corpus.labels.values[rows].astype(np.int64),
            sources=np.asarray(self.corpus.groups)[rows].astype(np.int64),
            lengths=np.array([len(self.test_frames[row]) for row in rows.tolist()]),
            windows=read.present.sum(axis=1),
        )

    def noisy(self, size: float, seed: int) -> Read:
        """The clips of the test videos, with noise of `size` deviations in every frame."""
        rows, _ = self.test

        def frames(row: int) -> np.ndarray:
            random = np.random.default_rng([seed, row])
            return measures.with_noise(self.test_frames[row], size, self.channels[1], random)

        made = even_clips(frames, rows, self.taking)
        return Read(made["clips"], made["present"])

    def gaussians(self, step: int, read: Read) -> Clips:
        """The Gaussians of these clips at a checkpoint."""
        arrays, made = self._restored(step), []
        with jax.set_mesh(self.mesh):
            for start in range(0, len(read.clips), AT_ONCE):
                some = (of[start : start + AT_ONCE] for of in read)
                batch = dict(zip(("clips", "present"), some))
                made.append(self._gaussians(arrays["parameters"], arrays["state"], batch))
        return jax.tree.map(lambda *parts: np.concatenate(parts), *made)

    def described(self, clips: Clips) -> Described:
        """Means and variances of the mixtures."""
        video, within, between = map(np.asarray, self._described(clips))
        parts = {"within": within.astype(np.float64), "between": between.astype(np.float64)}
        return Described(video, {"total": parts["within"] + parts["between"], **parts})

    def hits(self, step: int, queries: np.ndarray) -> np.ndarray:
        """f64[n]: whether the nearest train video at a checkpoint is of the test video's class, by
        cosine, for queries f32[n, D]."""
        if step not in self._vectors:
            video = self.described(self.gaussians(step, self.train[1])).video
            self._vectors = {step: video}
        return self._hits(queries, self._vectors[step])

    @cached_property
    def hits_of_inputs(self) -> np.ndarray:
        """As `hits`, of the mean frames of the windows, without a model."""
        sides = (_mean_frames(read) for _, read in (self.test, self.train))
        return self._hits(*sides)

    @cached_property
    def spread_of_inputs(self) -> np.ndarray:
        """f64[n]: see `measures.spread`, of the test videos."""
        return measures.spread(*self.test[1], *self.channels)

    def _hits(self, queries: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        labels = self.corpus.labels.values
        ranks = first_hits(queries, candidates, labels[self.test[0]], labels[self.train[0]])
        return (ranks <= 1).astype(np.float64)

    def mined(self, step: int, batches: int, seed: int) -> dict[str, np.ndarray]:
        """Pairs per video as in `pairs_by_video`, and `of`, its source, one row for each video
        of the first training batches, as the loss mines them at a checkpoint."""
        arrays, labels = self._restored(step), self.corpus.labels.values
        sources, made = np.asarray(self.corpus.groups), list[dict[str, np.ndarray]]()
        with jax.set_mesh(self.mesh):
            for number, batch, _ in self.feed.batches(0, batches):
                given = {name: batch[name] for name in ("clips", "present", "rows")}
                key = jax.random.fold_in(jax.random.key(seed), number)
                video, near, others = map(
                    np.asarray,
                    self._mined(arrays["parameters"], arrays["state"], given, jnp.int32(step), key),
                )
                counts = measures.pairs_by_video(near, others, labels[video], sources[video])
                made.append(counts | {"of": sources[video]})
        return {name: np.concatenate([of[name] for of in made]) for name in made[0]}

    def _restored(self, step: int) -> Any:
        if step not in self._arrays:
            self._arrays = {step: self.job.model(step).arrays("clip")}
        return self._arrays[step]


def _mean_frames(read: Read) -> np.ndarray:
    means = [c[p].mean(axis=(0, 1), dtype=np.float64) for c, p in zip(read.clips, read.present)]
    return np.stack(means).reshape(len(means), -1).astype(np.float32)


def _described(clips: Clips) -> tuple[jax.Array, jax.Array, jax.Array]:
    whole = moments(clips)
    within, between = (jnp.sum(of, axis=-1) for of in (whole.within, whole.between))
    return normalise(whole.mean), within, between


def _mined(
    task: ProbabilisticVideos,
    parameters: Any,
    state: Any,
    batch: Mapping[str, jax.Array],
    batches: jax.Array,
    key: jax.Array,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Rows i32[B], the pairs below the threshold, and all of two different videos, bool[B, B]."""
    assert isinstance(task.loss, StochasticContrast)
    augment_key = jax.random.fold_in(key, 1)
    clips, _ = task.clips(parameters, state, batch, training=True, key=augment_key)
    _, _, mixtures = mixtures_of(task.loss, clips, batch["rows"], key=key)
    distances = task.loss.distance(mixtures, mixtures)
    valid = mixtures.valid[:, None] & mixtures.valid[None]
    others = valid & (mixtures.video[:, None] != mixtures.video[None])
    threshold = meshes.on_all_devices(task.loss.threshold, (0, 0, None))
    near = others & (distances < threshold(distances, others, batches))
    return mixtures.video, near, others
