"""The movies in a work directory: made once, known again by the files that they were made of."""

from dataclasses import dataclass
from pathlib import Path

import xxhash

from experiments.movielens_data import Movies, read_movies, write_movies
from vidembed import files
from vidembed.records.table import FeatureTable


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where movies come from; empty: without."""

    movielens: str
    trailers: str = ""
    text: str = ""

    def read(self) -> Movies:
        """See `read_movies`."""
        return read_movies(self.movielens, self.trailers, self.text)

    def digests(self) -> dict[str, str]:
        """Option and file → digest of its bytes, of all that `read` may take."""
        chosen = {
            "movielens": ("movies.csv", "tags.csv", "ml-youtube.csv"),
            "trailers": ("audio*.csv", "visual*.csv"),
            "text": ("trailer_text.csv",),
        }
        return {
            f"{option} {file.name}": xxhash.xxh3_128(file.read_bytes()).hexdigest()
            for option, patterns in chosen.items()
            if (folder := getattr(self, option))
            for pattern in patterns
            for file in sorted(Path(folder).glob(pattern))
        }


def prepared(sources: Sources, folder: Path) -> tuple[FeatureTable, list[str]]:
    """The table of the work directory, made where it is missing, and what was said of it.

    It is not made again to be compared: equal files give equal numbers, but for the last bits of a
    decomposition. ValueError where it was made of other files.
    """
    stamp = folder / "sources.json"
    known, digests = files.read_json(stamp), sources.digests()
    if known is None:
        movies = sources.read()
        write_movies(movies, folder)
        known = {"digests": digests, "notes": list(movies.notes)}
        files.write_json(stamp, known)
    if known["digests"] != digests:
        there = ", ".join(sorted(known["digests"]))
        raise ValueError(
            f"{folder} was begun with other files than these: it has {there}; found "
            f"{', '.join(sorted(digests)) or 'none'}. Take another --workdir, or the folders of "
            "before, unchanged"
        )
    return FeatureTable.open(folder / "table", verify=False), known["notes"]
