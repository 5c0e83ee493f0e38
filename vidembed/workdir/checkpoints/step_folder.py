"""The folder of checkpoints, one subfolder per step, as this process sees it on disk now."""

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

# Orbax's name for unfinished steps, and its marker of finished ones where renaming is impossible.
_UNFINISHED = ".orbax-checkpoint-tmp"
_FINISHED = "commit_success.txt"
FREE_SPACE = " Free some space, keep fewer checkpoints, and start again to resume from there."
_DELETED = ".deleted"
_DAMAGED = ".damaged"


class StepFolder:
    """Lists durable steps, reads their records, and removes steps."""

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
        """The verified JSON record of a step. Raises DigestError or VanishedError."""
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
        """Path → shape and dtype of each array of a step. Raises DigestError or VanishedError."""
        return {
            name: jax.ShapeDtypeStruct(tuple(of["shape"]), jnp.dtype(of["dtype"]))
            for name, of in self.record(step)["entries"].items()
        }

    def refuse_without_room(self, step: int, needed: int) -> None:
        """Raise CheckpointError if the disk has less than `needed` bytes free for a step."""
        if files.is_remote(self.path):
            return
        free = shutil.disk_usage(self.path).free
        if free < needed:
            raise CheckpointError(
                f"save of step {step}: needs {needed:,} bytes, the disk of {self.path} has "
                f"{free:,} free. Nothing was written; {self.newest()}.{FREE_SPACE}"
            )

    def remove(self, step: int) -> None:
        """Remove a step. If killed half-way, the rest does not look like a checkpoint."""
        folder = self.path / str(step)
        if files.is_remote(folder):
            # Object storage has no atomic rename; without this file the step does not count.
            (folder / _FINISHED).unlink(missing_ok=True)
        else:
            folder = folder.rename(self.path / f"{step}{_DELETED}")
        folder.rmtree()

    def set_aside(self, step: int) -> None:
        """Rename a step to {step}.damaged; on object storage, which cannot rename, remove it."""
        if files.is_remote(self.path):
            self.remove(step)
            return
        aside = self.path / f"{step}{_DAMAGED}"
        aside.rmtree(missing_ok=True)
        (self.path / str(step)).rename(aside)

    def remove_leftovers(self) -> None:
        """Remove leftovers of killed saves and deletions."""
        for path in self.path.iterdir():
            unfinished = path.name.isdecimal() and not self._is_durable(path)
            if unfinished or _UNFINISHED in path.name or path.suffix == _DELETED:
                path.rmtree(missing_ok=True)

    def step_before(self, step: int) -> str:
        """A sentence on the previous step, for messages."""
        older = [earlier for earlier in self.steps() if earlier < step]
        return f"The step before it is {older[-1]}." if older else "There is no older step."

    def newest(self) -> str:
        """A clause on the newest step, for messages."""
        return f"the newest good step is {max(self.steps(), default='none')}"
