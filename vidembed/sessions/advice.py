"""Advice on counting options: which users carry the weight, which edges could be chance."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import scipy.special

from vidembed.sessions.pairs import UNIT, Counting

TOP_SHARE = 0.01
"""The share of the users whose part of the total weight is reported."""
CHANCE_SHARE = 0.05
"""The largest share of edges that chance alone may explain."""
_MOST_UNITS = 1000
_CLASSES = 200


def top_share(database: Any, counting: Counting, columns: Sequence[str]) -> dict[str, Any]:
    """The share of the weight of all pairs that comes from the top 1 % of users (rounded up).

    The top users are those with the most weight. In ordered sessions every watch except the first
    of its session counts, repeats and watches beyond the window included; in unordered sessions
    every pair counts, within the window or not.
    """
    session = [name for name in ("user_id", "session_id") if name in columns]
    person = session[0]
    if counting.unordered:
        weights = f"select {person}, n * (n - 1) / 2 * part as weight from histories"
    else:
        longest = counting.max_length or "count(*)"
        frequent = "" if counting.min_views == 1 else "semi join videos using (video_id)"
        weights = (
            f"select {person}, least(count(*), {longest}) - 1 as weight from watched {frequent} "
            f"group by {', '.join(session)}"
        )
    if len(session) > 1:
        weights = f"select sum(weight) as weight from ({weights}) group by {person}"
    database.execute(f"create temp table people as select weight from ({weights})")
    ((users, total),) = database.execute(
        "select count(*), sum(weight)::double from people"
    ).fetchall()
    top = math.ceil(TOP_SHARE * users)
    heaviest = f"select weight from people order by weight desc limit {top}"
    ((top_weight,),) = database.execute(f"select sum(weight)::double from ({heaviest})").fetchall()
    share = top_weight / total if total else 0.0
    return {"users": users, "top_users": top, "top_share": round(share, 4)}


def propose(database: Any, counting: Counting) -> float | None:
    """The smallest `min_weight` at which chance explains at most one edge in twenty; None if none.

    The chance model draws both ends of every pair in proportion to how often videos were watched.
    The weight of a pair is then Poisson with mean 2 W p q, where W is the weight of all pairs and
    p, q are the shares of the two videos. Unordered histories add parts of different size; they
    are counted in units of sum(part²) / sum(part), which has the same mean and variance.
    """
    unit = 1.0
    if counting.unordered:
        sums = "sum(n * (n - 1) / 2 * part::double), sum(n * (n - 1) / 2 * part::double ** 2)"
        ((first, second),) = database.execute(f"select {sums} from histories").fetchall()
        if not first:
            return None
        unit = second / first / UNIT
    strengths = f"least(floor(round(weight / {unit!r}, 6)), {_MOST_UNITS})::int"
    histogram = database.execute(
        f"select {strengths} as units, count(*), sum(weight)::double from pairs where pair >= 0 "
        "group by units"
    ).fetchall()
    if not histogram:
        return None
    units, pairs, weights = (np.array(column) for column in zip(*histogram, strict=True))
    views = database.execute("select views, count(*) from videos group by views").fetchall()
    expected = _chance(np.array(views, float).T, weights.sum() / unit)
    strongest = int(units.max())
    for strength in np.unique(
        [*range(1, 21), *np.geomspace(20, max(20, strongest), 40).astype(int)]
    ):
        if strength > strongest:
            break
        if expected(strength) <= CHANCE_SHARE * pairs[units >= strength].sum():
            return _rounded_up(strength * unit) if counting.unordered else int(strength)
    return None


def _chance(views: np.ndarray, total: float) -> Any:
    """A function: strength → number of pairs that chance makes at least that strong.

    views: f64[2, classes], rows: number of watches, number of videos with so many watches.
    """
    watched, videos = views
    order = np.argsort(watched)
    watched, videos = watched[order], videos[order]
    # Videos with similar numbers of watches form one class.
    edge = np.unique(np.geomspace(1, watched[-1] + 1, _CLASSES).astype(int))
    class_of = np.searchsorted(edge, watched, side="right")
    count = np.bincount(class_of, videos)
    mean = np.bincount(class_of, videos * watched)[count > 0] / count[count > 0]
    count = count[count > 0]
    share = mean / (count * mean).sum()
    rate = 2 * total * np.outer(share, share)
    number = np.outer(count, count)
    np.fill_diagonal(number, count * (count - 1))

    def expected(strength: int) -> float:
        return float((number * scipy.special.pdtrc(strength - 1, rate)).sum() / 2)

    return expected


def _rounded_up(weight: float) -> float:
    """Round up to two significant digits."""
    scale = 10.0 ** (math.floor(math.log10(weight)) - 1)
    return float(f"{math.ceil(round(weight / scale, 6)) * scale:.2g}")
