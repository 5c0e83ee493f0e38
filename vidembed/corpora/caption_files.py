"""Read captions from the files in which data sets publish them, and from files of one's own.

The content of a file determines its form, never its name; each may be compressed. Tables (CSV with
any delimiter, or Parquet) are told by their columns: `video_id, caption`; 1k-A's `video_id,
sentence`; MSVD's `VideoID, Start, End, Language, Description`. `caption_json` reads the others.
"""

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from etils import epath

from vidembed.corpora.caption_json import CaptionsError, Entries, json_entries
from vidembed.records import tabular
from vidembed.records.columns import NUL, ids_of
from vidembed.records.split_file import WORDS
from vidembed.records.tabular import LISTED

PARTS = {**WORDS, "validate": "validation"}
"""Names of the parts that a file may use; MSR-VTT says validate."""
ENGLISH = "English"
MSVD = ("VideoID", "Start", "End", "Description")
CAPTIONS = tabular.Kind(
    what="captions (CSV, Parquet or JSON of video_id, caption; MSR-VTT's videodatainfo.json; "
    "MSVD's CSV)",
    give="the one file with the captions",
    refused=CaptionsError,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class CaptionFile:
    """The captions of a file, in its order."""

    ids: tuple[str, ...]
    """The video of each caption."""
    texts: tuple[str, ...]
    """With single blanks between words; "" for an empty caption."""
    parts: Mapping[str, str]
    """Video → train, validation or test, where the file says so; {} if it does not."""
    notes: tuple[str, ...] = ()
    """Remarks to show to the user."""


def read_captions(path: str | os.PathLike[str], *, language: str = ENGLISH) -> CaptionFile:
    """Read a file of captions in any of the forms.

    language: the one to read of a file with a column Language; "" for all. Raises CaptionsError for
    another file, JSON with a mistake (with its line), captions without a video, unknown names of
    parts, a video in two parts, and a file without captions in the language.
    """
    place = epath.Path(path)
    in_json = json_entries(place, CAPTIONS)
    (ids, texts, parts), notes = (in_json, ()) if in_json else _rows(place, language)
    if not ids:
        raise CaptionsError(f"{path}: holds no captions; give {CAPTIONS.give}")
    _check_ids(path, ids)
    return CaptionFile(
        ids=tuple(ids),
        texts=tuple(_plain(text) for text in texts),
        parts=_parts(path, parts),
        notes=notes,
    )


def _rows(path: epath.Path, language: str) -> tuple[Entries, tuple[str, ...]]:
    """The captions of a CSV or Parquet file, and remarks."""
    known = ("video_id", "caption", "sentence", "split", *MSVD, "Language")
    file = tabular.read_table(path, CAPTIONS, (), optional=known)
    names = file.column_names
    tabular.check_columns(path, names, [name for name in known if name in names], CAPTIONS)
    column = {name: ids_of(path, file, name, CAPTIONS).to_pylist() for name in names}
    if set(MSVD) <= set(names):
        ids = [
            "_".join(map(str, parts)) if all(parts) else ""
            for parts in zip(*(column[name] for name in MSVD[:3]))
        ]
        return _in_language(path, ids, column["Description"], column.get("Language"), language)
    text = next((name for name in ("caption", "sentence") if name in names), None)
    if text is None or "video_id" not in names:
        # Says which columns the file has instead.
        tabular.read_table(path, CAPTIONS, ("video_id", "caption"))
    ids = [name or "" for name in column["video_id"]]
    parts = list(zip(ids, column["split"])) if "split" in names else []
    return Entries(ids, column[text or ""], parts), ()


def _in_language(
    path: epath.Path,
    ids: list[str],
    texts: list[str],
    languages: list[str] | None,
    language: str,
) -> tuple[Entries, tuple[str, ...]]:
    """Only the captions in the language, if a column says in which they are."""
    if not language or languages is None:
        return Entries(ids, texts, []), ()
    chosen = [place for place, name in enumerate(languages) if name == language]
    if not chosen:
        others = sorted({name or "none" for name in languages})
        raise CaptionsError(
            f"{path}: none of its {len(ids):,} captions is in {language}; it has "
            f"{', '.join(others[:LISTED]) or 'no captions'}: choose with --corpus.language"
        )
    notes: tuple[str, ...] = ()
    if others_count := len(ids) - len(chosen):
        notes = (
            f"{path}: {others_count:,} captions in languages other than {language} are left out "
            "(--corpus.language)",
        )
    ids, texts = ([values[place] for place in chosen] for values in (ids, texts))
    return Entries(ids, texts, []), notes


def _check_ids(path: str | os.PathLike[str], ids: Sequence[str]) -> None:
    if missing := sum(not name for name in ids):
        raise CaptionsError(
            f"{path}: {missing:,} of {len(ids):,} captions have no video: add its id, or remove "
            "them"
        )
    for number, name in enumerate(ids):
        if "\0" in name:
            raise CaptionsError(f"{path}, caption {number}: video_id {name!r} {NUL}")


def _parts(path: str | os.PathLike[str], pairs: Iterable[tuple[str, str | None]]) -> dict[str, str]:
    """Video → part; refuses other names of parts, and a video in two."""
    parts: dict[str, str] = {}
    torn: dict[str, set[str]] = {}
    unnamed = 0
    for video, word in pairs:
        if not word:
            unnamed += 1
            continue
        if word not in PARTS:
            raise CaptionsError(
                f"{path}: video {video} is for {word!r}: a split must say {', '.join(PARTS)}"
            )
        part = PARTS[word]
        if parts.setdefault(video, part) != part:
            torn.setdefault(video, {parts[video]}).add(part)
    if torn:
        named = (f"{video} ({', '.join(sorted(both))})" for video, both in torn.items())
        raise CaptionsError(
            f"{path}: {len(torn):,} videos lie in more than one part: "
            f"{'; '.join(list(named)[:LISTED])}. A video in training would be evaluated: put each "
            "video into one part"
        )
    if parts and unnamed:
        raise CaptionsError(
            f"{path}: {unnamed:,} entries have no split, although others do: fill them in, or "
            "leave the column out"
        )
    return parts


def _plain(text: str | None) -> str:
    """With single blanks, and a question mark for half a character (a lone surrogate of JSON)."""
    return " ".join((text or "").encode(errors="replace").decode().split())
