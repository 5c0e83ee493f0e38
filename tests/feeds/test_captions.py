"""The feed of videos with captions: passes, the words of a batch, and sentence vectors."""

from types import SimpleNamespace

import numpy as np
import pytest

from vidembed.corpora.caption_rows import Captions, TextSource
from vidembed.corpora.captions import CaptionPaths
from vidembed.corpora.imagined_captions import imagined_captions
from vidembed.feeds.captions import VideoCaptions
from vidembed.feeds.passes import order_of_pass

SIZE = 32
READS = ("object", "audio")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    world = imagined_captions(60, captions=3)
    world.table.write(folder / "table")
    world.write_msrvtt(folder / "captions.json")
    paths = CaptionPaths(table=str(folder / "table"), captions=str(folder / "captions.json"))
    return paths.open()


def opened(corpus, *, seed=3, **options):
    return VideoCaptions(batch_pairs=SIZE, **options).open(corpus, seed=seed, reads=READS)


def known(corpus, **changes):
    names = ("table", "is_train", "captions", "train_captions", "vocabulary", "text_source",
             "text_fingerprint", "sentence_space")  # fmt: skip
    return SimpleNamespace(**{name: getattr(corpus, name) for name in names} | changes)


def test_every_pass_has_each_caption_of_train_videos_once_in_another_order(corpus):
    feed = opened(corpus)
    size, what = feed.one_pass
    assert (size, what) == (len(corpus.train_captions), "captions of train videos")
    drawn = np.concatenate([feed.captions_at(step) for step in range(-(-2 * size // SIZE))])
    for number, order in enumerate(drawn[: 2 * size].reshape(2, size)):
        assert sorted(order) == corpus.train_captions.tolist()
        expected = corpus.train_captions[order_of_pass(3, number, size, 1)]
        np.testing.assert_array_equal(order, expected)
    assert (drawn[:size] != drawn[size : 2 * size]).mean() > 0.9


def test_a_batch_holds_the_words_of_its_captions_in_a_fixed_shape(corpus):
    feed = opened(corpus)
    longest = max(len(corpus.captions.texts[n].split()) for n in corpus.train_captions) + 2
    for step in range(4):
        batch, captions = feed.at(step), feed.captions_at(step)
        assert batch.keys() == {"rows", "tokens", "words"}
        assert batch["tokens"].shape == (SIZE, longest)
        assert {array.dtype for array in batch.values()} == {np.dtype(np.int32)}
        np.testing.assert_array_equal(batch["rows"], corpus.captions.videos[captions])
        assert corpus.is_train[batch["rows"]].all()
        corpus.check(batch)
        texts = [corpus.captions.texts[number] for number in captions]
        for text, tokens, count in zip(texts, batch["tokens"], batch["words"]):
            words = [corpus.vocabulary.words[token] for token in tokens]
            known_words = [w if w in corpus.vocabulary.words else "<unk>" for w in text.split()]
            assert words[:count] == ["<start>", *known_words, "<end>"]
            assert {*words[count:]} <= {"<pad>"}
    spec = feed.spec
    assert spec.vocabulary == corpus.vocabulary.words
    assert (spec.words, spec.sentence_width, spec.classes) == (len(spec.vocabulary), 0, 0)
    assert feed.statistics().keys() == {*READS}


def test_long_captions_outside_train_do_not_widen_a_batch(corpus):
    tokens = np.pad(corpus.text_source.tokens, ((0, 0), (0, 30)))
    wide = known(corpus, text_source=TextSource(tokens=tokens, words=corpus.text_source.words))
    np.testing.assert_array_equal(opened(wide).at(1)["tokens"], opened(corpus).at(1)["tokens"])


def test_batches_are_as_wide_as_their_captions_need_and_of_few_widths(corpus):
    tokens = np.pad(corpus.text_source.tokens, ((0, 0), (0, 60)))
    words = corpus.text_source.words.copy()
    words[corpus.train_captions[:3]] = 9, 20, 41
    feed = opened(known(corpus, text_source=TextSource(tokens=tokens, words=words)))
    widths = set()
    for step in range(20):
        most = words[feed.captions_at(step)].max()
        widths.add(width := feed.at(step)["tokens"].shape[1])
        assert width == next(each for each in (8, 16, 32, 41) if each >= most)
        assert feed.at(step, (1, 2))["tokens"].shape == (SIZE // 2, width)
    assert len(widths) > 2


def test_sentence_vectors_take_the_place_of_words(corpus):
    vectors = np.random.default_rng(0).normal(size=(len(corpus.captions), 5)).astype(np.float32)
    feed = opened(known(corpus, text_source=TextSource(sentences=vectors)))
    batch = feed.at(2, (1, 2))
    assert batch.keys() == {"rows", "sentences"}
    np.testing.assert_array_equal(batch["sentences"], vectors[feed.captions_at(2)[SIZE // 2 :]])
    assert (feed.spec.sentence_width, feed.spec.words, feed.spec.vocabulary) == (5, 0, ())
    known_of_text = feed.statistics()["sentences"]
    train = vectors[corpus.train_captions]
    np.testing.assert_allclose(known_of_text["mean"], train.mean(0), atol=1e-6)
    np.testing.assert_allclose(known_of_text["deviation"], train.std(0), atol=1e-6)


def test_other_captions_are_another_sequence(corpus):
    feed = opened(corpus)
    assert opened(corpus).fingerprint == feed.fingerprint
    others = [
        opened(corpus, seed=4),
        VideoCaptions(batch_pairs=16).open(corpus, seed=3, reads=READS),
        opened(known(corpus, text_fingerprint="another")),
        opened(known(corpus, train_captions=corpus.train_captions[1:])),
    ]
    assert len({feed.fingerprint, *(each.fingerprint for each in others)}) == 5


@pytest.mark.fault("Captions: a feed without a caption of a train video", "refused")
def test_a_feed_without_train_captions_is_refused(corpus):
    with pytest.raises(ValueError, match="no train video has a caption"):
        opened(known(corpus, train_captions=np.zeros(0, np.int64)))
    empty = Captions(texts=(), offsets=np.zeros(3, np.int64))
    assert len(empty) == len(empty.videos) == 0
