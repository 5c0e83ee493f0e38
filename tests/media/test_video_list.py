"""The list of the files that a table was made from."""

import csv
import os

import pytest

from vidembed.media.video_list import Entry, list_of, origin_of, read_list, standing, write_list
from vidembed.media.videos import VideoFile, read_manifest


def test_a_list_is_read_as_it_was_written_and_is_a_manifest(tmp_path):
    names = ['comma, "quote"', "line\nbreak", "ümlaut", "plain"]
    entries = {
        name: Entry(VideoFile(name, str(tmp_path / f"{name}.mp4")), {"size": 3, "modified": 0.1}, s)
        for name, s in zip(names, ("extracted", "empty", "extracted", "extracted"))
    }
    broken = VideoFile("broken", str(tmp_path / os.fsdecode(b"\xff.mp4")))
    entries["broken"] = Entry(broken, {}, "failed", "no such file, or\nso it seems")
    write_list(tmp_path / "table", entries.values())
    assert read_list(tmp_path / "table") == entries
    assert read_list(tmp_path / "other") == {}
    write_list(tmp_path / "table", [entries["plain"]])
    assert read_manifest(list_of(tmp_path / "table")) == [entries["plain"].video]


def test_videos_are_new_failed_or_changed(tmp_path):
    videos = []
    for name in ("same", "changed", "failed", "mended", "new", "old"):
        (tmp_path / name).write_bytes(b"content")
        videos.append(VideoFile(name, str(tmp_path / name)))
    states = {"same": "extracted", "changed": "extracted", "failed": "failed", "mended": "failed"}
    entries = {v.id: Entry(v, origin_of(v), states[v.id]) for v in videos if v.id in states}
    for name in ("changed", "mended"):
        (tmp_path / name).write_bytes(b"other content")
    videos.append(VideoFile("gone", str(tmp_path / "gone")))  # removed once it was extracted
    entries["gone"] = Entry(videos[-1], {"size": 1, "modified": 1.0}, "extracted")
    found = standing(videos, entries, ["old", "same", "changed", "gone"])
    assert [video.id for video in found.new] == ["mended", "new"]
    assert [entry.video.id for entry in found.failed] == ["failed"]
    assert [video.id for video in found.changed] == ["changed"]
    entries["mended"] = entries["mended"]._replace(state="empty")
    entries["failed"] = entries["failed"]._replace(state="empty")
    found = standing(videos, entries, ["old", "same", "changed", "gone"])
    assert [video.id for video in found.new] == ["mended", "new"]
    assert not found.failed


@pytest.mark.parametrize(
    "text", ["id,path\na,b\n", "id,path,bytes,modified,state,reason\na,b,x,1,extracted,\n"]
)
def test_a_damaged_list_is_named(tmp_path, text):
    place = tmp_path / "table.videos.csv"
    place.write_text(text)
    assert csv.reader(place.read_text().splitlines())
    with pytest.raises(ValueError, match=r"table\.videos\.csv is damaged"):
        read_list(tmp_path / "table")
