"""The sections of a run's report that depend on its outputs and on what its corpus has."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from vidembed.cli.text_section import NO_TEXTS, Texts, text_section
from vidembed.corpora.clip_files import ClipFilesCorpus
from vidembed.corpora.labelled import LabelledCorpus
from vidembed.corpora.watched import Corpus
from vidembed.engine.measured import Measured
from vidembed.evaluators.slices import sliced, slices_of
from vidembed.metrics.calibration import Reliability
from vidembed.report.clip_gallery import clip_gallery
from vidembed.report.clusters import clusters
from vidembed.report.embedding_map import embedding_map
from vidembed.report.frequent_classes import frequent_classes
from vidembed.report.gallery import gallery
from vidembed.report.label_examples import class_names, label_examples
from vidembed.report.reliability import calibration

LabelKinds = Mapping[str, Mapping[int, str]]


def sections(
    model: Any,
    corpus: Any,
    selecting: Measured,
    label_kinds: LabelKinds,
    *,
    texts: Texts = NO_TEXTS,
    measured: bool,
) -> dict[str, Any]:
    """Arguments of `write_report` for a model's outputs at one checkpoint.

    Neighbours of clips for the output `video` and a list of clips; related videos for the output
    `video` and a corpus with relations; predicted labels for the output `labels` and a corpus with
    labels; texts with the videos that they find for the outputs
    `video` and `text` and a corpus with captions. measured: whether the checkpoint has scores.
    Raises ValueError for a run with none of these, and for texts that it cannot embed.
    """
    if {"video", "text"} <= set(model) and hasattr(corpus, "captions"):
        return text_section(model, corpus, texts)
    if texts.given:
        raise ValueError(
            f"--texts shows what sentences find, and this run has no output `text`, only "
            f"{', '.join(model) or '(none)'}: leave them out, or train one with `train jemc`"
        )
    if "video" in list(model) and isinstance(corpus, ClipFilesCorpus):
        return _clips(model, corpus, selecting, label_kinds, measured=measured)
    if "video" in list(model) and hasattr(corpus, "relations"):
        return _related_videos(model, corpus, selecting, label_kinds, measured=measured)
    if "labels" in list(model) and hasattr(corpus, "labels"):
        return _predicted_labels(model, corpus, selecting, label_kinds, measured=measured)
    raise ValueError(
        "the report shows related videos, clips, predicted labels or a search by words: it needs "
        "an output `video` and a corpus with relations or a list of clips, an output `labels` and "
        "a corpus with labels, or outputs `video` and `text` and a corpus with captions, but this "
        "run has the outputs "
        f"{', '.join(model) or '(none)'} and a {type(corpus).__name__}"
    )


def _related_videos(
    model: Any, corpus: Corpus, selecting: Measured, label_kinds: LabelKinds, *, measured: bool
) -> dict[str, Any]:
    label_names = label_kinds.get("label", {})
    slices = getattr(selecting.evaluator, "slices", None)
    embeddings = model["video"](corpus.table)
    return {
        "gallery": gallery(embeddings, corpus, label_names),
        "clusters": clusters(corpus, label_names),
        "slices": slices(embeddings, corpus, label_kinds) if slices and measured else {},
        "embedding_map": embedding_map(embeddings, corpus, label_names),
    }


def _clips(
    model: Any,
    corpus: ClipFilesCorpus,
    selecting: Measured,
    label_kinds: LabelKinds,
    *,
    measured: bool,
) -> dict[str, Any]:
    slices, outputs = getattr(selecting.evaluator, "slices", None), list(model)
    embeddings = model["video"](corpus.table)
    spread = "video_deviation" in outputs
    deviations = model["video_deviation"](corpus.table) if spread else None
    names = dict(enumerate(corpus.clips.classes))
    return {
        "gallery": [],
        "clips": clip_gallery(embeddings, deviations, corpus),
        "slices": slices(embeddings, corpus, label_kinds) if slices and measured else {},
        "embedding_map": embedding_map(embeddings, corpus, names, classes=corpus.clips.labels),
    }


def _predicted_labels(
    model: Any,
    corpus: LabelledCorpus,
    selecting: Measured,
    label_kinds: LabelKinds,
    *,
    measured: bool,
) -> dict[str, Any]:
    """Scores come from the stored results of the test videos, without predicting again; only the
    calibration over all classes needs all probabilities."""
    names = class_names(corpus, label_kinds.get("label", {}))
    scorer = partial(model["labels"], corpus.table)
    labels: dict[str, Any] = {"examples": label_examples(scorer, corpus, names)}
    shown: dict[str, Any] = {"gallery": [], "labels": labels}
    per_query = selecting.measurements.read_per_query(model.step) if measured else None
    test = (per_query or {}).get("test")
    if test is None:
        return shown
    if kinds := slices_of(corpus.table, label_kinds=label_kinds):
        shown["slices"] = {"test": sliced(test, corpus.table, kinds)}
    if "classes" in test.lists:
        curves: dict[str, Reliability] = {}
        if reliability := getattr(selecting.evaluator, "reliability", None):
            curves["all classes"] = reliability(model, corpus)["test"]
        scores, hits = test.lists["scores"], test.lists["hits"]
        best = f"{scores.shape[1]} most probable labels"
        curves[best] = Reliability.of(scores, hits)
        labels["calibration"] = calibration(curves)
        labels["classes"] = frequent_classes(test, corpus, names)
    return shown
