"""Movies of MovieLens as rows of a feature table: real trailer features, genres, tags and text.

A trailer folder holds `audio*.csv` and `visual*.csv` (MMTF-14K: movieId as itemId, and `embedding`,
numbers joined by commas), a text folder `trailer_text.csv`. Everything joins by MovieLens' movieId.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from etils import epath

from experiments.movielens_text import tfidf, words
from vidembed.records import tabular
from vidembed.records.columns import ids_of
from vidembed.records.table import FeatureTable

TRAILERS = {"audio": "audio*.csv", "visual": "visual*.csv"}
"""Modality → its file in the trailer folder."""
TEXT = "trailer_text.csv"
TEXT_SIZE = 64


class MovieLensError(ValueError):
    """A folder that is absent, or holds something else than it should."""


MOVIES = tabular.Kind(
    what="movies (CSV with a header)", give="the CSV file", refused=MovieLensError
)


@dataclass(frozen=True, kw_only=True, eq=False)
class Movies:
    """Movies with features: the table, what belongs together, and what people read.

    groups: S[N], equal for movies of which a modality is equal number by number, the first one's
    id: one trailer stands for several films, and what is learned of one would be measured on
    another. titles: N; links: N, the trailer on YouTube or "". notes: counts, a sentence each.
    """

    table: FeatureTable
    groups: np.ndarray
    titles: Sequence[str]
    links: Sequence[str]
    notes: tuple[str, ...]


def need(folder: str, option: str, holds: str) -> Path:
    """The folder; MovieLensError with the option and what to put there, where there is none."""
    path = Path(folder)
    if not folder or not path.is_dir():
        fault = f"there is no folder {folder}" if folder else "none was given"
        raise MovieLensError(f"{option} FOLDER must name {holds}: {fault}")
    return path


def read_movies(movielens: str, trailers: str, text: str = "") -> Movies:
    """The movies that have trailer features, or, without a trailer folder, all movies by their
    genres and tags."""
    folder = need(
        movielens,
        "--movielens",
        "MovieLens as unpacked (ratings.csv, movies.csv, tags.csv; such as ml-latest-small from "
        "https://grouplens.org/datasets/movielens)",
    )
    known = columns_of(folder / "movies.csv", ("movieId", "title", "genres"))
    title = dict(zip(known["movieId"], known["title"]))
    notes: list[str] = []
    features: dict[str, np.ndarray] = {}
    present: dict[str, np.ndarray] = {}
    if trailers:
        ids, features, notes = _trailers(trailers)
    else:
        ids = sorted(title)
        notes.append(f"no --trailers: {len(ids):,} movies by genres and tags alone")
    missing = [name for name in ids if name not in title]
    if missing:
        raise MovieLensError(
            f"{folder / 'movies.csv'} lacks {len(missing):,} of {len(ids):,} movies, such as "
            f"{missing[0]}: do both folders speak of one MovieLens?"
        )
    genres = dict(zip(known["movieId"], known["genres"]))
    features["genres"] = _genres([genres[name] for name in ids])
    tags = _tags(folder / "tags.csv")
    documents = {"tags": [tags.get(name, "") for name in ids]}
    if text:
        holds = f"{TEXT} (movieId, overview, keywords)"
        texts = _text(need(text, "--text", holds) / TEXT)
        notes.append(f"{sum(name in texts for name in ids):,} of {len(ids):,} movies have a text")
        documents["text"] = [f"{texts.get(name, '')} {tags.get(name, '')}" for name in ids]
    for name, of in documents.items():
        vectors, has = tfidf([words(one) for one in of], TEXT_SIZE)
        if vectors.shape[1]:
            features[name], present[name] = vectors, has
    youtube = _youtube(folder / "ml-youtube.csv")
    notes.append(f"{sum(name in youtube for name in ids):,} of them have a trailer on YouTube")
    table = _table(ids, features, present)
    return Movies(
        table=table,
        groups=_groups(table),
        titles=[title[name] for name in ids],
        links=[youtube.get(name, "") for name in ids],
        notes=tuple(notes),
    )


def _trailers(folder: str) -> tuple[list[str], dict[str, np.ndarray], list[str]]:
    """Ids in all files, as the first has them; features f32 without what is not finite."""
    path = need(
        folder, "--trailers", "features of movie trailers (MMTF-14K: audio*.csv and visual*.csv)"
    )
    found: dict[str, dict[str, np.ndarray]] = {}
    notes = []
    for modality, pattern in TRAILERS.items():
        file, *more = [*sorted(path.glob(pattern)), Path()]
        if len(more) != 1:
            raise MovieLensError(f"--trailers {folder}: one {pattern}, found {len(more)}")
        found[modality] = _vectors(file)
    ids = [name for name in found["audio"] if all(name in of for of in found.values())]
    if not ids:
        raise MovieLensError(f"--trailers {folder}: its files have no movie in common")
    features = {}
    for modality, of in found.items():
        vectors = np.stack([of[name] for name in ids])
        finite = np.isfinite(vectors)
        # A column's mean says nothing of the movie, and is zero once standardised.
        mean = np.where(finite, vectors, 0).sum(0) / np.maximum(finite.sum(0), 1)
        features[modality] = np.where(finite, vectors, mean).astype(np.float32)
        if not finite.all():
            columns = np.flatnonzero(~finite.all(0)).tolist()
            notes.append(
                f"{modality}: {int((~finite).sum())} values of {int((~finite.all(1)).sum())} movies"
                f" are not finite (columns {columns}): their columns' means stand there"
            )
    sizes = ", ".join(f"{name} {array.shape[1]}" for name, array in features.items())
    return ids, features, [f"{len(ids):,} movies with trailer features ({sizes})", *notes]


def _vectors(file: Path) -> dict[str, np.ndarray]:
    """Movie → f64[F]; the first row counts where a movie has several."""
    of = columns_of(file, ("itemId", "embedding"))
    vectors: dict[str, np.ndarray] = {}
    width = None
    for row, (name, numbers) in enumerate(zip(of["itemId"], of["embedding"])):
        try:
            vector = np.array(numbers.split(","), np.float64)
        except ValueError as error:
            raise MovieLensError(f"{file}, row {row}: embedding of {name}: {error}") from error
        width = width or len(vector)
        if len(vector) != width:
            raise MovieLensError(
                f"{file}, row {row}: {name} has {len(vector)} numbers, those before {width}"
            )
        vectors.setdefault(name, vector)
    return vectors


def _genres(of: Sequence[str]) -> np.ndarray:
    each = [genres_of(cell) for cell in of]
    names = sorted({name for genres in each for name in genres})
    return np.array([[name in genres for name in names] for genres in each], np.float32)


def genres_of(cell: str) -> list[str]:
    """The genres in a cell of movies.csv; none for "(no genres listed)"."""
    return [name for name in cell.split("|") if name and not name.startswith("(no ")]


def _tags(file: Path) -> dict[str, str]:
    """Movie → its tags, joined; nothing where there is no file."""
    tags: dict[str, str] = {}
    if file.exists():
        of = columns_of(file, ("movieId", "tag"))
        for name, tag in zip(of["movieId"], of["tag"]):
            tags[name] = f"{tags.get(name, '')} {tag}"
    return tags


def _text(file: Path) -> dict[str, str]:
    """Movie → overview and keywords; no title."""
    of = columns_of(file, ("movieId", "overview", "keywords"))
    each = zip(of["movieId"], of["overview"], of["keywords"])
    return {name: f"{overview} {keywords}" for name, overview, keywords in each}


def _youtube(file: Path) -> dict[str, str]:
    if not file.exists():
        return {}
    # As published it has quotes within cells, which the reader of tables refuses.
    with file.open(encoding="utf-8", newline="") as lines:
        rows = [row[:2] for row in csv.reader(lines)][1:]
    return {movie: f"https://www.youtube.com/watch?v={name}" for name, movie in rows}


def columns_of(file: Path, names: Sequence[str]) -> Mapping[str, list[str]]:
    """Columns of a CSV file as text; no cell is None."""
    table = tabular.read_table(epath.Path(file), MOVIES, names)
    ids = {name: ids_of(epath.Path(file), table, name, MOVIES) for name in names}
    return {name: [cell or "" for cell in of.to_pylist()] for name, of in ids.items()}


def _table(
    ids: Sequence[str], features: dict[str, np.ndarray], present: dict[str, np.ndarray]
) -> FeatureTable:
    return FeatureTable(
        ids=np.array([name.encode() for name in ids], "S"),
        features=features,
        present={name: has for name, has in present.items() if not has.all()},
        label_offsets=np.zeros(len(ids) + 1, np.int64),
        label_values=np.zeros(0, np.int32),
        manifest={"space": {name: f"movielens-{name}" for name in features}},
    )


def _groups(table: FeatureTable) -> np.ndarray:
    """Movies whose audio or visual rows are equal are one group, by the id of the first."""
    place = np.arange(len(table))
    for modality in TRAILERS.keys() & table.features.keys():
        _, first, of = np.unique(
            table.features[modality], axis=0, return_index=True, return_inverse=True
        )
        # A group already known takes the new one in.
        place = place[first[of.reshape(-1)]]
    return table.ids[place]


def write_movies(movies: Movies, folder: Path) -> None:
    """The table, `groups.csv` (a split by it keeps groups together) and `movies.csv` to look at."""
    movies.table.write(folder / "table")
    ids = [name.decode() for name in movies.table.ids]
    groups = [name.decode() for name in movies.groups]
    for name, header, rows in (
        ("groups.csv", ("id", "group"), zip(ids, groups)),
        ("movies.csv", ("id", "title", "trailer"), zip(ids, movies.titles, movies.links)),
    ):
        with (folder / name).open("w", newline="") as file:
            csv.writer(file).writerows([header, *rows])
