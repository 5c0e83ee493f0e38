"""Leave out listed videos, users and sessions before counting, for example after deletion."""

import os
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from etils import epath

from vidembed.records import tabular
from vidembed.records.columns import ids_of
from vidembed.sessions.session_files import SessionError

_IDS = ("video_id", "user_id", "session_id")
LIST = tabular.Kind(
    what="ids to leave out (Parquet or CSV, with a column video_id, user_id or session_id)",
    give="the one file with the ids to leave out",
    refused=SessionError,
)


def leave_out(
    database: Any, files: Sequence[str | os.PathLike[str]], columns: Sequence[str]
) -> dict[str, int]:
    """Create the view `watched`: `events` without the ids that the files list.

    Each file has one of the columns video_id, user_id and session_id. Returns the number of watches
    left out, and for each listed column the number of ids and of ids absent from the sessions.
    Raises SessionError for other files, empty cells, and a column that the sessions do not have.
    """
    lists: dict[str, list[Any]] = {}
    for file in files:
        path = epath.Path(file)
        table = tabular.read_table(path, LIST, optional=_IDS)
        if len(table.column_names) != 1:
            raise SessionError(
                f"{path}: has {' and '.join(table.column_names) or 'none of the columns'}; a file "
                f"of ids to leave out has one of {', '.join(_IDS)}: give one file per column"
            )
        (name,) = table.column_names
        if name not in columns:
            raise SessionError(
                f"{path}: lists {name}, but the sessions have only {', '.join(columns)}"
            )
        ids = ids_of(path, table, name, LIST)
        if ids.null_count:
            raise SessionError(f"{path}: {ids.null_count} of {len(ids)} rows have no {name}")
        lists.setdefault(name, []).append(ids)
    if not lists:
        database.execute("create temp view watched as select * from events")
        return {}
    counts: dict[str, int] = {}
    conditions = []
    for name, id_lists in lists.items():
        unique = pc.unique(pa.chunked_array(id_lists))
        database.register(f"left_{name}s", pa.table({"id": unique}))
        is_listed = f"{name}::varchar in (select id from left_{name}s)"
        ((present,),) = database.execute(
            f"select count(distinct {name}) from events where {is_listed}"
        ).fetchall()
        counts |= {f"left_{name}s": len(unique), f"absent_{name}s": len(unique) - present}
        conditions.append(f"not ({is_listed})")
    database.execute(
        f"create temp view watched as select * from events where {' and '.join(conditions)}"
    )
    ((watches,),) = database.execute(
        f"select count(*) from events where not ({' and '.join(conditions)})"
    ).fetchall()
    return {"left_out_watches": watches, **counts}
