"""Load a run from its work directory or an export, without its data or training script."""

import functools
import os
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from etils import epath

from vidembed import files
from vidembed.deploy.clip_outputs import ClipOutputs
from vidembed.deploy.run import Run
from vidembed.distributed.mesh import MeshShape, make_mesh
from vidembed.engine.model import Model, load_model
from vidembed.records.export_folder import CLIPS, read_export
from vidembed.records.rows import Rows, float_rows
from vidembed.records.split import split_options
from vidembed.workdir.layout import Workdir

if TYPE_CHECKING:
    from vidembed.deploy.text_queries import TextQueries


def load(
    path: str | os.PathLike[str],
    step: str | int = "best",
    *,
    output: str = "video",
    classes: Collection[type] = (),
) -> Run:
    """Load the run of a work directory, an export or a composite, local or gs://, onto the devices.

    Needs neither the training data nor the training script. step: "best" (by its evaluations),
    "latest", or a number; an export has only one, and a composite names its own. output: the task's
    output that embeds videos. classes: parts of the recipe that do not belong to vidembed. Raises
    ValueError if there is no run, or if it is of a version that did not store the sizes of its
    model; CheckpointError if it has no checkpoint of that step.
    """
    place = epath.Path(path)
    if (place / "composite.json").exists():
        from vidembed.deploy.composite import read_composite

        return read_composite(place)
    if not (place / "model.json").exists():
        return opened(place, step, output, classes)[0]
    about, compute = read_export(place)
    if CLIPS in about:
        raise ValueError(
            f"{place} is the encoder of a run on clips: it is a backbone of `vidembed extract` "
            f"(--backbones {place}), and no run"
        )
    if step not in ("best", "latest", about["step"], str(about["step"])):
        raise ValueError(f"{place} is an export of step {about['step']} only, not {step}")
    return Run(
        compute,
        name=str(place),
        step=about["step"],
        output=about["output"],
        widths={m: entry["width"] for m, entry in about["features"].items()},
        inputs={m: e["space"] for m, e in about["features"].items() if e["space"] is not None},
        space=about["space"],
        imported=about.get("imported", {}),
        split=about.get("split", {}),
    )


def opened(
    path: str | os.PathLike[str], step: str | int, output: str, classes: Collection[type] = ()
) -> tuple[Run, Model]:
    """The run of a work directory, as from `load`, with its model."""
    place = epath.Path(path)
    if not (place / "recipe.json").exists():
        raise ValueError(
            f"{place} holds no run (no recipe.json): give the work directory of a run, or an export"
        )
    workdir = Workdir(place)
    mesh = make_mesh(MeshShape())
    model = load_model(workdir, str(step), outputs=(output,), mesh=mesh, classes=classes)
    stored = workdir.read_recipe() or {}
    known = stored["spec"].get("widths", {})
    reads = getattr(model.recipe.task, "reads", ())
    if clip := stored["spec"].get("clip"):
        return _of_clips(str(place), model, output, clip, stored), model
    if not reads or any(modality not in known for modality in reads):
        raise ValueError(
            f"{place}: its task reads {list(reads)}, but the widths of these are not stored, so it "
            "cannot embed features; vidembed.engine.model.load_model gives its raw outputs"
        )
    space = {m: name for m, name in stored.get("space", {}).items() if m in reads}

    def texts(encoder: str | os.PathLike[str] | None) -> "TextQueries":
        from vidembed.deploy.text_queries import TextQueries

        return TextQueries.open(workdir, model.step, mesh=mesh, classes=classes, encoder=encoder)

    embeds_text: Any = functools.cache(texts)  # restored when it is first used
    run = Run(
        model[output],
        name=str(place),
        step=model.step,
        output=output,
        widths={modality: known[modality] for modality in reads},
        inputs=space,
        space=model.space(output, space),
        imported=stored.get("imported", {}),
        split=split_options(model.recipe.corpus),
        texts=embeds_text if "text" in model.recipe.task.outputs else None,
        frames_of=getattr(model.recipe.task, "attention", ()),
    )
    return run, model


def _of_clips(
    name: str, model: Model, output: str, clip: Sequence[int], stored: Mapping[str, Any]
) -> Run:
    """A run on clips, which embeds videos through its `clips`; of a feature table it takes the
    vectors that were made so."""
    known = stored["spec"].get("widths", {})
    inputs = {m: space for m, space in stored.get("space", {}).items() if m in known}
    outputs = ClipOutputs(model, output, clip, inputs, name)
    space = outputs.spaces[output]

    def vectors(source: Rows, rows: np.ndarray) -> np.ndarray:
        return float_rows(source, output, rows)

    return Run(
        vectors,
        name=name,
        step=model.step,
        output=output,
        widths={output: outputs.widths[output]},
        inputs={output: space},
        space=space,
        clips=outputs,
    )


def reads_clips(path: str | os.PathLike[str]) -> bool:
    """Whether this is the work directory of a run on clips of videos."""
    stored = files.read_json(epath.Path(path) / "recipe.json") or {}
    return bool(stored.get("spec", {}).get("clip"))


def class_names(path: str | os.PathLike[str]) -> tuple[str, ...]:
    """The names of the classes that a run, or an export of one, gives probabilities for; () for
    others."""
    place = epath.Path(path)
    if (place / "model.json").exists():
        return tuple((files.read_json(place / "model.json") or {}).get("labels", ()))
    stored = files.read_json(place / "recipe.json") or {}
    return tuple(stored.get("spec", {}).get("class_names", ()))
