"""Save and restore checkpoints with Orbax, and verify every bit on restore."""

import contextlib
import time
from collections.abc import Callable, Collection, Iterator
from typing import Any

import jax
import orbax.checkpoint as ocp
from etils import epath

from vidembed.distributed.agree import is_first_host, meet, of_first_host, together
from vidembed.distributed.stopping import unbroken
from vidembed.workdir.checkpoints.digest import digests
from vidembed.workdir.checkpoints.orbax_noise import quieten
from vidembed.workdir.checkpoints.record import (
    CheckpointError,
    DigestError,
    VanishedError,
    entries_of,
    in_short,
    is_below,
    refuse_damage,
    refuse_differences,
    write_record,
)
from vidembed.workdir.checkpoints.step_folder import FREE_SPACE, StepFolder
from vidembed.workdir.checkpoints.unreadable import unreadable

_READ_ERRORS = (CheckpointError, VanishedError, DigestError, OSError)  # by rising precedence
quieten()


class Checkpoints:
    """The checkpoints of one run: a folder with one subfolder per step.

    A step is a pytree of `jax.Array`s with any sharding, and a small JSON dictionary. Saving is
    asynchronous; `wait` makes it durable. Digests of the arrays are stored with the step and
    verified on restore, on any devices. With several processes, all must make the same calls in
    the same order.

    with Checkpoints(folder) as checkpoints: the only writer; removes leftovers of killed saves.
    Checkpoints(folder, read_only=True): a reader beside a writer; it changes nothing, sees new
    steps as they appear, and gets VanishedError for a deleted step.

    free_space_factor: a save is refused unless the disk has this multiple of the bytes it needs.
    """

    def __init__(
        self, folder: epath.PathLike, *, read_only: bool = False, free_space_factor: float = 1.1
    ):
        self._disk = StepFolder(folder)
        self.folder = self._disk.path
        self.read_only = read_only
        self._free_space_factor = free_space_factor
        self._saving: int | None = None
        if not read_only:
            self._orbax = ocp.AsyncCheckpointer(ocp.CompositeCheckpointHandler())
            if is_first_host():
                self.folder.mkdir(parents=True, exist_ok=True)
                self._disk.remove_leftovers()
            meet("vidembed checkpoints opened")

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        if self.read_only:
            return
        # The caller must see the exception that ended the block.
        hidden = contextlib.suppress(CheckpointError) if kind else contextlib.nullcontext()
        with contextlib.closing(self._orbax), hidden:
            self.wait()

    def save(self, step: int, tree: Any, meta: dict[str, Any]) -> None:
        """Start saving; returns once the arrays may be donated or overwritten.

        Waits for the previous save and raises its failure. Raises CheckpointError for a step not
        above the newest, for a disk without space, and in a reader; TypeError or ValueError for
        data that a checkpoint cannot hold.
        """
        self._refuse_reader("save")
        self.wait()
        newest = self.latest()
        if newest is not None and step <= newest:
            raise CheckpointError(
                f"save of step {step}: {self.folder} already holds step {newest}, and steps must "
                "increase. Resume from the newest step, or choose another work directory."
            )
        arrays = entries_of(tree)
        needed = int(self._free_space_factor * sum(array.nbytes for array in arrays.values()))
        together(lambda: self._disk.refuse_without_room(step, needed), CheckpointError)
        with jax.transfer_guard("allow"):
            record = write_record(step, meta, arrays, digests(arrays))
            self._saving = step
            parts = {"arrays": ocp.args.StandardSave(arrays), "meta": ocp.args.JsonSave(record)}
            with self._failures():
                self._orbax.save(self.folder / str(step), ocp.args.Composite(**parts))

    def check(self) -> None:
        """Raise CheckpointError if the pending save has failed; does not wait for it."""
        self._refuse_reader("check")
        with self._failures():
            self._orbax.check_for_errors()

    def wait(self) -> None:
        """Return when the last save is durable; raises CheckpointError if it failed."""
        self._refuse_reader("wait")
        with self._failures():
            self._orbax.wait_until_finished()

    def steps(self) -> list[int]:
        """The durable steps, ascending, as the first host sees them on disk now."""
        return of_first_host(self._disk.steps())

    def latest(self) -> int | None:
        """The newest durable step, or None."""
        return max(self.steps(), default=None)

    def meta(self, step: int) -> dict[str, Any]:
        """The `meta` given to `save`. Raises DigestError or VanishedError."""
        return self._disk.record(step)["meta"]

    def entries(self, step: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Path → shape and dtype of each stored array. Raises DigestError or VanishedError."""
        return together(lambda: self._disk.shapes(step), *_READ_ERRORS)

    def restore(self, step: int, like: Any, *, only: Collection[str] | None = None) -> Any:
        """The tree of a step, in the structure and on the devices of `like`.

        like: a pytree of `jax.ShapeDtypeStruct` with shardings (or of arrays), on any devices.
        only: path prefixes, such as "parameters/towers" and "state": `like` has exactly the arrays
        stored below them, and nothing else is read; None means all.
        Raises MismatchError, before reading, unless entries, shapes and dtypes equal the stored
        ones; DigestError if any bit differs; VanishedError if the step is gone; OSError for faults
        of the disk.
        """
        record = together(lambda: self._disk.record(step), *_READ_ERRORS)
        expected = entries_of(like)
        entries = record["entries"].items()
        stored = {name: of for name, of in entries if only is None or is_below(name, only)}
        refuse_differences(f"step {step} of {self.folder}", expected, stored)
        with jax.transfer_guard("allow"):
            arrays = together(lambda: self._read(step, expected) if expected else {}, *_READ_ERRORS)
            computed = digests(arrays)
        # Each host reads its own copy of a replicated array: one bad read counts for all hosts.
        together(
            lambda: refuse_damage(step, computed, stored, self._disk.step_before(step)), DigestError
        )
        return jax.tree.unflatten(jax.tree.structure(like), [arrays[name] for name in expected])

    def restore_newest(self, like: Any) -> tuple[int, Any, list[str]] | None:
        """The newest intact step: (step, tree, faults of newer steps), or None if there is none.

        A damaged step is skipped for the previous one, and its fault is in the list, to be shown to
        the user. Raises MismatchError at once, since older steps would not fit either, and, if no
        step is intact, a DigestError that begins with that of the newest.
        """
        troubles: list[DigestError] = []
        for step in reversed(self.steps()):
            try:
                return step, self.restore(step, like), list(map(str, troubles))
            except VanishedError:
                continue
            except DigestError as trouble:
                troubles.append(trouble)
        if troubles:
            remedy = "No step is intact: restore checkpoints from a copy, or start a new run"
            raise DigestError(f"{troubles[0]} {remedy}")
        return None

    def set_aside(self, step: int) -> None:
        """Rename a damaged step to {step}.damaged, so that the run can save it again."""
        self._refuse_reader("set aside")
        if is_first_host():
            self._disk.set_aside(step)
        meet("vidembed checkpoint set aside")

    def delete(self, steps: Collection[int]) -> None:
        """Remove steps, on the first host; if killed half-way, the rest does not look intact."""
        self._refuse_reader("delete")
        if is_first_host():
            for step in steps:
                self._disk.remove(step)

    def follow(
        self,
        ended: Callable[[], bool],
        *,
        poll_seconds: float = 1.0,
        sleep: Callable[[float], object] = time.sleep,
    ) -> Iterator[int]:
        """Yield each step once, ascending, as it becomes durable; ends after `ended()`.

        `ended` is called before the folder is listed, so that a step saved before the announced end
        is never missed. A step may be deleted between being yielded and being read.
        """
        seen: set[int] = set()
        while True:
            last_look = bool(of_first_host([int(ended())])[0])
            new = [step for step in self.steps() if step not in seen]
            seen.update(new)
            yield from new
            if last_look:
                return
            if not new:
                sleep(poll_seconds)

    def _read(self, step: int, expected: dict[str, Any]) -> dict[str, jax.Array]:
        one_device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
        like = {
            name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding or one_device)
            for name, leaf in expected.items()
        }
        how = ocp.checkpoint_utils.construct_restore_args(like)
        args = ocp.args.PyTreeRestore(item=like, restore_args=how, partial_restore=True)

        def read() -> dict[str, jax.Array]:
            # Orbax's Checkpointer would wait for all hosts after a read, even for a failed one.
            with contextlib.closing(ocp.CompositeCheckpointHandler()) as orbax:
                items = orbax.restore(self.folder / str(step), ocp.args.Composite(arrays=args))
                return items.arrays

        try:
            return unbroken(read)
        except Exception as error:
            # If the step was deleted meanwhile, this raises VanishedError.
            self._disk.record(step)
            before = self._disk.step_before(step)
            raise unreadable(step, error, self.folder / str(step), before) from error

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if is_first_host():
                # A write in progress may get in the way; the next run then removes the leftovers.
                with contextlib.suppress(OSError):
                    self._disk.remove_leftovers()
            full = "No space left" in str(error)
            why = f"{'the disk is full: ' if full else ''}{in_short(error)}"
            raise CheckpointError(
                f"the save of step {self._saving} failed: {why}. Its leftovers in {self.folder} "
                f"were removed; {self._disk.newest()}.{FREE_SPACE if full else ''}"
            ) from error

    def _refuse_reader(self, verb: str) -> None:
        if self.read_only:
            raise CheckpointError(f"{verb}: {self.folder} was opened read-only")
