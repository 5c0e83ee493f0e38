"""The corpus of captions: joining, the split, the words of train captions, and its notes."""

import json

import numpy as np
import pytest

from vidembed.corpora.caption_files import CaptionsError
from vidembed.corpora.caption_rows import Captions, TextSource
from vidembed.corpora.captions import CaptionCorpus, CaptionPaths
from vidembed.corpora.imagined_captions import imagined_captions
from vidembed.records.split import LeakError
from vidembed.records.split_file import SplitError

WORLD = imagined_captions(60, captions=3)
IDS = [name.decode() for name in WORLD.table.ids.tolist()]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    path = tmp_path_factory.mktemp("table") / "table"
    WORLD.table.write(path)
    return str(path)


def lines(change=None, *, split=True, drop=()):
    """The imagined captions as lines of a CSV file; change: number of a line → the line."""
    rows = [
        f"{name},{text},{part}" if split else f"{name},{text}"
        for name, texts, part in zip(IDS, WORLD.texts, WORLD.parts)
        for text in texts
        if name not in drop
    ]
    for place, line in (change or {}).items():
        rows[place] = line
    return "\n".join(["video_id,caption,split" if split else "video_id,caption", *rows, ""])


def opened(table, tmp_path, text, **options):
    path = tmp_path / "captions.csv"
    path.write_text(text)
    options = {"least_count": 1, **options}
    return CaptionPaths(table=table, captions=str(path), **options).open()


def test_captions_are_joined_to_the_rows_of_the_table(table, tmp_path):
    rows = lines().splitlines()
    shuffled = [rows[0], *np.random.default_rng(0).permutation(rows[1:]), ""]
    corpus = opened(table, tmp_path, "\n".join(shuffled))
    assert (len(corpus.captions), len(corpus.captions.offsets)) == (180, 61)
    for row, texts in enumerate(WORLD.texts):
        begin, end = corpus.captions.offsets[row : row + 2]
        assert sorted(corpus.captions.texts[begin:end]) == sorted(texts)
        assert corpus.captions.videos[begin:end].tolist() == [row] * 3
    assert not corpus.simulated
    assert corpus.captions.videos.dtype == np.int32


def test_the_published_split_applies_and_words_come_from_train_captions(table, tmp_path):
    word = "zebra"
    test = WORLD.parts.index("test")
    change = {3 * test: f"{IDS[test]},a {word} runs,test"}
    corpus = opened(table, tmp_path, lines(change))
    for name, mask in {"train": corpus.is_train, **corpus.parts}.items():
        assert mask.tolist() == [part == name for part in WORLD.parts]
    train = [texts for texts, part in zip(WORLD.texts, WORLD.parts) if part == "train"]
    known = {one for texts in train for text in texts for one in text.split()}
    assert set(corpus.vocabulary.words[4:]) == known
    assert corpus.vocabulary.unknown(f"a {word}") == [word]
    assert len(corpus.train_captions) == 3 * len(train)
    assert corpus.is_train[corpus.captions.videos[corpus.train_captions]].all()
    assert any("the split of" in note and "train" in note for note in corpus.notes)
    source = corpus.text_source
    read = source.read(corpus.train_captions[:4])
    tokens, words = corpus.vocabulary.encode(corpus.captions.texts, corpus.longest)
    np.testing.assert_array_equal(read["tokens"], tokens[corpus.train_captions[:4]])
    np.testing.assert_array_equal(read["words"], words[corpus.train_captions[:4]])
    assert len(source) == len(corpus.captions)


def test_another_split_replaces_the_published_one_and_ids_are_hashed_without_any(table, tmp_path):
    split = tmp_path / "split.csv"
    split.write_text("id,split\n" + "".join(f"{n},{'test' if i % 2 else 'train'}\n"
                                            for i, n in enumerate(IDS)))  # fmt: skip
    corpus = opened(table, tmp_path, lines(), split=str(split))
    assert corpus.is_train.tolist() == [i % 2 == 0 for i in range(60)]
    assert any("replaces the split in" in note for note in corpus.notes)
    hashed = opened(table, tmp_path, lines(split=False))
    assert hashed.parts.keys() == {"test", "validation"}
    by_group = tmp_path / "group.csv"
    by_group.write_text("id,group\n" + "".join(f"{n},g{i // 2}\n" for i, n in enumerate(IDS)))
    grouped = opened(table, tmp_path, lines(), split=str(by_group))
    assert (grouped.is_train[::2] == grouped.is_train[1::2]).all()
    assert len({corpus.rows, hashed.rows, grouped.rows}) == 3
    with pytest.raises(LeakError):
        corpus.check({"rows": np.array([0, 1])})


def test_a_digest_of_data_changes_with_each_part_of_it(table, tmp_path):
    corpus = opened(table, tmp_path, lines())
    same = opened(table, tmp_path, lines())
    assert corpus.rows == same.rows
    other = opened(table, tmp_path, lines({0: f"{IDS[0]},another caption,{WORLD.parts[0]}"}))
    vectors = np.zeros((180, 5), np.float32)
    known = {name: getattr(corpus, name) for name in (
        "table", "is_train", "is_validation", "captions", "vocabulary", "longest")}  # fmt: skip
    with_vectors = CaptionCorpus(**known, vectors=vectors)
    assert len({corpus.rows, other.rows, with_vectors.rows}) == 3
    assert with_vectors.text_source.read(np.array([3]))["sentences"].shape == (1, 5)
    with pytest.raises(ValueError, match=r"180 captions need .* found float32\[4, 5\]"):
        CaptionCorpus(**known, vectors=vectors[:4])


def test_captions_of_some_rows_are_those_of_slices():
    captions = Captions(texts=tuple("abcde"), offsets=np.array([0, 2, 2, 5]))
    assert captions.per_row.tolist() == [2, 0, 3]
    some = captions.of(np.array([2, 0, 1]))
    assert (some.texts, some.offsets.tolist()) == (tuple("cdeab"), [0, 3, 5, 5])
    assert len({captions.fingerprint, some.fingerprint}) == 2
    with pytest.raises(ValueError, match="rise from 0 to 5"):
        Captions(texts=tuple("abcde"), offsets=np.array([0, 2]))
    with pytest.raises(ValueError, match="reads tokens and words, or sentences"):
        len(TextSource(tokens=np.zeros((1, 1), np.int32)))


@pytest.mark.fault(
    "Captions: captions of videos that the table lacks",
    "counted and left out; above --corpus.max-unknown-share refused, with the first ids",
)
def test_captions_of_unknown_videos_are_counted_and_too_many_are_refused(table, tmp_path):
    text = lines(split=False) + "stranger,a dog runs\nstranger,a cat runs\n"
    corpus = opened(table, tmp_path, text, max_unknown_share=0.02)
    assert len(corpus.captions) == 180
    assert any("2 of 182 captions (1.1%) are of 1 videos" in note for note in corpus.notes)
    with pytest.raises(CaptionsError, match=r"above the allowed 1.0%, such as stranger.*raise"):
        opened(table, tmp_path, text)
    with pytest.raises(CaptionsError, match="none of its 1 captions has words"):
        opened(table, tmp_path, "video_id,caption\nx,a dog\n", max_unknown_share=1.0)


@pytest.mark.fault(
    "Captions: videos without captions, captions without a word, and captions beyond the limit",
    "counted; such videos and captions are left out, and long captions are cut",
)
def test_what_is_left_out_or_cut_is_counted(table, tmp_path):
    part = WORLD.parts[0]
    change = {0: f"{IDS[0]},,{part}", 1: f"{IDS[0]}, ?! ,{part}", 2: f"{IDS[0]},   ,{part}"}
    change[3] = f"{IDS[1]},{'very ' * 20}long,{WORLD.parts[1]}"
    corpus = opened(table, tmp_path, lines(change, drop=IDS[-2:]), longest_caption=12)
    assert corpus.report()["videos_without_captions"] == 3
    assert not any(mask[0] or mask[-1] for mask in corpus.parts.values())
    notes = " ".join(corpus.notes)
    for words in ("3 captions have no word", "3 videos have no caption", "1 captions have more"):
        assert words in notes
    assert corpus.text_source.tokens.shape[1] == corpus.longest == 14
    assert corpus.text_source.words.max() == 14


def published(**parts):
    """Captions of the first three videos in these parts."""
    rows = [f"{name},a dog runs,{part}" for name, part in zip(IDS, parts.values())]
    return "\n".join(["video_id,caption,split", *rows, ""])


@pytest.mark.fault("Captions: no caption of a train or of a test video", "refused")
def test_a_split_without_captions_on_both_sides_is_refused(table, tmp_path):
    with pytest.raises(CaptionsError, match="none of its 2 captions is of one of the 0 train"):
        opened(table, tmp_path, published(a="test", b="val"))
    with pytest.raises(CaptionsError, match="none of its 3 captions is of one of the 57 test"):
        opened(table, tmp_path, published(a="train", b="train", c="val"))


@pytest.mark.fault(
    "Captions: a single train video with captions",
    "refused: there is no other video to tell it apart from",
)
def test_a_single_train_video_is_refused(table, tmp_path):
    says = "1 of the 1 train videos has captions, so there is no other video"
    with pytest.raises(CaptionsError, match=says):
        opened(table, tmp_path, published(a="train", b="val", c="test"))


@pytest.mark.fault(
    "Captions: a video with captions in no part of the published split", "refused, with its id"
)
def test_videos_in_no_part_are_refused(table, tmp_path):
    path = tmp_path / "captions.json"
    sentences = [{"video_id": name, "caption": "a dog"} for name in IDS[:2]]
    videos = [{"video_id": IDS[0], "split": "train"}]
    path.write_text(json.dumps({"videos": videos, "sentences": sentences}))
    with pytest.raises(CaptionsError, match=rf"1 videos have captions but no part.*{IDS[1]}"):
        CaptionPaths(table=table, captions=str(path)).open()


def test_options_without_sense_are_refused(table, tmp_path):
    with pytest.raises(ValueError, match=r"--corpus\.captions"):
        CaptionPaths(table=table).open()
    with pytest.raises(ValueError, match=r"no table given"):
        CaptionPaths(captions="x").open()
    with pytest.raises(ValueError, match=r"max_unknown_share 2 must lie in"):
        CaptionPaths(max_unknown_share=2)
    for name in ("least_count", "longest_caption"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, found 0"):
            CaptionPaths(**{name: 0})
    (tmp_path / "split.csv").write_text("id,split\nx,train\n")
    with pytest.raises(SplitError, match="lacks 60 of 60"):
        opened(table, tmp_path, lines(), split=str(tmp_path / "split.csv"))
