"""What CDML reports on MovieLens 100K (KDD 2018, Tables 4 and 5, figure 5), as quoted there.

Other ratings (100,000 of 943 users), other trailers and another network, trained on YouTube's
watches: orders can be compared, levels hardly. The relevance of its average precision is not said.
"""

from collections.abc import Mapping

TABLE_4: Mapping[str, tuple[float, float]] = {
    "max >mean": (0.6242, 0.7186),
    "max 5": (0.6282, 0.7155),
    "max >=4": (0.6251, 0.7196),
    "max >=3": (0.6149, 0.7141),
    "max all": (0.6071, 0.7078),
    "mean >mean": (0.6022, 0.7073),
    "mean 5": (0.6133, 0.7120),
    "mean >=4": (0.6018, 0.7065),
    "mean >=3": (0.5954, 0.7013),
    "mean all": (0.5900, 0.6966),
}
"""User model and history → NDCG@10 and MAP."""
TABLE_5: Mapping[str, Mapping[str, tuple[float, float]]] = {
    name: {"10": (ndcg[0], ap[0]), "20": (ndcg[1], ap[1]), "50": (ndcg[2], ap[2])}
    for name, ap, ndcg in (
        ("CofiRank", (0.6632, 0.6825, 0.6915), (0.6502, 0.6629, 0.6912)),
        ("SVD", (0.7000, 0.7454, 0.7510), (0.5594, 0.6514, 0.6750)),
        ("NMF", (0.7107, 0.7234, 0.7328), (0.6285, 0.6336, 0.5956)),
        ("BPMF", (0.6376, 0.6517, 0.6915), (0.5636, 0.5513, 0.6746)),
        ("LLORMA", (0.7341, 0.7424, 0.7490), (0.6712, 0.6682, 0.6932)),
        ("LCR", (0.7406, 0.7503, 0.7626), (0.7152, 0.6908, 0.7039)),
        ("CDML", (0.7030, 0.7215, 0.7442), (0.5725, 0.6213, 0.6941)),
    )
}
"""Model → N → NDCG@10 and AP; all but SVD and CDML are themselves quoted from LCR there."""
CROSSING = {"ndcg@10": 14.0, "map": 10.0}
"""Ratings a user below which CDML was above SVD of rank 5 (figure 5)."""
PROTOTYPE = {
    "raw audio": 0.603,
    "raw visual": 0.555,
    "raw trailers": 0.588,
    "ridge audio": 0.641,
    "ridge visual": 0.593,
    "ridge trailers": 0.645,
    "ridge trailers+genres": 0.70,
    "closed trailers": 0.649,
    "closed trailers+genres": 0.701,
    "tower trailers": 0.636,
    "tower trailers+genres": 0.672,
    "tower + ridge trailers": 0.655,
    "tower + ridge trailers+genres": 0.704,
}
"""AUC over cold movies of an earlier measurement on the same data, ± 0.01."""
