"""What an inspection says of videos that passed its checks, in words."""

from collections.abc import Sequence

from etils import epath

from vidembed.records.checks import Checks
from vidembed.records.crcs import HEADER, is_gzip
from vidembed.records.faults import ContentError, RecordError
from vidembed.records.kind import RECORDS
from vidembed.records.origin import Origin
from vidembed.records.rounding import WARN_ABOVE

_ALLOWED_CLIPPED = 0.01  # as an import allows it


def shard_facts(
    origin: Origin, checks: Checks, unreadable: Sequence[RecordError]
) -> dict[str, str]:
    """Of the files: their number, their records, and whether their bytes are sound."""
    records = [checks.records.get(name, 0) for name in origin.names]
    broken = len({error.path for error in unreadable})
    other = sum(isinstance(error, ContentError) for error in unreadable)
    lacking = f", {other:,} without what is asked of them" if other else ""
    span = f"{min(records):,} to {max(records):,} a shard{lacking}"
    facts = {"records": f"{checks.rows:,} readable, {span}"}
    if origin.kind != RECORDS:
        files = f"{len(origin.files)}, of the kind {origin.kind}, {broken} with unreadable rows"
        return {"files": files, **facts}
    gzip = sum(map(_compressed, origin.files))
    return {
        "shards": f"{len(origin.files)}, {gzip} of them gzip, {broken} with unreadable records",
        **facts,
        "checksums": f"crc32c of every length and payload read; {len(unreadable) - other:,} faults",
    }


def content_facts(checks: Checks, *, labels_key: str | None = "") -> dict[str, str]:
    """Of each modality, of ids and labels (labels_key None: there are none)."""
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
        if (share := modality.rounding.share("uint8")) > WARN_ABOVE:
            facts[name] += f"; uint8 would round by {share:.1%} of the spread"
        if modality.rounding.alike:
            facts[name] += "; all videos alike"
    facts["ids"] = f"{checks.distinct:,} distinct, {checks.duplicates.count:,} repeated"
    if checks.not_text.count:
        facts["ids"] += f", {checks.not_text.count:,} not UTF-8 ({checks.not_text.named[0]})"
    labels = sum(checks.labels.values())
    facts["labels"] = (
        f"{len(checks.labels):,} distinct, {labels / max(1, checks.rows):.2f} a video, "
        f"{checks.without_labels:,} videos without"
    )
    if labels_key is None:
        facts["labels"] = "none are read"
    return facts


def dtype_options(checks: Checks) -> list[str]:
    """The option of the smallest dtype that keeps what was seen; none where that is uint8."""
    seen = [modality for modality in checks.modalities.values() if modality.values]
    fitting = {modality.fitting for modality in seen}
    if any(modality.clipped_share > _ALLOWED_CLIPPED for modality in seen):
        fitting.add("bfloat16")
    largest = [dtype for dtype in ("float32", "bfloat16") if dtype in fitting]
    return ["--dtype", largest[0]] if largest else []


def _compressed(file: epath.Path) -> bool:
    with file.open("rb") as stream:
        return is_gzip(stream.read(HEADER.size))
