"""Files of captions in every published form, written here, and their faults."""

import gzip
import json
import os
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidembed.corpora.caption_files import CaptionsError, read_captions
from vidembed.corpora.imagined_captions import MADE_UP, imagined_captions

PAIRS = [
    ("v1", "a dog, running"),
    ("v2", 'the "cat" sleeps'),
    ("v1", "一只狗 runs"),
    ("v3", "music plays"),
]
OBJECTS = [{"video_id": name, "caption": text} for name, text in PAIRS]
MSRVTT = {
    "info": {},
    "videos": [{"video_id": n, "split": s} for n, s in zip(("v1", "v2", "v3", "v4"),
                                                         ("train", "validate", "test", "test"))],
    "sentences": OBJECTS,
}  # fmt: skip


def quoted(cell, mark):
    return '"' + cell.replace('"', '""') + '"' if mark in cell or '"' in cell else cell


def table_of(names, rows, mark=","):
    return "\n".join(mark.join(quoted(c, mark) for c in row) for row in [names, *rows]) + "\n"


def write(path, content):
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def pairs_of(file):
    return list(zip(file.ids, file.texts))


LISTS = [("ret0", "m1", *PAIRS[0]), ("ret1", "m2", *PAIRS[1]), ("ret2", "m3", *PAIRS[2]),
         ("ret3", "m4", *PAIRS[3])]  # fmt: skip
FORMS = {
    "own": table_of(("video_id", "caption"), PAIRS),
    "own in another order": table_of(("caption", "n", "video_id"), [(t, "1", n) for n, t in PAIRS]),
    "1k-A with commas": table_of(("key", "vid_key", "video_id", "sentence"), LISTS),
    "1k-A with semicolons": table_of(("key", "vid_key", "video_id", "sentence"), LISTS, ";"),
    "a list": json.dumps(OBJECTS),
    "an indented list": json.dumps(OBJECTS, indent=1),
    "lines": "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in OBJECTS),
    "lines with empty ones": "\n\n".join(json.dumps(each) for each in OBJECTS),
    "videodatainfo": json.dumps(MSRVTT),
    "indented videodatainfo": json.dumps(MSRVTT, indent=2),
    "with a mark at the beginning": "\ufeff" + json.dumps(OBJECTS),
}


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("text", FORMS.values(), ids=FORMS)
def test_every_form_holds_the_same_captions(text, packed, tmp_path):
    content = text.encode()
    path = write(tmp_path / "file.dat", gzip.compress(content) if packed else content)
    file = read_captions(path)
    assert pairs_of(file) == PAIRS
    assert file.notes == ()


def test_parquet_and_single_objects_and_lists_of_captions(tmp_path):
    ids, texts = zip(*PAIRS)
    pq.write_table(pa.table({"caption": texts, "video_id": ids}), tmp_path / "c.parquet")
    assert pairs_of(read_captions(tmp_path / "c.parquet")) == PAIRS
    one = write(tmp_path / "one.json", json.dumps(OBJECTS[0]) + "\n")
    assert pairs_of(read_captions(one)) == PAIRS[:1]
    several = write(tmp_path / "n.json", '[{"video_id": 7, "caption": ["a", " b\\n c ", null]}]')
    assert pairs_of(read_captions(several)) == [("7", "a"), ("7", "b c"), ("7", "")]


def test_splits_are_read_where_a_file_has_them(tmp_path):
    file = read_captions(write(tmp_path / "m.json", json.dumps(MSRVTT)))
    assert file.parts == {"v1": "train", "v2": "validation", "v3": "test", "v4": "test"}
    rows = [("v1", "a", "train"), ("v2", "b", "val"), ("v1", "c", "train")]
    own = read_captions(write(tmp_path / "o.csv", table_of(("video_id", "caption", "split"), rows)))
    assert own.parts == {"v1": "train", "v2": "validation"}
    lines = [{"video_id": n, "caption": t, "split": s} for n, t, s in rows]
    objects = read_captions(write(tmp_path / "l.json", json.dumps(lines)))
    assert objects.parts == own.parts
    assert read_captions(write(tmp_path / "n.csv", FORMS["own"])).parts == {}


MSVD = ("", "VideoID", "Start", "End", "WorkerID", "Source", "AnnotationTime", "Language",
        "Description")  # fmt: skip
MSVD_ROWS = [
    ("1", "x_y", "10", "15", "3", "clean", "2", "English", "A dog runs."),
    ("2", "x_y", "10", "15", "3", "clean", "2", "German", "Ein Hund rennt."),
    ("3", "x_y", "20", "25", "3", "unverified", "2", "English", ""),
]


def test_msvd_is_read_in_one_language_or_in_all(tmp_path):
    path = write(tmp_path / "msvd.csv", table_of(MSVD, MSVD_ROWS))
    english = read_captions(path)
    assert pairs_of(english) == [("x_y_10_15", "A dog runs."), ("x_y_20_25", "")]
    assert "1 captions in languages other than English are left out" in english.notes[0]
    assert read_captions(path, language="German").texts == ("Ein Hund rennt.",)
    assert len(read_captions(path, language="").ids) == 3
    with pytest.raises(CaptionsError, match="none of its 3 captions is in Dutch; it has English, "):
        read_captions(path, language="Dutch")


def changed(number, **fields):
    return json.dumps([{**each, **(fields if n == number else {})} for n, each in
                       enumerate(OBJECTS, start=1)])  # fmt: skip


@pytest.mark.fault(
    "Captions: JSON with a mistake, or of another kind",
    "refused, with the line and the text around the mistake, or with what it holds instead",
)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            json.dumps(OBJECTS, indent=1)[:120],
            r"line 10, character 1: is not JSON .* if it ends early",
        ),
        ('[\n{"video_id": "a",\n "caption": x}]', r"line 3, character 13: .*near '.*x}\]'"),
        (json.dumps(MSRVTT)[:-9], r"line 1, character \d+: is not JSON .* if it ends early"),
        (FORMS["lines"] + '{"video_id": "v9"', "line 5, character 18: is not JSON"),
        (FORMS["lines"] + "3\n", "line 5: expected an object with video_id, found 3"),
        (FORMS["lines"].replace("dog", "\udcff"), "line 1: is not UTF-8"),
        ('{"a": {"b": 1}}', "is a JSON object of 'a'; expected the lists videos and sentences"),
        ("{}", "is a JSON object of nothing"),
        ('{"videos": 3, "sentences": []}', "is a JSON object of 'videos', 'sentences'"),
        ('[{"video": "a"}]', r"entry 1: expected an object with video_id, found {'video'"),
        ("[7]", "entry 1: expected an object with video_id, found 7"),
        ('[{"video_id": "a", "text": "b"}]', "entry 1: has no caption; found 'video_id', 'text'"),
        (changed(2, caption=3), "entry 2: the caption must be text, found 3"),
        (changed(2, video_id=1.5), "entry 2: video_id must be text, found 1.5"),
        (changed(3, video_id="\ud800"), "entry 3: video_id .* is not valid text"),
        (changed(3, video_id="a\0"), "caption 2: video_id 'a.x00' holds a NUL"),
        (changed(1, split=4), "video v1: split must be text, found 4"),
        ("[" * 100_000, "nested too deeply|is not JSON"),
        ("[]", "holds no captions"),
    ],
)
def test_other_json_is_refused(text, message, tmp_path):
    path = write(tmp_path / "c.json", text.encode(errors="surrogateescape"))
    with pytest.raises(CaptionsError, match=message):
        read_captions(path)


def test_a_broken_character_of_a_caption_becomes_a_question_mark(tmp_path):
    assert read_captions(write(tmp_path / "c.json", changed(1, caption="a \ud800 b"))).texts[0] == (
        "a ? b"
    )


@pytest.mark.fault(
    "Captions: a file without the columns, without captions, or captions without a video",
    "refused: the columns it has and those expected, or how many captions",
)
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("video,text\na,b\n", "column video_id, caption is missing; .*found video, text"),
        ("video_id,text\na,b\n", "column caption is missing"),
        ("caption,text\na,b\n", "column video_id is missing"),
        ("VideoID,Start,Description\na,1,b\n", "column video_id, caption is missing"),
        ("video_id,caption,caption\na,b,c\n", "column caption occurs 2 times"),
        ("video_id,caption\n", "holds no captions; give the one file"),
        ("video_id,caption\na,b\n,c\n", "1 of 2 captions have no video"),
        ("VideoID,Start,End,Description\na,,3,b\n", "1 of 1 captions have no video"),
        ("video_id,caption\na,b,c\n", "has 3 cells, but the header has 2"),
        ("", "it is empty"),
    ],
)
def test_other_tables_are_refused(text, message, tmp_path):
    with pytest.raises(CaptionsError, match=message):
        read_captions(write(tmp_path / "c.csv", text))


def test_missing_and_truncated_files_are_refused(tmp_path):
    with pytest.raises(CaptionsError, match="no such file"):
        read_captions(tmp_path / "none.json")
    with pytest.raises(CaptionsError, match="is a folder"):
        read_captions(tmp_path)
    packed = gzip.compress(json.dumps(MSRVTT).encode())[:-30]
    with pytest.raises(CaptionsError, match=r"cannot be read as captions|is not JSON"):
        read_captions(write(tmp_path / "m.json.gz", packed))


@pytest.mark.fault(
    "Captions: a video in two parts of the split, or parts of another name", "refused, by name"
)
@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([("a", "x", "train"), ("b", "y", "test"), ("a", "z", "val")],
         r"1 videos lie in more than one part: a \(train, validation\)"),
        ([("a", "x", "train"), ("b", "y", "dev")], "video b is for 'dev': a split must say train"),
        ([("a", "x", "train"), ("b", "y", "")], "1 entries have no split, although others do"),
    ],
)  # fmt: skip
def test_splits_without_sense_are_refused(rows, message, tmp_path):
    text = table_of(("video_id", "caption", "split"), rows)
    with pytest.raises(CaptionsError, match=message):
        read_captions(write(tmp_path / "c.csv", text))
    objects = [{"video_id": n, "caption": t, "split": s or None} for n, t, s in rows]
    with pytest.raises(CaptionsError, match=message):
        read_captions(write(tmp_path / "c.json", json.dumps(objects)))
    videos = [{"video_id": n, "split": s or None} for n, _, s in rows]
    with pytest.raises(CaptionsError, match=message):
        read_captions(
            write(tmp_path / "m.json", json.dumps({"videos": videos, "sentences": objects}))
        )


def test_the_imagined_world_is_the_same_in_both_forms(tmp_path):
    world, again = (imagined_captions(40, captions=3, seed=5) for _ in range(2))
    world.write_csv(tmp_path / "c.csv")
    world.write_msrvtt(tmp_path / "m.json")
    own, published = read_captions(tmp_path / "c.csv"), read_captions(tmp_path / "m.json")
    assert pairs_of(own) == pairs_of(published)
    assert own.parts == published.parts == dict(zip(own.ids[::3], world.parts))
    assert {*world.parts} == {"train", "validation", "test"}
    assert (again.texts, again.table.fingerprint) == (world.texts, world.table.fingerprint)
    assert json.loads((tmp_path / "m.json").read_text())["info"] == MADE_UP
    assert "split" not in _header(world, tmp_path)


def _header(world, folder):
    world.write_csv(folder / "plain.csv", split=False)
    return (folder / "plain.csv").read_text().splitlines()[0]


def test_features_of_the_imagined_world_tell_its_aspects_apart():
    world = imagined_captions(300, noise=0.1, silent=0.2)
    assert world.table.widths == {"object": 12, "activity": 10, "audio": 8}
    for place, (modality, features) in enumerate(world.table.features.items()):
        rows = np.flatnonzero(world.table.has(modality))
        values, aspect = features[rows], world.aspects[rows, place]
        scores = values @ values.T
        np.fill_diagonal(scores, -np.inf)
        assert (aspect[scores.argmax(axis=1)] == aspect).mean() > 0.95
    assert 0.1 < 1 - world.table.has("audio").mean() < 0.3
    assert not world.table.features["audio"][~world.table.has("audio")].any()
    words = Counter(text.split()[0] for texts in world.texts for text in texts)
    assert 0.05 < words["somebody"] / words.total() < 0.15


FOLDER = os.environ.get("VIDEMBED_TEXT", "")
PUBLISHED = {
    "msrvtt_validate_test_videodatainfo.json.gz": (
        69_740,
        3_487,
        {"validation": 497, "test": 2_990},
    ),
    "MSRVTT_JSFUSION_test.csv": (1_000, 1_000, {}),
    "msrvtt_test_1k.json": (1_000, 1_000, {}),
    "msvd_test.csv.gz": (27_768, 670, {}),
    "msvd_val.csv.gz": (4_291, 100, {}),
    "msvd_cn_captions.csv.gz": (11_758, 1_970, {}),
}


@pytest.mark.long
@pytest.mark.parametrize("name", PUBLISHED)
def test_published_files_have_their_known_counts(name):
    path = Path(FOLDER) / name
    if not FOLDER or not path.exists():
        pytest.skip(f"VIDEMBED_TEXT names no folder with {name}")
    file = read_captions(path)
    counts = dict(Counter(file.parts.values()))
    assert (len(file.ids), len(set(file.ids)), counts) == PUBLISHED[name]
