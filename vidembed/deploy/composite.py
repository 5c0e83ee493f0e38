"""Combine several runs: concatenate their unit vectors, each scaled by the root of its weight.

The cosine of two such vectors is the weighted mean of the runs' cosines. A composite is a folder
with one JSON file that names its runs and the space of each; it loads, embeds and indexes like a
run. `vidembed export` turns it into files that need none of the runs.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import xxhash
from etils import epath

from vidembed import files
from vidembed.deploy.inputs import VideoRows
from vidembed.deploy.loading import load
from vidembed.deploy.run import Run
from vidembed.pairwise import normalise
from vidembed.records.outputs import check_apart
from vidembed.records.space import check_same_space

KIND, VERSION = "vidembed composite", 1
ABOUT = "composite.json"
EXPORT, RECIPE = "model.json", "recipe.json"
"""The files that identify an export and a work directory."""


class Part(NamedTuple):
    """A run with its weight."""

    run: Run
    weight: float


def compose(
    out: str | os.PathLike[str],
    runs: Sequence[str],
    weights: Sequence[float] = (),
    step: str = "best",
) -> dict[str, Any]:
    """Write a composite of work directories and exports; return the contents of its JSON.

    runs: RUN or RUN@STEP; `step` is the default. weights: one per run; without any, all are equal.
    Only their ratios count. Raises ValueError for fewer than two runs, a run named twice, weights
    that are not above zero, and runs that differ in videos, split or feature widths; SpaceError for
    runs whose features come from different spaces.
    """
    check_apart(out, [name.rpartition("@")[0] or name for name in runs])
    weights = list(weights) or [1.0] * len(runs)
    check(runs, weights)
    folder = epath.Path(out)
    if (folder / ABOUT).exists():
        raise ValueError(f"{folder} is a composite already: choose another folder, or remove it")
    named = [named_run(name, step) for name in runs]
    parts = [Part(load(place, at), weight) for (place, at), weight in zip(named, weights)]
    about = {
        "kind": KIND,
        "version": VERSION,
        "parts": [
            {"run": place, "step": run.step, "weight": weight, "space": run.space}
            for (place, _), (run, weight) in zip(named, parts)
        ],
        "rows": _same_rows([place for place, _ in named]),
    }
    joined = joint(parts, str(folder))
    files.write_json(folder / ABOUT, about | {"space": joined.space})
    return about | {"space": joined.space}


def is_composite(path: str | os.PathLike[str]) -> bool:
    """Whether the folder holds a composite."""
    return bool((epath.Path(path) / ABOUT).exists())


def read_composite(path: str | os.PathLike[str]) -> Run:
    """The composite in a folder. Raises ValueError if it is damaged, or if one of its runs has been
    replaced."""
    return joint(parts_of(path), os.fspath(path))


def parts_of(path: str | os.PathLike[str]) -> list[Part]:
    """The runs of a composite; see `read_composite`."""
    place = epath.Path(path) / ABOUT
    about = files.read_json(place)
    if not isinstance(about, dict) or about.get("kind") != KIND or about.get("version") != VERSION:
        raise ValueError(f"{place} does not describe a composite of version {VERSION}")
    parts = []
    for entry in about["parts"]:
        run = load(entry["run"], entry["step"])
        if run.space != entry["space"]:
            raise ValueError(
                f"{place}: {entry['run']} now makes vectors in the space {run.space!r}, when it "
                f"was composed in {entry['space']!r}: it was trained again; compose it again"
            )
        parts.append(Part(run, entry["weight"]))
    return parts


def joint(parts: Sequence[Part], name: str) -> Run:
    """Combine runs into one. Raises ValueError or SpaceError if their input features differ."""
    widths: dict[str, int] = {}
    inputs: dict[str, str] = {}
    for run, _ in parts:
        check_same_space(inputs, run.inputs, names=("the runs before it", run.name))
        for modality, width in run.widths.items():
            if widths.setdefault(modality, width) != width:
                raise ValueError(
                    f"{run.name} reads {modality} of {width} features, the runs before it of "
                    f"{widths[modality]}: they cannot be combined"
                )
        inputs |= run.inputs
    total = sum(weight for _, weight in parts)
    spaces = [[run.space, round(weight / total, 9)] for run, weight in parts]
    first = parts[0].run.imported
    return Run(
        Composite(parts),
        name=name,
        step=0,
        output="video",
        widths=widths,
        inputs=inputs,
        space=f"{len(parts)} runs, {xxhash.xxh3_64_hexdigest(json.dumps(spaces).encode())}",
        imported=first if all(run.imported == first for run, _ in parts) else {},
    )


class Composite:
    """Computes the joined unit vectors of several runs."""

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = list(parts)

    def __call__(self, source: Any, rows: np.ndarray) -> np.ndarray:
        """f32[N, sum of D] for the rows i64[N]; if a video has none of the modalities that a run
        reads, the run's part is zeros."""
        vectors = []
        for run, _ in self._parts:
            features = {m: source.features[m] for m in run.widths}
            present = {m: source.present[m] for m in run.widths if m in source.present}
            readable = has_any_modality({m: present[m][rows] for m in present}, run.widths)
            videos = VideoRows(features=features, present=present, ranges=source.ranges)
            part = run.compute(videos, rows)
            vectors.append(part if readable is None else np.where(readable[:, None], part, 0))
        return np.asarray(side_by_side(vectors, [weight for _, weight in self._parts]))


def has_any_modality(present: Mapping[str, Any], widths: Mapping[str, int]) -> Any:
    """bool[N]: videos that have any of the modalities; None if all do."""
    if set(widths) - set(present):
        return None
    return np.logical_or.reduce([present[m] for m in widths])


def side_by_side(vectors: Sequence[Any], weights: Sequence[float]) -> Any:
    """Join f32[N, D] of each run into f32[N, sum of D] of unit length. The parts are scaled by the
    roots of the weights, so that the cosine is the weighted mean of the runs' cosines."""
    scaled = [normalise(jnp.asarray(v)) * math.sqrt(w) for v, w in zip(vectors, weights)]
    return normalise(jnp.concatenate(scaled, axis=-1))


def check(runs: Sequence[str], weights: Sequence[float]) -> None:
    """Raise ValueError, with the run's name, for runs and weights that cannot be combined."""
    if len(runs) < 2:
        raise ValueError(f"a composite needs at least two runs, found {len(runs)}")
    repeated = {name for name in runs if list(runs).count(name) > 1}
    if repeated:
        raise ValueError(f"named twice: {', '.join(sorted(repeated))}; give it a larger weight")
    if len(weights) != len(runs):
        raise ValueError(f"{len(runs)} runs need {len(runs)} weights, found {len(weights)}")
    for name, weight in zip(runs, weights):
        if not 0 < weight < float("inf"):
            raise ValueError(
                f"the weight of {name} is {weight}: give a number above zero, or leave the run out"
            )


def named_run(name: str, step: str) -> tuple[str, str]:
    """(path, step) from RUN or RUN@STEP; a local path becomes absolute."""
    place, at, named = name.rpartition("@")
    if not at or "/" in named:
        place, named = name, step
    return (place if files.is_remote(place) else str(Path(place).expanduser().resolve())), named


def _same_rows(places: Sequence[str]) -> str | None:
    """The digest of the runs' training data, if known; raises ValueError if they differ."""
    known = {place: rows_of(place) for place in places}
    digests = {place: rows for place, rows in known.items() if rows is not None}
    if len(set(digests.values())) > 1:
        listed = "; ".join(f"{place}: {rows}" for place, rows in digests.items())
        raise ValueError(
            f"the runs were trained on different videos, relations or splits ({listed}): one run's "
            "held-out videos may be in another's training split. Train them on one corpus"
        )
    return next(iter(digests.values()), None)


def rows_of(path: str | os.PathLike[str]) -> str | None:
    """The digest of the data behind a run, an export or a composite; None if unknown."""
    place = epath.Path(path)
    if (place / EXPORT).exists():
        rows = (files.read_json(place / EXPORT) or {}).get("rows")
    elif is_composite(place):
        rows = (files.read_json(place / ABOUT) or {}).get("rows")
    else:
        rows = (files.read_json(place / RECIPE) or {}).get("fingerprints", {}).get("corpus")
    return None if rows is None else str(rows)
