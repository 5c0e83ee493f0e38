"""What the toys share: rows of which every fifth is held out, batches of them, a mean over them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from vidembed.evaluators.evaluator import Evaluator
from vidembed.feeds.feed import ONE_HOST, Feed, FeedOptions
from vidembed.metrics.intervals import Result, bootstrap
from vidembed.records.scores_file import PerQuery


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Made from its own options; `read(rows)` gives what is stored of them, a dict of arrays."""

    videos: int = 160
    space: ClassVar[Mapping[str, str]] = {}
    notes, simulated = (), True

    def open(self):
        return self

    def __len__(self):
        return self.videos

    @property
    def rows(self):
        return repr(self)

    @property
    def is_train(self):
        return np.arange(self.videos) % 5 > 0

    def check(self, batch):
        if not self.is_train[batch["rows"]].all():
            raise ValueError("a batch holds rows that are held out")


@dataclass(frozen=True, kw_only=True)
class Rows(FeedOptions):
    """Train rows at random, none twice in a batch."""

    batch_videos: int = 32
    unit: ClassVar[str] = "videos"

    def open(self, corpus, *, seed, reads=()):
        return Drawn(self, corpus, seed)

    def drawn(self, train, seed, step):
        """The rows of a batch, and what it has besides what the corpus reads of them."""
        return np.random.default_rng((seed, step)).permutation(train)[: self.batch_videos], {}


class Drawn(Feed):
    """Each host reads the rows of its own part alone."""

    def __init__(self, config, corpus, seed):
        super().__init__(config)
        self.corpus, self.seed, self.spec = corpus, seed, corpus.spec
        self.train = np.flatnonzero(corpus.is_train)
        self.fingerprint = repr((config, corpus.rows, seed))
        self.one_pass = len(self.train), "train videos"
        # Scalars are whole on every device, arrays are split by their first axis.
        self.split_axes = {n: 0 if np.ndim(value) else None for n, value in self.at(0).items()}

    def ids_at(self, step):
        return self.at(step, ONE_HOST)["rows"].astype("S")

    def _make(self, step, own, out):
        rows, more = self.config.drawn(self.train, self.seed, step)
        more = {name: value[own] if np.ndim(value) else value for name, value in more.items()}
        return {"rows": rows[own], **self.corpus.read(rows[own]), **more}


@dataclass(frozen=True, kw_only=True)
class HeldOut(Evaluator):
    """Means over the rows that are held out; `values(outputs, corpus)` is f64[Q] by name."""

    seed: int = 0
    """Of the bootstrap."""

    def check(self, corpus):
        if corpus.is_train.all():
            raise ValueError("no row is held out")

    def run(self, outputs, corpus, *, mesh):
        values = self.values(outputs, corpus)
        ids = np.flatnonzero(~corpus.is_train).astype("S")
        per_query = {"held_out": PerQuery(ids=ids, values=values)}
        return Result(scores=bootstrap([values], seed=self.seed), per_query=per_query)
