"""The feed that goes once over all train videos that have a target, with their targets."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar

import numpy as np
import xxhash

from vidembed import PATH
from vidembed.corpora.targets import Targets, from_file, from_modality, from_relations
from vidembed.feeds.feed import Batch
from vidembed.feeds.one_pass import OnePass, OnePassFeed, check_step
from vidembed.feeds.videos import RelatedTrainVideos
from vidembed.graph.relation import check_no_leak
from vidembed.tasks.spec import Spec

# Increase this whenever the same seed and data would give other batches than before.
SEQUENCE = 1


@dataclass(frozen=True, kw_only=True)
class TargetPass(OnePass):
    """Where targets come from, and how the pass is divided."""

    targets: Annotated[str, PATH] = ""
    """Target vectors by id: Parquet (video_id, vector), X.npy with X.ids.txt, or a table with one
    modality."""
    modality: str = ""
    """Or a modality of the corpus' own table."""
    factors: int = 256
    """Or, if neither is given, this many factors of the train videos' relations."""
    batch_targets: int = 64
    """Split over the devices; the number of videos in a batch is a multiple of it."""
    parts: int = 8
    """Number of steps of the whole pass, as in the recipe."""
    unit: ClassVar[str] = "targets"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.targets and self.modality:
            raise ValueError("targets are vectors of a file or a modality: give one of them")
        if self.factors < 1:
            raise ValueError(f"factors {self.factors} must be 1 or more")

    def _open(
        self, corpus: RelatedTrainVideos, *, seed: int, reads: tuple[str, ...]
    ) -> "TargetPassFeed":
        """Raises ValueError if no train video has a target, or if the network reads the target
        modality."""
        if self.modality in reads:
            raise ValueError(
                f"the network reads {self.modality}, which is also its target: name only the "
                "modalities that it should read (--task.model.modalities)"
            )
        check_no_leak(corpus.train_graph, corpus.is_train)
        table, is_train = corpus.table, corpus.is_train
        if self.targets:
            targets = from_file(self.targets, table, is_train)
        elif self.modality:
            targets = from_modality(self.modality, table, is_train)
        else:
            targets = from_relations(corpus.train_graph, is_train, self.factors)
        return TargetPassFeed(self, corpus, targets, seed=seed, reads=reads)


class TargetPassFeed(OnePassFeed):
    """A batch has one group of B train videos:

    rows     i32[1, B]            whole  table rows
    counts   f32[1, B/hosts]      own    1 for a video; 0: empty
    targets  f32[1, B/hosts, K]   own    their targets, less `mean`
    mean     f32[K]               whole  that of all targets

    and, in host placement, features and present as other feeds. B follows from the data.
    """

    split_axes: Mapping[str, int | None] = {
        "rows": None, "counts": 1, "targets": 1, "mean": None, "features": 1, "present": 1,
    }  # fmt: skip

    config: TargetPass

    def __init__(
        self,
        config: TargetPass,
        corpus: RelatedTrainVideos,
        targets: Targets,
        *,
        seed: int,
        reads: tuple[str, ...],
    ) -> None:
        super().__init__(config, corpus, seed=seed, reads=reads)
        self._targets = targets
        # In random order, so that every device has its share of the table's rows to send.
        self._order = np.random.default_rng(seed).permutation(len(targets.rows))
        self.videos = targets.rows[self._order].astype(np.int32)
        self.each = -(-len(self.videos) // (config.parts * config.batch_targets))

    @property
    def spec(self) -> Spec:
        """See `VideoFeed`; with the width of a target."""
        return Spec(widths=self._table.widths, targets=self._targets.width)

    @cached_property
    def fingerprint(self) -> str:
        """See `VideoFeed`; covers the targets."""
        digest, config = xxhash.xxh3_128(), self.config
        digest.update(f"{SEQUENCE} {self.seed} {config.parts} {config.batch_targets} ".encode())
        for array in (self.videos, self._targets.values, self._targets.mean):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()

    @property
    def one_pass(self) -> tuple[int, str]:
        """See `VideoFeed`."""
        size = self.config.parts * self.config.batch_targets
        return size, f"shares of {len(self.videos):,} train videos with a target"

    @property
    def notes(self) -> tuple[str, ...]:
        """Videos without a target, then the notes of `OnePassFeed`."""
        return (*self._targets.notes, *super().notes)

    def _drawn(self, step: int, host_slice: slice) -> Batch:
        check_step(step)
        size, known = self.config.batch_targets * self.each, self._targets
        some = slice(step * size, (step + 1) * size)
        videos = self.videos[some]
        rows = np.full((1, size), self.videos[0], np.int32)
        counts = np.zeros((1, size), np.float32)
        targets = np.zeros((1, size, known.width), np.float32)
        rows[0, : len(videos)], counts[0, : len(videos)] = videos, 1
        targets[0, : len(videos)] = known.values[self._order[some]]
        return {
            "rows": rows,
            "counts": counts[:, host_slice],
            "targets": targets[:, host_slice],
            "mean": known.mean.astype(np.float32),
        }
