"""What the data say of the options: who makes the weight, and which edges could be chance."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.special

from vidembed.sessions.pairs import UNIT, Counting

TOP_SHARE = 0.01
"""Of the users: the few of which is said how much they make."""
CHANCE_SHARE = 0.05
"""The most of the edges that may be no stronger than chance would make them."""
_MOST_UNITS = 1000
_CLASSES = 200


def top_share(database: Any, counting: Counting, columns: Sequence[str]) -> dict[str, Any]:
    """How many users are one in a hundred (rounded up), and their share of the weight of all pairs.

    Those with most of it. Of ordered sessions every watch with one before it counts, whether or not
    it is a repeat or beyond the window; of unordered ones every pair, within the window or not.
    """
    session = [name for name in ("user_id", "session_id") if name in columns]
    person = session[0]
    if counting.unordered:
        weights = f"select {person}, n * (n - 1) / 2 * part as weight from histories"
    else:
        longest = counting.max_length or "count(*)"
        some = "" if counting.min_views == 1 else "semi join videos using (video_id)"
        weights = (
            f"select {person}, least(count(*), {longest}) - 1 as weight from watched {some} "
            f"group by {', '.join(session)}"
        )
    if len(session) > 1:
        weights = f"select sum(weight) as weight from ({weights}) group by {person}"
    database.execute(f"create temp table people as select weight from ({weights})")
    ((users, total),) = database.execute(
        "select count(*), sum(weight)::double from people"
    ).fetchall()
    top = math.ceil(TOP_SHARE * users)
    few = f"select weight from people order by weight desc limit {top}"
    ((most,),) = database.execute(f"select sum(weight)::double from ({few})").fetchall()
    share = most / total if total else 0.0
    return {"users": users, "top_users": top, "top_share": round(share, 4)}


def propose(database: Any, counting: Counting) -> float | None:
    """The least weight from which on chance would explain at most one edge in twenty; None if none.

    Chance draws both ends of all that was counted by how often videos were watched, so that the
    weight of a pair is Poisson distributed about 2 W p q, with W the weight of all pairs and p, q
    the shares of the two videos. Unordered histories add parts of different size; they count in
    units of sum(part²) / sum(part), which has the same mean and variance.
    """
    unit = 1.0
    if counting.unordered:
        sums = "sum(n * (n - 1) / 2 * part::double), sum(n * (n - 1) / 2 * part::double ** 2)"
        ((first, second),) = database.execute(f"select {sums} from histories").fetchall()
        if not first:
            return None
        unit = second / first / UNIT
    strengths = f"least(floor(round(weight / {unit!r}, 6)), {_MOST_UNITS})::int"
    found = database.execute(
        f"select {strengths} as units, count(*), sum(weight)::double from pairs where pair >= 0 "
        "group by units"
    ).fetchall()
    if not found:
        return None
    units, pairs, weights = (np.array(column) for column in zip(*found, strict=True))
    views = database.execute("select views, count(*) from videos group by views").fetchall()
    expected = _chance(np.array(views, float).T, weights.sum() / unit)
    most = int(units.max())
    for strength in np.unique([*range(1, 21), *np.geomspace(20, max(20, most), 40).astype(int)]):
        if strength > most:
            break
        if expected(strength) <= CHANCE_SHARE * pairs[units >= strength].sum():
            return _rounded_up(strength * unit) if counting.unordered else int(strength)
    return None


def _chance(views: np.ndarray, total: float) -> Any:
    """Of views f64[2, classes] (how often watched, how many videos): pairs that chance makes."""
    watched, videos = views
    order = np.argsort(watched)
    watched, videos = watched[order], videos[order]
    # Videos that are watched about as often count as equals.
    edge = np.unique(np.geomspace(1, watched[-1] + 1, _CLASSES).astype(int))
    place = np.searchsorted(edge, watched, side="right")
    count = np.bincount(place, videos)
    mean = np.bincount(place, videos * watched)[count > 0] / count[count > 0]
    count = count[count > 0]
    share = mean / (count * mean).sum()
    rate = 2 * total * np.outer(share, share)
    number = np.outer(count, count)
    np.fill_diagonal(number, count * (count - 1))

    def expected(strength: int) -> float:
        return float((number * scipy.special.pdtrc(strength - 1, rate)).sum() / 2)

    return expected


def _rounded_up(weight: float) -> float:
    """To two digits that count."""
    scale = 10.0 ** (math.floor(math.log10(weight)) - 1)
    return float(f"{math.ceil(round(weight / scale, 6)) * scale:.2g}")
