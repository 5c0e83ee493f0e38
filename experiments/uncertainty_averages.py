"""The tables of `clips_uncertainty`: runs of the same data, each measure averaged over them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from experiments import uncertainty_measures as measures
from experiments.uncertainty_measures import KINDS, as_json
from experiments.uncertainty_runs import INPUTS, PARTS, Read, Trained
from vidembed.losses.mixtures import Clips
from vidembed.metrics.nearest_hit import unit
from vidembed.progress import Progress

COMPARED = ((KINDS[1], KINDS[0]), (KINDS[2], KINDS[0]), (KINDS[3], KINDS[0]), (KINDS[3], KINDS[2]))
"""Kinds of joints: which has the higher variance?"""
Values = Mapping[str, np.ndarray]
"""Parts of the variance of n videos, and the spread of their inputs, f64[n]."""


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
