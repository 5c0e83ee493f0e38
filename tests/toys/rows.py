"""What the toys share: rows of which every fifth is held out, batches of them, a mean over them.

Nothing here is known to the engine but by its protocols.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import ClassVar

import numpy as np

from vidembed.metrics.intervals import Result, Selection, bootstrap
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
class Rows:
    """Train rows at random, none twice in a batch."""

    batch_videos: int = 32
    unit: ClassVar[str] = "videos"

    @property
    def examples(self):
        return self.batch_videos

    def open(self, corpus, *, seed, reads=()):
        return Drawn(self, corpus, seed, reads)

    def drawn(self, train, seed, step):
        """The rows of a batch, and what it has besides what the corpus reads of them."""
        return np.random.default_rng((seed, step)).permutation(train)[: self.batch_videos], {}


@dataclass(frozen=True)
class Drawn:
    """Each host reads the rows of its own part alone."""

    options: Rows
    corpus: Corpus
    seed: int
    reads: tuple[str, ...]
    notes, events = (), ()

    @property
    def spec(self):
        return self.corpus.spec

    @property
    def fingerprint(self):
        return repr((self.options, self.corpus.rows, self.seed))

    @property
    def one_pass(self):
        return int(self.corpus.is_train.sum()), "train videos"

    @property
    def split_axes(self):
        """Scalars are whole on every device, arrays are split by their first axis."""
        return {name: 0 if np.ndim(value) else None for name, value in self.at(0).items()}

    def statistics(self):
        return None

    def resident(self):
        return {}

    def _drawn(self, step):
        return self.options.drawn(np.flatnonzero(self.corpus.is_train), self.seed, step)

    def at(self, step, part=(0, 1)):
        rows, more = self._drawn(step)
        number, count = part
        own = slice(number * len(rows) // count, (number + 1) * len(rows) // count)
        more = {name: value[own] if np.ndim(value) else value for name, value in more.items()}
        return {"rows": rows[own], **self.corpus.read(rows[own]), **more}

    def batches(self, start, stop, part=(0, 1)):
        return ((step, self.at(step, part), 0.0) for step in range(start, stop))

    def ids_at(self, step):
        return self._drawn(step)[0].astype("S")

    def events_of(self, batch):
        return ()


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Means over the rows that are held out; `values(outputs, corpus)` is f64[Q] by name."""

    seed: int = 0
    """Of the bootstrap."""

    def identity(self):
        return {"class": type(self).__name__, **asdict(self)}

    def check(self, corpus):
        if corpus.is_train.all():
            raise ValueError("no row is held out")

    def run(self, outputs, corpus, *, mesh):
        values = self.values(outputs, corpus)
        ids = np.flatnonzero(~corpus.is_train).astype("S")
        per_query = {"held_out": PerQuery(ids=ids, values=values)}
        return Result(scores=bootstrap([values], seed=self.seed), per_query=per_query)

    def baselines(self, corpus, *, mesh):
        return {}

    def selection(self, values):
        name = next(iter(values))
        return Selection(name=name, value=values[name])

    def counts(self, corpus):
        return {"held_out": {"queries": int((~corpus.is_train).sum()), "left_out": 0}}
