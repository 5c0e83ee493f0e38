"""The feed of videos with captions; batch k is a pure function of k."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, ClassVar, Protocol

import numpy as np
import xxhash

from vidembed import TUNABLE
from vidembed.corpora.caption_rows import Captions, TextSource
from vidembed.feeds.feed import Batch
from vidembed.feeds.one_pass import check_step
from vidembed.feeds.passes import Passes
from vidembed.feeds.videos import Placement, TrainVideos, VideoFeed, VideoFeedOptions
from vidembed.records.statistics import Statistics
from vidembed.records.vocabulary import Vocabulary
from vidembed.tasks.spec import Spec

# Increase this whenever the same seed and data would give other batches than before.
SEQUENCE = 1
SHORTEST = 8
"""Tokens of a batch's captions at least."""
SENTENCES = "sentences"
"""The name of sentence vectors in a batch, and among the statistics."""


class CaptionedTrainVideos(TrainVideos, Protocol):
    """Videos with captions; the corpus of a run on captions has them."""

    @property
    def captions(self) -> Captions: ...
    @property
    def train_captions(self) -> np.ndarray: ...
    @property
    def vocabulary(self) -> Vocabulary: ...
    @property
    def text_source(self) -> TextSource: ...
    @property
    def text_fingerprint(self) -> str: ...
    @property
    def sentence_space(self) -> str: ...


@dataclass(frozen=True, kw_only=True)
class VideoCaptions(VideoFeedOptions):
    """Pairs of a train video and a caption: each caption once per pass, in a new random order.

    A pass need not be a whole number of batches: the last batch goes on with the next pass.
    """

    batch_pairs: int = 128
    """Pairs of a video and a caption per batch."""
    placement: Annotated[Placement, TUNABLE] = "automatic"
    """device: keep the table on the devices and send row numbers. host: gather features on the
    host and send them as stored. automatic: host for records that stay on disk, else device."""
    unit: ClassVar[str] = "pairs"

    def _open(
        self, corpus: CaptionedTrainVideos, *, seed: int, reads: tuple[str, ...]
    ) -> "VideoCaptionsFeed":
        if not len(corpus.train_captions):
            raise ValueError("no train video has a caption: check the captions and the split")
        return VideoCaptionsFeed(self, corpus, seed=seed, reads=reads)


class VideoCaptionsFeed(VideoFeed):
    """Batches of B pairs, with captions of at most L tokens, or with sentence vectors:

    rows       i32[B]                   whole  table row of each pair: equal rows, equal videos
    tokens     i32[B/hosts, L]          own    words by number, padded with 0
    words      i32[B/hosts]             own    the tokens of each caption
    sentences  f32[B/hosts, E]          own    instead of both, if the corpus has vectors
    features   name -> [B/hosts, F]     own
    lengths    i32[B/hosts]             own    frames of each video, of frame-level records
    present    name -> bool[B/hosts]    own

    L is the least of 8, 16, 32 and so on that holds the captions of the batch, at most the length
    of the longest train caption: a step is compiled for few lengths, and few tokens are padding.
    """

    split_axes: Mapping[str, int | None] = {
        "rows": None,
        "tokens": 0,
        "words": 0,
        "sentences": 0,
        "features": 0,
        "lengths": 0,
        "present": 0,
    }
    config: VideoCaptions
    _corpus: CaptionedTrainVideos

    def __init__(
        self,
        config: VideoCaptions,
        corpus: CaptionedTrainVideos,
        *,
        seed: int,
        reads: tuple[str, ...],
    ) -> None:
        super().__init__(config, corpus, seed=seed, reads=reads)
        self._captions, self._source = corpus.train_captions, corpus.text_source
        self._passes = Passes(seed, self._captions)

    @property
    def spec(self) -> Spec:
        """See `Feed`; includes the words, or the width of sentence vectors."""
        sizes = Spec(widths=self._table.widths, framed=self._framed)
        if self._source.sentences is not None:
            width, space = self._source.sentences.shape[1], self._corpus.sentence_space
            return replace(sizes, sentence_width=width, sentence_space=space)
        words = self._corpus.vocabulary.words
        return replace(sizes, words=len(words), vocabulary=words)

    def statistics(self) -> Statistics:
        """Mean and deviation of each feature over the train videos, and of `sentences` over their
        captions, if the corpus has vectors."""
        known = super().statistics()
        if self._source.sentences is None:
            return known
        vectors = self._source.sentences[self._captions].astype(np.float64)
        of_text = {"mean": vectors.mean(0), "deviation": vectors.std(0)}
        return {**known, SENTENCES: {n: v.astype(np.float32) for n, v in of_text.items()}}

    @property
    def one_pass(self) -> tuple[int, str]:
        """See `Feed`."""
        return len(self._captions), "captions of train videos"

    @cached_property
    def fingerprint(self) -> str:
        """See `Feed`."""
        settings = ("captions", SEQUENCE, self.config.batch_pairs, self.seed)
        data = (self._table.fingerprint, self._corpus.text_fingerprint)
        digest = xxhash.xxh3_128(repr((*settings, *data)).encode())
        digest.update(self._captions.astype(np.int64).tobytes())
        return digest.hexdigest()

    def captions_at(self, step: int) -> np.ndarray:
        """The captions i64[B] of the whole batch `step`."""
        check_step(step)
        return self._passes.batch(step, self.config.batch_pairs)

    def _drawn(self, step: int, host_slice: slice) -> Batch:
        captions = self.captions_at(step)
        text = self._source.read(captions[host_slice])
        if "tokens" in text:
            text["tokens"] = text["tokens"][:, : self._length(captions)]
        return {"rows": self._corpus.captions.videos[captions], **text}

    @cached_property
    def _longest(self) -> int:
        """Tokens of the longest train caption."""
        assert self._source.words is not None, "only words have a length"
        return int(self._source.words[self._captions].max())

    def _length(self, captions: np.ndarray) -> int:
        """L, equal on all hosts."""
        assert self._source.words is not None, "only words have a length"
        most = int(self._source.words[captions].max())
        return min(self._longest, max(SHORTEST, 1 << (most - 1).bit_length()))
