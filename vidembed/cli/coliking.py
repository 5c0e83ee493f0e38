"""`python -m vidembed colike`: ratings to edges between items that the same people like."""

from vidembed.corpora.co_likes import LEAST, LIKED_FROM, Weight, write_co_likes
from vidembed.progress import Progress


def main(
    ratings: str,
    edges: str,
    *,
    liked_from: float = LIKED_FROM,
    least: int = LEAST,
    weight: Weight = "cosine",
) -> int:
    """Ratings to co-like edges, which train, cluster and evaluate take like co-watches.

    All ratings count. Where some are kept to measure recommendation by, give the others alone:
    else what is asked for was learnt from. (Of new videos nothing is learnt, whoever likes them.)

    Args:
        ratings: Parquet or CSV with user_id, item_id and, where there are any, rating and
            timestamp; a MovieLens folder; RecBole's .inter; or tfds:movielens/100k-ratings.
        edges: the Parquet file to write.
        liked_from: ratings from which an item is liked; without ratings every interaction is a
            like.
        least: users who have to like both items of an edge.
        weight: cosine is the common users over the root of both items' users; count is the common
            users, which favours what everybody likes.
    """
    progress = Progress()
    with progress.stage("counting co-likes"):
        found = write_co_likes(ratings, edges, liked_from=liked_from, least=least, weight=weight)
    for note in found["notes"]:
        progress.say(note)
    progress.say(
        f"{found['likes']:,} likes in {found['ratings']:,} ratings, of {found['items']:,} items by "
        f"{found['users']:,} users; {found['edges']:,} pairs of items that {least} or more of them "
        f"like: {edges}"
    )
    return 0
