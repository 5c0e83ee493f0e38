"""Captions in JSON: MSR-VTT's videodatainfo, lists of objects as 1k-A's, and objects in lines."""

import json
from collections.abc import Iterable
from typing import Any, NamedTuple

from etils import epath

from vidembed.records import tabular, text_table

TEXT = ("caption", "sentence")
_SHOWN = 60


class CaptionsError(ValueError):
    """Captions that cannot be read, or that do not fit the table."""


class Entries(NamedTuple):
    """What a file holds, in its order."""

    ids: list[str]
    """The video of each caption."""
    texts: list[str]
    parts: list[tuple[str, str | None]]
    """Videos and their parts, as the file calls them; empty without a split."""


def json_entries(path: epath.Path, kind: tabular.Kind) -> Entries | None:
    """The captions of a JSON file, possibly compressed; None if the file is not JSON.

    Raises CaptionsError for JSON with a mistake, with its line, and for JSON of another kind.
    """
    with tabular.reading(path, kind):
        if not path.exists() or path.is_dir():
            return None  # the reader of tables says so
        with path.open("rb") as file:
            plain, head = text_table.plain(file)
            if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] not in (b"{", b"["):
                return None
            content = plain.read()
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise CaptionsError(f"{path}, line {line}: is not UTF-8: save it as UTF-8") from error
    lines = text.split("\n") if text.startswith("{") else []
    if len(lines) > 1 and _is_object(lines[0]):
        values = [
            (f"line {number}", _parsed(path, line, number))
            for number, line in enumerate(lines, start=1)
            if line.strip()
        ]
        return _of_objects(path, values)
    value = _parsed(path, text, 1)
    if isinstance(value, list):
        return _of_objects(path, [(f"entry {n}", each) for n, each in enumerate(value, start=1)])
    if "sentences" not in value and "video_id" in value:
        return _of_objects(path, [("line 1", value)])
    return _of_msrvtt(path, value)


def _parsed(path: epath.Path, text: str, line: int) -> Any:
    """The value of JSON that begins on this line."""
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        around = error.doc[max(0, error.pos - 20) : error.pos + 20]
        raise CaptionsError(
            f"{path}, line {line + error.lineno - 1}, character {error.colno}: is not JSON "
            f"({error.msg}, near {around!r}): correct it, or fetch the file again if it ends early"
        ) from error
    except RecursionError as error:
        raise CaptionsError(f"{path}: its JSON is nested too deeply to be captions") from error


def _is_object(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _of_msrvtt(path: epath.Path, value: dict[str, Any]) -> Entries:
    """`videos` with their split, and `sentences`."""
    videos, sentences = value.get("videos"), value.get("sentences")
    if not isinstance(videos, list) or not isinstance(sentences, list):
        raise CaptionsError(
            f"{path}: is a JSON object of {', '.join(map(repr, list(value)[:8])) or 'nothing'}; "
            "expected the lists videos and sentences, as in MSR-VTT's videodatainfo.json, or a "
            "list of objects with video_id and caption"
        )
    entries = _of_objects(path, [(f"sentence {n}", s) for n, s in enumerate(sentences, start=1)])
    named = [_video(path, f"video {n}", each) for n, each in enumerate(videos, start=1)]
    parts = [(_id(path, "videos", each), each.get("split")) for each in named]
    return entries._replace(parts=_named(path, parts))


def _of_objects(path: epath.Path, values: Iterable[tuple[str, Any]]) -> Entries:
    """Objects with video_id, caption (text, or a list of texts) and perhaps split."""
    ids, texts, parts = [], [], []
    for place, value in values:
        entry = _video(path, place, value)
        name = next((name for name in TEXT if name in entry), None)
        if name is None:
            raise CaptionsError(
                f"{path}, {place}: has no caption; found {', '.join(map(repr, list(entry)[:8]))}"
            )
        video = _id(path, place, entry)
        several = entry[name] if isinstance(entry[name], list) else [entry[name]]
        for text in several:
            if not isinstance(text, str | None):
                raise CaptionsError(
                    f"{path}, {place}: the caption must be text, found {repr(text)[:_SHOWN]}"
                )
            ids.append(video)
            texts.append(text or "")
        parts.append((video, entry.get("split")))
    return Entries(ids, texts, _named(path, parts))


def _video(path: epath.Path, place: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or "video_id" not in value:
        raise CaptionsError(
            f"{path}, {place}: expected an object with video_id, found {repr(value)[:_SHOWN]}"
        )
    return value


def _id(path: epath.Path, place: str, entry: dict[str, Any]) -> str:
    name = entry["video_id"]
    if isinstance(name, bool) or not isinstance(name, str | int):
        raise CaptionsError(f"{path}, {place}: video_id must be text, found {repr(name)[:_SHOWN]}")
    try:
        str(name).encode()
    except UnicodeEncodeError as error:
        raise CaptionsError(f"{path}, {place}: video_id {name!r} is not valid text") from error
    return str(name)


def _named(path: epath.Path, parts: list[tuple[str, Any]]) -> list[tuple[str, str | None]]:
    """The pairs if any has a part, else none."""
    for video, part in parts:
        if not isinstance(part, str | None):
            raise CaptionsError(
                f"{path}: video {video}: split must be text, found {repr(part)[:_SHOWN]}"
            )
    return parts if any(part is not None for _, part in parts) else []
