"""A feature table with captions in a published form: MSR-VTT's, MSVD's, or a file of one's own."""

import numpy as np

from experiments.words_data import PARTS, Worded
from vidembed.corpora.captions import CaptionPaths

FIRST, SOUND = ("object", "visual"), "audio"


def published(paths: CaptionPaths) -> Worded:
    """The videos with captions; each caption is a query, as in the papers.

    Raises as `CaptionPaths.open`.
    """
    corpus = paths.open()
    masks = (corpus.is_train, corpus.is_validation, corpus.is_test)
    return Worded(
        table=corpus.table,
        parts={name: mask & corpus.has_captions for name, mask in zip(PARTS, masks)},
        kept_out=np.zeros(len(corpus.table), bool),
        texts=corpus.captions.texts,
        videos=corpus.captions.videos.astype(np.int64),
        asked=[frozenset()] * len(corpus.captions),
        names={},
        descriptions={},
        unseen=(),
        modalities=sorted(corpus.table.features, key=lambda m: (m == SOUND, m not in FIRST, m)),
        every_caption=True,
    )
