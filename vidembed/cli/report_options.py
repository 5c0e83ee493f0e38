"""Options of a report about the names, titles, links and pictures of videos."""

import dataclasses
from collections.abc import Mapping

from vidembed.records.label_names import read_label_kinds
from vidembed.records.titles import read_titles
from vidembed.report.captions import Captions


@dataclasses.dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """What `report` takes for a run and for a composite."""

    vocabulary: str | None = None
    """A CSV file with Index and Name (YouTube-8M's vocabulary.csv), to name the labels; its column
    Vertical1 adds scores by vertical."""
    titles: str | None = None
    """Titles of the videos: Parquet or CSV CSV with `id` (or `video_id`) and `title`."""
    url_template: str = ""
    """Link each video to its page: 'https://example.com/watch?v={id}'."""
    thumbnail_template: str = ""
    """Show a picture of each video: 'https://example.com/{id}.jpg'. The browser that opens the
    report loads them; vidembed itself fetches nothing."""

    def captions(self) -> Captions:
        """Titles, links and pictures; raises for a malformed file or template."""
        return Captions(
            titles=read_titles(self.titles) if self.titles else {},
            link=self.url_template,
            picture=self.thumbnail_template,
        )

    def label_kinds(self) -> Mapping[str, Mapping[int, str]]:
        """The names of the labels by kind; {} without a vocabulary."""
        return read_label_kinds(self.vocabulary) if self.vocabulary else {}
