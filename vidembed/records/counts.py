"""How many records each shard should hold: what notices a shard cut at a record's end, or lost."""

import fnmatch
import json
from collections.abc import Mapping, Sequence
from os import PathLike

from etils import epath

from vidembed.records.faults import RecordError
from vidembed.records.shards import is_glob

FILE = "counts.json"


def read_counts(shards: Sequence[epath.Path], path: str | PathLike | None) -> dict[str, int]:
    """Expected records a shard, by file name: from `path`, or counts.json beside the shards.

    Empty where `path` is None and there is no such file. Raises ValueError for any other content
    than {"name": records}.
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
    """One sentence for each shard that holds another number of records, or that is not there.

    `found` and `expected`: file name -> records; found is None for a shard with unreadable ones,
    which is not compared. Lost is a shard that `pattern` asks for.
    """
    if not expected:
        return []
    faults = [
        f"{name} holds {count} records, {expected[name]} were expected: it was cut or changed"
        for name, count in found.items()
        if count is not None and expected.get(name, count) != count
    ]
    faults += [f"{name} is not among the expected shards" for name in found.keys() - expected]
    asked = str(pattern).rstrip("/").rpartition("/")[2]
    glob = is_glob(pattern)
    faults += [
        f"{name} is missing, {count} records were expected"
        for name, count in expected.items()
        if name not in found and (fnmatch.fnmatch(name, asked) if glob else asked not in expected)
    ]
    return sorted(faults)


def compared(
    files: Sequence[epath.Path], records: Mapping[str, int], unreadable: Sequence[RecordError]
) -> dict[str, int | None]:
    """Records found by shard name, for `check_counts`; None where some were unreadable."""
    broken = {error.path for error in unreadable}
    return {
        name: None if str(file) in broken else records.get(name, 0)
        for file, name in zip(files, shard_names(files))
    }


def shard_names(files: Sequence[epath.Path]) -> list[str]:
    """File names of the shards; whole paths where a name occurs in several folders."""
    names = [file.name for file in files]
    return names if len(set(names)) == len(names) else [str(file) for file in files]
