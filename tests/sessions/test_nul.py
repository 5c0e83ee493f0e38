"""Ids that end in NUL: NumPy's byte strings drop it, and so confuse two ids."""

import pyarrow as pa
import pytest

from vidembed.graph.edges import EDGES
from vidembed.records.columns import ids_of
from vidembed.records.split_file import SPLIT
from vidembed.sessions.left_out import LIST


@pytest.mark.fault(
    "Relations and sessions: an id of sessions, edges, splits or ids to leave out that holds a NUL",
    "1: file, row and id; NumPy drops a NUL at the end, which would change the id",
)
@pytest.mark.parametrize("kind", [EDGES, SPLIT, LIST], ids=lambda kind: kind.what)
@pytest.mark.parametrize("cells", [["a", None, "a\0"], [b"a", b"", b"a\0b"]], ids=["text", "bytes"])
def test_an_id_with_nul_is_refused(tmp_path, kind, cells):
    table = pa.table({"id": cells})
    with pytest.raises(kind.refused, match=r"/t, row 2: id 'a\\x00b?' holds a NUL"):
        ids_of(tmp_path / "t", table, "id", kind)
    assert ids_of(tmp_path / "t", table.slice(0, 2), "id", kind).to_pylist() == ["a", None]
