"""What the training loop says of its data, and how it refuses data that it must not train on."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from vidembed.corpora.watched import Corpus
from vidembed.graph.relation import LeakError


def counts(corpus: Corpus) -> str:
    """Videos and relations in one line."""
    simulated = " (SIMULATED sessions)" if corpus.simulated else ""
    return (
        f"{len(corpus.table):,} videos, {int(corpus.is_train.sum()):,} of them to train on; "
        f"{corpus.train_graph.edges:,} relations to train on, {corpus.relevance.edges:,} to be "
        f"measured by{simulated}"
    )


def unknown_edges(report: Mapping[str, Any]) -> str:
    """The warning for edges whose videos are not in the table; report: `Corpus.edges_report`."""
    shown = ", ".join(report["unknown"])
    return (
        f"WARNING: {report['unknown_edges']} edges name one of {report['unknown_ids']} videos that "
        f"are not in the table, and are left out: {shown}"
    )


def non_finite(step: int, ids: np.ndarray) -> str:
    """The message for a loss or parameters that are not finite; ids: S[...] of the batch."""
    shown = ", ".join(i.decode(errors="replace") for i in ids.reshape(-1)[:9])
    return (
        f"the loss of step {step}, or what it made of the parameters, is not finite; its batch "
        f"has videos {shown} ... ({ids.size} in all, `feed.ids_at({step - 1})`). The last "
        "checkpoint is good. Look for extreme features with `python -m vidembed inspect`, or lower "
        "the learning rate"
    )


def refuse_leak(corpus: Corpus, rows: np.ndarray) -> None:
    """Raises LeakError if rows i[...] of a batch hold a video of the eval partition.

    Checks the batch itself, not the settings of what drew it.
    """
    leaked = np.unique(rows[~corpus.is_train[rows]])
    if len(leaked):
        shown = ", ".join(i.decode(errors="replace") for i in corpus.table.ids[leaked[:10]])
        raise LeakError(
            f"{len(leaked)} videos of the eval partition are in a training batch: {shown}. Nothing "
            "measured after that could be believed; this is a fault of the feed or the split"
        )
