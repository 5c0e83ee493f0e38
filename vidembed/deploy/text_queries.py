"""Sentences as vectors in a run's space, to search its videos by words."""

import logging
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from vidembed.engine.model import load_model
from vidembed.media.sentences import SentenceEncoder
from vidembed.records.vocabulary import Vocabulary, words_of
from vidembed.workdir.layout import Workdir

OUTPUT = "text"
"""The output of a task that embeds captions."""
_log = logging.getLogger(__name__)


class Sentences:
    """The inputs of a text encoder by name, one row per sentence."""

    def __init__(self, arrays: Mapping[str, np.ndarray]) -> None:
        self._arrays = arrays

    def __len__(self) -> int:
        return len(next(iter(self._arrays.values())))

    def read(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        """The inputs of sentences i64[B]."""
        return {name: array[rows] for name, array in self._arrays.items()}


@dataclass(frozen=True, kw_only=True, eq=False)
class TextQueries:
    """The text encoder of a run, with what turns sentences into its inputs."""

    compute: Callable[[Any], np.ndarray]
    vocabulary: Vocabulary | None
    """Of a run that reads words."""
    longest: int
    """Tokens of a sentence at most."""
    encoder: SentenceEncoder | None
    """Of a run that reads sentence vectors."""

    @staticmethod
    def open(
        workdir: Workdir,
        step: int,
        *,
        mesh: jax.sharding.Mesh,
        classes: Collection[type] = (),
        encoder: str | os.PathLike[str] | None = None,
    ) -> "TextQueries":
        """The text encoder of a checkpoint. encoder: the folder of the sentence encoder; by default
        where it was in training. Raises ValueError for another encoder."""
        model = load_model(workdir, str(step), outputs=(OUTPUT,), mesh=mesh, classes=classes)
        spec = (workdir.read_recipe() or {})["spec"]
        paths: Any = model.recipe.corpus
        if not (space := spec.get("sentence_space")):
            vocabulary = Vocabulary(words=tuple(spec["vocabulary"]))
            longest = paths.longest_caption + 2
            return TextQueries(
                compute=model[OUTPUT], vocabulary=vocabulary, longest=longest, encoder=None
            )
        network = SentenceEncoder.open(encoder or paths.encoder)
        if network.space != space:
            raise ValueError(
                f"the run reads sentence vectors of {space}, but {encoder or paths.encoder} is "
                f"{network.space}: name the folder of the encoder it was trained with (--encoder)"
            )
        return TextQueries(compute=model[OUTPUT], vocabulary=None, longest=0, encoder=network)

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """f32[n, D] of n sentences. Words that a vocabulary lacks are named in a warning. Raises
        ValueError for an empty sentence, and for one without any known word."""
        if blank := [text for text in texts if not any(map(str.isalnum, text))]:
            raise ValueError(f"{blank[0]!r} has no word to search by")
        if self.encoder is not None:
            return self.compute(Sentences({"sentences": self.encoder(texts)}))
        assert self.vocabulary is not None
        for text in texts:
            unknown = self.vocabulary.unknown(text)
            if len(unknown) == len(set(words_of(text))):
                raise ValueError(
                    f"{text!r} has no word that occurred often enough in the captions of the run's "
                    "train videos: use other words, or a run on sentence vectors "
                    "(task.model.text:sentences), which knows all"
                )
            if unknown:
                _log.warning("%r: unknown words are skipped: %s", text, ", ".join(unknown))
        tokens, words = self.vocabulary.encode(texts, self.longest)
        return self.compute(Sentences({"tokens": tokens, "words": words}))
