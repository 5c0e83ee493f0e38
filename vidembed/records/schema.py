"""The schema of foreign feature files (keys, types, widths, gaps), and the command to import them.

Only the first records of some files are read; reading all of them reveals faults.
"""

import contextlib
import dataclasses
import re
import shlex
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from os import PathLike, fspath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from vidembed.records.checks import Checks
from vidembed.records.example import Feature, MessageError, parse_example
from vidembed.records.facts import dtype_options
from vidembed.records.faults import RecordError, Skips
from vidembed.records.formats import Reading, VideoLevel, name_of
from vidembed.records.framing import read_records
from vidembed.records.kind import PARQUET, RECORDS
from vidembed.records.origin import Origin
from vidembed.records.youtube8m import read_videos

FILES, RECORDS_EACH = 10, 1000
"""The number of files to look into, and the number of records in each."""
_KINDS = {
    "float_list": "floats",
    "int64_list": "integers",
    "bytes_list": "bytes",
    "": "values of another type",
}
_LABELS = re.compile("label|class|categor|tag", re.IGNORECASE)
_NUMBERED = re.compile(r"(.*?\D)(\d+)")
_LISTED = 30
NOTHING_FITS = "cannot be imported: each video needs an id and, per modality, a list of floats"


@dataclasses.dataclass
class Key:
    """One key: the number of records with values for it, the count of each kind and width, and the
    single integers and byte strings, which may be ids."""

    records: int = 0
    forms: Counter[tuple[str, int]] = dataclasses.field(default_factory=Counter)
    values: set[Any] = dataclasses.field(default_factory=set)

    def add(self, feature: Feature) -> None:
        """Count one record with this key."""
        if not len(feature.values):
            return
        self.records += 1
        self.forms[feature.kind, len(feature.values)] += 1
        if feature.kind in ("bytes_list", "int64_list") and len(feature.values) == 1:
            self.values.add(feature.values[0])

    @property
    def form(self) -> tuple[str, int]:
        """Its commonest kind and width."""
        return self.forms.most_common(1)[0][0] if self.forms else ("", 0)

    def __str__(self) -> str:
        widths = sorted({width for _, width in self.forms})
        span = f"{widths[0]} to {widths[-1]}" if len(widths) > 1 else f"{self.form[1]}"
        kinds = sorted({_KINDS[kind] for kind, _ in self.forms})
        return f"{' or '.join(kinds)} ({span} each)" if widths else "always empty"


@dataclasses.dataclass(frozen=True)
class Schema:
    """The keys of `records` records."""

    records: int
    keys: Mapping[str, Key]

    def lines(self) -> Iterator[str]:
        """One line per key."""
        for name, key in islice(sorted(self.keys.items()), _LISTED):
            lack = self.records - key.records
            yield f"{name}: {key}" + (f", {lack:,} of {self.records:,} lack it" if lack else "")
        if len(self.keys) > _LISTED:
            yield f"and {len(self.keys) - _LISTED:,} more keys"

    def fits(self, format: VideoLevel) -> bool:
        """Whether each part of the format occurs in some record."""
        if not self.keys:
            return True  # arrays, or files that cannot be read
        if not any(key in self.keys for key in format.id_keys):
            return False
        expected = {(modality.key, modality.width) for modality in format.modalities}
        present = {(n, width) for n, key in self.keys.items() for _, width in key.forms}
        fits = expected & present if format.missing == "mask" else expected <= present
        return bool(fits) and (format.labels_key is None or format.labels_key in self.keys)

    def fitting(self, format: VideoLevel, options: Reading) -> Reading | None:
        """Options that read such records: the given ones if they fit; None if nothing does."""
        if not self.fits(format):
            return self._reading(options)
        lacking = any(
            m.key in self.keys and self.keys[m.key].records < self.records
            for m in format.modalities
        )
        return dataclasses.replace(options, missing="mask") if lacking else options

    def _reading(self, options: Reading) -> Reading | None:
        """Options that read such records; None if they hold no vector of floats, or no id."""
        vectors = {n: key.form[1] for n, key in self.keys.items() if key.form[0] == "float_list"}
        wide = {name: width for name, width in vectors.items() if width > 1}
        modalities = wide or vectors
        names = [name_of(key) for key in modalities]
        ids = [key for key in (options.id_key, *VideoLevel.id_keys) if key in self.keys]
        ids = ids or [n for n, key in self.keys.items() if 0 < self.records == len(key.values)]
        if not all(names) or len({*names}) < len(names) or not names or not ids:
            return None
        integers = [
            n for n, key in self.keys.items() if key.form[0] == "int64_list" and n != ids[0]
        ]
        labels = [n for n in ("labels", *filter(_LABELS.search, integers)) if n in integers]
        lacking = any(self.keys[name].records < self.records for name in modalities)
        return dataclasses.replace(
            options,
            modalities=tuple(f"{n}:{k}:{w}" for n, (k, w) in zip(names, modalities.items())),
            id_key=ids[0] if ids[0] not in VideoLevel.id_keys else "",
            labels_key=labels[0] if labels else "",
            missing="mask" if lacking else options.missing,
        )


def advice(origin: Origin, path: str | PathLike[str], options: Reading) -> str:
    """The schema of files that do not fit the options, and the command to import them; else ""."""
    schema = schema_of(origin)
    if schema.fits(origin.format):
        return ""
    fit = schema.fitting(origin.format, options)
    command = f"\n{NOTHING_FITS}"
    if fit:
        command = f"\nimport it with: {import_command(path, fit, _dtype(origin, fit))}"
    return "\n  holds ".join([f"\n{fspath(path)}", *schema.lines()]) + command


def _dtype(origin: Origin, options: Reading) -> list[str]:
    """The option for the dtype: the given one, or what the first records need."""
    if given := getattr(options, "dtype", None):
        return ["--dtype", given]
    files = origin.shards[:: -(-len(origin.shards) // FILES)]
    checks = Checks(options.format().widths)
    skips = Skips(limit=2**62, quiet=True)
    for file in files:
        read = partial(origin.read or read_videos, file, options.format(), skips=skips)
        with contextlib.suppress(RecordError):
            for videos in islice(read(), 1):
                checks.add(fspath(file), videos)
    return dtype_options(checks)


def schema_of(origin: Origin) -> Schema:
    """The schema of the first records of some files; unreadable records are ignored."""
    keys: dict[str, Key] = {}
    records = 0
    files = origin.shards[:: -(-len(origin.shards) // FILES)]
    for features in _features(origin, files):
        records += 1
        for name, feature in features.items():
            keys.setdefault(name, Key()).add(feature)
    return Schema(records, keys)


def import_command(path: str | PathLike[str], options: Reading, more: Iterable[str] = ()) -> str:
    """The command line that imports `path` with these options."""
    words = ["python", "-m", "vidembed", "import", fspath(path), "TABLE"]
    if options.ids is not None:
        words += ["--ids", options.ids]
    elif options.chosen:
        words += ["--modalities", *options.modalities]
    if options.id_key:
        words += ["--id-key", options.id_key]
    if options.labels_key not in (None, VideoLevel.labels_key) and options.ids is None:
        words += ["--labels-key", options.labels_key]
    if options.missing not in (None, VideoLevel.missing):
        words += ["--missing", options.missing]
    return shlex.join([*words, *more])


def training_command(table: str | PathLike[str], modalities: Collection[str]) -> str:
    """The command line that trains on a table with these modalities."""
    words = ["python", "-m", "vidembed", "train", "cdml", "--preset", "laptop"]
    if len(modalities) == 1:
        words += ["task.model:single-modality", "--task.model.modality", *modalities]
    elif {*modalities} != {m.name for m in VideoLevel().modalities}:
        words += ["--task.model.modalities", *modalities]
    words += ["--workdir", "WORKDIR", "--corpus.table", fspath(table), "--corpus.edges", "EDGES"]
    return shlex.join(words)


def _features(origin: Origin, files: Iterable[Any]) -> Iterator[Mapping[str, Feature]]:
    for file in files:
        if origin.kind == RECORDS:
            payloads = read_records(file, skips=Skips(limit=RECORDS_EACH, quiet=True))
            try:
                for payload in islice(payloads, RECORDS_EACH):
                    with contextlib.suppress(MessageError):
                        yield parse_example(payload)
            except RecordError:
                continue
        elif origin.kind == PARQUET:
            yield from _rows(file)


def _rows(file: Any) -> Iterator[dict[str, Feature]]:
    try:
        with file.open("rb") as stream:
            parquet = pq.ParquetFile(stream)
            rows = next(parquet.iter_batches(RECORDS_EACH), None)
            for row in rows.to_pylist() if rows is not None else []:
                yield _joined({name: _feature(value) for name, value in row.items()})
    except (pa.ArrowException, UnicodeDecodeError, OSError):
        return


def _joined(row: dict[str, Feature]) -> dict[str, Feature]:
    """Join numbered columns of floats into one vector."""
    joined: dict[str, Feature] = {}
    for name, feature in row.items():
        match = _NUMBERED.fullmatch(name)
        if match and feature.kind == "float_list" and len(feature.values) == 1:
            name = match[1]
            vector = joined.get(name, Feature("float_list", []))
            feature = Feature("float_list", [*vector.values, *feature.values])
        joined[name] = feature
    return joined


def _feature(value: Any) -> Feature:
    values = value if isinstance(value, list) else [] if value is None else [value]
    first = values[0] if values else None
    if isinstance(first, float):
        return Feature("float_list", values)
    if isinstance(first, int):
        return Feature("int64_list", values)
    return Feature("bytes_list" if isinstance(first, (str, bytes)) else "", values)
