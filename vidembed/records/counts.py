"""Expected record counts per shard, which reveal a lost shard or one cut between records."""

import fnmatch
import json
from collections.abc import Mapping, Sequence
from os import PathLike

from etils import epath

from vidembed.records.faults import RecordError
from vidembed.records.shards import is_glob

FILE = "counts.json"


def read_counts(shards: Sequence[epath.Path], path: str | PathLike | None) -> dict[str, int]:
    """Expected records per shard, by file name: from `path`, or counts.json beside the shards.

    Empty if `path` is None and there is no counts.json. Raises ValueError for content other than
    {"name": records}.
    """
    source = epath.Path(path) if path is not None else shards[0].parent / FILE
    if path is None and not source.exists():
        return {}
    try:
        counts = json.loads(source.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{source}: cannot read the expected record counts: {error}") from error
    if not isinstance(counts, dict) or not all(type(n) is int for n in counts.values()):
        raise ValueError(f'{source}: expected {{"shard name": records, ...}}')
    return counts


def check_counts(
    found: Mapping[str, int | None], expected: Mapping[str, int], pattern: str | PathLike
) -> list[str]:
    """One sentence for each shard with a wrong number of records, and for each missing shard.

    `found` and `expected`: file name -> records; None for a shard with unreadable records, which
    is not compared. Only shards that `pattern` matches can be missing.
    """
    if not expected:
        return []
    faults = [
        f"{name} holds {count} records, {expected[name]} were expected: it was cut or changed"
        for name, count in found.items()
        if count is not None and expected.get(name, count) != count
    ]
    faults += [f"{name} is not among the expected shards" for name in found.keys() - expected]
    file_pattern = str(pattern).rstrip("/").rpartition("/")[2]
    glob = is_glob(pattern)
    faults += [
        f"{name} is missing, {count} records were expected"
        for name, count in expected.items()
        if name not in found
        and (fnmatch.fnmatch(name, file_pattern) if glob else file_pattern not in expected)
    ]
    return sorted(faults)


def compared(
    files: Sequence[epath.Path], records: Mapping[str, int], unreadable: Sequence[RecordError]
) -> dict[str, int | None]:
    """Records by shard name, for `check_counts`; None for a shard with unreadable records."""
    broken = {error.path for error in unreadable}
    return {
        name: None if str(file) in broken else records.get(name, 0)
        for file, name in zip(files, shard_names(files))
    }


def shard_names(files: Sequence[epath.Path]) -> list[str]:
    """File names of the shards; full paths if a name occurs in several folders."""
    names = [file.name for file in files]
    return names if len(set(names)) == len(names) else [str(file) for file in files]
