"""The folder of an index: versions that share immutable segments, and a pointer to the current one.

    current               names and digests of the current version and of the previous one;
                          replaced by one rename
    version-00000007-…    space, engine, segments, and removed rows
    segment-…             written once; deleted when neither of the two versions uses it

A reader sees one complete version: mapped files stay readable after they are deleted.
"""

import contextlib
import fcntl
import os
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from vidembed.files import local_path, remove_unfinished
from vidembed.serving.blocks import Blocks, DamagedIndexError, write_blocks
from vidembed.serving.segment import Segment

CURRENT, LOCK = "current", ".lock"
_WRITTEN = re.compile(r"version-\d{8}-[0-9a-f]{8}|segment-[0-9a-f]{16}")
TRIES = 100


@dataclass(frozen=True, kw_only=True)
class Version:
    """One state of an index.

    header: space, dimension, keep, engine, segments (name → digest of its header). segments: open
    segments. removed: name of a segment → removed rows, bool[rows].
    """

    name: str
    header: Mapping[str, Any]
    segments: tuple[Segment, ...] = ()
    removed: Mapping[str, np.ndarray] = field(default_factory=dict)
    blocks: Blocks

    def parts(self) -> list[tuple[Segment, np.ndarray]]:
        """Segments, and a new mask of the rows that were not removed, bool[rows]."""
        return [(segment, ~self.removed[segment.name]) for segment in self.segments]


class Folder:
    """An index on a local disk: reads the current version, and replaces it with another."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = local_path(path)

    def exists(self) -> bool:
        """Whether the folder holds an index."""
        return (self.path / CURRENT).exists()

    def read(self, known: Version | None = None) -> Version:
        """Open the current version; reuses the open segments of `known`.

        Raises FileNotFoundError if there is no index, DamagedIndexError if it is damaged.
        """
        for _ in range(TRIES):
            name, digest = current = self.pointer()["version"]
            if known is not None and known.name == name:
                return known
            try:
                return self._open(name, digest, known)
            except FileNotFoundError as error:
                # Two swaps since the name was read delete the files it named.
                if self.pointer()["version"] == current:
                    raise DamagedIndexError(
                        self.path, f"{Path(error.filename).name} is missing"
                    ) from error
        raise TimeoutError(f"{self.path} changes faster than it can be opened: try again")

    def pointer(self) -> dict[str, Any]:
        """version: name and digest of the current version; previous: of the one before, or None."""
        try:
            header = Blocks(self.path / CURRENT).header
        except (FileNotFoundError, NotADirectoryError) as error:
            raise FileNotFoundError(
                f"{self.path} is not an index (it has no file '{CURRENT}'): make one with `python "
                "-m vidembed index` or Index.create"
            ) from error
        if header.keys() != {"version", "previous"}:
            raise DamagedIndexError(self.path / CURRENT, "it was replaced by another file")
        return header

    def refuse_others(self) -> None:
        """Raise FileExistsError if the folder holds files that are not an index."""
        if self.path.exists() and not self.path.is_dir():
            raise FileExistsError(f"{self.path} is a file: an index is a folder, choose another")
        if not self.path.exists() or self.exists():
            return
        names = (path.name for path in self.path.iterdir())
        other_files = [name for name in names if name[0] != "." and not _WRITTEN.fullmatch(name)]
        if other_files:
            raise FileExistsError(
                f"{self.path} holds other files ({other_files[0]}): choose an empty folder for the "
                "index"
            )

    def _open(self, name: str, digest: str, known: Version | None = None) -> Version:
        blocks = Blocks(self.path / name)
        if blocks.digest != digest:
            raise DamagedIndexError(blocks.path, "it is not the version that was written")
        header = blocks.header
        open_segments = (
            {} if known is None else {segment.name: segment for segment in known.segments}
        )
        segments, removed = [], {}
        for segment_name, written in header["segments"].items():
            segment = open_segments.get(segment_name) or Segment(self.path / segment_name)
            if segment.blocks.digest != written:
                raise DamagedIndexError(
                    segment.blocks.path, "it is not the segment that was written"
                )
            segments.append(segment)
            removed[segment_name] = np.zeros(len(segment), bool)
            if segment_name in blocks.names:
                removed[segment_name][blocks.verified(segment_name)] = True
        return Version(
            name=name, header=header, segments=tuple(segments), removed=removed, blocks=blocks
        )

    @contextlib.contextmanager
    def writing(self, *, new: bool = False) -> Iterator[None]:
        """Hold the lock: no other process can write; raises BlockingIOError if one does.

        new: an index may be created; otherwise raises FileNotFoundError if there is none.
        """
        if new:
            self.refuse_others()
            self.path.mkdir(parents=True, exist_ok=True)
        else:
            self.pointer()
        with open(self.path / LOCK, "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise BlockingIOError(
                    f"{self.path} is being changed by another process: wait for it to end"
                ) from error
            try:
                yield
            finally:
                # Remove what no version uses, left by a change that failed or was killed.
                with contextlib.suppress(OSError, ValueError):
                    self._clean()

    def new_segment(self) -> Path:
        """The path for a new segment."""
        return self.path / f"segment-{uuid.uuid4().hex[:16]}"

    def commit(
        self, header: Mapping[str, Any], segments: list[str], removed: Mapping[str, np.ndarray]
    ) -> None:
        """Write a version of these segments and make it the current one.

        removed: name of a segment → removed rows, bool[rows]. Call it inside `writing`.
        """
        try:
            previous = self.pointer()["version"]
        except (FileNotFoundError, DamagedIndexError):  # a new index, or one made again
            previous = None
        number = 1 + (0 if previous is None else int(previous[0].split("-")[1]))
        # Numbers repeat after a rollback, names never do.
        name = f"version-{number:08d}-{uuid.uuid4().hex[:8]}"
        digests = {segment: Blocks(self.path / segment).digest for segment in segments}
        rows = {name: np.flatnonzero(mask) for name, mask in removed.items() if mask.any()}
        digest = write_blocks(self.path / name, {**header, "segments": digests}, rows)
        self._point_to((name, digest), previous)

    def go_back(self) -> None:
        """Make the previous version the current one. Call it inside `writing`."""
        previous = self.pointer()["previous"]
        if previous is None:
            raise ValueError(
                f"{self.path} keeps no version before the current one: only one is kept, and a "
                "rollback uses it up"
            )
        try:
            self._open(*previous)
        except FileNotFoundError as error:
            raise DamagedIndexError(self.path, f"{Path(error.filename).name} is missing") from error
        self._point_to(previous, None)

    def _point_to(self, version: Sequence[str], previous: Sequence[str] | None) -> None:
        write_blocks(self.path / CURRENT, {"version": version, "previous": previous}, {})
        folder = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def _clean(self) -> None:
        """Delete the files that neither the current nor the previous version uses."""
        remove_unfinished(self.path)
        used: set[str] = set()
        if self.exists():
            for version in self.pointer().values():
                if version is not None:
                    used |= {version[0], *Blocks(self.path / version[0]).header["segments"]}
        for path in self.path.iterdir():
            if path.name not in used and _WRITTEN.fullmatch(path.name):
                path.unlink()
