"""What the variances of trained ProViCo runs tell: the Gaussians of their videos, measured."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments import uncertainty_measures as measures
from experiments.uncertainty_measures import KINDS, Videos, as_json
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
from vidembed.metrics.nearest_hit import first_hits, unit
from vidembed.pairwise import normalise
from vidembed.progress import Progress
from vidembed.records.clip_cuts import Taking, even_clips
from vidembed.tasks.clip_reading import EvenWindows
from vidembed.tasks.clips import ProbabilisticVideos
from vidembed.workdir.layout import Workdir

PARTS = ("total", "within", "between")
"""Of the total variance of a video: the mean of its clips', and that of their means."""
INPUTS = "inputs"
"""The spread of the frames themselves, and the mean of them: what is there without a model."""
COMPARED = ((KINDS[1], KINDS[0]), (KINDS[2], KINDS[0]), (KINDS[3], KINDS[0]), (KINDS[3], KINDS[2]))
"""Kinds of joints: which has the higher variance?"""
Values = Mapping[str, np.ndarray]
"""Parts of the variance of n videos, and the spread of their inputs, f64[n]."""
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

        return Read(**even_clips(frames, rows, self.taking))

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


@dataclass(frozen=True, kw_only=True)
class Measuring:
    """Runs of the same data at one step each, and how they are measured."""

    runs: Sequence[Trained]
    steps: Sequence[int]
    resamples: int
    seed: int

    def curve(self) -> dict[str, Any]:
        """R@1 and mean variances at every checkpoint that all runs have, and both of the inputs.

        The correlations are over trained checkpoints: at step 0 the variances are a constant that
        the heads start from.
        """
        points, of_runs = [], [dict[str, list[float]]() for _ in self.runs]
        for step in self._common_steps("checkpoints"):
            values, hits = self._at([step] * len(self.runs))
            points.append({"step": step, **self._scores(values, hits)})
            for of, one, hit in zip(of_runs, values, hits) if step else ():
                for name, numbers in {"r@1": hit, **one}.items():
                    of.setdefault(name, []).append(float(numbers.mean()))
        each = {
            p: [measures.correlations(of.get(p, []), of.get("r@1", [])) for of in of_runs]
            for p in PARTS
        }
        first = self.runs[0]
        inputs = self._of_each([measures.mean_of(first.hits_of_inputs)])
        spread = self._of_each([measures.mean_of(first.spread_of_inputs)])
        return {
            "points": points,
            "correlation": each,
            INPUTS: {
                "r@1": inputs,
                "total": spread,
                "median": float(np.median(first.spread_of_inputs)),
            },
        }

    def by_quantile(self, count: int, lengths: int, shuffles: int) -> dict[str, Any]:
        """R@1 in each quantile of uncertainty: of all test videos, among those of similar length
        and as many windows, and among those of one class."""
        values, hits = self._at(self.steps)
        videos = self.runs[0].videos
        strata = {
            "all videos": np.zeros(len(videos.labels), np.int64),
            "videos of similar length": measures.of_length(videos.lengths, videos.windows, lengths),
            "videos of one class": videos.labels,
        }
        names = (*PARTS, INPUTS)
        groupings = {
            grouping: {
                n: self._quantiles([v[n] for v in values], hits, of, count, shuffles) for n in names
            }
            for grouping, of in strata.items()
        }
        return {
            "groupings": groupings,
            "classes": {
                self.runs[0].corpus.labels.names[c]: self._scores(values, hits, videos.labels == c)
                for c in np.unique(videos.labels)
            },
            "strata": {grouping: len(np.unique(of)) for grouping, of in strata.items()},
            "length": {
                n: [measures.correlations(v[n], videos.lengths) for v in values] for n in names
            },
        }

    def _quantiles(
        self,
        values: Sequence[np.ndarray],
        hits: Sequence[np.ndarray],
        strata: np.ndarray,
        count: int,
        shuffles: int,
    ) -> dict[str, Any]:
        """R@1 of each quantile within strata; its gap from the lowest to the highest, beside that
        of shuffled uncertainties; and whether wrong videos have the higher ranks."""
        parts = [measures.quantiles(of, strata, count) for of in values]
        sources, last = self.runs[0].videos.sources, count - 1

        def gaps(given: Sequence[np.ndarray]) -> list[measures.Statistic]:
            return [measures.difference(h, p == 0, p == last) for h, p in zip(hits, given)]

        def value(given: Sequence[np.ndarray]) -> float:
            return float(np.mean([gap(np.ones((1, len(sources))))[0] for gap in gaps(given)]))

        by_chance, measured = [], value(parts)
        for number in range(shuffles if np.isfinite(measured) else 0):
            # The same for all runs, which share the videos that are easy and hard by chance.
            random = [np.random.default_rng([self.seed, number]) for _ in parts]
            given = zip(parts, random)
            by_chance.append(value([measures.shuffled(p, sources, strata, r) for p, r in given]))
        shuffled, p = measures.against_chance(measured, np.array(by_chance))
        ranks = [measures.quantiles(of, strata, len(of)).astype(np.float64) for of in values]
        each = [[measures.mean_of(h, p == n) for h, p in zip(hits, parts)] for n in range(count)]
        return {
            "r@1": [self._of_each(of) for of in each],
            "gap": self._of_each(gaps(parts)),
            "shuffled": dict(as_json(shuffled)),
            "p": p,
            "area": self._of_each([measures.area(r, h < 1) for r, h in zip(ranks, hits)]),
        }

    def under_noise(self, sizes: Sequence[float]) -> dict[str, list[dict[str, Any]]]:
        """R@1 and mean variances of test videos with noise in the means of their clips, or in the
        frames; the train videos stay as they are."""
        result: dict[str, list[dict[str, Any]]] = {"embeddings": [], "inputs": []}
        with Progress().stage("noise", len(sizes) + 1, "sizes") as stage:
            for number, size in enumerate((0.0, *sizes)):
                stage.update(number)
                for place, rows in result.items():
                    values, hits = [], []
                    for run, step in zip(self.runs, self.steps):
                        described = run.described(self._with_noise(run, step, place, size))
                        values.append(described.variance)
                        hits.append(run.hits(step, described.video))
                    rows.append({"size": size, **self._scores(values, hits)})
        return result

    def _with_noise(self, run: Trained, step: int, place: str, size: float) -> Clips:
        if place == "inputs":
            return run.gaussians(step, run.noisy(size, self.seed) if size else run.test[1])
        clips = run.gaussians(step, run.test[1])
        noise = np.random.default_rng(self.seed).normal(size=clips.mean.shape)
        noisy = clips.mean + size * noise / np.sqrt(clips.mean.shape[-1])
        mean = unit(noisy.reshape(-1, noisy.shape[-1])).reshape(noisy.shape)
        return clips._replace(mean=jnp.where(clips.present[..., None], mean, clips.mean))

    def purity(self, batches: int) -> dict[str, Any]:
        """Of the pairs that the loss mines at each checkpoint: the share of one class, of one
        source, and of one class among those of two sources; and the same of all pairs."""
        rows = []
        for step in self._common_steps("mining"):
            each = [run.mined(step, batches, self.seed) for run in self.runs]
            pairs = float(np.mean([of["mined"].sum() / 2 / batches for of in each]))
            rows.append({"step": step, "pairs": pairs, **self._shares(each, "mined")})
        pairs = float(np.mean([of["all"].sum() / 2 / batches for of in each]))
        return {"mined": rows, "all": {"pairs": pairs, **self._shares(each, "all")}}

    def _shares(self, each: Sequence[Mapping[str, np.ndarray]], pairs: str) -> dict[str, Any]:
        shares = {"class": "", "source": "", "apart/class": "/apart"}
        return {
            name: self._of_each(
                [measures.ratio(of[f"{pairs}/{name}"], of[pairs + among]) for of in each],
                [of["of"] for of in each],
            )
            for name, among in shares.items()
        }

    def joined(self) -> dict[str, Any]:
        """Variances of videos of which half is from another video, and how well they tell these
        from whole videos, and from halves of two videos of one class."""
        videos = self.runs[0].videos
        chosen = measures.partners(videos, np.random.default_rng(self.seed))
        usable = (videos.windows > 1) & (chosen[KINDS[2]] >= 0) & (chosen[KINDS[3]] >= 0)
        there = {kind: usable & (rows >= 0) for kind, rows in chosen.items()}
        places: dict[str, Any] = {}
        for place in ("windows", "frames") if usable.any() else ():
            of_kind = {
                kind: [
                    self._of_joined(run, step, place, chosen[kind])
                    for run, step in zip(self.runs, self.steps)
                ]
                for kind in KINDS
            }
            places[place] = self._compared(of_kind, there)
        return {"videos": int(usable.sum()), "places": places}

    def _of_joined(self, run: Trained, step: int, place: str, rows: np.ndarray) -> Values:
        clips, present = run.test[1]
        others = clips[np.maximum(rows, 0)]
        if place == "windows":
            made = measures.halves_of_windows(clips, others, run.videos.windows)
        else:
            made = measures.halves_of_frames(clips, others)
        described = run.described(run.gaussians(step, Read(made, present)))
        return {**described.variance, INPUTS: measures.spread(made, present, *run.channels)}

    def _compared(
        self, of_kind: Mapping[str, Sequence[Values]], there: Mapping[str, np.ndarray]
    ) -> dict[str, Any]:
        """The means of each kind, and the areas of `COMPARED`."""
        sources, names = self.runs[0].videos.sources, (*PARTS, INPUTS)
        means = {
            kind: {"videos": int(there[kind].sum())}
            | {
                n: self._of_each(
                    [measures.mean_of(of[n][there[kind]]) for of in each],
                    [sources[there[kind]]] * len(self.runs),
                )
                for n in names
            }
            for kind, each in of_kind.items()
        }
        areas = []
        for one, other in COMPARED:
            first, second = there[one], there[other] & there[one]
            positive = np.arange(first.sum() + second.sum()) < first.sum()
            both = np.concatenate([sources[first], sources[second]])
            row: dict[str, Any] = {"one": one, "other": other, "videos": int(first.sum())}
            for n in names:
                pairs = zip(of_kind[one], of_kind[other])
                values = [np.concatenate([a[n][first], b[n][second]]) for a, b in pairs]
                statistics = [measures.area(of, positive) for of in values]
                row[n] = self._of_each(statistics, [both] * len(self.runs)) if len(both) else None
            areas.append(row)
        return {"means": means, "areas": areas}

    def _common_steps(self, name: str) -> Iterator[int]:
        """The steps of which all runs have a checkpoint."""
        common = set.intersection(*(set(run.job.steps()) for run in self.runs))
        with Progress().stage(name, len(common), "steps") as stage:
            for number, step in enumerate(sorted(common)):
                stage.update(number)
                yield step

    def _at(self, steps: Sequence[int]) -> tuple[list[Values], list[np.ndarray]]:
        """Variances of the test videos of each run at its step, and whether the nearest train video
        is of their class."""
        values, hits = list[Values](), []
        for run, step in zip(self.runs, steps):
            described = run.described(run.gaussians(step, run.test[1]))
            values.append({**described.variance, INPUTS: run.spread_of_inputs})
            hits.append(run.hits(step, described.video))
        return values, hits

    def _scores(
        self,
        values: Sequence[Values],
        hits: Sequence[np.ndarray],
        chosen: np.ndarray | None = None,
    ) -> dict[str, Any]:
        """R@1 and the mean variances; and the median of the total one, which no few videos move.
        Of all test videos, or of those chosen, bool[n]."""
        numbers = {"r@1": hits} | {p: [of[p] for of in values] for p in PARTS}
        means = {
            name: self._of_each([measures.mean_of(v, chosen) for v in each])
            for name, each in numbers.items()
        }
        inside = slice(None) if chosen is None else chosen
        return means | {"median": float(np.mean([np.median(of["total"][inside]) for of in values]))}

    def _of_each(
        self,
        statistics: Sequence[measures.Statistic],
        sources: Sequence[np.ndarray] | None = None,
    ) -> dict[str, Any]:
        """A statistic of each run as one interval; sources: those of the test videos."""
        sources = sources or [self.runs[0].videos.sources] * len(statistics)
        made = measures.interval(statistics, sources, seed=self.seed, resamples=self.resamples)
        return dict(as_json(made))
