"""The words of captions as numbers. No other module imports `tokenizers`, which is an extra.

A text is put in Unicode's form NFC and in lower case; typographic apostrophes become plain ones.
A word is then a run of letters, digits and combining marks, with apostrophes inside it ("don't");
everything else separates words and is dropped. Chinese and Japanese characters are words of their
own, because no blanks separate the words there.
"""

import importlib.util
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

SPECIAL = ("<pad>", "<unk>", "<start>", "<end>")
"""The first words of every vocabulary; no text has them, since `<` belongs to no word."""
PADDING, UNKNOWN, START, END = range(4)
NEEDED = "pip install 'vidembed[text]'"
_ALONE = r"[\p{Han}\p{Hiragana}\p{Katakana}]"
_LETTERS = rf"(?:(?!{_ALONE})[\p{{L}}\p{{N}}\p{{M}}])+"
_WORD = rf"{_ALONE}\p{{M}}*|{_LETTERS}(?:'{_LETTERS})*"


def check_installed() -> None:
    """Raise ImportError with the command that installs `tokenizers`, unless it is there."""
    if importlib.util.find_spec("tokenizers") is None:
        raise ImportError(
            f"splitting captions into words needs tokenizers, which is not installed: {NEEDED}"
        )


def words_of(text: str) -> list[str]:
    """The words of a text, in order."""
    normalizer, splitter = _rule()
    return [word for word, _ in splitter.pre_tokenize_str(normalizer.normalize_str(text))]


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """The words that a text encoder knows, by number."""

    words: tuple[str, ...]
    """`SPECIAL`, and then distinct words as `words_of` gives them."""

    def __post_init__(self) -> None:
        if self.words[: len(SPECIAL)] != SPECIAL:
            raise ValueError(
                f"a vocabulary begins with {', '.join(SPECIAL)}, found "
                f"{', '.join(self.words[: len(SPECIAL)]) or 'nothing'}"
            )
        if len(set(self.words)) < len(self.words):
            word, _ = Counter(self.words).most_common(1)[0]
            raise ValueError(f"a vocabulary has each word once, found {word!r} twice")

    @classmethod
    def of(cls, texts: Iterable[str], *, least: int = 4) -> "Vocabulary":
        """The words that occur at least `least` times: the most frequent first, then by word."""
        if least < 1:
            raise ValueError(f"a word must occur at least once, found least {least}")
        counts = Counter(word for text in texts for word in words_of(text))
        known = [word for word, count in counts.items() if count >= least]
        return cls(words=(*SPECIAL, *sorted(known, key=lambda word: (-counts[word], word))))

    def __len__(self) -> int:
        return len(self.words)

    def encode(self, texts: Sequence[str], longest: int) -> tuple[np.ndarray, np.ndarray]:
        """(tokens i32[n, L], lengths i32[n]): START, the words, END, and then padding with 0.

        L is the largest length, at most `longest`. Longer texts lose their last words and keep END.
        """
        if longest < 2:
            raise ValueError(f"START and END take 2 tokens, found longest {longest}")
        numbers = [encoding.ids[: longest - 2] for encoding in self._split(texts)]
        lengths = np.array([len(each) + 2 for each in numbers], np.int32)
        tokens = np.full((len(numbers), int(lengths.max(initial=2))), PADDING, np.int32)
        tokens[:, 0] = START
        places = np.arange(tokens.shape[1])
        tokens[(places > 0) & (places < lengths[:, None] - 1)] = np.fromiter(
            (number for each in numbers for number in each), np.int32
        )
        tokens[np.arange(len(numbers)), lengths - 1] = END
        return tokens, lengths

    def word_counts(self, texts: Sequence[str]) -> np.ndarray:
        """i64[n]: the number of words of each text, unknown ones too."""
        return np.array([len(encoding.ids) for encoding in self._split(texts)], np.int64)

    def unknown(self, text: str) -> list[str]:
        """The words of a text that are not in the vocabulary, each once, in order."""
        known = self._numbers
        return [word for word in dict.fromkeys(words_of(text)) if word not in known]

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words)}

    @cached_property
    def _tokenizer(self) -> Any:
        check_installed()
        from tokenizers import Tokenizer, models

        tokenizer = Tokenizer(models.WordLevel(self._numbers, unk_token=SPECIAL[UNKNOWN]))
        tokenizer.normalizer, tokenizer.pre_tokenizer = _rule()
        return tokenizer

    def _split(self, texts: Sequence[str]) -> list[Any]:
        encodings: list[Any] = self._tokenizer.encode_batch_fast(
            list(texts), add_special_tokens=False
        )
        return encodings


@cache
def _rule() -> tuple[Any, Any]:
    """The normalizer and the pre-tokenizer."""
    check_installed()
    from tokenizers import Regex, normalizers, pre_tokenizers

    normalizer = normalizers.Sequence(
        [normalizers.NFC(), normalizers.Lowercase(), normalizers.Replace("\u2019", "'")]
    )
    return normalizer, pre_tokenizers.Split(Regex(_WORD), behavior="removed", invert=True)
