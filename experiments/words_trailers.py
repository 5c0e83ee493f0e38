"""Trailers of movies with what people wrote about the movies; titles are never among it."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from experiments.movielens_data import TEXT, columns_of, genres_of, need, read_movies
from experiments.words_data import Worded, worded
from experiments.words_systems import compressed

WRITTEN = ("movieId", "overview", "overview_2", "tagline", "keywords", "tmdb_genres")


def trailers(movielens: str, folder: str, text: str, seed: int) -> Worded:
    """The captions of a movie: all that was written, and then overviews, tagline, keywords, users'
    tags, each alone. Genres are only in the first. Movies are asked for by the first.

    Features of trailers whose scales differ widely are signed logarithms, also for training.
    Movies that share a trailer are in one part. Raises MovieLensError for absent or other files.
    """
    movies = read_movies(movielens, folder)
    features = movies.table.features | {
        name: compressed(movies.table.floats(name)).astype(np.float32)
        for name in ("visual", "audio")
    }
    written = columns_of(need(text, "--text", f"the folder of {TEXT}") / TEXT, WRITTEN)
    tags = columns_of(Path(movielens) / "tags.csv", ("movieId", "tag"))
    tagged: dict[str, dict[str, None]] = {}
    for movie, tag in zip(tags["movieId"], tags["tag"]):
        tagged.setdefault(movie, {})[tag] = None
    ids, captions = movies.table.ids.astype(str), []
    rows = {name: row for row, name in enumerate(ids)}
    for movie, *cells in zip(*(written[name] for name in WRITTEN)):
        if movie in rows:
            *told, keywords, genres = cells
            lists = (keywords.split("|"), genres_of(genres), tagged.get(movie, ()))
            listed = [", ".join(each) for each in lists]
            full = ". ".join(part.strip(" .") for part in (*told, *listed) if part)
            alone = (part for part in (*told, listed[0], listed[2]) if part)
            captions += [
                (rows[movie], each, frozenset[int]()) for each in dict.fromkeys((full, *alone))
            ]
    none = np.zeros(len(ids), bool)
    table = replace(movies.table, features=features)
    return worded(table, captions, seed, none, {}, {}, (), movies.groups)
