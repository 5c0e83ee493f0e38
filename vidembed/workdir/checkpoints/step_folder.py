"""The folder that holds one folder a step, as this process sees it on the disk now."""

import shutil
from typing import Any

import jax
import jax.numpy as jnp
from etils import epath

from vidembed import files
from vidembed.workdir.checkpoints.record import (
    CheckpointError,
    DigestError,
    VanishedError,
    read_record,
)

# How Orbax names what it has not finished, and marks what it has where folders cannot be renamed.
_UNFINISHED = ".orbax-checkpoint-tmp"
_FINISHED = "commit_success.txt"
FREE_SPACE = " Free some space, keep fewer checkpoints, and start again: it resumes from there."
_DELETED = ".deleted"
_DAMAGED = ".damaged"


class StepFolder:
    """Which steps are durable, what they say of themselves, and how one goes."""

    def __init__(self, path: epath.PathLike) -> None:
        path = epath.Path(path)
        # Orbax refuses relative paths.
        self.path = path if files.is_remote(path) else path.absolute()

    def steps(self) -> list[int]:
        """The durable steps, ascending."""
        try:
            paths = list(self.path.iterdir())
        except FileNotFoundError:
            return []
        return sorted(int(p.name) for p in paths if p.name.isdecimal() and self._is_durable(p))

    def _is_durable(self, path: epath.Path) -> bool:
        in_bucket = str(path).startswith("gs://")
        return (path / _FINISHED).exists() if in_bucket else path.is_dir()

    def record(self, step: int) -> dict[str, Any]:
        """The JSON part of a step, verified; DigestError or VanishedError."""
        path = self.path / str(step) / "meta" / "metadata"
        try:
            record = read_record(path.read_bytes().decode(errors="replace"), step)
        except FileNotFoundError:
            if not path.parent.exists():
                raise VanishedError(f"{self.path} has no step {step}: {self.steps()}") from None
            record = None
        if record is None:
            raise DigestError(f"step {step} is damaged: {path}. {self.step_before(step)}")
        return record

    def shapes(self, step: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Path → shape and dtype of each array of a step; DigestError or VanishedError."""
        return {
            name: jax.ShapeDtypeStruct(tuple(of["shape"]), jnp.dtype(of["dtype"]))
            for name, of in self.record(step)["entries"].items()
        }

    def refuse_without_room(self, step: int, needed: int) -> None:
        """Raises CheckpointError if the disk has less than `needed` bytes free for a step."""
        if files.is_remote(self.path):
            return
        free = shutil.disk_usage(self.path).free
        if free < needed:
            raise CheckpointError(
                f"save of step {step}: needs {needed:,} bytes, the disk of {self.path} has "
                f"{free:,} free. Nothing was written; {self.newest()}.{FREE_SPACE}"
            )

    def remove(self, step: int) -> None:
        """Removes a step. Killed half-way it leaves nothing that looks like a checkpoint."""
        folder = self.path / str(step)
        if files.is_remote(folder):
            # Object storage cannot rename at once; without this file the step is none.
            (folder / _FINISHED).unlink(missing_ok=True)
        else:
            folder = folder.rename(self.path / f"{step}{_DELETED}")
        folder.rmtree()

    def set_aside(self, step: int) -> None:
        """Renames a step to {step}.damaged; on object storage, which cannot, removes it."""
        if files.is_remote(self.path):
            self.remove(step)
            return
        aside = self.path / f"{step}{_DAMAGED}"
        aside.rmtree(missing_ok=True)
        (self.path / str(step)).rename(aside)

    def remove_leftovers(self) -> None:
        """Removes what killed saves and deletions left."""
        for path in self.path.iterdir():
            unfinished = path.name.isdecimal() and not self._is_durable(path)
            if unfinished or _UNFINISHED in path.name or path.suffix == _DELETED:
                path.rmtree(missing_ok=True)

    def step_before(self, step: int) -> str:
        """In words, for messages."""
        older = [other for other in self.steps() if other < step]
        return f"The step before it is {older[-1]}." if older else "There is no older step."

    def newest(self) -> str:
        """In words, for messages."""
        return f"the newest good step is {max(self.steps(), default='none')}"
