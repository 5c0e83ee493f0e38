"""The folder that holds one folder a step, as this process sees it on the disk now."""

from collections.abc import Callable
from typing import Any

from etils import epath

from vidembed import storage
from vidembed.checkpoint_record import DigestError, VanishedError, read_record
from vidembed.stopping import unbroken

_DELETED = ".deleted"
_DAMAGED = ".damaged"


class StepFolder:
    """Which steps are durable, what they say of themselves, and how one goes.

    is_durable: whether the folder of a step was written to its end.
    """

    def __init__(self, path: epath.PathLike, is_durable: Callable[[epath.Path], bool]) -> None:
        path = epath.Path(path)
        # Orbax refuses relative paths.
        self.path = path if storage.is_remote(path) else path.absolute()
        self._is_durable = is_durable

    def steps(self) -> list[int]:
        """The durable steps, ascending."""
        try:
            paths = list(self.path.iterdir())
        except FileNotFoundError:
            return []
        durable = (int(p.name) for p in paths if p.name.isdecimal() and self._is_durable(p))
        return unbroken(lambda: sorted(durable))

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

    def remove(self, step: int) -> None:
        """Removes a step. Killed half-way it leaves nothing that looks like a checkpoint."""
        folder = self.path / str(step)
        if storage.is_remote(folder):
            # Object storage cannot rename at once; without this file the step is none.
            (folder / "commit_success.txt").unlink()
        else:
            folder = folder.rename(self.path / f"{step}{_DELETED}")
        folder.rmtree()

    def set_aside(self, step: int) -> None:
        """Renames a step to {step}.damaged; on object storage, which cannot, removes it."""
        if storage.is_remote(self.path):
            self.remove(step)
            return
        aside = self.path / f"{step}{_DAMAGED}"
        aside.rmtree(missing_ok=True)
        (self.path / str(step)).rename(aside)

    def remove_leftovers(self, mark: str) -> None:
        """Removes what killed saves and deletions left; `mark` stands in unfinished names."""
        for path in self.path.iterdir():
            unfinished = path.name.isdecimal() and not self._is_durable(path)
            if unfinished or mark in path.name or path.suffix == _DELETED:
                path.rmtree(missing_ok=True)

    def step_before(self, step: int) -> str:
        """In words, for messages."""
        older = [other for other in self.steps() if other < step]
        return f"The step before it is {older[-1]}." if older else "There is no older step."

    def newest(self) -> str:
        """In words, for messages."""
        return f"the newest good step is {max(self.steps(), default='none')}"
