"""Inspect records or a feature table before training: their contents and every fault."""

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
from vidembed.records.checks import Checks, refusals
from vidembed.records.counts import check_counts, compared, read_counts
from vidembed.records.facts import content_facts, dtype_options, shard_facts
from vidembed.records.faults import Skips, grouped
from vidembed.records.formats import Reading
from vidembed.records.label_names import read_vocabulary
from vidembed.records.origin import origin_of
from vidembed.records.rows import float_rows
from vidembed.records.schema import NOTHING_FITS, import_command, schema_of, training_command
from vidembed.records.shards import is_glob
from vidembed.records.streaming import stream_videos
from vidembed.records.table import FeatureTable
from vidembed.records.table_folder import MANIFEST, UNFINISHED
from vidembed.records.youtube8m import Videos

TOP_LABELS = 10
BLOCK_ROWS = 8192


@dataclasses.dataclass(frozen=True, kw_only=True)
class Inspection:
    """The result: facts (name -> text), labels (label -> number of videos), and faults."""

    facts: dict[str, str]
    labels: dict[int, int]
    faults: list[str]
    holds: list[str] = dataclasses.field(default_factory=list)
    """For records or rows: one line per key, with type, widths, and how many lack it."""
    command: str = ""
    """The import command that fits, or ""."""
    training: str = ""
    """The training command for the table, or for the one that `command` makes, or ""."""


def inspect(
    path: str | os.PathLike,
    options: Reading = Reading(),
    *,
    progress: Callable[[int, int, int], object] = lambda *_: None,
) -> Inspection:
    """Inspect records, Parquet files or arrays (a file, a folder, a glob), or a feature table.

    Reads everything and continues after faults; the result lists each kind of fault once. The
    options apply to records only. If they name no modalities and the records are not YouTube-8M's,
    the modalities in the records are read. Raises FileNotFoundError if nothing matches.
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
    counts = compared(files, checks.records, unreadable)
    miscounted = check_counts(counts, expected, path)
    refused = refusals(checks, duplicates="error", invalid="refuse")
    counted = "not as expected" if miscounted else f"as in {options.counts or 'counts.json'}"
    facts = {
        **shard_facts(origin, checks, unreadable),
        "counts": counted if expected else "not checked: no counts.json beside the shards",
        **content_facts(checks, labels_key=format.labels_key),
        **({"averaged": "; ".join(origin.notes)} if origin.notes else {}),
    }
    importable = fit if checks.rows or schema.records else None
    return Inspection(
        facts=facts,
        labels=checks.labels,
        faults=[*grouped(unreadable), *miscounted, *refused],
        holds=list(schema.lines()),
        command=import_command(path, importable, dtype_options(checks)) if importable else "",
        training=training_command("TABLE", format.widths) if importable else "",
    )


def _holds_table(path: str | os.PathLike) -> bool:
    # Check for two files: the table's storage library would list everything below, and retry for
    # minutes without credentials.
    return any((epath.Path(path) / file).exists() for file in (MANIFEST, UNFINISHED))


def _inspect_table(path: str | os.PathLike) -> Inspection:
    try:
        table = FeatureTable.open(path)
    except TableError as error:
        faults = str(error).splitlines()
        return Inspection(facts={"table": os.fspath(path)}, labels={}, faults=faults)
    checks = Checks(table.widths, ranges=table.ranges)
    for videos in _blocks(table):
        checks.add(os.fspath(path), videos)
    # Rows with a masked modality hold zeros and are not checked.
    faults = refusals(checks, duplicates="error", invalid="refuse")
    stored = {
        name: f"{array.dtype} {table.ranges.get(name, '')}".rstrip()
        for name, array in table.features.items()
    }
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
    training = training_command(path, table.features)
    return Inspection(facts=facts, labels=checks.labels, faults=faults, training=training)


def _blocks(table: FeatureTable) -> Iterator[Videos]:
    for start in range(0, len(table), BLOCK_ROWS):
        rows = slice(start, min(start + BLOCK_ROWS, len(table)))
        offsets = table.label_offsets[rows.start : rows.stop + 1]
        yield Videos(
            table.ids[rows],
            offsets - offsets[0],
            table.label_values[offsets[0] : offsets[-1]],
            {name: float_rows(table, name, rows) for name in table.features},
            {name: table.has(name)[rows] for name in table.features},
        )


def main(
    path: Annotated[str, tyro.conf.arg(metavar="PATH")],
    options: Annotated[Reading, tyro.conf.arg(name="")] = Reading(),
    *,
    vocabulary: str | None = None,
    max_faults: int = 100,
) -> int:
    """Check video-level records or a feature table; print the contents and the commands that fit.

    Reads everything and lists each kind of fault once: unreadable or truncated records, missing
    features, wrong widths, NaN, all-zero vectors, repeated ids, truncated shards, damaged tables.
    The exit code is 1 if there are faults.

    Args:
        path: file, folder or glob of TFRecord, Parquet or .npy files, local or gs://; or the folder
            of a feature table.
        vocabulary: CSV file with the names of the labels (columns Index and Name);
            vocabulary.csv beside the shards if not given.
        max_faults: number of faults to print; all are counted.
    """
    with Progress().stage(f"inspecting {path}", unit="shards") as stage:

        def progress(done: int, total: int, records: int) -> None:
            stage.update(done, total, note=f"{records:,} records")

        inspection = inspect(path, options, progress=progress)
    console = Console(highlight=False, soft_wrap=True, emoji=False)
    for name, fact in inspection.facts.items():
        console.print(f"{name:<12} {fact}", markup=False)
    for line in inspection.holds:
        console.print(f"  holds {line}", markup=False)
    label_names = _names(path, vocabulary)
    commonest = sorted(inspection.labels.items(), key=lambda item: (-item[1], item[0]))[:TOP_LABELS]
    for label, videos in commonest:
        bar = "█" * max(1, round(30 * videos / commonest[0][1]))
        name = f"{label} {label_names.get(label, '')}"
        console.print(f"  {name[:28]:<28} {videos:>9,} {bar}", markup=False)
    for fault in inspection.faults[:max_faults]:
        console.print(f"fault: {fault}", style="red", markup=False)
    if len(inspection.faults) > max_faults:
        console.print(f"... and {len(inspection.faults) - max_faults:,} more", style="red")
    if inspection.command:
        console.print(f"import it with: {inspection.command}", markup=False)
    elif inspection.holds:
        console.print(NOTHING_FITS, style="red", markup=False)
    if inspection.faults:
        console.print(f"{path}: {len(inspection.faults):,} faults", style="bold red", markup=False)
        return 1
    console.print(f"{path}: no faults", style="green", markup=False)
    if inspection.training:
        # EDGES come from `cowatch`, WORKDIR is to be chosen.
        console.print(f"train on it with: {inspection.training}", markup=False)
    return 0


def _names(path: str, vocabulary: str | None) -> dict[int, str]:
    if vocabulary is not None:
        return read_vocabulary(vocabulary)
    beside = epath.Path(path)
    beside = beside if not is_glob(path) and beside.is_dir() else beside.parent
    file = beside / "vocabulary.csv"
    return read_vocabulary(file) if file.exists() else {}
