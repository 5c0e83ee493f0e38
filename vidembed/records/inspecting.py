"""A look at records, or at a feature table, before anything is trained on them: every fault."""

import contextlib
import dataclasses
import logging
import os
from collections.abc import Callable, Iterator
from typing import Annotated

import tyro
from etils import epath
from rich.console import Console

from vidembed.progress import Progress
from vidembed.records.arrays import TableError
from vidembed.records.bytecode import dequantise
from vidembed.records.checks import Checks, refusals
from vidembed.records.counts import check_counts, compared, read_counts, shard_names
from vidembed.records.faults import Skips
from vidembed.records.formats import Reading
from vidembed.records.framing import HEADER, is_gzip
from vidembed.records.label_names import read_vocabulary
from vidembed.records.shards import is_glob, shards
from vidembed.records.streaming import stream_videos
from vidembed.records.table import FeatureTable
from vidembed.records.table_folder import MANIFEST, UNFINISHED
from vidembed.records.youtube8m import Videos

TOP_LABELS = 10
BLOCK_ROWS = 8192


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspection:
    """What was found: facts (what -> words), the commonest labels (label -> videos), faults."""

    facts: dict[str, str]
    labels: dict[int, int]
    faults: list[str]


def inspect(
    path: str | os.PathLike,
    options: Reading = Reading(),
    *,
    progress: Callable[[int, int, int], object] = lambda *_: None,
) -> Inspection:
    """Inspect TFRecords (a file, a folder, a glob) or a feature table, whichever `path` is.

    Reads everything, and goes on after a fault: each one is in the result. The options are for
    records only. Raises FileNotFoundError where there is nothing to inspect.
    """
    if not is_glob(path) and _holds_table(path):
        return _inspect_table(path)
    files = shards(path)
    names = shard_names(files)
    expected = read_counts(files, options.counts)
    format = options.format()
    checks, skips = Checks(format.widths), Skips(limit=2**62)
    stream = stream_videos(files, format, skips=skips, workers=options.workers)
    with contextlib.closing(stream):
        for number, videos in stream:
            checks.add(names[number], videos)
            progress(number, len(files), checks.rows)
    progress(len(files), len(files), checks.rows)
    unreadable = sorted(skips.errors, key=lambda error: (error.path, error.record))
    broken = {error.path for error in unreadable}
    found = compared(files, checks.records, unreadable)
    miscounted = check_counts(found, expected, path)
    refused = refusals(checks, duplicates="error", invalid="refuse")
    faults = [*map(str, unreadable), *miscounted, *refused]
    records = [checks.records.get(name, 0) for name in names]
    compressed = sum(_compressed(file) for file in files)
    counted = "not as expected" if miscounted else f"as in {options.counts or 'counts.json'}"
    facts = {
        "shards": f"{len(files)}, {compressed} of them gzip, {len(broken)} with unreadable records",
        "records": f"{checks.rows:,} readable, {min(records):,} to {max(records):,} a shard",
        "checksums": f"crc32c of every length and payload read; {len(unreadable):,} faults",
        "counts": counted if expected else "not checked: no counts.json beside the shards",
        **_content(checks),
    }
    return Inspection(facts=facts, labels=checks.labels, faults=faults)


def _holds_table(path: str | os.PathLike) -> bool:
    # Two files are asked for; the table's own storage would list all that lies below, and without
    # credentials try again for minutes.
    return any((epath.Path(path) / file).exists() for file in (MANIFEST, UNFINISHED))


def _inspect_table(path: str | os.PathLike) -> Inspection:
    try:
        table = FeatureTable.open(path)
    except TableError as error:
        faults = str(error).splitlines()
        return Inspection(facts={"table": os.fspath(path)}, labels={}, faults=faults)
    checks = Checks(table.widths)
    for videos in _blocks(table):
        checks.add(os.fspath(path), videos)
    # Rows of a modality that is masked hold zeros, and are not looked at.
    faults = refusals(checks, duplicates="error", invalid="refuse")
    stored = {name: str(array.dtype) for name, array in table.features.items()}
    source = table.manifest["source"].get("shards", [])
    facts = {
        "table": f"{len(table):,} rows, {', '.join(f'{n} {d}' for n, d in stored.items())}",
        "space": "; ".join(f"{name}: {space}" for name, space in table.space.items()),
        "checksums": f"crc32c of every chunk, digests of {len(table.manifest['arrays'])} arrays",
        "fingerprint": table.fingerprint,
        "made from": f"{len(source)} shards" if source else "arrays in memory",
        **_content(checks),
    }
    return Inspection(facts=facts, labels=checks.labels, faults=faults)


def _blocks(table: FeatureTable) -> Iterator[Videos]:
    for start in range(0, len(table), BLOCK_ROWS):
        rows = slice(start, min(start + BLOCK_ROWS, len(table)))
        offsets = table.label_offsets[rows.start : rows.stop + 1]
        yield Videos(
            table.ids[rows],
            offsets - offsets[0],
            table.label_values[offsets[0] : offsets[-1]],
            {name: dequantise(array[rows]) for name, array in table.features.items()},
            {name: table.has(name)[rows] for name in table.features},
        )


def _content(checks: Checks) -> dict[str, str]:
    facts = {}
    for name, modality in checks.modalities.items():
        if not modality.values:
            facts[name] = f"width {modality.width}, no values"
            continue
        facts[name] = (
            f"width {modality.width}, values {modality.low:.4g} to {modality.high:.4g}, "
            f"{modality.clipped_share:.2%} beyond uint8's [-2, 2]; {modality.missing:,} missing, "
            f"{modality.not_finite.count:,} with NaN or infinity, {modality.all_zero.count:,} zero"
        )
    facts["ids"] = f"{checks.distinct:,} distinct, {checks.duplicates.count:,} repeated"
    labels = sum(checks.labels.values())
    facts["labels"] = (
        f"{len(checks.labels):,} distinct, {labels / max(1, checks.rows):.2f} a video, "
        f"{checks.without_labels:,} videos without"
    )
    return facts


def _compressed(file: epath.Path) -> bool:
    with file.open("rb") as stream:
        return is_gzip(stream.read(HEADER.size))


def main(
    path: Annotated[str, tyro.conf.arg(metavar="PATH")],
    options: Annotated[Reading, tyro.conf.arg(name="")] = Reading(),
    *,
    vocabulary: str | None = None,
    max_faults: int = 100,
) -> int:
    """Check video-level records, or a feature table, and print what they hold.

    Reads everything and lists every fault: unreadable or truncated records, missing features,
    wrong widths, NaN, all-zero vectors, repeated ids, shards cut short, damaged tables. The exit
    code is 1 where there are any.

    Args:
        path: TFRecord file, folder or glob, local or gs://; or the folder of a feature table.
        vocabulary: CSV file with the names of the labels (columns Index and Name);
            vocabulary.csv beside the shards if not given.
        max_faults: how many faults to print; all are counted.
    """
    # Unreadable records are listed at the end; there is no need to warn of each in between.
    logging.getLogger("vidembed").addHandler(logging.NullHandler())
    with Progress().stage(f"inspecting {path}", unit="shards") as stage:

        def progress(done: int, total: int, records: int) -> None:
            stage.update(done, total, note=f"{records:,} records")

        found = inspect(path, options, progress=progress)
    console = Console(highlight=False, soft_wrap=True)
    for name, fact in found.facts.items():
        console.print(f"{name:<12} {fact}", markup=False)
    words = _names(path, vocabulary)
    commonest = sorted(found.labels.items(), key=lambda item: (-item[1], item[0]))[:TOP_LABELS]
    for label, videos in commonest:
        bar = "█" * max(1, round(30 * videos / commonest[0][1]))
        name = f"{label} {words.get(label, '')}"
        console.print(f"  {name[:28]:<28} {videos:>9,} {bar}", markup=False)
    for fault in found.faults[:max_faults]:
        console.print(f"fault: {fault}", style="red", markup=False)
    if len(found.faults) > max_faults:
        console.print(f"... and {len(found.faults) - max_faults:,} more", style="red")
    if found.faults:
        console.print(f"{path}: {len(found.faults):,} faults", style="bold red", markup=False)
        return 1
    console.print(f"{path}: no faults", style="green", markup=False)
    return 0


def _names(path: str, vocabulary: str | None) -> dict[int, str]:
    if vocabulary is not None:
        return read_vocabulary(vocabulary)
    beside = epath.Path(path)
    beside = beside if not is_glob(path) and beside.is_dir() else beside.parent
    file = beside / "vocabulary.csv"
    return read_vocabulary(file) if file.exists() else {}
