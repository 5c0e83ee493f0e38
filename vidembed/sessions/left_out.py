"""Videos, users and sessions to leave out, as if they had never been: deletion."""

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
    """Make the view `watched`: `events` without the ids that the files list.

    Each file has one of the columns video_id, user_id and session_id. Returns the watches that were
    left out, and for each column with a list the ids in it and those of them that nobody has.
    Raises SessionError for other files, empty cells, and a column that the sessions do not have.
    """
    lists: dict[str, list[Any]] = {}
    for file in files:
        path = epath.Path(file)
        table = tabular.read_table(path, LIST, optional=_IDS)
        if len(table.column_names) != 1:
            raise SessionError(
                f"{path}: has {' and '.join(table.column_names) or 'none of the columns'}; a file "
                f"of ids to leave out has one of {', '.join(_IDS)}: give a file for each"
            )
        (name,) = table.column_names
        if name not in columns:
            raise SessionError(
                f"{path}: lists {name}, and the sessions have only {', '.join(columns)}"
            )
        ids = ids_of(path, table, name, LIST)
        if ids.null_count:
            raise SessionError(f"{path}: {ids.null_count} of {len(ids)} rows have no {name}")
        lists.setdefault(name, []).append(ids)
    if not lists:
        database.execute("create temp view watched as select * from events")
        return {}
    found: dict[str, int] = {}
    keep = []
    for name, parts in lists.items():
        unique = pc.unique(pa.chunked_array(parts))
        database.register(f"left_{name}s", pa.table({"id": unique}))
        here = f"{name}::varchar in (select id from left_{name}s)"
        ((present,),) = database.execute(
            f"select count(distinct {name}) from events where {here}"
        ).fetchall()
        found |= {f"left_{name}s": len(unique), f"absent_{name}s": len(unique) - present}
        keep.append(f"not ({here})")
    database.execute(f"create temp view watched as select * from events where {' and '.join(keep)}")
    ((watches,),) = database.execute(
        f"select count(*) from events where not ({' and '.join(keep)})"
    ).fetchall()
    return {"left_out_watches": watches, **found}
