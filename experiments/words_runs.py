"""Joint spaces of videos and texts, trained by the verb and read back as systems."""

import gc
from collections.abc import Sequence
from pathlib import Path

import jax
import numpy as np

import vidembed
from experiments.annotation_runs import verb
from experiments.words_data import Worded
from experiments.words_systems import Answers, Encode, Question
from vidembed.deploy.text_queries import Sentences, TextQueries
from vidembed.distributed.mesh import MeshShape, make_mesh
from vidembed.records.vocabulary import words_of
from vidembed.workdir.layout import Workdir


def train(place: Path, given: Sequence[str], *options: str, seed: int) -> None:
    """Train on the data that is given, unless `place` holds such a run that is done.

    Raises ValueError for a run with other options.
    """
    same_options(place, [*given, *options])
    if Workdir(place).done() is None:
        verb("train", "jemc", "--workdir", str(place), "--seed", str(seed), *given, *options)
        jax.clear_caches()  # each run has its own programs
        gc.collect()


def same_options(place: Path, options: Sequence[str]) -> None:
    """Note beside `place` what it is made with; raises ValueError if that was something else."""
    note, text = place.with_name(place.name + ".options.txt"), "\n".join(options) + "\n"
    if place.exists() and note.exists() and note.read_text() != text:
        raise ValueError(
            f"{place} was made with other options ({note}): give another --workdir, or delete both"
        )
    note.parent.mkdir(parents=True, exist_ok=True)
    note.write_text(text)


def answers_of(place: Path, data: Worded, encode: Encode) -> Answers:
    """The last checkpoint of a run. Zeros are the vectors of videos without anything that it reads,
    and of questions without a word that it has seen."""
    run = vidembed.load(str(place), "latest")
    queries = TextQueries.open(Workdir(place), run.step, mesh=make_mesh(MeshShape()))

    def texts(of: Sequence[Question]) -> np.ndarray:
        asked, words = [each.text for each in of], queries.vocabulary
        if words is None:  # the vectors of sentences are known already
            return queries.compute(Sentences({"sentences": encode(asked)}))
        tokens, lengths = words.encode(asked, queries.longest)
        vectors = queries.compute(Sentences({"tokens": tokens, "words": lengths}))
        known = [len(words.unknown(text)) < len(set(words_of(text))) for text in asked]
        return np.where(np.array(known)[:, None], vectors, 0)

    known = np.logical_or.reduce([data.table.has(modality) for modality in run.widths])
    videos = np.zeros((len(data.table), run.size))
    videos[known] = run.embed_rows(data.table, np.flatnonzero(known))
    return Answers(videos, texts)
