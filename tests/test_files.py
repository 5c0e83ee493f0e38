import errno
import json
import os
import subprocess
import sys
import time

import pytest

from vidembed.files import (
    is_remote,
    read_json,
    remove_unfinished,
    whole_file,
    write_json,
    write_text,
)


def test_round_trip_and_nothing_else_left(tmp_path):
    file = tmp_path / "new" / "a.json"
    assert read_json(file) is None
    write_json(file, {"é": [1, 2.5, None]})
    write_json(file, {"é": [2]})
    assert read_json(file) == {"é": [2]}
    assert [path.name for path in file.parent.iterdir()] == ["a.json"]


def test_a_failed_write_leaves_the_old_file(tmp_path):
    file = tmp_path / "a.json"
    write_json(file, {"good": 1})
    with pytest.raises(ValueError, match="JSON"):
        write_json(file, {"bad": float("nan")})
    with pytest.raises(UnicodeEncodeError):
        write_text(file, "half \ud800")
    assert read_json(file) == {"good": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "new" / "file"
    with whole_file(path) as unfinished:
        unfinished.write_text("one")
        assert not path.exists()
    assert path.read_text() == "one"

    def fail_halfway():
        with whole_file(path) as unfinished:
            unfinished.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()
    assert path.read_text() == "one"
    assert list(path.parent.iterdir()) == [path]


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    def fail(*error):
        with whole_file(tmp_path / "file"):
            raise OSError(*error)

    for arguments, name in (
        ((errno.EIO, "bad disk"), "file"),
        ((errno.EIO, "bad", "other"), "other"),
    ):
        with pytest.raises(OSError, match="bad") as caught:
            fail(*arguments)
        assert os.path.basename(caught.value.filename) == name


def test_a_killed_writer_leaves_a_whole_file(tmp_path):
    file = tmp_path / "a.json"
    code = (
        "import sys; from vidembed.files import write_json\n"
        "for i in range(10**9): write_json(sys.argv[1], [i] * 200_000)"
    )
    writer = subprocess.Popen([sys.executable, "-c", code, str(file)])
    while not file.exists():
        time.sleep(0.01)
    for _ in range(20):
        assert len(set(json.loads(file.read_text()))) == 1
    writer.kill()
    writer.wait()
    assert len(json.loads(file.read_text())) == 200_000


def test_leftovers_of_a_killed_writer_are_removed(tmp_path):
    dead = 2**31 - 1  # no process has this number
    new, old = tmp_path / f".a.json.{dead}.22", tmp_path / f".b.json.{dead}.22"
    untouched = [
        tmp_path / name
        for name in ("a.json", ".hidden", f".c.json.{os.getpid()}.1", ".d.1.2", "1.22")
    ]
    for file in [new, old, *untouched]:
        file.write_text("{}")
    os.utime(old, (time.time() - 90,) * 2)
    remove_unfinished(tmp_path, older_than_seconds=60)
    assert new.exists()
    assert not old.exists()
    remove_unfinished(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted(untouched)
    remove_unfinished(tmp_path / "none")


def test_remote_paths():
    assert is_remote("gs://bucket/run")
    assert not is_remote("/data/run")
    assert not is_remote("runs/a")
