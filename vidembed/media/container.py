"""Open media files with PyAV, choose their streams, and decode what can be decoded."""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from etils import epath

from vidembed.files import is_remote

FORMATS = (
    "aac", "ac3", "aiff", "amr", "ape", "asf", "au", "avi", "caf", "dts", "dv", "eac3", "flac",
    "flv", "gif", "h263", "h264", "hevc", "ivf", "m4v", "matroska", "mov", "mp3", "mpeg", "mpegts",
    "mpegvideo", "mxf", "nsv", "nut", "obu", "ogg", "rm", "tta", "vvc", "w64", "wav", "wtv", "wv",
)  # fmt: skip
"""FFmpeg's names of the formats that are read. Playlists, which name further files or hosts, are
none of them, nor text, which FFmpeg would show as a film of a terminal."""
_OPTIONS = {"format_whitelist": ",".join(FORMATS), "protocol_whitelist": "none"}

_decoded = 0


class MediaError(ValueError):
    """A file from which nothing can be decoded."""


def check_installed() -> None:
    """Raise ImportError with the install command unless PyAV is installed."""
    if importlib.util.find_spec("av") is None:
        raise ImportError(
            "reading video files needs PyAV, which is not installed: pip install 'vidembed[media]'"
        )


def decoded_count() -> int:
    """How many packets this process has decoded: a process in which it grows does not hang."""
    return _decoded


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[Any]:
    """A media file, local or in a bucket, as an `av.container.InputContainer`.

    No other file is opened, nor is the network used. Raises MediaError for what is not of
    `FORMATS`, with what was found instead, and OSError if it cannot be read.
    """
    check_installed()
    import av

    path = os.fspath(path)
    _refuse_folders_and_empty(path)
    with _bytes_of(path) as file:
        try:
            container = av.open(file, mode="r", metadata_errors="replace", options=_OPTIONS)
        except av.FFmpegError as error:
            raise MediaError(f"{path}: is no media file that FFmpeg can read, but {_kind(path)}: "
                f"{error.strerror}") from error  # fmt: skip
        with container:
            if not container.streams.video and not container.streams.audio:
                kinds = ", ".join(sorted({stream.type for stream in container.streams}))
                raise MediaError(
                    f"{path}: holds neither video nor sound (format {container.format.name}, "
                    f"streams: {kinds or 'none'})"
                )
            yield container


def best_stream(container: Any, kind: str) -> Any | None:
    """The stream that FFmpeg would play: kind "video" or "audio". Pictures attached to sound, such
    as covers, are no video. None if there is none."""
    from av.stream import Disposition

    streams = [
        stream
        for stream in getattr(container.streams, kind)
        if not stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails)
    ]
    best = container.streams.best(kind)
    if best in streams or not streams:
        return best if streams else None
    return streams[0]


def decoded_frames(container: Any, stream: Any, path: str, trouble: list[str]) -> Iterator[Any]:
    """The frames of a stream in order of presentation, on one thread.

    Damaged packets are skipped; damaged frames, of which the decoder has concealed parts, are not.
    `trouble` counts both at the end. If nothing at all can be decoded,
    raises MediaError if the file has no streams of another kind.
    """
    import av

    context = stream.codec_context
    if context is None:
        _nothing(container, stream, path, "FFmpeg has no decoder for it", trouble)
        return
    context.thread_count = 1  # the workers are as many as the cores
    frames = packets = failures = corrupt = 0
    first = ""
    for packet in _packets(container, stream, trouble):
        _count_one()
        packets += packet is not None
        try:
            pictures = context.decode(packet)
        except EOFError:
            continue
        except (av.FFmpegError, ValueError) as error:
            failures += 1
            first = first or str(getattr(error, "strerror", None) or error)
            continue
        for picture in pictures:
            frames += 1
            corrupt += picture.is_corrupt
            yield picture
    if not frames:
        why = first or ("it is empty" if not packets else "its packets hold no frame")
        _nothing(container, stream, path, why, trouble)
        return
    if corrupt:
        trouble.append(f"{stream.type}: {corrupt:,} of {frames:,} frames are damaged")
    if failures:
        trouble.append(f"{stream.type}: {failures:,} of {packets:,} packets are damaged ({first})")


def _packets(container: Any, stream: Any, trouble: list[str]) -> Iterator[Any]:
    """The packets of a stream with data, and None after the last, which makes a decoder finish."""
    import av

    try:
        for packet in container.demux(stream):
            if packet.size:
                yield packet
    except (av.FFmpegError, EOFError) as error:
        trouble.append(f"{stream.type}: reading ended early ({getattr(error, 'strerror', error)})")
    yield None


def _nothing(container: Any, stream: Any, path: str, why: str, trouble: list[str]) -> None:
    name = getattr(stream.codec_context, "name", None) or "an unknown codec"
    message = f"no frame of its {stream.type} ({name}) could be decoded: {why}"
    if all(other.type == stream.type for other in (*container.streams.video,
                                                   *container.streams.audio)):  # fmt: skip
        raise MediaError(f"{path}: {message}")
    trouble.append(message)


def _count_one() -> None:
    global _decoded
    _decoded += 1


def _refuse_folders_and_empty(path: str) -> None:
    if is_remote(path):
        return
    if os.path.isdir(path):
        raise MediaError(f"{path}: is a folder, and a video file was expected")
    if not os.path.exists(path):
        raise MediaError(f"{path}: there is no such file")
    if os.path.isfile(path) and not os.path.getsize(path):
        raise MediaError(f"{path}: is empty (0 bytes)")
    if not os.path.isfile(path):
        raise MediaError(f"{path}: is no regular file, and a video file was expected")


def compare_duration(container: Any, stream: Any, seconds: float, trouble: list[str]) -> None:
    """Append to `trouble` if a stream was decoded for fewer seconds than the file states."""
    stated = None
    if stream.duration and stream.time_base:
        stated = float(stream.duration * stream.time_base)
    elif container.duration and len(container.streams.get()) == 1:
        late = (stream.start_time or 0) * (stream.time_base or 0)
        stated = container.duration / 1e6 - max(0.0, float(late))
    if stated is not None and seconds < stated - max(1.0, stated / 50):
        trouble.append(
            f"{stream.type}: ends after {seconds:.1f} of the {stated:.1f} seconds that the file "
            "states"
        )


def _bytes_of(path: str) -> BinaryIO:
    if not is_remote(path):
        return open(path, "rb")
    return cast(BinaryIO, epath.Path(path).open("rb"))


def _kind(path: str) -> str:
    from vidembed.records.kind import kind_of

    return kind_of(path)
