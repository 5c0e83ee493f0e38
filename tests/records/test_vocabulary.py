"""Captions as numbers of words, compared with a rule in plain Python."""

import importlib.util
import unicodedata
from collections import Counter

import numpy as np
import pytest

from vidembed.records.vocabulary import END, PADDING, SPECIAL, START, UNKNOWN, Vocabulary, words_of


def is_letter(letter):
    return unicodedata.category(letter)[0] in "LNM"


def plain_words(text):
    """Character by character: letters, digits, marks, apostrophes between two of them."""
    text = unicodedata.normalize("NFC", text).lower().replace("\u2019", "'")
    words, word = [], ""
    for place, letter in enumerate(text):
        after = text[place + 1] if place + 1 < len(text) else " "
        name = unicodedata.name(letter, "")
        if name.startswith(("CJK UNIFIED", "HIRAGANA LETTER", "KATAKANA LETTER")):
            words, word = [*words, word, letter], ""
        elif is_letter(letter) or (letter == "'" and word and is_letter(after)):
            word += letter
        else:
            words, word = [*words, word], ""
    return [one for one in [*words, word] if one]


TEXTS = [
    "A man isn't playing the guitar.",
    "  Rock'n'roll -- 'quoted' words, 3d-printing & 2,000 \u201cthings\u201d don\u2019t ",
    "Cafe\u0301 NA\u00cfVE \u00c9COLE stra\u00dfe",
    "\u4e00\u4e2a\u7537\u4eba\u5728\u5f39guitar\uff0c\u3072\u3089 \u30ab\u30bf",
    "",
    "?!... \U0001f600",
    "\u043b\u044e\u0434\u0438 \u0438\u0433\u0440\u0430\u044e\u0442 <unk> <pad>",
]


@pytest.mark.parametrize("text", TEXTS)
def test_words_are_those_of_the_plain_rule(text):
    assert words_of(text) == plain_words(text)


def test_the_vocabulary_orders_words_by_count_and_then_by_word():
    texts = ["b a a c", "c b d", "B!"]
    assert Vocabulary.of(texts, least=1).words == (*SPECIAL, "b", "a", "c", "d")
    assert Vocabulary.of(texts, least=2).words == (*SPECIAL, "b", "a", "c")
    assert Vocabulary.of(iter(["x x x", "x y y y"])).words == (*SPECIAL, "x")
    counts = Counter(word for text in TEXTS for word in plain_words(text))
    assert set(Vocabulary.of(TEXTS, least=1).words[4:]) == set(counts)


def test_texts_are_encoded_as_by_hand():
    vocabulary = Vocabulary.of(["a dog runs", "a dog"], least=1)
    assert vocabulary.words[4:] == ("a", "dog", "runs")
    tokens, lengths = vocabulary.encode(["A dog flies!", "", "runs a dog a dog runs"], 6)
    assert (tokens.dtype, lengths.dtype) == (np.int32, np.int32)
    assert tokens.tolist() == [
        [START, 4, 5, UNKNOWN, END, PADDING],
        [START, END] + [PADDING] * 4,
        [START, 6, 4, 5, 4, END],  # cut: END stays
    ]
    assert lengths.tolist() == [5, 2, 6]
    assert vocabulary.word_counts(["a", "", "runs so a dog"]).tolist() == [1, 0, 4]
    assert vocabulary.unknown("A cat, a dog and a cat") == ["cat", "and"]
    tokens, lengths = vocabulary.encode([], 6)
    assert tokens.shape == (0, 2)
    assert lengths.shape == (0,)


def test_no_text_has_a_special_word():
    vocabulary = Vocabulary.of(["<unk> <pad> <end> pad"], least=1)
    tokens, _ = vocabulary.encode(["<pad> <start>"], 9)
    assert tokens.tolist() == [[START, vocabulary.words.index("pad"), UNKNOWN, END]]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "begins with <pad>, <unk>, <start>, <end>, found nothing"),
        ((*SPECIAL, "a", "a"), "each word once, found 'a' twice"),
    ],
)
def test_other_lists_are_no_vocabulary(words, message):
    with pytest.raises(ValueError, match=message):
        Vocabulary(words=words)


def test_sizes_without_sense_are_refused():
    with pytest.raises(ValueError, match="found least 0"):
        Vocabulary.of(["a"], least=0)
    with pytest.raises(ValueError, match="take 2 tokens, found longest 1"):
        Vocabulary.of(["a"], least=1).encode(["a"], 1)


@pytest.mark.fault(
    "Captions: tokenizers is not installed", "refused with the command that installs it"
)
def test_without_tokenizers_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"tokenizers, which is not installed: pip install"):
        _ = Vocabulary(words=SPECIAL)._tokenizer
