"""The section of a run's report that shows what texts find: captions, and a user's sentences."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from vidembed.corpora.captions import CaptionCorpus
from vidembed.deploy.text_queries import TextQueries
from vidembed.engine.evaluate import EvaluationJob
from vidembed.engine.field_roles import classes_of
from vidembed.evaluators.video_text import gallery
from vidembed.report.text_queries import random_captions, text_queries


@dataclass(frozen=True, kw_only=True)
class Texts:
    """Sentences of a user."""

    given: Sequence[str] = ()
    embed: Callable[[int, Sequence[str]], np.ndarray] | None = None
    """The vectors f32[n, D] of n sentences at the checkpoint of a step."""


NO_TEXTS = Texts()


def texts_of(job: EvaluationJob, given: Sequence[str]) -> Texts:
    """Sentences that the text encoder of a run embeds."""
    return Texts(given=given, embed=partial(_embed, job))


def text_section(model: Any, corpus: CaptionCorpus, texts: Texts) -> dict[str, Any]:
    """Arguments of `write_report`: the user's sentences and random captions of test videos, with
    the best of all test videos that have captions."""
    rows = gallery(corpus, "test").rows
    numbers, places = random_captions(corpus.captions, rows)
    shown = [*texts.given, *(corpus.captions.texts[number] for number in numbers)]
    vectors = model["text"](corpus.text_source, numbers)
    if texts.given and texts.embed is not None:
        vectors = np.concatenate([texts.embed(model.step, texts.given), vectors])
    own = np.concatenate([np.full(len(texts.given), -1), places])
    videos = model["video"](corpus.table, rows)
    queries = text_queries(corpus.table, corpus.captions, rows, videos, shown, vectors, own)
    return {"gallery": [], "text_queries": {"queries": queries, "searched": len(rows)}}


def _embed(job: EvaluationJob, step: int, texts: Sequence[str]) -> np.ndarray:
    # The encoder of a run on sentence vectors may have moved.
    encoder = getattr(job.recipe.corpus, "encoder", "") or None
    classes = classes_of(job.recipe)
    opened = TextQueries.open(job.workdir, step, mesh=job.mesh, classes=classes, encoder=encoder)
    return opened(texts)
