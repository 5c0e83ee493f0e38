"""Count which videos were watched together, how often and by how many users, in SQL.

Left-out videos and users and rarely watched videos are removed first, as if they had never been
watched. Histories are then cut to their maximum length, and then pairs are counted.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

PairWeight = Literal["per-video", "one", "log"]
# Fixed point makes sums independent of the row order; 18 digits remain before the point.
UNIT = 10**15
_WEIGHTS = {"per-video": "1 / (n - 1)", "one": "1", "log": "1 / log2(n)"}


@dataclass(frozen=True, kw_only=True)
class Counting:
    """The rules for co-watched pairs and edges.

    A session holds the watches of one user in one session (see `sessions.session_files`).

    min_weight: least weight of an edge. unordered: any two different videos of a session are a
    pair, counted once, not only consecutive ones; always so for sessions without timestamps.
    pair_weight: the weight that each pair of an unordered session with n different videos adds to
    its edge: "per-video" 1 / (n - 1), so that a session's total weight grows with its videos and
    not with their square; "one" 1; "log" 1 / log2(n). window_seconds: watches further apart in time
    are not paired. max_length: watches that count per session, the first ones in time (without
    times: those with the lowest md5 of user, session and video); n counts the remaining videos.
    min_views: videos with fewer watches are left out. min_people: least number of users behind an
    edge. min_people = min_views = 1, and None, remove nothing.
    """

    min_weight: float = 2
    unordered: bool = False
    pair_weight: PairWeight = "per-video"
    window_seconds: float | None = None
    max_length: int | None = None
    min_views: int = 1
    min_people: int = 1

    def __post_init__(self) -> None:
        least = {"max_length": 2, "min_views": 1, "min_people": 1}
        for name, minimum in least.items():
            if (value := getattr(self, name)) is not None and value < minimum:
                raise ValueError(f"{name} must be at least {minimum}, found {value}")
        if not 0 < self.min_weight < math.inf:
            raise ValueError(
                "min_weight must be at least 1, or above 0 if sessions have no order, found "
                f"{self.min_weight}"
            )
        if self.window_seconds is not None and not 0 <= self.window_seconds < math.inf:
            raise ValueError(f"window_seconds must not be negative, found {self.window_seconds}")
        if self.pair_weight not in _WEIGHTS:
            raise ValueError(
                f"pair_weight must be one of {', '.join(_WEIGHTS)}, found {self.pair_weight!r}"
            )

    def described(self) -> dict[str, Any]:
        """min_weight, and all other fields that differ from their defaults."""
        defaults = asdict(Counting())
        changed = {name: value for name, value in asdict(self).items() if value != defaults[name]}
        if self.unordered:
            changed["pair_weight"] = self.pair_weight
        return {"min_weight": self.min_weight, **changed}


_VIDEOS = """
create temp table videos as
select video_id, views, row_number() over (order by video_id) - 1 as video
from (select video_id, count(*) as views from watched group by video_id)
where views >= {min_views}
"""
_WATCHES = "select {session}{timed}, video{id} from watched join videos using (video_id)"
_KEPT = """
select * from ({watches})
qualify row_number() over (partition by {session} order by {order}) <= {max_length}
"""
# Negative pairs are not edges: the first watch of a session (-1), a repeat of the same video (-2),
# watches too far apart (-3). They are counted here because a second pass over the events would
# double the cost.
_ORDERED = """
with consecutive as (
    select {person} as person, video, lag(video) over session as before,
           lag(time) over session = time as tied, {far} as far
    from ({watches}) window session as (partition by {session} order by time, video))
select person, tied, case when before is null then -1 when before = video then -2 when far then -3
       else least(video, before) * {videos} + greatest(video, before) end as pair
from consecutive
"""
_FAR = "round(seconds - lag(seconds) over session, 6) > {window}"
_COUNTED = """
select pair, count(*) as weight, count(*) filter (tied) as ties from ({steps}) group by pair
"""
_COUNTED_BY_PERSON = """
select pair, sum(weight)::bigint as weight, sum(ties)::bigint as ties, count(*) as people from (
    select pair, count(*) as weight, count(*) filter (tied) as ties
    from ({steps}) group by pair, person)
group by pair
"""
_SEEN = """
create temp table seen as
select {session}, video, {seconds} as seconds, count(*) as watches from ({watches}) group by all
"""
_HISTORIES = """
create temp table histories as
select *, row_number() over () as history, dense_rank() over (order by {person}) as person,
       case when n > 1 then round({weight} * {unit})::bigint else 0 end as part
from (select {session}, count(distinct video) as n, sum(watches) as watches
      from seen group by {session})
"""
# Each pair of videos of a history, once, however often it occurs within the window.
_TOGETHER = """
select {distinct} a.history, a.person, a.video * {videos} + b.video as pair, a.part
from entries a join entries b on a.history = b.history and a.video < b.video {near}
"""
_NEAR = "and round(abs(a.seconds - b.seconds), 6) <= {window}"
_SUMMED = """
select pair, round(sum(part)::double / {unit}, 9) as weight, 0 as ties
from ({together}) group by pair
"""
_SUMMED_BY_PERSON = """
select pair, round(sum(part)::double / {unit}, 9) as weight, 0 as ties, count(*) as people
from (select pair, sum(part) as part from ({together}) group by pair, person) group by pair
"""
_COUNTS = """
select sum(weight)::bigint, coalesce(sum(weight) filter (pair = -1), 0)::bigint,
       coalesce(sum(weight) filter (pair = -2), 0)::bigint,
       coalesce(sum(ties) filter (pair >= 0), 0)::bigint
from pairs
"""
_HISTORY_COUNTS = """
select coalesce(sum(watches), 0)::bigint, count(*), coalesce(sum(watches - n), 0)::bigint, 0
from histories
"""


def count_pairs(database: Any, counting: Counting, columns: Sequence[str]) -> dict[str, int]:
    """Create the tables `videos` and `pairs` from the view `watched`; return the counts.

    videos: video_id, video, views; numbered in the order of their ids, so that every later step
    sorts integers. pairs: pair (low * videos + high; negative if it is not a pair), weight, ties,
    and people if min_people is above 1. If unordered, also histories: n, and part in 1 / UNIT.
    """
    database.execute(_VIDEOS.format(min_views=counting.min_views))
    ((videos,),) = database.execute("select count(*) from videos").fetchall()
    session = [name for name in ("user_id", "session_id") if name in columns]
    is_timed = "timestamp" in columns
    names: dict[str, Any] = {
        "videos": videos,
        "session": ", ".join(session),
        "person": session[0],
        "timed": ", time, seconds" if is_timed else "",
        "id": "" if is_timed else ", video_id",
        "order": f"{'time' if is_timed else _md5([*session, 'video_id'])}, video",
        "max_length": counting.max_length,
        "window": counting.window_seconds,
        "unit": UNIT,
    }
    names["watches"] = _WATCHES.format(**names)
    if counting.max_length is not None:
        names["watches"] = _KEPT.format(**names)
    if counting.unordered:
        _count_together(database, counting, names)
        totals = database.execute(_HISTORY_COUNTS).fetchall()
    else:
        far = "false" if counting.window_seconds is None else _FAR.format(**names)
        steps = _ORDERED.format(**names, far=far)
        sql = _COUNTED if counting.min_people == 1 else _COUNTED_BY_PERSON
        database.execute("create temp table pairs as " + sql.format(steps=steps))
        totals = database.execute(_COUNTS).fetchall()
    events, sessions, repeats, ties = (int(number or 0) for number in totals[0])
    ((pairs,),) = database.execute("select count(*) from pairs where pair >= 0").fetchall()
    counts = {"events": events, "sessions": sessions, "videos": videos, "repeats": repeats}
    return counts | {"pairs": pairs, "ties": ties}


def _count_together(database: Any, counting: Counting, names: Mapping[str, Any]) -> None:
    windowed = counting.window_seconds is not None
    database.execute(_SEEN.format(**names, seconds="seconds" if windowed else "0"))
    weight = _WEIGHTS[counting.pair_weight]
    database.execute(_HISTORIES.format(**names, weight=weight))
    database.execute(
        f"create temp table entries as select history, person, part, video, seconds "
        f"from seen join histories using ({names['session']}) where n > 1"
    )
    database.execute("drop table seen")
    distinct, near = ("distinct", _NEAR.format(**names)) if windowed else ("", "")
    together = _TOGETHER.format(**names, distinct=distinct, near=near)
    sql = _SUMMED if counting.min_people == 1 else _SUMMED_BY_PERSON
    database.execute("create temp table pairs as " + sql.format(**names, together=together))
    database.execute("drop table entries")


def _md5(names: Sequence[str]) -> str:
    return f"md5(concat_ws(' ', {', '.join(names)}))"
