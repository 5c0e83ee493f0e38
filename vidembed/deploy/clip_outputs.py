"""The outputs of a run that reads clips of videos: vectors of videos and of their clips."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import xxhash

from vidembed.deploy.inputs import InputError
from vidembed.distributed import mesh as meshes
from vidembed.engine.model import Model
from vidembed.records.space import check_same_space
from vidembed.records.tabular import LISTED

_log = logging.getLogger(__name__)
BLOCK_CLIPS = 64
"""Clips that the network sees at once: their activations take most of the memory."""


class ClipVectors(NamedTuple):
    """What a run makes of n videos with at most N clips each."""

    videos: dict[str, np.ndarray]
    """Output → f32[n, D]; meaningless for a video without a clip."""
    clips: dict[str, np.ndarray]
    """Output → f32[n, N, D]; 0 for missing clips."""
    present: np.ndarray
    """bool[n, N]: which clips there are."""
    seconds: np.ndarray
    """f32[n, N]: when each clip begins."""


class ClipOutputs:
    """Embeds videos by evenly spread clips: decoded, or windows of the features of frames.

    The outputs are those that read the same clips and need the same parameters as the output that
    embeds videos. size: D. spaces: output → its space. inputs: modality → the space of the stored
    features that are read; {} for decoded clips.
    """

    def __init__(
        self, model: Model, output: str, clip: Sequence[int], inputs: Mapping[str, str], name: str
    ) -> None:
        """clip: (T, H, W, 3) or (T, F), as the model was trained on."""
        task: Any = model.recipe.task
        first = task.outputs[output]
        self.name, self._model, self._read = name, model, first.read
        outputs = {
            name: each
            for name, each in task.outputs.items()
            if each.needs == first.needs and each.read == first.read
        }
        self._part = model.arrays(output)
        self._paths: Any = model.recipe.corpus
        self.cut = task.embedded
        self.of_files, self.clip = len(clip) == 4, tuple(clip)
        self.inputs = {} if self.of_files else dict(inputs)
        self.spaces = {each: model.space(each, inputs) for each in outputs}

        def every(parameters: Any, state: Any, arrays: Any) -> dict[str, jax.Array]:
            return {name: each.apply(parameters, state, arrays) for name, each in outputs.items()}

        self._apply, self._every = every, jax.jit(every)
        one = jax.ShapeDtypeStruct((1, 1, *clip), jnp.uint8 if self.of_files else jnp.float32)
        arrays = {"clips": one, "present": jax.ShapeDtypeStruct((1, 1), jnp.bool_)}
        shapes = jax.eval_shape(every, self._part["parameters"], self._part["state"], arrays)
        self.widths = {name: int(shape.shape[-1]) for name, shape in shapes.items()}
        self.of_clips = tuple(name for name, shape in shapes.items() if len(shape.shape) == 3)
        self.of_videos = tuple(name for name in shapes if name not in self.of_clips)

    def open(self, paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]) -> Any:
        """The videos at some paths, as their run reads them: files, folders and lists of videos, or
        the folder of one backbone in which `vidembed extract --features` has stored features.

        Raises InputError for the other kind, SpaceError for features of another backbone, and
        ValueError for paths without videos.
        """
        paths = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
        source = self._paths.others(paths)
        given = ", ".join(os.fspath(path) for path in paths)
        if self.of_files and not source.files:
            raise InputError(
                f"{self.name} decodes clips of video files, and {given} holds features of frames: "
                "give the videos themselves"
            )
        if self.inputs and not source.stored:
            [space] = self.inputs.values()
            raise InputError(
                f"{self.name} reads windows of stored features, and {given} holds video files: "
                f"extract them (vidembed extract VIDEOS TABLE --features FEATURES), and give "
                f"FEATURES/{space}"
            )
        check_same_space(self.inputs, source.space, names=(self.name, given))
        return source

    @property
    def most(self) -> int:
        """N, the clips of a video at most."""
        return int(self.cut.clips)

    def blocks(self, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Rows i64[n] of a source in blocks that `__call__` takes at once."""
        block = max(1, BLOCK_CLIPS // self.most)
        return iter(np.array_split(rows, range(block, len(rows), block)))

    def __call__(self, source: Any, rows: np.ndarray) -> ClipVectors:
        """The vectors of a block of videos i64[n] of a source; see `blocks`. Videos that cannot be
        read have no clip, and a reason in `source.failures`."""
        arrays = self._read(source, rows)
        begins, present = arrays.pop("begins"), arrays["present"]
        mesh, block = self._model.mesh, max(1, BLOCK_CLIPS // self.most)
        # Every block has the same shape, so that it is compiled once.
        padded = np.minimum(np.arange(-(-block // mesh.size) * mesh.size), len(rows) - 1)
        with jax.set_mesh(mesh):
            arrays = {name: array[padded] for name, array in arrays.items()}
            placed = meshes.place_batch(mesh, arrays, dict.fromkeys(arrays, 0))
            made = self._every(self._part["parameters"], self._part["state"], placed)
        found = {name: np.asarray(array)[: len(rows)] for name, array in made.items()}
        seconds = source.seconds(rows, begins, getattr(self.cut, "rate", None))
        return ClipVectors(
            {name: found[name] for name in self.of_videos},
            {name: found[name] for name in self.of_clips},
            present,
            np.where(present, seconds, 0),
        )

    def of_single(self, clips: np.ndarray) -> dict[str, np.ndarray]:
        """The vectors f32[n, D] of single clips [n, ...], by output."""
        weights, program = self.program()
        return {name: np.asarray(of) for name, of in jax.jit(program)(weights, clips).items()}

    def program(self) -> tuple[dict[str, np.ndarray], Callable[[Any, Any], dict[str, jax.Array]]]:
        """(weights by name, (weights, clips [n, ...]) → output → f32[n, D]): the encoder of single
        clips as a pure function."""
        leaves, tree = jax.tree_util.tree_flatten_with_path(self._part)
        named = {jax.tree_util.keystr(p, simple=True, separator="/"): leaf for p, leaf in leaves}

        def program(weights: Any, clips: Any) -> dict[str, jax.Array]:
            part = jax.tree_util.tree_unflatten(tree, [weights[name] for name in named])
            arrays = {"clips": clips[:, None], "present": jnp.ones((clips.shape[0], 1), jnp.bool_)}
            made = self._apply(part["parameters"], part["state"], arrays)
            return {name: made[name][:, 0] for name in self.of_clips}

        return {name: np.asarray(leaf) for name, leaf in named.items()}, program

    def embed(
        self, paths: str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
    ) -> tuple[np.ndarray, ClipVectors]:
        """(ids S[n], their vectors) of the videos at some paths (see `open`), all in memory; those
        without a clip are left out, with a warning. Raises InputError if none is left."""
        source = self.open(paths)
        each = [self(source, rows) for rows in self.blocks(np.arange(len(source)))]
        whole = jax.tree.map(lambda *parts: np.concatenate(parts), *each)
        there = whole.present.any(axis=1)
        if not there.all():
            names = ", ".join(source.name(row) for row in np.flatnonzero(~there)[:LISTED].tolist())
            counts = f"{int((~there).sum()):,} of {len(there):,}"
            if not there.any():
                raise InputError(f"{counts} videos cannot be read, such as {names}")
            _log.warning("%s videos cannot be read, and are left out: %s", counts, names)
        return source.ids[there], jax.tree.map(lambda array: array[there], whole)


def key_of(source: Any, rows: np.ndarray) -> bytes:
    """A digest of the ids and files of some videos, 16 bytes."""
    digest = xxhash.xxh3_128()
    for row in rows.tolist():
        digest.update(repr((source.ids[row], sorted(source.origin(row).items()))).encode())
    return digest.digest()
