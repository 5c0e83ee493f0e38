"""What a table holds from an earlier run, and which videos it lacks."""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vidembed.media.extracting import Extracted
from vidembed.media.table_columns import TableOptions
from vidembed.media.video_list import Entry, Standing, State, read_list, standing, write_list
from vidembed.media.videos import VideoFile
from vidembed.records.table import FeatureTable
from vidembed.records.table_folder import read_manifest, table_state
from vidembed.records.window_ids import window_of


@dataclass(frozen=True, kw_only=True)
class Earlier:
    """A table as it stands before videos are extracted: finished, or not there."""

    path: str
    manifest: Mapping[str, Any] = field(default_factory=dict)
    """Of a finished table."""
    entries: Mapping[str, Entry] = field(default_factory=dict)
    """Its list of files, by id."""

    @staticmethod
    def of(path: str | os.PathLike[str], *, force: bool) -> "Earlier":
        """Read it; with `force` nothing of a finished table counts. Raises ValueError for a folder
        with other files."""
        name, state = os.fspath(path), table_state(path)
        if state == "other":
            raise ValueError(f"{name} holds other files: choose an empty folder for the table")
        if state != "finished" or force:
            return Earlier(path=name)
        return Earlier(path=name, manifest=read_manifest(path), entries=read_list(path))

    @property
    def finished(self) -> bool:
        """Whether there is a table to keep."""
        return bool(self.manifest)

    @property
    def backbones(self) -> tuple[str, ...]:
        """Names of the backbones that it was made with; none without a table."""
        options = self.manifest.get("source", {}).get("options", {})
        return tuple(options.get("backbones", ()))

    def options(
        self, given: TableOptions, backbones: Sequence[str], components: str | None
    ) -> TableOptions:
        """The table's options; without one those given, with defaults for the rest. Raises
        ValueError if others are given than the table has, other backbones (by name), or components
        for a table without."""
        if not self.finished:
            return given.filled()
        options = given.as_stored(self.manifest, self.path)
        if backbones and set(backbones) != set(self.backbones):
            raise ValueError(
                f"{self.path} was made with the backbones {', '.join(self.backbones)}, not "
                f"{', '.join(backbones)}: leave out --backbone, or make another table"
            )
        if components and options.pca is None:
            raise ValueError(f"{self.path} was made without --pca: leave out --components")
        return options

    def standing(self, videos: Sequence[VideoFile]) -> Standing:
        """Which of the videos are new, failed before, or changed since."""
        if not self.finished:
            return Standing(list(videos), [], [])
        ids = [id.decode() for id in FeatureTable.open(self.path).ids.tolist()]
        window = self.manifest["source"]["options"]["extract"]["window"]
        return standing(videos, self.entries, videos_of_rows(ids, window))

    def lacking(
        self,
        videos: Sequence[VideoFile],
        found: Standing,
        *,
        append: bool,
        say: Callable[[str], None],
    ) -> list[VideoFile]:
        """The videos to extract of those that stand so: all without a table; new ones and those
        that failed with `append`. Says what else there is to know. Raises ValueError for new videos
        without `append`."""
        if not self.finished:
            return found.new
        if found.new and not append:
            raise ValueError(
                f"{self.path} exists and lacks {len(found.new):,} of {len(videos):,} videos, first "
                f"{found.new[0].id!r}: add them (--append), or make the table anew (--force)"
            )
        again = {entry.video.id for entry in found.failed} if append else set()
        again |= {video.id for video in found.new}
        if not again and not found.failed:
            say(f"{self.path} holds all {len(videos):,} videos; nothing to do")
        elif not again:
            say(
                f"{self.path} holds {len(videos) - len(found.failed):,} of {len(videos):,} videos; "
                "the others failed before, and their files have not changed (--append tries them "
                "again)"
            )
        return [video for video in videos if video.id in again]

    def check_rows(self, spaces: Mapping[str, str]) -> None:
        """Raise ValueError if new rows, modality -> space, would differ from the table's."""
        stored = self.manifest.get("space", spaces)
        for name in {**stored, **spaces}:
            old, new = stored.get(name), spaces.get(name)
            if old != new:
                raise ValueError(
                    f"{self.path} was made with other backbones: its {name} is of {old!r}, and "
                    f"this would be of {new!r}. Give those it was made with (--backbones, "
                    "--components), or make another table"
                )

    def remember(
        self, videos: Sequence[VideoFile], made: Extracted, in_rows: Iterable[str]
    ) -> list[str]:
        """Write the list of files with what became of these; returns the ids without any row."""
        # Another process may have appended meanwhile.
        entries, rows = dict(read_list(self.path) if self.finished else {}), set(in_rows)
        reasons = {failure.video.id: failure.reason for failure in made.failures}
        for video in videos:
            origin, reason = made.origins.get(video.id, {}), reasons.get(video.id)
            if reason is not None:
                entries[video.id] = Entry(video, origin, "failed", reason)
            else:
                state: State = "extracted" if video.id in rows else "empty"
                entries[video.id] = Entry(video, origin, state)
        write_list(self.path, entries.values())
        return [video.id for video in videos if entries[video.id].state == "empty"]


def videos_of_rows(ids: Iterable[str], window: float | None) -> list[str]:
    """The videos of a table's rows, which are their windows if `window` is given."""
    if window is None:
        return list(ids)
    return [of.video for id in ids if (of := window_of(id)) is not None]
