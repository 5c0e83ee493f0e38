"""Imagined videos with captions, of MSR-VTT's numbers, to compile a step for: arrays, no content.

`corpora.imagined_captions` makes worlds to train on instead.
"""

from collections.abc import Sequence

import numpy as np

from vidembed.corpora.caption_rows import Captions
from vidembed.corpora.captions import CaptionCorpus, CaptionPaths
from vidembed.records.table import FeatureTable
from vidembed.records.vocabulary import SPECIAL, Vocabulary

MSRVTT = {"train": 6_513, "validation": 497, "test": 2_990}
CAPTIONS, WORDS = 20, 9
"""Captions of each video, words of each caption; one caption has as many words as allowed."""
VOCABULARY = 11_750
"""Words of JEMC's published code."""
SENTENCE_WIDTH = 384
"""Of all-MiniLM-L6-v2."""
WIDTHS = {"object": 2048, "activity": 1024, "audio": 1024, "visual": 1024}
"""ResNet-152, I3D and SoundNet, as in the paper; visual as in YouTube-8M."""
OTHER_WIDTH = 1024
"""Of modalities with other names."""


def imagined_text(
    paths: CaptionPaths, modalities: Sequence[str], *, videos: int, sentences: bool
) -> CaptionCorpus:
    """Videos with 20 captions each, split as MSR-VTT's, with features f32[N, F] that take no
    memory. sentences: with sentence vectors instead of words."""
    shares = np.cumsum(list(MSRVTT.values())) / sum(MSRVTT.values())
    train, validation, _ = (shares * videos).round().astype(int)
    rows, zero = np.arange(videos), np.float32(0)
    names = [f"word{number}" for number in range(VOCABULARY)]
    each = " ".join(names[:WORDS])
    longest = " ".join(names[: paths.longest_caption])
    return CaptionCorpus(
        table=FeatureTable(
            ids=rows.astype("S12"),
            features={
                name: np.broadcast_to(zero, (videos, WIDTHS.get(name, OTHER_WIDTH)))
                for name in modalities
            },
            label_offsets=np.zeros(videos + 1, np.int64),
            label_values=np.zeros(0, np.int32),
        ),
        is_train=rows < train,
        is_validation=(rows >= train) & (rows < validation),
        captions=Captions(
            texts=(longest, *[each] * (CAPTIONS * videos - 1)),
            offsets=np.arange(videos + 1, dtype=np.int64) * CAPTIONS,
        ),
        vocabulary=Vocabulary(words=(*SPECIAL, *names)),
        longest=paths.longest_caption + 2,
        vectors=np.broadcast_to(zero, (CAPTIONS * videos, SENTENCE_WIDTH)) if sentences else None,
        sentence_space="imagined" if sentences else "",
    )
