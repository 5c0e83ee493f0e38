"""The facts that `inspect` reports about videos, in words."""

from collections.abc import Sequence

from etils import epath

from vidembed.records.checks import Checks
from vidembed.records.crcs import HEADER, is_gzip
from vidembed.records.faults import ContentError, RecordError
from vidembed.records.kind import RECORDS
from vidembed.records.origin import Origin
from vidembed.records.rounding import WARN_ABOVE

_ALLOWED_CLIPPED = 0.01  # the default of an import


def shard_facts(
    origin: Origin, checks: Checks, unreadable: Sequence[RecordError]
) -> dict[str, str]:
    """Facts about the files: their number, their records, and whether the bytes are intact."""
    records = [checks.records.get(name, 0) for name in origin.names]
    broken = len({error.path for error in unreadable})
    incomplete = sum(isinstance(error, ContentError) for error in unreadable)
    lacking = f", {incomplete:,} without expected content" if incomplete else ""
    span = f"{min(records):,} to {max(records):,} per shard{lacking}"
    facts = {"records": f"{checks.rows:,} readable, {span}"}
    if origin.kind != RECORDS:
        files = f"{len(origin.files)} ({origin.kind}), {broken} with unreadable rows"
        return {"files": files, **facts}
    gzip = sum(map(_compressed, origin.files))
    return {
        "shards": f"{len(origin.files)}, {gzip} of them gzip, {broken} with unreadable records",
        **facts,
        "checksums": "crc32c of every length and payload read; "
        f"{len(unreadable) - incomplete:,} faults",
    }


def content_facts(checks: Checks, *, labels_key: str | None = "") -> dict[str, str]:
    """Facts about each modality, ids and labels (labels_key None: no labels are read)."""
    facts = {}
    for name, modality in checks.modalities.items():
        if not modality.values:
            facts[name] = f"width {modality.width}, no values"
            continue
        facts[name] = (
            f"width {modality.width}, values {modality.low:.4g} to {modality.high:.4g}, "
            f"{modality.clipped_share:.2%} beyond uint8's {modality.range}; "
            f"{modality.missing:,} missing, "
            f"{modality.not_finite.count:,} with NaN or infinity, {modality.all_zero.count:,} zero"
        )
        if (share := modality.rounding.share("uint8")) > WARN_ABOVE:
            facts[name] += f"; uint8 would round by {share:.1%} of the spread"
        if modality.rounding.alike:
            facts[name] += "; all videos identical"
    facts["ids"] = f"{checks.distinct:,} distinct, {checks.duplicates.count:,} repeated"
    if checks.not_text.count:
        facts["ids"] += f", {checks.not_text.count:,} not UTF-8 ({checks.not_text.named[0]})"
    labels = sum(checks.labels.values())
    facts["labels"] = (
        f"{len(checks.labels):,} distinct, {labels / max(1, checks.rows):.2f} per video, "
        f"{checks.without_labels:,} videos without"
    )
    if labels_key is None:
        facts["labels"] = "not read"
    return facts


def dtype_options(checks: Checks) -> list[str]:
    """The option for the smallest dtype that preserves the values; none if that is uint8."""
    nonempty = [modality for modality in checks.modalities.values() if modality.values]
    fitting = {modality.fitting for modality in nonempty}
    if any(modality.clipped_share > _ALLOWED_CLIPPED for modality in nonempty):
        fitting.add("bfloat16")
    largest = [dtype for dtype in ("float32", "bfloat16") if dtype in fitting]
    return ["--dtype", largest[0]] if largest else []


def _compressed(file: epath.Path) -> bool:
    with file.open("rb") as stream:
        return is_gzip(stream.read(HEADER.size))
