"""Session files that were cut on the way: refused where their format shows it."""

import gzip

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from vidembed.sessions.cowatch import count_cowatches
from vidembed.sessions.watches import SessionError

WATCHES = [(f"s{row // 5}", row, f"v{row * row % 37}") for row in range(3000)]
COLUMNS = ("session_id", "timestamp", "video_id")


@pytest.mark.fault("Relations and sessions: session files damaged")
@pytest.mark.parametrize("share", [0.001, 0.5, 0.9, 0.9999])
@pytest.mark.parametrize("suffix", [".parquet", ".csv.gz"])
def test_a_cut_session_file_is_refused_by_name(suffix, share, tmp_path):
    sessions, edges = tmp_path / f"s{suffix}", tmp_path / "e.parquet"
    if suffix == ".parquet":
        pq.write_table(pa.table(dict(zip(COLUMNS, map(list, zip(*WATCHES))))), sessions)
    else:
        rows = "".join(f"{','.join(map(str, watch))}\n" for watch in [COLUMNS, *WATCHES])
        sessions.write_bytes(gzip.compress(rows.encode()))
    assert count_cowatches(sessions, edges, threads=1)["events"] == len(WATCHES)
    edges.unlink()
    whole = sessions.read_bytes()
    sessions.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(SessionError, match=f"s{suffix}"):
        count_cowatches(sessions, edges, threads=1)
    assert [path.name for path in tmp_path.iterdir()] == [sessions.name]
