"""The videos of a run on captions: features, captions, their words, and the split."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated

import numpy as np
import xxhash

from vidembed import PATH
from vidembed.corpora.caption_files import ENGLISH, CaptionFile, CaptionsError, read_captions
from vidembed.corpora.caption_rows import Captions, TextSource, joined, published_split
from vidembed.corpora.record_paths import RecordPaths, reading_notes
from vidembed.corpora.sentence_vectors import sentence_vectors
from vidembed.corpora.split_videos import SplitVideos
from vidembed.records.vocabulary import Vocabulary


@dataclass(frozen=True, kw_only=True)
class CaptionCorpus(SplitVideos):
    """A feature table of N videos with M captions, split by video."""

    captions: Captions
    """The captions of all N videos."""
    vocabulary: Vocabulary
    """The words of the captions of train videos."""
    longest: int
    """Tokens of a caption at most, with START and END; further words are cut off."""
    vectors: np.ndarray | None = None
    """f32[M, E]: a sentence vector of each caption, to use instead of its words."""
    sentence_space: str = ""
    """What made the sentence vectors."""
    reading_notes: tuple[str, ...] = ()
    """Remarks from reading captions and split."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.captions.offsets) != len(self.table) + 1:
            raise ValueError(
                f"captions of {len(self.captions.offsets) - 1:,} videos, but the table has "
                f"{len(self.table):,}"
            )
        if self.vectors is not None and self.vectors.shape[:1] != (len(self.captions),):
            raise ValueError(
                f"{len(self.captions):,} captions need as many sentence vectors, found "
                f"{self.vectors.dtype}{list(self.vectors.shape)}"
            )

    @property
    def simulated(self) -> bool:
        """False: no user behaviour is part of it."""
        return False

    @cached_property
    def has_captions(self) -> np.ndarray:
        """bool[N]: the videos with at least one caption."""
        return self.captions.per_row > 0

    @cached_property
    def train_captions(self) -> np.ndarray:
        """i64[n]: the captions of train videos."""
        return np.flatnonzero(self.is_train[self.captions.videos])

    @property
    def parts(self) -> Mapping[str, np.ndarray]:
        """The videos to evaluate, bool[N], by part: those with captions for testing, and for
        validation if there are any."""
        parts = {"test": self.is_test & self.has_captions}
        validation = self.is_validation & self.has_captions
        return parts | ({"validation": validation} if validation.any() else {})

    @cached_property
    def text_source(self) -> TextSource:
        """The inputs of a text encoder, one row per caption."""
        if self.vectors is not None:
            return TextSource(sentences=self.vectors)
        tokens, words = self.vocabulary.encode(self.captions.texts, self.longest)
        return TextSource(tokens=tokens, words=words)

    @cached_property
    def text_fingerprint(self) -> str:
        """Digest of the captions, and of what an encoder reads of them."""
        known = (self.captions.fingerprint, self.vocabulary.words, self.longest)
        digest = xxhash.xxh3_128(repr(known).encode())
        if self.vectors is not None:
            digest.update(self.sentence_space.encode())
            digest.update(np.ascontiguousarray(self.vectors).tobytes())
        return digest.hexdigest()

    @cached_property
    def rows(self) -> str:
        """Digest of features, captions and split: equal for equal data, on any machine."""
        digest = xxhash.xxh3_128(f"{self.table.fingerprint} {self.text_fingerprint}".encode())
        digest.update(self.split_bytes)
        return digest.hexdigest()

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on the data for the user."""
        counts = self.report()
        parts = ", ".join(f"{counts[f'{part}_videos']:,} for {part}" for part in self.parts)
        notes: tuple[str, ...] = (
            f"{counts['videos']:,} videos, {counts['train_videos']:,} of them with captions for "
            f"training, {parts}; {counts['captions']:,} captions, {counts['train_captions']:,} of "
            f"them for training; {counts['words']:,} words",
        )
        if without := counts["videos_without_captions"]:
            notes += (f"{without:,} videos have no caption and are left out",)
        return (*self.reading_notes, *notes)

    def report(self) -> dict[str, object]:
        """Counts of videos, captions and words, for reports."""
        return {
            "videos": len(self.table),
            "train_videos": int((self.is_train & self.has_captions).sum()),
            **{f"{part}_videos": int(mask.sum()) for part, mask in self.parts.items()},
            "videos_without_captions": int((~self.has_captions).sum()),
            "captions": len(self.captions),
            "train_captions": len(self.train_captions),
            "words": len(self.vocabulary),
        }


@dataclass(frozen=True, kw_only=True)
class CaptionPaths(RecordPaths):
    """The paths to the data of a run on captions, and the options of its split.

    If the file of captions says in which part each video is, that split applies, unless another is
    given. Otherwise ids are hashed, and validation takes a third of the videos outside train.
    """

    captions: Annotated[str, PATH] = ""
    """Captions: CSV, Parquet or JSON lines of video_id, caption; MSR-VTT's videodatainfo.json; a
    list of 1k-A; MSVD's CSV. A column split (train, validation, test) applies."""
    encoder: Annotated[str, PATH] = ""
    """Folder of a sentence encoder, whose vectors are read instead of words. If there is no such
    folder, the default one (all-MiniLM-L6-v2, 22 MB) is downloaded to it. Vectors are computed
    once, and stored in it."""
    language: str = ENGLISH
    """Of a file with captions in several languages (MSVD): the one to read; "" for all."""
    max_unknown_share: float = 0.01
    """Largest share of captions that may name unknown videos; these are dropped and counted."""
    least_count: int = 4
    """Words that occur less often in the captions of train videos are unknown words."""
    longest_caption: int = 60
    """Words of a caption at most; further ones are cut off."""
    validation_share: float = 1 / 3
    """Share of the videos outside train by which checkpoints are chosen, if ids are hashed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.max_unknown_share <= 1:
            raise ValueError(f"max_unknown_share {self.max_unknown_share} must lie in [0, 1]")
        for name in ("least_count", "longest_caption"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}")

    def open(self) -> CaptionCorpus:
        """Read, check and split the data; raises if a file is missing or does not fit."""
        if (self.table or self.records) and not self.captions:
            raise ValueError("no captions given: set --corpus.captions PATH")
        table = self.open_table()
        file = read_captions(self.captions, language=self.language)
        captions, notes = joined(
            file, table, self.captions, max_unknown_share=self.max_unknown_share
        )
        if file.parts and not self.split:
            split = published_split(file, table, captions, self.captions)
        else:
            split = self.split_of(table)
            notes += _unused(file, self.captions)
        train = captions.per_row[split.train].sum()
        if not train:
            raise CaptionsError(
                f"{self.captions}: none of its {len(captions):,} captions is of one of the "
                f"{int(split.train.sum()):,} train videos: check the ids, or give another split "
                "(--corpus.split)"
            )
        if (count := int((split.train & (captions.per_row > 0)).sum())) < 2:
            raise CaptionsError(
                f"{self.captions}: {count} of the {int(split.train.sum()):,} train videos has "
                "captions, so there is no other video to tell it apart from: give captions of "
                "more train videos, or another split (--corpus.split)"
            )
        vocabulary = Vocabulary.of(
            captions.of(np.flatnonzero(split.train)).texts, least=self.least_count
        )
        # A text has no more words than characters, so that only a few must be split for this.
        counts = vocabulary.word_counts(
            [t for t in captions.texts if len(t) > self.longest_caption]
        )
        if long := int((counts > self.longest_caption).sum()):
            notes += (
                f"{long:,} captions have more than {self.longest_caption} words (at most "
                f"{int(counts.max())}): the others are cut off (--corpus.longest-caption)",
            )
        encoded = sentence_vectors(self.encoder, captions.texts) if self.encoder else None
        corpus = CaptionCorpus(
            table=table,
            vectors=None if encoded is None else encoded.vectors,
            sentence_space="" if encoded is None else encoded.space,
            is_train=split.train,
            is_validation=split.validation,
            captions=captions,
            vocabulary=vocabulary,
            longest=self.longest_caption + 2,
            reading_notes=notes + split.notes + reading_notes(table),
        )
        if not corpus.parts["test"].any():
            raise CaptionsError(
                f"{self.captions}: none of its {len(captions):,} captions is of one of the "
                f"{int(corpus.is_test.sum()):,} test videos: give another split (--corpus.split)"
            )
        return corpus


def _unused(file: CaptionFile, name: str) -> tuple[str, ...]:
    return (f"--corpus.split replaces the split in {name}",) if file.parts else ()
