"""Assign semantic IDs to stored vectors, in a Parquet file that is written atomically.

`OUT.parquet` has the columns video_id, code_1 to code_L and tie; `OUT.codebook` beside it encodes
later vectors. An assigned ID never changes.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from etils import epath

from vidembed import files
from vidembed.deploy.stored_vectors import StoredVectors, read_vectors
from vidembed.progress import Progress
from vidembed.records import tabular
from vidembed.records.outputs import SEMANTIC_IDS, OutputError, check_apart
from vidembed.records.tabular import DIGEST_KEY
from vidembed.serving import given
from vidembed.serving.semantic_ids import ITERATIONS, CodebookError, Codebooks, numbered

TIE = "tie"


class IdsError(ValueError):
    """A file of semantic IDs that is damaged, is another kind of file, or does not fit."""


REMEDY = "restore it from a copy, or make new IDs for all videos"
IDS = tabular.Kind(
    what="semantic IDs (the Parquet file of `python -m vidembed semantic-ids`)",
    give="the Parquet file that `python -m vidembed semantic-ids` wrote",
    refused=IdsError,
)


@dataclass(frozen=True, kw_only=True, eq=False)
class SemanticIds:
    """IDs of N videos: codes, and a tie number that distinguishes videos with equal codes."""

    ids: np.ndarray
    """S[N]"""
    codes: np.ndarray
    """i32[N, L]"""
    ties: np.ndarray
    """i32[N]"""
    made: dict[str, Any]
    """space, sizes, seed, codebook (its digest), arguments (`asked`); and for the vectors encoded
    last: quality, how many got an ID (`new`), and how many kept one although their codes would now
    be different (`changed`)."""
    digest: str = ""
    """Digest of the file, once it is written."""


def codebook_of(path: str | os.PathLike[str]) -> Path:
    """The path of the codebooks beside the IDs; ValueError for any suffix but `.parquet`."""
    place = files.local_path(path)
    if place.suffix != ".parquet":
        raise ValueError(
            f"{place}: semantic IDs are a Parquet file; give a name that ends in .parquet"
        )
    return place.with_suffix(".codebook")


def read_ids(path: str | os.PathLike[str]) -> SemanticIds:
    """Read stored IDs; IdsError for a missing or damaged file, or one of another kind."""
    table = tabular.read_table(epath.Path(path), IDS)
    made = tabular.read_mark(path, table.schema.metadata, IDS).get("semantic_ids")
    digest = (table.schema.metadata or {}).get(DIGEST_KEY)
    if made is None or digest is None:
        raise IdsError(f"{os.fspath(path)}: holds no semantic IDs; give {IDS.give}")
    tabular.check_digest(path, table, REMEDY, IDS)
    codes = [table[f"code_{level}"].to_numpy() for level in range(1, len(made["sizes"]) + 1)]
    return SemanticIds(
        ids=given.names(table["video_id"].to_pylist()),
        codes=np.stack(codes, axis=1),
        ties=table[TIE].to_numpy(),
        made=made,
        digest=digest.decode(),
    )


def assign_ids(
    vectors: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    sizes: Sequence[int] = (256, 256, 256),
    seed: int = 0,
    codebook: str | os.PathLike[str] | None = None,
    continued: str | os.PathLike[str] | None = None,
    force: bool = False,
    progress: Progress | None = None,
) -> tuple[SemanticIds, bool]:
    """Write the IDs of stored vectors (`read_vectors`); return (IDs, whether they already existed).

    codebook: a file of codebooks to encode with; None fits new ones of these sizes with this seed.
    continued: earlier IDs, copied unchanged into the new file; other videos are encoded with the
    codebook beside them, unless `codebook` is given. force: replace other IDs at `out`. Raises
    whatever reading the inputs raises, OutputError if `out` is one of them or holds something else,
    and IdsError if the codebook is not the one of the continued IDs.
    """
    progress = progress or Progress()
    if continued and not codebook:
        codebook = codebook_of(continued)
    place, beside = Path(out), codebook_of(out)
    inputs = [path for path in (vectors, codebook, continued) if path]
    place = SEMANTIC_IDS.check(place, inputs)
    check_apart(beside, inputs)
    with progress.stage(f"reading {os.fspath(vectors)}"):
        stored = read_vectors(vectors)
        old = read_ids(continued) if continued else None
        books = Codebooks.open(codebook) if codebook else None
    if old and books and books.digest != old.made["codebook"]:
        raise IdsError(
            f"{codebook} is not the codebook of {continued}: its codes would have another meaning; "
            "give the one that was written with these IDs"
        )
    arguments = {
        "vectors": stored.digest,
        "by": {"codebook": books.digest} if books else {"sizes": list(sizes), "seed": seed},
        "continued": old.digest if old else None,
    }
    existing = read_ids(place) if place.exists() and not force else None
    if existing and existing.made["asked"] != arguments:
        raise OutputError(
            f"{place} exists and holds other semantic IDs: choose another place, or replace "
            "them (--force)"
        )
    if existing and beside.exists() and Codebooks.open(beside).digest == existing.made["codebook"]:
        return existing, True
    if books is None:
        name, steps = f"fitting codebooks of {', '.join(map(str, sizes))}", len(sizes) * ITERATIONS
        with progress.stage(name, steps, "iterations") as stage:
            options: dict[str, Any] = {"seed": seed, "on_iteration": stage.update}
            books = Codebooks.fit(stored.vectors, sizes, space=stored.space, **options)
    with progress.stage("encoding"):
        made = _assigned(stored, books, old, arguments)
    _refuse_other_codebook(beside, books, force)
    books.save(beside)
    return _write(made, place), False


def _assigned(
    stored: StoredVectors, books: Codebooks, old: SemanticIds | None, arguments: dict[str, Any]
) -> SemanticIds:
    codes = books.encode(stored.vectors, space=stored.space)
    made = {
        "space": books.space,
        "sizes": list(books.sizes),
        "seed": books.seed,
        "codebook": books.digest,
        "quality": books.quality(stored.vectors, codes),
        "new": len(codes),
        "changed": 0,
        "asked": arguments,
    }
    if old is None:
        ties = numbered(codes, stored.ids)
        return SemanticIds(ids=stored.ids, codes=codes, ties=ties, made=made)
    new = ~np.isin(stored.ids, old.ids)
    order = np.argsort(old.ids)
    known = order[np.searchsorted(old.ids, stored.ids[~new], sorter=order)]
    changed = (old.codes[known] != codes[~new]).any(axis=1)
    codes, ids = codes[new], stored.ids[new]
    ties = numbered(codes, ids, (old.codes, old.ties))
    return SemanticIds(
        ids=np.concatenate([old.ids, ids]),
        codes=np.concatenate([old.codes, codes]),
        ties=np.concatenate([old.ties, ties]),
        made=made | {"new": len(ids), "changed": int(changed.sum())},
    )


def _refuse_other_codebook(beside: Path, books: Codebooks, force: bool) -> None:
    """Refuse to overwrite another codebook, without which its IDs are lost. A killed run leaves the
    same one."""
    if not beside.exists() or force:
        return
    try:
        same = Codebooks.open(beside).digest == books.digest
    except CodebookError:
        same = False
    if not same:
        raise OutputError(
            f"{beside} exists and is not the codebook of these IDs: choose another place, or "
            "replace it (--force)"
        )


def _write(made: SemanticIds, place: Path) -> SemanticIds:
    try:
        ids = pa.array(made.ids, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid as error:
        raise IdsError(f"an id is not UTF-8 text ({error}), so it cannot be stored") from error
    columns = {f"code_{level}": codes for level, codes in enumerate(made.codes.T, 1)}
    table = pa.table({"video_id": ids, **columns, TIE: made.ties})
    table = tabular.marked(table, {"semantic_ids": made.made})
    with files.whole_file(place) as unfinished:
        pq.write_table(table, unfinished, write_page_checksum=True)
    return replace(made, digest=table.schema.metadata[DIGEST_KEY].decode())
