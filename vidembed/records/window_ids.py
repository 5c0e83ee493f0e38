"""Ids of windows of a video, VIDEO@START-END in seconds: rows of a table of windows."""

import re
from typing import NamedTuple

_WINDOW = re.compile(r"(?P<video>.+)@(?P<start>\d+(?:\.\d+)?)-(?P<end>\d+(?:\.\d+)?)", re.DOTALL)


class Window(NamedTuple):
    """A part of a video, from start to end in seconds."""

    video: str
    start: float
    end: float

    @property
    def id(self) -> str:
        """VIDEO@START-END"""
        return f"{self.video}@{_seconds(self.start)}-{_seconds(self.end)}"


def _seconds(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")


def video_of(id: bytes) -> bytes:
    """The video whose window has this id; the id itself if it is of another form."""
    if b"@" not in id:
        return id
    window = window_of(id.decode(errors="surrogateescape"))
    return id if window is None else window.video.encode(errors="surrogateescape")


def window_of(id: str) -> Window | None:
    """The window with this id; None for an id of another form."""
    match = _WINDOW.fullmatch(id)
    return match and Window(match["video"], float(match["start"]), float(match["end"]))
