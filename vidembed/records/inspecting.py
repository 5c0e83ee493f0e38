"""A look at records, or at a feature table, before anything is trained on them: every fault."""

import contextlib
import dataclasses
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
from vidembed.records.counts import check_counts, compared, read_counts
from vidembed.records.facts import content_facts, dtype_options, shard_facts
from vidembed.records.faults import Skips, grouped
from vidembed.records.formats import Reading
from vidembed.records.label_names import read_vocabulary
from vidembed.records.origin import origin_of
from vidembed.records.schema import NOTHING_FITS, import_command, schema_of
from vidembed.records.shards import is_glob
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
    holds: list[str] = dataclasses.field(default_factory=list)
    """Of records or rows: a line for each key, its type, widths, and how many lack it."""
    command: str = ""
    """What imports them, where that shows."""


def inspect(
    path: str | os.PathLike,
    options: Reading = Reading(),
    *,
    progress: Callable[[int, int, int], object] = lambda *_: None,
) -> Inspection:
    """Inspect records, a Parquet file or arrays (a file, a folder, a glob), or a feature table.

    Reads everything, and goes on after a fault: each kind of fault is once in the result. The
    options are for records only; where they name no modalities and the records are not
    YouTube-8M's, those that the records hold are read. Raises FileNotFoundError where there is
    nothing to inspect.
    """
    if not is_glob(path) and _holds_table(path):
        return _inspect_table(path)
    origin = origin_of(path, options)
    schema = schema_of(origin)
    fit = schema.fitting(origin.format, options)
    if fit is not None and not options.chosen and not schema.fits(origin.format):
        origin = dataclasses.replace(origin, format=fit.format())
    files, names, format = origin.shards, origin.names, origin.format
    expected = read_counts(files, options.counts)
    checks, skips = Checks(format.widths), Skips(limit=2**62, quiet=True)
    stream = stream_videos(
        files, format, skips=skips, workers=options.workers, read_file=origin.read
    )
    with contextlib.closing(stream):
        for number, videos in stream:
            checks.add(names[number], videos)
            progress(number, len(files), checks.rows)
    progress(len(files), len(files), checks.rows)
    unreadable = sorted(skips.errors, key=lambda error: (error.path, error.record))
    found = compared(files, checks.records, unreadable)
    miscounted = check_counts(found, expected, path)
    refused = refusals(checks, duplicates="error", invalid="refuse")
    counted = "not as expected" if miscounted else f"as in {options.counts or 'counts.json'}"
    facts = {
        **shard_facts(origin, checks, unreadable),
        "counts": counted if expected else "not checked: no counts.json beside the shards",
        **content_facts(checks, labels_key=format.labels_key),
    }
    return Inspection(
        facts=facts,
        labels=checks.labels,
        faults=[*grouped(unreadable), *miscounted, *refused],
        holds=list(schema.lines()),
        command=import_command(path, fit, dtype_options(checks))
        if fit and (checks.rows or schema.records)
        else "",
    )


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
    sources = [table.manifest["source"], *table.manifest["source"].get("appended", [])]
    shards = sum(len(source.get("shards", [])) for source in sources)
    facts = {
        "table": f"{len(table):,} rows, {', '.join(f'{n} {d}' for n, d in stored.items())}",
        "space": "; ".join(f"{name}: {space}" for name, space in table.space.items()),
        "checksums": f"crc32c of every chunk, digests of {len(table.manifest['arrays'])} arrays",
        "fingerprint": table.fingerprint,
        "made from": f"{shards:,} shards" if shards else "arrays in memory",
        **content_facts(checks),
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


def main(
    path: Annotated[str, tyro.conf.arg(metavar="PATH")],
    options: Annotated[Reading, tyro.conf.arg(name="")] = Reading(),
    *,
    vocabulary: str | None = None,
    max_faults: int = 100,
) -> int:
    """Check video-level records, or a feature table; print what they hold and what imports them.

    Reads everything and lists every fault, each kind once: unreadable or truncated records, missing
    features, wrong widths, NaN, all-zero vectors, repeated ids, shards cut short, damaged tables.
    The exit code is 1 where there are any.

    Args:
        path: file, folder or glob of TFRecords, Parquet or .npy, local or gs://; or the folder of a
            feature table.
        vocabulary: CSV file with the names of the labels (columns Index and Name);
            vocabulary.csv beside the shards if not given.
        max_faults: how many faults to print; all are counted.
    """
    with Progress().stage(f"inspecting {path}", unit="shards") as stage:

        def progress(done: int, total: int, records: int) -> None:
            stage.update(done, total, note=f"{records:,} records")

        found = inspect(path, options, progress=progress)
    console = Console(highlight=False, soft_wrap=True, emoji=False)
    for name, fact in found.facts.items():
        console.print(f"{name:<12} {fact}", markup=False)
    for line in found.holds:
        console.print(f"  holds {line}", markup=False)
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
    if found.command:
        console.print(f"import it with: {found.command}", markup=False)
    elif found.holds:
        console.print(NOTHING_FITS, style="red", markup=False)
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
