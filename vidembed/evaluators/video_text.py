"""Evaluate a joint embedding of videos and captions: search by text, and for text (JEMC)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import jax
import numpy as np

from vidembed.evaluators.evaluator import Evaluator
from vidembed.metrics.caption_intervals import SUM, bootstrap
from vidembed.metrics.caption_ranks import BothRanks, caption_ranks
from vidembed.metrics.intervals import Interval, Result, Selection
from vidembed.metrics.tied_ranks import Ranks
from vidembed.records.scores_file import PerQuery
from vidembed.records.table import FeatureTable


class RaggedCaptions(Protocol):
    """M captions of N videos."""

    @property
    def offsets(self) -> np.ndarray:
        """i64[N + 1]: the captions of row n are those from offsets[n] to offsets[n + 1]."""


class CaptionedVideos(Protocol):
    """What is read of a corpus."""

    @property
    def table(self) -> FeatureTable:
        """N videos."""

    @property
    def captions(self) -> RaggedCaptions:
        """Their captions."""

    @property
    def text_source(self) -> Any:
        """The inputs of the output `text`; its rows are the M captions."""

    @property
    def parts(self) -> Mapping[str, np.ndarray]:
        """`test` and, if there are any, `validation` → bool[N]."""


class Gallery(NamedTuple):
    """The videos of a part that have captions, with these."""

    rows: np.ndarray
    """i64[V]: table rows."""
    numbers: np.ndarray
    """i64[Q]: captions, by video."""
    owners: np.ndarray
    """i64[Q]: for each caption, the place of its video in `rows`."""


Vectors = Callable[[Gallery], tuple[np.ndarray, np.ndarray]]
"""The vectors of a gallery: videos f32[V, D] and captions f32[Q, D]."""


@dataclass(frozen=True, kw_only=True)
class VideoText(Evaluator):
    """How well captions find their video among the videos of a part, and videos their captions.

    Scores are dot products. R@k is the share of queries with a right answer among the first k;
    `mean_rank` and `median_rank` are of the first right answer, 1 at best (see
    `metrics.tied_ranks`: ties are in random order, the median is rounded down as papers do).
    Every caption is a query. Intervals resample videos with all of their captions.
    `sum_of_recalls`, over all k and both directions, chooses the checkpoint. Videos without
    captions are left out and counted.
    """

    at: tuple[int, ...] = (1, 5, 10)
    """Depths k of R@k."""
    captions_each: int = 0
    """Captions of a video that count, the first ones; 0: all. Papers on MSVD have used all of its
    some 40, or five."""
    resamples: int = 1000
    """Bootstrap resamples behind each 95 % interval."""
    seed: int = 0
    """Seed of the bootstrap and of `shuffled`."""
    dual_softmax: bool = False
    """Score by the softmax over all queries of the part. It uses all queries at once, so it is no
    measure of a search by one user; some papers report it."""
    temperature: float = 0.05
    """Temperature of this softmax."""

    def __post_init__(self) -> None:
        if not self.at or min(self.at) < 1 or len(set(self.at)) < len(self.at):
            raise ValueError(f"at must be distinct depths of 1 or more, found {self.at}")
        if self.captions_each < 0:
            raise ValueError(f"captions_each {self.captions_each} must be 0 (all) or more")
        if self.resamples < 40:
            raise ValueError(f"{self.resamples} resamples are too few for an interval: use 1,000")
        if not 0 < self.temperature < float("inf"):
            raise ValueError(f"temperature is {self.temperature}, but must be above 0")

    def check(self, corpus: CaptionedVideos) -> None:
        """Raise ValueError if a part has fewer than two videos with captions."""
        for part, inside in corpus.parts.items():
            if (count := len(self._gallery(corpus, part).rows)) < 2:
                raise ValueError(
                    f"{count} of the {int(inside.sum()):,} {part} videos have captions, but a "
                    "search needs two or more: give their captions, or change the split"
                )

    def run(
        self,
        outputs: Mapping[str, Callable[..., np.ndarray]],
        corpus: CaptionedVideos,
        *,
        mesh: jax.sharding.Mesh | None = None,
    ) -> Result:
        """Measure the outputs `video`, of table rows, and `text`, of caption numbers.

        Scores are named `test/text_to_video/r@1`, `test/video_to_text/median_rank`,
        `validation/sum_of_recalls`. Raises ValueError if the task lacks an output, and for vectors
        of different widths or that are not finite.
        """
        del mesh
        return self.measure(_vectors(outputs, corpus), corpus)

    def shuffled(
        self, outputs: Mapping[str, Callable[..., np.ndarray]], corpus: CaptionedVideos
    ) -> Result:
        """The same outputs with each part's video vectors in random order: close to chance, unless
        something but the videos' content is measured."""
        vectors, rng = _vectors(outputs, corpus), np.random.default_rng(self.seed)

        def permuted(part: Gallery) -> tuple[np.ndarray, np.ndarray]:
            videos, texts = vectors(part)
            return rng.permutation(videos), texts

        return self.measure(permuted, corpus)

    def measure(self, vectors: Vectors, corpus: CaptionedVideos) -> Result:
        """The result of any vectors."""
        temperature = self.temperature if self.dual_softmax else None

        def ranked(part: Gallery) -> BothRanks:
            return caption_ranks(*vectors(part), part.owners, temperature=temperature)

        return self._result(ranked, corpus)

    def baselines(
        self, corpus: CaptionedVideos, *, mesh: jax.sharding.Mesh | None = None
    ) -> dict[str, Result]:
        """`chance`: the expected scores of a random order."""
        del mesh
        return {"chance": self._result(_all_tied, corpus)}

    def selection(self, values: Mapping[str, float]) -> Selection:
        """The sum of recalls on validation videos if they were measured, else on test videos."""
        name = f"validation/{SUM}"
        name = name if name in values else f"test/{SUM}"
        return Selection(name=name, value=values[name])

    def counts(self, corpus: CaptionedVideos) -> dict[str, dict[str, int]]:
        """Direction → number of `queries`, and of videos `left_out`."""
        counts = {}
        for part, inside in corpus.parts.items():
            measured = self._gallery(corpus, part)
            videos, captions = len(measured.rows), len(measured.numbers)
            common = {"left_out": int(inside.sum()) - videos}
            for direction, queries in zip(BothRanks._fields, (captions, videos), strict=True):
                counts[f"{part}/{direction}"] = {"queries": queries} | common
        return counts

    def _gallery(self, corpus: CaptionedVideos, part: str) -> Gallery:
        return gallery(corpus, part, self.captions_each)

    def _result(self, ranked: Callable[[Gallery], BothRanks], corpus: CaptionedVideos) -> Result:
        self.check(corpus)
        scores: dict[str, Interval] = {}
        per_query: dict[str, PerQuery] = {}
        for part in corpus.parts:
            measured = self._gallery(corpus, part)
            ranks = ranked(measured)
            intervals = bootstrap(
                ranks, measured.owners, at=self.at, seed=self.seed, resamples=self.resamples
            )
            scores |= {f"{part}/{name}": interval for name, interval in intervals.items()}
            ids = corpus.table.ids[measured.rows]
            sides = zip(BothRanks._fields, ranks, (ids[measured.owners], ids), strict=True)
            for direction, side, of_video in sides:
                per_query[f"{part}/{direction}"] = PerQuery(
                    ids=of_video, values=side.metrics(self.at)
                )
        return Result(scores=scores, per_query=per_query)


def gallery(corpus: CaptionedVideos, part: str, captions_each: int = 0) -> Gallery:
    """The videos of a part that have captions, with all of them or their first `captions_each`."""
    offsets = corpus.captions.offsets
    counts = np.diff(offsets)
    counts = np.minimum(counts, captions_each) if captions_each else counts
    rows = np.flatnonzero(corpus.parts[part] & (counts > 0))
    owners = np.repeat(np.arange(len(rows)), counts[rows])
    before = np.cumsum(counts[rows]) - counts[rows]
    numbers = np.arange(len(owners)) + (offsets[rows] - before)[owners]
    return Gallery(rows, numbers, owners)


def _vectors(outputs: Mapping[str, Callable[..., np.ndarray]], corpus: CaptionedVideos) -> Vectors:
    if lacking := [name for name in ("video", "text") if name not in outputs]:
        raise ValueError(
            f"a search by text needs the outputs `video` and `text`; this task lacks "
            f"{' and '.join(lacking)} and has {', '.join(outputs) or 'none'}: choose another "
            "evaluator for it"
        )

    def vectors(part: Gallery) -> tuple[np.ndarray, np.ndarray]:
        videos = outputs["video"](corpus.table, part.rows)
        texts = outputs["text"](corpus.text_source, part.numbers)
        return np.asarray(videos, np.float32), np.asarray(texts, np.float32)

    return vectors


def _all_tied(part: Gallery) -> BothRanks:
    """The ranks of a constant similarity."""
    videos, captions = len(part.rows), len(part.owners)
    own = np.bincount(part.owners, minlength=videos)
    one, none = np.ones(captions, np.int64), np.zeros
    return BothRanks(
        Ranks(none(captions, np.int64), one * (videos - 1), one),
        Ranks(none(videos, np.int64), captions - own, own),
    )
