"""`python -m vidembed search`: search an index by videos, records or a history."""

from collections.abc import Iterable
from typing import Annotated

import numpy as np
import tyro

from vidembed.deploy.index import VideoIndex
from vidembed.deploy.loading import load
from vidembed.deploy.videos import videos_to_embed
from vidembed.records.importing import Importing
from vidembed.records.numpy_rows import read_ids
from vidembed.serving import given
from vidembed.serving.index import RankedVideos
from vidembed.serving.parts import without


def main(
    index: Annotated[str, tyro.conf.arg(metavar="INDEX")],
    *,
    id: tuple[str, ...] = (),
    history: tuple[str, ...] = (),
    text: tuple[str, ...] = (),
    record: str = "",
    run: str = "",
    encoder: str = "",
    step: str = "best",
    k: Annotated[int, tyro.conf.arg(aliases=["-k"])] = 10,
    within: str = "",
    records: Annotated[Importing, tyro.conf.arg(name="")] = Importing(),
) -> None:
    """Search an index; prints query, rank, video and score, one line per result, tab-separated.

    Within an id, tabs and line ends are printed as \\t, \\n and \\r, bytes that are not text as
    \\xff.

    Args:
        index: made by `python -m vidembed index`.
        id: videos of the index, each a separate query that does not return itself. For an id that
            begins with a dash: --id=-x
        history: videos that one user watched; returns the videos nearest to their mean, without
            the watched ones.
        text: sentences, each a separate query; needs a run that embeds text (jemc). With one --id
            too, the query is the mean of sentence and video.
        record: a feature table, TFRecord, Parquet or .npy files whose videos are the queries; needs
            run. The options for records are those of the import that the run was trained on, if
            not given.
        run: the run that the index was made with; only with record or text.
        encoder: the folder of the run's sentence encoder, if it is not where it was in training.
        step: checkpoint of the run: best, latest, or a number.
        k: results per query.
        within: a file of ids, one per line: only these are returned.
    """
    blended = len(text) == len(id) == 1
    kinds = [bool(id) and not blended, bool(history), bool(record), bool(text)]
    if kinds.count(True) != 1 or (bool(record) or bool(text)) != bool(run):
        raise ValueError(
            "give one of --id, --history, --record and --text (or one --id with one --text), and "
            "--run if and only if --record or --text is given"
        )
    allowed = [name for name in read_ids(within) if name] if within else None
    loaded = load(run, step) if run else None
    opened = VideoIndex.open(index, loaded)
    if history:
        ids, scores = opened.recommend(history, k, within=allowed)
        _print(RankedVideos(ids, scores, np.array([len(ids)])), ["history"])
    elif text:
        assert loaded is not None
        vectors, names = loaded.embed_text(text, encoder=encoder or None), list(map(_line, text))
        if blended:
            known = opened.index.vectors_of(given.names(id))
            mean, query = _mean(vectors, *known, id[0]), f"{names[0]} + {id[0]}"
            results = opened.search(mean, k + 1, within=allowed)
            _print(without(results, given.names(id).tolist(), k), [query])
        else:
            _print(opened.search(vectors, k, within=allowed), names)
    elif id:
        _print(opened.search(ids=id, k=k, within=allowed), map(_shown, given.names(id).tolist()))
    else:
        imported = loaded.imported if loaded else {}
        for videos in videos_to_embed(record, records, imported=imported).blocks():
            results = opened.search(videos, k, within=allowed)
            _print(results, map(_shown, videos.ids.tolist()))


def _mean(sentence: np.ndarray, video: np.ndarray, indexed: np.ndarray, id: str) -> np.ndarray:
    """f32[1, D]: the mean of both at equal lengths."""
    if not indexed.all():
        raise ValueError(f"the index lacks {id!r}: leave out --id, or give another")
    return (sentence / np.linalg.norm(sentence) + video / np.linalg.norm(video)).astype(np.float32)


def _line(text: str) -> str:
    """A sentence without tabs and line ends."""
    return " ".join(text.split())


def _shown(name: bytes) -> str:
    """An id with tabs, line ends and non-text bytes escaped, so that it stays in its column."""
    text = name.decode(errors="backslashreplace")
    return text.translate({ord("\t"): r"\t", ord("\n"): r"\n", ord("\r"): r"\r"})


def _print(results: RankedVideos, queries: Iterable[str]) -> None:
    for query, (ids, scores) in zip(queries, results.each()):
        for rank, (name, score) in enumerate(zip(ids.tolist(), scores.tolist()), 1):
            print(f"{query}\t{rank}\t{_shown(name)}\t{score:.4f}")
