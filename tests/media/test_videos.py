"""Which files are videos, and their ids."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidembed.media.videos import SUFFIXES, VideoFile, VideosError, id_of, video_files


def touch(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"x")
    return [str(folder / name) for name in names]


def test_folders_are_searched_in_depth_and_files_taken_as_they_are(tmp_path):
    b, a, upper, _, _ = touch(
        tmp_path / "films", "z/b.mp4", "a.webm", "c.MKV", "notes.txt", "z/.hidden.mp4"
    )
    (other,) = touch(tmp_path, "clip.unusual")
    videos = [VideoFile("a", a), VideoFile("b", b), VideoFile("c", upper)]
    assert video_files([tmp_path / "films"]) == videos
    assert video_files([other, tmp_path / "films"]) == [VideoFile("clip", other), *videos]
    assert video_files([a, tmp_path / "films", a, upper]) == videos, "each file once"
    (tmp_path / "links").mkdir()
    (tmp_path / "links" / "films").symlink_to(tmp_path / "films")
    (tmp_path / "films" / "z" / "back").symlink_to(tmp_path / "links")  # a circle
    assert [video.id for video in video_files([tmp_path / "links"])] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("name", "video_id"),
    [
        ("Rick - Never [dQw4w9WgXcQ].mp4", "dQw4w9WgXcQ"),
        ("dQw4w9WgXcQ.webm", "dQw4w9WgXcQ"),
        ("Title-dQw4w9WgXcQ.mkv", "dQw4w9WgXcQ"),
        ("-Qw4w9WgXc_.mp4", "-Qw4w9WgXc_"),
        ("dQw4w9WgXcQ 720p.mp4", "dQw4w9WgXcQ"),
    ],
)
def test_youtube_ids_are_taken_from_names(name, video_id):
    assert id_of(f"/films/{name}", "youtube") == video_id


@pytest.mark.fault(
    "Video files: two files have one id, a name holds no YouTube id, or a folder no video",
    "refused before decoding: both files, the name, or the endings looked for",
)
def test_ids_and_folders_are_checked(tmp_path):
    first, second = touch(tmp_path / "films", "a.mp4", "z/a.mkv")
    with pytest.raises(VideosError, match="stands for two files") as refused:
        video_files([tmp_path / "films"])
    assert first in str(refused.value)
    assert second in str(refused.value)
    with pytest.raises(VideosError, match=r"short\.mp4: its name holds no YouTube id"):
        id_of("short.mp4", "youtube")
    touch(tmp_path / "texts", "a.txt", "b.pdf")
    with pytest.raises(VideosError, match=r"found 2 files with the endings .pdf, .txt") as refused:
        video_files([tmp_path / "texts"])
    assert all(suffix in str(refused.value) for suffix in SUFFIXES)
    with pytest.raises(VideosError, match="no such file or folder"):
        video_files([tmp_path / "gone"])
    with pytest.raises(VideosError, match="no videos"):
        video_files([])


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_manifests_name_ids_and_paths(tmp_path, kind):
    path = tmp_path / f"list.{kind}"
    rows = {"title": ["t"] * 3, "video_id": ["x", "b", "c"],
            "path": ["films/a.mp4", "/else/b.mp4", "gs://bucket/c.mp4"]}  # fmt: skip
    if kind == "csv":
        lines = [",".join(rows), *(",".join(row) for row in zip(*rows.values()))]
        path.write_text("\n".join(lines) + "\n")
    else:
        pq.write_table(pa.table(rows), path)
    assert video_files([path]) == [
        VideoFile("x", str(tmp_path / "films/a.mp4")),
        VideoFile("b", "/else/b.mp4"),
        VideoFile("c", "gs://bucket/c.mp4"),
    ]


@pytest.mark.fault(
    "Video files: a manifest lacks a column, an id or a path, names a web address or one id twice",
    "refused with the file, the row and what stands there",
)
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id,file\na,b.mp4\n", "column path is missing"),
        ("name,path\na,b.mp4\n", "column video_id is missing"),
        ("id,path\na,a.mp4\n,b.mp4\n", "row 1"),
        ("id,path\na,\n", "row 0"),
        ("id,url\na,https://host/a.mp4\n", "row 0: 'https://host/a.mp4' is neither"),
        ("id,path\na,a.mp4\na,b.mp4\n", "id 'a' stands for two files"),
        ("id,path\n", "holds no videos"),
    ],
)
def test_manifests_are_checked(tmp_path, text, words):
    path = tmp_path / "list.csv"
    path.write_text(text)
    with pytest.raises(VideosError, match=words) as refused:
        video_files([path])
    assert "list.csv" in str(refused.value) or "stands for" in words


def test_an_id_at_the_end_comes_before_a_word_of_the_same_length():
    assert id_of("Development of a thing-dQw4w9WgXcQ.mp4", "youtube") == "dQw4w9WgXcQ"
