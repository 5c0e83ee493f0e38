"""Tags of movies as labels for video annotation (CDML, KDD 2018, Table 7).

    python -m experiments.movielens_tags genome-scores.csv OUT.parquet --tags genome-tags.csv
    vidembed train annotation --workdir W --corpus.table T --corpus.labels OUT.parquet

Reads GroupLens' tag genome (movieId, tagId, relevance in [0, 1]; tagId, tag), or what people typed
(tags.csv: userId, movieId, tag, timestamp). The paper has 187 tags with at least 200 movies of
MovieLens 20M; where it cuts the genome's continuous relevance is NOT ESTABLISHED, so the threshold
is an option. Checked on made files only: the genome was not available here. Labels carry MovieLens'
movieId, unless a file of links gives other ids.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import tyro
from etils import epath

from vidembed import files
from vidembed.cli import command_line
from vidembed.records import tabular
from vidembed.records.columns import ids_of, numbers_of

GENOME = ("movieId", "tagId", "relevance")
PEOPLE = ("movieId", "tag")


class TagsError(ValueError):
    """A file of tags that is malformed, or of which nothing is left."""


TAGS = tabular.Kind(
    what="tags of movies (CSV or Parquet with a header)",
    give="GroupLens' genome-scores.csv or tags.csv",
    refused=TagsError,
)


@dataclass(frozen=True, kw_only=True)
class Tags:
    """Write the tags of movies as (video_id, label) for --corpus.labels."""

    scores: Annotated[str, tyro.conf.Positional]
    """genome-scores.csv, or tags.csv of what people typed."""
    out: Annotated[str, tyro.conf.Positional]
    """OUT.parquet."""
    tags: str = ""
    """genome-tags.csv: the names of the genome's tags."""
    threshold: float = 0.5
    """Lowest relevance of a movie's tag; of what people typed, the least number of people."""
    least: int = 200
    """Leave out tags of fewer movies than this (the paper: 200)."""
    ids: str = ""
    """Other ids of the movies: movieId and video_id, Parquet or CSV."""

    def run(self) -> int:
        """Convert; raises TagsError for files that do not fit."""
        pairs = self._pairs()
        if not len(pairs):
            raise TagsError(f"{self.scores}: no tag reaches {self.threshold}: lower --threshold")
        chosen = frequent(pairs, self.least)
        if self.ids:
            chosen = _renamed(chosen, self.ids)
        buffer = pa.BufferOutputStream()
        pq.write_table(chosen, buffer)
        files.write_bytes(epath.Path(self.out), buffer.getvalue().to_pybytes())
        tags, movies = (len(pc.unique(chosen[name])) for name in ("label", "video_id"))
        print(f"{self.out}: {len(chosen):,} labels, {tags:,} tags of {movies:,} movies")
        return 0

    def _pairs(self) -> pa.Table:
        if "relevance" not in tabular.column_names(self.scores, TAGS, (*GENOME, *PEOPLE)):
            return of_people(self.scores, self.threshold)
        if not self.tags:
            raise TagsError(f"{self.scores} has numbers of tags: give --tags genome-tags.csv")
        return of_genome(self.scores, self.tags, self.threshold)


def of_genome(scores: str, tags: str, threshold: float) -> pa.Table:
    """(video_id, label), each once, of the relevances of at least the threshold.

    Raises TagsError for a relevance outside [0, 1], a tag without a name, and empty cells.
    """
    names = dict(zip(*(column.to_pylist() for column in _columns(tags, ("tagId", "tag")))))
    movies, numbers = [], []
    with epath.Path(scores).open("rb") as file:
        for batch in tabular.read_batches(scores, file, TAGS, GENOME):
            part = pa.Table.from_batches([batch])
            relevance = numbers_of(scores, part, "relevance", TAGS).to_numpy(zero_copy_only=False)
            movie, tag = (_ids(scores, part, name) for name in ("movieId", "tagId"))
            outside = ~((relevance >= 0) & (relevance <= 1))  # a missing number is NaN
            if outside.any():
                row = int(np.argmax(outside))
                raise TagsError(
                    f"{scores}: movie {movie[row]}, tag {tag[row]}: relevance must lie in [0, 1], "
                    f"found {relevance[row]}"
                )
            if unknown := set(pc.unique(tag).to_pylist()) - names.keys():
                raise TagsError(
                    f"{tags} lacks {len(unknown):,} tags of {scores}, such as tagId "
                    f"{min(unknown)}: are both of one version of MovieLens?"
                )
            above = pa.array(relevance >= threshold)
            movies.append(movie.filter(above))
            numbers.append(tag.filter(above))
    numbers_of_tags = pa.chunked_array(numbers, pa.string()).to_pylist()
    labels = pa.array([names[number] for number in numbers_of_tags], pa.string())
    return _once(pa.table({"video_id": pa.chunked_array(movies, pa.string()), "label": labels}))


def of_people(path: str, least: float) -> pa.Table:
    """(video_id, label), each once, of the tags that at least `least` people gave a movie; tags
    that differ only in case are one."""
    user, movie, tag = _columns(path, ("userId", *PEOPLE))
    label = pc.utf8_lower(pc.utf8_trim_whitespace(tag))
    each = pa.table({"userId": user, "video_id": movie, "label": label})
    people = each.group_by(["video_id", "label"]).aggregate([("userId", "count_distinct")])
    return _once(people.filter(pc.greater_equal(people["userId_count_distinct"], least)))


def frequent(pairs: pa.Table, least: int) -> pa.Table:
    """The pairs whose label is one of `least` videos or more; raises TagsError if none is."""
    counts = pairs.group_by("label").aggregate([("video_id", "count")])
    chosen = counts.filter(pc.greater_equal(counts["video_id_count"], least))["label"]
    if not len(chosen):
        raise TagsError(
            f"no tag is left: none of {len(counts):,} has {least:,} movies or more, the most are "
            f"{pc.max(counts['video_id_count'])}: lower --least or --threshold"
        )
    return pairs.filter(pc.is_in(pairs["label"], chosen.combine_chunks()))


def _renamed(pairs: pa.Table, path: str) -> pa.Table:
    """The pairs with other ids; movies that the file lacks are left out."""
    movie, other = _columns(path, ("movieId", "video_id"))
    name = dict(zip(movie.to_pylist(), other.to_pylist()))
    renamed = [name.get(video) for video in pairs["video_id"].to_pylist()]
    pairs = pairs.set_column(0, "video_id", pa.array(renamed, pa.string()))
    known = pairs.filter(pc.is_valid(pairs["video_id"]))
    if not len(known):
        raise TagsError(f"{path}: has none of the movies: check that it has their movieId")
    return known


def _once(pairs: pa.Table) -> pa.Table:
    both = pairs.select(["video_id", "label"])
    return (
        both.group_by(both.column_names)
        .aggregate([])
        .sort_by([("video_id", "ascending"), ("label", "ascending")])
    )


def _columns(path: str, names: Sequence[str]) -> list[pa.Array]:
    table = tabular.read_table(epath.Path(path), TAGS, names)
    return [_ids(path, table, name) for name in names]


def _ids(path: str, table: pa.Table, name: str) -> pa.Array:
    ids = ids_of(path, table, name, TAGS)
    if ids.null_count:
        raise TagsError(f"{path}: {ids.null_count:,} rows have no {name}: remove them")
    return ids


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns an exit code."""
    command = Tags(scores=tyro.MISSING, out=tyro.MISSING)
    return command_line.start(command, arguments, prog="python -m experiments.movielens_tags")


if __name__ == "__main__":
    sys.exit(main())
