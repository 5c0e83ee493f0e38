"""The parts of another run that a task inherits, grows, or leaves out."""

from collections import Counter
from collections.abc import Collection

from vidembed.engine.protocols import Task
from vidembed.workdir.checkpoints.record import is_below


def grown_axis(task: Task, path: str) -> int | None:
    """The axis along which the array at this path of the training state may grow, or None."""
    top, _, name = path.partition("/")
    return task.grown_axis(name if top == "parameters" else path)


def left_out(stored: Collection[str], task: Task) -> list[str]:
    """A line with the parameters of a source that a task leaves out, such as those of a head; []
    if there are none. stored: paths of the source's arrays."""
    names = [path for path in stored if is_below(path, ("parameters",))]
    groups = Counter(
        "/".join(path.split("/")[:2]) for path in names if not is_below(path, task.inherits)
    )
    shown = ", ".join(f"{name} ({count})" for name, count in sorted(groups.items()))
    return [f"left out, because this task has no use for them: {shown}"] if groups else []
