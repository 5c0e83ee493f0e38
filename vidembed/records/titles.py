"""Titles of videos from a file, for people to read."""

import pyarrow.compute as pc
from etils import epath

from vidembed.records import tabular
from vidembed.records.columns import ids_of, is_text
from vidembed.records.tabular import LISTED


class TitlesError(ValueError):
    """A file of titles that must not be used as it is."""


TITLES = tabular.Kind(
    what="titles (Parquet, or CSV with a header, of text: id or video_id, title)",
    give="the one Parquet or CSV file with the titles",
    refused=TitlesError,
)


def read_titles(path: epath.PathLike) -> dict[str, str]:
    """Id → title, from a file of `id` or `video_id`, and `title`: Parquet, or CSV with a header,
    maybe compressed.

    Videos without a title are left out; other columns are not used. Raises TitlesError for what is
    no such file, titles that are no text, rows without an id, and an id with two titles.
    """
    path = epath.Path(path)
    file = tabular.read_table(path, TITLES, ("title",), optional=("id", "video_id"))
    key = "video_id" if "video_id" in file.column_names else "id"
    tabular.check_columns(path, file.column_names, (key,), TITLES)
    if not is_text(file["title"].type):
        raise TitlesError(f"{path}: column title is of type {file['title'].type}, and must be text")
    ids, titles = (ids_of(path, file, name, TITLES) for name in (key, "title"))
    if empty := ids.null_count:
        raise TitlesError(f"{path}: {empty:,} of {len(file):,} titles have no id")
    counts = ids.value_counts()
    repeated = counts.filter(pc.greater(counts.field("counts"), 1)).field("values").to_pylist()
    if repeated:
        raise TitlesError(
            f"{path}: {len(repeated):,} ids have more than one title: "
            f"{', '.join(repeated[:LISTED])}; keep one row for each video"
        )
    known = zip(ids.to_pylist(), titles.to_pylist())
    return {name: title for name, title in known if title is not None}
