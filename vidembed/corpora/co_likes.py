"""Count co-like edges from ratings: items liked by the same users.

Co-likes correspond to the co-watches of sessions: a file of edges that every recipe accepts.
"""

import os
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import scipy.sparse

from vidembed.corpora.ratings import STARS, Ratings, read_ratings
from vidembed.files import whole_file
from vidembed.records import tabular
from vidembed.records.outputs import CO_LIKES as OUTPUT

LIKED_FROM, LEAST = 4.0, 2
"""Least rating (in stars) of a liked item, and least number of users who like both items."""
Weight = Literal["cosine", "count"]


def matrix(ratings: Ratings, values: np.ndarray | None = None) -> scipy.sparse.csr_array:
    """The sparse matrix of users by items, f32[U, N], of values f32[R], or of ones if not given."""
    values = np.ones(len(ratings), np.float32) if values is None else values
    shape = len(ratings.users), len(ratings.items)
    return scipy.sparse.csr_array((values, (ratings.user, ratings.item)), shape=shape)


def liked(ratings: Ratings, liked_from: float) -> Ratings:
    """The interactions rated at least `liked_from`; all of them if there are no ratings."""
    return ratings.of(ratings.value >= liked_from) if ratings.explicit else ratings


def co_likes(likes: Ratings, weight: Weight = "cosine", *, least: int = LEAST) -> pa.Table:
    """source, target, weight: pairs of items that at least `least` users both like.

    Triplets come from the strongest relations of an item. By `count` these are largely the items
    that everybody likes; by `cosine` (the count over the root of the product of both items' likes)
    they are items liked by the same users.
    """
    likes_matrix = matrix(likes)
    together = (likes_matrix.T @ likes_matrix).tocoo()
    low, high = together.coords
    chosen = (low < high) & (together.data >= least)
    strength = together.data[chosen]
    if weight == "cosine":
        count = np.bincount(likes.item, minlength=len(likes.items))
        strength = strength / np.sqrt(count[low[chosen]] * count[high[chosen]])
    ids = [name.decode() for name in likes.items]
    return pa.table(
        {
            "source": pa.array([ids[row] for row in low[chosen]], pa.string()),
            "target": pa.array([ids[row] for row in high[chosen]], pa.string()),
            "weight": pa.array(strength, pa.float32()),
        }
    )


def write_co_likes(
    ratings: str | os.PathLike[str],
    edges: str | os.PathLike[str],
    *,
    liked_from: float = LIKED_FROM,
    least: int = LEAST,
    weight: Weight = "cosine",
    scale: tuple[float, float] = STARS,
) -> dict[str, Any]:
    """Write the co-likes of a file of ratings to the Parquet file `edges`; returns the counts.

    ratings, scale: as for `read_ratings`. The file appears whole or not at all, with a digest.
    Raises RatingsError for ratings that cannot be read, ValueError if no two items are liked by
    enough users, and OutputError if `edges` is one of the inputs or a file of another kind.
    """
    if least < 1:
        raise ValueError(f"an edge has 1 common user or more (--least), found {least}")
    inputs = [] if os.fspath(ratings).startswith("tfds:") else [ratings]
    place = OUTPUT.check(edges, inputs)
    known = read_ratings(ratings, scale=scale)
    likes = liked(known, liked_from)
    table = co_likes(likes, weight, least=least)
    if not len(table):
        raise ValueError(
            f"{os.fspath(ratings)}: no two of {len(known.items):,} items are liked by {least} "
            f"users in {len(likes):,} likes: lower --liked-from or --least, or give more ratings"
        )
    report = {
        "parameters": {"least": least, "weight": weight}
        | ({"liked_from": liked_from} if known.explicit else {}),
        "ratings": len(known),
        "likes": len(likes),
        "users": len(np.unique(likes.user)),
        "items": len(np.unique(likes.item)),
        "edges": len(table),
        "notes": list(known.notes),
    }
    with whole_file(place) as unfinished:
        pq.write_table(tabular.marked(table, report), unfinished, write_page_checksum=True)
    return report
