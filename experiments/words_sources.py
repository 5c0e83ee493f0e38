"""Where videos with words come from, as options of a command, and how a training reads them."""

import abc
from dataclasses import dataclass
from pathlib import Path

from experiments.annotation_runs import verb
from experiments.words_data import Worded, youtube8m
from experiments.words_trailers import trailers
from vidembed.records.table import FeatureTable


@dataclass(frozen=True, kw_only=True)
class Source(abc.ABC):
    """Videos with words for each seed, in a work directory."""

    @abc.abstractmethod
    def data(self, folder: Path, seed: int) -> Worded:
        """The videos with words of a seed; files that a training reads are written."""

    def given(self, folder: Path, seed: int) -> tuple[str, ...]:
        """The options of `train jemc` that read the same."""
        of = folder / f"seed{seed}"
        return (
            "--corpus.table", str(folder / "table"),
            "--corpus.captions", str(of / "captions.csv"),
            "--corpus.split", str(of / "split.csv"),
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class OfYouTube8M(Source):
    """Videos of YouTube-8M, captions from the names of their labels."""

    records: str = "data/youtube8m"
    """Video-level TFRecords: a folder, a file or a pattern."""
    vocabulary: str = "data/youtube8m/vocabulary.csv"
    """Names and descriptions of the labels."""

    def data(self, folder: Path, seed: int) -> Worded:
        """See `youtube8m`; the table is made first if there is none."""
        if not (folder / "table").exists():
            verb("import", self.records, str(folder / "table"))
        data = youtube8m(FeatureTable.open(folder / "table"), self.vocabulary, seed)
        data.write(folder / f"seed{seed}")
        return data


@dataclass(frozen=True, kw_only=True)
class OfTrailers(Source):
    """Trailers of movies, with what people wrote about the movies."""

    movielens: str = ""
    """MovieLens as unpacked: movies.csv and tags.csv."""
    trailers: str = ""
    """Trailer features of MMTF-14K: audio*.csv, visual*.csv."""
    text: str = ""
    """Folder of trailer_text.csv (overview, tagline, keywords)."""

    def data(self, folder: Path, seed: int) -> Worded:
        """See `trailers`; the table is written for training."""
        data = trailers(self.movielens, self.trailers, self.text, seed)
        if not (folder / "table").exists():
            folder.mkdir(parents=True, exist_ok=True)
            data.table.write(folder / "table")
        data.write(folder / f"seed{seed}")
        return data
