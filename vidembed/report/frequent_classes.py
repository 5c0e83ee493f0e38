"""The most frequent classes of a labelled corpus, and how well each is predicted."""

from typing import Any

import numpy as np

from vidembed.corpora.labelled import LabelledCorpus
from vidembed.metrics.pooled import pooled_by_class
from vidembed.records.scores_file import PerQuery


def frequent_classes(
    measured: PerQuery, corpus: LabelledCorpus, names: tuple[str, ...], *, classes: int = 20
) -> dict[str, Any]:
    """The classes with the most train videos, most first: `k`, and `rows` of `name`, `train` and
    `test` videos, and `precision`, None for a class without a test video.

    measured: results of the test videos with lists, as from `multilabel_intervals.stored`. The
    precision is the class's share in `map_per_class@k`: over the videos with it among their k best.
    """
    lists = measured.lists
    labels = lists["labels"][lists["labels"] >= 0]
    each = pooled_by_class(lists["scores"], lists["classes"], lists["hits"], labels)
    precision = dict(zip(np.unique(labels).tolist(), each.tolist()))
    test = np.bincount(labels, minlength=corpus.labels.classes)
    train = corpus.labels.counts(corpus.train_rows)
    most = np.argsort(-train, kind="stable")[:classes]
    return {
        "k": lists["classes"].shape[1],
        "rows": [
            {
                "name": names[number],
                "train": int(train[number]),
                "test": int(test[number]),
                "precision": precision.get(number),
            }
            for number in most.tolist()
        ],
    }
