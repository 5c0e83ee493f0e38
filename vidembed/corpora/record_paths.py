"""A feature table on disk, or TFRecords that are read while training, and their split."""

from dataclasses import dataclass
from typing import Annotated

from rich.console import Console

from vidembed import PATH
from vidembed.corpora.split_videos import SplitPaths
from vidembed.progress import Progress
from vidembed.records.frame_table import FrameTable, open_frames
from vidembed.records.record_layout import RecordLayout
from vidembed.records.record_table import open_records
from vidembed.records.table import FeatureTable


@dataclass(frozen=True, kw_only=True)
class RecordPaths(SplitPaths):
    """The path of a feature table or of records, and the options of the split."""

    records: Annotated[str, PATH] = ""
    """Instead of a table: TFRecords that are read while training, for data that no memory holds. A
    local file, folder or glob."""
    index: Annotated[str, PATH] = ""
    """A local folder for the index of the records, so that only the first run makes it."""
    layout: RecordLayout = RecordLayout()
    """The content of the records."""

    def open_table(self) -> FeatureTable:
        """The feature table, or the records as one; raises ValueError unless one is given."""
        if self.table and self.records:
            raise ValueError(
                "both a table and records are given: leave out --corpus.records, or set "
                "--corpus.table '' to read records while training"
            )
        if not self.table and not self.records:
            raise ValueError(
                "no table given: set --corpus.table PATH, or --corpus.records PATH for TFRecords "
                "that are read while training"
            )
        if self.table:
            return super().open_table()
        progress = Progress(console=Console(stderr=True))
        open_them = open_frames if self.layout.level == "frame" else open_records
        with progress.stage(f"indexing {self.records}", unit="files") as stage:
            return open_them(
                self.records,
                self.layout,
                index=self.index,
                progress=lambda done, files, videos: stage.update(
                    done, files, note=f"{videos:,} records"
                ),
            )


def reading_notes(table: FeatureTable) -> tuple[str, ...]:
    """Remarks on a table's frames, if it has any."""
    return table.notes if isinstance(table, FrameTable) else ()
