"""`python -m vidembed colike`: make edges between items that the same users like."""

from vidembed.corpora.co_likes import LEAST, LIKED_FROM, Weight, write_co_likes
from vidembed.corpora.ratings import STARS
from vidembed.progress import Progress


def main(
    ratings: str,
    edges: str,
    *,
    liked_from: float = LIKED_FROM,
    least: int = LEAST,
    weight: Weight = "cosine",
    scale: tuple[float, float] = STARS,
) -> int:
    """Make co-like edges from ratings; train, cluster and evaluate use them like co-watch edges.

    All ratings in the file are used. If you hold some out to evaluate recommendations, leave them
    out here, or the model is trained on its test data. (Edges of held-out videos are never trained
    on.)

    Args:
        ratings: Parquet or CSV with user_id, item_id and, optionally, rating and timestamp (numbers
            or ISO 8601); a MovieLens folder; RecBole's .inter; or tfds:movielens/100k-ratings.
        edges: the Parquet file to write.
        liked_from: lowest rating that counts as a like; without ratings every interaction is a
            like.
        least: least number of users who like both items of an edge.
        weight: cosine divides the number of common users by the root of the product of both items'
            numbers of users; count is the number of common users, which favours popular items.
        scale: lowest and highest valid rating; others are left out and counted.
    """
    progress = Progress()
    with progress.stage("counting co-likes"):
        report = write_co_likes(
            ratings, edges, liked_from=liked_from, least=least, weight=weight, scale=scale
        )
    for note in report["notes"]:
        progress.say(note)
    progress.say(
        f"{report['likes']:,} likes in {report['ratings']:,} ratings of {report['items']:,} items "
        f"by {report['users']:,} users; {report['edges']:,} pairs of items that {least} or more of "
        f"them like: {edges}"
    )
    return 0
